//! From Arrow columns to the JSON that the export gives, straight into one buffer.

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use schemas::{Date, Kind, Schema};
use serde::de::IgnoredAny;

use super::SnapshotError;
use super::config::DatasetSettings;

/// What stands between two records of a list.
const BETWEEN: &[u8] = b",\n";

/// The fields of the records, and how each is written. Made once for a dataset.
pub(super) struct Renderer {
    fields: Vec<Shown>,
    nulls: bool,
}

struct Shown {
    /// The place of its column.
    column: usize,
    /// With quotes and a colon.
    name: Vec<u8>,
    style: Style,
}

/// How the values of a field are written, where the type alone doesn't say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    /// Text that holds a JSON value: as it stands.
    Json,
    /// A date: its midnight in UTC.
    Datetime,
    /// A moment on the clock of a zone, with its offset.
    Zone(Tz),
}

impl Renderer {
    /// Of the fields that the settings name, else all.
    pub fn new(schema: &Schema, settings: &DatasetSettings) -> Result<Self, SnapshotError> {
        let all: Vec<String> = schema.fields().iter().map(|field| field.name.clone()).collect();
        let mut fields = Vec::with_capacity(all.len());
        for name in settings.fields.as_ref().unwrap_or(&all) {
            let from = settings.renamed.get(name).unwrap_or(name);
            let Some((column, field)) = schema.field(from) else {
                return Err(SnapshotError::Dataset {
                    reason: format!("{} has no field {from}", schema.name()),
                    hint: "name another in `fields`, or have its source read it".into(),
                });
            };
            let style = style(from, &field.kind, settings);
            let mut quoted = Vec::with_capacity(name.len() + 3);
            text(name, &mut quoted);
            quoted.push(b':');
            fields.push(Shown { column, name: quoted, style });
        }
        Ok(Self { fields, nulls: settings.nulls })
    }

    /// All rows as records of a list, one after the other.
    pub fn render(&self, rows: &RecordBatch) -> Result<Vec<u8>, SnapshotError> {
        let mut columns = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            columns.push((field.name.as_slice(), Cells::of(rows.column(field.column).as_ref(), field.style)?));
        }
        let mut out = Vec::with_capacity(rows.num_rows() * 400);
        for row in 0..rows.num_rows() {
            if row > 0 {
                out.extend_from_slice(BETWEEN);
            }
            record(&columns, row, self.nulls, &mut out);
        }
        Ok(out)
    }
}

fn style(name: &str, kind: &Kind, settings: &DatasetSettings) -> Style {
    if matches!(kind, Kind::Json) || settings.json_fields.contains(name) {
        return Style::Json;
    }
    if settings.as_datetime.contains(name) {
        return Style::Datetime;
    }
    settings.offset_zone.get(name).map_or(Style::Plain, |zone| Style::Zone(*zone))
}

