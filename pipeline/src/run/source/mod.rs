//! The loop of a system that is read from: its feeds, one after the other, when they are due or asked for.

mod pass;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemas::Topic;
use tokio_util::sync::CancellationToken;

pub use self::pass::PassReport;
use super::{Account, Mode, RunError, Runtime, Work, supervise};
use crate::emitter::Emitter;
use crate::schedule::Schedule;
use crate::source::{Ask, Source};
use crate::state::{Answer, Request, RequestKind, SavedPosition};

/// How often an idle system looks whether somebody else appended to its topics.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
    feed: &'a mut Feed,
    emitter: Emitter,
    account: &'a mut Account,
    /// After a failed run: not before this.
    not_before: Option<DateTime<Utc>>,
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
        let mut working = Vec::with_capacity(self.system.feeds.len());
        for (feed, account) in self.system.feeds.iter_mut().zip(self.accounts.iter_mut()) {
            let mut emitter = Emitter::open(runtime.emitter_context(), feed.name(), Arc::clone(&feed.topic)).await?;
            let all: Vec<u32> = (0..emitter.partitions()).collect();
            emitter.own(&all).await?;
            working.push(Working { feed, emitter, account, not_before: None });
        }
        let name = self.system.name.as_str();
        runtime.health.progressed(name, runtime.clock.now());
        let ended = match mode {
            Mode::Once => once(name, &mut working, runtime, stop).await,
            Mode::Follow => follow(name, &mut working, runtime, stop).await,
        };
        for work in &mut working {
            work.emitter.save_all()?;
            work.account.write(runtime, true).await?;
        }
        ended
    }
}

async fn once(
    system: &str,
    working: &mut [Working<'_>],
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    answer_requests(system, working, runtime, stop).await?;
    for work in working.iter_mut() {
        if stop.is_cancelled() {
            return Ok(());
        }
        work.pass(&Ask::Changes, runtime, stop).await?;
        runtime.health.progressed(system, runtime.clock.now());
    }
    Ok(())
}

async fn follow(
    system: &str,
    working: &mut [Working<'_>],
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut requests = runtime.state.requests.changes();
    while !stop.is_cancelled() {
        requests.borrow_and_update();
        answer_requests(system, working, runtime, stop).await?;
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
        runtime.health.progressed(system, runtime.clock.now());
        if wait.is_zero() {
            continue;
        }
        for work in working.iter_mut() {
            work.emitter.check().await?;
            work.account.write(runtime, false).await?;
        }
        tokio::select! {
            () = runtime.clock.sleep(wait) => {}
            _ = requests.changed() => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

impl Working<'_> {
    /// When the feed is due next, and what to ask. Missed runs are caught up once.
    fn due(&self, runtime: &Runtime, now: DateTime<Utc>) -> Result<(DateTime<Utc>, Ask), RunError> {
        let saved = runtime.state.positions.position(self.feed.name())?;
        let (due, ask) = match saved {
            None => (now, Ask::Changes),
            Some(SavedPosition { under_way: Some(ask), .. }) => (now, ask),
            Some(SavedPosition { finished, reconciled, .. }) => {
                let changes = next_run(&self.feed.schedule, finished, now);
                let everything = self.feed.reconcile.as_ref().map(|schedule| next_run(schedule, reconciled, now));
                match everything {
                    Some(everything) if everything <= changes => (everything, Ask::Everything),
                    _ => (changes, Ask::Changes),
                }
            }
        };
        Ok((self.not_before.map_or(due, |not_before| due.max(not_before)), ask))
    }

    /// A run on schedule: a system that is away is tried again, the others go on meanwhile.
    async fn scheduled(&mut self, ask: &Ask, runtime: &Runtime, stop: &CancellationToken) -> Result<(), RunError> {
        match self.pass(ask, runtime, stop).await {
            Ok(_) => self.not_before = None,
            Err(error @ RunError::Source(_)) if error.can_pass().is_some() => {
                // The pass itself has tried for as long as the policy says.
                let wait = runtime.retry.most;
                self.not_before = Some(runtime.clock.now() + wait);
                tracing::warn!(source = self.feed.name(), error = %error, "run failed, going on with the next feed");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn next_run(schedule: &Schedule, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let Some(last) = last else { return now };
    if schedule.missed(last, now).is_some() {
        return now;
    }
    schedule.next_after(last).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Does what was asked of the system or one of its feeds, each request once.
async fn answer_requests(
    system: &str,
    working: &mut [Working<'_>],
    runtime: &Runtime,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let names: Vec<String> = working.iter().map(|work| work.feed.name().to_owned()).collect();
    let mine = |target: &str| target == system || names.iter().any(|name| name == target);
    for request in runtime.state.requests.open(mine)? {
        let mut done = Vec::new();
        for work in working.iter_mut() {
            if request.target == system || request.target == work.feed.name() {
                done.push(work.act(&request, runtime, stop).await?);
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
    ) -> Result<Answer, RunError> {
        let name = self.feed.name().to_owned();
        match &request.kind {
            RequestKind::Sync { window, everything } => {
                let ask = match (window, everything) {
                    (Some((from, to)), _) => Ask::Window { from: *from, to: *to },
                    (None, true) => Ask::Everything,
                    (None, false) => Ask::Changes,
                };
                match self.pass(&ask, runtime, stop).await {
                    Ok(report) => Ok(Answer {
                        done: true,
                        text: format!("{name}: {report}"),
                        details: serde_json::json!({ "feed": name, "counts": report.counts, "vanished": report.vanished }),
                    }),
                    Err(error @ RunError::Source(_)) => {
                        let details = serde_json::json!({ "feed": name, "error": error.to_string() });
                        Ok(Answer { done: false, text: format!("{name}: {error}"), details })
                    }
                    Err(error) => Err(error),
                }
            }
            RequestKind::Replay { letter, edited } => self.replay(letter, edited.as_ref(), runtime).await,
        }
    }
}
