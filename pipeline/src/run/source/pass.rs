//! One pass of a feed: page after page, each appended before its position is saved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::delivery::Delivery;
use super::{Feed, Working, announced};
use crate::change::{Asked, Incarnation};
use crate::ledger::Counts;
use crate::operations::{RunOutcome, RunStart};
use crate::retry::{Action, Budget, Failure, Kind, Policy, Retry};
use crate::run::{RunError, Runtime};
use crate::source::{Ask, Page, Position, Source, SourceError};
use crate::state::{Progress, SavedPosition};
use crate::telemetry;

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
    pub(super) run: Arc<str>,
    pub(super) ask: Ask,
    pub(super) asked: Asked,
    pub(super) started: DateTime<Utc>,
    saved: Option<SavedPosition>,
    incarnations: Vec<Incarnation>,
    /// It begins at the beginning, wherever the feed has got to.
    anew: bool,
    /// Everything since the pass began was seen by this process, and every record had a key.
    pub(super) complete: bool,
    pub(super) report: PassReport,
    pub(super) runtime: &'a Runtime,
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

    /// The page before `position` is in the log.
    async fn save(&mut self, feed: &str, position: Position, end: bool) -> Result<(), RunError> {
        let before = self.saved.as_ref();
        let everything = self.ask == Ask::Everything;
        let (finished, reconciled) = (before.and_then(|s| s.finished), before.and_then(|s| s.reconciled));
        let saved = SavedPosition {
            position,
            incarnations: self.incarnations.clone(),
            under_way: (!end).then(|| self.ask.clone()),
            finished: if end { Some(self.started) } else { finished },
            reconciled: if end && everything { Some(self.started) } else { reconciled },
        };
        self.runtime.state.positions.save_position(feed, &saved).await?;
        self.saved = Some(saved);
        Ok(())
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

    /// Page after page. While one is appended, the next one is read: a system's answer and the log's are waited for at once.
    async fn read_pages(&mut self, pass: &mut Pass<'_>, stop: &CancellationToken) -> Result<(), RunError> {
        let runtime = pass.runtime;
        let moves_position = !matches!(pass.ask, Ask::Window { .. });
        let goes_on = moves_position && !pass.anew;
        let mut position = if goes_on { pass.saved.as_ref().map(|saved| saved.position.clone()) } else { None };
        let mut ahead = None;
        loop {
            let Some(page) = self.read_page(pass, position.as_ref(), ahead, stop).await? else {
                // Told to stop: the pass is taken up here next time.
                return Ok(());
            };
            let (next, end, complete_to) = (page.next.clone(), page.end, page.complete_to);
            let ask = pass.ask.clone();
            let (source, mut delivery) = self.parts();
            let settled = async {
                delivery.settle(pass, page).await?;
                if moves_position {
                    pass.save(delivery.feed, next.clone(), end).await?;
                }
                Ok(())
            };
            let read =
                async { Ok::<_, RunError>(if end { None } else { read(source, &ask, Some(&next), stop).await }) };
            ((), ahead) = tokio::try_join!(settled, read)?;
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

    /// The feed's source, and the rest of it.
    fn parts(&mut self) -> (&mut dyn Source, Delivery<'_>) {
        let Feed { topic, source, vanished, .. } = &mut *self.feed;
        let (feed, compares, vanished) = (topic.name.as_str(), source.compares(), *vanished);
        (&mut **source, Delivery { feed, compares, vanished, emitter: &mut self.emitter, account: self.account })
    }

    /// Reads a page, trying again for as long as the policy says. `ahead`: what the first try has brought, if it was made
    /// already. `None`: told to stop meanwhile.
    pub(super) async fn read_page(
        &mut self,
        pass: &Pass<'_>,
        after: Option<&Position>,
        mut ahead: Option<Result<Page, SourceError>>,
        stop: &CancellationToken,
    ) -> Result<Option<Page>, RunError> {
        let runtime = pass.runtime;
        let mut retries = Retry::new(run_policy(&runtime.retry), fastrand::u64(..));
        let mut evolved = 0;
        loop {
            let read = match ahead.take() {
                None => read(&mut *self.feed.source, &pass.ask, after, stop).await,
                ahead => ahead,
            };
            let error = match read {
                None => return Ok(None),
                Some(Ok(page)) => return Ok(Some(page)),
                Some(Err(error)) => error,
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

    async fn save_progress(&mut self, pass: &Pass<'_>, complete_to: DateTime<Utc>) -> Result<(), RunError> {
        let ends = self.emitter.ends().into_iter().map(|(_, _, end)| end).collect();
        let progress = Progress { complete_to, ends, run: pass.run.to_string() };
        pass.runtime.state.positions.save_progress(self.feed.name(), &progress).await?;
        metrics::gauge!(telemetry::COMPLETE_TO, "source" => self.feed.name().to_owned())
            .set(complete_to.timestamp() as f64);
        Ok(())
    }
}

/// One read; `None`: told to stop meanwhile.
async fn read(
    source: &mut dyn Source,
    ask: &Ask,
    after: Option<&Position>,
    stop: &CancellationToken,
) -> Option<Result<Page, SourceError>> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        read = source.read(ask, after) => Some(read),
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
