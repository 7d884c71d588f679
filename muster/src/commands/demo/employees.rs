//! The second system of the demonstration: a provider registry's tables, followed into topics, published as snapshots, and
//! exported over HTTP.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use pipeline::snapshot::{Manifest, Store};
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulators::prm::{Changer, Database, Existing, Options, Prm, Row, Table, fill};
use tokio_util::sync::CancellationToken;

use crate::commands::{serve, token};
use crate::process::{environment, open_operations};
use crate::settings::Settings;

/// How many employees the registry has; some thousand rows more in seven other tables.
pub(super) const EMPLOYEES: u64 = 2_000;

/// So many rows are changed.
const CHANGES: usize = 20;

/// A simulated provider registry.
pub(super) struct Employees {
    changer: Changer,
}

/// What the export has answered.
pub(super) struct Exported {
    /// Of employees.
    pub full: usize,
    /// Of those that changed within a day.
    pub depth_1: usize,
}

impl Employees {
    /// Fills a SQLite file.
    pub async fn begin(folder: &Path) -> Result<Self> {
        let prm = Prm::new(Options { employees: EMPLOYEES, now: Utc::now(), ..Options::default() });
        let database = Database::connect(&format!("sqlite://{}/prm.sqlite", folder.display()), None, None).await?;
        fill(&prm, &database, Existing::Refuse, &mut |_| {}).await?;
        Ok(Self { changer: Changer::new(prm, database) })
    }

    /// Changes some rows; answers the employees among them.
    pub async fn change(&mut self) -> Result<Vec<String>> {
        let changed = self.changer.change(CHANGES, None).await?;
        let employees = changed.writes.iter().filter(|write| write.row.table == Table::Employees);
        Ok(employees.filter_map(|write| text(&write.row, "id")).collect())
    }

    /// Asks the export for all employees and for the last day's, and compares them with the tables.
    pub async fn compare(&self, export: &Export, changed: &[String]) -> Result<Exported> {
        let refused = export.get("/api/pis/bulk/employees", "mst_nobodys").await?.0;
        ensure!(refused == StatusCode::UNAUTHORIZED, "a key of nobody's got {refused}");
        let (status, full) = export.get("/api/pis/bulk/employees", &export.key).await?;
        ensure!(status.is_success(), "all employees: {status}");
        let full = employees(&full)?;
        let expected: BTreeMap<String, String> = self
            .changer
            .expected(Table::Employees)
            .filter_map(|row| Some((text(&row, "id")?, text(&row, "status")?)))
            .collect();
        ensure!(full == expected, "the export's employees aren't those of the tables");
        let (status, depth_1) = export.get("/api/pis/bulk/employees?depth=1", &export.key).await?;
        ensure!(status.is_success(), "the last day's employees: {status}");
        let depth_1 = employees(&depth_1)?;
        let missing = changed.iter().filter(|id| !depth_1.contains_key(*id)).count();
        ensure!(missing == 0, "{missing} employees that changed aren't in the last day's");
        Ok(Exported { full: full.len(), depth_1: depth_1.len() })
    }
}

fn text(row: &Row, column: &str) -> Option<String> {
    row.get(column)?.text()
}

/// Ids with statuses; each employee once.
fn employees(answer: &Value) -> Result<BTreeMap<String, String>> {
    let records = answer["data"].as_array().context("an answer without data")?;
    let of = |record: &Value| Some((record["id"].as_str()?.to_owned(), record["status"].as_str()?.to_owned()));
    let found: BTreeMap<String, String> = records.iter().filter_map(of).collect();
    ensure!(found.len() == records.len(), "an employee is there twice, or without id or status");
    Ok(found)
}

/// The export, served by this process.
pub(super) struct Export {
    /// Where, as in `http://127.0.0.1:8081`.
    pub url: String,
    /// A key that may read everything.
    pub key: String,
    client: reqwest::Client,
}

impl Export {
    /// Serves until told to stop.
    pub async fn begin(settings: &Settings, stop: &CancellationToken) -> Result<Self> {
        let export = settings.export.as_ref().context("the demonstration's configuration has no export")?;
        let operations = open_operations(settings).await?;
        let scopes = export.options.resources.values().map(|resource| resource.scope.clone()).collect();
        let issued = token::issue(export, &operations, "demo", scopes, Some(1)).await?;
        let served = serve::start(export, serve::store(settings)?, operations, stop.child_token()).await?;
        let client = reqwest::Client::builder().build()?;
        Ok(Self { url: format!("http://{}", served.address), key: issued.key.expose().to_owned(), client })
    }

    async fn get(&self, path: &str, key: &str) -> Result<(StatusCode, Value)> {
        let request = self.client.get(format!("{}{path}", self.url)).header("api-key", key);
        let answer = request.send().await.context("the export doesn't answer")?;
        let status = answer.status();
        Ok((status, answer.json().await.context("what the export answers")?))
    }

    /// Lines to try.
    pub fn to_try(&self) -> String {
        let (url, key) = (&self.url, &self.key);
        format!(
            "     curl --compressed -H 'api-key: {key}' '{url}/api/pis/bulk/employees?depth=1'\n     \
             curl -H 'api-key: {key}' -H 'accept: application/x-ndjson' {url}/api/pis/bulk/divisions | head -1\n     \
             curl -H 'api-key: {key}' {url}/api/bulk/manifest"
        )
    }
}

/// The newest snapshot.
pub(super) async fn published(settings: &Settings) -> Result<Manifest> {
    let of = settings.snapshots.as_ref().context("the demonstration's configuration has no snapshots")?;
    Store::open_to_read(&of.store, &environment)?.latest(None).await?.context("there is no snapshot")
}

/// How many records it has, and what that takes.
pub(super) fn size(manifest: &Manifest) -> Value {
    let records: u64 = manifest.datasets.values().map(|dataset| dataset.full.records).sum();
    let bytes: u64 = manifest.objects().map(|object| object.bytes).sum();
    json!({ "generation": manifest.generation, "datasets": manifest.datasets.len(), "records": records, "bytes": bytes })
}
