//! Where a feed has got to, as it is saved, and which days are asked for next. No I/O.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use pipeline::source::{Ask, Position};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::config::AtsConfig;

/// A saved position: `{"complete_to": …}` between passes, with `"reading"` in the middle of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    /// Every change up to this moment has been read.
    pub(super) complete_to: Option<DateTime<Utc>>,
    /// What is being read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reading: Option<Reading>,
}

/// A window, and how far its passes have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reading {
    /// What was asked.
    pub(super) ask: Ask,
    /// The days asked for; `None`: no dates at all.
    pub(super) window: Option<Window>,
    /// Counts from 1.
    pub(super) pass: u32,
    /// Rows of the window that were not asked for: it was to be read from a later page on.
    #[serde(default)]
    pub(super) skip: u64,
    /// How many rows of this pass have been received.
    pub(super) offset: u64,
    /// The moment before this pass's first request.
    pub(super) began: DateTime<Utc>,
    /// Whether this pass has brought something new.
    pub(super) news: bool,
    /// How many rows the pass before this one received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<u64>,
}

/// Days, both inclusive, in the source's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) from: NaiveDate,
    pub(super) to: NaiveDate,
}

impl At {
    /// A position that can't be read (another version wrote it) counts as none: everything is read again, and nothing
    /// that was read before becomes a change.
    pub(super) fn of(position: Option<&Position>) -> Self {
        let Some(position) = position else { return Self::default() };
        Self::deserialize(&position.0).unwrap_or_else(|error| {
            warn!(source = "ats", %error, "saved position not understood, reading everything");
            Self::default()
        })
    }

    pub(super) fn position(&self) -> Position {
        // Strings, numbers and dates: there is nothing in it that JSON can't hold.
        Position(serde_json::to_value(self).unwrap_or_default())
    }

    /// What is to be read now: what was being read for the same ask, else a new window.
    pub(super) fn reading(&self, ask: &Ask, now: DateTime<Utc>, config: &AtsConfig) -> Reading {
        match &self.reading {
            Some(reading) if reading.ask == *ask => reading.clone(),
            _ => Reading::new(ask, self.complete_to, now, config),
        }
    }
}

impl Reading {
    fn new(ask: &Ask, complete_to: Option<DateTime<Utc>>, now: DateTime<Utc>, config: &AtsConfig) -> Self {
        let window = match ask {
            // The first load may be told to leave the past alone.
            Ask::Everything => {
                let first = config.from.filter(|_| complete_to.is_none());
                first.map(|from| Window { from, to: last_day(now, config).max(from) })
            }
            Ask::Window { from, to, .. } => Some(Window { from: *from, to: *to }),
            Ask::Changes => {
                first_day(complete_to, now, config).map(|from| Window { from, to: last_day(now, config).max(from) })
            }
        };
        let page = if let Ask::Window { page: Some(page), .. } = ask { u64::from(page.get()) } else { 1 };
        let skip = (page - 1) * u64::from(config.page_size);
        Self { ask: ask.clone(), window, pass: 1, skip, offset: 0, began: now, news: false, previous: None }
    }

    /// At the start of a pass: it began now, and what has changed up to now belongs to it.
    pub(super) fn begin_pass(&mut self, now: DateTime<Utc>, config: &AtsConfig) {
        self.began = now;
        // A pass that begins days after its window was made (a slow load, a long stop) would miss rows that were changed
        // after the window's last day, and rows that left the window by being changed.
        if let (Ask::Changes, Some(window)) = (&self.ask, &mut self.window) {
            window.to = window.to.max(last_day(now, config));
        }
    }

    /// Whether this pass, now complete, proves that nothing was missed: it brought nothing new and was as long as the
    /// one before it. (A row removed between two pages hides another from a pass without bringing anything new.)
    pub(super) fn is_stable(&self) -> bool {
        !self.news && self.previous.is_none_or(|previous| previous == self.offset)
    }

