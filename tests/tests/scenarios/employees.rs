//! A provider registry's tables in PostgreSQL, followed through Kafka, published as snapshots and exported: what comes out is what
//! the tables hold, or held while they were read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use services::S3;
use simulators::prm::{Action, Cell, Changer, Database, Existing, Options, Prm, Row, Table, fill};

use super::support::kafka::{Cluster, log, registry};
use super::support::program::Running;
use super::support::site::{Parts, Site};
use super::support::until;

const EMPLOYEES: u64 = 1_500;

/// Longer than any transaction of these stories stays open.
const OVERLAP: Duration = Duration::from_secs(2);

/// The tables, as the export calls them, with their entities.
const TABLES: [(Table, &str, &str); 8] = [
    (Table::Employees, "employees", "employee"),
    (Table::Parties, "parties", "party"),
    (Table::Divisions, "divisions", "division"),
    (Table::LegalEntities, "legal_entities", "legal_entity"),
    (Table::EmployeeRoles, "employee_roles", "employee_role"),
    (Table::HealthcareServices, "healthcare_services", "healthcare_service"),
    (Table::ContractDivisions, "contract_divisions", "contract_division"),
    (Table::DeclarationsLimit, "declarations_limit", "declarations_limit"),
];

/// Who wrote a row isn't exported.
const LEFT_OUT: [&str; 2] = ["inserted_by", "updated_by"];

/// Where snapshots are.
enum Where {
    Folder,
    Bucket(S3),
}

struct Story {
    _cluster: Cluster,
    _store: Where,
    site: Site,
    changer: Changer,
    export: u16,
    key: String,
    client: reqwest::Client,
}

impl Story {
    async fn begin(name: &str, store: Where) -> Result<Option<Self>> {
        let Some(cluster) = Cluster::find(name).await? else { return Ok(None) };
        let prm = Prm::new(Options { employees: EMPLOYEES, now: Utc::now(), ..Options::default() });
        let database = Database::connect(&cluster.database.url, Some("prm"), None).await?;
        fill(&prm, &database, Existing::Refuse, &mut |_| {}).await?;
        let changer = Changer::new(prm, database);
        let site = Site::new(Parts::default()).await?;
        let export = services::free_port()?;
        site.configure(|_| configuration(&site, &cluster, &store, export))?;
        std::fs::write(site.path("pepper"), "a secret of this site alone")?;
        std::fs::write(site.path("secret-key"), S3::SECRET_KEY)?;
        std::fs::write(site.path("access-key"), S3::ACCESS_KEY)?;
        let resources = TABLES.iter().flat_map(|(_, name, _)| ["--resource", *name]);
        let create: Vec<&str> = ["token", "create", "--label", "reader"].into_iter().chain(resources).collect();
        let token = site.ask(&create).await?;
        let key = token["key"].as_str().context("a key")?.to_owned();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Some(Self { _cluster: cluster, _store: store, site, changer, export, key, client }))
    }

    async fn get(&self, path: &str) -> Result<(Value, u64)> {
        let url = format!("http://127.0.0.1:{}{path}", self.export);
        let answer = self.client.get(url).header("api-key", &self.key).send().await?;
        let status = answer.status();
        let generation = answer.headers().get("snapshot-generation").and_then(|value| value.to_str().ok());
        let generation = generation.and_then(|number| number.parse().ok()).unwrap_or_default();
        ensure!(status.is_success(), "{path}: {status}: {}", answer.text().await?);
        Ok((answer.json().await?, generation))
    }

    /// Makes a snapshot, waits until it is served, and answers its manifest.
    async fn snapshot(&self) -> Result<Value> {
        self.site.ask(&["snapshot", "run"]).await?;
        let manifest = self.site.ask(&["snapshot", "show"]).await?;
        let wanted = manifest["generation"].as_u64().context("a generation")?;
        until("the export has the new snapshot", || async {
            let (_, served) = self.get("/api/pis/bulk/employees?depth=1").await?;
            ensure!(served >= wanted, "still {served}, not {wanted}");
            Ok(())
        })
        .await?;
        Ok(manifest)
    }

    /// The export's records of a table, by key.
    async fn exported(&self, table: Table, path: &str) -> Result<BTreeMap<String, Value>> {
        let (answer, _) = self.get(path).await?;
        let records = answer["data"].as_array().with_context(|| format!("{path}: no data"))?;
        let mut found = BTreeMap::new();
        for record in records {
            let parts: Option<Vec<&str>> = table.key().iter().map(|part| record[*part].as_str()).collect();
            let key = parts.with_context(|| format!("{path}: a record without key"))?.join("|");
            ensure!(found.insert(key, record.clone()).is_none(), "{path}: a record is there twice");
        }
        Ok(found)
    }

    /// Every resource is its table.
    async fn compare(&self) -> Result<()> {
        for (table, name, _) in TABLES {
            let exported = self.exported(table, &format!("/api/pis/bulk/{name}")).await?;
            let expected: BTreeMap<String, Value> =
                self.changer.expected(table).map(|row| (key(&row), record(&row))).collect();
            ensure!(exported.len() == expected.len(), "{name}: {} records of {}", exported.len(), expected.len());
            for (key, expected) in &expected {
                ensure!(exported.get(key) == Some(expected), "{name}: {key}: {:?}, not {expected}", exported.get(key));
            }
        }
        Ok(())
    }
}

