//! What a resize would do: which topics go together, what they are called now and then. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use pipeline::log::TopicInfo;
use pipeline::log::names::Names;
use schemas::Profile;
use serde::Serialize;

use super::resizable;
use crate::settings::Settings;

/// What a resize would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// How many partitions each is to have.
    pub partitions: u32,
    /// The number that the copies are named with.
    pub generation: u32,
    /// The topics, by the catalogue's names.
    pub topics: Vec<Move>,
    /// Half-made copies of an earlier try, which are deleted.
    pub leftovers: Vec<String>,
}

/// One topic's move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Move {
    /// What the catalogue calls it.
    pub topic: String,
    /// What it lies in now.
    pub from: String,
    /// How many partitions that has.
    pub partitions: u32,
    /// What it will lie in.
    pub to: String,
}

impl Plan {
    /// Whether all have that number already.
    pub fn is_done(&self) -> bool {
        self.leftovers.is_empty() && self.topics.iter().all(|one| one.partitions == self.partitions)
    }

    pub fn new(topics: BTreeSet<String>, partitions: u32, names: &Names, there: &[TopicInfo]) -> Result<Self> {
        let seen = topics.iter().filter_map(|topic| latest_generation(topic, there)).max().unwrap_or(1);
        let generation = seen.max(names.generation).max(1) + 1;
        let mut moves = Vec::with_capacity(topics.len());
        for topic in topics {
            let from = names.topics.get(&topic).unwrap_or(&topic).clone();
            let Some(found) = there.iter().find(|found| found.name == from) else {
                bail!("topic {from} doesn't exist: there is nothing to copy");
            };
            let to = format!("{topic}.v{generation}");
            moves.push(Move { topic, from, partitions: found.partitions, to });
        }
        let leftovers = names.under_way.iter().flat_map(|resize| resize.topics.values().cloned()).collect();
        Ok(Self { partitions, generation, topics: moves, leftovers })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .topics
            .iter()
            .map(|one| {
                let Move { topic, from, partitions, to } = one;
                format!("{topic}: {from} ({partitions} partitions) is copied to {to} ({} partitions)", self.partitions)
            })
            .collect();
        lines.extend(self.leftovers.iter().map(|topic| format!("{topic}: deleted, an earlier try left it half done")));
        lines.push(format!(
            "then all names change at once; the old topics stay. Set `log.kafka.partitions = {}` before anything starts again",
            self.partitions
        ));
        lines.join("\n")
    }

    /// The catalogue's names -> the copies'.
    pub fn copies(&self) -> BTreeMap<String, String> {
        self.topics.iter().map(|one| (one.topic.clone(), one.to.clone())).collect()
    }
}

/// The highest generation of a topic that the log has.
fn latest_generation(topic: &str, there: &[TopicInfo]) -> Option<u32> {
    let prefix = format!("{topic}.v");
    there.iter().filter_map(|found| found.name.strip_prefix(&prefix)?.parse::<u32>().ok()).max()
}

/// The topics that must have one number of partitions with what is named: a topic, an entity or a component.
pub(super) fn chosen(settings: &Settings, target: &str) -> Result<BTreeSet<String>> {
    let named = named(settings, target)?;
    let mut chosen: BTreeSet<String> = named.into_iter().filter(|topic| is_spread(settings, topic)).collect();
    if chosen.is_empty() {
        bail!("{target} has one partition always: its keys are one group");
    }
    // A processor finds its outputs' memory in the partitions of its inputs.
    loop {
        let before = chosen.len();
        for processor in processors::all(&settings.catalogue) {
            let together = [processor.inputs(), processor.outputs()].concat();
            let spread: Vec<&str> = together.into_iter().filter(|topic| is_spread(settings, topic)).collect();
            if spread.iter().any(|topic| chosen.contains(*topic)) {
                chosen.extend(spread.iter().map(|topic| (*topic).to_owned()));
            }
        }
        if chosen.len() == before {
            return Ok(chosen);
        }
    }
}

