//! The loop of a job: a run when it is due, or asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Mode, RunError, Runtime, Work, supervise};
use crate::job::{Done, Job, JobError};
use crate::ledger::Counts;
use crate::operations::{RunOutcome, RunStart};
use crate::schedule::Schedule;
use crate::state::{Answer, RequestKind};
use crate::telemetry;

/// How often an idle job looks whether another process did its work, and says that it is alive.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often a paused job looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(500);

/// A job with its schedule.
#[derive(Clone)]
pub struct JobTask {
    /// The work.
    pub job: Arc<dyn Job>,
    /// When it is due; `None`: only when somebody asks.
    pub schedule: Option<Schedule>,
}

impl JobTask {
    /// Its name.
    pub fn name(&self) -> &str {
        self.job.name()
    }

    /// Runs the job when it is due or asked for until told to stop; with [`Mode::Once`], once.
    pub async fn run(&self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        let name = self.name().to_owned();
        runtime.health.starting(&name, LOOK_EVERY, runtime.clock.now());
        let mut work = JobWork { task: self, put_off: None, ran: None, complaints: None };
        supervise(&name, runtime, mode, stop, &mut work).await
    }
}

struct JobWork<'a> {
    task: &'a JobTask,
    /// After a failed run: not before this, and why.
    put_off: Option<(DateTime<Utc>, String)>,
    /// When it was run last here.
    ran: Option<DateTime<Utc>>,
    /// Of the last run; `None`: they aren't known yet.
    complaints: Option<Vec<String>>,
}

#[async_trait]
impl Work for JobWork<'_> {
    async fn work(&mut self, runtime: &Runtime, mode: Mode, stop: &CancellationToken) -> Result<(), RunError> {
        match mode {
            Mode::Asked => self.answer_requests(runtime, stop).await,
            Mode::Once => {
                self.answer_requests(runtime, stop).await?;
                if stop.is_cancelled() || runtime.paused(self.task.name()) {
                    return Ok(());
                }
                let now = runtime.clock.now();
                let nominal = self.due(runtime, now).await?.unwrap_or(now).min(now);
                self.one(runtime, nominal, stop).await.map(|_| ())
            }
            Mode::Follow => self.follow(runtime, stop).await,
        }
    }
}

