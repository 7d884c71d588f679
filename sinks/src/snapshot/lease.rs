//! Who is making a snapshot: spares two of them the same work, and decides nothing. What is published is decided by the
//! conditional create of the manifest alone.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions};
use pipeline::clock::Clock;
use pipeline::snapshot::{Store, failed};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::SnapshotError;

const PATH: &str = "lease.json";

/// Larger ones are somebody else's file.
const LARGEST: u64 = 64 << 10;

/// Whoever says nothing for so long is believed to be gone.
const LASTS: TimeDelta = TimeDelta::seconds(120);

/// How often a holder says that it is there.
const RENEWED: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    holder: String,
    until: DateTime<Utc>,
}

/// Held until it is given up, or dropped and not renewed any more.
pub(super) struct Lease {
    store: Store,
    holder: String,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease, unless somebody else has it.
    pub async fn take(store: &Store, holder: &str, clock: &Arc<dyn Clock>) -> Result<Self, SnapshotError> {
        for _ in 0..3 {
            let said = Said { holder: holder.to_owned(), until: clock.now() + LASTS };
            if put(store, &said, PutMode::Create).await? {
                return Ok(Self::held(store, holder, clock));
            }
            let Some(other) = read(store).await? else { continue };
            // A clock that was far ahead doesn't hold the lease for ever.
            let believable = other.until - clock.now() <= LASTS * 2;
            if other.holder != holder && other.until > clock.now() && believable {
                return Err(SnapshotError::Busy { holder: other.holder, until: other.until });
            }
            remove(store).await?;
        }
        // Several try at once: one of them goes on, and if two do, the manifest decides.
        Ok(Self::held(store, holder, clock))
    }

    fn held(store: &Store, holder: &str, clock: &Arc<dyn Clock>) -> Self {
        let (of, clock, name) = (store.clone(), Arc::clone(clock), holder.to_owned());
        let renewing = tokio::spawn(async move {
            loop {
                clock.sleep(RENEWED).await;
                let said = Said { holder: name.clone(), until: clock.now() + LASTS };
                if let Err(error) = put(&of, &said, PutMode::Overwrite).await {
                    tracing::debug!(error = %error, "the lease isn't renewed");
                }
            }
        });
        Self { store: store.clone(), holder: holder.to_owned(), renewing }
    }

    /// Gives it up, where it is still ours.
    pub async fn give_up(self) -> Result<(), SnapshotError> {
        self.renewing.abort();
        match read(&self.store).await? {
            Some(said) if said.holder == self.holder => remove(&self.store).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// Whether it was written.
async fn put(store: &Store, said: &Said, mode: PutMode) -> Result<bool, SnapshotError> {
    let bytes = serde_json::to_vec(said).unwrap_or_default();
    match store.objects().put_opts(&store.path(PATH)?, bytes.into(), PutOptions::from(mode)).await {
        Ok(_) => Ok(true),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
        Err(error) => Err(failed(PATH, &error).into()),
    }
}

/// What it says; what isn't understood says nothing.
async fn read(store: &Store) -> Result<Option<Said>, SnapshotError> {
    let found = store.read(PATH, LARGEST).await?;
    let nobody = || Said { holder: String::new(), until: DateTime::UNIX_EPOCH };
    Ok(found.map(|bytes| serde_json::from_slice(&bytes).unwrap_or_else(|_| nobody())))
}

async fn remove(store: &Store) -> Result<(), SnapshotError> {
    match store.objects().delete(&store.path(PATH)?).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(failed(PATH, &error).into()),
    }
}
