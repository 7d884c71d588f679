//! Answers with the records of a resource.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED,
    RANGE, VARY,
};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use pipeline::operations::ExportStart;
use pipeline::snapshot::{Coding, Dataset, Form, Manifest, Object, Set, StoreError};

use super::conditions::{self, Wanted};
use super::envelope::{self, moment};
use super::errors::Failure;
use super::frame::Asked;
use super::limits::Full;
use super::negotiate::{self, Shape};
use super::pace::Connection;
use super::plan::{self, Codings, Plan};
use super::tokens::Caller;
use super::{AGAIN, BeyondMaxDepth, Export, Resource, auth, body, depth};

/// Who keeps an answer to send its tag along asks each time whether it is still the newest; nobody in between keeps one.
const CACHE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Which snapshot an answer is of, where the answer itself can't say.
const GENERATION: HeaderName = HeaderName::from_static("snapshot-generation");
const DATE: HeaderName = HeaderName::from_static("snapshot-date");

/// What is asked for, understood and allowed.
struct Wish<'a> {
    resource: &'a Resource,
    name: &'a str,
    /// As it is counted: none where the whole resource is served.
    depth: Option<u32>,
    manifest: Arc<Manifest>,
}

/// What is answered: headers, and what the body is made of.
struct Draft {
    status: StatusCode,
    headers: HeaderMap,
    shape: Shape,
    coding: Coding,
    plan: Plan,
}

