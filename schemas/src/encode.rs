//! JSON to Avro: the defaults of schemas, and records edited by people. Finds all problems, not the first.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value as Json;

use crate::{
    cursor::Cursor,
    decode,
    json::JsonProblem,
    schema::{Field, Item, Kind, Record},
    time::{Date, LocalTimestamp, Timestamp},
};

/// How dates, bytes and decimals are written in the JSON.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Notation {
    /// As in the defaults of a schema: raw integers, and one character per byte.
    Default,
    /// As [`crate::to_json`] writes them: ISO text, hexadecimal, decimal text.
    Human,
}

pub(crate) struct Encoder {
    pub(crate) out: Vec<u8>,
    pub(crate) problems: Vec<JsonProblem>,
    notation: Notation,
}

/// Encodes a schema's default.
pub(crate) fn default(json: &Json, kind: &Kind, null_branch: Option<u8>) -> Result<Vec<u8>, String> {
    let mut encoder = Encoder::new(Notation::Default);
    encoder.value(json, kind, null_branch, "");
    match encoder.problems.first() {
        Some(problem) => Err(problem.expected.clone()),
        None => Ok(encoder.out),
    }
}

impl Encoder {
    pub(crate) fn new(notation: Notation) -> Encoder {
        Encoder { out: Vec::new(), problems: Vec::new(), notation }
    }

    fn problem(&mut self, path: &str, expected: impl Into<String>) {
        self.problems.push(JsonProblem {
            path: path.to_owned(),
            expected: format!("expected {}", expected.into()),
            nearest: None,
        });
    }

    pub(crate) fn record(&mut self, json: &Json, record: &Record, path: &str) {
        let Json::Object(object) = json else {
            return self.problem(path, format!("an object with the fields of {}", record.name));
        };
        for name in object.keys() {
            if !record.fields.iter().any(|field| &field.name == name) {
                let nearest = nearest(name, record.fields.iter().map(|field| field.name.as_str()));
                let path = join(path, name);
                self.problems.push(JsonProblem { path, expected: "no such field".to_owned(), nearest });
            }
        }
        for field in &record.fields {
            self.field(object.get(&field.name), field, &join(path, &field.name));
        }
    }

    fn field(&mut self, json: Option<&Json>, field: &Field, path: &str) {
        match (json, &field.default_avro) {
            (Some(json), _) => self.value(json, &field.kind, field.null_branch, path),
            (None, Some(default)) => self.out.extend_from_slice(default),
            (None, None) => {
                self.problem(path, format!("{}, and the field is missing", expectation(&field.kind, field.nullable)));
            }
        }
    }

    fn value(&mut self, json: &Json, kind: &Kind, null_branch: Option<u8>, path: &str) {
        if let Some(null_branch) = null_branch {
            let branch = if json.is_null() { null_branch } else { 1 - null_branch };
            self.long(i64::from(branch));
            if json.is_null() {
                return;
            }
        }
        match (kind, json) {
            (Kind::Record(record), json) => self.record(json, record, path),
            (Kind::Array(item), Json::Array(items)) => {
                self.items(items.iter().enumerate().map(|(at, json)| (None, format!("{path}[{at}]"), json)), item);
            }
            (Kind::Map(item), Json::Object(entries)) => {
                // By number: keys are contents.
                let numbered = entries.iter().enumerate();
                self.items(numbered.map(|(at, (key, json))| (Some(key), format!("{path}[{at}]"), json)), item);
            }
            (Kind::Array(_) | Kind::Map(_), _) => self.problem(path, expectation(kind, null_branch.is_some())),
            (scalar, json) => self.scalar(json, scalar, null_branch.is_some(), path),
        }
    }

