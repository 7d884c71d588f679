//! Whether the process answers, and whether it gets on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::export::Watch;

/// The process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Every component gets on, or the reasons why not.
pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<Value>) {
    let mut unready = shared.runtime.health.unready(shared.runtime.clock.now());
    unready.extend(shared.export.iter().flat_map(Watch::unready));
    let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "unready": unready, "components": shared.runtime.health.components() })))
}

/// Exports can be served, or the reasons why not.
pub(super) fn export(export: &Watch) -> (StatusCode, Json<Value>) {
    let unready = export.unready();
    let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "unready": unready, "components": {} })))
}
