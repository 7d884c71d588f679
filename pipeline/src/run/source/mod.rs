//! The loop of a system that is read from: its feeds, one after the other, when they are due or asked for.

mod compare;
mod delivery;
mod opening;
mod pass;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemas::Topic;
use tokio_util::sync::CancellationToken;

use self::opening::{Feeds, announced};
pub use self::pass::PassReport;
use super::repair::repair;
use super::{Account, Mode, RunError, Runtime, Work, supervise};
use crate::change::Incarnation;
use crate::emitter::Emitter;
use crate::schedule::Schedule;
use crate::source::{Ask, Source, SourceError};
use crate::state::{Answer, Request, RequestKind, SavedPosition};

/// How often an idle system looks whether somebody else appended to its topics.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a paused system looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(500);

/// What to do about entities that have gone from the system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vanished {
    /// Tell how many there are.
    Report,
    /// Delete them, unless more than this share of all would go.
    Delete {
        /// Of the entities that are known here.
        max_share: f64,
    },
}

/// One feed of a system.
pub struct Feed {
    /// Its name, the topic's.
    pub topic: Arc<Topic>,
    /// Reads it.
    pub source: Box<dyn Source>,
    /// When changes are asked for.
    pub schedule: Schedule,
    /// When everything is asked for.
    pub reconcile: Option<Schedule>,
    /// What to do about entities that have gone.
    pub vanished: Vanished,
}

impl Feed {
    /// The feed's name.
    pub fn name(&self) -> &str {
        &self.topic.name
    }
}

/// A system that is read from, with all its feeds. One process at a time polls it.
pub struct System {
    /// Its name in the configuration.
    pub name: String,
    /// In the order in which they are read when several are due.
    pub feeds: Vec<Feed>,
}

/// A feed at work.
struct Working<'a> {
    system: &'a str,
    feed: &'a mut Feed,
    emitter: Emitter,
    account: &'a mut Account,
    /// After a failed run: not before this, and why.
    put_off: Option<PutOff>,
    /// The system refuses this feed: it isn't read until somebody asks for it.
    refused: Option<RunError>,
    /// Keys have lost their right record: everything must be stated again.
    restate: bool,
    /// That is under way.
    restating: bool,
}

/// A feed that isn't read for a while.
struct PutOff {
    since: DateTime<Utc>,
    /// `None`: until somebody asks for it.
    wait: Option<Duration>,
    reason: String,
}

impl PutOff {
    /// Not before this. A clock that was set back doesn't make it longer.
    fn until(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.since = self.since.min(now);
        self.wait.map_or(DateTime::<Utc>::MAX_UTC, |wait| self.since + wait)
    }
}

impl System {
    /// Runs the system's feeds until told to stop, or each once.
    pub async fn run(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let now = runtime.clock.now();
        let mut accounts: Vec<Account> = self.feeds.iter().map(|feed| Account::new(feed.name(), now)).collect();
        let name = self.name.clone();
        runtime.health.starting(&name, self.interval(now), now);
        let mut work = SystemWork { system: self, accounts: &mut accounts };
        supervise(&name, runtime, mode, stop, &mut work).await
    }

    /// The longest pause between two runs of any feed: the system should get on at least this often.
    fn interval(&self, now: DateTime<Utc>) -> Duration {
        let waits = self.feeds.iter().filter_map(|feed| (feed.schedule.next_after(now)? - now).to_std().ok());
        waits.min().unwrap_or(LOOK_EVERY).max(LOOK_EVERY)
    }
}

struct SystemWork<'a> {
    system: &'a mut System,
    accounts: &'a mut [Account],
}

#[async_trait]
impl Work for SystemWork<'_> {
    async fn work(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let name = self.system.name.as_str();
        // The former owner's letters are ours to settle now.
        runtime.letters.try_catch_up().await;
        let mut feeds = Feeds::default();
        for (feed, account) in self.system.feeds.iter_mut().zip(self.accounts.iter_mut()) {
            feeds.open(name, feed, account, runtime).await?;
        }
        runtime.health.progressed(name, runtime.clock.now());
        let ended = match mode {
            Mode::Once => once(name, &mut feeds, runtime, stop).await,
            Mode::Asked => answer_requests(name, &mut feeds, runtime, stop).await,
            Mode::Follow => follow(name, &mut feeds, runtime, stop).await,
        };
        for work in &mut feeds.working {
            work.emitter.save_all()?;
            work.account.write(runtime, true).await?;
        }
        ended
    }
}

