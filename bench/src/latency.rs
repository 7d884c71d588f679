//! From a change to its row: 2,000 changes a second, as the emitter makes them, through Kafka into PostgreSQL.
//!
//! Open loop: the clock starts when a change was to be made, whether or not the emitter got round to it. It ends when a
//! second connection sees the partition's offset, which the sink moves in the rows' own transaction, behind the change.
//! So the time of the emitter (hash, memory, headers), the append, the fetch, the sink and the commit is in it, and up to
//! 2 ms of looking.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::Utc;
use pipeline::change::{Asked, Change};
use pipeline::clock::SystemClock;
use pipeline::emitter::{AT_ONCE, Emitter, EmitterContext, Stamp};
use pipeline::log::Log;
use pipeline::log::kafka::{KafkaLog, KafkaOptions};
use pipeline::processor::Outputs;
use pipeline::state::State;
use schemas::Entity;
use schemas::records::register;
use sqlx::{Connection, PgConnection, Row};

use crate::rounds::Spread;
use crate::site::{Process, Site};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting, people};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "latency", about: "from a change to its row", run: |setting| Box::pin(run(setting)) };

const A_SECOND: usize = 2_000;
/// How often the planned changes are looked up.
const TICK: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_millis(1);

/// When changes were planned that end before an offset of a partition, in order.
type Planned = BTreeMap<u32, VecDeque<(i64, Instant)>>;

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let (seconds, rounds) = (setting.amount(15, 2), setting.amount(5, 1));
    let site = Site::new(&setting, "latency", &configuration(&kafka.bootstrap(), &postgres.url()))?;
    site.give(&["topics", "create"]).await?;
    let mut muster = site.start(&["run"])?;
    let mut emitter = emitter(&kafka.bootstrap(), &setting).await?;
    let all: Vec<u32> = (0..emitter.partitions()).collect();
    emitter.own(&all).await?;

    // Every change is of a row that is there, and no row is changed twice in a round.
    let people = seconds * A_SECOND;
    for first in (0..people).step_by(1_000) {
        let changes = (first..(first + 1_000).min(people)).map(|number| change(number, 0));
        emitter.emit(changes.collect::<Result<_>>()?, &stamp()).await?;
    }
    delivered(&mut muster, &emitter, &postgres.url()).await?;

    let (mut p50, mut p99, mut appended_p50) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=rounds {
        let (took, appended) = round_of(&mut emitter, &postgres.url(), seconds, round + 1).await?;
        delivered(&mut muster, &emitter, &postgres.url()).await?;
        if round > 0 || rounds == 1 {
            p50.push(percentile(&took, 50));
            p99.push(percentile(&took, 99));
            appended_p50.push(percentile(&appended, 50));
        }
    }
    let what = format!("change -> row, {A_SECOND} changes/s for {seconds} s, Kafka and PostgreSQL here");
    Ok(vec![
        Finding::alone(format!("{what}, p50"), Spread::of(&p50), "ms").wants(Goal::AtMost(20.0)),
        Finding::alone(format!("{what}, p99"), Spread::of(&p99), "ms").wants(Goal::AtMost(100.0)),
        Finding::alone(
            "of that until the emitter's call had returned (append confirmed, memory written), p50",
            Spread::of(&appended_p50),
            "ms",
        ),
    ])
}

fn configuration(bootstrap: &str, database: &str) -> String {
    format!(
        "processors = []\n[log.kafka]\nbootstrap = [\"{bootstrap}\"]\nreplication = 1\n\
         [sinks.register.to.sql]\nurl = \"{database}\"\n\
         [sinks.register.to.sql.tables.applicant]\ntable = \"ien_applicants\"\nkey = \"id\"\n\
         columns = {{ {} }}\n",
        COLUMNS.map(|(field, column)| format!("{field} = \"{column}\"")).join(", ")
    )
}

/// The register's own, but for the status, which would wait for its row.
const COLUMNS: [(&str, &str); 19] = [
    ("applicant_id", "id"),
    ("name", "name"),
    ("first_name", "first_name"),
    ("last_name", "last_name"),
    ("ats1_id", "ats1_id"),
    ("email_address", "email_address"),
    ("phone_number", "phone_number"),
    ("registration_date", "registration_date"),
    ("assigned_to", "assigned_to"),
    ("country_of_citizenship", "country_of_citizenship"),
    ("country_of_residence", "country_of_residence"),
    ("pr_status", "pr_status"),
    ("nursing_educations", "nursing_educations"),
    ("bccnm_license_number", "bccnm_license_number"),
    ("notes", "notes"),
    ("new_bccnm_process", "new_bccnm_process"),
    ("pathway_id", "pathway_id"),
    ("created_date", "created_date"),
    ("updated_date", "updated_date"),
];

