//! The SQL sink alone, from encoded records to committed rows, beside the same rows copied and merged by hand, and beside
//! upserts row by row, in turn on one PostgreSQL.
//!
//! By hand: `COPY` of text into a temporary table, then one `INSERT … ON CONFLICT DO UPDATE`, a transaction for each
//! chunk, into a table with its primary key and nothing of ours. Row by row: one prepared statement, a transaction for
//! as many rows as our batches have. Both are handed what is ready to be sent; ours decodes, judges versions, keeps
//! offsets, and maintains the index of its keys.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use pipeline::change::{Epoch, Incarnation, Version};
use pipeline::log::Offset;
use pipeline::processor::Payload;
use pipeline::sink::{Assigned, Batch, Delivery, Part, Sink};
use pipeline::state::Landmark;
use schemas::records::register::Applicant;
use schemas::{Entity, EntityTopic, Topic, catalogue, content_hash, partition_of, to_avro};
use sinks::sql::{DatabaseUrl, SqlConfig, SqlSink, TableMapping};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::rounds::{Rounds, Spread, rate};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting, people};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "rows", about: "from encoded records to committed rows", run: |setting| Box::pin(run(setting)) };

const PARTITIONS: u32 = 12;
/// What the runner hands over at once.
const BATCH: usize = 5_000;
/// Ours and theirs take turns after so many rows.
const CHUNK: usize = 50_000;
/// So many of them row by row: it takes long enough.
const SINGLE: usize = 5_000;

/// All of the register's applicant but the full name, with their types.
const COLUMNS: [(&str, &str); 20] = [
    ("applicant_id", "uuid"),
    ("first_name", "text"),
    ("last_name", "text"),
    ("ats1_id", "text"),
    ("email_address", "text"),
    ("phone_number", "text"),
    ("registration_date", "date"),
    ("assigned_to", "jsonb"),
    ("country_of_citizenship", "jsonb"),
    ("country_of_residence", "text"),
    ("pr_status", "text"),
    ("nursing_educations", "jsonb"),
    ("bccnm_license_number", "text"),
    ("notes", "text"),
    ("status_id", "uuid"),
    ("new_bccnm_process", "boolean"),
    ("pathway_id", "uuid"),
    ("end_of_journey", "text"),
    ("created_date", "timestamptz"),
    ("updated_date", "timestamptz"),
];

/// What is done to the rows: its name, how often they were edited before, their versions, and the goals beside what is
/// merged by hand and beside what is written row by row.
const PHASES: [(&str, u64, i64, f64, f64); 3] =
    [("new", 0, 1, 0.5, 4.0), ("changed", 1, 2, 0.5, 4.0), ("unchanged", 1, 2, 0.5, 8.0)];

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let rows = setting.amount(1_000_000, CHUNK);
    let mut theirs = PgConnection::connect(&postgres.url()).await?;
    for (name, temporary) in [("by_hand", false), ("one_by_one", false), ("stage", true)] {
        theirs.execute(AssertSqlSafe(table(name, temporary))).await?;
    }
    let mut ours = Ours::open(&postgres.url()).await?;
    let mut findings = Vec::new();
    for (phase, edits, version, by_hand_goal, single_goal) in PHASES {
        // What the phase before has left behind is swept up: else whoever reads a page next does it, and its WAL counts.
        theirs.execute("vacuum").await?;
        theirs.execute("checkpoint").await?;
        let (mut by_hand, mut single) = (Rounds::default(), Rounds::default());
        let mut wal = Vec::new();
        for first in (0..rows).step_by(CHUNK) {
            let people: Vec<Applicant> = (first..first + CHUNK).map(|number| person(number, edits)).collect();
            let batches = ours.batches(&people, version)?;
            let texts: Vec<Vec<Option<String>>> = people.iter().map(texts).collect::<Result<_>>()?;
            drop(people);
            let data = copied(&texts);

            let before = position(&mut theirs).await?;
            let took = ours.apply(&batches, phase).await?;
            wal.push((position(&mut theirs).await? - before) as f64 / batches.len() as f64);
            drop(batches);
            by_hand.ours.push(took);
            by_hand.theirs.push(merged(&mut theirs, &data).await?);
            single.ours.push(took);
            let alone = one_by_one(&mut theirs, &texts[..SINGLE]).await?;
            single.theirs.push(alone * CHUNK as f64 / SINGLE as f64);
        }
        let what = format!("topic -> PostgreSQL, 20 columns, {rows} rows in batches of {BATCH}: {phase}");
        let figure = rate(CHUNK, &by_hand.ours);
        let figures = (figure, rate(CHUNK, &by_hand.theirs));
        let against = format!("COPY and one merge by hand, {CHUNK} rows a transaction");
        let beside = Finding::beside(&what, against, figures, "rows/s", by_hand.ratio());
        findings.push(beside.wants(Goal::RatioAtLeast(by_hand_goal)));
        let figures = (figure, rate(CHUNK, &single.theirs));
        let against = format!("row by row, prepared, {BATCH} rows a transaction");
        let beside = Finding::beside(&what, against, figures, "rows/s", single.ratio());
        findings.push(beside.wants(Goal::RatioAtLeast(single_goal)));
        if phase == "unchanged" {
            let written = Finding::alone("WAL of a batch of which nothing has changed", Spread::of(&wal), "bytes");
            let note = "12 offsets move; the most is after a checkpoint, with a whole page in it";
            findings.push(written.wants(Goal::AtMost(1_000.0)).noting(note));
        }
    }
    Ok(findings)
}

