//! The folder and the log: can they be used, and are the topics there as the catalogue wants them?

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use pipeline::log::kafka::KafkaLog;
use pipeline::log::sqlite::holder;
use pipeline::log::{Log, TopicInfo, TopicPartition};

use super::{Finding, ONE_QUESTION, Standing};
use crate::commands::topics::differences;
use crate::process::{kafka_options, open_log, topics};
use crate::settings::{KafkaSettings, LogSettings, Settings};

/// Tries to write where the folder is or will be; leaves nothing behind.
pub(super) fn folder(folder: &Path) -> Finding {
    let there = folder.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let Some(nearest) = there.into_iter().find(|path| path.exists()) else {
        return Finding::new("folder", Standing::Wrong, format!("{} can't be made", folder.display()), "set `folder`");
    };
    let shown = folder.display();
    match tempfile::tempfile_in(nearest) {
        Ok(_) if nearest == folder => Finding::ok("folder", format!("{shown} can be written")),
        Ok(_) => Finding::ok("folder", format!("{shown} isn't there yet and can be made")),
        Err(error) => {
            let found = format!("{} can't be written: {}", nearest.display(), error.kind());
            Finding::new("folder", Standing::Wrong, found, "give it to the user that runs muster, or set `folder`")
        }
    }
}

/// The log, its topics, and what may be done with them.
pub(super) async fn check(settings: Arc<Settings>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ended = match &settings.log {
        LogSettings::Sqlite { path } => embedded(&settings, path, &mut findings).await,
        LogSettings::Kafka(kafka) => cluster(&settings, kafka, &mut findings).await,
    };
    if let Err(error) = ended {
        findings.push(Finding::failed("log", &error));
    }
    findings
}

async fn embedded(settings: &Settings, path: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let shown = path.display();
    if let Some(holder) = holder(path) {
        let takes = if holder.socket.is_some() { ", and takes commands" } else { "" };
        findings.push(Finding::ok("log", format!("{shown} is held by process {}{takes}", holder.pid)));
        return Ok(());
    }
    if !path.exists() {
        findings.push(Finding::ok("log", format!("{shown} isn't there yet: `muster run` makes it")));
        return Ok(());
    }
    let (log, embedded) = open_log(settings).await?;
    let there = log.topics().await;
    drop(log);
    if let Some(embedded) = embedded {
        embedded.close().await;
    }
    let there = there?;
    findings.push(Finding::ok("log", format!("{shown} can be opened, and nobody holds it")));
    compare(settings, &there, findings);
    Ok(())
}

async fn cluster(settings: &Settings, kafka: &KafkaSettings, findings: &mut Vec<Finding>) -> Result<()> {
    let mut options = kafka_options(kafka)?;
    options.limits.request_within = ONE_QUESTION;
    options.limits.patience = ONE_QUESTION;
    let log = KafkaLog::connect(options).await?;
    findings.push(Finding::ok("log", format!("Kafka at {} answers", kafka.bootstrap)));
    let there = log.topics().await?;
    compare(settings, &there, findings);
    match permissions(&log, settings, &there).await {
        Ok(tried) if tried > 0 => {
            let found = format!("{tried} topics can be read; writing shows when it is done");
            findings.push(Finding::ok("log permissions", found));
        }
        Ok(_) => {}
        Err(error) => findings.push(Finding::failed("log permissions", &error)),
    }
    Ok(())
}

/// Reads every topic that is there at its end, and asks where the groups stand. Answers how many topics were read.
async fn permissions(log: &KafkaLog, settings: &Settings, there: &[TopicInfo]) -> Result<usize> {
    let wanted = topics(settings);
    let mut from = Vec::new();
    for topic in wanted.iter().filter(|topic| there.iter().any(|found| found.name == topic.name)) {
        let ends = log.ends(&topic.name).await?;
        let at = |partition| TopicPartition { topic: topic.name.as_str().into(), partition };
        from.extend(ends.first().map(|ends| (at(0), ends.end)));
    }
    if from.is_empty() {
        return Ok(0);
    }
    let mut reader = log.read(&from).await?;
    let mut left: Vec<&TopicPartition> = from.iter().map(|(at, _)| at).collect();
    while !left.is_empty() {
        let chunk = reader.next().await?;
        left.retain(|at| !chunk.at_end.iter().any(|(reached, _)| reached == *at));
    }
    let groups = settings.processors.iter().chain(settings.sinks.iter().map(|sink| &sink.name));
    let of: Vec<TopicPartition> = from.iter().take(1).map(|(at, _)| at.clone()).collect();
    for group in groups {
        log.committed(&format!("muster.{group}"), &of).await?;
    }
    Ok(from.len())
}

fn compare(settings: &Settings, there: &[TopicInfo], findings: &mut Vec<Finding>) {
    let wanted = topics(settings);
    let mut missing = 0;
    let mut alike = 0;
    for topic in &wanted {
        let Some(found) = there.iter().find(|found| found.name == topic.name) else {
            missing += 1;
            continue;
        };
        let differences = differences(topic, Some(found));
        if differences.is_empty() {
            alike += 1;
            continue;
        }
        // Keys would be looked for elsewhere; the rest is the operator's choice.
        let standing = if found.partitions == topic.partitions { Standing::Warning } else { Standing::Wrong };
        let remedy = "`muster topics` shows what is wanted; alter the topic's settings on the brokers";
        findings.push(Finding::new(format!("topic {}", topic.name), standing, differences.join("; "), remedy));
    }
    let found = match missing {
        0 => format!("{alike} of {} as the catalogue wants them", wanted.len()),
        _ => format!(
            "{alike} of {} as the catalogue wants them, {missing} missing: `muster run` or `muster topics create` \
             creates them",
            wanted.len()
        ),
    };
    findings.push(Finding::ok("topics", found));
}
