//! Writes single Avro values, for codecs that know the type of each column beforehand and have no struct to speak of.
//!
//! Nothing is checked against a schema: what is written wrongly is found by [`crate::check`] or [`crate::content_hash`].

use crate::{
    cursor,
    encode::{put_bytes, put_long, shortest},
    time::{DAY_RANGE, MICRO_RANGE},
};

/// An int, a long, the count of a block, the branch of a union.
pub fn long(out: &mut Vec<u8>, n: i64) {
    put_long(out, n);
}

/// Bytes or text, after their length.
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_bytes(out, bytes);
}

/// A boolean.
pub fn boolean(out: &mut Vec<u8>, truth: bool) {
    out.push(u8::from(truth));
}

/// A double.
pub fn double(out: &mut Vec<u8>, x: f64) {
    out.extend_from_slice(&x.to_le_bytes());
}

/// A decimal: all its digits as one number.
pub fn decimal(out: &mut Vec<u8>, unscaled: i128) {
    put_bytes(out, shortest(&unscaled.to_be_bytes()));
}

/// The digits of a decimal's text at this scale: `-12.5` at scale 2 is -1250. `None`: no such text, or digits beyond
/// the scale.
pub fn unscaled(text: &str, scale: u32) -> Option<i128> {
    crate::encode::unscaled(text, scale)
}

/// Whether a `date` may hold this day (counted from 1970-01-01): the years 1 to 9999.
pub fn is_day(days: i64) -> bool {
    i32::try_from(days).is_ok_and(|days| DAY_RANGE.contains(&days))
}

/// Whether a timestamp may hold this moment (in microseconds from 1970-01-01): the years 1 to 9999.
pub fn is_moment(micros: i64) -> bool {
    MICRO_RANGE.contains(&micros)
}

/// Whether the text has the form of a uuid: 8-4-4-4-12 hexadecimal digits, in either case.
pub fn is_uuid(text: &str) -> bool {
    cursor::is_uuid(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::schema::Schema;

    #[test]
    fn what_is_written_value_by_value_is_what_the_schema_says() {
        let schema = Schema::parse(
            r#"{"type":"record","name":"Shift","fields":[{"name":"id","type":"long"},{"name":"ward","type":["null","string"],"default":null},
            {"name":"pay","type":{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}},{"name":"night","type":"boolean"},
            {"name":"about","type":{"type":"string","logicalType":"json"}}]}"#,
        );
        let mut body = Vec::new();
        long(&mut body, 7);
        long(&mut body, 1);
        bytes(&mut body, b"surgery");
        decimal(&mut body, unscaled("12.5", 2).unwrap());
        boolean(&mut body, true);
        bytes(&mut body, b"{}");
        let json = crate::to_json(&schema.unwrap(), &body).unwrap();
        assert_eq!(json.to_string(), r#"{"about":"{}","id":7,"night":true,"pay":"12.50","ward":"surgery"}"#);
    }

    #[test]
    fn the_years_that_can_be_held() {
        assert!(is_day(0) && !is_day(2_932_897) && !is_day(i64::MAX));
        assert!(is_moment(0) && !is_moment(i64::MAX));
    }
}
