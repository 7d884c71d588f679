//! When something is due: at an interval, or at times of a wall clock. Pure: the present time is passed in.
//!
//! # Daylight saving
//! A cron expression names times of the wall clock in its zone.
//! - An expression with *one* time of day (`30 2 * * *`) runs once on every day it names. If a spring gap swallows the time,
//!   it runs when the gap ends; if autumn has the time twice, it runs at the first.
//! - All other expressions (`*/30 * * * *`, `0 2,14 * * *`, `0 8-18 * * *`) run whenever the wall clock shows a time they name: in both halves of an
//!   overlap, and not for times that a gap swallows.
//!
//! # Missed runs
//! However many runs were missed (the process was down), one makes up for them: see [`Schedule::missed`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// When something is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// This long after the last run began; longer than zero.
    Every(Duration),
    /// When the wall clock of the zone shows a time of the expression.
    Cron {
        /// Parsed, and known to name at least one real date.
        expression: CronExpression,
        /// The wall clock's.
        zone: Tz,
    },
}

impl Schedule {
    /// A schedule on the wall clock of a zone: five fields (`30 2 * * MON-FRI`), or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`, `@yearly`.
    pub fn cron(expression: &str, zone: Tz) -> Result<Self, CronError> {
        Ok(Self::Cron { expression: expression.parse()?, zone })
    }

    /// The first time later than `after` at which it is due; `None` past the end of the calendar.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Every(interval) => after.checked_add_signed(TimeDelta::from_std(*interval).ok()?),
            Self::Cron { expression, zone } => expression.next(after, *zone),
        }
    }

    /// The run that was missed between `last`, the time of the last run, and `now`, which itself counts: the latest one,
    /// so that a long absence is caught up once. `None`: nothing was missed.
    pub fn missed(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if now <= last {
            return None;
        }
        match self {
            Self::Every(interval) => {
                let waited = (now - last).to_std().ok()?.as_nanos();
                let since_due = waited.checked_rem(interval.as_nanos())?;
                (since_due < waited).then(|| now - Duration::from_nanos_u128(since_due))
            }
            Self::Cron { expression, zone } => expression.latest(last, now, *zone),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {interval:?}"),
            Self::Cron { expression, zone } => write!(f, "{expression} ({zone})"),
        }
    }
}

/// Times of a wall clock, to the minute. It names at least one real date.
#[derive(Clone, PartialEq)]
pub struct CronExpression {
    written: String,
    cron: Box<Cron>,
}

/// Why a cron expression can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CronError {
    /// Not five fields, a value out of its range, an unknown name.
    #[error("not a cron expression ({0})")]
    Syntax(String),
    /// Such as 30 February.
    #[error("names no date that exists")]
    Never,
}

impl FromStr for CronExpression {
    type Err = CronError;

    fn from_str(written: &str) -> Result<Self, CronError> {
        /// The calendar repeats after 400 years; the longest wait in it is eight, for 29 February.
        const SOME_DAY: DateTime<Utc> = DateTime::UNIX_EPOCH;

        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let fields = written.split_whitespace().count();
        if fields != 5 && !written.trim_start().starts_with('@') {
            return Err(CronError::Syntax(format!("{fields} fields instead of five")));
        }
        // Fuzzing had the parser search for seconds for the next time of such a list.
        if written.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
            return Err(CronError::Syntax("an empty item in a list".to_owned()));
        }
        let cron = parser.parse(written).map_err(|error| CronError::Syntax(in_our_style(error)))?;
        let expression = Self { written: written.trim().to_owned(), cron: Box::new(cron) };
        match expression.next(SOME_DAY, Tz::UTC) {
            Some(_) => Ok(expression),
            None => Err(CronError::Never),
        }
    }
}

/// Croner's own words, without the variant's name and the full stop.
fn in_our_style(error: croner::errors::CronError) -> String {
    use croner::errors::CronError::{ComponentError, IllegalCharacters, InvalidPattern};

    let words = match error {
        ComponentError(words) | IllegalCharacters(words) | InvalidPattern(words) => words,
        other => other.to_string(),
    };
    words.trim_end_matches('.').to_lowercase()
}

impl CronExpression {
    fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // The calendar goes further than its arithmetic; nobody schedules there.
        let local = zone.from_utc_datetime(&after.naive_utc());
        self.cron.find_next_occurrence(&local, false).ok().map(|next| next.to_utc())
    }

    /// The latest time in (`last`, `now`].
    fn latest(&self, last: DateTime<Utc>, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // Forward only, so that it is the same times as `next` gives, also around changes of the clock: halve the range
        // until the last time is found.
        let mut latest = self.next(last, zone).filter(|&due| due <= now)?;
        let mut end = now;
        while end - latest > TimeDelta::seconds(1) {
            let middle = latest + (end - latest) / 2;
            match self.next(middle, zone).filter(|&due| due <= now) {
                Some(due) => latest = due,
                None => end = middle,
            }
        }
        // Runs are at least a minute apart, so at most one is left.
        Some(self.next(latest, zone).filter(|&due| due <= now).unwrap_or(latest))
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.written)
    }
}

#[cfg(test)]
mod tests;
