//! `muster topics`: what the catalogue wants, what the log has, and how they differ.

mod plan;
mod resize;

use anyhow::{Result, bail};
use pipeline::log::sqlite::holder;
use pipeline::log::{NewTopic, TopicInfo};
use serde_json::json;

use crate::args::TopicsAction;
use crate::exit;
use crate::output::{Output, table};
use crate::process::{open_log, topics};
use crate::settings::{LogSettings, Settings};

/// Shows or creates topics. Exit code 1: some are missing or differ.
pub async fn run(settings: &Settings, action: Option<&TopicsAction>, output: Output) -> Result<u8> {
    if let Some(TopicsAction::Resize(args)) = action {
        return resize::run(settings, args, output).await;
    }
    if let LogSettings::Sqlite { path } = &settings.log
        && let Some(holder) = holder(path)
    {
        bail!("process {} holds the embedded log: stop it first, or look at its /metrics", holder.pid);
    }
    let (log, embedded) = open_log(settings).await?;
    let wanted = topics(settings);
    if action == Some(&TopicsAction::Create) {
        log.create(&wanted).await?;
    }
    let there = log.topics().await?;
    let differences: Vec<(&NewTopic, Vec<String>)> =
        wanted.iter().map(|topic| (topic, differences(topic, there.iter().find(|t| t.name == topic.name)))).collect();
    let differs = differences.iter().any(|(_, differences)| !differences.is_empty());
    let object: Vec<_> = differences
        .iter()
        .map(|(topic, differences)| {
            let info = settings.catalogue.topic(&topic.name);
            let entity = info.and_then(|info| info.entity());
            json!({
                "topic": topic.name,
                "on_the_log": log.own_name(&topic.name),
                "partitions": topic.partitions,
                "key": entity.map(|entity| entity.key_fields.join("|")),
                "partition_key": entity.map(|entity| entity.key_fields[..entity.group_fields].join("|")),
                "schema": entity.map(|entity| entity.schema.name()),
                "settings": topic.settings,
                "differences": differences,
            })
        })
        .collect();
    output.show(&object, || {
        let rows: Vec<Vec<String>> = differences
            .iter()
            .map(|(topic, differences)| {
                let entity = settings.catalogue.topic(&topic.name).and_then(|info| info.entity());
                vec![
                    match log.own_name(&topic.name) {
                        own if own == topic.name.as_str() => topic.name.clone(),
                        own => format!("{} (in {own})", topic.name),
                    },
                    topic.partitions.to_string(),
                    entity.map_or_else(|| "-".into(), |entity| entity.key_fields.join("|")),
                    entity.map_or_else(|| "-".into(), |entity| entity.key_fields[..entity.group_fields].join("|")),
                    if differences.is_empty() { "as it should be".into() } else { differences.join("; ") },
                ]
            })
            .collect();
        table(&["topic", "partitions", "key", "partition key", "on the log"], &rows)
    })?;
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    Ok(if differs { exit::FAILED } else { exit::DONE })
}

/// Whether a topic's number of partitions may change. Claims keep theirs for ever: their offsets are epochs, which only rise.
pub(crate) fn resizable(name: &str) -> bool {
    !name.starts_with("muster.")
}

/// What is different on the log, and what to do about it.
pub(super) fn differences(wanted: &NewTopic, found: Option<&TopicInfo>) -> Vec<String> {
    let Some(found) = found else { return vec!["missing: `muster topics create` creates it".into()] };
    let mut differences = Vec::new();
    if resizable(&wanted.name) && found.partitions != wanted.partitions {
        differences.push(format!(
            "has {} partitions: set `log.kafka.partitions` to that, or stop everything and `muster topics resize {} --partitions {}`",
            found.partitions, wanted.name, wanted.partitions
        ));
    }
    if found.replication < wanted.replication {
        differences.push(format!("has {} copies, wanted are {}", found.replication, wanted.replication));
    }
    for (name, value) in &wanted.settings {
        match found.settings.get(name) {
            Some(there) if there == value => {}
            Some(there) => differences.push(format!("{name} is {there}, wanted is {value}")),
            None => {}
        }
    }
    differences
}
