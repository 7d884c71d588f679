//! `muster plan`: what databases and the log lack, as statements and topics; with `--apply`, does it. And what the schemas
//! of tables that are followed come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Error, Result};
use pipeline::clock::SystemClock;
use pipeline::log::sqlite::holder;
use pipeline::log::{Log, NewTopic};
use pipeline::source::SourceError;
use pipeline::state::{SchemaStore, StateTable};
use producers::SchemaPlan;
use schemas::Schema;
use serde_json::json;
use sinks::Target;
use sinks::sql::{Plan, Survey};

use super::topics::differences;
use crate::exit;
use crate::output::Output;
use crate::process::{environment, open_log, partitions, topics};
use crate::settings::{LogSettings, Settings};

/// What is to be done to a sink's target, or why that isn't known.
struct Planned {
    sink: String,
    plan: Result<Plan>,
    /// What is there already.
    tables: Result<Vec<Survey>>,
}

/// What is to be done to the log.
#[derive(Default)]
struct Topics {
    /// Created, or to be.
    create: Vec<String>,
    /// Topic and difference: for a person.
    differ: Vec<(String, String)>,
    /// Keys would be looked for elsewhere.
    unusable: bool,
    /// Why nothing is known.
    unknown: Option<String>,
    /// What tables' topics were written with so far, oldest first.
    announced: Announced,
}

type Announced = BTreeMap<String, Vec<Arc<Schema>>>;

/// What the feeds of a source would write, or why that isn't known.
struct Read {
    source: String,
    schemas: Result<Vec<SchemaPlan>>,
}

/// Shows the plan, or carries it out. Exit code 1: something stands in the way; 3: something doesn't answer.
pub async fn run(settings: &Settings, apply: bool, output: Output) -> Result<u8> {
    let (topics, failed) = match log(settings, apply).await {
        Ok(topics) => (topics, None),
        Err(error) => (Topics { unknown: Some(format!("{error:#}")), ..Topics::default() }, Some(error)),
    };
    let mut planned = Vec::with_capacity(settings.sinks.len());
    for sink in &settings.sinks {
        let target =
            sink.to.target(&sink.name, &environment, &settings.catalogue, &partitions(settings)).map_err(Error::new);
        let (plan, tables) = match target {
            Ok(target) => look(&target, apply).await,
            Err(error) => (Err(error), Ok(Vec::new())),
        };
        planned.push(Planned { sink: sink.name.clone(), plan, tables });
    }
    let read = read(settings, &topics.announced).await;
    output.show(&object(&topics, &read, &planned, apply), || text(&topics, &read, &planned, apply))?;

    let of_tables = planned.iter().filter_map(|planned| planned.tables.as_ref().err());
    let errors = failed.iter().chain(planned.iter().filter_map(|planned| planned.plan.as_ref().err())).chain(of_tables);
    let codes: Vec<u8> = errors.map(exit::code_of).collect();
    let codes: Vec<u8> = codes.into_iter().chain(read.iter().flat_map(codes_of)).collect();
    let refused = planned.iter().any(|planned| planned.plan.as_ref().is_ok_and(|plan| !plan.refused.is_empty()));
    Ok(if codes.contains(&exit::CONFIG) {
        exit::CONFIG
    } else if refused || topics.unusable || codes.contains(&exit::FAILED) {
        exit::FAILED
    } else {
        codes.first().copied().unwrap_or(exit::DONE)
    })
}

/// What sources would write whose schemas aren't built in.
async fn read(settings: &Settings, announced: &Announced) -> Vec<Read> {
    let mut read = Vec::new();
    let announced = |topic: &str| announced.get(topic).cloned().unwrap_or_default();
    for source in settings.sources.iter().filter(|source| !source.from.own_topics().is_empty()) {
        let schemas = source.from.schema_plans(&environment, &announced, Arc::new(SystemClock)).await;
        read.push(Read { source: source.name.clone(), schemas: schemas.map_err(Error::new) });
    }
    read
}

fn codes_of(read: &Read) -> Vec<u8> {
    match &read.schemas {
        Err(error) => vec![exit::code_of(error)],
        Ok(schemas) => {
            let waits = |error: &SourceError| matches!(error, SourceError::Unavailable { .. });
            let errors = schemas.iter().filter_map(|plan| plan.schema.as_ref().err());
            errors.map(|error| if waits(error) { exit::UNREACHABLE } else { exit::FAILED }).collect()
        }
    }
}

