//! `--repair`: whoever writes a topic is asked to state the differing keys again. Nobody else appends to it.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::Utc;
use pipeline::change::Version;
use pipeline::state::{Answer, Request, RequestKind};

use super::ComponentReport;
use crate::commands::{ask_owners, writer};
use crate::settings::Settings;

/// A request is a record of a topic that takes 1 MiB.
const KEYS_PER_REQUEST: usize = 2_000;

/// Asks for everything that differs, each request answered by its owner. `None`: nothing differs. What a feed differs
/// in was mended when it was compared.
pub async fn repair(settings: &Settings, reports: &[ComponentReport]) -> Result<Option<Vec<Answer>>> {
    let is_feed = |report: &&ComponentReport| settings.catalogue.topic(&report.component).is_some();
    let of_targets: Vec<&ComponentReport> = reports.iter().filter(|report| !is_feed(report)).collect();
    let requests = requests(&of_targets);
    if requests.is_empty() {
        let mended = reports.iter().any(|report| report.entities.iter().any(|entity| entity.tally.differing() > 0));
        return Ok(mended.then(Vec::new));
    }
    Ok(Some(ask_owners(settings, requests).await?))
}

fn requests(reports: &[&ComponentReport]) -> Vec<Request> {
    // Two targets may lack the same key, and hold different versions of it.
    let mut wanted: BTreeMap<(&str, u32), BTreeMap<&str, Option<Version>>> = BTreeMap::new();
    for entity in reports.iter().flat_map(|report| &report.entities) {
        for differing in &entity.keys {
            let keys = wanted.entry((&entity.topic, differing.partition)).or_default();
            let above = keys.entry(&differing.key).or_default();
            *above = (*above).max(differing.difference.above());
        }
    }
    let mut requests = Vec::new();
    for ((topic, partition), keys) in wanted {
        let keys: Vec<(String, Option<Version>)> =
            keys.into_iter().map(|(key, above)| (key.to_owned(), above)).collect();
        for keys in keys.chunks(KEYS_PER_REQUEST) {
            requests.push(Request {
                id: uuid::Uuid::new_v4().to_string(),
                target: writer(topic),
                kind: RequestKind::Repair { topic: topic.to_owned(), partition, keys: keys.to_vec() },
                at: Utc::now(),
                answer: None,
            });
        }
    }
    requests
}
