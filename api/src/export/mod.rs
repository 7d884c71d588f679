//! The bulk export: whole resources, or the last days of them, copied from the snapshots' objects to the network.
//!
//! | path | answers |
//! |---|---|
//! | `/api/pis/bulk/{resource}?depth=N` | the records, as the contract wants them (`answer`) |
//! | `/api/bulk/manifest` | what the newest snapshot has (`manifest_view`) |
//! | `/openapi.json` | the description of this interface; without a key |
//!
//! A request goes through `frame` (id, address, key), is routed, is allowed (`auth`), understood (`depth`, `negotiate`,
//! `conditions`), drawn up (`plan`), opened, and then copied as the client takes it (`body`). It takes one manifest
//! (`current`) and reads what that names, so it never mixes two snapshots. Any number of processes serve the same snapshots:
//! they share the store and the operations database, and nothing else.

mod answer;
mod audit;
mod auth;
mod body;
mod buffers;
mod conditions;
mod current;
mod depth;
mod envelope;
mod errors;
mod frame;
mod limits;
mod manifest_view;
mod negotiate;
mod openapi;
mod pace;
mod plan;
mod server;
mod settings;
mod tokens;
mod transform;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::{Router, middleware};
use pipeline::operations::Operations;
use pipeline::snapshot::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::body::OPEN_FILES;
pub use self::limits::LimitSettings;
pub use self::pace::PaceSettings;
pub use self::server::ConnectionSettings;
pub use self::settings::{BeyondMaxDepth, ContentType, ExportOptions, Resource, WithoutSnapshot, resources, scope};
pub use self::tokens::{KeyError, Pepper, SHORTEST_PEPPER, new_key};

use self::audit::{Audit, Clerk};
use self::buffers::Buffers;
use self::current::Current;
use self::errors::Failure;
use self::frame::Ids;
use self::limits::Limits;
use self::tokens::{Caller, Tokens};

/// Where the description is.
const OPENAPI: &str = "/openapi.json";

/// So long is waited for the store and the database before exports are served without them.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// When to come again after something was away or full.
const AGAIN: Duration = Duration::from_secs(5);

/// What all requests share.
pub(crate) struct Export {
    options: ExportOptions,
    pepper: Pepper,
    tokens: Tokens,
    limits: Arc<Limits>,
    current: Current,
    buffers: Arc<Buffers>,
    audit: Audit,
    ids: Ids,
}

/// An export that is served.
pub struct Served {
    export: Arc<Export>,
    /// Where.
    pub address: SocketAddr,
    /// Ends when all has been served and noted.
    pub ended: JoinHandle<()>,
}

impl Served {
    /// Whether it can export, for those who ask later.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.export))
    }
}

/// Tells whether exports can be served.
#[derive(Clone)]
pub struct Watch(Arc<Export>);

impl Watch {
    /// What keeps this process from exporting; nothing, where it can.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.0.tokens.hold() {
            reasons.push("the operations database is away: keys can't be checked".to_owned());
        }
        if self.0.current.is_silent() {
            reasons.push("the store of the snapshots doesn't answer".to_owned());
        }
        reasons
    }
}

/// Serves exports until told to stop; then answers under way have a while to end.
pub async fn serve(
    listen: SocketAddr,
    options: ExportOptions,
    pepper: Pepper,
    store: Store,
    operations: Operations,
    stop: CancellationToken,
) -> Result<Served, std::io::Error> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let (export, clerk) = Export::new(options, pepper, store, operations);
    let connections = export.options.connections;
    let router = router(Arc::clone(&export));
    // Those who ask first are answered with what is there; a store or a database that is away holds nobody up.
    let first = async { tokio::join!(export.tokens.refresh(), export.current.look()) };
    if tokio::time::timeout(FIRST_LOOK, first).await.is_err() {
        tracing::warn!("the store of the snapshots, or the operations database, is slow");
    }
    let served = Arc::clone(&export);
    let ended = tokio::spawn(async move {
        let (followers, all_noted) = (TaskTracker::new(), CancellationToken::new());
        let (following, token) = (Arc::clone(&served), stop.clone());
        followers.spawn(async move { following.tokens.follow(token).await });
        let (following, token) = (Arc::clone(&served), stop.clone());
        followers.spawn(async move { following.current.follow(token).await });
        followers.spawn(clerk.write(all_noted.clone()));
        tracing::info!(address = %address, "exports are served");
        server::serve(listener, router, connections, stop).await;
        all_noted.cancel();
        followers.close();
        followers.wait().await;
    });
    Ok(Served { export, address, ended })
}

impl Export {
    fn new(options: ExportOptions, pepper: Pepper, store: Store, operations: Operations) -> (Arc<Self>, Clerk) {
        let (audit, clerk) = audit::audit(operations.clone());
        let export = Self {
            pepper,
            tokens: Tokens::new(operations, options.grace),
            limits: Limits::new(options.limits),
            current: Current::new(store),
            buffers: Buffers::new(options.buffers),
            audit,
            ids: Ids::new(),
            options,
        };
        (Arc::new(export), clerk)
    }
}

fn router(export: Arc<Export>) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(answer::export))
        .routes(routes!(manifest_view::manifest))
        .split_for_parts();
    router
        .route(OPENAPI, axum::routing::get(openapi::serve(&document)))
        .fallback(no_rule)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&export), frame::frame))
        .with_state(export)
}

/// Nothing is there.
async fn no_rule(request: Request) -> Failure {
    Failure::no_rule(request.uri().path())
}

/// Something may be there, but not for this method; only those who may read it are told.
async fn other_method(State(export): State<Arc<Export>>, request: Request) -> Failure {
    let path = request.uri().path();
    if path.starts_with(auth::BULK) {
        let allowed = answer::extension::<Arc<Caller>>(request.extensions())
            .and_then(|caller| auth::resource(&export, &caller, path).map(|_| ()));
        if let Err(failure) = allowed {
            return failure;
        }
    }
    Failure::method()
}

#[cfg(test)]
mod tests;
