//! What every request goes through: an id, the checks of the key, and what every answer has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pipeline::telemetry;

use super::errors::Failure;
use super::{Export, OPENAPI, auth};

/// Names a request, in answers, logs and the audit.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids aren't taken over.
const LONGEST_ID: usize = 128;

/// Longer addresses (path and query) aren't looked at.
const LONGEST_ADDRESS: usize = 2_048;

/// What is known of a request before anything else.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: Arc<str>,
    /// The address, as far as it was understood: without the query.
    pub(super) url: Arc<str>,
}

/// Numbers the requests of this process that bring no id.
#[derive(Debug)]
pub(super) struct Ids {
    process: uuid::Uuid,
    count: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { process: uuid::Uuid::new_v4(), count: AtomicU64::new(0) }
    }

    /// The client's own, where it can stand in logs and headers; else the next of ours.
    fn of(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._#:-".contains(c);
        match given.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(allowed)) {
            Some(id) => id.into(),
            None => format!("{}#{}", self.process, self.count.fetch_add(1, Ordering::Relaxed)).into(),
        }
    }
}

/// Around every request.
pub(super) async fn frame(State(export): State<Arc<Export>>, mut request: Request, next: Next) -> Response {
    let id = export.ids.of(request.headers());
    let path = request.uri().path();
    let path = if path.len() > LONGEST_ADDRESS { "" } else { path };
    let url = format!("{}{path}", base(&export, request.headers()));
    let asked = Asked { id, url: url.into() };
    let method = request.method().clone();
    let checked = check(&export, &mut request);
    let mut response = match checked {
        Ok(()) => {
            request.extensions_mut().insert(asked.clone());
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.render(&asked.url, &asked.id);
    }
    let status = response.status().as_u16();
    metrics::counter!(telemetry::EXPORT_ANSWERS, "code" => status.to_string()).increment(1);
    tracing::debug!(request_id = &*asked.id, method = %method, status, "answered");
    dress(response.headers_mut(), &asked.id);
    response
}

/// Before anything is routed.
fn check(export: &Export, request: &mut Request) -> Result<(), Failure> {
    let uri = request.uri();
    let address = uri.path_and_query().map_or(0, |address| address.as_str().len());
    if address > LONGEST_ADDRESS {
        return Err(Failure::address_too_long());
    }
    // The contract of this interface is no secret: it names what the original's documentation names, and no resource of the
    // site's own.
    if uri.path() == OPENAPI {
        return Ok(());
    }
    let caller = auth::caller(export, request.headers())?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// What stands before the path, as clients see it.
fn base(export: &Export, headers: &HeaderMap) -> String {
    if let Some(url) = &export.options.url {
        return url.clone();
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    let is_host = !host.is_empty() && host.len() <= 255 && host.chars().all(allowed);
    if is_host { format!("http://{host}") } else { String::new() }
}

/// What every answer has. Nothing here is a page: nothing may be guessed, framed, run or passed on.
fn dress(headers: &mut HeaderMap, id: &str) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_id_that_could_not_stand_in_a_log_line_is_replaced() {
        let ids = Ids::new();
        let of = |id: &str| ids.of(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(id).unwrap())]));
        assert_eq!(&*of("worker-1#42:a.b_c"), "worker-1#42:a.b_c");
        assert_eq!(&*of(&"a".repeat(128)), "a".repeat(128));
        for bad in ["", "a b", "a\tb", "{\"a\":1}", "a;b", &"a".repeat(129)] {
            assert_ne!(&*of(bad), bad);
        }
        let (one, other) = (ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
        assert_ne!(one, other);
        assert_eq!(one.split_once('#').unwrap().0, other.split_once('#').unwrap().0);
    }
}
