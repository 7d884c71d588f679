//! A store that fails where a test wants it to.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It isn't done, and fails.
    Lost,
    /// It is done, and fails.
    AnswerLost,
    /// It isn't done, nor is anything after it: the process has died.
    Crash,
    /// It is done, and nothing after it.
    CrashAfter,
}

#[derive(Default)]
struct Plan {
    steps: AtomicU64,
    strike: Mutex<Option<(u64, Fault)>>,
    dead: AtomicBool,
    /// What lists show instead of what is there.
    lagging: Mutex<Option<Vec<ObjectMeta>>>,
}

/// Clones share the objects and the plan.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<InMemory>,
    plan: Arc<Plan>,
}

impl Faulty {
    pub fn new() -> Self {
        Self { inner: Arc::new(InMemory::new()), plan: Arc::default() }
    }

    /// Strikes at the `nth` step from now.
    pub fn strike(&self, nth: u64, fault: Fault) {
        self.plan.steps.store(0, Ordering::SeqCst);
        *self.plan.strike.lock().unwrap() = Some((nth, fault));
    }

    /// How many steps there were since the last [`Self::strike`].
    pub fn steps(&self) -> u64 {
        self.plan.steps.load(Ordering::SeqCst)
    }

    /// A new process finds everything in order.
    pub fn heal(&self) {
        self.strike(u64::MAX, Fault::Lost);
        self.plan.dead.store(false, Ordering::SeqCst);
    }

    /// From now on, lists show what is there now.
    pub async fn lists_lag(&self) {
        let now: Vec<ObjectMeta> = self.inner.list(None).try_collect().await.unwrap();
        *self.plan.lagging.lock().unwrap() = Some(now);
    }

    fn lost(what: &str) -> Error {
        Error::Generic { store: "faulty", source: what.to_owned().into() }
    }

    /// What happens at this step: `Ok(true)`: done, but it fails.
    fn step(&self) -> Result<bool> {
        if self.plan.dead.load(Ordering::SeqCst) {
            return Err(Self::lost("the process is dead"));
        }
        let step = self.plan.steps.fetch_add(1, Ordering::SeqCst);
        let strike = *self.plan.strike.lock().unwrap();
        let Some((_, fault)) = strike.filter(|(nth, _)| *nth == step) else { return Ok(false) };
        match fault {
            Fault::Lost => Err(Self::lost("lost")),
            Fault::AnswerLost => Ok(true),
            Fault::Crash => {
                self.plan.dead.store(true, Ordering::SeqCst);
                Err(Self::lost("died before"))
            }
            Fault::CrashAfter => {
                self.plan.dead.store(true, Ordering::SeqCst);
                Ok(true)
            }
        }
    }

    fn answer<T>(done: Result<T>, is_lost: bool) -> Result<T> {
        if is_lost { Err(Self::lost("the answer is lost")) } else { done }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (step, part) = (self.store.step(), self.inner.put_part(data));
        Box::pin(async move {
            let is_lost = step?;
            Faulty::answer(part.await, is_lost)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let is_lost = self.store.step()?;
        Faulty::answer(self.inner.complete().await, is_lost)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let is_lost = self.step()?;
        Self::answer(self.inner.put_opts(location, payload, opts).await, is_lost)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let is_lost = self.step()?;
        let inner = Self::answer(self.inner.put_multipart_opts(location, opts).await, is_lost)?;
        Ok(Box::new(FaultyUpload { inner, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_lost = self.step()?;
        Self::answer(self.inner.get_opts(location, options).await, is_lost)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let steps = locations.then(move |location| {
            let store = store.clone();
            async move {
                let is_lost = store.step()?;
                let one = futures::stream::once(async move { location }).boxed();
                let done = store.inner.delete_stream(one).next().await;
                Faulty::answer(done.unwrap_or_else(|| Err(Faulty::lost("nothing was deleted"))), is_lost)
            }
        });
        steps.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.step() {
            return futures::stream::once(async move { Err(error) }).boxed();
        }
        let lagging = self.plan.lagging.lock().unwrap().clone();
        let Some(lagging) = lagging else { return self.inner.list(prefix) };
        let prefix = prefix.cloned();
        let within = move |meta: &ObjectMeta| prefix.as_ref().is_none_or(|prefix| meta.location.prefix_matches(prefix));
        futures::stream::iter(lagging.into_iter().filter(within).map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