fn configuration(site: &Site, cluster: &Cluster, store: &Where, export: u16) -> String {
    let folder = site.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let (url, overlap) = (&cluster.database.url, OVERLAP.as_secs());
    let store = match store {
        Where::Folder => format!("store.local = {{ path = \"{folder}/snapshots\" }}"),
        Where::Bucket(s3) => format!(
            "store.s3 = {{ bucket = \"{}\", endpoint = \"{}\", access_key = {{ file = \"{folder}/access-key\" }}, \
             secret_key = {{ file = \"{folder}/secret-key\" }} }}",
            S3::BUCKET,
            s3.url()
        ),
    };
    let mut text = format!(
        "folder = \"{folder}/data\"\nprocessors = []\n[retry]\nfirst = \"100ms\"\nmost = \"1s\"\n{}\n{}\n\
         [sources.prm]\nevery = \"200ms\"\nvanished = \"delete\"\nvanished_max_share = 1.0\nreconcile = {{ every = \"1d\" }}\n\
         [sources.prm.from.tables]\nurl = \"{url}\"\nschema = \"prm\"\nsystem = \"prm\"\ntimestamp_zone = \"UTC\"\n\
         [export]\nlisten = \"127.0.0.1:{export}\"\npepper = {{ file = \"{folder}/pepper\" }}\nrequests_per_minute = 100000\n\
         [snapshots]\nmax_depth = 3\nmaterialise = \"none\"\nsort_memory = \"8MiB\"\n{store}\n",
        log(&cluster.kafka),
        registry(&cluster.registry),
    );
    for (table, name, entity) in TABLES {
        let key = table.key().iter().map(|part| format!("{part:?}")).collect::<Vec<_>>().join(", ");
        let change = if table == Table::ContractDivisions { "changed_at" } else { "updated_at" };
        text.push_str(&format!(
            "[sources.prm.from.tables.tables.{entity}]\ntable = \"{name}\"\nkey = [{key}]\nchange = \"{change}\"\n\
             overlap = \"{overlap}s\"\nleave_out = [\"inserted_by\", \"updated_by\"]\n\
             [snapshots.datasets.{name}]\ntopic = \"prm.{entity}\"\nchanged_by = [\"{change}\"]\n"
        ));
    }
    text
}

fn key(row: &Row) -> String {
    let parts = row.table.key().iter().map(|part| row.get(part).and_then(Cell::text).unwrap_or_default());
    parts.collect::<Vec<_>>().join("|")
}

