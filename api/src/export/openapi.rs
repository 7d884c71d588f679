//! The description of this interface, generated from the routes.

use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::conditions;
use super::negotiate::JSON;

/// The answer with records.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together from bytes")]
pub(super) struct List {
    meta: ListMeta,
    /// The records, by id.
    data: Vec<Record>,
}

/// A record, as the resource has it.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[allow(dead_code, reason = "describes what is copied")]
pub(super) struct Record(serde_json::Value);

/// What the answer is.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together from bytes")]
pub(super) struct ListMeta {
    /// 200.
    code: u16,
    /// What was asked for.
    url: String,
    /// `list`.
    r#type: String,
    /// The request's id.
    request_id: String,
    /// The records are complete as of this moment.
    date: chrono::DateTime<chrono::Utc>,
}

/// An answer that is one object.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Found {
    meta: Meta,
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// What the answer is.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Meta {
    /// The status.
    code: u16,
    /// What was asked for.
    url: String,
    /// `object`.
    r#type: String,
    /// The request's id.
    request_id: String,
}

/// A refusal.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Failed {
    meta: Meta,
    error: Error,
}

/// Why.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Error {
    /// `access_denied`, `forbidden`, `validation_failed`, `not_found`, `internal_error`, …
    r#type: String,
    /// For people.
    message: String,
    /// Of 422: what is wrong with which parameter.
    invalid: Option<Vec<Invalid>>,
}

/// What is wrong with a parameter.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Invalid {
    /// `$.depth`
    entry: String,
    /// `query_parameter`
    entry_type: String,
    rules: Vec<Rule>,
}

/// A rule that a parameter breaks.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what is put together as JSON")]
pub(super) struct Rule {
    /// `cast` or `number`.
    rule: String,
    /// As in `["integer"]` or `[{"less_than_or_equal_to": 30}]`.
    #[schema(value_type = Vec<Object>)]
    params: Vec<serde_json::Value>,
    /// For people.
    description: String,
}

/// Answers with the document, which is made once.
pub(super) fn serve(
    document: &utoipa::openapi::OpenApi,
) -> impl Fn(HeaderMap) -> std::future::Ready<Response> + Clone + Send + use<> {
    let text: Bytes = serde_json::to_vec(document).unwrap_or_default().into();
    let tag = conditions::digest_tag(&text);
    move |headers| {
        let known = conditions::is_known(&headers, &tag);
        let mut response = match known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => text.clone().into_response(),
        };
        let out = response.headers_mut();
        out.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        // Digits and quotation marks.
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            out.insert(ETAG, tag);
        }
        std::future::ready(response)
    }
}

/// What stands above the routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "Muster: bulk export", description = "Snapshots of whole resources, for systems that may have them."),
    modifiers(&Key),
    tags((name = "export", description = "Whole resources")),
)]
pub(super) struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = ApiKeyValue::with_description(super::auth::KEY, "`muster token create` makes one");
        let scheme = SecurityScheme::ApiKey(ApiKey::Header(key));
        document.components.get_or_insert_default().add_security_scheme("api-key", scheme);
    }
}