    fn items<'j>(&mut self, items: impl ExactSizeIterator<Item = (Option<&'j String>, String, &'j Json)>, item: &Item) {
        if items.len() > 0 {
            self.long(items.len() as i64);
            for (key, path, json) in items {
                if let Some(key) = key {
                    self.bytes(key.as_bytes());
                }
                self.value(json, &item.kind, item.null_branch, &path);
            }
        }
        self.long(0);
    }

    fn scalar(&mut self, json: &Json, kind: &Kind, nullable: bool, path: &str) {
        let start = self.out.len();
        let written = self.write_scalar(json, kind);
        // The decoder knows the ranges; ask it rather than repeating them.
        let holds = written.is_some() && decode::skip(&mut Cursor::new(&self.out[start..]), kind, None).is_ok();
        if !holds {
            self.problem(path, expectation(kind, nullable));
        }
    }

    fn write_scalar(&mut self, json: &Json, kind: &Kind) -> Option<()> {
        let raw = self.notation == Notation::Default;
        match kind {
            Kind::Boolean => self.out.push(u8::from(json.as_bool()?)),
            Kind::Int => self.long(i64::from(i32::try_from(json.as_i64()?).ok()?)),
            Kind::Long => self.long(json.as_i64()?),
            Kind::Date if raw => self.long(json.as_i64()?),
            Kind::Date => {
                let day = NaiveDate::parse_from_str(json.as_str()?, "%Y-%m-%d").ok()?;
                self.long(i64::from(Date::from(day).0));
            }
            Kind::TimestampMillis | Kind::TimestampMicros | Kind::LocalTimestampMillis | Kind::LocalTimestampMicros
                if raw =>
            {
                self.long(json.as_i64()?);
            }
            Kind::TimestampMillis => self.long(utc(json)?.div_euclid(1000)),
            Kind::TimestampMicros => self.long(utc(json)?),
            Kind::LocalTimestampMillis => self.long(local(json)?.div_euclid(1000)),
            Kind::LocalTimestampMicros => self.long(local(json)?),
            // A value that a float can't hold exactly is rounded, as every reader of JSON does.
            Kind::Float => self.out.extend_from_slice(&(float(json)? as f32).to_le_bytes()),
            Kind::Double => self.out.extend_from_slice(&float(json)?.to_le_bytes()),
            Kind::String | Kind::Uuid | Kind::Json => self.bytes(json.as_str()?.as_bytes()),
            Kind::Bytes | Kind::Decimal { .. } if raw => {
                let bytes: Result<Vec<u8>, _> = json.as_str()?.chars().map(u8::try_from).collect();
                self.bytes(&bytes.ok()?);
            }
            Kind::Bytes => self.bytes(&from_hex(json.as_str()?)?),
            Kind::Decimal { scale, .. } => {
                let wide = unscaled(json.as_str()?, *scale)?.to_be_bytes();
                self.bytes(shortest(&wide));
            }
            Kind::Enum(symbols) => {
                let text = json.as_str()?;
                self.long(symbols.iter().position(|symbol| symbol == text)? as i64);
            }
            Kind::Array(_) | Kind::Map(_) | Kind::Record(_) => return None,
        }
        Some(())
    }

    fn long(&mut self, n: i64) {
        put_long(&mut self.out, n);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        put_bytes(&mut self.out, bytes);
    }
}

pub(crate) fn put_long(out: &mut Vec<u8>, n: i64) {
    let mut zigzag = ((n << 1) ^ (n >> 63)).cast_unsigned();
    while zigzag > 0x7f {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Bytes or text, after their length.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn utc(json: &Json) -> Option<i64> {
    DateTime::parse_from_rfc3339(json.as_str()?).ok().map(|moment| Timestamp::from(moment.to_utc()).0)
}

fn local(json: &Json) -> Option<i64> {
    NaiveDateTime::parse_from_str(json.as_str()?, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|time| LocalTimestamp::from(time).0)
}

fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => json.as_f64(),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.contains('+') {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// `-12.5` at scale 2 is -1250. Digits beyond the scale are refused, not rounded.
pub(crate) fn unscaled(text: &str, scale: u32) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = (scale as usize).checked_sub(fraction.len())?;
    let digits_only = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let magnitude = whole.strip_prefix('-').unwrap_or(whole);
    if magnitude.is_empty() || !digits_only(magnitude) || !digits_only(fraction) {
        return None;
    }
    format!("{whole}{fraction}{}", "0".repeat(missing)).parse().ok()
}

/// Big-endian two's complement without needless sign bytes, as Avro's decimals are written.
pub(crate) fn shortest(wide: &[u8; 16]) -> &[u8] {
    let fill = if wide[0] & 0x80 == 0 { 0 } else { 0xff };
    let needless = (0..15).take_while(|at| wide[*at] == fill && (wide[at + 1] & 0x80) == (fill & 0x80)).count();
    &wide[needless..]
}

fn expectation(kind: &Kind, nullable: bool) -> String {
    let what = match kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Int => "a whole number of 32 bits".to_owned(),
        Kind::Long => "a whole number of 64 bits".to_owned(),
        Kind::Float | Kind::Double => "a number".to_owned(),
        Kind::String => "text".to_owned(),
        Kind::Json => "JSON as text".to_owned(),
        Kind::Bytes => "bytes as hexadecimal text".to_owned(),
        Kind::Uuid => "a uuid such as 0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62".to_owned(),
        Kind::Date => "a date such as 2023-01-31".to_owned(),
        Kind::TimestampMillis | Kind::TimestampMicros => "a moment such as 2023-01-31T07:00:00Z".to_owned(),
        Kind::LocalTimestampMillis | Kind::LocalTimestampMicros => {
            "a time without zone such as 2023-01-31T07:00:00".to_owned()
        }
        Kind::Decimal { precision, scale } => {
            format!("a decimal as text, of up to {precision} digits, {scale} of them behind the point")
        }
        Kind::Enum(symbols) => format!("one of {}", symbols.join(", ")),
        Kind::Array(_) => "a list".to_owned(),
        Kind::Map(_) => "an object".to_owned(),
        Kind::Record(record) => format!("an object with the fields of {}", record.name),
    };
    if nullable { format!("{what}, or null") } else { what }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The name meant by a mistyped one, if any is near enough.
fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let (distance, name) = names.map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min()?;
    (distance <= wrong.len().div_ceil(3)).then(|| name.to_owned())
}
