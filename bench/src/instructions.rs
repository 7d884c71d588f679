//! Instructions per record, counted by callgrind: the same on any machine and however busy it is, so that a regression
//! shows.
//!
//! This program runs itself under valgrind, once for some records and once for more; the difference is theirs alone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline::change::{Asked, Change, Epoch, Incarnation, Version};
use pipeline::clock::SystemClock;
use pipeline::emitter::{self, Emitter, EmitterContext, Stamp};
use pipeline::log::{Log, Offset};
use pipeline::processor::{Payload, Row};
use pipeline::run::AnyProcessor;
use pipeline::sink::{Assigned, Batch, Delivery, Part};
use pipeline::state::State;
use schemas::records::{ats, register};
use schemas::{Entity, Key, Topic};
use sinks::sql::{DatabaseUrl, SqlConfig, SqlSink, TableMapping};

use crate::plain_log::PlainLog;
use crate::rounds::Spread;
use crate::table::Finding;
use crate::{Bench, Setting, people};

/// See the file.
pub const BENCH: Bench = Bench {
    name: "instructions",
    about: "instructions per record, by callgrind",
    run: |setting| Box::pin(run(setting)),
};

/// What this program is told when it runs itself.
pub const HIDDEN: &str = "--under-valgrind";

const PARTS: [(&str, &str); 4] = [
    ("decode", "decode of an applicant, checked, to values"),
    ("emit", "emit of a changed applicant: hash, look-up, version, headers, memory; an append that costs nothing"),
    ("derive", "derive of an applicant's register rows: decode, the processor, encode"),
    ("rows", "cells of a register applicant's row, from its bytes"),
];

/// Records of one emit or batch, as a page of the source has them.
const AT_ONCE: usize = 250;

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let (few, many) = (AT_ONCE * 2, AT_ONCE * setting.amount(10, 4));
    let mut findings = Vec::new();
    for (part, what) in PARTS {
        let what = format!("instructions: {what}");
        let Some(fewer) = counted(part, few)? else {
            findings.push(Finding::missing(what, "there is no valgrind on this machine"));
            continue;
        };
        let more = counted(part, many)?.context("valgrind has gone")?;
        let mut each = (more - fewer) as f64 / (many - few) as f64;
        if part == "emit" {
            // Without what it takes to make changes that differ.
            let changes = (counted("changes", many)?, counted("changes", few)?);
            if let (Some(more), Some(fewer)) = changes {
                each -= (more - fewer) as f64 / (many - few) as f64;
            }
        }
        findings.push(Finding::alone(what, Spread::exactly(each), "instructions/record"));
    }
    Ok(findings)
}

/// Instructions of a whole run; `None`: there is no valgrind.
fn counted(part: &str, records: usize) -> Result<Option<i64>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(std::env::current_exe()?).args([HIDDEN, part, &records.to_string()]);
    let output = match valgrind.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("starting valgrind"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}\n{said}", output.status);
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).context("valgrind counted nothing")?;
    Ok(Some(line.1.trim().parse()?))
}

/// Does one part for so many records; how long it takes doesn't matter here.
pub async fn under_valgrind(part: &str, records: usize, scratch: &Path) -> Result<()> {
    match part {
        "decode" => decode(records),
        "changes" => (0..records / AT_ONCE).try_for_each(|edits| {
            std::hint::black_box(changes(edits)?);
            Ok(())
        }),
        "emit" => emit(records, scratch).await,
        "derive" => derive(records),
        "rows" => rows(records),
        _ => bail!("{part}?"),
    }
}

/// Avro bodies with their keys.
type Bodies = Vec<(Key, Bytes)>;

/// So many bodies of a topic's entity; a hundred different ones.
fn bodies<E: Entity>(records: usize, of: impl Fn(u64) -> E) -> Result<(Arc<Topic>, Bodies)> {
    let topic = schemas::catalogue().topics().iter().find(|topic| topic.name == E::TOPIC).context("no such topic")?;
    let schema = &topic.entity().context("no entity")?.schema;
    let made = (0..100).map(|number| {
        let entity = of(number);
        let mut body = Vec::new();
        schemas::to_avro(schema, &entity, &mut body)?;
        Ok((entity.key(), Bytes::from(body)))
    });
    let made: Vec<(Key, Bytes)> = made.collect::<Result<_>>()?;
    Ok((Arc::clone(topic), (0..records).map(|number| made[number % made.len()].clone()).collect()))
}

fn decode(records: usize) -> Result<()> {
    let (topic, bodies) = bodies(records, |number| people::applicant(number, 0))?;
    let schema = &topic.entity().context("no entity")?.schema;
    for (_, body) in &bodies {
        std::hint::black_box(schemas::values(schema, body)?);
    }
    Ok(())
}

