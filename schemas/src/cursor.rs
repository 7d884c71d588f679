//! Reads Avro's primitives from a message body without trusting it. Every decoder here stands on it.
//!
//! Nothing is allocated unless there is a fault, and no claim of the message is believed before it was compared with
//! the bytes that are left.

use crate::{
    malformed::Malformed,
    schema::Kind,
    time::{DAY_RANGE, MICRO_RANGE},
    value::{Decimal, Value},
};

pub(crate) struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

/// The blocks of an array or a map: `while let Some(index) = blocks.next(&mut cursor)? { … one item … }`.
pub(crate) struct Blocks {
    left: usize,
    /// Where the block ends, when it says so.
    end: Option<usize>,
    seen: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Cursor<'a> {
        Cursor { body, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.body.len() - self.at
    }

    /// Fails unless everything was read.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        match self.left() {
            0 => Ok(()),
            left => Err(Malformed::new(self.at, format!("{left} bytes follow the last field"))),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        if n > self.left() {
            return Err(Malformed::new(self.at, format!("needs {n} bytes, {} are left", self.left())));
        }
        let taken = &self.body[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub(crate) fn long(&mut self) -> Result<i64, Malformed> {
        let start = self.at;
        let mut raw = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.body.get(self.at) else {
                return Err(Malformed::new(start, "ends inside a number"));
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        Err(Malformed::new(start, "a number longer than 64 bits"))
    }

    fn int(&mut self) -> Result<i32, Malformed> {
        let start = self.at;
        i32::try_from(self.long()?).map_err(|_| Malformed::new(start, "a number outside the range of int"))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let start = self.at;
        let claimed = self.long()?;
        match usize::try_from(claimed) {
            Err(_) => Err(Malformed::new(start, "a negative length")),
            Ok(claimed) if claimed > self.left() => {
                Err(Malformed::new(start, format!("claims {claimed} bytes, {} are left", self.left())))
            }
            Ok(claimed) => Ok(claimed),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.length()?;
        self.take(n)
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::new(start, "not UTF-8"))
    }

    /// Whether the value that follows is null. `null_branch` as in the schema; a value that isn't nullable has no branch.
    #[inline]
    pub(crate) fn is_null(&mut self, null_branch: Option<u8>) -> Result<bool, Malformed> {
        let Some(null_branch) = null_branch else { return Ok(false) };
        let start = self.at;
        match self.long()? {
            branch @ 0..=1 => Ok(branch == i64::from(null_branch)),
            branch => Err(Malformed::new(start, format!("branch {branch} of a union of 2"))),
        }
    }

    /// A value that is neither array, map nor record.
    #[inline]
    pub(crate) fn scalar<'s>(&mut self, kind: &'s Kind) -> Result<Value<'s>, Malformed>
    where
        'a: 's,
    {
        let start = self.at;
        Ok(match kind {
            Kind::Boolean => match self.take(1)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(Malformed::new(start, "a boolean that is neither 0 nor 1")),
            },
            Kind::Int => Value::Int(self.int()?),
            Kind::Long => Value::Long(self.long()?),
            Kind::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Kind::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Kind::String | Kind::Json => Value::String(self.string()?),
            Kind::Bytes => Value::Bytes(self.bytes()?),
            Kind::Uuid => Value::String(self.uuid()?),
            Kind::Date => {
                let days = self.int()?;
                if !DAY_RANGE.contains(&days) {
                    return Err(Malformed::new(start, "a date outside the years 1 to 9999"));
                }
                Value::Date(days)
            }
            Kind::TimestampMillis => Value::Timestamp { micros: self.micros(1000)? },
            Kind::TimestampMicros => Value::Timestamp { micros: self.micros(1)? },
            Kind::LocalTimestampMillis => Value::LocalTimestamp { micros: self.micros(1000)? },
            Kind::LocalTimestampMicros => Value::LocalTimestamp { micros: self.micros(1)? },
            Kind::Decimal { precision, scale } => Value::Decimal(self.decimal(*precision, *scale)?),
            Kind::Enum(symbols) => {
                let index = self.long()?;
                let Some(symbol) = usize::try_from(index).ok().and_then(|index| symbols.get(index)) else {
                    return Err(Malformed::new(start, format!("symbol {index} of an enum of {}", symbols.len())));
                };
                Value::String(symbol)
            }
            Kind::Array(_) | Kind::Map(_) | Kind::Record(_) => unreachable!("composite kinds are walked, not read"),
        })
    }

    fn uuid(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let text = self.string()?;
        if is_uuid(text) { Ok(text) } else { Err(Malformed::new(start, "not a uuid")) }
    }

    fn micros(&mut self, factor: i64) -> Result<i64, Malformed> {
        let start = self.at;
        let micros = self.long()?.checked_mul(factor).filter(|micros| MICRO_RANGE.contains(micros));
        micros.ok_or_else(|| Malformed::new(start, "a time outside the years 1 to 9999"))
    }

    fn decimal(&mut self, precision: u32, scale: u32) -> Result<Decimal, Malformed> {
        let start = self.at;
        let bytes = self.bytes()?;
        let Some(first) = bytes.first() else { return Err(Malformed::new(start, "a decimal without bytes")) };
        let fill = if first & 0x80 == 0 { 0 } else { 0xff };
        // Writers may pad with sign bytes; more than 16 that matter can't fit the precision.
        let padding = bytes.len().saturating_sub(16);
        if bytes[..padding].iter().any(|byte| *byte != fill) {
            return Err(Malformed::new(start, format!("a decimal of more than {precision} digits")));
        }
        let mut wide = [fill; 16];
        let significant = &bytes[padding..];
        wide[16 - significant.len()..].copy_from_slice(significant);
        let unscaled = i128::from_be_bytes(wide);
        if unscaled.unsigned_abs() >= 10u128.pow(precision) || (unscaled < 0) != (fill == 0xff) {
            return Err(Malformed::new(start, format!("a decimal of more than {precision} digits")));
        }
        Ok(Decimal { unscaled, scale })
    }
}

/// Whether the text has the form 8-4-4-4-12 of hexadecimal digits, in either case.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

impl Blocks {
    pub(crate) fn new() -> Blocks {
        Blocks { left: 0, end: None, seen: 0 }
    }

    /// Moves to the next item and says its index; `None` after the last one.
    pub(crate) fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<usize>, Malformed> {
        if self.left == 0 && !self.open(cursor)? {
            return Ok(None);
        }
        self.left -= 1;
        self.seen += 1;
        Ok(Some(self.seen - 1))
    }

    /// Opens the next block; false when there is none.
    fn open(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        if let Some(end) = self.end.take()
            && end != cursor.at
        {
            return Err(Malformed::new(cursor.at, format!("a block that claims to end at byte {end}")));
        }
        let start = cursor.at;
        let count = cursor.long()?;
        if count == 0 {
            return Ok(false);
        }
        if count < 0 {
            let size = cursor.length()?;
            self.end = Some(cursor.at + size);
        }
        // Every item takes a byte at least (see `schema`), so a count beyond what is left is a lie.
        let claimed = count.unsigned_abs();
        match usize::try_from(claimed) {
            Ok(count) if count <= cursor.left() => self.left = count,
            _ => {
                return Err(Malformed::new(start, format!("claims {claimed} items, {} bytes are left", cursor.left())));
            }
        }
        Ok(true)
    }
}
