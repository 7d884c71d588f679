//! The runs of sources, for people: the register's own pages show when the last successful one was.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use pipeline::operations::OperationsError;
use serde::Deserialize;
use serde_json::json;

use super::Shared;

const LIMIT: u32 = 20;
const MOST: u32 = 1_000;

#[derive(Deserialize)]
pub(super) struct Page {
    limit: Option<u32>,
}

/// The feeds that have ever run.
pub(super) async fn sources(State(shared): State<Shared>) -> Response {
    answer(shared.runtime.operations.sources().await)
}

/// The newest runs of a feed.
pub(super) async fn runs(State(shared): State<Shared>, Path(name): Path<String>, Query(page): Query<Page>) -> Response {
    let limit = page.limit.unwrap_or(LIMIT).min(MOST);
    answer(shared.runtime.operations.runs(&name, limit).await)
}

/// The newest run of a feed that reached its end.
pub(super) async fn last_success(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    match shared.runtime.operations.last_success(&name).await {
        Ok(None) => {
            let error = json!({ "error": "this feed has had no successful run" });
            (StatusCode::NOT_FOUND, Json(error)).into_response()
        }
        found => answer(found),
    }
}

fn answer(found: Result<impl serde::Serialize, OperationsError>) -> Response {
    match found {
        Ok(found) => Json(found).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "the history can't be read");
            let error = json!({ "error": "the history can't be read; the log says why" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
        }
    }
}
