//! One pass of a feed: page after page, each appended before its position is saved.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::{Vanished, Working, announced};
use crate::change::{Asked, Change, Incarnation};
use crate::emitter::Stamp;
use crate::ledger::Counts;
use crate::operations::{RunOutcome, RunStart};
use crate::reject::Reject;
use crate::retry::{Action, Budget, Failure, Kind, Policy, Retry};
use crate::run::{RunError, Runtime};
use crate::source::{Ask, Page, Position, SourceError};
use crate::state::{Progress, SavedPosition};
use crate::telemetry;

/// Deletes of vanished entities that are emitted with one append.
const DELETES_AT_ONCE: usize = 1_000;

/// A run that can't get on ends after this, so that its audit says so and other feeds get their turn; the next one goes on.
const RUN_BUDGET: Budget = Budget { failures: Some(6), time: Some(Duration::from_secs(60)) };

/// A system whose records change their shape more often than this while one page is read is left for the next run.
const MOST_SHAPES: u32 = 5;

/// What a pass came to.
#[derive(Debug, Clone, Default)]
pub struct PassReport {
    /// It reached its end; otherwise it was told to stop and is taken up where it was.
    pub ended: bool,
    /// What became of the records.
    pub counts: Counts,
    /// Entities that are known here and were absent from two complete passes in a row.
    pub vanished: u64,
    /// Those of them that were deleted.
    pub deleted: u64,
    /// Why they were not deleted, where so many have gone that a person must look first. The run counts as failed.
    pub withheld: Option<String>,
}

impl fmt::Display for PassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        write!(f, "{} read, {} changed, {} unchanged, {} rejected", c.read, c.delivered, c.unchanged, c.rejected)?;
        if self.vanished > 0 {
            write!(f, ", {} vanished ({} deleted)", self.vanished, self.deleted)?;
        }
        if let Some(withheld) = &self.withheld {
            write!(f, "; {withheld}")?;
        }
        Ok(())
    }
}

/// A pass under way.
pub(super) struct Pass<'a> {
    run: Arc<str>,
    ask: Ask,
    asked: Asked,
    started: DateTime<Utc>,
    saved: Option<SavedPosition>,
    incarnations: Vec<Incarnation>,
    /// It begins at the beginning, wherever the feed has got to.
    anew: bool,
    /// Everything since the pass began was seen by this process, and every record had a key.
    complete: bool,
    report: PassReport,
    runtime: &'a Runtime,
}

impl<'a> Pass<'a> {
    /// One over everything that only looks: it has no position, no run and no end to be noted.
    pub(super) fn looking(runtime: &'a Runtime) -> Self {
        Self {
            run: "verify".into(),
            ask: Ask::Everything,
            asked: Asked::Everything,
            started: runtime.clock.now(),
            saved: None,
            incarnations: Vec::new(),
            anew: true,
            complete: false,
            report: PassReport::default(),
            runtime,
        }
    }
}

