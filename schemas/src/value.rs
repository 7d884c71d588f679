//! A decoded value that borrows its text and bytes from the message. Made by [`crate::values`] and [`crate::Reader`].

use std::fmt;

/// One value of a message. Text of enums and uuids is a [`Value::String`], too.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// The null branch of a nullable field.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An Avro int without a logical type.
    Int(i32),
    /// An Avro long without a logical type.
    Long(i64),
    /// An Avro float.
    Float(f32),
    /// An Avro double.
    Double(f64),
    /// Text: a string, a uuid as written, or the symbol of an enum.
    String(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Days since 1970-01-01, within the years 1 to 9999.
    Date(i32),
    /// A moment; milliseconds have been widened.
    Timestamp {
        /// Microseconds since 1970-01-01T00:00:00Z.
        micros: i64,
    },
    /// A wall-clock time of no particular zone; milliseconds have been widened.
    LocalTimestamp {
        /// Microseconds since 1970-01-01T00:00:00, local.
        micros: i64,
    },
    /// An exact decimal number.
    Decimal(Decimal),
    /// The items, in order.
    Array(Vec<Value<'a>>),
    /// The entries, in the order of the message.
    Map(Vec<(&'a str, Value<'a>)>),
    /// The fields, in the order of the schema.
    Record(Vec<Value<'a>>),
}

/// `unscaled` x 10^-`scale`. Displays exactly, as in `-12.50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// All digits as one integer.
    pub unscaled: i128,
    /// How many of the digits stand behind the point.
    pub scale: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.unscaled.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if fraction.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn decimals_show_every_digit() {
        let shown = |unscaled, scale| Decimal { unscaled, scale }.to_string();
        assert_eq!(shown(1250, 2), "12.50");
        assert_eq!(shown(-5, 2), "-0.05");
        assert_eq!(shown(7, 0), "7");
        assert_eq!(shown(0, 3), "0.000");
    }
}
