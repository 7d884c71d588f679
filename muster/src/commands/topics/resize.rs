//! `muster topics resize`: another number of partitions, by copying, while nothing runs. `docs/decisions/resize.md`.
//!
//! Its steps: say that a resize is under way, so that nothing starts; copy; compare; change all names in one append. Broken
//! off at any of them, the old topics are in force, and giving the command again begins anew.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail, ensure};
use chrono::{TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use pipeline::log::copy::{Copying, content, copy};
use pipeline::log::kafka::KafkaLog;
use pipeline::log::names::{Names, UnderWay};
use pipeline::log::{Ends, Log, NewTopic};
use serde_json::{Value, json};

use super::plan::{Move, Plan, chosen};
use crate::args::Resize;
use crate::exit;
use crate::output::{Output, line};
use crate::process::{open_kafka, registry, topics};
use crate::settings::{LogSettings, Settings};

/// Groups of components are called after them.
const GROUPS: &str = "muster.";

/// Resizes, drops what earlier resizes left, or gives one up.
pub(super) async fn run(settings: &Settings, args: &Resize, output: Output) -> Result<u8> {
    let LogSettings::Kafka(kafka) = &settings.log else {
        let text = "nothing to resize: in the embedded log, every topic has one partition and one process";
        output.show(&json!({ "resized": [], "why": text }), || text.to_owned())?;
        return Ok(exit::DONE);
    };
    let log = open_kafka(kafka).await?;
    let names = Names::read(&log).await?;
    if args.drop_old {
        return drop_old(&log, names, args.yes, output).await;
    }
    if args.abandon {
        return abandon(&log, names, output).await;
    }
    let (Some(target), Some(partitions)) = (&args.target, args.partitions) else {
        bail!("say which topics, and how many partitions");
    };
    let plan = Plan::new(chosen(settings, target)?, partitions, &names, &log.topics().await?)?;
    if plan.is_done() {
        let text = format!("nothing to do: they have {partitions} partitions");
        output.show(&json!({ "plan": plan, "resized": [] }), || text)?;
        return Ok(exit::DONE);
    }
    nobody_works(&log).await?;
    if !agreed(&plan.text(), args.yes, output)? {
        return Ok(exit::FAILED);
    }
    let copied = resize(settings, &log, names, &plan).await?;
    output.show(&json!({ "plan": plan, "resized": copied, "set": { "log.kafka.partitions": partitions } }), || {
        let lines = copied.iter().map(|one| {
            let of = |key: &str| one[key].as_u64().unwrap_or(0);
            format!(
                "{}: {} values and {} tombstones",
                one["topic"].as_str().unwrap_or("-"),
                of("values"),
                of("tombstones")
            )
        });
        let next = format!(
            "done. Set `log.kafka.partitions = {partitions}`, start again, and drop the old topics when all is well: \
             `muster topics resize --drop-old`"
        );
        lines.chain([next]).collect::<Vec<_>>().join("\n")
    })?;
    Ok(exit::DONE)
}

/// A component that works would write to topics that nobody reads any more. It is a member of its group for as long as it
/// works, and for a session's length after it was killed.
async fn nobody_works(log: &KafkaLog) -> Result<()> {
    let groups = log.members(GROUPS).await?;
    let lively: Vec<String> = groups.iter().map(|(group, members)| format!("{group} ({members})")).collect();
    ensure!(
        lively.is_empty(),
        "components are at work: {}; stop all processes first (one that was killed is a member of its group for \
         `log.kafka.session` more)",
        lively.join(", ")
    );
    Ok(())
}

/// Shows what would be done and asks, unless told not to.
fn agreed(plan: &str, yes: bool, output: Output) -> Result<bool> {
    if output == Output::Text {
        line(plan)?;
    }
    if yes {
        return Ok(true);
    }
    if output == Output::Json || !std::io::stdin().is_terminal() {
        bail!("nothing was done: say --yes to do it");
    }
    let mut err = std::io::stderr();
    write!(err, "Do it? [y/N] ").and_then(|()| err.flush()).context("standard error")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("standard input")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn resize(settings: &Settings, log: &KafkaLog, names: Names, plan: &Plan) -> Result<Vec<Value>> {
    let wanted = topics(settings);
    // A cluster of which only entity topics are there, say: the record below needs its topic.
    let state: Vec<NewTopic> = wanted.iter().filter(|topic| !super::resizable(&topic.name)).cloned().collect();
    log.create(&state).await?;
    let under_way =
        UnderWay { id: uuid::Uuid::new_v4().to_string(), partitions: plan.partitions, topics: plan.copies() };
    let before = Names { under_way: None, generation: plan.generation, ..names };
    let during = Names { under_way: Some(under_way), ..before.clone() };
    during.write(log).await?;
    // Whatever starts from here on refuses. What started before it could know is seen now.
    let begun = async {
        ours(log, &during).await?;
        nobody_works(log).await
    };
    if let Err(error) = begun.await {
        if Names::read(log).await? == during {
            before.write(log).await?;
        }
        return Err(error);
    }
    let leftovers: Vec<&str> = plan.leftovers.iter().map(String::as_str).collect();
    log.delete(&leftovers).await?;
    let new = |one: &Move| {
        let topic = wanted.iter().find(|topic| topic.name == one.topic);
        let topic = topic.with_context(|| format!("{} isn't in the catalogue", one.topic))?;
        Ok(NewTopic { name: one.to.clone(), partitions: plan.partitions, ..topic.clone() })
    };
    let new: Vec<NewTopic> = plan.topics.iter().map(new).collect::<Result<_>>()?;
    log.create(&new).await?;
    let mut copied = Vec::with_capacity(plan.topics.len());
    let mut ends: Vec<(&Move, Vec<Ends>)> = Vec::with_capacity(plan.topics.len());
    for one in &plan.topics {
        let (held, at) = copied_and_compared(settings, log, one).await?;
        copied.push(held);
        ends.push((one, at));
    }
    register(settings, plan).await?;
    // The names change below. Until then, nothing must have happened.
    nobody_works(log).await?;
    ours(log, &during).await?;
    for (one, at) in ends {
        ensure!(
            log.ends(&one.from).await? == at,
            "something was appended to {} meanwhile: find out what writes there, and give the command again",
            one.from
        );
    }
    let mut retired: BTreeSet<String> = before.retired.clone();
    retired.extend(plan.topics.iter().map(|one| one.from.clone()));
    let mut topics = before.topics.clone();
    topics.extend(plan.copies());
    Names { topics, retired, ..before }.write(log).await?;
    Ok(copied)
}

/// Nobody else has begun a resize at the same moment.
async fn ours(log: &KafkaLog, during: &Names) -> Result<()> {
    ensure!(Names::read(log).await? == *during, "somebody else resizes topics at the same time");
    Ok(())
}

async fn copied_and_compared(settings: &Settings, log: &KafkaLog, one: &Move) -> Result<(Value, Vec<Ends>)> {
    let topic =
        settings.catalogue.topic(&one.topic).with_context(|| format!("{} isn't in the catalogue", one.topic))?;
    let retention = TimeDelta::from_std(topic.delete_retention).unwrap_or(TimeDelta::MAX);
    let of = Copying {
        from: &one.from,
        to: &one.to,
        group_fields: topic.entity().map_or(1, |entity| entity.group_fields),
        tombstones_since: Utc::now() - retention,
    };
    let held: i64 = log.ends(&one.from).await?.iter().map(|bounds| bounds.end.0 - bounds.start.0).sum();
    let bar = progress(&one.to, held.unsigned_abs());
    let (must_hold, ends) = copy(log, &of, &|records| bar.inc(records as u64)).await?;
    bar.set_message("compared");
    let holds = content(log, &one.to).await?;
    bar.finish_and_clear();
    ensure!(
        holds == must_hold,
        "{} holds {} values and {} tombstones, {} should have given it {} and {}: does something else write to it?",
        one.to,
        holds.values,
        holds.tombstones,
        one.from,
        must_hold.values,
        must_hold.tombstones
    );
    Ok((json!({ "topic": one.topic, "in": one.to, "values": holds.values, "tombstones": holds.tombstones }), ends))
}

/// At most so many records are copied: compaction may not have been everywhere yet.
fn progress(topic: &str, most: u64) -> ProgressBar {
    let bar = ProgressBar::new(most);
    let style = ProgressStyle::with_template("{prefix:<28} {bar:30} {human_pos} of at most {human_len} records {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(topic.to_owned());
    bar
}

/// Whoever reads the new topics asks the registry by their names.
async fn register(settings: &Settings, plan: &Plan) -> Result<()> {
    let Some(registry) = registry(settings.registry.as_ref())? else { return Ok(()) };
    for one in &plan.topics {
        // A table's schema is announced when the table has been looked at.
        if let Some(entity) = settings.catalogue.entity(&one.topic).filter(|entity| !entity.generated) {
            registry.register(&format!("{}-value", one.to), &entity.schema).await?;
        }
    }
    Ok(())
}

async fn drop_old(log: &KafkaLog, names: Names, yes: bool, output: Output) -> Result<u8> {
    ensure!(names.under_way.is_none(), "a resize is under way, or was broken off: end it first");
    let retired: Vec<&str> = names.retired.iter().map(String::as_str).collect();
    if retired.is_empty() {
        output.show(&json!({ "dropped": [] }), || "there are no old topics".to_owned())?;
        return Ok(exit::DONE);
    }
    if !agreed(&format!("deleted for good: {}", retired.join(", ")), yes, output)? {
        return Ok(exit::FAILED);
    }
    log.delete(&retired).await?;
    Names { retired: BTreeSet::new(), ..names.clone() }.write(log).await?;
    output.show(&json!({ "dropped": retired }), || format!("dropped {}", retired.join(", ")))?;
    Ok(exit::DONE)
}

async fn abandon(log: &KafkaLog, names: Names, output: Output) -> Result<u8> {
    let copies: Vec<&str> =
        names.under_way.iter().flat_map(|resize| resize.topics.values()).map(String::as_str).collect();
    log.delete(&copies).await?;
    if names.under_way.is_some() {
        Names { under_way: None, ..names.clone() }.write(log).await?;
    }
    output.show(&json!({ "dropped": copies }), || match copies.is_empty() {
        true => "no resize is under way".to_owned(),
        false => format!("given up: the topics stay as they are; dropped {}", copies.join(", ")),
    })?;
    Ok(exit::DONE)
}
