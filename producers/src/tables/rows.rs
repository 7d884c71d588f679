//! Makes changes of rows: one after the other into one buffer, from whatever the database sends. No I/O.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use pipeline::change::Change;
use pipeline::reject::{Reason, Reject};
use schemas::{Key, Schema, raw};
use serde_json::Value as Json;

use super::derived;
use super::plan::{ChangeKind, Column, Origin, Plan};
use super::position::Row;
use super::types::ColumnKind;

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// What was expected there.
    pub expected: &'static str,
    /// The value as text, for the dead letter alone.
    pub shown: Option<String>,
}

impl Misfit {
    /// A value that has no text worth keeping.
    pub fn new(expected: &'static str) -> Self {
        Self { expected, shown: None }
    }

    /// A value that a person may want to see.
    pub fn showing(expected: &'static str, shown: impl Into<String>) -> Self {
        Self { expected, shown: Some(shown.into()) }
    }
}

/// One row as the database sends it. Columns are counted as they are selected.
pub trait Cells {
    /// Whether the column is null.
    fn is_null(&self, at: usize) -> bool;

    /// Writes the column's value, which isn't null. `zone`: what it means, where it has none of its own.
    fn write(&self, at: usize, kind: &ColumnKind, zone: Option<Tz>, out: &mut Vec<u8>) -> Result<(), Misfit>;

    /// The column's text, where it is text or JSON.
    fn text(&self, at: usize) -> Result<&str, Misfit>;

    /// The column's value as part of a key, as [`schemas::EntityTopic::key_of`] has it.
    fn key_part(&self, at: usize, kind: &ColumnKind) -> Result<String, Misfit>;

    /// The column's value as the database takes it back, whatever it is.
    fn back(&self, at: usize, kind: &ColumnKind) -> String;

    /// As [`Self::back`], for a change column.
    fn change_back(&self, at: usize, kind: &ColumnKind) -> Json {
        self.back(at, kind).into()
    }

    /// The number in a change column, or the microseconds since 1970 that it shows.
    fn number(&self, at: usize, kind: &ColumnKind) -> Option<i64>;
}

/// A page in the making.
#[derive(Default)]
pub struct Rows {
    bodies: Vec<u8>,
    changes: Vec<(Key, Range<usize>, Option<DateTime<Utc>>)>,
    /// Records that can't be used.
    pub rejects: Vec<Reject>,
    /// What they take.
    rejected_bytes: usize,
    /// How many there were.
    pub read: u64,
    /// The last one.
    pub last: Option<Row>,
    /// The highest number of the change column.
    pub high: Option<i64>,
}

impl Rows {
    /// Adds a row: a change, or a reject that names the columns.
    pub fn add(&mut self, plan: &Plan, cells: &impl Cells) {
        self.read += 1;
        let number = plan.change.and_then(|(at, _)| match cells.is_null(at) {
            true => None,
            false => cells.number(at, &plan.select[at].kind),
        });
        let time = match plan.change {
            Some((_, ChangeKind::Time(zone))) => number.and_then(|micros| moment(micros, zone)),
            Some((_, ChangeKind::Number)) => {
                self.high = self.high.max(number);
                None
            }
            None => None,
        };
        let key = match key(plan, cells) {
            Ok(key) => key,
            Err(keyless) => {
                let reject = keyless.reject(plan, cells, &mut self.bodies);
                return self.set_aside(reject);
            }
        };
        let start = self.bodies.len();
        match write(plan, cells, &mut self.bodies) {
            wrong if wrong.is_empty() => self.changes.push((key, start..self.bodies.len(), time)),
            wrong => {
                let raw = shown(&plan.schema, &self.bodies[start..], &wrong);
                self.bodies.truncate(start);
                let text = wrong.iter().map(|wrong| format!("{}: {}", wrong.column, wrong.misfit.expected));
                let text = text.collect::<Vec<_>>().join("; ");
                self.set_aside(Reject::new(Some(key), Reason::new("bad_value", text), raw));
            }
        }
    }

    fn set_aside(&mut self, reject: Reject) {
        self.rejected_bytes += reject.raw.len();
        self.rejects.push(reject);
    }

    /// Notes the place of a row, to go on behind it.
    pub fn mark(&mut self, plan: &Plan, cells: &impl Cells, by_change: bool) {
        let change = plan.change.filter(|_| by_change);
        let change = change.map(|(at, _)| cells.change_back(at, &plan.select[at].kind));
        let key = plan.key.iter().map(|at| cells.back(*at, &plan.select[*at].kind)).collect();
        self.last = Some(Row { change, key });
    }

