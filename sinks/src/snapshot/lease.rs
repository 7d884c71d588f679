//! Who is making a snapshot: spares two of them the same work, and decides nothing. What is published is decided by the
//! conditional create of the manifest alone.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use pipeline::clock::Clock;
use pipeline::snapshot::{Store, StoreError, failed};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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

/// What is there, and which edition of it.
struct Found {
    said: Said,
    version: UpdateVersion,
}

/// Held until it is given up, or dropped and not renewed any more.
pub(super) struct Lease {
    store: Store,
    holder: String,
    renewing: JoinHandle<()>,
    lost: CancellationToken,
}

impl Lease {
    /// Takes the lease, unless somebody else has it.
    pub async fn take(store: &Store, holder: &str, clock: &Arc<dyn Clock>) -> Result<Self, SnapshotError> {
        for _ in 0..3 {
            let said = Said { holder: holder.to_owned(), until: clock.now() + LASTS };
            if let Some(version) = put(store, &said, PutMode::Create).await? {
                return Ok(Self::held(store, Found { said, version }, clock));
            }
            let Some(other) = read(store).await? else { continue };
            // A clock that was far ahead doesn't hold the lease for ever.
            let believable = other.said.until - clock.now() <= LASTS * 2;
            if other.said.holder != holder && other.said.until > clock.now() && believable {
                return Err(SnapshotError::Busy { holder: other.said.holder, until: other.said.until });
            }
            if let Some(version) = replace(store, &other, &said).await? {
                return Ok(Self::held(store, Found { said, version }, clock));
            }
        }
        let reason = format!("several try to take {PATH} at once");
        Err(StoreError::Unavailable { reason }.into())
    }

    fn held(store: &Store, ours: Found, clock: &Arc<dyn Clock>) -> Self {
        let (of, clock, holder) = (store.clone(), Arc::clone(clock), ours.said.holder.clone());
        let lost = CancellationToken::new();
        let noticed = lost.clone();
        let renewing = tokio::spawn(async move {
            let mut ours = ours;
            loop {
                clock.sleep(RENEWED).await;
                let said = Said { until: clock.now() + LASTS, ..ours.said.clone() };
                match renew(&of, &ours, &said).await {
                    Ok(Some(renewed)) => ours = renewed,
                    Ok(None) => {
                        tracing::warn!("somebody else has taken the lease of the snapshots");
                        return noticed.cancel();
                    }
                    Err(error) => tracing::debug!(error = %error, "the lease isn't renewed"),
                }
            }
        });
        Self { store: store.clone(), holder, renewing, lost }
    }

    /// Returns once somebody else has taken it: they took this process for dead.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it up, where it is still ours.
    pub async fn give_up(self) -> Result<(), SnapshotError> {
        self.renewing.abort();
        match read(&self.store).await? {
            Some(found) if found.said.holder == self.holder => remove(&self.store).await,
            _ => Ok(()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

/// Says again that we hold it. `None`: somebody else does.
async fn renew(store: &Store, ours: &Found, said: &Said) -> Result<Option<Found>, SnapshotError> {
    let of = |version| Found { said: said.clone(), version };
    if let Some(version) = replace(store, ours, said).await? {
        return Ok(Some(of(version)));
    }
    // An answer that was lost leaves our own words there, in an edition that wasn't known. What has gone is made again.
    match read(store).await? {
        Some(found) if found.said.holder == said.holder => Ok(Some(found)),
        Some(_) => Ok(None),
        None => Ok(put(store, said, PutMode::Create).await?.map(of)),
    }
}

/// Replaces what was found, unless somebody else did. A folder has no conditional replacement: there it is looked at again
/// before.
async fn replace(store: &Store, found: &Found, said: &Said) -> Result<Option<UpdateVersion>, SnapshotError> {
    let bytes = serde_json::to_vec(said).unwrap_or_default();
    let path = store.path(PATH)?;
    let options = PutOptions::from(PutMode::Update(found.version.clone()));
    match store.objects().put_opts(&path, bytes.into(), options).await {
        Ok(done) => Ok(Some(done.into())),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => Ok(None),
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => match read(store).await? {
            Some(now) if now.said == found.said => put(store, said, PutMode::Overwrite).await,
            _ => Ok(None),
        },
        Err(error) => Err(failed(PATH, &error).into()),
    }
}

/// The edition that was written. `None`: one is there.
async fn put(store: &Store, said: &Said, mode: PutMode) -> Result<Option<UpdateVersion>, SnapshotError> {
    let bytes = serde_json::to_vec(said).unwrap_or_default();
    match store.objects().put_opts(&store.path(PATH)?, bytes.into(), PutOptions::from(mode)).await {
        Ok(done) => Ok(Some(done.into())),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
        Err(error) => Err(failed(PATH, &error).into()),
    }
}

/// What it says; what isn't understood says nothing.
async fn read(store: &Store) -> Result<Option<Found>, SnapshotError> {
    let found = match store.objects().get(&store.path(PATH)?).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(PATH, &error).into()),
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    let nobody = Said { holder: String::new(), until: DateTime::UNIX_EPOCH };
    if found.meta.size > LARGEST {
        return Ok(Some(Found { said: nobody, version }));
    }
    let bytes = found.bytes().await.map_err(|error| SnapshotError::from(failed(PATH, &error)))?;
    Ok(Some(Found { said: serde_json::from_slice(&bytes).unwrap_or(nobody), version }))
}

async fn remove(store: &Store) -> Result<(), SnapshotError> {
    match store.objects().delete(&store.path(PATH)?).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(failed(PATH, &error).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use pipeline::clock::VirtualClock;

    use super::*;

    /// When it was renewed without a condition, the first wrote over the second's, and both went on.
    #[tokio::test]
    async fn a_lease_that_somebody_else_has_taken_is_noticed_and_left_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let in_folder = Store::new(Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap()), Path::default());
        for store in [Store::new(Arc::new(InMemory::new()), Path::default()), in_folder] {
            let manual = VirtualClock::manual(DateTime::UNIX_EPOCH);
            let clock: Arc<dyn Clock> = Arc::new(manual.clone());
            let first = Lease::take(&store, "first", &clock).await.unwrap();
            assert!(matches!(Lease::take(&store, "second", &clock).await, Err(SnapshotError::Busy { .. })));
            manual.until_sleeping(1).await;
            manual.advance(RENEWED).await;
            // It sleeps again once it has renewed it.
            manual.until_sleeping(1).await;
            let renewed = read(&store).await.unwrap().unwrap().said;
            assert_eq!((renewed.holder.as_str(), renewed.until), ("first", clock.now() + LASTS));
            // The second's clock is ahead.
            let ahead: Arc<dyn Clock> = Arc::new(VirtualClock::manual(DateTime::UNIX_EPOCH + LASTS * 2));
            let second = Lease::take(&store, "second", &ahead).await.unwrap();
            manual.advance(RENEWED).await;
            first.lost().await;
            first.give_up().await.unwrap();
            assert_eq!(read(&store).await.unwrap().unwrap().said.holder, "second");
            second.give_up().await.unwrap();
            assert!(read(&store).await.unwrap().is_none());
        }
    }
}
