//! One row of SQLite. Does no I/O.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use schemas::{Date, LocalTimestamp, Timestamp, raw};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

use crate::tables::rows::{Cells, Misfit, utc};
use crate::tables::types::ColumnKind;

/// A row.
pub(super) struct SqliteCells<'r>(pub(super) &'r SqliteRow);

/// A value, by what it is.
enum Value<'r> {
    Integer(i64),
    Real(f64),
    Text(&'r str),
    Blob(&'r [u8]),
}

impl<'r> SqliteCells<'r> {
    fn value(&self, at: usize) -> Result<Value<'r>, Misfit> {
        const ODD: Misfit = Misfit { expected: "expected text in UTF-8", shown: None };
        let row: &'r SqliteRow = self.0;
        let raw = row.try_get_raw(at).map_err(|_| ODD)?;
        let kind = raw.type_info().name().to_owned();
        Ok(match kind.as_str() {
            "INTEGER" | "BOOLEAN" => Value::Integer(row.try_get_unchecked(at).map_err(|_| ODD)?),
            "NULL" => return Err(ODD),
            "REAL" => Value::Real(row.try_get_unchecked(at).map_err(|_| ODD)?),
            "BLOB" => Value::Blob(row.try_get_unchecked(at).map_err(|_| ODD)?),
            _ => Value::Text(row.try_get_unchecked(at).map_err(|_| ODD)?),
        })
    }
}

/// A parameter.
#[derive(Debug, PartialEq)]
pub(super) enum Parameter<'a> {
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(Vec<u8>),
}

/// What [`literal`] wrote. Whatever has no such form is text.
pub(super) fn parameter(text: &str) -> Parameter<'_> {
    let within = |opening: &str| text.strip_prefix(opening).and_then(|rest| rest.strip_suffix('\''));
    if let Some(text) = within("'") {
        return Parameter::Text(text);
    }
    if let Some(Ok(bytes)) = within("x'").map(from_hex) {
        return Parameter::Blob(bytes);
    }
    if let Ok(n) = text.parse() {
        return Parameter::Integer(n);
    }
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    match text.parse() {
        Ok(x) if is_number => Parameter::Real(x),
        _ => Parameter::Text(text),
    }
}

/// A value with its kind: SQLite compares values of different kinds by their kinds, and where a column declares no type,
/// every text is above every number.
fn literal(value: &Value<'_>) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Real(x) if x.is_infinite() => if *x > 0.0 { "9e999" } else { "-9e999" }.to_owned(),
        Value::Real(x) => format!("{x:?}"),
        Value::Text(text) => format!("'{text}'"),
        Value::Blob(bytes) => format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16)).collect()
}

impl Cells for SqliteCells<'_> {
    fn is_null(&self, at: usize) -> bool {
        self.0.try_get_raw(at).is_ok_and(|value| value.is_null())
    }

    fn write(&self, at: usize, kind: &ColumnKind, zone: Option<Tz>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        let value = self.value(at)?;
        let odd = |expected: &'static str| Misfit { expected, shown: told(&value) };
        match (kind, &value) {
            (ColumnKind::Long, Value::Integer(n)) => raw::long(out, *n),
            (ColumnKind::Long, _) => return Err(odd("expected a whole number")),
            (ColumnKind::Double, Value::Real(x)) => raw::double(out, *x),
            (ColumnKind::Double, Value::Integer(n)) => raw::double(out, *n as f64),
            (ColumnKind::Double, _) => return Err(odd("expected a number")),
            (ColumnKind::Boolean, Value::Integer(truth @ 0..=1)) => raw::boolean(out, *truth == 1),
            (ColumnKind::Boolean, _) => return Err(odd("expected 0 or 1")),
            (ColumnKind::Bytes, Value::Blob(bytes)) => raw::bytes(out, bytes),
            (ColumnKind::Bytes, Value::Text(text)) => raw::bytes(out, text.as_bytes()),
            (ColumnKind::Bytes, _) => return Err(odd("expected bytes")),
            (ColumnKind::String | ColumnKind::Array(_), value) => match shown(value) {
                Some(text) => raw::bytes(out, text.as_bytes()),
                None => return Err(odd("expected text")),
            },
            (ColumnKind::Json, Value::Text(text)) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
                raw::bytes(out, text.as_bytes());
            }
            (ColumnKind::Json, _) => return Err(odd("expected JSON as text")),
            (ColumnKind::Uuid, Value::Text(text)) if raw::is_uuid(text) => raw::bytes(out, text.as_bytes()),
            (ColumnKind::Uuid, _) => return Err(odd("expected a uuid as text")),
            (ColumnKind::Date, value) => match day(value) {
                Some(day) => raw::long(out, i64::from(day.0)),
                None => return Err(odd("expected a day such as 2023-01-31, within the years 1 to 9999")),
            },
            (ColumnKind::Local, value) => {
                let known = clock(value).and_then(|local| zone.map_or(Some(local), |zone| utc(local, zone)));
                match known.filter(|micros| raw::is_moment(*micros)) {
                    Some(micros) => raw::long(out, micros),
                    None => return Err(odd("expected a time such as 2023-01-31 07:00:00, within the years 1 to 9999")),
                }
            }
            (ColumnKind::Moment, value) => match moment(value) {
                Some(micros) => raw::long(out, micros),
                None => return Err(odd("expected a moment such as 2023-01-31T07:00:00Z, within the years 1 to 9999")),
            },
            (ColumnKind::Decimal { precision, scale }, value) => {
                let unscaled = shown(value).and_then(|text| raw::unscaled(&padded(&text, *scale), *scale));
                match unscaled.filter(|n| n.unsigned_abs() < 10_u128.pow(*precision)) {
                    Some(unscaled) => raw::decimal(out, unscaled),
                    None => return Err(odd("expected a decimal of as many digits as its column declares")),
                }
            }
        }
        Ok(())
    }

    fn text(&self, at: usize) -> Result<&str, Misfit> {
        match self.value(at)? {
            Value::Text(text) => Ok(text),
            other => Err(Misfit { expected: "expected text", shown: told(&other) }),
        }
    }

    fn key_part(&self, at: usize, kind: &ColumnKind) -> Result<String, Misfit> {
        let value = self.value(at)?;
        let odd = || Misfit { expected: "expected a value of its column's type", shown: told(&value) };
        match kind {
            ColumnKind::Date => day(&value).map(|day| day.to_string()).ok_or_else(odd),
            ColumnKind::Local => clock(&value).map(|micros| LocalTimestamp(micros).to_string()).ok_or_else(odd),
            ColumnKind::Moment => moment(&value).map(|micros| Timestamp(micros).to_string()).ok_or_else(odd),
            ColumnKind::Boolean => match value {
                Value::Integer(truth @ 0..=1) => Ok((truth == 1).to_string()),
                _ => Err(odd()),
            },
            ColumnKind::Decimal { scale, .. } => {
                let unscaled = shown(&value).and_then(|text| raw::unscaled(&padded(&text, *scale), *scale));
                let decimal = unscaled.map(|unscaled| schemas::Decimal { unscaled, scale: *scale });
                decimal.map(|decimal| decimal.to_string()).ok_or_else(odd)
            }
            _ => shown(&value).ok_or_else(odd),
        }
    }

    fn back(&self, at: usize, _: &ColumnKind) -> String {
        // Below every value: rows without one come first.
        const LOWEST: &str = "-9e999";
        match self.value(at) {
            Ok(value) => literal(&value),
            Err(_) if self.is_null(at) => LOWEST.to_owned(),
            Err(_) => String::new(),
        }
    }

    fn number(&self, at: usize, kind: &ColumnKind) -> Option<i64> {
        let value = self.value(at).ok()?;
        match (kind, &value) {
            (ColumnKind::Moment, value) => moment(value),
            (ColumnKind::Local, value) => clock(value),
            (_, Value::Integer(n)) => Some(*n),
            _ => None,
        }
    }
}