fn record(columns: &[(&[u8], Cells<'_>)], row: usize, nulls: bool, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut any = false;
    for (name, cells) in columns {
        let is_null = cells.is_null(row);
        if is_null && !nulls {
            continue;
        }
        if any {
            out.push(b',');
        }
        any = true;
        out.extend_from_slice(name);
        if is_null { out.extend_from_slice(b"null") } else { cells.write(row, out) }
    }
    out.push(b'}');
}

/// A column by its type.
enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int(&'a Int32Array),
    Long(&'a Int64Array),
    Float(&'a Float32Array),
    Double(&'a Float64Array),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array),
    Datetime(&'a Date32Array),
    Moment(&'a TimestampMicrosecondArray),
    Local(&'a TimestampMicrosecondArray),
    Zoned(&'a TimestampMicrosecondArray, Tz, bool),
    Decimal(&'a Decimal128Array),
    List(&'a ListArray, Box<Cells<'a>>),
    Map(&'a MapArray, &'a StringArray, Box<Cells<'a>>),
    Record(&'a StructArray, Vec<(Vec<u8>, Cells<'a>)>),
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array, style: Style) -> Result<Self, SnapshotError> {
        Ok(match (array.data_type(), style) {
            (DataType::Boolean, _) => Self::Boolean(array.as_boolean()),
            (DataType::Int32, _) => Self::Int(array.as_primitive::<Int32Type>()),
            (DataType::Int64, _) => Self::Long(array.as_primitive::<Int64Type>()),
            (DataType::Float32, _) => Self::Float(array.as_primitive::<Float32Type>()),
            (DataType::Float64, _) => Self::Double(array.as_primitive::<Float64Type>()),
            (DataType::Utf8, Style::Json) => Self::Json(array.as_string()),
            (DataType::Utf8, _) => Self::Text(array.as_string()),
            (DataType::Binary, _) => Self::Bytes(array.as_binary()),
            (DataType::Date32, Style::Datetime) => Self::Datetime(array.as_primitive::<Date32Type>()),
            (DataType::Date32, _) => Self::Date(array.as_primitive::<Date32Type>()),
            (DataType::Timestamp(TimeUnit::Microsecond, zone), style) => {
                let moments = array.as_primitive::<TimestampMicrosecondType>();
                match (style, zone) {
                    (Style::Zone(of), zone) => Self::Zoned(moments, of, zone.is_none()),
                    // A clock of no particular zone: those that are shown as moments are taken for UTC.
                    (Style::Datetime, _) | (_, Some(_)) => Self::Moment(moments),
                    (_, None) => Self::Local(moments),
                }
            }
            (DataType::Decimal128(_, _), _) => Self::Decimal(array.as_primitive::<Decimal128Type>()),
            (DataType::List(_), _) => {
                let list: &ListArray = array.as_list();
                Self::List(list, Box::new(Self::of(list.values().as_ref(), Style::Plain)?))
            }
            (DataType::Map(_, _), _) => {
                let map = array.as_map();
                let values = Self::of(map.values().as_ref(), Style::Plain)?;
                Self::Map(map, map.keys().as_string(), Box::new(values))
            }
            (DataType::Struct(fields), _) => {
                let of = array.as_struct();
                let mut children = Vec::with_capacity(fields.len());
                for (field, child) in fields.iter().zip(of.columns()) {
                    let mut name = Vec::with_capacity(field.name().len() + 3);
                    text(field.name(), &mut name);
                    name.push(b':');
                    children.push((name, Self::of(child.as_ref(), Style::Plain)?));
                }
                Self::Record(of, children)
            }
            (other, _) => {
                let reason = format!("a column of type {other} can't be shown as JSON");
                return Err(SnapshotError::Dataset { reason, hint: "this is a mistake in the program".into() });
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(a) => a.is_null(row),
            Self::Int(a) => a.is_null(row),
            Self::Long(a) => a.is_null(row),
            Self::Float(a) => a.is_null(row),
            Self::Double(a) => a.is_null(row),
            Self::Text(a) | Self::Json(a) => a.is_null(row),
            Self::Bytes(a) => a.is_null(row),
            Self::Date(a) | Self::Datetime(a) => a.is_null(row),
            Self::Moment(a) | Self::Local(a) | Self::Zoned(a, _, _) => a.is_null(row),
            Self::Decimal(a) => a.is_null(row),
            Self::List(a, _) => a.is_null(row),
            Self::Map(a, _, _) => a.is_null(row),
            Self::Record(a, _) => a.is_null(row),
        }
    }

    fn write_or_null(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) { out.extend_from_slice(b"null") } else { self.write(row, out) }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(a) => out.extend_from_slice(if a.value(row) { b"true" } else { b"false" }),
            Self::Int(a) => number(i64::from(a.value(row)), out),
            Self::Long(a) => number(a.value(row), out),
            Self::Float(a) => float(f64::from(a.value(row)), a.value(row).to_string(), out),
            Self::Double(a) => float(a.value(row), a.value(row).to_string(), out),
            Self::Text(a) => text(a.value(row), out),
            Self::Json(a) => json(a.value(row), out),
            Self::Bytes(a) => {
                out.push(b'"');
                out.extend_from_slice(super::base::hex(a.value(row)).as_bytes());
                out.push(b'"');
            }
            Self::Date(a) => {
                out.push(b'"');
                date(a.value(row), out);
                out.push(b'"');
            }
            Self::Datetime(a) => {
                out.push(b'"');
                date(a.value(row), out);
                out.extend_from_slice(b"T00:00:00.000Z\"");
            }
            Self::Moment(a) => {
                out.push(b'"');
                clock(a.value(row), out);
                out.extend_from_slice(b"Z\"");
            }
            Self::Local(a) => {
                out.push(b'"');
                clock(a.value(row), out);
                out.push(b'"');
            }
            Self::Zoned(a, zone, is_local) => {
                out.push(b'"');
                zoned(a.value(row), *zone, *is_local, out);
                out.push(b'"');
            }
            Self::Decimal(a) => {
                out.push(b'"');
                let scale = u32::try_from(a.scale()).unwrap_or(0);
                out.extend_from_slice(schemas::Decimal { unscaled: a.value(row), scale }.to_string().as_bytes());
                out.push(b'"');
            }
            Self::List(a, items) => {
                let offsets = a.value_offsets();
                out.push(b'[');
                for (nth, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    items.write_or_null(item, out);
                }
                out.push(b']');
            }
            Self::Map(a, keys, values) => {
                let offsets = a.value_offsets();
                out.push(b'{');
                for (nth, entry) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    text(keys.value(entry), out);
                    out.push(b':');
                    values.write_or_null(entry, out);
                }
                out.push(b'}');
            }
            Self::Record(_, children) => {
                out.push(b'{');
                let mut any = false;
                for (name, cells) in children.iter().filter(|(_, cells)| !cells.is_null(row)) {
                    if any {
                        out.push(b',');
                    }
                    any = true;
                    out.extend_from_slice(name);
                    cells.write(row, out);
                }
                out.push(b'}');
            }
        }
    }
}

fn number(n: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// JSON has no word for what isn't a number: these are texts, as `dead-letters` shows them.
fn float(value: f64, shown: String, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(shown.as_bytes());
        return;
    }
    let word: &[u8] = if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(word);
}

/// Text in quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (DIGITS[usize::from(control >> 4)], DIGITS[usize::from(control & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// A JSON value as it stands, on one line. What isn't one is shown as text: one bad value mustn't spoil a whole export.
fn json(value: &str, out: &mut Vec<u8>) {
    if serde_json::from_str::<IgnoredAny>(value).is_err() {
        text(value, out);
        return;
    }
    // Within its texts there are no line ends: JSON wants them escaped.
    out.extend(value.trim().bytes().map(|byte| if byte < 0x20 { b' ' } else { byte }));
}

fn two(n: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]);
}

/// Digits with leading zeros.
fn padded(mut n: i64, width: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    out.resize(begin + width, b'0');
    for at in (begin..begin + width).rev() {
        out[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn date(days: i32, out: &mut Vec<u8>) {
    // Days to civil date, by eras of 400 years that begin on 1 March.
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if !(1..=9999).contains(&year) {
        // The codecs let none through; shown as it is rather than wrong.
        out.extend_from_slice(Date(days).to_string().as_bytes());
        return;
    }
    padded(year, 4, out);
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
}

/// Milliseconds as the contract shows them; microseconds where there are any: no digit is lost.
fn clock(micros: i64, out: &mut Vec<u8>) {
    const DAY: i64 = 86_400_000_000;
    date(micros.div_euclid(DAY) as i32, out);
    out.push(b'T');
    let of_day = micros.rem_euclid(DAY);
    let seconds = of_day / 1_000_000;
    two(seconds / 3600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    out.push(b'.');
    let fraction = of_day % 1_000_000;
    if fraction % 1000 == 0 { padded(fraction / 1000, 3, out) } else { padded(fraction, 6, out) }
}

/// With the zone's offset then. A time of no zone is one of this zone's clock; one that the clock shows twice is the first.
fn zoned(micros: i64, zone: Tz, is_local: bool, out: &mut Vec<u8>) {
    let naive = DateTime::from_timestamp_micros(micros).unwrap_or_default().naive_utc();
    let offset = if is_local {
        let there = zone.from_local_datetime(&naive).earliest();
        there.map_or_else(|| zone.offset_from_utc_datetime(&naive), |there| *there.offset())
    } else {
        zone.offset_from_utc_datetime(&naive)
    };
    let seconds = i64::from(offset.fix().local_minus_utc());
    clock(if is_local { micros } else { micros + seconds * 1_000_000 }, out);
    out.push(if seconds < 0 { b'-' } else { b'+' });
    two(seconds.abs() / 3600, out);
    out.push(b':');
    two(seconds.abs() / 60 % 60, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let mut random = fastrand::Rng::with_seed(3);
        for days in std::iter::repeat_with(|| random.i32(-719_162..=2_932_896)).take(20_000) {
            assert_eq!(shown(|out| date(days, out)), Date(days).to_string());
        }
    }

    #[test]
    fn no_digit_of_a_time_is_lost() {
        assert_eq!(shown(|out| clock(1_488_451_516_000_000, out)), "2017-03-02T10:45:16.000");
        assert_eq!(shown(|out| clock(1_488_451_516_123_456, out)), "2017-03-02T10:45:16.123456");
        assert_eq!(shown(|out| clock(-1, out)), "1969-12-31T23:59:59.999999");
    }

    #[test]
    fn a_zones_offset_is_the_one_of_that_day() {
        let kyiv = chrono_tz::Europe::Kyiv;
        assert_eq!(shown(|out| zoned(1_704_103_200_000_000, kyiv, false, out)), "2024-01-01T12:00:00.000+02:00");
        assert_eq!(shown(|out| zoned(1_719_828_000_000_000, kyiv, false, out)), "2024-07-01T13:00:00.000+03:00");
        assert_eq!(shown(|out| zoned(1_719_828_000_000_000, kyiv, true, out)), "2024-07-01T10:00:00.000+03:00");
    }

    #[test]
    fn text_comes_back_whatever_is_in_it() {
        let odd = "Ганна \"Nadiya\" \\ \u{1}\t\r\n\u{7f} 😀";
        let quoted = shown(|out| text(odd, out));
        assert_eq!(serde_json::from_str::<String>(&quoted).ok().as_deref(), Some(odd));
    }

    #[test]
    fn a_json_value_stands_as_it_is_on_one_line_and_what_is_none_is_text() {
        assert_eq!(shown(|out| json("{\n  \"level\": \"Вища\\n\"\n}", out)), "{   \"level\": \"Вища\\n\" }");
        assert_eq!(shown(|out| json("{\"a\":", out)), "\"{\\\"a\\\":\"");
    }

    #[test]
    fn whole_numbers_have_no_end() {
        for n in [0, 7, -1, i64::MAX, i64::MIN] {
            assert_eq!(shown(|out| number(n, out)), n.to_string());
        }
    }
}
