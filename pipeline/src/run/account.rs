//! A component's account: what became of every record, checked at each step and written down for people.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{RunError, Runtime};
use crate::ledger::Counts;
use crate::operations::LedgerRow;
use crate::telemetry;

/// How often an account is written down while a component works.
const WRITE_EVERY: TimeDelta = TimeDelta::seconds(5);

/// What became of a component's records since its process began.
pub struct Account {
    component: Arc<str>,
    counts: Counts,
    since: DateTime<Utc>,
    written: Option<(DateTime<Utc>, Counts)>,
}

impl Account {
    /// An empty account.
    pub fn new(component: &str, now: DateTime<Utc>) -> Self {
        Self { component: component.into(), counts: Counts::default(), since: now, written: None }
    }

    /// What it comes to.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Books one step. A step that doesn't balance is an error, not a log line.
    pub fn book(&mut self, counts: &Counts) -> Result<(), RunError> {
        let component = &self.component;
        counts.balanced().map_err(|breach| RunError::Unbalanced { component: component.to_string(), breach })?;
        self.counts += *counts;
        telemetry::count(component, counts);
        Ok(())
    }

    /// Moves rows that had been parked to where they ended: they were counted once as read.
    pub fn unpark(&mut self, delivered: u64, rejected: u64) {
        let parked = (delivered + rejected).min(self.counts.parked);
        self.counts.parked -= parked;
        self.counts.rejected += rejected.min(parked);
        self.counts.delivered += parked - rejected.min(parked);
    }

    /// Writes the account down, when it has changed and the last time is a while ago, or `now` where it must.
    pub async fn write(&mut self, runtime: &Runtime, must: bool) -> Result<(), RunError> {
        let now = runtime.clock.now();
        runtime.health.records(&self.component, self.counts.read);
        let due =
            self.written.is_none_or(|(at, counts)| counts != self.counts && (must || (now - at).abs() >= WRITE_EVERY));
        if !due {
            return Ok(());
        }
        let row = LedgerRow {
            component: self.component.to_string(),
            process: runtime.process.to_string(),
            since: self.since,
            updated: now,
            counts: self.counts,
        };
        runtime.operations.write_ledger(&row).await;
        self.written = Some((now, self.counts));
        Ok(())
    }
}
