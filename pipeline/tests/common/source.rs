//! A system that is read from, as the test writes it down.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipeline::change::Change;
use pipeline::clock::{Clock, VirtualClock};
use pipeline::reject::{Reason as Why, Reject};
use pipeline::run::{Feed, System, Vanished};
use pipeline::schedule::Schedule;
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use schemas::Entity;
use schemas::records::ats::Reason;

use super::{key, put, topic};

/// One row of the system, as it would come over the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    Good(Reason),
    /// It can't be used, but its key can be read.
    Bad(String),
    /// Not even its key can be read.
    Unreadable(String),
}

pub fn good(id: &str, name: &str) -> Row {
    Row::Good(super::reason(id, name))
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    /// Each is what one read comes to, before any row is looked at.
    failures: VecDeque<SourceError>,
    /// While it holds, every read fails.
    away: bool,
    /// Reads behind so many wait for ever.
    hangs_behind: Option<usize>,
    asked: Vec<(Ask, Option<u64>)>,
}

/// A feed of reasons that pages through its rows, whatever is asked. Clones are the same system.
#[derive(Clone)]
pub struct Script {
    state: Arc<Mutex<State>>,
    page: usize,
    clock: VirtualClock,
}

impl Script {
    pub fn new(clock: &VirtualClock, rows: impl Into<Vec<Row>>) -> Self {
        let state = State { rows: rows.into(), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), page: 2, clock: clock.clone() }
    }

    pub fn page_of(mut self, rows: usize) -> Self {
        self.page = rows;
        self
    }

    pub fn set(&self, rows: impl Into<Vec<Row>>) {
        self.state.lock().unwrap().rows = rows.into();
    }

    pub fn away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    pub fn hangs(&self, hangs: bool) {
        self.state.lock().unwrap().hangs_behind = hangs.then_some(0);
    }

    /// So many reads are answered, and no more.
    pub fn hangs_behind(&self, reads: usize) {
        self.state.lock().unwrap().hangs_behind = Some(reads);
    }

    pub fn fail_next(&self, error: SourceError) {
        self.state.lock().unwrap().failures.push_back(error);
    }

    /// What was asked, with the row each read began at.
    pub fn asked(&self) -> Vec<(Ask, Option<u64>)> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn passes(&self) -> Vec<Ask> {
        self.asked().into_iter().filter(|(_, from)| from.is_none()).map(|(ask, _)| ask).collect()
    }
}

pub fn unavailable(retry_after: Option<Duration>) -> SourceError {
    SourceError::Unavailable { system: "ats".into(), reason: "503".into(), retry_after }
}

pub fn refused() -> SourceError {
    SourceError::Refused { system: "ats".into(), reason: "401".into(), hint: "check the key".into() }
}

#[async_trait]
impl Source for Script {
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        // A position at the end of a pass is null: the next pass begins at the first row.
        let from = after.and_then(|position| position.0.as_u64());
        let hangs = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((ask.clone(), from));
            state.hangs_behind.is_some_and(|reads| state.asked.len() > reads)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.state.lock().unwrap();
        if state.away {
            return Err(unavailable(None));
        }
        if let Some(failure) = state.failures.pop_front() {
            return Err(failure);
        }
        let from = usize::try_from(from.unwrap_or(0)).unwrap();
        let to = (from + self.page).min(state.rows.len());
        let rows = state.rows[from.min(to)..to].to_vec();
        let end = to == state.rows.len();
        let (mut changes, mut rejects) = (Vec::new(), Vec::new());
        for row in &rows {
            match row {
                Row::Good(reason) => changes.push(put(reason)),
                Row::Bad(id) => rejects.push(bad(id)),
                Row::Unreadable(raw) => {
                    rejects.push(Reject::new(None, Why::new("no_key", "id: a text was expected"), raw.clone()));
                }
            }
        }
        let now = self.clock.now();
        Ok(Page {
            changes,
            rejects,
            read: rows.len() as u64,
            superseded: 0,
            next: Position(if end { serde_json::Value::Null } else { to.into() }),
            end,
            captured: now,
            complete_to: end.then_some(now),
            gone: None,
        })
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        match serde_json::from_slice::<Reason>(raw) {
            Ok(reason) => Ok(put(&reason)),
            Err(_) => Err(Reject::new(None, Why::new("wrong_type", "not a reason"), Bytes::copy_from_slice(raw))),
        }
    }
}

fn bad(id: &str) -> Reject {
    Reject::new(Some(key(id)), Why::new("missing_field", "name: missing"), format!("{{\"id\":\"{id}\"}}"))
}

/// A feed of reasons that runs every minute and tells what has vanished.
pub fn feed(script: &Script) -> Feed {
    Feed {
        topic: topic(Reason::TOPIC),
        source: Box::new(script.clone()),
        schedule: Schedule::Every(Duration::from_secs(60)),
        reconcile: None,
        vanished: Vanished::Report,
    }
}

pub fn system(feeds: Vec<Feed>) -> System {
    System { name: "ats".into(), feeds }
}