fn person(number: usize, edits: u64) -> Applicant {
    let mut applicant = people::registered(people::applicant(number as u64, edits));
    applicant.notes = Some(format!("called {} times, awaits references", edits + 2));
    applicant
}

/// The sink, as its runner sees it.
struct Ours {
    sink: SqlSink,
    topic: std::sync::Arc<Topic>,
    next: Vec<i64>,
}

impl Ours {
    async fn open(url: &str) -> Result<Self> {
        let topic = catalogue().topic(Applicant::TOPIC).context("no such topic")?.clone();
        let mut mapping = TableMapping::new("applicant", Applicant::TOPIC, "applicants", "applicant_id");
        mapping.columns = Some(COLUMNS.iter().map(|(name, _)| ((*name).to_owned(), (*name).to_owned())).collect());
        let config = SqlConfig::new(DatabaseUrl::new(url), vec![mapping]);
        let sink = SqlSink::new("register", &config, catalogue(), &|_| PARTITIONS);
        let sink = sink.map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        let ours = Self { sink, topic, next: vec![0; PARTITIONS as usize] };
        let all: Vec<Assigned> = (0..PARTITIONS).map(|partition| ours.of(partition)).collect();
        ours.sink.assigned(&all).await?;
        Ok(ours)
    }

    fn of(&self, partition: u32) -> Assigned {
        let incarnation = Incarnation("first".to_owned());
        Assigned { topic: self.topic.clone(), partition, incarnation, epoch: Epoch(1) }
    }

