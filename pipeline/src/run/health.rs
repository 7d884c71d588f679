//! What every component is doing: liveness, readiness and progress are different things.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What a component is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Standing {
    /// It has begun and not yet got anywhere.
    Starting,
    /// It works, or has nothing to do.
    Running,
    /// It waits for something outside.
    Waiting {
        /// For what.
        reason: String,
    },
    /// It has ended.
    Stopped {
        /// `None`: it was told to, or is done.
        reason: Option<String>,
    },
}

/// One component's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentHealth {
    /// What it is doing.
    #[serde(flatten)]
    pub standing: Standing,
    /// When it last got on, or found that there was nothing to do.
    pub progressed: DateTime<Utc>,
    /// It should get on at least this often.
    #[serde(skip)]
    pub every: Duration,
}

/// The health of all components of a process.
#[derive(Debug, Default)]
pub struct Health {
    components: Mutex<BTreeMap<String, ComponentHealth>>,
    records: Mutex<BTreeMap<String, u64>>,
    steps: Mutex<BTreeMap<String, u64>>,
}

impl Health {
    /// A component begins; it should get on at least every `every`.
    pub fn starting(&self, name: &str, every: Duration, now: DateTime<Utc>) {
        self.set(name, |known| ComponentHealth {
            standing: Standing::Starting,
            progressed: known.map_or(now, |known| known.progressed),
            every,
        });
    }

    /// It got on, or found that there was nothing to do.
    pub fn progressed(&self, name: &str, now: DateTime<Utc>) {
        let every = |known: Option<&ComponentHealth>| known.map_or(Duration::from_secs(60), |known| known.every);
        self.set(name, |known| ComponentHealth { standing: Standing::Running, progressed: now, every: every(known) });
    }

    /// It waits for something outside.
    pub fn waiting(&self, name: &str, reason: &str, now: DateTime<Utc>) {
        self.set(name, |known| ComponentHealth {
            standing: Standing::Waiting { reason: reason.to_owned() },
            progressed: known.map_or(now, |known| known.progressed),
            every: known.map_or(Duration::from_secs(60), |known| known.every),
        });
    }

    /// It has ended.
    pub fn stopped(&self, name: &str, reason: Option<String>) {
        self.set(name, |known| ComponentHealth {
            standing: Standing::Stopped { reason },
            progressed: known.map_or(DateTime::UNIX_EPOCH, |known| known.progressed),
            every: known.map_or(Duration::from_secs(60), |known| known.every),
        });
    }

    fn set(&self, name: &str, make: impl FnOnce(Option<&ComponentHealth>) -> ComponentHealth) {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        let health = make(components.get(name));
        components.insert(name.to_owned(), health);
    }

    /// It has taken in so many records since it began, for those who watch.
    pub fn records(&self, name: &str, records: u64) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), records);
    }

    /// Long work has got a step further, whatever a step is.
    pub fn step(&self, name: &str) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match steps.get_mut(name) {
            Some(steps) => *steps += 1,
            None => drop(steps.insert(name.to_owned(), 1)),
        }
    }

    /// How many steps it has got so far.
    pub fn steps(&self, name: &str) -> u64 {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }

    /// How many records every feed, processor and sink has taken in.
    pub fn all_records(&self) -> BTreeMap<String, u64> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All components.
    pub fn components(&self) -> BTreeMap<String, ComponentHealth> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the process isn't ready; empty: it is. No progress for two intervals is a reason.
    pub fn unready(&self, now: DateTime<Utc>) -> Vec<String> {
        let mut reasons = Vec::new();
        for (name, health) in self.components() {
            let still = (now - health.progressed).to_std().unwrap_or_default();
            match &health.standing {
                Standing::Starting => reasons.push(format!("{name} is starting")),
                Standing::Waiting { reason } => reasons.push(format!("{name} is waiting: {reason}")),
                Standing::Stopped { reason: Some(reason) } => reasons.push(format!("{name} has stopped: {reason}")),
                Standing::Running if still > health.every * 2 => {
                    reasons.push(format!("{name} hasn't got on for {} s", still.as_secs()));
                }
                Standing::Running | Standing::Stopped { reason: None } => {}
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_progress_for_two_intervals_is_not_ready() {
        let (health, start) = (Health::default(), DateTime::UNIX_EPOCH);
        health.starting("register", Duration::from_secs(10), start);
        assert_eq!(health.unready(start), ["register is starting"]);
        health.progressed("register", start);
        assert!(health.unready(start + Duration::from_secs(20)).is_empty());
        assert_eq!(health.unready(start + Duration::from_secs(21)), ["register hasn't got on for 21 s"]);
    }
}
