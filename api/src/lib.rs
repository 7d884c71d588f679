//! HTTP: health, metrics, and the history of sources' runs. Answers JSON, but for `/metrics` (Prometheus text). The bulk export
//! has an address of its own: [`export`].
//!
//! | path | answers |
//! |---|---|
//! | `/health/live` | 200 while the process answers at all |
//! | `/health/ready` | 200, or 503 with the reasons: a component waits, has stopped, or made no progress for two intervals; exports can't be served |
//! | `/metrics` | see [`pipeline::telemetry`] for the names |
//! | `/api/v1/sources` | the feeds that have ever run |
//! | `/api/v1/sources/{name}/runs?limit=` | the newest runs of a feed, newest first (20 unless told otherwise, at most 1,000) |
//! | `/api/v1/sources/{name}/runs/last-success` | the newest run that reached its end; 404 where there is none |

pub mod export;
mod health;
mod runs;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use pipeline::run::Runtime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often old samples of histograms are let go.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of the histogram of batch durations, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Bounds of the histogram of batch sizes, in records.
const RECORDS: [f64; 8] = [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 20_000.0];

/// Why HTTP can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is taken, or isn't this machine's.
    #[error("{address} can't be listened on: {reason} (set `http.listen` to another address)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The server ended by itself.
    #[error("the HTTP server failed: {0}")]
    Failed(#[from] std::io::Error),
    /// Metrics can't be gathered.
    #[error("metrics can't be gathered: {0}")]
    Metrics(#[from] BuildError),
}

/// Gathers metrics from here on. Once per process.
pub fn install_metrics() -> Result<PrometheusHandle, ApiError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(pipeline::telemetry::BATCH_SECONDS.into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(pipeline::telemetry::BATCH_RECORDS.into()), &RECORDS)?
        .install_recorder()?;
    pipeline::telemetry::describe();
    Ok(handle)
}

#[derive(Clone)]
struct Shared {
    runtime: Runtime,
    export: Option<export::Watch>,
    metrics: PrometheusHandle,
}

/// Serves HTTP until told to stop. Nothing is served where there is no address. `export`: what this process serves, too.
pub async fn serve(
    address: Option<SocketAddr>,
    runtime: &Runtime,
    export: Option<export::Watch>,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), ApiError>>, ApiError> {
    serve_router(address, router(runtime.clone(), export, metrics.clone()), metrics, stop).await
}

/// Serves the health of an export that runs without the rest, and metrics, until told to stop.
pub async fn serve_health(
    address: Option<SocketAddr>,
    export: export::Watch,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), ApiError>>, ApiError> {
    let handle = metrics.clone();
    let router = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(move || std::future::ready(health::export(&export))))
        .route("/metrics", get(move || std::future::ready(handle.render())));
    serve_router(address, router, metrics, stop).await
}

async fn serve_router(
    address: Option<SocketAddr>,
    router: Router,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> Result<JoinHandle<Result<(), ApiError>>, ApiError> {
    let listener = match address {
        Some(address) => match TcpListener::bind(address).await {
            Ok(listener) => Some(listener),
            Err(error) => return Err(ApiError::Listen { address, reason: error.to_string() }),
        },
        None => None,
    };
    Ok(tokio::spawn(async move {
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.run_upkeep();
            }
        };
        let Some(listener) = listener else {
            tokio::select! {
                () = upkeep => {}
                () = stop.cancelled() => {}
            }
            return Ok(());
        };
        tracing::info!(address = %listener.local_addr()?, "HTTP is served");
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::select! {
            served = served => Ok(served?),
            () = upkeep => Ok(()),
        }
    }))
}

fn router(runtime: Runtime, export: Option<export::Watch>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(|State(shared): State<Shared>| async move { shared.metrics.render() }))
        .route("/api/v1/sources", get(runs::sources))
        .route("/api/v1/sources/{name}/runs", get(runs::runs))
        .route("/api/v1/sources/{name}/runs/last-success", get(runs::last_success))
        .with_state(Shared { runtime, export, metrics })
}