/// The records of a resource.
#[utoipa::path(
    get,
    path = "/api/pis/bulk/{resource}",
    tag = "export",
    operation_id = "export",
    description = "All records of a resource, or those that changed within the last `depth` days, as of `meta.date`. There \
        are no pages. HEAD answers the same headers.",
    params(
        ("resource" = String, Path, description = "`employees`, `parties`, `divisions`, `legal_entities`, \
            `employee_roles`, `healthcare_services`, `contract_divisions` or `declarations_limit`, and whatever else \
            the site has"),
        ("depth" = Option<u32>, Query, minimum = 1, description = "So many days back; all records without it. \
            `declarations_limit` takes none, and leaves it alone"),
        ("api-key" = String, Header, description = "The key"),
        ("x-request-id" = Option<String>, Header, max_length = 128, description = "Names the request in answers and logs"),
        ("accept" = Option<String>, Header, description = "`application/json`, `application/x-ndjson` or \
            `application/vnd.apache.parquet`"),
        ("accept-encoding" = Option<String>, Header, description = "`gzip`, `zstd` or `identity`; Parquet is identity alone"),
        ("if-match" = Option<String>, Header, description = "Tags of what is wanted; strong ones, which Parquet alone has"),
        ("if-none-match" = Option<String>, Header, description = "Tags of what the client has"),
        ("range" = Option<String>, Header, description = "One range of bytes; of Parquet alone"),
        ("if-range" = Option<String>, Header, description = "The tag that the range is of"),
    ),
    responses(
        (status = 200, description = "The records", content(
            (super::openapi::List = "application/json"),
            (super::openapi::List = "application/octet-stream"),
            (String = "application/x-ndjson"),
            (String = "application/vnd.apache.parquet"),
        ), headers(
            ("etag" = String, description = "Weak, but for Parquet"),
            ("snapshot-date" = String, description = "`meta.date`"),
            ("snapshot-generation" = u64, description = "Which snapshot it is"),
        )),
        (status = 206, description = "Part of a Parquet file", body = String, content_type = "application/vnd.apache.parquet"),
        (status = 304, description = "The client has it"),
        (status = 401, description = "`Api key is not set`, or `Invalid api key`", body = super::openapi::Failed),
        (status = 403, description = "No such resource, or missing allowances", body = super::openapi::Failed),
        (status = 404, description = "There is no snapshot yet", body = super::openapi::Failed),
        (status = 405, description = "Neither GET nor HEAD", body = super::openapi::Failed),
        (status = 406, description = "None of the accepted forms or codings can be had", body = super::openapi::Failed),
        (status = 412, description = "There is another than `if-match` names", body = super::openapi::Failed),
        (status = 414, description = "The address is too long", body = super::openapi::Failed),
        (status = 416, description = "No such bytes", body = super::openapi::Failed),
        (status = 422, description = "The depth isn't a positive number without a fraction, or too large",
            body = super::openapi::Failed),
        (status = 429, description = "Too many requests, or too many answers at once, with this key; \
            `Retry-After` says when to come again", body = super::openapi::Failed),
        (status = 500, description = "Something is wrong on this side; the log has it under the request's id",
            body = super::openapi::Failed),
        (status = 503, description = "Something is away or full; `Retry-After` says when to come again",
            body = super::openapi::Failed),
    ),
    security(("api-key" = [])),
)]
pub(super) async fn export(State(export): State<Arc<Export>>, request: Request) -> Result<Response, Failure> {
    // Whatever body it has isn't read.
    let (request, _) = request.into_parts();
    let (caller, asked) = (extension::<Arc<Caller>>(&request.extensions)?, extension::<Asked>(&request.extensions)?);
    let wish = wish(&export, &caller, &request.uri).await?;
    let is_head = request.method == Method::HEAD;
    let mut headers = request.headers;
    if is_head {
        // Ranges are of GET alone (RFC 9110, 14.2).
        headers.remove(RANGE);
    }
    let draft = draft(&wish, &asked, &headers)?;
    if draft.status == StatusCode::NOT_MODIFIED {
        return Ok((draft.status, draft.headers).into_response());
    }
    let place = match is_head {
        true => None,
        false => Some(export.limits.place(&caller.id).map_err(|full| match full {
            Full::Key => Failure::too_many_at_once(),
            Full::All => Failure::unavailable("Too many answers are being read", AGAIN),
        })?),
    };
    let (form, coding, expected) = (draft.shape.name(), draft.coding.name(), draft.plan.bytes);
    let opening = body::open(export.current.store(), &wish.manifest, draft.plan);
    let within = export.options.opened_within;
    let opened = tokio::time::timeout(within, opening).await;
    let hangs = || StoreError::Unavailable { reason: format!("no answer within {} ms", within.as_millis()) };
    let opened = opened.unwrap_or_else(|_| Err(hangs()));
    let opened = opened.map_err(|error| unreadable(&asked, wish.name, &error))?;
    let Some(place) = place else { return Ok((draft.status, draft.headers, Body::empty()).into_response()) };
    let start = ExportStart {
        id: uuid::Uuid::new_v4().to_string(),
        token: caller.id.clone(),
        label: caller.label.clone(),
        resource: wish.name.to_owned(),
        depth: wish.depth,
        form,
        coding,
        generation: wish.manifest.generation.0,
        expected,
        began: Utc::now(),
        request: asked.id.to_string(),
    };
    let connection = request.extensions.get::<Arc<Connection>>().cloned();
    let body = opened.body(&export.buffers, export.audit.begin(start, place, connection));
    Ok((draft.status, draft.headers, body).into_response())
}

/// What the outermost layer has put there.
pub(super) fn extension<T: Clone + Send + Sync + 'static>(extensions: &Extensions) -> Result<T, Failure> {
    extensions.get::<T>().cloned().ok_or_else(Failure::internal)
}