    /// The keys so far, those of rejects included.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let rejected = self.rejects.iter().filter_map(|reject| reject.key.as_ref());
        self.changes.iter().map(|(key, ..)| key).chain(rejected).map(Key::as_str)
    }

    /// What the bodies take so far, and what was set aside.
    pub fn bytes(&self) -> usize {
        self.bodies.len() + self.rejected_bytes
    }

    /// The changes and the rejects.
    pub fn finish(self) -> (Vec<Change>, Vec<Reject>) {
        let bodies = Bytes::from(self.bodies);
        let change = |(key, range, time)| Change::Put { key, body: bodies.slice(range), time };
        (self.changes.into_iter().map(change).collect(), self.rejects)
    }
}

/// A row without a key that can be used.
struct Keyless {
    /// The place of the column.
    at: usize,
    misfit: Misfit,
}

impl Keyless {
    /// With all that the row holds: one without a key isn't another.
    fn reject(self, plan: &Plan, cells: &impl Cells, bodies: &mut Vec<u8>) -> Reject {
        let start = bodies.len();
        let mut wrong = write(plan, cells, bodies);
        let field = plan.origins.iter().position(|origin| *origin == Origin::Column(self.at)).unwrap_or_default();
        let column = plan.select[self.at].name.clone();
        let reason = Reason::new("no_key", format!("{column}: {}", self.misfit.expected));
        if !wrong.iter().any(|wrong| wrong.field == field) {
            wrong.push(Wrong { field, column, misfit: self.misfit });
        }
        let raw = shown(&plan.schema, &bodies[start..], &wrong);
        bodies.truncate(start);
        Reject::new(None, reason, raw)
    }
}

/// A field that couldn't be written; null stands in its place, in a key's something of its type.
struct Wrong {
    field: usize,
    column: String,
    misfit: Misfit,
}

fn write(plan: &Plan, cells: &impl Cells, out: &mut Vec<u8>) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    for (n, (field, origin)) in plan.schema.fields().iter().zip(&plan.origins).enumerate() {
        let (at, written) = match origin {
            Origin::Gone => {
                raw::long(out, 0);
                continue;
            }
            Origin::Column(at) if !field.nullable => {
                let start = out.len();
                let column = &plan.select[*at];
                let written = match cells.is_null(*at) {
                    true => Err(Misfit::new(NULL)),
                    false => cells.write(*at, &column.kind, plan.zone_of(*at), out),
                };
                (at, written.inspect_err(|_| something(&column.kind, start, out)))
            }
            Origin::Column(at) | Origin::Derived(at, _) if cells.is_null(*at) => {
                raw::long(out, 0);
                continue;
            }
            Origin::Column(at) => {
                let start = out.len();
                raw::long(out, 1);
                let column = &plan.select[*at];
                let written = match is_json(column, cells, *at) {
                    Ok(()) => cells.write(*at, &column.kind, plan.zone_of(*at), out),
                    Err(misfit) => Err(misfit),
                };
                (at, written.inspect_err(|_| null_from(start, out)))
            }
            Origin::Derived(at, derived) => {
                let found = cells
                    .text(*at)
                    .and_then(|text| derived::find(text, derived).map_err(|()| Misfit::showing("expected JSON", text)));
                let written = found.map(|found| match found {
                    Some(text) => {
                        raw::long(out, 1);
                        raw::bytes(out, text.as_bytes());
                    }
                    None => raw::long(out, 0),
                });
                (at, written.inspect_err(|_| raw::long(out, 0)))
            }
        };
        if let Err(misfit) = written {
            wrong.push(Wrong { field: n, column: plan.select[*at].name.clone(), misfit });
        }
    }
    wrong
}

/// Text of which only the configuration says that it is JSON may be something else.
fn is_json(column: &Column, cells: &impl Cells, at: usize) -> Result<(), Misfit> {
    if column.kind != ColumnKind::Json || matches!(column.cast.as_str(), "json" | "jsonb") {
        return Ok(());
    }
    let text = cells.text(at)?;
    let read = serde_json::from_str::<serde::de::IgnoredAny>(text);
    read.map(|_| ()).map_err(|_| Misfit::showing("expected JSON", text))
}

