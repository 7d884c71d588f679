//! A store of snapshots that hangs, or doesn't let us read.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use pipeline::run::Health;
use pipeline::snapshot::Store;
use tokio_util::sync::CancellationToken;

use super::fixture::{Contents, EMPLOYEES, SCOPE, Site, ask, get};
use crate::export::{Export, ExportOptions, Watch, WithoutSnapshot, router};

const WELL: u8 = 0;
const HANGS: u8 = 1;
const REFUSES: u8 = 2;

#[derive(Debug, Clone, Default)]
struct Moody {
    inner: Arc<InMemory>,
    mood: Arc<AtomicU8>,
}

impl Moody {
    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    async fn site(&self) -> Site {
        Site::with(tempfile::tempdir().unwrap(), Store::new(Arc::new(self.clone()), Path::from("site"))).await
    }

    async fn answer(&self) -> Result<()> {
        match self.mood.load(Ordering::SeqCst) {
            WELL => Ok(()),
            HANGS => std::future::pending().await,
            _ => Err(Error::PermissionDenied { path: "site".into(), source: "403 Forbidden".into() }),
        }
    }
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moody")
    }
}

#[async_trait]
impl ObjectStore for Moody {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.answer().await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (moody, listed) = (self.clone(), self.inner.list(prefix));
        let answered = futures::stream::once(async move { moody.answer().await.err().map(Err) });
        answered.filter_map(std::future::ready).chain(listed).boxed()
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

/// Until it has answered, nobody can say that there is no snapshot.
#[tokio::test]
async fn until_the_store_has_answered_nobody_is_told_that_there_is_no_snapshot() {
    let store = Moody::default();
    let site = store.site().await;
    let key = site.key("lviv", &[SCOPE]).await;
    store.is(REFUSES);
    let instance = site.instance(ExportOptions::default()).await;
    for path in [EMPLOYEES, "/api/bulk/manifest"] {
        let answer = ask(&instance.router, get(path, &key)).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"), "{path}");
    }
    // Whoever does other work as well isn't ready, either.
    let watch = Watch(Arc::clone(&instance.export));
    let reasons = |watch| crate::health::reasons(&Health::default(), chrono::Utc::now(), Some(watch));
    assert_eq!(reasons(&watch), ["the store of the snapshots doesn't answer"]);
    store.is(WELL);
    instance.export.current.look().await;
    assert!(reasons(&watch).is_empty());
    for path in [EMPLOYEES, "/api/bulk/manifest"] {
        assert_eq!(ask(&instance.router, get(path, &key)).await.status.as_u16(), 404, "{path}");
    }
    let options = ExportOptions { without_snapshot: WithoutSnapshot::Unavailable, ..ExportOptions::default() };
    let instance = site.instance(options).await;
    for path in [EMPLOYEES, "/api/bulk/manifest"] {
        let answer = ask(&instance.router, get(path, &key)).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "60"), "{path}");
    }
}

/// Rights that somebody took away were told of as a fault of ours.
#[tokio::test]
async fn a_store_that_refuses_is_away_until_somebody_has_set_its_rights() {
    let store = Moody::default();
    let mut site = store.site().await;
    site.publish(&Contents::default()).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let instance = site.instance(ExportOptions::default()).await;
    store.is(REFUSES);
    let answer = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"));
    store.is(WELL);
    assert_eq!(ask(&instance.router, get(EMPLOYEES, &key)).await.status.as_u16(), 200);
}

/// Without a limit, the first request never ends, and neither does the process.
#[tokio::test]
async fn a_store_that_hangs_holds_up_neither_requests_nor_the_stop() {
    let store = Moody::default();
    let mut site = store.site().await;
    site.publish(&Contents::default()).await;
    let key = site.key("lviv", &[SCOPE]).await;
    let options = ExportOptions { opened_within: Duration::from_millis(50), ..ExportOptions::default() };
    let instance = site.instance(options.clone()).await;
    store.is(HANGS);
    let answer = ask(&instance.router, get(EMPLOYEES, &key)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"));

    let stop = CancellationToken::new();
    let (export, token) = (Arc::clone(&instance.export), stop.clone());
    let following = tokio::spawn(async move { export.current.follow(token).await });
    stop.cancel();
    following.await.unwrap();

    // One that has never looked, as after a start.
    let (export, _clerk) = Export::new(options, site.pepper.clone(), site.store.clone(), site.operations.clone());
    export.tokens.refresh().await;
    let answer = ask(&router(Arc::clone(&export)), get(EMPLOYEES, &key)).await;
    assert_eq!(answer.status.as_u16(), 503);
    assert!(export.current.is_silent());
}