/// Resource, allowance, depth and snapshot, in this order.
async fn wish<'e>(export: &'e Export, caller: &Caller, uri: &Uri) -> Result<Wish<'e>, Failure> {
    let (name, resource) = auth::resource(export, caller, uri.path())?;
    let wanted = match resource.depth {
        true => depth::read(uri.query()).map_err(Failure::depth)?,
        false => None,
    };
    let none = || no_snapshot(export);
    let manifest = export.current.manifest().await.ok_or_else(none)?;
    let dataset = manifest.datasets.get(&resource.dataset).ok_or_else(none)?;
    let most = dataset.windows.last().map_or(0, |window| window.depth);
    let depth = match wanted {
        Some(wanted) if wanted > most => match export.options.beyond_max_depth {
            BeyondMaxDepth::Refuse => return Err(Failure::depth(depth::Wrong::TooLarge { most })),
            BeyondMaxDepth::Full => None,
        },
        wanted => wanted,
    };
    Ok(Wish { resource, name, depth, manifest })
}

/// What is answered where there is no snapshot, or it isn't known whether there is one.
pub(super) fn no_snapshot(export: &Export) -> Failure {
    match export.options.without_snapshot {
        _ if export.current.is_unknown() => Failure::unavailable("The snapshots can't be read at the moment", AGAIN),
        super::WithoutSnapshot::NotFound => Failure::no_snapshot(),
        super::WithoutSnapshot::Unavailable => {
            Failure::unavailable("There is no snapshot of this resource yet", export.options.snapshot_retry)
        }
    }
}

/// What will be answered. Reads nothing.
fn draft(wish: &Wish<'_>, asked: &Asked, headers: &HeaderMap) -> Result<Draft, Failure> {
    let dataset = wish.manifest.datasets.get(&wish.resource.dataset).ok_or_else(Failure::internal)?;
    let json_type = wish.resource.content_type.name();
    let shape = negotiate::shape(headers, json_type).ok_or_else(|| {
        Failure::not_acceptable("Accept: application/json, application/x-ndjson or application/vnd.apache.parquet")
    })?;
    let mut draft = match shape {
        Shape::Parquet => parquet(wish, dataset, asked, headers)?,
        Shape::Json | Shape::Ndjson => records(wish, dataset, asked, shape, headers)?,
    };
    let out = &mut draft.headers;
    let media_type = if shape == Shape::Json { json_type } else { shape.media_type() };
    out.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    out.insert(CONTENT_LENGTH, HeaderValue::from(draft.plan.bytes));
    out.insert(CACHE_CONTROL, CACHE);
    out.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    out.insert(GENERATION, HeaderValue::from(wish.manifest.generation.0));
    insert(out, DATE, &moment(dataset.date));
    insert(out, LAST_MODIFIED, &dataset.date.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    let tag = out.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    if conditions::is_another(headers, tag) {
        return Err(Failure::another());
    }
    if conditions::is_known(headers, tag) {
        draft.status = StatusCode::NOT_MODIFIED;
        for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_RANGE] {
            draft.headers.remove(name);
        }
    }
    Ok(draft)
}

/// JSON or NDJSON.
fn records(
    wish: &Wish<'_>,
    dataset: &Dataset,
    asked: &Asked,
    shape: Shape,
    headers: &HeaderMap,
) -> Result<Draft, Failure> {
    let at_fault = |what: &str| {
        tracing::error!(request_id = &*asked.id, resource = wish.name, depth = wish.depth, "{what}");
        Failure::internal()
    };
    let sets = plan::sets(dataset, wish.depth, Form::Json);
    let sets = sets.ok_or_else(|| at_fault("the manifest has no such depth, though it has deeper ones"))?;
    if plan::stored(&sets, Coding::Identity).is_none() {
        return Err(at_fault("the manifest has no JSON of this resource"));
    }
    let available = |coding: Coding| {
        // Lines are made of plain text, and nothing is compressed while it is answered.
        let fits = shape == Shape::Json || coding == Coding::Identity;
        fits && plan::stored(&sets, coding).is_some()
    };
    let answered = negotiate::coding(headers, available)
        .ok_or_else(|| Failure::not_acceptable("None of the accepted codings can be had; identity always can"))?;
    let stored = plan::stored(&sets, answered).ok_or_else(Failure::internal)?;
    let url = match wish.depth {
        Some(depth) => format!("{}?depth={depth}", asked.url),
        None => asked.url.to_string(),
    };
    let head = envelope::head(&url, &asked.id, dataset.date);
    let plan = plan::records(shape, Codings { stored, answered }, &head, &sets);
    let plan = plan.map_err(|error| at_fault(&error.to_string()))?;
    let (depth, date) = (wish.depth.unwrap_or(0).to_string(), moment(dataset.date));
    let about = [shape.name(), answered.name(), wish.name, &depth, &date];
    let digests = sets.iter().flat_map(|set| digest(set, stored));
    let mut out = HeaderMap::new();
    insert(&mut out, ETAG, &conditions::weak_tag(about.into_iter().chain(digests)));
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    if answered != Coding::Identity {
        out.insert(CONTENT_ENCODING, HeaderValue::from_static(answered.name()));
    }
    Ok(Draft { status: StatusCode::OK, headers: out, shape, coding: answered, plan })
}

