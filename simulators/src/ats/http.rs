//! The ATS over HTTP: paths, keys, pages. What is served comes from the [`Ats`]; how it goes wrong, from its faults.

use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Ats, Endpoint, admin, query, spoil};
use crate::server::Connection;

pub(crate) fn router(ats: Ats) -> Router {
    admin::router().fallback(answer).with_state(ats)
}

/// Paths are matched here and not by the router, since their case doesn't matter.
async fn answer(
    State(ats): State<Ats>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let key = headers.get("ApiKey");
    let _in_flight = ats.saw_request(uri.path(), uri.query().unwrap_or_default(), key.is_some());
    let Some(endpoint) = Endpoint::of_path(uri.path()) else {
        return message(StatusCode::NOT_FOUND, "Not found");
    };
    if method != Method::GET {
        return message(StatusCode::METHOD_NOT_ALLOWED, "Only GET is allowed");
    }
    let latency = ats.options().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let fault = ats.take_fault(endpoint);
    if let Some(fault) = &fault
        && let Some(wrong) = spoil::instead(fault, &connection).await
    {
        return wrong;
    }
    let key_is_right = key.is_some_and(|key| key.as_bytes() == ats.options().api_key.as_bytes());
    if endpoint.needs_key() && !key_is_right {
        let reason = if key.is_some() { "Unknown ApiKey" } else { "ApiKey is missing" };
        return message(StatusCode::UNAUTHORIZED, reason);
    }
    let (rows, applicants) = match rows(&ats, endpoint, &uri) {
        Ok(rows) => rows,
        Err((status, reason)) => return message(status, &reason),
    };
    let wait = ats.turn(applicants);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    match &fault {
        Some(fault) => spoil::spoil(fault, rows),
        None => json_text(rows),
    }
}

/// The rows as the text of a JSON array, and how many applicants it holds; or the status and reason of a refusal.
fn rows(ats: &Ats, endpoint: Endpoint, uri: &Uri) -> Result<(String, usize), (StatusCode, String)> {
    if endpoint == Endpoint::Applicants {
        let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
        let parameters = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(parameters) = parameters.map_err(|_| bad("The query can't be read".to_owned()))?;
        let query = query::parse(&parameters, ats.options().max_page).map_err(bad)?;
        let page = ats.state().page(&query);
        return Ok((format!("[{}]", page.join(",")), page.len()));
    }
    let state = ats.state();
    let Some(list) = state.masters().list(endpoint) else {
        // Departments are no longer served (ATS contract).
        return Err((StatusCode::NOT_FOUND, "Not found".to_owned()));
    };
    Ok((format!("[{}]", list.iter().map(Value::to_string).collect::<Vec<_>>().join(",")), 0))
}

/// 200 with this text, said to be JSON.
pub(crate) fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
}

/// How this server says why not.
pub(crate) fn message(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({ "message": message }))).into_response()
}
