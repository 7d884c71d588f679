//! A circuit breaker: after several failures in a row, callers are kept away for a while; then one may try.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// When to keep away, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open the breaker; at least 1.
    pub failures: u32,
    /// How long nobody tries; then one does.
    pub open_for: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(30) }
    }
}

/// What the breaker does with callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All may try.
    Closed,
    /// Nobody may try.
    Open,
    /// One tries; the others wait for how it goes.
    HalfOpen,
}

/// Shared by those who call one system. No thread, no clock of its own.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    failures: u32,
    /// Open or half-open: nobody else tries before this time.
    closed_to_others_until: Option<DateTime<Utc>>,
    probing: bool,
}

impl Breaker {
    /// Closed.
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, failures: 0, closed_to_others_until: None, probing: false }
    }

    /// Asks for permission to try at `now`. `Err` says how long to wait before asking again.
    ///
    /// After permission, report the outcome. One that is never reported (the try was cancelled) blocks a half-open breaker
    /// for no longer than `open_for`.
    pub fn ask(&mut self, now: DateTime<Utc>) -> Result<(), Duration> {
        let Some(until) = self.closed_to_others_until else { return Ok(()) };
        // A clock that was set back must not keep it open for longer than was meant.
        let left = (until - now).to_std().unwrap_or_default().min(self.settings.open_for);
        if !left.is_zero() {
            self.closed_to_others_until = Some(now + left);
            return Err(left);
        }
        self.probing = true;
        self.closed_to_others_until = Some(now + self.settings.open_for);
        Ok(())
    }

    /// A try succeeded: the breaker closes.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.closed_to_others_until = None;
        self.probing = false;
    }

    /// A try failed at `now`, for a reason that lies with the system as a whole (not with one record).
    pub fn failed(&mut self, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        if self.probing || self.failures >= self.settings.failures {
            // Those who were permitted earlier and fail late don't make the wait longer.
            let is_open = self.closed_to_others_until.is_some() && !self.probing;
            if !is_open {
                self.closed_to_others_until = Some(now + self.settings.open_for);
            }
            self.probing = false;
        }
    }

    /// What it does with callers now.
    pub fn state(&self) -> BreakerState {
        match (self.closed_to_others_until, self.probing) {
            (None, _) => BreakerState::Closed,
            (Some(_), true) => BreakerState::HalfOpen,
            (Some(_), false) => BreakerState::Open,
        }
    }
}

#[cfg(test)]
mod tests;