impl JobWork<'_> {
    async fn follow(&mut self, runtime: &Runtime, stop: &CancellationToken) -> Result<(), RunError> {
        let name = self.task.name().to_owned();
        let mut requests = runtime.state.requests.changes();
        while !stop.is_cancelled() {
            requests.catch_up();
            self.answer_requests(runtime, stop).await?;
            if runtime.paused(&name) {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = runtime.clock.sleep(PAUSE) => {}
                }
                continue;
            }
            let wait = self.scheduled(runtime, stop).await?;
            if wait.is_zero() {
                continue;
            }
            self.tell(runtime);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = requests.rung() => {}
                () = runtime.clock.sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// Runs the job if it is due; otherwise, how long to wait.
    async fn scheduled(&mut self, runtime: &Runtime, stop: &CancellationToken) -> Result<Duration, RunError> {
        let now = runtime.clock.now();
        let name = self.task.name();
        let due = match self.due(runtime, now).await {
            Ok(due) => due,
            Err(error) => {
                self.put_off = Some((now + runtime.retry.most, error.to_string()));
                tracing::warn!(component = name, error = %error, "it can't be told whether the job is due");
                return Ok(LOOK_EVERY.min(runtime.retry.most));
            }
        };
        if self.complaints.is_none() {
            match self.task.job.complaints(runtime).await {
                Ok(complaints) => self.complaints = Some(complaints),
                Err(error) => {
                    tracing::debug!(component = name, error = %error, "what the last run said isn't known yet")
                }
            }
        }
        let Some(due) = due else { return Ok(LOOK_EVERY) };
        if due > now {
            self.put_off = None;
            return Ok((due - now).to_std().unwrap_or_default().min(LOOK_EVERY));
        }
        if let Some((until, _)) = &self.put_off
            && *until > now
            && *until - now <= chrono::TimeDelta::from_std(runtime.retry.most).unwrap_or(chrono::TimeDelta::MAX)
        {
            return Ok((*until - now).to_std().unwrap_or_default().min(LOOK_EVERY));
        }
        match self.one(runtime, due, stop).await {
            Ok(_) => Ok(Duration::ZERO),
            // Said, and tried again: what is wrong may be mended without a new start.
            Err(error @ RunError::Job(_)) => {
                let until = runtime.clock.now() + runtime.retry.most;
                self.put_off = Some((until, error.to_string()));
                Ok(LOOK_EVERY.min(runtime.retry.most))
            }
            Err(error) => Err(error),
        }
    }

    /// The time by the schedule of the next run, or of the one that was missed. Missed runs are caught up once, by the latest.
    async fn due(&self, runtime: &Runtime, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, RunError> {
        let Some(schedule) = &self.task.schedule else { return Ok(None) };
        let Some(last) = self.task.job.last(runtime).await? else { return Ok(Some(now)) };
        // The clock was ahead when it ran last: nobody waits for that time to come again.
        let last = match self.ran.filter(|ran| *ran <= now) {
            _ if last <= now => last,
            Some(ran) => ran,
            None => return Ok(Some(now)),
        };
        Ok(schedule.missed(last, now).or_else(|| schedule.next_after(last)))
    }

    /// One run, on record. `None`: told to stop in the middle.
    async fn one(
        &mut self,
        runtime: &Runtime,
        nominal: DateTime<Utc>,
        stop: &CancellationToken,
    ) -> Result<Option<Done>, RunError> {
        let name = self.task.name().to_owned();
        let id = uuid::Uuid::new_v4().to_string();
        let started = runtime.clock.now();
        self.ran = Some(started);
        tracing::info!(component = name, nominal = %nominal, "job begins");
        let run = RunStart { id: &id, source: &name, ask: "job", window: None, started };
        runtime.operations.begin_run(&run).await;
        runtime.health.progressed(&name, started);
        let mut steps = runtime.health.steps(&name);
        let work = self.task.job.run(runtime, nominal);
        tokio::pin!(work);
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                ended = &mut work => break Some(ended),
                // Long work is no standstill, as long as it gets on.
                () = runtime.clock.sleep(LOOK_EVERY) => {
                    let now = runtime.health.steps(&name);
                    if std::mem::replace(&mut steps, now) != now {
                        runtime.health.progressed(&name, runtime.clock.now());
                    }
                }
            }
        };
        let (outcome, counts) = match &ended {
            None => (RunOutcome::CutOff, Counts::default()),
            Some(Ok(done)) => (RunOutcome::Success, done.counts),
            Some(Err(error)) => (RunOutcome::Failed(error.to_string()), Counts::default()),
        };
        runtime.operations.end_run(&id, runtime.clock.now(), &counts, 0, &outcome).await;
        let Some(ended) = ended else { return Ok(None) };
        let success = if ended.is_ok() { "true" } else { "false" };
        metrics::counter!(telemetry::JOB_RUNS, "component" => name.clone(), "success" => success).increment(1);
        match ended {
            Ok(done) => {
                telemetry::count(&name, &counts);
                self.put_off = None;
                self.complaints = Some(done.complaints.clone());
                self.tell(runtime);
                Ok(Some(done))
            }
            Err(error) => {
                tracing::error!(component = name, error = %error, "job failed");
                Err(error.into())
            }
        }
    }

    fn tell(&self, runtime: &Runtime) {
        let (name, now) = (self.task.name(), runtime.clock.now());
        match (&self.put_off, self.complaints.as_deref().unwrap_or_default()) {
            (Some((_, reason)), _) => runtime.health.waiting(name, reason, now),
            (None, []) => runtime.health.progressed(name, now),
            (None, complaints) => runtime.health.waiting(name, &complaints.join("; "), now),
        }
    }

    async fn answer_requests(&mut self, runtime: &Runtime, stop: &CancellationToken) -> Result<(), RunError> {
        let name = self.task.name().to_owned();
        for request in runtime.state.requests.open(|target| target == name)? {
            let answer = match &request.kind {
                RequestKind::Run => match self.one(runtime, runtime.clock.now(), stop).await {
                    Ok(Some(done)) => Answer { done: true, text: done.text, details: done.details },
                    // Told to stop in the middle: the next owner does it.
                    Ok(None) => return Ok(()),
                    Err(error) => Answer { done: false, text: error.to_string(), details: serde_json::Value::Null },
                },
                _ => Answer {
                    done: false,
                    text: format!("{name} is a job: it can be run, and nothing else"),
                    details: serde_json::Value::Null,
                },
            };
            runtime.state.requests.answer(request, answer).await?;
        }
        Ok(())
    }
}

impl From<JobError> for RunError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Log(error) => Self::Log(error),
            JobError::State(error) => Self::State(error),
            error => Self::Job(error),
        }
    }
}
