//! Values in PostgreSQL's binary format, as `COPY … (format binary)` takes them. Does no I/O.

use crate::sql::cell::{Cell, Shape};

/// PostgreSQL counts days and microseconds from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// How a column's values travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Uuid,
    Bool,
    Int4,
    Int8,
    Float8,
    Date,
    Moment,
    Jsonb,
    Bytes,
    /// As text that is cast to whatever the column's type is.
    Text,
}

impl Wire {
    /// For what a column is made for, and the type it has, as a cast takes it.
    pub(super) fn of(shape: Shape, cast: &str) -> Self {
        match (shape, cast) {
            (_, "uuid") => Self::Uuid,
            (_, "integer") => Self::Int4,
            (_, "bigint") => Self::Int8,
            (Shape::Bool, "boolean") => Self::Bool,
            (Shape::Float | Shape::Double, "double precision") => Self::Float8,
            (Shape::Date, "date") => Self::Date,
            (Shape::Timestamp, "timestamp with time zone" | "timestamp without time zone")
            | (Shape::LocalTimestamp | Shape::Date, "timestamp without time zone") => Self::Moment,
            (Shape::Json, "jsonb") => Self::Jsonb,
            (Shape::Bytes, "bytea") => Self::Bytes,
            _ => Self::Text,
        }
    }
}

/// Adds one field, its length first. `false`: the value can't be said like this, and `out` is no good any more.
pub(super) fn field(out: &mut Vec<u8>, wire: Wire, cell: &Cell) -> bool {
    match (wire, cell) {
        (_, Cell::Null) => out.extend((-1_i32).to_be_bytes()),
        (Wire::Text, Cell::Text(text)) => sized(out, text.as_bytes()),
        (Wire::Text, cell) => sized(out, super::rows::text(cell).unwrap_or_default().as_bytes()),
        (Wire::Uuid, Cell::Text(text)) => match uuid::Uuid::try_parse(text) {
            Ok(id) => sized(out, id.as_bytes()),
            // PostgreSQL says what is wrong with it.
            Err(_) => return false,
        },
        (Wire::Bool, Cell::Bool(b)) => sized(out, &[u8::from(*b)]),
        (Wire::Int4, cell) => match whole(cell).and_then(|n| i32::try_from(n).ok()) {
            Some(n) => sized(out, &n.to_be_bytes()),
            None => return false,
        },
        (Wire::Int8, cell) => match whole(cell) {
            Some(n) => sized(out, &n.to_be_bytes()),
            None => return false,
        },
        (Wire::Float8, Cell::Real(x)) => sized(out, &x.to_be_bytes()),
        (Wire::Date, Cell::Date(day)) => sized(out, &(day.0 - EPOCH_DAYS).to_be_bytes()),
        (Wire::Moment, Cell::Date(day)) => moment(out, i64::from(day.0) * MICROS_PER_DAY),
        (Wire::Moment, Cell::Timestamp(at)) => moment(out, at.0),
        (Wire::Moment, Cell::LocalTimestamp(at)) => moment(out, at.0),
        (Wire::Jsonb, Cell::Text(text)) => {
            out.extend((text.len() as i32 + 1).to_be_bytes());
            // The version of the format.
            out.push(1);
            out.extend(text.as_bytes());
        }
        (Wire::Bytes, Cell::Blob(bytes)) => sized(out, bytes),
        _ => return false,
    }
    true
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    // A batch is bounded far below what an i32 counts.
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend(bytes);
}

fn moment(out: &mut Vec<u8>, micros: i64) {
    sized(out, &(micros - i64::from(EPOCH_DAYS) * MICROS_PER_DAY).to_be_bytes());
}

/// A number, or the text of one: a parent's identity is looked up as text.
fn whole(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Int(n) => Some(*n),
        Cell::Text(text) => text.parse().ok(),
        _ => None,
    }
}
