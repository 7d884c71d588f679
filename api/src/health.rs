//! Whether the process answers, and whether it gets on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use pipeline::run::Health;
use serde_json::{Value, json};

use super::Shared;
use super::export::Watch;

/// The process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// Every component gets on, or the reasons why not.
pub(super) async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<Value>) {
    let unready = reasons(&shared.runtime.health, shared.runtime.clock.now(), shared.export.as_ref());
    let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "unready": unready, "components": shared.runtime.health.components() })))
}

/// Why this process isn't ready, with what it exports.
pub(super) fn reasons(health: &Health, now: DateTime<Utc>, export: Option<&Watch>) -> Vec<String> {
    let mut unready = health.unready(now);
    unready.extend(export.into_iter().flat_map(Watch::unready));
    unready
}

/// Exports can be served, or the reasons why not.
pub(super) fn export(export: &Watch) -> (StatusCode, Json<Value>) {
    let unready = export.unready();
    let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "unready": unready, "components": {} })))
}
