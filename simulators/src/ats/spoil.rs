//! Acts out a [`Fault`]: answers in place of the right answer, or spoils it. Called by [`super::http`].

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{TimeDelta, Utc};
use futures::stream;
use serde_json::{Value, json};

use super::faults::{Fault, RetryAfter};
use super::http::{json_text, message};
use crate::server::Connection;

/// Small enough that a page of applicants takes hundreds of them.
const DRIP_BYTES: usize = 256;

/// Time for the first half of a cut body to leave the machine.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// A page for people, as a proxy in front of the server would show it.
const HTML: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\
                    <body><h1>The service is being maintained</h1></body></html>\n";

/// The answer of those faults that don't look at the request.
pub(crate) async fn instead(fault: &Fault, connection: &Connection) -> Option<Response> {
    match fault {
        Fault::Status { code, retry_after } => Some(status(*code, retry_after.as_ref())),
        Fault::Hang => std::future::pending().await,
        Fault::HtmlPage => Some(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], HTML).into_response()),
        Fault::Reset => {
            connection.reset();
            // Never gets there: writing it resets the connection.
            Some(StatusCode::OK.into_response())
        }
        Fault::Slow { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        _ => None,
    }
}

/// The right answer, a JSON array of rows, spoilt.
pub(crate) fn spoil(fault: &Fault, right: String) -> Response {
    match fault {
        Fault::Drip { ms } => drip(right, Duration::from_millis(*ms)),
        Fault::TruncatedJson => json_text(truncated(right)),
        Fault::CutBody => cut(right),
        Fault::EndlessBody => endless(right),
        Fault::WrongTypes { every } => with_rows(&right, |rows| wrong_types(rows, (*every).max(1))),
        Fault::DuplicateRows => {
            with_rows(&right, |rows| rows.iter().flat_map(|row| [row.clone(), row.clone()]).collect())
        }
        Fault::EmptyArray => json_text("[]".to_owned()),
        Fault::Null => json_text("null".to_owned()),
        Fault::Object => json_text(format!("{{\"data\":{right}}}")),
        // Acted out before.
        Fault::Status { .. } | Fault::Hang | Fault::Slow { .. } | Fault::HtmlPage | Fault::Reset => json_text(right),
    }
}

fn status(code: u16, retry_after: Option<&RetryAfter>) -> Response {
    let code = StatusCode::from_u16(code).ok().filter(|code| code.as_u16() >= 400);
    let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = message(code, code.canonical_reason().unwrap_or("Failed"));
    if let Some(retry_after) = retry_after {
        let text = match retry_after {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::DateIn(seconds) => http_date_in(*seconds),
            RetryAfter::Text(text) => text.clone(),
        };
        let value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("?"));
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn http_date_in(seconds: i64) -> String {
    let now = Utc::now();
    let then = TimeDelta::try_seconds(seconds).and_then(|delta| now.checked_add_signed(delta)).unwrap_or(now);
    then.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Two thirds of the text, but never so little that it is empty.
fn truncated(mut text: String) -> String {
    let mut end = (text.len() * 2 / 3).max(1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn cut(right: String) -> Response {
    let whole = Bytes::from(right.into_bytes());
    let half = whole.slice(..whole.len() / 2);
    let pieces = stream::unfold(Some(half), |half| async move {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // An error right behind the half would overtake it.
        tokio::time::sleep(CUT_PAUSE).await;
        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
    });
    streamed(Body::from_stream(pieces))
}

fn drip(right: String, pause: Duration) -> Response {
    let pieces = stream::unfold(Bytes::from(right.into_bytes()), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(DRIP_BYTES.min(rest.len()));
        Some((Ok::<_, Infallible>(piece), rest))
    });
    streamed(Body::from_stream(pieces))
}

/// The page's own rows again and again, so that neither a parser nor a reader can tell where it goes wrong.
fn endless(right: String) -> Response {
    let rows = right.trim_start_matches('[').trim_end_matches(']');
    let again = Bytes::from(if rows.is_empty() { "{},".to_owned() } else { format!("{rows},") });
    let pieces = stream::unfold(Bytes::from_static(b"["), move |piece| {
        let next = again.clone();
        async move {
            // Lets other connections have their turn.
            tokio::task::yield_now().await;
            Some((Ok::<_, Infallible>(piece), next))
        }
    });
    streamed(Body::from_stream(pieces))
}

fn streamed(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn with_rows(right: &str, change: impl FnOnce(Vec<Value>) -> Vec<Value>) -> Response {
    // It was written by serde_json a moment ago.
    let rows = serde_json::from_str(right).unwrap_or_default();
    json_text(Value::Array(change(rows)).to_string())
}

fn wrong_types(mut rows: Vec<Value>, every: usize) -> Vec<Value> {
    for row in rows.iter_mut().step_by(every) {
        let Some(fields) = row.as_object_mut() else { continue };
        for (name, value) in fields.iter_mut() {
            if name != "id" && name != "applicant_id" {
                *value = of_another_type(value);
            }
        }
    }
    rows
}

fn of_another_type(value: &Value) -> Value {
    match value {
        Value::Null => json!({ "unexpected": [] }),
        Value::Bool(_) => json!("yes"),
        Value::Number(_) => json!("seventeen"),
        Value::String(_) => json!(17.5),
        Value::Array(_) => json!(true),
        Value::Object(_) => json!("an object, once"),
    }
}