impl Working<'_> {
    /// One pass, audited whatever comes of it. A pass that was cut off is taken up where it was.
    pub(super) async fn pass(
        &mut self,
        ask: &Ask,
        runtime: &Runtime,
        stop: &CancellationToken,
    ) -> Result<PassReport, RunError> {
        let mut pass = self.begin(ask, runtime)?;
        self.restating |= pass.anew;
        let window = match &pass.ask {
            Ask::Window { from, to, .. } => Some((*from, *to)),
            Ask::Changes | Ask::Everything => None,
        };
        let name = self.feed.name().to_owned();
        let ask = if window.is_some() { "window" } else { pass.asked.as_str() };
        let start = RunStart { id: &pass.run, source: &name, ask, window, started: pass.started };
        runtime.operations.begin_run(&start).await;
        let ended = self.read_pages(&mut pass, stop).await;
        let outcome = match &ended {
            Err(error) => RunOutcome::Failed(error.to_string()),
            Ok(()) if !pass.report.ended => RunOutcome::CutOff,
            Ok(()) => pass.report.withheld.clone().map_or(RunOutcome::Success, RunOutcome::Failed),
        };
        if pass.ask == Ask::Everything && outcome == RunOutcome::Success {
            (self.restate, self.restating) = (false, false);
            self.emitter.restated(&self.emitter.owned()).await?;
        }
        let report = &pass.report;
        let now = runtime.clock.now();
        runtime.operations.end_run(&pass.run, now, &report.counts, report.vanished, &outcome).await;
        telemetry_of_run(&name, &outcome);
        self.account.write(runtime, false).await?;
        self.emitter.save_all()?;
        ended?;
        let c = &report.counts;
        tracing::info!(
            source = name,
            run = &*pass.run,
            read = c.read,
            changed = c.delivered,
            unchanged = c.unchanged,
            rejected = c.rejected,
            vanished = report.vanished,
            "run complete"
        );
        Ok(pass.report)
    }

    fn begin<'a>(&self, ask: &Ask, runtime: &'a Runtime) -> Result<Pass<'a>, RunError> {
        let incarnations = self.incarnations();
        let saved = self.saved(runtime)?;
        let (ask, asked, saved) = match (ask, saved) {
            (Ask::Window { .. }, saved) => (ask.clone(), Asked::Changes, saved),
            (_, None) => (Ask::Everything, Asked::Initial, None),
            (ask, Some(saved)) => {
                let initial = saved.finished.is_none();
                let ask = saved.under_way.clone().unwrap_or_else(|| ask.clone());
                let asked = match ask {
                    _ if initial => Asked::Initial,
                    Ask::Everything => Asked::Everything,
                    Ask::Changes | Ask::Window { .. } => Asked::Changes,
                };
                (ask, asked, Some(saved))
            }
        };
        // What only differs wouldn't bring back what was lost.
        let anew = ask == Ask::Everything && self.restate && !self.restating && self.feed.source.compares();
        let resumed = !anew && saved.as_ref().is_some_and(|saved| saved.under_way.is_some());
        Ok(Pass {
            run: uuid::Uuid::new_v4().to_string().into(),
            complete: ask == Ask::Everything && !resumed,
            ask,
            asked,
            started: runtime.clock.now(),
            saved,
            incarnations,
            anew,
            report: PassReport::default(),
            runtime,
        })
    }

    async fn read_pages(&mut self, pass: &mut Pass<'_>, stop: &CancellationToken) -> Result<(), RunError> {
        let runtime = pass.runtime;
        let moves_position = !matches!(pass.ask, Ask::Window { .. });
        let goes_on = moves_position && !pass.anew;
        let mut position = if goes_on { pass.saved.as_ref().map(|saved| saved.position.clone()) } else { None };
        loop {
            let Some(page) = self.read_page(pass, position.as_ref(), stop).await? else {
                // Told to stop: the pass is taken up here next time.
                return Ok(());
            };
            let (next, end, complete_to) = (page.next.clone(), page.end, page.complete_to);
            let gone = page.gone.clone();
            self.deliver(pass, page).await?;
            // A source that can't vouch for its pass (a list came empty, rows never came to rest) claims nothing.
            if end && pass.complete && complete_to.is_some() {
                self.reconcile(pass, gone).await?;
            }
            runtime.state.incarnations.reached_all(&self.emitter.reached()).await?;
            if moves_position {
                self.save(pass, next.clone(), end).await?;
            }
            runtime.health.progressed(self.system, runtime.clock.now());
            if end {
                if let Some(complete_to) = complete_to.filter(|_| moves_position) {
                    self.save_progress(pass, complete_to).await?;
                }
                pass.report.ended = true;
                return Ok(());
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            position = Some(next);
        }
    }

    /// Reads a page, trying again for as long as the policy says. `None`: told to stop meanwhile.
    pub(super) async fn read_page(
        &mut self,
        pass: &Pass<'_>,
        after: Option<&Position>,
        stop: &CancellationToken,
    ) -> Result<Option<Page>, RunError> {
        let runtime = pass.runtime;
        let mut retries = Retry::new(run_policy(&runtime.retry), fastrand::u64(..));
        let mut evolved = 0;
        loop {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                read = self.feed.source.read(&pass.ask, after) => read,
            };
            let error = match read {
                Ok(page) => return Ok(Some(page)),
                Err(error) => error,
            };
            let retry_after = match &error {
                SourceError::Unavailable { retry_after, .. } => retry_after,
                SourceError::Evolved { reason, .. } if evolved < MOST_SHAPES => {
                    evolved += 1;
                    tracing::info!(source = self.feed.name(), reason, "going on with another schema");
                    self.evolve(runtime).await?;
                    continue;
                }
                SourceError::Evolved { .. } | SourceError::Refused { .. } => return Err(error.into()),
            };
            let failure = Failure { kind: Kind::Unavailable, retry_after: *retry_after };
            match retries.failed(&failure, runtime.clock.now()) {
                Action::Stop { .. } => return Err(error.into()),
                Action::Retry { after: wait } => {
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(source = self.feed.name(), attempt = retries.failures(), wait_ms, error = %error,
                        "source unavailable, trying again");
                    runtime.health.waiting(self.system, &error.to_string(), runtime.clock.now());
                    metrics::counter!(telemetry::RETRIES, "component" => self.feed.name().to_owned()).increment(1);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(None),
                        () = runtime.clock.sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Goes on with the schema that the source's records have now.
    async fn evolve(&mut self, runtime: &Runtime) -> Result<(), RunError> {
        let announced = announced(&self.feed.topic, runtime).await?;
        if let Some(schema) = self.feed.source.schema(&announced).await? {
            self.emitter.evolve(schema).await?;
        }
        Ok(())
    }

    /// Appends a page's changes and writes its rejects to the dead letters.
    async fn deliver(&mut self, pass: &mut Pass<'_>, page: Page) -> Result<(), RunError> {
        let keyless = page.rejects.iter().any(|reject| reject.key.is_none());
        pass.complete &= !keyless;
        let rejected = page.rejects.iter().filter_map(|reject| reject.key.as_ref());
        let present: Vec<Key> = page.changes.iter().map(Change::key).chain(rejected).cloned().collect();
        // A pass that brings every record says what is absent; others only what is there.
        let lists_all = pass.ask == Ask::Everything && page.gone.is_none();
        self.mark_seen(present, lists_all)?;
        let read: Vec<Key> = page.changes.iter().map(|change| change.key().clone()).collect();
        let stamp = Stamp { captured: page.captured, asked: pass.asked, run: Arc::clone(&pass.run) };
        let emitted = self.emitter.emit(page.changes, &stamp).await?;
        telemetry::count_changes(self.feed.name(), emitted.created, emitted.updated, emitted.deleted);
        let mut counts = emitted.counts;
        counts.read = page.read;
        counts.superseded += page.superseded;
        let mut rejects = page.rejects;
        rejects.extend(emitted.rejects);
        let refused: std::collections::BTreeSet<&Key> =
            rejects.iter().filter_map(|reject| reject.key.as_ref()).collect();
        let readable: Vec<&str> = read.iter().filter(|key| !refused.contains(key)).map(Key::as_str).collect();
        pass.runtime.letters.readable(self.feed.name(), &readable).await?;
        let (rejected, before) = self.reject(pass, page.read, rejects).await?;
        counts.rejected += rejected;
        counts.unchanged += before;
        self.account.book(&counts)?;
        pass.report.counts += counts;
        Ok(())
    }

    /// Writes letters for rejects that are new. Answers how many there were, and how many were rejected before.
    async fn reject(&mut self, pass: &Pass<'_>, of: u64, rejects: Vec<Reject>) -> Result<(u64, u64), RunError> {
        if rejects.is_empty() {
            return Ok((0, 0));
        }
        let hashes: Vec<[u8; 16]> = rejects.iter().map(raw_hash).collect();
        let before = match self.emitter.memory(0) {
            Some(memory) => memory.rejected_before(&hashes).map_err(crate::emitter::EmitError::from)?,
            None => vec![false; hashes.len()],
        };
        let new: Vec<&Reject> = rejects.iter().zip(&before).filter(|(_, before)| !**before).map(|(r, _)| r).collect();
        pass.runtime.rejects.check(self.feed.name(), of, new.iter().map(|reject| reject.reason.code))?;
        let letters: Vec<_> =
            new.iter().map(|reject| pass.runtime.letters.of_feed(self.feed.name(), &pass.run, reject)).collect();
        if !letters.is_empty() {
            pass.runtime.letters.write(&letters).await?;
            tracing::warn!(source = self.feed.name(), rejected = letters.len(), code = %letters[0].code,
                "records were set aside in the dead letters");
        }
        if let Some(memory) = self.emitter.memory(0) {
            memory.note_rejected(&hashes).map_err(crate::emitter::EmitError::from)?;
        }
        let rejected = letters.len() as u64;
        Ok((rejected, rejects.len() as u64 - rejected))
    }

    fn by_partition(&self, keys: Vec<Key>) -> BTreeMap<u32, Vec<Key>> {
        let mut by_partition: BTreeMap<u32, Vec<Key>> = BTreeMap::new();
        for key in keys {
            by_partition.entry(self.emitter.partition_of(&key)).or_default().push(key);
        }
        by_partition
    }

    fn mark_seen(&mut self, keys: Vec<Key>, lists_all: bool) -> Result<(), RunError> {
        if !lists_all && !self.feed.source.compares() {
            return Ok(());
        }
        for (partition, keys) in self.by_partition(keys) {
            if let Some(memory) = self.emitter.memory(partition) {
                let marked = if lists_all { memory.mark_seen(&keys) } else { memory.back(&keys) };
                marked.map_err(crate::emitter::EmitError::from)?;
            }
        }
        Ok(())
    }

    /// After a complete pass over everything: what was absent from it and from the one before has gone. `gone`: what a
    /// source that compares has found gone.
    async fn reconcile(&mut self, pass: &mut Pass<'_>, gone: Option<Vec<Key>>) -> Result<(), RunError> {
        let gone = gone.map(|gone| self.by_partition(gone));
        let mut absent = Vec::new();
        let mut known = 0;
        for partition in self.emitter.owned() {
            if let Some(memory) = self.emitter.memory(partition) {
                known += memory.live();
                let of_partition = match &gone {
                    None => memory.complete_pass(),
                    Some(gone) => memory.complete_comparison(gone.get(&partition).map_or(&[][..], Vec::as_slice)),
                };
                absent.extend(of_partition.map_err(crate::emitter::EmitError::from)?);
            }
        }
        pass.report.vanished = absent.len() as u64;
        if absent.is_empty() {
            return Ok(());
        }
        let name = self.feed.name().to_owned();
        let Vanished::Delete { max_share } = self.feed.vanished else {
            tracing::warn!(
                source = name,
                vanished = absent.len(),
                "entities have gone from the system (they are kept)"
            );
            return Ok(());
        };
        if absent.len() as f64 > known as f64 * max_share {
            let withheld = format!(
                "{} of {known} entities have gone from the system, more than the share of {max_share}: nothing was deleted \
                 (if they really have gone, raise `vanished_max_share` for one run)",
                absent.len()
            );
            tracing::error!(
                source = name,
                vanished = absent.len(),
                known,
                "too many entities have gone, nothing is deleted"
            );
            pass.report.withheld = Some(withheld);
            return Ok(());
        }
        let stamp = Stamp { captured: pass.started, asked: pass.asked, run: Arc::clone(&pass.run) };
        for keys in absent.chunks(DELETES_AT_ONCE) {
            let deletes = keys.iter().map(|key| Change::Delete { key: key.clone(), time: None }).collect();
            let emitted = self.emitter.emit(deletes, &stamp).await?;
            telemetry::count_changes(&name, emitted.created, emitted.updated, emitted.deleted);
            pass.report.deleted += emitted.deleted;
        }
        tracing::warn!(
            source = name,
            deleted = pass.report.deleted,
            "entities have gone from the system and were deleted"
        );
        Ok(())
    }

    async fn save(&mut self, pass: &mut Pass<'_>, position: Position, end: bool) -> Result<(), RunError> {
        let before = pass.saved.as_ref();
        let everything = pass.ask == Ask::Everything;
        let (finished, reconciled) = (before.and_then(|s| s.finished), before.and_then(|s| s.reconciled));
        let saved = SavedPosition {
            position,
            incarnations: pass.incarnations.clone(),
            under_way: (!end).then(|| pass.ask.clone()),
            finished: if end { Some(pass.started) } else { finished },
            reconciled: if end && everything { Some(pass.started) } else { reconciled },
        };
        pass.runtime.state.positions.save_position(self.feed.name(), &saved).await?;
        pass.saved = Some(saved);
        Ok(())
    }

    async fn save_progress(&mut self, pass: &Pass<'_>, complete_to: DateTime<Utc>) -> Result<(), RunError> {
        let ends = self.emitter.ends().into_iter().map(|(_, _, end)| end).collect();
        let progress = Progress { complete_to, ends, run: pass.run.to_string() };
        pass.runtime.state.positions.save_progress(self.feed.name(), &progress).await?;
        metrics::gauge!(telemetry::COMPLETE_TO, "source" => self.feed.name().to_owned())
            .set(complete_to.timestamp() as f64);
        Ok(())
    }
}

/// Loops may wait without end, a run may not.
fn run_policy(policy: &Policy) -> Policy {
    let budget = if policy.budget == Budget::UNLIMITED { RUN_BUDGET } else { policy.budget };
    Policy { budget, ..policy.clone() }
}

fn telemetry_of_run(source: &str, outcome: &RunOutcome) {
    let success = match outcome {
        RunOutcome::Success => "true",
        RunOutcome::Failed(_) => "false",
        RunOutcome::CutOff => return,
    };
    metrics::counter!(telemetry::RUNS, "source" => source.to_owned(), "success" => success).increment(1);
}

/// The same raw record is rejected once.
fn raw_hash(reject: &Reject) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(&reject.raw).to_le_bytes()
}
