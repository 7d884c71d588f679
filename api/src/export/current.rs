//! The newest snapshot there is. A request takes it once, and with it everything that it reads.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pipeline::snapshot::{Manifest, Store, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a newer one is looked for: two small requests where there is none.
const EVERY: Duration = Duration::from_secs(1);

/// Nobody has looked for so long: a request looks itself.
const STALE: Duration = Duration::from_secs(5);

/// For so long at most.
const LOOKING: Duration = Duration::from_secs(2);

/// A store that hasn't answered for so long is away, and the process isn't ready.
const SILENT: Duration = Duration::from_secs(30);

/// Follows the store.
#[derive(Debug)]
pub(super) struct Current {
    store: Store,
    manifest: RwLock<Option<Arc<Manifest>>>,
    looked: Mutex<Looked>,
    /// Whose turn it is to look.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Looked {
    tried: Option<Instant>,
    /// It said something, if only what isn't understood.
    answered: Option<Instant>,
    /// It said what the newest snapshot is, or that there is none.
    succeeded: bool,
    failing: bool,
}

impl Current {
    pub(super) fn new(store: Store) -> Self {
        Self { store, manifest: RwLock::default(), looked: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The newest manifest that is known. Where nobody has looked for a while (the machine slept), this looks.
    pub(super) async fn manifest(&self) -> Option<Arc<Manifest>> {
        let stale = {
            let looked = self.looked();
            looked.tried.is_none_or(|at| at.elapsed() > STALE)
        };
        // Where somebody is looking already, and the store lets them wait, nobody else waits as well.
        let is_looked_for = self.turn.try_lock().is_err() && self.known().is_some();
        if stale && !is_looked_for && tokio::time::timeout(LOOKING, self.look()).await.is_err() {
            tracing::warn!("the store of the snapshots is slow: what was known is served");
        }
        self.known()
    }

    /// Whether the store hasn't answered for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.looked().answered.is_none_or(|at| at.elapsed() > SILENT)
    }

    /// Whether it isn't known if there is a snapshot at all.
    pub(super) fn is_unknown(&self) -> bool {
        !self.looked().succeeded
    }

    /// Looks every now and then, until told to stop.
    pub(super) async fn follow(&self, stop: CancellationToken) {
        loop {
            // A store that hangs holds up neither the stop nor the next look.
            let look = async {
                if tokio::time::timeout(SILENT, self.look()).await.is_err() {
                    tracing::warn!("the store of the snapshots hangs: what was known is served");
                }
                tokio::time::sleep(EVERY).await;
            };
            tokio::select! {
                () = look => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Looks for a newer one.
    pub(super) async fn look(&self) {
        let _turn = self.turn.lock().await;
        self.looked().tried = Some(Instant::now());
        let known = self.known();
        let found = self.store.latest(known.as_deref()).await;
        let mut looked = self.looked();
        if matches!(found, Err(StoreError::NotUnderstood { .. })) {
            looked.answered = Some(Instant::now());
        }
        match found {
            Ok(newer) => {
                (looked.answered, looked.succeeded) = (Some(Instant::now()), true);
                if std::mem::take(&mut looked.failing) {
                    tracing::info!("the store of the snapshots is back");
                }
                if let Some(newer) = newer {
                    tracing::info!(generation = newer.generation.0, "a snapshot is served");
                    *self.manifest.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(newer));
                }
            }
            // Said once; a generation that isn't understood is no reason to stop serving the one before it.
            Err(error) if !std::mem::replace(&mut looked.failing, true) => {
                tracing::warn!(error = %error, "newer snapshots can't be looked for: what was known is served");
            }
            Err(_) => {}
        }
    }

    fn known(&self) -> Option<Arc<Manifest>> {
        self.manifest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, Looked> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
