//! `muster plan`: what databases and the log lack, as statements and topics; with `--apply`, does it.

use anyhow::{Error, Result};
use pipeline::log::sqlite::holder;
use pipeline::log::{Log, NewTopic};
use serde_json::json;
use sinks::sql::Plan;

use super::topics::differences;
use crate::exit;
use crate::output::Output;
use crate::process::{environment, open_log, partitions, topics};
use crate::settings::{LogSettings, Settings};

/// What is to be done to a sink's target, or why that isn't known.
struct Planned {
    sink: String,
    plan: Result<Plan>,
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
}

/// Shows the plan, or carries it out. Exit code 1: something stands in the way; 3: something doesn't answer.
pub async fn run(settings: &Settings, apply: bool, output: Output) -> Result<u8> {
    let (topics, failed) = match log(settings, apply).await {
        Ok(topics) => (topics, None),
        Err(error) => (Topics { unknown: Some(format!("{error:#}")), ..Topics::default() }, Some(error)),
    };
    let mut planned = Vec::with_capacity(settings.sinks.len());
    for sink in &settings.sinks {
        let plan = match sink.to.target(&sink.name, &environment, &partitions(&settings.log)) {
            Ok(target) if apply => target.apply_plan().await.map_err(Error::new),
            Ok(target) => target.plan().await.map_err(Error::new),
            Err(error) => Err(Error::new(error)),
        };
        planned.push(Planned { sink: sink.name.clone(), plan });
    }
    output.show(&object(&topics, &planned, apply), || text(&topics, &planned, apply))?;

    let errors = failed.iter().chain(planned.iter().filter_map(|planned| planned.plan.as_ref().err()));
    let codes: Vec<u8> = errors.map(exit::code_of).collect();
    let refused = planned.iter().any(|planned| planned.plan.as_ref().is_ok_and(|plan| !plan.refused.is_empty()));
    Ok(if codes.contains(&exit::CONFIG) {
        exit::CONFIG
    } else if refused || topics.unusable || codes.contains(&exit::FAILED) {
        exit::FAILED
    } else {
        codes.first().copied().unwrap_or(exit::DONE)
    })
}

async fn log(settings: &Settings, apply: bool) -> Result<Topics> {
    let wanted = topics(&settings.log);
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
    let compared = compare(&*log, &wanted, apply).await;
    drop(log);
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    compared
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

fn object(topics: &Topics, planned: &[Planned], apply: bool) -> serde_json::Value {
    let sinks: serde_json::Map<String, serde_json::Value> = planned
        .iter()
        .map(|Planned { sink, plan }| {
            let object = match plan {
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
            (sink.clone(), object)
        })
        .collect();
    let differ: Vec<_> =
        topics.differ.iter().map(|(topic, difference)| json!({ "topic": topic, "difference": difference })).collect();
    let topics = json!({ "create": topics.create, "differ": differ, "unknown": topics.unknown });
    json!({ "applied": apply, "topics": topics, "sinks": sinks })
}

fn text(topics: &Topics, planned: &[Planned], apply: bool) -> String {
    let mut lines = Vec::new();
    let done = if apply { "created" } else { "to create" };
    match &topics.unknown {
        Some(why) => lines.push(format!("topics: {why}")),
        None if topics.create.is_empty() => lines.push("topics: all there".to_owned()),
        None => lines.push(format!("topics {done}: {}", topics.create.join(", "))),
    }
    lines.extend(topics.differ.iter().map(|(topic, difference)| format!("    {topic} differs: {difference}")));
    for Planned { sink, plan } in planned {
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
    }
    lines.join("\n")
}