fn digest(set: &Set, stored: Coding) -> Option<&str> {
    set.object(Form::Json, stored).map(|object| object.sha256.as_str())
}

/// The stored file, or part of it.
fn parquet(wish: &Wish<'_>, dataset: &Dataset, asked: &Asked, headers: &HeaderMap) -> Result<Draft, Failure> {
    let sets = dataset.sets(wish.depth).ok_or_else(|| {
        tracing::error!(
            request_id = &*asked.id,
            resource = wish.name,
            depth = wish.depth,
            "the manifest has no such depth"
        );
        Failure::internal()
    })?;
    let object: Option<&Object> = match sets.as_slice() {
        [set] => set.object(Form::Parquet, Coding::Identity),
        // Columns can't be joined by copying.
        _ => None,
    };
    let object = object.ok_or_else(|| {
        Failure::not_acceptable("There is no Parquet file of this; take all records, without a depth")
    })?;
    if negotiate::coding(headers, |coding| coding == Coding::Identity).is_none() {
        return Err(Failure::not_acceptable("Parquet isn't compressed as a whole: accept identity"));
    }
    let tag = conditions::strong_tag(&object.sha256);
    let mut out = HeaderMap::new();
    insert(&mut out, ETAG, &tag);
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Who has it already, or wants another, is told so, whatever else was wanted.
    let wanted = match conditions::is_known(headers, &tag) || conditions::is_another(headers, &tag) {
        true => Wanted::Whole,
        false => conditions::wanted(headers, object.bytes, &tag),
    };
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..object.bytes),
        Wanted::Nothing => return Err(Failure::range(object.bytes)),
        Wanted::Part(range) => {
            insert(&mut out, CONTENT_RANGE, &format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes));
            (StatusCode::PARTIAL_CONTENT, range)
        }
    };
    let plan = plan::raw(object, range);
    Ok(Draft { status, headers: out, shape: Shape::Parquet, coding: Coding::Identity, plan })
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Digits, letters and punctuation of our own.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whoever asks isn't told what is wrong with the store.
fn unreadable(asked: &Asked, resource: &str, error: &StoreError) -> Failure {
    let request_id = &*asked.id;
    match error {
        StoreError::Unavailable { .. } => {
            tracing::warn!(request_id, resource, error = %error, "a snapshot can't be read");
            Failure::unavailable("The snapshots can't be read at the moment", AGAIN)
        }
        // Once somebody has set the rights, it can be had.
        StoreError::Refused { .. } | StoreError::Secret(_) => {
            tracing::error!(request_id, resource, error = %error, "the store of the snapshots doesn't let us read");
            Failure::unavailable("The snapshots can't be read at the moment", AGAIN)
        }
        StoreError::Missing { .. } | StoreError::NotUnderstood { .. } => {
            tracing::error!(request_id, resource, error = %error, "a snapshot isn't as its manifest says");
            Failure::internal()
        }
    }
}
