//! Tries, counted: jittered exponential waits within a budget.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::retry_after::MOST_RETRY_AFTER;
use super::table::{Action, Failure, Pace, Rule};

/// How long to wait between tries, and when to give up.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The wait after the first failure; doubled with each one that follows.
    pub first: Duration,
    /// No wait of ours is longer.
    pub most: Duration,
    /// The longest wait that another system can ask of us.
    pub most_retry_after: Duration,
    /// When waiting ends.
    pub budget: Budget,
}

impl Default for Policy {
    /// For the run loops, which outlast any failure that can pass: from half a second to a minute, without end.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(60),
            most_retry_after: MOST_RETRY_AFTER,
            budget: Budget::UNLIMITED,
        }
    }
}

/// When waiting has been tried enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Failures in a row that are borne; the next one stops.
    pub failures: Option<u32>,
    /// Time since the first failure in a row, the next wait included.
    pub time: Option<Duration>,
}

impl Budget {
    /// Wait as long as it takes.
    pub const UNLIMITED: Budget = Budget { failures: None, time: None };
}

/// The tries of one thing: counts its failures in a row and says what to do after each.
#[derive(Clone, Debug)]
pub struct Retry {
    policy: Policy,
    random: fastrand::Rng,
    failures: u32,
    first_failure: Option<DateTime<Utc>>,
}

impl Retry {
    /// Nothing has failed yet. The same seed gives the same waits.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self { policy, random: fastrand::Rng::with_seed(seed), failures: 0, first_failure: None }
    }

    /// It worked: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.first_failure = None;
    }

    /// Failures in a row until now.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed at `now`: what to do.
    pub fn failed(&mut self, failure: &Failure, now: DateTime<Utc>) -> Action {
        let pace = match failure.kind.rule() {
            Rule::Stop(hint) => return Action::Stop { hint: hint.into() },
            Rule::Wait(pace) => pace,
        };
        let first_failure = *self.first_failure.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);

        let asked_for = failure.retry_after.unwrap_or_default().min(self.policy.most_retry_after);
        let after = self.wait(pace).max(asked_for);

        let budget = self.policy.budget;
        let too_many = budget.failures.is_some_and(|most| self.failures > most);
        // A clock that was set back makes this negative, which is no reason to stop.
        let failing_for = (now - first_failure).to_std().unwrap_or_default();
        let too_long = budget.time.is_some_and(|most| failing_for.saturating_add(after) > most);
        if too_many || too_long {
            let hint = format!("gave up after {} failures in a row; {}", self.failures, failure.kind.advice());
            return Action::Stop { hint: hint.into() };
        }
        Action::Retry { after }
    }

    /// Between half of the step and all of it: callers that failed together don't come back together.
    fn wait(&mut self, pace: Pace) -> Duration {
        let (first, most) = match pace {
            Pace::Soon => (self.policy.first / 100, self.policy.most),
            Pace::Usual => (self.policy.first, self.policy.most),
            Pace::Slow => (self.policy.most, self.policy.most),
        };
        let doublings = (self.failures - 1).min(31);
        let step = first.saturating_mul(1 << doublings).min(most);
        step.mul_f64(0.5 + 0.5 * self.random.f64())
    }
}

#[cfg(test)]
mod tests;