/// A row as the export shows it.
fn record(row: &Row) -> Value {
    let mut record = Map::new();
    for (column, cell) in row.table.columns().iter().zip(&row.cells) {
        if LEFT_OUT.contains(&column.name) {
            continue;
        }
        let value = match cell {
            Cell::Null => continue,
            Cell::Bool(truth) => json!(truth),
            Cell::Int(number) => json!(number),
            Cell::Text(text) => json!(text),
            Cell::Uuid(id) => json!(id.to_string()),
            Cell::Date(day) => json!(day.to_string()),
            Cell::Time(time) | Cell::Instant(time) => json!(clock(*time)),
            Cell::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        record.insert(column.name.to_owned(), value);
    }
    Value::Object(record)
}

/// Milliseconds, or microseconds where there are any.
fn clock(time: NaiveDateTime) -> String {
    let whole = time.and_utc().timestamp_subsec_micros().is_multiple_of(1_000);
    time.format(if whole { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tables_hold_is_exported() -> Result<()> {
    let Some(mut story) = Story::begin("employees", Where::Folder).await? else { return Ok(()) };
    told(&mut story).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go, to build a server with S3's protocol: cargo xtask ci --all"]
async fn what_the_tables_hold_is_exported_from_a_bucket() -> Result<()> {
    let Some(s3) = S3::own().await? else { return Ok(()) };
    let Some(mut story) = Story::begin("employees in a bucket", Where::Bucket(s3)).await? else { return Ok(()) };
    told(&mut story).await
}

/// Loaded, changed, changed while it is published; at rest it is the tables' own contents.
async fn told(story: &mut Story) -> Result<()> {
    story.site.give(&["run", "--once"]).await?.ok()?;
    // It follows, publishes and exports.
    let mut running = story.site.start()?;
    running.during(story.snapshot()).await?;
    story.compare().await?;

    // A transaction that stays open while later ones are committed and read.
    let late = story.changer.begin(20, None).await?;
    let between = story.changer.change(30, None).await?;
    let late = story.changer.commit(late).await?;
    ensure!(late.at < between.at, "what is committed late bears the earlier time");
    let changed: BTreeSet<String> = between
        .writes
        .iter()
        .chain(&late.writes)
        .filter(|write| write.row.table == Table::Employees && write.action != Action::Delete)
        .map(|write| key(&write.row))
        .collect();
    settles(story, &mut running).await?;
    let newest = story.exported(Table::Employees, "/api/pis/bulk/employees?depth=1").await?;
    let missing: Vec<&String> = changed.iter().filter(|id| !newest.contains_key(*id)).collect();
    ensure!(missing.is_empty(), "changed, and not in depth 1: {missing:?}");
    let all = story.exported(Table::Employees, "/api/pis/bulk/employees").await?;
    let deeper = story.exported(Table::Employees, "/api/pis/bulk/employees?depth=2").await?;
    ensure!(newest.keys().all(|id| deeper.contains_key(id)) && deeper.keys().all(|id| all.contains_key(id)));

    every_row_stood_so(story).await?;
    settles(story, &mut running).await?;
    story.site.ask(&["snapshot", "verify", "--topic"]).await?;
    let (code, took) = running.terminate().await?;
    ensure!(code == 0 && took < Duration::from_secs(10), "exit code {code} after {took:?}");
    Ok(())
}

/// Snapshots are made until they hold what the tables hold: rows that have gone are found by two comparisons.
async fn settles(story: &Story, running: &mut Running) -> Result<()> {
    let settled = until("the export equals the tables", || async {
        story.site.ask(&["sync", "prm", "--full"]).await?;
        story.snapshot().await?;
        story.compare().await
    });
    running.during(settled).await
}

/// How a row stood from some moment between these two on; `None`: it had gone.
struct Version {
    begun: DateTime<Utc>,
    committed: DateTime<Utc>,
    row: Option<Value>,
}

/// Changes go on while snapshots are made: each row of each is as it stood at some moment between the dataset's date and the
/// snapshot's publication.
async fn every_row_stood_so(story: &mut Story) -> Result<()> {
    let began = DateTime::<Utc>::MIN_UTC;
    let mut history: BTreeMap<String, Vec<Version>> = story
        .changer
        .expected(Table::Employees)
        .map(|row| (key(&row), vec![Version { begun: began, committed: began, row: Some(record(&row)) }]))
        .collect();
    for _ in 0..3 {
        let published = AtomicBool::new(false);
        let (site, changer) = (&story.site, &mut story.changer);
        let changing = async {
            while !published.load(Ordering::Relaxed) {
                let begun = Utc::now();
                let changed = changer.change(5, None).await?;
                let committed = Utc::now();
                for write in changed.writes.iter().filter(|write| write.row.table == Table::Employees) {
                    let row = (write.action != Action::Delete).then(|| record(&write.row));
                    history.entry(key(&write.row)).or_default().push(Version { begun, committed, row });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        let publishing = async {
            let made = site.ask(&["snapshot", "run"]).await;
            published.store(true, Ordering::Relaxed);
            made
        };
        let (changed, made) = tokio::join!(changing, publishing);
        changed.and(made)?;
    }
    let manifest = story.site.ask(&["snapshot", "show"]).await?;
    let wanted = manifest["generation"].as_u64().context("a generation")?;
    until("the export has the last snapshot", || async {
        let (_, served) = story.get("/api/pis/bulk/employees?depth=1").await?;
        ensure!(served == wanted, "still {served}, not {wanted}");
        Ok(())
    })
    .await?;
    let moment = |value: &Value| -> Result<DateTime<Utc>> { Ok(value.as_str().context("a time")?.parse()?) };
    let from = moment(&manifest["datasets"]["employees"]["date"])? - TimeDelta::milliseconds(1);
    let to = moment(&manifest["published"])?;
    ensure!(from < to, "complete up to {from}, published {to}");
    let exported = story.exported(Table::Employees, "/api/pis/bulk/employees").await?;
    for (key, versions) in &history {
        let shown = exported.get(key);
        let stood = versions.iter().enumerate().any(|(place, version)| {
            let until = versions.get(place + 1).map_or(DateTime::<Utc>::MAX_UTC, |next| next.committed);
            version.row.as_ref() == shown && version.begun <= to && until >= from
        });
        // Who came in between may be there or not.
        let came_later = shown.is_none() && versions[0].committed >= from;
        ensure!(stood || came_later, "{key} never stood so between {from} and {to}: {shown:?}");
    }
    ensure!(exported.keys().all(|key| history.contains_key(key)), "somebody is there who never was");
    Ok(())
}
