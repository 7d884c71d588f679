//! The applicants of a simulated ATS and the order they are listed in. No I/O, no chance, no clock.
//!
//! A generated row is its [`Head`] until it is edited; then it is its JSON text. Most of a million rows never are.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use serde_json::Value;
use uuid::Uuid;

use super::Order;
use super::dates::{self, LocalMs};
use super::generate::{Head, Recipe};
use super::query::Filter;
use super::random::stream;

const STREAM: u64 = 0x0bde;

/// How many lists of selected rows are kept: clients page through one or a few windows at a time.
const KEPT_SELECTIONS: usize = 4;

#[derive(Debug)]
struct Row {
    /// Nil when it can't be read as one.
    id: Uuid,
    /// -1 when it can't be read as one.
    ats1_id: i64,
    created: LocalMs,
    updated: LocalMs,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// As the recipe makes it.
    Generated(u32),
    /// JSON text.
    Edited(Box<str>),
}

#[derive(Debug)]
pub(crate) struct Rows {
    recipe: Recipe,
    rows: Vec<Row>,
    next_index: u32,
    order: Order,
    /// Grows with every change of any row.
    version: u64,
    selections: Vec<Selection>,
}

#[derive(Debug)]
struct Selection {
    version: u64,
    filter: Filter,
    /// Positions in `rows`, in the order asked for.
    rows: Vec<u32>,
}

impl Rows {
    pub(crate) fn generate(recipe: Recipe, count: u32, order: Order) -> Rows {
        let row = |index| {
            let Head { id, ats1_id, created, updated } = recipe.head(index);
            Row { id, ats1_id, created, updated, body: Body::Generated(index) }
        };
        let rows = (0..count).map(row).collect();
        Rows { recipe, rows, next_index: count, order, version: 0, selections: Vec::new() }
    }

