//! The system that is read from: three feeds whose rows change while they are read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use pipeline::change::Change;
use pipeline::clock::{Clock, VirtualClock};
use pipeline::reject::{Reason as Why, Reject};
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use schemas::Entity;
use schemas::records::ats;
use serde_json::json;

use crate::common::source::unavailable;
use crate::common::{key, put};

/// What a row holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    Reason(ats::Reason),
    Milestone(ats::Milestone),
    Applicant(Box<ats::Applicant>),
    /// Its key can be read, and nothing else.
    Bad,
    /// Not even its key can be read.
    Unreadable,
}

#[derive(Clone)]
pub struct Row {
    pub id: String,
    pub held: Held,
    /// The count of changes when it was last changed.
    changed: u64,
}

pub const REASONS: &str = "ats.reason";
pub const MILESTONES: &str = "ats.milestone";
pub const APPLICANTS: &str = "ats.applicant";

#[derive(Default)]
struct State {
    rows: BTreeMap<&'static str, Vec<Row>>,
    /// Counts changes: the system's own time.
    changes: u64,
    away: bool,
    /// One in so many reads fails.
    fails: Option<(Rng, u8)>,
    /// One in so many reads finds that a row has changed or moved since.
    drifts: Option<(Rng, u8)>,
}

/// Clones are the same system.
#[derive(Clone)]
pub struct Outside {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
    /// Says "complete" only of a pass in which nothing moved.
    pub careful: bool,
    /// The latest changes come first, so that each change shifts the pages.
    pub latest_first: bool,
    pub page: usize,
}

impl Outside {
    pub fn new(clock: &VirtualClock, careful: bool, latest_first: bool, page: usize) -> Self {
        Self { state: Arc::default(), clock: clock.clone(), careful, latest_first, page }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn set(&self, feed: &'static str, id: &str, held: Held) {
        self.state().set(feed, id, held);
    }

    pub fn remove(&self, feed: &'static str, id: &str) {
        let mut state = self.state();
        state.changes += 1;
        state.rows.entry(feed).or_default().retain(|row| row.id != id);
    }

    pub fn rows(&self, feed: &str) -> Vec<Row> {
        self.state().rows.get(feed).cloned().unwrap_or_default()
    }

    pub fn away(&self, away: bool) {
        self.state().away = away;
    }

    pub fn fails(&self, random: Option<Rng>, one_in: u8) {
        self.state().fails = random.map(|random| (random, one_in));
    }

    pub fn drifts(&self, random: Option<Rng>, one_in: u8) {
        self.state().drifts = random.map(|random| (random, one_in));
    }

    /// One of the system's feeds.
    pub fn feed(&self, feed: &'static str) -> FeedOf {
        FeedOf { outside: self.clone(), feed }
    }
}

impl State {
    fn set(&mut self, feed: &'static str, id: &str, held: Held) {
        self.changes += 1;
        let changed = self.changes;
        let rows = self.rows.entry(feed).or_default();
        match rows.iter_mut().find(|row| row.id == id) {
            Some(row) => (row.held, row.changed) = (held, changed),
            None => rows.push(Row { id: id.to_owned(), held, changed }),
        }
    }

    /// A row is touched, without a difference that anybody would see, or goes to the end of the list.
    fn drift(&mut self, feed: &'static str) {
        let Some((mut random, one_in)) = self.drifts.take() else { return };
        let rows = self.rows.entry(feed).or_default();
        if random.u8(0..one_in) == 0 && !rows.is_empty() {
            self.changes += 1;
            let at = random.usize(0..rows.len());
            if random.bool() {
                rows[at].changed = self.changes;
            } else {
                let mut row = rows.remove(at);
                row.changed = self.changes;
                rows.push(row);
            }
        }
        self.drifts = Some((random, one_in));
    }

    fn failure(&mut self) -> Option<SourceError> {
        let random = self.fails.as_mut().is_some_and(|(random, one_in)| random.u8(0..*one_in) == 0);
        (self.away || random).then(|| unavailable(None))
    }
}

/// A feed. Its position says since which change to ask, and in the middle of a pass also where in the list.
pub struct FeedOf {
    outside: Outside,
    feed: &'static str,
}

#[async_trait]
impl Source for FeedOf {
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        // An answer takes its time, and the world goes on meanwhile.
        self.outside.clock.sleep(std::time::Duration::from_millis(20)).await;
        let mut state = self.outside.state();
        if let Some(failure) = state.failure() {
            return Err(failure);
        }
        let number = |name: &str| after.and_then(|position| position.0.get(name)?.as_u64());
        let since = number("since").unwrap_or(0);
        let (at, began) = (number("at").unwrap_or(0), number("began").unwrap_or(state.changes));
        let asked_since = if *ask == Ask::Changes { since } else { 0 };
        let mut list: Vec<Row> = state.rows.get(self.feed).cloned().unwrap_or_default();
        list.retain(|row| row.changed >= asked_since);
        if self.outside.latest_first {
            list.sort_by_key(|row| std::cmp::Reverse(row.changed));
        }
        let from = usize::try_from(at).unwrap().min(list.len());
        let to = (from + self.outside.page).min(list.len());
        let end = to == list.len();
        let at_rest = state.changes == began;
        let since_then = if at_rest || !self.outside.careful { began } else { since };
        let next =
            if end { json!({ "since": since_then }) } else { json!({ "since": since, "at": to, "began": began }) };
        let (mut changes, mut rejects) = (Vec::new(), Vec::new());
        for row in &list[from..to] {
            match read(row) {
                Ok(change) => changes.push(change),
                Err(reject) => rejects.push(reject),
            }
        }
        state.drift(self.feed);
        let now = self.outside.clock.now();
        let vouched = at_rest || !self.outside.careful;
        Ok(Page {
            changes,
            rejects,
            read: (to - from) as u64,
            superseded: 0,
            next: Position(next),
            end,
            captured: now,
            complete_to: (end && vouched).then_some(now),
            gone: None,
        })
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        match serde_json::from_slice::<ats::Reason>(raw) {
            Ok(reason) => Ok(put(&reason)),
            Err(_) => Err(Reject::new(None, Why::new("wrong_type", "not a reason"), Bytes::copy_from_slice(raw))),
        }
    }
}

fn read(row: &Row) -> Result<Change, Reject> {
    match &row.held {
        Held::Reason(reason) => Ok(put(reason)),
        Held::Milestone(milestone) => Ok(put(milestone)),
        Held::Applicant(applicant) => Ok(put(&**applicant)),
        Held::Bad => {
            let raw = format!("{{\"id\":\"{}\"}}", row.id);
            Err(Reject::new(Some(key(&row.id)), Why::new("missing_field", "name: missing"), raw))
        }
        Held::Unreadable => Err(Reject::new(None, Why::new("no_key", "id: a text was expected"), row.id.clone())),
    }
}

/// The feeds, tables first.
pub fn feeds() -> [&'static str; 3] {
    [ats::Reason::TOPIC, ats::Milestone::TOPIC, ats::Applicant::TOPIC]
}