async fn once<'a>(
    system: &'a str,
    feeds: &mut Feeds<'a>,
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    answer_requests(system, feeds, runtime, stop).await?;
    if runtime.paused(system) {
        return Ok(());
    }
    let mut failed = feeds.left_out();
    for work in &mut feeds.working {
        if stop.is_cancelled() {
            return Ok(());
        }
        let now = runtime.clock.now();
        let ask = match work.due(runtime, now)? {
            (due, ask) if due <= now => ask,
            _ => Ask::Changes,
        };
        match work.pass(&ask, runtime, stop).await {
            Ok(report) => {
                runtime.health.progressed(system, runtime.clock.now());
                failed = failed.or(report.withheld.map(|reason| RunError::Refused {
                    component: work.feed.name().to_owned(),
                    reason,
                    hint: "the other feeds went on".into(),
                }));
            }
            // The other feeds go on.
            Err(error @ RunError::Source(_)) => {
                tracing::warn!(source = work.feed.name(), error = %error, "run failed, going on with the next feed");
                failed = failed.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn follow<'a>(
    system: &'a str,
    feeds: &mut Feeds<'a>,
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut requests = runtime.state.requests.changes();
    while !stop.is_cancelled() {
        requests.catch_up();
        answer_requests(system, feeds, runtime, stop).await?;
        if runtime.paused(system) {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = runtime.clock.sleep(PAUSE) => {}
            }
            continue;
        }
        let left_out = feeds.left_out();
        let working = &mut feeds.working;
        let now = runtime.clock.now();
        let mut wait = LOOK_EVERY;
        for work in working.iter_mut() {
            let (due, ask) = work.due(runtime, now)?;
            if due <= now {
                work.scheduled(&ask, runtime, stop).await?;
                wait = Duration::ZERO;
            } else {
                wait = wait.min((due - now).to_std().unwrap_or_default());
            }
        }
        if working.iter().all(|work| work.refused.is_some())
            && let Some(refused) = working.iter_mut().find_map(|work| work.refused.take())
        {
            return Err(refused);
        }
        if working.is_empty()
            && let Some(refused) = left_out
        {
            return Err(refused);
        }
        let reason = working.iter().find_map(|work| work.put_off.as_ref()).map(|put_off| put_off.reason.clone());
        match reason.or(left_out.as_ref().map(ToString::to_string)) {
            Some(reason) => runtime.health.waiting(system, &reason, runtime.clock.now()),
            None => runtime.health.progressed(system, runtime.clock.now()),
        }
        if wait.is_zero() {
            continue;
        }
        for work in working.iter_mut() {
            work.emitter.check().await?;
            work.account.write(runtime, false).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = requests.rung() => {}
            () = runtime.clock.sleep(wait) => {}
        }
    }
    Ok(())
}

impl Working<'_> {
    /// When the feed is due next, and what to ask. Missed runs are caught up once.
    fn due(&mut self, runtime: &Runtime, now: DateTime<Utc>) -> Result<(DateTime<Utc>, Ask), RunError> {
        self.restate |= self.emitter.take_forgotten() > 0;
        let saved = self.saved(runtime)?;
        let (due, ask) = match saved {
            None => (now, Ask::Everything),
            Some(SavedPosition { under_way: Some(ask), .. }) => (now, ask),
            Some(_) if self.restate => (now, Ask::Everything),
            Some(SavedPosition { finished, reconciled, .. }) => {
                let changes = next_run(&self.feed.schedule, finished, now);
                let everything = self.feed.reconcile.as_ref().map(|schedule| next_run(schedule, reconciled, now));
                match everything {
                    Some(everything) if everything <= changes => (everything, Ask::Everything),
                    _ => (changes, Ask::Changes),
                }
            }
        };
        Ok((self.put_off.as_mut().map_or(due, |put_off| due.max(put_off.until(now))), ask))
    }

    /// Where the feed has got to. A position belongs to the lives of the topic it was saved with: in a new one nothing
    /// has been said yet.
    fn saved(&self, runtime: &Runtime) -> Result<Option<SavedPosition>, RunError> {
        let saved = runtime.state.positions.position(self.feed.name())?;
        Ok(saved.filter(|saved| saved.incarnations == self.incarnations()))
    }

    fn incarnations(&self) -> Vec<Incarnation> {
        self.emitter.ends().into_iter().map(|(_, life, _)| life).collect()
    }

    /// A run on schedule: a system that is away is tried again, the others go on meanwhile.
    async fn scheduled(&mut self, ask: &Ask, runtime: &Runtime, stop: &CancellationToken) -> Result<(), RunError> {
        match self.pass(ask, runtime, stop).await {
            Ok(_) => self.put_off = None,
            Err(error @ RunError::Source(_)) if error.can_pass().is_some() => {
                let wait = runtime.retry.most.max(error.retry_after().unwrap_or_default());
                let since = runtime.clock.now();
                self.put_off = Some(PutOff { since, wait: Some(wait), reason: error.to_string() });
                tracing::warn!(source = self.feed.name(), error = %error, "run failed, going on with the next feed");
            }
            // A feed that needs another key doesn't hold up those that need none.
            Err(error @ RunError::Source(SourceError::Refused { .. })) => {
                tracing::error!(source = self.feed.name(), error = %error, "feed stopped, a person must act");
                let since = runtime.clock.now();
                self.put_off = Some(PutOff { since, wait: None, reason: error.to_string() });
                self.refused = Some(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn next_run(schedule: &Schedule, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let Some(last) = last else { return now };
    // The clock was ahead when it ran last: nobody waits for that time to come again.
    if last > now {
        return now;
    }
    if schedule.missed(last, now).is_some() {
        return now;
    }
    schedule.next_after(last).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Does what was asked of the system or one of its feeds, each request once.
async fn answer_requests<'a>(
    system: &'a str,
    feeds: &mut Feeds<'a>,
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let names = feeds.names();
    let mine = |target: &str| target == system || names.iter().any(|name| name == target);
    for request in runtime.state.requests.open(mine)? {
        let mut done = feeds.try_again(system, &request.target, runtime).await?;
        for work in &mut feeds.working {
            if request.target == system || request.target == work.feed.name() {
                match work.act(&request, runtime, stop).await {
                    Ok(Some(answer)) => done.push(answer),
                    // Told to stop in the middle: the next owner does it.
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        runtime.give_up_on(&request, &error).await?;
                        return Err(error);
                    }
                }
            }
        }
        let answer = Answer {
            done: done.iter().all(|answer| answer.done),
            text: done.iter().map(|answer| answer.text.as_str()).collect::<Vec<_>>().join("\n"),
            details: done.into_iter().map(|answer| answer.details).collect(),
        };
        runtime.state.requests.answer(request, answer).await?;
    }
    Ok(())
}

impl Working<'_> {
    async fn act(
        &mut self,
        request: &Request,
        runtime: &Runtime,
        stop: &CancellationToken,
    ) -> Result<Option<Answer>, RunError> {
        let name = self.feed.name().to_owned();
        match &request.kind {
            RequestKind::Sync { window, page, everything } => {
                let ask = match (window, everything) {
                    (Some((from, to)), _) => Ask::Window { from: *from, to: *to, page: *page },
                    (None, true) => Ask::Everything,
                    (None, false) => Ask::Changes,
                };
                match self.asked_for(&ask, runtime, stop).await {
                    Ok(report) if !report.ended => Ok(None),
                    Ok(report) => {
                        // It is well again.
                        (self.put_off, self.refused) = (None, None);
                        Ok(Some(Answer {
                            done: report.withheld.is_none(),
                            text: format!("{name}: {report}"),
                            details: serde_json::json!({ "feed": name, "counts": report.counts, "vanished": report.vanished }),
                        }))
                    }
                    Err(error @ RunError::Source(_)) => {
                        let details = serde_json::json!({ "feed": name, "error": error.to_string() });
                        Ok(Some(Answer { done: false, text: format!("{name}: {error}"), details }))
                    }
                    Err(error) => Err(error),
                }
            }
            RequestKind::Replay { letter, edited } => self.replay(letter, edited.as_ref(), runtime).await.map(Some),
            RequestKind::Compare { repair } => match self.compare(*repair, runtime, stop).await {
                Err(error @ RunError::Source(_)) => {
                    let details = serde_json::json!({ "feed": name, "unreachable": error.can_pass().is_some() });
                    Ok(Some(Answer { done: false, text: format!("{name}: {error}"), details }))
                }
                compared => compared,
            },
            RequestKind::Run => Ok(Some(Answer {
                done: false,
                text: format!("{name} is a feed: it is read with `muster sync`"),
                details: serde_json::Value::Null,
            })),
            // All partitions of a feed's topic are its owner's.
            RequestKind::Repair { partition, keys, .. } => repair(&mut self.emitter, *partition, keys).await.map(Some),
        }
    }

    /// A pass that was asked for; one under way that asks for less is finished first.
    async fn asked_for(
        &mut self,
        ask: &Ask,
        runtime: &Runtime,
        stop: &CancellationToken,
    ) -> Result<PassReport, RunError> {
        let under_way = self.saved(runtime)?.and_then(|saved| saved.under_way);
        if *ask == Ask::Everything && under_way.is_some_and(|under_way| under_way != Ask::Everything) {
            let report = self.pass(ask, runtime, stop).await?;
            if !report.ended {
                return Ok(report);
            }
        }
        self.pass(ask, runtime, stop).await
    }
}