    /// Rows as they were recorded; `now` stands for dates that can't be read.
    pub(crate) fn recorded(recipe: Recipe, applicants: &[Value], order: Order, now: LocalMs) -> Rows {
        let rows = applicants.iter().map(|applicant| row_of(applicant, now)).collect();
        Rows { recipe, rows, next_index: 0, order, version: 0, selections: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn value(&self, at: usize) -> Value {
        match &self.rows[at].body {
            Body::Generated(index) => self.recipe.applicant(*index),
            // What is kept was written by serde_json.
            Body::Edited(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        }
    }

    /// Where the applicant is now; ids are compared without regard to case.
    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        match Uuid::parse_str(id) {
            Ok(id) if !id.is_nil() => self.rows.iter().position(|row| row.id == id),
            _ => (0..self.rows.len()).find(|at| {
                self.rows[*at].id.is_nil()
                    && self.value(*at)["applicant_id"].as_str().is_some_and(|its| its.eq_ignore_ascii_case(id))
            }),
        }
    }

    /// Puts a value in the place of a row, whatever it is; `now` stands for dates that can't be read.
    pub(crate) fn replace(&mut self, at: usize, value: &Value, now: LocalMs) {
        self.rows[at] = row_of(value, now);
        self.version += 1;
    }

    pub(crate) fn add(&mut self, value: &Value, now: LocalMs) {
        self.rows.push(row_of(value, now));
        self.version += 1;
    }

    pub(crate) fn remove(&mut self, at: usize) {
        self.rows.remove(at);
        self.version += 1;
    }

    /// Adds an applicant whom nobody has seen before.
    pub(crate) fn add_newcomer(&mut self, now: LocalMs) -> Value {
        loop {
            let newcomer = self.recipe.newcomer(self.next_index, now);
            self.next_index += 1;
            let row = row_of(&newcomer, now);
            // A recorded feed may hold any id.
            let taken = self.rows.iter().any(|other| other.id == row.id || other.ats1_id == row.ats1_id);
            if !taken {
                self.rows.push(row);
                self.version += 1;
                return newcomer;
            }
        }
    }

    /// One page of the rows that the filter holds for, as JSON texts.
    pub(crate) fn page(&mut self, filter: &Filter, offset: usize, size: usize) -> Vec<String> {
        let selection = self.selection(filter);
        let rows = &self.selections[selection].rows;
        let start = offset.min(rows.len());
        let end = start.saturating_add(size).min(rows.len());
        rows[start..end].iter().map(|at| self.text(*at as usize)).collect()
    }

    /// Everything, in the order it is listed in.
    pub(crate) fn all(&mut self) -> Vec<Value> {
        let selection = self.selection(&Filter::default());
        self.selections[selection].rows.iter().map(|at| self.value(*at as usize)).collect()
    }

    /// Generated pairs that still have the same `ats1_id`.
    pub(crate) fn repeated_ats1_ids(&self) -> Vec<(Uuid, Uuid)> {
        let planted = (1..self.next_index).filter(|index| self.recipe.repeats_ats1_id(*index));
        let pairs: Vec<(Head, Head)> =
            planted.map(|index| (self.recipe.head(index - 1), self.recipe.head(index))).collect();
        let places = self.places(pairs.iter().flat_map(|(one, other)| [one.id, other.id]).collect());
        let still_has = |head: &Head| places.get(&head.id).is_some_and(|at| self.rows[*at].ats1_id == head.ats1_id);
        let still_there = pairs.iter().filter(|(one, other)| still_has(one) && still_has(other));
        still_there.map(|(one, other)| (one.id, other.id)).collect()
    }

    /// Where the generated applicants with a repeated milestone are, in the order they were generated.
    pub(crate) fn with_repeated_milestone(&self) -> Vec<usize> {
        let planted = (0..self.next_index).filter(|index| self.recipe.repeats_milestone(*index));
        let ids: Vec<Uuid> = planted.map(|index| self.recipe.head(index).id).collect();
        let places = self.places(ids.iter().copied().collect());
        ids.iter().filter_map(|id| places.get(id).copied()).collect()
    }

    /// Where these applicants are, found in one pass.
    fn places(&self, wanted: HashSet<Uuid>) -> HashMap<Uuid, usize> {
        let all = self.rows.iter().enumerate();
        all.filter(|(_, row)| wanted.contains(&row.id)).map(|(at, row)| (row.id, at)).collect()
    }

    fn text(&self, at: usize) -> String {
        match &self.rows[at].body {
            Body::Generated(index) => self.recipe.applicant(*index).to_string(),
            Body::Edited(text) => text.to_string(),
        }
    }

    /// The place in `selections` of the rows a filter holds for.
    fn selection(&mut self, filter: &Filter) -> usize {
        let version = self.version;
        self.selections.retain(|kept| kept.version == version);
        if let Some(found) = self.selections.iter().position(|kept| kept.filter == *filter) {
            return found;
        }
        if self.selections.len() == KEPT_SELECTIONS {
            self.selections.remove(0);
        }
        let holds = |at: &u32| {
            let row = &self.rows[*at as usize];
            filter.holds(row.created, row.updated)
        };
        // The count of rows fits: each has an index of 32 bits or came in by hand.
        let mut rows: Vec<u32> = (0..).take(self.rows.len()).filter(holds).collect();
        match self.order {
            Order::Stable => rows.sort_by_key(|at| self.key(*at, |row| row.updated)),
            Order::ByCreated => rows.sort_by_key(|at| self.key(*at, |row| row.created)),
            Order::Shuffled => stream(version, STREAM, 0).shuffle(&mut rows),
        }
        self.selections.push(Selection { version, filter: filter.clone(), rows });
        self.selections.len() - 1
    }

    fn key(&self, at: u32, date: impl Fn(&Row) -> LocalMs) -> (LocalMs, Uuid, u32) {
        let row = &self.rows[at as usize];
        (date(row), row.id, at)
    }
}

fn row_of(value: &Value, now: LocalMs) -> Row {
    let date = |name: &str| value[name].as_str().and_then(dates::parse).unwrap_or(now);
    Row {
        id: value["applicant_id"].as_str().and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_default(),
        ats1_id: value["ats1_id"].as_i64().unwrap_or(-1),
        created: date("created_date"),
        updated: date("updated_date"),
        body: Body::Edited(value.to_string().into_boxed_str()),
    }
}

/// So many different positions out of `len`, or all of them.
pub(crate) fn sample(rng: &mut Rng, len: usize, count: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..len).collect();
    rng.shuffle(&mut positions);
    positions.truncate(count);
    positions
}
