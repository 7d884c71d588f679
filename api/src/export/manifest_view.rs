//! What the newest snapshot has, for clients that want to know before they ask: dates, counts, digests. Only of resources that
//! the caller may read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use pipeline::snapshot::{Dataset, Manifest, Set};
use serde_json::{Map, Value, json};

use super::Export;
use super::answer::{extension, no_snapshot};
use super::envelope::{self, moment};
use super::errors::Failure;
use super::frame::Asked;
use super::tokens::Caller;

/// What the newest snapshot has.
#[utoipa::path(
    get,
    path = "/api/bulk/manifest",
    tag = "export",
    operation_id = "manifest",
    description = "What the newest snapshot has, of the resources that the key may read. An addition to the original.",
    params(("api-key" = String, Header, description = "The key")),
    responses(
        (status = 200, description = "Dates, counts and digests", body = super::openapi::Found),
        (status = 401, description = "`Api key is not set`, or `Invalid api key`", body = super::openapi::Failed),
        (status = 404, description = "There is no snapshot yet", body = super::openapi::Failed),
        (status = 405, description = "Neither GET nor HEAD", body = super::openapi::Failed),
        (status = 429, description = "Too many requests with this key", body = super::openapi::Failed),
        (status = 503, description = "Keys can't be checked, or the snapshots can't be read, at the moment; where the site \
            wants it so, there is no snapshot yet", body = super::openapi::Failed),
    ),
    security(("api-key" = [])),
)]
pub(super) async fn manifest(State(export): State<Arc<Export>>, request: Request) -> Result<Response, Failure> {
    let (caller, asked) = (extension::<Arc<Caller>>(request.extensions())?, extension::<Asked>(request.extensions())?);
    drop(request);
    let manifest = export.current.manifest().await.ok_or_else(|| no_snapshot(&export))?;
    let data = public(&export, &manifest, &caller);
    let mut response = Json(envelope::object(&asked.url, &asked.id, data)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

fn public(export: &Export, manifest: &Manifest, caller: &Caller) -> Value {
    let show_paths = export.options.show_paths;
    let mut resources = Map::new();
    for (name, resource) in export.options.resources.iter().filter(|(_, resource)| caller.may(&resource.scope)) {
        if let Some(dataset) = manifest.datasets.get(&resource.dataset) {
            resources.insert(name.clone(), dataset_of(dataset, show_paths));
        }
    }
    json!({
        "generation": manifest.generation,
        "nominal": moment(manifest.nominal),
        "published": moment(manifest.published),
        "days": manifest.days,
        "max_depth": manifest.max_depth,
        "resources": resources,
    })
}

fn dataset_of(dataset: &Dataset, show_paths: bool) -> Value {
    let windows: Vec<Value> = dataset
        .windows
        .iter()
        .map(|window| {
            let mut shown = json!({
                "depth": window.depth,
                "from": moment(window.from),
                "part": set(&window.part, show_paths),
                "deleted": window.deleted,
            });
            if let Some(whole) = &window.whole {
                shown["whole"] = set(whole, show_paths);
            }
            shown
        })
        .collect();
    json!({
        "date": moment(dataset.date),
        "full": set(&dataset.full, show_paths),
        "windows": windows,
        "deleted": set(&dataset.deleted, show_paths),
        "deletions_since": moment(dataset.deletions_since),
    })
}

fn set(set: &Set, show_paths: bool) -> Value {
    let objects: Vec<Value> = set
        .objects
        .iter()
        .map(|object| {
            let mut shown = json!({
                "form": object.form,
                "coding": object.coding,
                "bytes": object.bytes,
                "sha256": object.sha256,
            });
            if show_paths {
                shown["path"] = object.path.as_str().into();
            }
            shown
        })
        .collect();
    let changed = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(moment);
    json!({
        "records": set.records,
        "min_changed": changed(set.min_changed),
        "max_changed": changed(set.max_changed),
        "objects": objects,
    })
}