fn is_spread(settings: &Settings, topic: &str) -> bool {
    resizable(topic) && settings.catalogue.topic(topic).is_some_and(|topic| topic.partitions(Profile::Production) > 1)
}

fn named(settings: &Settings, target: &str) -> Result<Vec<String>> {
    let catalogue = settings.catalogue.topics();
    let entity = |topic: &schemas::Topic| topic.entity().is_some_and(|entity| entity.entity == target);
    let topics: Vec<String> = catalogue
        .iter()
        .filter(|topic| resizable(&topic.name) && (topic.name == target || entity(topic)))
        .map(|topic| topic.name.clone())
        .collect();
    if !topics.is_empty() {
        return Ok(topics);
    }
    let owned = |topics: Vec<&str>| topics.into_iter().map(str::to_owned).collect::<Vec<_>>();
    if let Some(processor) =
        processors::all(&settings.catalogue).into_iter().find(|processor| processor.name() == target)
    {
        return Ok(owned([processor.inputs(), processor.outputs()].concat()));
    }
    if let Some(source) = settings.sources.iter().find(|source| source.name == target) {
        return Ok(source.from.topics());
    }
    if let Some(sink) = settings.sinks.iter().find(|sink| sink.name == target) {
        return Ok(owned(sink.to.topics()));
    }
    let known = catalogue.iter().map(|topic| topic.name.as_str()).filter(|topic| is_spread(settings, topic));
    let known: Vec<&str> = known.collect();
    let nearest = pipeline::config::nearest(target, known.iter().copied());
    let nearest = nearest.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
    bail!("there is no topic and no component called `{target}`.{nearest} There are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline::log::names::UnderWay;

    use super::*;

    fn settings() -> Settings {
        let example = include_str!("../../../../docker/muster.toml");
        pipeline::config::read("muster.toml", example, Settings::read).unwrap().unwrap()
    }

    fn info(name: &str, partitions: u32) -> TopicInfo {
        TopicInfo { name: name.into(), partitions, replication: 1, settings: BTreeMap::new() }
    }

    #[test]
    fn topics_that_a_processor_joins_go_together_whatever_is_named() {
        let all = ["ats.applicant", "register.applicant", "register.milestone"];
        for named in ["register.milestone", "applicant", "applicants", "ats", "register"] {
            assert_eq!(chosen(&settings(), named).unwrap().into_iter().collect::<Vec<_>>(), all, "{named}");
        }
        let refused = chosen(&settings(), "ats.reason").unwrap_err().to_string();
        assert_eq!(refused, "ats.reason has one partition always: its keys are one group");
        let refused = chosen(&settings(), "ats.aplicant").unwrap_err().to_string();
        assert!(refused.contains("Did you mean `ats.applicant`?"), "{refused}");
    }

    #[test]
    fn a_copy_never_gets_a_name_that_was_used_before() {
        let there = [info("ats.applicant", 12), info("ats.applicant.v2", 24), info("ats.applicant.v3", 48)];
        let copies = [("ats.applicant".to_owned(), "ats.applicant.v3".to_owned())];
        let names = Names {
            topics: [("ats.applicant".to_owned(), "ats.applicant.v2".to_owned())].into(),
            under_way: Some(UnderWay { id: "1".into(), partitions: 48, topics: copies.into() }),
            ..Names::default()
        };
        let plan = Plan::new(["ats.applicant".to_owned()].into(), 24, &names, &there).unwrap();
        let Move { from, partitions, to, .. } = &plan.topics[0];
        assert_eq!((from.as_str(), *partitions, to.as_str()), ("ats.applicant.v2", 24, "ats.applicant.v4"));
        assert_eq!(plan.leftovers, ["ats.applicant.v3"]);
        assert!(!plan.is_done(), "what was left half done must go");
        // Deleted since.
        let names = Names { generation: 7, ..names };
        let plan = Plan::new(["ats.applicant".to_owned()].into(), 24, &names, &there).unwrap();
        assert_eq!(plan.topics[0].to, "ats.applicant.v8");
    }
}
