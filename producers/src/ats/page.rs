//! Gathers the records of one page: the last record of a key counts, and every record is accounted for. No I/O.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use pipeline::change::Change;
use pipeline::reject::Reject;
use pipeline::source::{Page, Position};
use schemas::Key;

/// A page in the making.
#[derive(Default)]
pub(super) struct Builder {
    changes: Vec<Change>,
    rejects: Vec<Reject>,
    superseded: u64,
    /// Where the change of a key stands.
    places: HashMap<Key, usize>,
}

impl Builder {
    /// Adds a record. A change overtakes an earlier one of its key; a reject overtakes nothing, since what came
    /// before it could be read.
    pub(super) fn add(&mut self, record: Result<Change, Reject>) {
        let change = match record {
            Ok(change) => change,
            Err(reject) => return self.rejects.push(reject),
        };
        let place = *self.places.entry(change.key().clone()).or_insert(self.changes.len());
        match self.changes.get_mut(place) {
            Some(earlier) => {
                *earlier = change;
                self.superseded += 1;
            }
            None => self.changes.push(change),
        }
    }

    /// Counts a record that is the same, byte for byte, as an earlier one of this page.
    pub(super) fn add_repeated(&mut self) {
        self.superseded += 1;
    }

    pub(super) fn page(
        self,
        next: Position,
        end: bool,
        captured: DateTime<Utc>,
        complete_to: Option<DateTime<Utc>>,
    ) -> Page {
        let Self { changes, rejects, superseded, .. } = self;
        let read = changes.len() as u64 + rejects.len() as u64 + superseded;
        Page { changes, rejects, read, superseded, next, end, captured, complete_to, gone: None }
    }
}
