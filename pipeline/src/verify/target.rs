//! A target against the topic that fills it, in three passes: the topic's keys into the index; the latest record of
//! each key to the target, which says how its row differs; the target's rows against the index.
//!
//! What differs is a candidate: [`super::settle`] finds out what is still there when everything has been delivered.

use std::collections::BTreeMap;

use schemas::{Key, Topic};

use super::index::{Entry, Index};
use super::inspect::{Difference, Inspect};
use super::report::EntityReport;
use super::settle::settle;
use super::walk::Walk;
use super::{Options, VerifyError, Watch};
use crate::log::{Offset, Record};
use crate::run::{Runtime, delivery_of};
use crate::sink::{Delivery, Stored};

/// Records that are compared at once, and rows that are listed at once.
const AT_ONCE: usize = 2_000;
const ROWS_AT_ONCE: usize = 10_000;

/// What a comparison works with.
pub(super) struct Comparison<'a> {
    pub runtime: &'a Runtime,
    pub sink: &'a str,
    pub topic: &'a Topic,
    pub target: &'a dyn Inspect,
    pub options: &'a Options,
    pub index: Index,
    pub report: EntityReport,
    /// Keys whose rows weren't as they should be when they were first met, or that were on their way then.
    pub candidates: BTreeMap<String, Key>,
}

/// Compares a topic with the rows of a sink's target. Reads only; changes may flow all the while.
pub async fn target(
    runtime: &Runtime,
    sink: &str,
    topic: &Topic,
    target: &dyn Inspect,
    options: &Options,
    watch: &Watch,
) -> Result<EntityReport, VerifyError> {
    let log = runtime.log.as_ref();
    watch.begin(format!("{sink}: reading {}", topic.name));
    let mut index = Index::open(log, topic, runtime.scratch()).await?;
    index.catch_up(log, |records| watch.done(records)).await?;
    let report = EntityReport { topic: topic.name.clone(), ..EntityReport::default() };
    let mut comparison =
        Comparison { runtime, sink, topic, target, options, index, report, candidates: BTreeMap::new() };
    watch.begin(format!("{sink}: comparing {}", topic.name));
    comparison.records(watch).await?;
    watch.begin(format!("{sink}: looking for rows that {} doesn't have", topic.name));
    comparison.rows(watch).await?;
    watch.begin(format!("{sink}: looking again at what differs from {}", topic.name));
    settle(comparison).await
}

impl Comparison<'_> {
    /// Up to where the target has everything, per partition. What is being swept vouches for nothing yet.
    pub async fn delivered(&self) -> Result<Delivered, VerifyError> {
        let stored = self.target.stored(self.topic).await?;
        let ends: BTreeMap<u32, Offset> = self.index.ends().iter().map(|(at, end)| (at.partition, *end)).collect();
        let valid = |(partition, stored): (u32, Stored)| {
            // Beyond the end: the topic was made anew, and the sink hasn't noticed yet.
            let end = ends.get(&partition).copied().unwrap_or_default();
            (!stored.sweeping && stored.next <= end).then_some((partition, stored.next))
        };
        Ok(Delivered(stored.into_iter().filter_map(valid).collect()))
    }

    async fn records(&mut self, watch: &Watch) -> Result<(), VerifyError> {
        // Before the rows are read: what lies below has been written by then.
        let delivered = self.delivered().await?;
        let ends = self.index.ends().to_vec();
        let from = ends.iter().map(|(at, _)| (at.partition, Offset::START)).collect();
        let mut walk = Walk::new(self.runtime.log.as_ref(), &from, &ends, AT_ONCE).await?;
        while let Some(records) = walk.next(|_| true).await? {
            watch.done(records.len());
            self.compare(records, &delivered).await?;
        }
        Ok(())
    }

    /// Compares the records that are the latest of their keys and have been delivered.
    async fn compare(&mut self, records: Vec<Record>, delivered: &Delivered) -> Result<(), VerifyError> {
        let texts = records.iter().map(|record| text_of(record).unwrap_or_default());
        let entries = self.index.get(texts)?;
        let mut changes: Vec<Delivery> = Vec::with_capacity(records.len());
        for (record, entry) in records.iter().zip(entries) {
            let Some(entry) = entry.filter(|entry| is_latest(entry, record)) else { continue };
            self.report.tally.compared += u64::from(entry.live);
            let change = match delivery_of(self.runtime, record).await? {
                Ok(change) => change,
                Err(_) => {
                    // No sink can take it: its letter says why.
                    self.report.tally.set_aside += 1;
                    continue;
                }
            };
            if delivered.holds(&entry) {
                changes.push(change);
            } else {
                self.note(change.key, None);
            }
        }
        for found in self.target.compare(self.topic, &changes).await? {
            if let Some(change) = changes.get(found.place) {
                self.note(change.key.clone(), Some(found.difference));
            }
        }
        Ok(())
    }

    /// Finds the rows whose keys the topic doesn't hold.
    async fn rows(&mut self, watch: &Watch) -> Result<(), VerifyError> {
        let mut after: Option<Key> = None;
        loop {
            let page = self.target.rows(self.topic, after.as_ref(), ROWS_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            watch.done(page.len());
            let entries = self.index.get(page.iter().map(|row| row.key.as_str()))?;
            for (row, entry) in page.into_iter().zip(entries) {
                // A key that is gone from the topic was compared with its tombstone.
                if entry.is_none() && !row.gone {
                    self.note(row.key, Some(Difference::Extra { held: row.version }));
                }
            }
        }
    }

    /// Keeps a candidate; where there are too many, only counts it.
    fn note(&mut self, key: Key, difference: Option<Difference>) {
        let known = self.candidates.contains_key(key.as_str());
        if known || self.candidates.len() < self.options.candidates {
            self.candidates.insert(key.as_str().to_owned(), key);
            return;
        }
        match difference {
            None => self.report.tally.undelivered += 1,
            Some(difference) => {
                self.report.tally.count(&difference);
                self.report.tally.seen_once += u64::from(difference != Difference::Waiting);
            }
        }
    }
}

/// Up to where a target has everything, per partition.
pub(super) struct Delivered(BTreeMap<u32, Offset>);

impl Delivered {
    /// Whether the record was delivered.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.0.get(&entry.partition).is_some_and(|next| entry.offset < *next)
    }

    /// Up to where it has everything of a partition; `None`: nothing can be said.
    pub fn next(&self, partition: u32) -> Option<Offset> {
        self.0.get(&partition).copied()
    }
}

pub(super) fn text_of(record: &Record) -> Option<&str> {
    std::str::from_utf8(record.key.as_deref()?).ok()
}

fn is_latest(entry: &Entry, record: &Record) -> bool {
    (entry.partition, entry.offset) == (record.at.partition, record.offset)
}
