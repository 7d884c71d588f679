//! Accepts connections. What axum's own server doesn't have: bounds on headers, on the number of connections, and on how slowly
//! a client may read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::pace::{Connection, PaceSettings, Paced};

/// A request's line and headers together; what waits to be written, too, so that the client's pace is what the body's is.
const LARGEST_HEAD: usize = 16 * 1024;

/// More headers than this are refused.
const MOST_HEADERS: usize = 64;

/// The system may be out of files; then it is left alone for a moment.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Bounds of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// So many at the same time; others wait in the system's queue.
    pub most: u32,
    /// A request's headers have to be there within so long, and the next request of a connection, too.
    pub headers_within: Duration,
    /// How slowly a client may read.
    pub pace: PaceSettings,
    /// When the process is told to stop, answers under way have so long to end.
    pub stop_within: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        let (headers_within, stop_within) = (Duration::from_secs(30), Duration::from_secs(10));
        Self { most: 2_048, headers_within, pace: PaceSettings::default(), stop_within }
    }
}

/// Serves until told to stop, and then what is under way, for a while.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ConnectionSettings,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(settings.most as usize));
    let (connections, cut_off) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => match accepted { Some(accepted) => accepted, None => break },
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "a connection can't be accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        // Answers are written in large pieces; the last one shouldn't wait.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "a connection that is closed already");
        }
        let (router, stop, cut_off) = (router.clone(), stop.clone(), cut_off.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, router, settings, stop) => {}
                () = cut_off.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(settings.stop_within, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "answers under way are cut off");
        cut_off.cancel();
        connections.wait().await;
    }
}

/// Serves one connection to its end.
pub(super) async fn connection<S>(stream: S, router: Router, settings: ConnectionSettings, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let about = Arc::new(Connection::default());
    let stream = TokioIo::new(Paced::new(stream, settings.pace, Arc::clone(&about)));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&about));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.headers_within)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS);
    let mut serving = std::pin::pin!(http.serve_connection(stream, service));
    let served = tokio::select! {
        served = &mut serving => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // Clients come and go; what became of an export is in the audit.
        tracing::debug!(error = %error, "a connection ended early");
    }
}
