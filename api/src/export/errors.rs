//! What a request is refused with. The gateway's errors and the back-end's have each their own shape in the contract
//! (gateway authorisation order; validation and other errors).

use std::time::Duration;

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::depth;
use super::negotiate::JSON;

/// Methods that are answered.
pub(super) const METHODS: &str = "GET, HEAD";

/// What a refused client is told. It becomes an answer where address and id of the request are known ([`Self::render`]).
#[derive(Debug, Clone)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// Of the back-end's validation errors.
    invalid: Option<Value>,
    retry_after: Option<Duration>,
    /// Of an object whose range can't be had: its size.
    size: Option<u64>,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), invalid: None, retry_after: None, size: None }
    }

    pub(super) fn key_missing() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "access_denied", "Api key is not set")
    }

    /// Unknown, expired and revoked keys are one and the same to whoever tries them.
    pub(super) fn key_invalid() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "access_denied", "Invalid api key")
    }

    pub(super) fn too_many_requests(retry_after: Duration) -> Self {
        let message = "Too many requests with this api key";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).after(retry_after)
    }

    pub(super) fn too_many_at_once() -> Self {
        let message = "Too many answers are being read with this api key";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).after(Duration::from_secs(5))
    }

    pub(super) fn no_rule(path: &str) -> Self {
        let message = format!("ACL: No matching rule was found for path {path}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn missing_allowances(missing: &[&str]) -> Self {
        let missing = missing.join(", ");
        let message = format!("Your scope does not allow to access this resource. Missing allowances: {missing}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn depth(wrong: depth::Wrong) -> Self {
        let message = "Validation failed. What is wrong stands in error.invalid";
        let mut failure = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", message);
        failure.invalid = Some(json!([wrong.entry()]));
        failure
    }

    pub(super) fn no_snapshot() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no snapshot of this resource yet")
    }

    /// Something that passes.
    pub(super) fn unavailable(message: &str, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message).after(retry_after)
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error")
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("Only {METHODS} are answered"))
    }

    pub(super) fn not_acceptable(message: &str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
    }

    pub(super) fn another() -> Self {
        let message = "What if-match names isn't what there is; JSON has weak tags, which never match";
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
    }

    pub(super) fn range(size: u64) -> Self {
        let mut failure = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", "No such bytes");
        failure.size = Some(size);
        failure
    }

    pub(super) fn address_too_long() -> Self {
        Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", "The address is too long")
    }

    fn after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The answer, with what only the outermost layer knows.
    pub(super) fn render(self, url: &str, request_id: &str) -> Response {
        let mut error = json!({ "type": self.kind, "message": self.message });
        if let Some(invalid) = self.invalid {
            error["invalid"] = invalid;
        }
        let meta = json!({ "code": self.status.as_u16(), "url": url, "type": "object", "request_id": request_id });
        let body = json!({ "meta": meta, "error": error }).to_string();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static(METHODS));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: whoever comes back at once is refused once more.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1_000).max(1) as u64));
        }
        if let Some(size) = self.size
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            headers.insert(CONTENT_RANGE, value);
        }
        response
    }
}

/// Travels to the outermost layer, which renders it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