async fn emit(records: usize, scratch: &Path) -> Result<()> {
    let log: Arc<dyn Log> = Arc::new(PlainLog::new(schemas::catalogue()));
    let state = State::open(Arc::clone(&log), "bench", &[], None).await?;
    let context = EmitterContext {
        log,
        state,
        clock: Arc::new(SystemClock),
        folder: Some(scratch.to_path_buf().into()),
        at_once: emitter::AT_ONCE,
    };
    let topics = schemas::catalogue().topics();
    let topic = topics.iter().find(|topic| topic.name == ats::Applicant::TOPIC).context("no such topic")?;
    let mut emitter = Emitter::open(context, "ats.applicants", Arc::clone(topic)).await?;
    let all: Vec<u32> = (0..emitter.partitions()).collect();
    emitter.own(&all).await?;
    let stamp = Stamp { captured: DateTime::<Utc>::default(), asked: Asked::Changes, run: "bench".into() };
    for edits in 0..records / AT_ONCE {
        let emitted = emitter.emit(changes(edits)?, &stamp).await?;
        ensure!(emitted.counts.delivered == AT_ONCE as u64, "changes were taken for none");
    }
    Ok(())
}

/// The same applicants once more, each one changed.
fn changes(edits: usize) -> Result<Vec<Change>> {
    let schema = &schemas::catalogue().entity(ats::Applicant::TOPIC).context("no such topic")?.schema;
    let mut changes = Vec::with_capacity(AT_ONCE);
    for number in 0..AT_ONCE as u64 {
        let applicant = people::applicant(number, edits as u64);
        let mut body = Vec::with_capacity(1024);
        schemas::to_avro(schema, &applicant, &mut body)?;
        changes.push(Change::Put { key: applicant.key(), body: body.into(), time: Some(DateTime::<Utc>::default()) });
    }
    Ok(changes)
}

fn derive(records: usize) -> Result<()> {
    let processor: Arc<dyn AnyProcessor> = Arc::new(processors::Applicants::default());
    let (topic, bodies) = bodies(records, |number| people::applicant(number, 0))?;
    let (milestones, masters) = bodies_of_milestones()?;
    let row = |topic: &Topic, (key, body): (Key, Bytes)| {
        let schema = Arc::clone(&topic.entity().context("no entity")?.schema);
        Ok(Row { topic: topic.name.as_str().into(), key, payload: Payload { schema, body }, time: None })
    };
    let tables: Vec<Row> = masters.into_iter().map(|master| row(&milestones, master)).collect::<Result<_>>()?;
    let tables = processor.arrange(&tables, &mut Vec::new());
    for body in bodies {
        let key = body.0.clone();
        let row = row(&topic, body)?;
        let outputs = processor.derive(&key, &[&row], tables.as_ref());
        let outputs = outputs.map_err(|reject| anyhow::anyhow!("{}", reject.reason.text))?;
        ensure!(outputs.changes.len() > 1, "an applicant without milestones");
    }
    Ok(())
}

/// The master of milestones, so that the processor finds what applicants have reached.
fn bodies_of_milestones() -> Result<(Arc<Topic>, Bodies)> {
    bodies(people::MILESTONES, |number| ats::Milestone {
        id: people::milestone_id(usize::try_from(number).unwrap_or_default()),
        name: format!("Milestone {number}"),
        category: Some("Licensing".to_owned()),
        process_related: Some(true),
    })
}

fn rows(records: usize) -> Result<()> {
    let (topic, bodies) = bodies(records, |number| people::registered(people::applicant(number, 0)))?;
    let mapping = TableMapping::new("applicant", register::Applicant::TOPIC, "ien_applicants", "applicant_id");
    let url = DatabaseUrl::new("postgres://muster@127.0.0.1:1/never-connected");
    let sink = SqlSink::new("register", &SqlConfig::new(url, vec![mapping]), schemas::catalogue(), &|_| 1);
    let sink = sink.map_err(|problems| anyhow::anyhow!("{}", problems.join("; ")))?;
    let schema = Arc::clone(&topic.entity().context("no entity")?.schema);
    let of = Assigned { topic, partition: 0, incarnation: Incarnation("bench".into()), epoch: Epoch(1) };
    for bodies in bodies.chunks(AT_ONCE) {
        let deliveries = bodies.iter().enumerate().map(|(place, (key, body))| Delivery {
            key: key.clone(),
            version: Version(1),
            hash: None,
            offset: Offset(place as i64),
            payload: Some(Payload { schema: Arc::clone(&schema), body: body.clone() }),
        });
        let next = Offset(bodies.len() as i64);
        let part = Part {
            of: of.clone(),
            deliveries: deliveries.collect(),
            expected: Offset(0),
            next,
            landmark: None,
            sweeping: false,
        };
        ensure!(sink.cells(&Batch { parts: vec![part] }) > bodies.len(), "rows without cells");
    }
    Ok(())
}
