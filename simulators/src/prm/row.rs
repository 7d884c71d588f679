//! Rows in memory, and how their cells are written.

use std::borrow::Cow;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use uuid::Uuid;

use super::tables::{Kind, Table};

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `integer`.
    Int(i64),
    /// `varchar`.
    Text(Cow<'static, str>),
    /// `uuid`.
    Uuid(Uuid),
    /// `date`.
    Date(NaiveDate),
    /// `timestamp`, UTC, whole microseconds.
    Time(NaiveDateTime),
    /// `timestamptz`, in UTC, whole microseconds.
    Instant(NaiveDateTime),
    /// `jsonb`. A database may order the names otherwise.
    Json(String),
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row.
    pub table: Table,
    /// As many as the table has columns, in their order.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// `None` becomes null.
    pub(super) fn of<T: Into<Cell>>(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }

    /// Whether it may stand in a column of this kind.
    pub fn is(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Cell::Null, _)
                | (Cell::Bool(_), Kind::Boolean)
                | (Cell::Int(_), Kind::Integer)
                | (Cell::Text(_), Kind::Varchar)
                | (Cell::Uuid(_), Kind::Uuid)
                | (Cell::Date(_), Kind::Date)
                | (Cell::Time(_), Kind::Timestamp)
                | (Cell::Instant(_), Kind::Timestamptz)
                | (Cell::Json(_), Kind::Jsonb)
        )
    }

    /// As PostgreSQL reads it and SQLite stores it, times with all six digits; `None` for null.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        self.write(&mut text).then_some(text)
    }

    /// Appends the text; false, and nothing, for null.
    pub(super) fn write(&self, out: &mut String) -> bool {
        match self {
            Cell::Null => return false,
            // SQLite's columns take these for the integers 1 and 0, PostgreSQL's for booleans.
            Cell::Bool(value) => out.push(if *value { '1' } else { '0' }),
            Cell::Int(value) => out.push_str(&value.to_string()),
            Cell::Text(text) => out.push_str(text),
            Cell::Uuid(id) => out.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Cell::Date(date) => write_date(out, *date),
            Cell::Time(time) => write_time(out, *time),
            Cell::Instant(time) => {
                write_time(out, *time);
                out.push_str("+00:00");
            }
            Cell::Json(json) => out.push_str(json),
        }
        true
    }
}

impl Row {
    /// The cell of a column; `None` where the table has no such column.
    pub fn get(&self, column: &str) -> Option<&Cell> {
        self.cells.get(self.table.position(column)?)
    }

    /// Appends the row as a line of `COPY … (format text)`.
    pub(super) fn write_copy(&self, out: &mut String, scratch: &mut String) {
        for (at, cell) in self.cells.iter().enumerate() {
            if at > 0 {
                out.push('\t');
            }
            match cell {
                Cell::Text(_) | Cell::Json(_) => {
                    scratch.clear();
                    cell.write(scratch);
                    escape(scratch, out);
                }
                cell if cell.write(out) => {}
                _ => out.push_str("\\N"),
            }
        }
        out.push('\n');
    }
}

fn escape(text: &str, out: &mut String) {
    let special = |byte: u8| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    if !text.bytes().any(special) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
}

// By hand: every row has some, and chrono's formatting would be a good part of a fill.
fn write_date(out: &mut String, date: NaiveDate) {
    digits(out, date.year().unsigned_abs(), 4);
    out.push('-');
    digits(out, date.month(), 2);
    out.push('-');
    digits(out, date.day(), 2);
}

fn write_time(out: &mut String, time: NaiveDateTime) {
    write_date(out, time.date());
    for (mark, value) in [(' ', time.hour()), (':', time.minute()), (':', time.second())] {
        out.push(mark);
        digits(out, value, 2);
    }
    out.push('.');
    digits(out, time.nanosecond() / 1_000, 6);
}

fn digits(out: &mut String, value: u32, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10_u32.pow(place) % 10;
        out.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Cell {
        Cell::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(Cow::Owned(text))
    }
}

impl From<Uuid> for Cell {
    fn from(id: Uuid) -> Cell {
        Cell::Uuid(id)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Bool(value)
    }
}

impl From<NaiveDate> for Cell {
    fn from(date: NaiveDate) -> Cell {
        Cell::Date(date)
    }
}

impl From<NaiveDateTime> for Cell {
    fn from(time: NaiveDateTime) -> Cell {
        Cell::Time(time)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_line_of_copy_escapes_what_would_end_a_cell() {
        let time = NaiveDate::from_ymd_opt(2026, 3, 9).unwrap().and_hms_micro_opt(7, 5, 1, 42).unwrap();
        let cells = vec![
            Cell::Null,
            "tab\tand \\".to_owned().into(),
            Cell::Json("{\"a\":\"line\\nend\"}".to_owned()),
            time.into(),
            Cell::Instant(time),
            true.into(),
        ];
        let mut line = String::new();
        Row { table: Table::Parties, cells }.write_copy(&mut line, &mut String::new());
        assert_eq!(
            line,
            "\\N\ttab\\tand \\\\\t{\"a\":\"line\\\\nend\"}\t2026-03-09 07:05:01.000042\t2026-03-09 07:05:01.000042+00:00\t1\n"
        );
    }
}