fn null_from(start: usize, out: &mut Vec<u8>) {
    out.truncate(start);
    raw::long(out, 0);
}

/// In place of a part of a key.
fn something(kind: &ColumnKind, start: usize, out: &mut Vec<u8>) {
    out.truncate(start);
    match kind {
        ColumnKind::Boolean => raw::boolean(out, false),
        ColumnKind::Double => raw::double(out, 0.0),
        ColumnKind::Decimal { .. } => raw::decimal(out, 0),
        ColumnKind::Uuid => raw::bytes(out, b"00000000-0000-0000-0000-000000000000"),
        ColumnKind::String | ColumnKind::Bytes | ColumnKind::Json => raw::bytes(out, b""),
        ColumnKind::Long | ColumnKind::Date | ColumnKind::Moment | ColumnKind::Local | ColumnKind::Array(_) => {
            raw::long(out, 0);
        }
    }
}

const NULL: &str = "part of the key, and null";

fn key(plan: &Plan, cells: &impl Cells) -> Result<Key, Keyless> {
    let mut parts = Vec::with_capacity(plan.key.len());
    for at in &plan.key {
        if cells.is_null(*at) {
            return Err(Keyless { at: *at, misfit: Misfit::new(NULL) });
        }
        if plan.text_only.contains(at) {
            cells.text(*at).map_err(|misfit| Keyless { at: *at, misfit })?;
        }
        let part = cells.key_part(*at, &plan.select[*at].kind);
        parts.push(part.map_err(|misfit| Keyless { at: *at, misfit })?);
    }
    let parts: Vec<Option<&str>> = parts.iter().map(|part| Some(part.as_str())).collect();
    Ok(Key::of(&parts))
}

/// The row as JSON that [`schemas::from_json`] takes once what is wrong has been put right, and not before: a value that
/// would be taken for another (no value, or bytes) stands in an object, which no field takes.
fn shown(schema: &Schema, body: &[u8], wrong: &[Wrong]) -> Vec<u8> {
    let mut json = schemas::to_json(schema, body).unwrap_or_default();
    let names: Vec<&str> =
        wrong.iter().filter_map(|wrong| Some(schema.fields().get(wrong.field)?.name.as_str())).collect();
    for (name, wrong) in names.iter().zip(wrong) {
        json[*name] = wrong.misfit.shown.as_deref().into();
    }
    let problems = schemas::from_json(schema, &json).err().unwrap_or_default();
    for name in names {
        if !problems.iter().any(|problem| problem.path == name) {
            let found = json[name].take();
            json[name] = serde_json::json!({ "unusable": found });
        }
    }
    json.to_string().into_bytes()
}

/// The moment that a change column shows. `None`: none that can be told.
fn moment(micros: i64, zone: Option<Tz>) -> Option<DateTime<Utc>> {
    let micros = zone.map_or(Some(micros), |zone| utc(micros, zone))?;
    DateTime::from_timestamp_micros(micros).filter(|_| raw::is_moment(micros))
}

/// What a clock in this zone means, in microseconds since 1970 in UTC. Of an hour that comes twice, the first.
pub fn utc(local: i64, zone: Tz) -> Option<i64> {
    if zone == Tz::UTC {
        return Some(local);
    }
    let clock = DateTime::from_timestamp_micros(local)?.naive_utc();
    match zone.from_local_datetime(&clock).earliest() {
        Some(moment) => Some(moment.timestamp_micros()),
        // An hour that is skipped: as if the clock hadn't been moved yet.
        None => {
            let before = zone.offset_from_utc_datetime(&(clock - chrono::TimeDelta::days(1)));
            local.checked_sub(i64::from(before.fix().local_minus_utc()) * 1_000_000)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn clocks_that_are_moved() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let kyiv = chrono_tz::Europe::Kyiv;
        assert_eq!(utc(at("2024-01-10T12:00:00Z"), kyiv), Some(at("2024-01-10T10:00:00Z")));
        // 2024-10-27: four o'clock becomes three; 2024-03-31: three becomes four.
        assert_eq!(utc(at("2024-10-27T03:30:00Z"), kyiv), Some(at("2024-10-27T00:30:00Z")));
        assert_eq!(utc(at("2024-03-31T03:30:00Z"), kyiv), Some(at("2024-03-31T01:30:00Z")));
        assert_eq!(utc(7, Tz::UTC), Some(7));
    }
}
