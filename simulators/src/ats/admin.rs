//! Steers a simulated ATS from outside its process: `/__admin/…`, without a key, so only for loopback.
//!
//! `POST faults {path, fault, after?, times?}` · `DELETE faults` · `POST clock {advance_seconds}` ·
//! `POST change {count}` · `GET state` (counts only).

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::Fault;
use super::http::message;
use super::{Ats, Endpoint};

pub(crate) fn router() -> Router<Ats> {
    Router::new()
        .route("/__admin/faults", post(set_fault).delete(clear_faults))
        .route("/__admin/clock", post(advance_clock))
        .route("/__admin/change", post(change))
        .route("/__admin/state", get(counts))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFault {
    path: String,
    fault: Fault,
    #[serde(default)]
    after: u32,
    #[serde(default)]
    times: Option<u32>,
}

async fn set_fault(State(ats): State<Ats>, Json(wish): Json<SetFault>) -> Response {
    let Some(endpoint) = Endpoint::of_path(&wish.path) else {
        return message(StatusCode::BAD_REQUEST, "path must be one of the ATS's, old or new");
    };
    ats.set_fault_after(endpoint, wish.after, wish.fault, wish.times);
    StatusCode::NO_CONTENT.into_response()
}

async fn clear_faults(State(ats): State<Ats>) -> StatusCode {
    ats.clear_faults();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

async fn advance_clock(State(ats): State<Ats>, Json(wish): Json<Advance>) -> Response {
    let Some(by) = TimeDelta::try_seconds(wish.advance_seconds) else {
        return message(StatusCode::BAD_REQUEST, "advance_seconds is beyond the calendar");
    };
    ats.advance(by);
    Json(json!({ "now": ats.now() })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    count: usize,
}

async fn change(State(ats): State<Ats>, Json(wish): Json<Change>) -> Json<Value> {
    Json(json!({ "changed": ats.change_some(wish.count) }))
}

async fn counts(State(ats): State<Ats>) -> Json<Value> {
    let masters = ats.masters();
    Json(json!({
        "now": ats.now(),
        "applicants": ats.len(),
        "staff": masters.staff.len(),
        "health_authorities": masters.health_authorities.len(),
        "reasons": masters.reasons.len(),
        "milestones": masters.milestones.len(),
        "faults": ats.faults(),
        "requests": ats.requests_total(),
    }))
}