async fn emitter(bootstrap: &str, setting: &Setting) -> Result<Emitter> {
    let log: Arc<dyn Log> = Arc::new(KafkaLog::connect(KafkaOptions::plaintext(bootstrap)).await?);
    let state = State::open(Arc::clone(&log), "bench", &[], None).await?;
    let folder = Some(setting.scratch.join("memories").into());
    let context = EmitterContext { log, state, clock: Arc::new(SystemClock), folder, at_once: AT_ONCE };
    let topic = schemas::catalogue().topics().iter().find(|topic| topic.name == register::Applicant::TOPIC);
    Ok(Emitter::open(context, "applicants", Arc::clone(topic.context("no such topic")?)).await?)
}

fn change(number: usize, edits: usize) -> Result<Change> {
    let applicant = people::registered(people::applicant(number as u64, edits as u64));
    let mut outputs = Outputs::default();
    let put = outputs.put(&applicant);
    let made = put.ok().and_then(|()| outputs.changes.pop());
    Ok(made.context("an applicant that can't be encoded")?.1)
}

fn stamp() -> Stamp {
    Stamp { captured: Utc::now(), asked: Asked::Changes, run: "bench".into() }
}

/// Makes changes as planned and answers how long each took, in ms, and how long until the emitter had done its part.
async fn round_of(emitter: &mut Emitter, database: &str, seconds: usize, edits: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut changes = Vec::with_capacity(seconds * A_SECOND);
    for number in 0..seconds * A_SECOND {
        changes.push(change(number, edits)?);
    }
    let planned = Arc::new(Mutex::new(Planned::new()));
    let (looking, count) = (Arc::clone(&planned), changes.len());
    let watcher = tokio::spawn(watch(database.to_owned(), looking, count));

    let mut appended = Vec::with_capacity(count);
    let began = Instant::now();
    let mut changes = changes.into_iter();
    let mut made = 0;
    while made < count {
        let due = ((began.elapsed().as_secs_f64() * A_SECOND as f64) as usize).min(count);
        if due == made {
            tokio::time::sleep(TICK).await;
            continue;
        }
        let batch: Vec<Change> = changes.by_ref().take(due - made).collect();
        let partitions: Vec<u32> = batch.iter().map(|change| emitter.partition_of(change.key())).collect();
        emitter.emit(batch, &stamp()).await?;
        let ends: BTreeMap<u32, i64> = emitter.ends().into_iter().map(|(at, _, end)| (at.partition, end.0)).collect();
        let now = Instant::now();
        let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, partition) in partitions.into_iter().enumerate() {
            let at = began + Duration::from_secs_f64((made + place) as f64 / A_SECOND as f64);
            planned.entry(partition).or_default().push_back((ends[&partition], at));
            appended.push((now - at).as_secs_f64() * 1000.0);
        }
        made = due;
    }
    Ok((watcher.await??, appended))
}

/// Looks for offsets that have moved until all changes were seen.
async fn watch(database: String, planned: Arc<Mutex<Planned>>, count: usize) -> Result<Vec<f64>> {
    let mut connection = PgConnection::connect(&database).await?;
    let mut took = Vec::with_capacity(count);
    let began = Instant::now();
    while took.len() < count {
        if began.elapsed() > Duration::from_secs(180) {
            bail!("only {} of {count} changes were seen", took.len());
        }
        let reached = offsets(&mut connection).await?;
        let now = Instant::now();
        {
            let mut planned = planned.lock().unwrap_or_else(PoisonError::into_inner);
            for (partition, next) in reached {
                let Some(waiting) = planned.get_mut(&partition) else { continue };
                while let Some((end, at)) = waiting.front()
                    && *end <= next
                {
                    took.push((now - *at).as_secs_f64() * 1000.0);
                    waiting.pop_front();
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(took)
}

async fn offsets(connection: &mut PgConnection) -> Result<BTreeMap<u32, i64>> {
    let rows = sqlx::query("select partition, next from muster.offsets where topic = $1")
        .bind(register::Applicant::TOPIC)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((u32::try_from(row.try_get::<i32, _>(0)?)?, row.try_get(1)?))).collect()
}

/// Waits until the register has everything.
async fn delivered(muster: &mut Process, emitter: &Emitter, database: &str) -> Result<()> {
    let ends: BTreeMap<u32, i64> = emitter.ends().into_iter().map(|(at, _, end)| (at.partition, end.0)).collect();
    let all_there = async || {
        let Ok(mut connection) = PgConnection::connect(database).await else { return Ok(None) };
        // The table isn't there before the sink is.
        let Ok(reached) = offsets(&mut connection).await else { return Ok(None) };
        Ok((ends.iter().all(|(partition, end)| *end == 0 || reached.get(partition) == Some(end))).then_some(()))
    };
    muster.until(Duration::from_secs(120), Duration::from_millis(100), all_there).await
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}