    /// As the runner gathers them.
    fn batches(&mut self, people: &[Applicant], version: i64) -> Result<Vec<Batch>> {
        let EntityTopic { schema, .. } = self.topic.entity().context("no entity")?;
        let mut batches = Vec::new();
        for people in people.chunks(BATCH) {
            let mut parts: Vec<Vec<Delivery>> = vec![Vec::new(); PARTITIONS as usize];
            for person in people {
                let (key, mut body) = (person.key(), Vec::new());
                to_avro(schema, person, &mut body)?;
                let hash = Some(content_hash(schema, &body)?);
                let payload = Some(Payload { schema: schema.clone(), body: body.into() });
                let partition = partition_of(key.as_str().as_bytes(), PARTITIONS) as usize;
                let offset = Offset(self.next[partition] + parts[partition].len() as i64);
                parts[partition].push(Delivery { key, version: Version(version), hash, offset, payload });
            }
            let mut batch = Batch::default();
            for (deliveries, partition) in parts.into_iter().zip(0..) {
                let place = partition as usize;
                let expected = Offset(self.next[place]);
                self.next[place] += deliveries.len() as i64;
                let next = Offset(self.next[place]);
                // As different each time as that of a record.
                let print = next.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let landmark = Some(Landmark { offset: Offset(next.0 - 1), print });
                let of = self.of(partition);
                batch.parts.push(Part { of, deliveries, expected, next, landmark, sweeping: false });
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Answers how long it took.
    async fn apply(&self, batches: &[Batch], phase: &str) -> Result<f64> {
        let began = Instant::now();
        let mut done = 0;
        for batch in batches {
            let counts = self.sink.apply(batch).await?.counts;
            done += if phase == "unchanged" { counts.unchanged } else { counts.delivered };
        }
        let took = began.elapsed().as_secs_f64();
        ensure!(done == CHUNK as u64, "{done} of {CHUNK} rows were {phase}");
        Ok(took)
    }
}

fn table(name: &str, temporary: bool) -> String {
    let columns = COLUMNS.map(|(name, kind)| format!("{name} {kind}")).join(", ");
    match temporary {
        true => format!("create temporary table {name} ({columns}) on commit delete rows"),
        false => format!("create table {name} ({columns}, primary key (applicant_id))"),
    }
}

fn merge(into: &str, source: &str) -> String {
    let all = COLUMNS.map(|(name, _)| name).join(", ");
    let set: Vec<String> = COLUMNS[1..].iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    format!("insert into {into} ({all}) {source} on conflict (applicant_id) do update set {}", set.join(", "))
}

/// The row's columns as PostgreSQL reads them.
fn texts(of: &Applicant) -> Result<Vec<Option<String>>> {
    let json = serde_json::to_value(of)?;
    let text = |name: &str, kind: &str| match (&json[name], kind) {
        (serde_json::Value::Null, _) => None,
        (serde_json::Value::String(text), _) => Some(text.clone()),
        (value, "date") => value.as_i64().map(|day| schemas::Date(day as i32).to_string()),
        (value, "timestamptz") => value.as_i64().map(|at| schemas::Timestamp(at).to_string()),
        (value, _) => Some(value.to_string()),
    };
    Ok(COLUMNS.iter().map(|(name, kind)| text(name, kind)).collect())
}

/// In the text format of `COPY`.
fn copied(rows: &[Vec<Option<String>>]) -> Vec<u8> {
    let mut data = String::new();
    for row in rows {
        for (place, cell) in row.iter().enumerate() {
            if place > 0 {
                data.push('\t');
            }
            match cell {
                None => data.push_str("\\N"),
                Some(cell) => data.push_str(&cell.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")),
            }
        }
        data.push('\n');
    }
    data.into_bytes()
}

async fn merged(connection: &mut PgConnection, data: &[u8]) -> Result<f64> {
    let began = Instant::now();
    let mut transaction = connection.begin().await?;
    let mut copy = transaction.copy_in_raw("copy stage from stdin").await?;
    for part in data.chunks(1 << 20) {
        copy.send(part).await?;
    }
    copy.finish().await?;
    transaction.execute(AssertSqlSafe(merge("by_hand", "select * from stage"))).await?;
    transaction.commit().await?;
    Ok(began.elapsed().as_secs_f64())
}

async fn one_by_one(connection: &mut PgConnection, rows: &[Vec<Option<String>>]) -> Result<f64> {
    let values = COLUMNS.iter().zip(1..).map(|((_, kind), place)| format!("${place}::text::{kind}"));
    let values: Vec<String> = values.collect();
    let statement = merge("one_by_one", &format!("values ({})", values.join(", ")));
    let began = Instant::now();
    for rows in rows.chunks(BATCH) {
        let mut transaction = connection.begin().await?;
        for row in rows {
            let query = sqlx::query(AssertSqlSafe(statement.as_str()));
            let query = row.iter().fold(query, |query, cell| query.bind(cell.as_deref()));
            query.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// How many bytes of WAL there have been.
async fn position(connection: &mut PgConnection) -> Result<i64> {
    let row = connection.fetch_one("select (pg_current_wal_insert_lsn() - '0/0')::bigint").await?;
    Ok(row.try_get(0)?)
}
