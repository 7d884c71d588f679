//! Systems that are read from and written to.

use std::sync::Arc;

use anyhow::Error;
use chrono::Utc;
use pipeline::clock::SystemClock;
use pipeline::snapshot::{Store, StoreError, StoreSettings};
use producers::Probed;
use sinks::sql;

use super::{Finding, Standing, skew};
use crate::process::{environment, open_operations, partitions};
use crate::settings::{HistorySettings, Settings};

/// The operations database, where it is a server: connects, looks, makes nothing.
pub(super) async fn operations(settings: Arc<Settings>) -> Vec<Finding> {
    let what = "operations";
    let HistorySettings::Postgres { options, .. } = &settings.operations.history else { return Vec::new() };
    let schema = &options.schema;
    let probed = match open_operations(&settings).await {
        Ok(operations) => operations.probe().await.map_err(Error::new),
        Err(error) => Err(error),
    };
    match probed {
        Ok(()) => vec![Finding::ok(what, format!("the database answers; history is in its schema {schema}"))],
        Err(error) => {
            let mut finding = Finding::failed(what, &error);
            finding.remedy = Some(
                "work goes on without it, but nobody sees what happened: is it up, and is the way there open?".into(),
            );
            vec![finding]
        }
    }
}

/// The store of the snapshots: lists its generations, writes nothing.
pub(super) async fn snapshots(settings: Arc<Settings>) -> Vec<Finding> {
    let what = "snapshots";
    let Some(of) = &settings.snapshots else { return Vec::new() };
    // Whoever makes snapshots makes the folder, too.
    if let StoreSettings::Local { path } = &of.store
        && !path.exists()
    {
        return vec![Finding::ok(what, format!("{} will be created", path.display()))];
    }
    let listed = match Store::open_to_read(&of.store, &environment) {
        Ok(store) => store.generations().await,
        Err(error) => Err(error),
    };
    match listed {
        Ok(generations) => vec![Finding::ok(what, format!("the store answers, {} generations", generations.len()))],
        Err(StoreError::Refused { reason, hint }) => vec![Finding::new(what, Standing::Wrong, reason, hint)],
        Err(error) => vec![Finding::failed(what, &Error::new(error))],
    }
}

/// One small page of each feed of the source at this place.
pub(super) async fn source(settings: Arc<Settings>, at: usize) -> Vec<Finding> {
    let source = &settings.sources[at];
    let what = format!("source {}", source.name);
    let probes = match source.from.probe(&environment, Arc::new(SystemClock)).await {
        Ok(probes) => probes,
        Err(error) => return vec![Finding::failed(what, &Error::new(error))],
    };
    let mut findings = Vec::new();
    let mut ahead = None;
    for probe in probes {
        let check = format!("{what}, {}", probe.feed);
        match probe.outcome {
            Ok(probed) => {
                ahead = ahead.or(probed.ahead);
                findings.push(feed(check, &probed));
            }
            Err(error) => findings.push(Finding::failed(check, &Error::new(error))),
        }
    }
    findings.extend(skew(&what, ahead));
    findings
}

fn feed(check: String, probed: &Probed) -> Finding {
    let unusable: usize = probed.rejects.iter().map(|(count, _)| count).sum();
    let Some((_, reason)) = probed.rejects.iter().max_by_key(|(count, _)| *count) else {
        return match probed.records {
            0 => Finding::new(check, Standing::Warning, "answers with no records", "is that so over there?"),
            records => Finding::ok(check, format!("answers, {records} records understood")),
        };
    };
    let found = format!("{unusable} of {} records can't be used: {reason}", probed.records);
    let standing = if unusable == probed.records { Standing::Wrong } else { Standing::Warning };
    Finding::new(check, standing, found, "such records become dead letters: have them put right over there")
}

/// The target at this place: connects, compares, writes nothing.
pub(super) async fn sink(settings: Arc<Settings>, at: usize) -> Vec<Finding> {
    let sink = &settings.sinks[at];
    let what = format!("sink {}", sink.name);
    let target = match sink.to.target(&sink.name, &environment, &settings.catalogue, &partitions(&settings)) {
        Ok(target) => target,
        Err(error) => return vec![Finding::failed(what, &Error::new(error))],
    };
    match target.probe().await {
        Ok(probe) => {
            let mut findings = database(&what, &probe);
            findings.extend(skew(&what, probe.now.map(|now| now - Utc::now())));
            findings
        }
        Err(error) => vec![Finding::failed(what, &Error::new(error))],
    }
}

fn database(what: &str, probe: &sql::Probe) -> Vec<Finding> {
    let mut findings = Vec::new();
    for denied in &probe.denied {
        let remedy = "grant it, or connect as another user (docs/deploy.md)";
        findings.push(Finding::new(what, Standing::Wrong, denied, remedy));
    }
    for refusal in &probe.plan.refused {
        findings.push(Finding::new(what, Standing::Wrong, refusal.to_string(), "nothing is altered before this is"));
    }
    let missing = probe.plan.statements.len();
    let connected = format!("{} answers", probe.version);
    findings.insert(
        0,
        match (missing, probe.alter) {
            (0, _) => Finding::ok(what, format!("{connected}, the tables are as they should be")),
            (_, true) => Finding::ok(
                what,
                format!(
                    "{connected}; {missing} statements to run first: `muster plan` shows them, `muster run` runs them"
                ),
            ),
            (_, false) => Finding::new(
                what,
                Standing::Wrong,
                format!("{connected}, the tables lack something: {missing} statements"),
                "look at them with `muster plan`, run them with `muster plan --apply`",
            ),
        },
    );
    findings
}
