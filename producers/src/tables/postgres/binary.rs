//! Reads PostgreSQL's binary `COPY` format, row by row, and writes its values as Avro. No I/O; trusts no length.

use std::ops::Range;

use chrono_tz::Tz;
use schemas::{Date, LocalTimestamp, Timestamp, raw};

use crate::tables::rows::{Cells, Misfit, utc};
use crate::tables::types::ColumnKind;

/// PostgreSQL counts days and microseconds from 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * MICROS_PER_DAY;
const MICROS_PER_DAY: i64 = 86_400_000_000;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Signature, flags, and the length of an extension.
const HEADER: usize = 19;

/// The stream isn't what PostgreSQL sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Cuts a stream into rows, wherever its parts end.
#[derive(Default)]
pub struct Splitter {
    /// What a part left over.
    rest: Vec<u8>,
    begun: bool,
    ended: bool,
    fields: Vec<Option<Range<usize>>>,
}

/// One row: for each selected column its bytes, or null.
pub struct BinaryRow<'a> {
    bytes: &'a [u8],
    fields: &'a [Option<Range<usize>>],
}

impl Splitter {
    /// Takes a part of the stream and hands over the rows that are whole. `row` answers whether it wants more.
    pub fn take(&mut self, part: &[u8], mut row: impl FnMut(&BinaryRow<'_>) -> bool) -> Result<bool, Broken> {
        // Parts are whole rows, as PostgreSQL sends them; that isn't promised.
        let joined = match self.rest.is_empty() {
            true => None,
            false => {
                self.rest.extend_from_slice(part);
                Some(std::mem::take(&mut self.rest))
            }
        };
        let bytes = joined.as_deref().unwrap_or(part);
        let mut at = 0;
        if !self.begun {
            if bytes.len() < HEADER {
                self.rest = bytes.to_vec();
                return Ok(true);
            }
            if !bytes.starts_with(SIGNATURE) || bytes[15..HEADER] != [0; 4] {
                return Err(Broken);
            }
            self.begun = true;
            at = HEADER;
        }
        while !self.ended && at < bytes.len() {
            let Some(end) = self.row(bytes, at)? else {
                self.rest = bytes[at..].to_vec();
                return Ok(true);
            };
            at = end;
            if !self.ended && !row(&BinaryRow { bytes, fields: &self.fields }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds the fields of the row that begins here, and its end. `None`: it isn't all there.
    fn row(&mut self, bytes: &[u8], mut at: usize) -> Result<Option<usize>, Broken> {
        let Some(count) = number::<2>(bytes, at).map(i16::from_be_bytes) else { return Ok(None) };
        at += 2;
        if count == -1 {
            self.ended = true;
            return Ok(Some(at));
        }
        self.fields.clear();
        for _ in 0..count {
            let Some(length) = number::<4>(bytes, at).map(i32::from_be_bytes) else { return Ok(None) };
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                if length != -1 {
                    return Err(Broken);
                }
                self.fields.push(None);
                continue;
            };
            if bytes.len() - at < length {
                return Ok(None);
            }
            self.fields.push(Some(at..at + length));
            at += length;
        }
        Ok(Some(at))
    }

    /// The stream has come to its end as it should.
    pub fn is_whole(&self) -> bool {
        self.ended && self.rest.is_empty()
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

impl<'a> BinaryRow<'a> {
    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// The bytes of a column that isn't null.
    fn field(&self, at: usize) -> &'a [u8] {
        self.fields.get(at).and_then(Option::as_ref).map_or(&[], |range| &self.bytes[range.clone()])
    }

    /// A whole number that was asked for beside the columns.
    pub fn extra(&self, at: usize) -> i64 {
        long(self.field(at)).unwrap_or_default()
    }
}

/// Another length than its type has.
const ODD: Misfit = Misfit { expected: "expected a value of its type", shown: None };

fn long(bytes: &[u8]) -> Result<i64, Misfit> {
    bytes.try_into().map(i64::from_be_bytes).map_err(|_| ODD)
}

fn int(bytes: &[u8]) -> Result<i32, Misfit> {
    bytes.try_into().map(i32::from_be_bytes).map_err(|_| ODD)
}

impl Cells for BinaryRow<'_> {
    fn is_null(&self, at: usize) -> bool {
        self.fields.get(at).is_none_or(Option::is_none)
    }

    fn write(&self, at: usize, kind: &ColumnKind, zone: Option<Tz>, out: &mut Vec<u8>) -> Result<(), Misfit> {
        value(self.field(at), kind, zone, out)
    }

    fn text(&self, at: usize) -> Result<&str, Misfit> {
        std::str::from_utf8(self.field(at)).map_err(|_| ODD)
    }

    fn key_part(&self, at: usize, kind: &ColumnKind) -> Result<String, Misfit> {
        let bytes = self.field(at);
        Ok(match kind {
            ColumnKind::Date => Date(day(bytes)?).to_string(),
            ColumnKind::Moment => Timestamp(micros(bytes)?).to_string(),
            ColumnKind::Local => LocalTimestamp(micros(bytes)?).to_string(),
            ColumnKind::Decimal { scale, .. } => {
                schemas::Decimal { unscaled: numeric(bytes, *scale)?, scale: *scale }.to_string()
            }
            ColumnKind::Long => long(bytes)?.to_string(),
            ColumnKind::Boolean => (bytes == [1]).to_string(),
            ColumnKind::Uuid => uuid(bytes)?.to_string(),
            _ => self.text(at)?.to_owned(),
        })
    }

    fn back(&self, at: usize, kind: &ColumnKind) -> String {
        let bytes = self.field(at);
        let misfit = match (kind, self.key_part(at, kind)) {
            (ColumnKind::Moment | ColumnKind::Local, _) => {
                // Every time has one, also those that no topic can hold.
                return long(bytes).map_or_else(|_| String::new(), |micros| time(micros, *kind == ColumnKind::Moment));
            }
            (_, Ok(part)) => return part,
            (_, Err(misfit)) => misfit,
        };
        misfit.shown.unwrap_or_default()
    }

    fn number(&self, at: usize, kind: &ColumnKind) -> Option<i64> {
        match kind {
            ColumnKind::Moment | ColumnKind::Local => long(self.field(at)).ok()?.checked_add(EPOCH_MICROS),
            _ => long(self.field(at)).ok(),
        }
    }
}

fn value(bytes: &[u8], kind: &ColumnKind, zone: Option<Tz>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match kind {
        ColumnKind::Long => raw::long(out, long(bytes)?),
        ColumnKind::Double => raw::double(out, f64::from_bits(long(bytes)?.cast_unsigned())),
        ColumnKind::Boolean => raw::boolean(out, bytes == [1]),
        ColumnKind::Bytes => raw::bytes(out, bytes),
        ColumnKind::String | ColumnKind::Json => {
            std::str::from_utf8(bytes).map_err(|_| ODD)?;
            raw::bytes(out, bytes);
        }
        ColumnKind::Uuid => {
            let id = uuid(bytes)?;
            raw::bytes(out, id.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
        }
        ColumnKind::Date => raw::long(out, i64::from(day(bytes)?)),
        ColumnKind::Moment => raw::long(out, micros(bytes)?),
        ColumnKind::Local => {
            let local = micros(bytes)?;
            let known = zone.map_or(Some(local), |zone| utc(local, zone)).filter(|micros| raw::is_moment(*micros));
            raw::long(out, known.ok_or(Misfit::new(YEARS))?);
        }
        ColumnKind::Decimal { precision, scale } => {
            let unscaled = numeric(bytes, *scale)?;
            if unscaled.unsigned_abs() >= 10_u128.pow(*precision) {
                return Err(Misfit::new("expected fewer digits"));
            }
            raw::decimal(out, unscaled);
        }
        ColumnKind::Array(item) => array(bytes, item, zone, out)?,
    }
    Ok(())
}

const YEARS: &str = "expected a time within the years 1 to 9999";

fn uuid(bytes: &[u8]) -> Result<uuid::Uuid, Misfit> {
    uuid::Uuid::from_slice(bytes).map_err(|_| ODD)
}

/// Days since 1970.
fn day(bytes: &[u8]) -> Result<i32, Misfit> {
    const EXPECTED: &str = "expected a day within the years 1 to 9999";
    let days = int(bytes)?;
    match days {
        i32::MAX => Err(Misfit::showing(EXPECTED, "infinity")),
        i32::MIN => Err(Misfit::showing(EXPECTED, "-infinity")),
        days => {
            let since_1970 = i64::from(days) + EPOCH_DAYS;
            match i32::try_from(since_1970) {
                Ok(day) if raw::is_day(since_1970) => Ok(day),
                _ => Err(Misfit::showing(EXPECTED, calendar(since_1970))),
            }
        }
    }
}

/// Microseconds since 1970.
fn micros(bytes: &[u8]) -> Result<i64, Misfit> {
    let given = long(bytes)?;
    match given.checked_add(EPOCH_MICROS).filter(|micros| raw::is_moment(*micros)) {
        Some(micros) => Ok(micros),
        None => Err(Misfit::showing(YEARS, time(given, false))),
    }
}

/// A time as PostgreSQL takes it, whatever its year. `micros` since 2000.
pub fn time(micros: i64, in_utc: bool) -> String {
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let days = micros.div_euclid(MICROS_PER_DAY) + EPOCH_DAYS;
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let clock = format!("{:02}:{:02}:{:02}.{fraction:06}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let zone = if in_utc { "+00" } else { "" };
    match calendar(days).strip_suffix(BC) {
        Some(day) => format!("{day} {clock}{zone}{BC}"),
        None => format!("{} {clock}{zone}", calendar(days)),
    }
}

const BC: &str = " BC";

/// The day of the proleptic Gregorian calendar, counted from 1970, as PostgreSQL writes it.
fn calendar(days: i64) -> String {
    // Eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{:04}-{month:02}-{day:02}{BC}", 1 - year),
    }
}

/// A `numeric`: digits in groups of four.
fn numeric(bytes: &[u8], scale: u32) -> Result<i128, Misfit> {
    const EXPECTED: &str = "expected a number";
    let word = |at: usize| number::<2>(bytes, at * 2).map(u16::from_be_bytes).ok_or(ODD);
    let (count, weight, sign) = (word(0)?, word(1)?.cast_signed(), word(2)?);
    match sign {
        0x0000 | 0x4000 => {}
        0xc000 => return Err(Misfit::showing(EXPECTED, "NaN")),
        0xd000 => return Err(Misfit::showing(EXPECTED, "Infinity")),
        0xf000 => return Err(Misfit::showing(EXPECTED, "-Infinity")),
        _ => return Err(ODD),
    }
    let too_long = || Misfit::new("expected fewer digits");
    let mut sum: i128 = 0;
    for n in 0..count {
        let digits = i128::from(word(4 + usize::from(n))?);
        // The power of ten of this group's last digit, seen from the last digit of the scale.
        let power = (i64::from(weight) - i64::from(n)) * 4 + i64::from(scale);
        let part = match u32::try_from(power) {
            Ok(power) => 10_i128.checked_pow(power).and_then(|ten| digits.checked_mul(ten)).ok_or_else(too_long)?,
            Err(_) => {
                let behind = u32::try_from(-power).ok().and_then(|behind| 10_i128.checked_pow(behind));
                let (whole, lost) = behind.map_or((0, digits), |ten| (digits / ten, digits % ten));
                if lost != 0 {
                    return Err(Misfit::new("expected fewer digits behind the point"));
                }
                whole
            }
        };
        sum = sum.checked_add(part).ok_or_else(too_long)?;
    }
    Ok(if sign == 0x4000 { -sum } else { sum })
}

/// A list. Lists inside lists have no place in a topic.
fn array(bytes: &[u8], item: &ColumnKind, zone: Option<Tz>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let word = |at: usize| number::<4>(bytes, at).map(i32::from_be_bytes).ok_or(ODD);
    match word(0)? {
        0 => {
            raw::long(out, 0);
            return Ok(());
        }
        1 => {}
        _ => return Err(Misfit::new("expected a list of values, not of lists")),
    }
    let count = usize::try_from(word(12)?).map_err(|_| ODD)?;
    if count > bytes.len() / 4 {
        return Err(ODD);
    }
    raw::long(out, count as i64);
    let mut at = 20;
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            raw::long(out, 0);
            continue;
        };
        let inner = bytes.get(at..at + length).ok_or(ODD)?;
        raw::long(out, 1);
        value(inner, item, zone, out)?;
        at += length;
    }
    if count > 0 {
        raw::long(out, 0);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