fn shown(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Integer(n) => Some(n.to_string()),
        Value::Real(x) => Some(x.to_string()),
        Value::Text(text) => Some((*text).to_owned()),
        Value::Blob(_) => None,
    }
}

/// More of a blob isn't shown in a dead letter.
const SHOWN: usize = 1024;

/// For a dead letter.
fn told(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Blob(bytes) if bytes.len() > SHOWN => {
            Some(format!("{} and more, {} bytes in all", literal(&Value::Blob(&bytes[..SHOWN])), bytes.len()))
        }
        Value::Blob(_) => Some(literal(value)),
        _ => shown(value),
    }
}

/// SQLite keeps `1.50` as the number 1.5, and `2.00` as 2.
fn padded(text: &str, scale: u32) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    match fraction.len() as u32 <= scale {
        true => format!("{whole}.{fraction:0<width$}", width = scale as usize),
        false => text.to_owned(),
    }
}

fn day(value: &Value<'_>) -> Option<Date> {
    let Value::Text(text) = value else { return None };
    let day = Date::from(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?);
    raw::is_day(i64::from(day.0)).then_some(day)
}

/// What a clock shows, in microseconds since 1970.
fn clock(value: &Value<'_>) -> Option<i64> {
    let Value::Text(text) = value else { return None };
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let time = time.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(LocalTimestamp::from(time).0).filter(|micros| raw::is_moment(*micros))
}

fn moment(value: &Value<'_>) -> Option<i64> {
    let Value::Text(text) = value else { return None };
    let forms = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
    let parsed = DateTime::parse_from_rfc3339(text).ok();
    let parsed = parsed.or_else(|| forms.iter().find_map(|form| DateTime::parse_from_str(text, form).ok()))?;
    Some(parsed.timestamp_micros()).filter(|micros| raw::is_moment(*micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_bound_as_what_it_was() {
        for (value, bound) in [
            (Value::Integer(-7), Parameter::Integer(-7)),
            (Value::Real(7.0), Parameter::Real(7.0)),
            (Value::Real(0.1 + 0.2), Parameter::Real(0.1 + 0.2)),
            (Value::Real(f64::NEG_INFINITY), Parameter::Real(f64::NEG_INFINITY)),
            (Value::Text("7"), Parameter::Text("7")),
            (Value::Text("x'07'"), Parameter::Text("x'07'")),
            (Value::Text("O'Hara"), Parameter::Text("O'Hara")),
            (Value::Blob(&[0, 255]), Parameter::Blob(vec![0, 255])),
        ] {
            assert_eq!(parameter(&literal(&value)), bound);
        }
        assert_eq!(parameter("2024-01-31"), Parameter::Text("2024-01-31"));
        assert_eq!(parameter("inf"), Parameter::Text("inf"));
    }
}