    pub(super) fn next_pass(self) -> Self {
        Self { pass: self.pass + 1, offset: 0, news: false, previous: Some(self.offset), ..self }
    }
}

/// The day to ask from: the last success minus the overlap, else the configured day, else `None`: everything.
fn first_day(complete_to: Option<DateTime<Utc>>, now: DateTime<Utc>, config: &AtsConfig) -> Option<NaiveDate> {
    let Some(complete_to) = complete_to else { return config.from };
    let overlap = TimeDelta::from_std(config.overlap).unwrap_or(TimeDelta::MAX);
    // A clock that was ahead must not make a window that begins in the future.
    let from = complete_to.min(now).checked_sub_signed(overlap)?;
    Some(from.with_timezone(&config.zone).date_naive())
}

/// Tomorrow: the server's clock, or its zone, may be ahead of ours.
fn last_day(now: DateTime<Utc>, config: &AtsConfig) -> NaiveDate {
    let today = now.with_timezone(&config.zone).date_naive();
    today.checked_add_days(Days::new(1)).unwrap_or(today)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn window(at: &At, now: &str) -> Option<(String, String)> {
        let config = AtsConfig::new("http://ats.example".parse().unwrap(), "key");
        let window = at.reading(&Ask::Changes, utc(now), &config).window?;
        Some((window.from.to_string(), window.to.to_string()))
    }

    fn days(from: &str, to: &str) -> Option<(String, String)> {
        Some((from.to_owned(), to.to_owned()))
    }

    #[test]
    fn the_window_resumes_from_the_last_success_in_the_source_zone() {
        // 05:00 UTC on the 10th is still the 9th in Vancouver; minus a day of overlap; up to tomorrow there.
        let at = At { complete_to: Some(utc("2024-05-10T05:00:00Z")), reading: None };
        assert_eq!(window(&at, "2024-05-12T06:00:00Z"), days("2024-05-08", "2024-05-12"));
        assert_eq!(window(&at, "2024-05-12T08:00:00Z"), days("2024-05-08", "2024-05-13"));
    }

    #[test]
    fn a_clock_that_was_ahead_makes_no_window_in_the_future() {
        let at = At { complete_to: Some(utc("2031-01-01T12:00:00Z")), reading: None };
        assert_eq!(window(&at, "2024-05-12T12:00:00Z"), days("2024-05-11", "2024-05-13"));
    }

    #[test]
    fn without_a_success_everything_is_read() {
        assert_eq!(window(&At::default(), "2024-05-12T12:00:00Z"), None);
        assert_eq!(At::of(Some(&Position(json!({ "cursor": 7 })))), At::default());
    }

    #[test]
    fn a_later_pass_reaches_up_to_its_own_tomorrow() {
        let config = AtsConfig::new("http://ats.example".parse().unwrap(), "key");
        let at = At { complete_to: Some(utc("2024-05-10T12:00:00Z")), reading: None };
        let mut reading = at.reading(&Ask::Changes, utc("2024-05-10T12:00:00Z"), &config);
        reading.begin_pass(utc("2024-05-14T12:00:00Z"), &config);
        assert_eq!(reading.window.unwrap().to.to_string(), "2024-05-15");
    }

    #[test]
    fn a_position_comes_back_from_its_json() {
        let config = AtsConfig::new("http://ats.example".parse().unwrap(), "key");
        let now = utc("2024-05-10T12:00:00Z");
        let ask = Ask::Window { from: "2024-01-01".parse().unwrap(), to: "2024-02-01".parse().unwrap(), page: None };
        let reading = At::default().reading(&ask, now, &config).next_pass();
        let at = At { complete_to: Some(now), reading: Some(reading) };
        assert_eq!(At::of(Some(&at.position())), at);
        let done = At { reading: None, ..at };
        assert_eq!(done.position().0, json!({ "complete_to": "2024-05-10T12:00:00Z" }));
    }
}