/// What is there is looked at before anything is done.
async fn look(target: &Target, apply: bool) -> (Result<Plan>, Result<Vec<Survey>>) {
    let plan = match target.plan().await.map_err(Error::new) {
        Ok(plan) => plan,
        Err(error) => return (Err(error), Ok(Vec::new())),
    };
    let tables = target.survey().await.map_err(Error::new);
    match apply {
        true => (target.apply_plan().await.map_err(Error::new), tables),
        false => (Ok(plan), tables),
    }
}

async fn log(settings: &Settings, apply: bool) -> Result<Topics> {
    let wanted = topics(settings);
    if let LogSettings::Sqlite { path } = &settings.log {
        if let Some(holder) = holder(path) {
            let unknown = format!("process {} holds the embedded log, and has created its topics", holder.pid);
            return Ok(Topics { unknown: Some(unknown), ..Topics::default() });
        }
        // To open it would make it.
        if !apply && !path.exists() {
            return Ok(Topics { create: wanted.into_iter().map(|topic| topic.name).collect(), ..Topics::default() });
        }
    }
    let (log, embedded) = open_log(settings).await?;
    let mut compared = compare(&*log, &wanted, apply).await;
    if let Ok(topics) = &mut compared {
        topics.announced = announced(settings, &log).await?;
    }
    drop(log);
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    compared
}

async fn announced(settings: &Settings, log: &Arc<dyn Log>) -> Result<Announced> {
    const SCHEMAS: &str = "muster.schemas";
    let mut announced = Announced::new();
    let own: Vec<_> = settings.sources.iter().flat_map(|source| source.from.own_topics()).collect();
    if own.is_empty() || !log.topics().await?.iter().any(|topic| topic.name == SCHEMAS) {
        return Ok(announced);
    }
    let store = SchemaStore::new(StateTable::open(Arc::clone(log), SCHEMAS).await?, None);
    for topic in own {
        let schemas = store.announced(&log.own_name(&topic.name)).await?;
        announced.insert(topic.name, schemas);
    }
    Ok(announced)
}

async fn compare(log: &dyn Log, wanted: &[NewTopic], apply: bool) -> Result<Topics> {
    let there = log.topics().await?;
    let mut topics = Topics::default();
    for topic in wanted {
        match there.iter().find(|found| found.name == topic.name) {
            None => topics.create.push(topic.name.clone()),
            Some(found) => {
                topics.unusable |= found.partitions != topic.partitions;
                let differences = differences(topic, Some(found));
                topics.differ.extend(differences.into_iter().map(|difference| (topic.name.clone(), difference)));
            }
        }
    }
    if apply && !topics.create.is_empty() {
        let missing: Vec<NewTopic> =
            wanted.iter().filter(|topic| topics.create.contains(&topic.name)).cloned().collect();
        log.create(&missing).await?;
    }
    Ok(topics)
}

fn object(topics: &Topics, read: &[Read], planned: &[Planned], apply: bool) -> serde_json::Value {
    let sinks: serde_json::Map<String, serde_json::Value> = planned
        .iter()
        .map(|Planned { sink, plan, tables }| {
            let mut object = match plan {
                Ok(plan) => {
                    let refused: Vec<_> = plan
                        .refused
                        .iter()
                        .map(|refusal| json!({ "table": refusal.table, "column": refusal.column, "reason": refusal.reason }))
                        .collect();
                    json!({ "statements": plan.statements, "refused": refused })
                }
                Err(error) => json!({ "error": format!("{error:#}") }),
            };
            match tables {
                Ok(tables) => object["tables"] = tables.iter().map(surveyed).collect(),
                Err(error) => object["tables_unknown"] = json!(format!("{error:#}")),
            }
            (sink.clone(), object)
        })
        .collect();
    let differ: Vec<_> =
        topics.differ.iter().map(|(topic, difference)| json!({ "topic": topic, "difference": difference })).collect();
    let topics = json!({ "create": topics.create, "differ": differ, "unknown": topics.unknown });
    let sources: serde_json::Map<String, serde_json::Value> = read.iter().map(schemas_of).collect();
    json!({ "applied": apply, "topics": topics, "sources": sources, "sinks": sinks })
}

fn schemas_of(read: &Read) -> (String, serde_json::Value) {
    let object = match &read.schemas {
        Err(error) => json!({ "error": format!("{error:#}") }),
        Ok(schemas) => schemas
            .iter()
            .map(|plan| match &plan.schema {
                Ok(schema) => {
                    let text: serde_json::Value = serde_json::from_str(schema.text()).unwrap_or_default();
                    json!({ "feed": plan.feed, "topic": plan.topic, "schema": text, "compatible_with": plan.announced })
                }
                Err(error) => json!({ "feed": plan.feed, "topic": plan.topic, "error": error.to_string() }),
            })
            .collect(),
    };
    (read.source.clone(), object)
}

fn told_of(read: &Read) -> Vec<String> {
    let schemas = match &read.schemas {
        Ok(schemas) => schemas,
        Err(error) => return vec![format!("source {}: {error:#}", read.source)],
    };
    let mut lines = Vec::new();
    for plan in schemas {
        match &plan.schema {
            Err(error) => lines.push(format!("source {}, {}: {error}", read.source, plan.feed)),
            Ok(schema) => {
                let fits = match plan.announced {
                    0 => "nothing was written to it yet".to_owned(),
                    1 => "fits what it was written with so far".to_owned(),
                    count => format!("fits all {count} schemas that it was written with so far"),
                };
                lines.push(format!("source {}, {}: topic {}, {fits}", read.source, plan.feed, plan.topic));
                lines.extend(schema.fields().iter().map(|field| {
                    let null = if field.nullable { ", or null" } else { "" };
                    format!("    {}: {}{null}", field.name, field.kind)
                }));
            }
        }
    }
    lines
}

fn text(topics: &Topics, read: &[Read], planned: &[Planned], apply: bool) -> String {
    let mut lines = Vec::new();
    let done = if apply { "created" } else { "to create" };
    match &topics.unknown {
        Some(why) => lines.push(format!("topics: {why}")),
        None if topics.create.is_empty() => lines.push("topics: all there".to_owned()),
        None => lines.push(format!("topics {done}: {}", topics.create.join(", "))),
    }
    lines.extend(topics.differ.iter().map(|(topic, difference)| format!("    {topic} differs: {difference}")));
    for read in read {
        lines.push(String::new());
        lines.extend(told_of(read));
    }
    for Planned { sink, plan, tables } in planned {
        lines.push(String::new());
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                lines.push(format!("sink {sink}: {error:#}"));
                continue;
            }
        };
        lines.push(match (plan.is_empty(), plan.refused.is_empty()) {
            (true, _) => format!("sink {sink}: nothing to do"),
            (_, false) => format!("sink {sink}: nothing is done before this is mended"),
            (_, true) if apply => format!("sink {sink}: {} statements run", plan.statements.len()),
            (_, true) => format!("sink {sink}: {} statements to run (`muster plan --apply`)", plan.statements.len()),
        });
        lines.extend(plan.refused.iter().map(|refusal| format!("    {refusal}")));
        lines.extend(plan.statements.iter().map(|statement| format!("{statement};")));
        match tables {
            Ok(tables) => lines.extend(tables.iter().flat_map(told)),
            Err(error) => lines.push(format!("what the tables hold isn't known: {error:#}")),
        }
    }
    lines.join("\n")
}

fn surveyed(survey: &Survey) -> serde_json::Value {
    json!({
        "entity": survey.entity,
        "table": survey.table,
        "rows": survey.rows,
        "ours": survey.ours,
        "others": survey.others(),
        "theirs": survey.theirs,
        "recognised_by": survey.recognised_by,
        "ambiguous_values": survey.ambiguous_values,
        "ambiguous_rows": survey.ambiguous_rows,
        "waiting": survey.waiting,
        "kept_up_to_date": survey.kept_up_to_date,
        "set_on_insert": survey.set_on_insert,
        "never_written": survey.never_written,
    })
}

fn told(survey: &Survey) -> Vec<String> {
    let Survey { table, entity, rows, ours, theirs, ambiguous_values, ambiguous_rows, .. } = survey;
    let mut lines =
        vec![format!("{table} ({entity}): {rows} rows, {ours} of them Muster's, {} of others", survey.others())];
    if *theirs > 0 {
        lines.push(format!("    {theirs} are never adopted: they fit `theirs`"));
    }
    let by = survey.recognised_by.join(", ");
    lines.push(match (by.is_empty(), ambiguous_values) {
        (true, _) => "    no row of others is adopted".to_owned(),
        (_, 0) => format!("    rows of others are adopted by {by}, which is different in each"),
        (..) => format!(
            "    rows of others are adopted by {by}, but {ambiguous_rows} share {ambiguous_values} values of it: what would be one of them is rejected"
        ),
    });
    for (what, columns) in [
        ("kept up to date", &survey.kept_up_to_date),
        ("set when a row is inserted", &survey.set_on_insert),
        ("never written", &survey.never_written),
    ] {
        if !columns.is_empty() {
            lines.push(format!("    {what}: {}", columns.join(", ")));
        }
    }
    lines.extend(survey.waiting.iter().map(|(code, count)| format!("    {count} changes wait: {code}")));
    lines
}
