//! The parameter `depth`: how many days back. Pure.
//!
//! A depth is a positive number without a fraction (contract, validation). What isn't one fails the rule `cast`; 0, negative
//! numbers and numbers beyond the deepest window fail the rule `number`.

use serde_json::{Value, json};

/// More digits than this are beyond every depth; they aren't read.
const MOST_DIGITS: usize = 9;

/// Why a depth can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Not a whole number.
    NotANumber,
    /// Below 1.
    TooSmall,
    /// Beyond the deepest window there is.
    TooLarge {
        /// The deepest.
        most: u32,
    },
}

/// Reads the depth of a query. Parameters of other names are left alone, as in the original; two depths are none.
pub(super) fn read(query: Option<&str>) -> Result<Option<u32>, Wrong> {
    let mut depths = query.unwrap_or_default().split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name) == b"depth").then(|| decoded(value))
    });
    match (depths.next(), depths.next()) {
        (None, _) => Ok(None),
        (Some(text), None) => number(std::str::from_utf8(&text).map_err(|_| Wrong::NotANumber)?).map(Some),
        (Some(_), Some(_)) => Err(Wrong::NotANumber),
    }
}

/// A name or value as the client means it: who writes `%64epth` means `depth`, and wants no other answer than that.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let escaped = match behind {
            [high, low, ..] if *first == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                hex(&behind[..2])
            }
            _ => None,
        };
        out.push(match (escaped, first) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, byte) => *byte,
        });
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    out
}

fn number(text: &str) -> Result<u32, Wrong> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::NotANumber);
    }
    let digits = digits.trim_start_matches('0');
    match digits.len() {
        0 => Err(Wrong::TooSmall),
        _ if negative => Err(Wrong::TooSmall),
        // Which number it is doesn't matter: it is compared with the deepest window.
        length if length > MOST_DIGITS => Ok(u32::MAX),
        _ => digits.parse().map_err(|_| Wrong::NotANumber),
    }
}

impl Wrong {
    /// The entry of `error.invalid`.
    pub(super) fn entry(self) -> Value {
        let (rule, params, description) = match self {
            Self::NotANumber => ("cast", json!(["integer"]), "is invalid".to_owned()),
            Self::TooSmall => ("number", json!([{ "greater_than": 0 }]), "must be greater than 0".to_owned()),
            Self::TooLarge { most } => {
                let description = format!("must be less than or equal to {most}");
                ("number", json!([{ "less_than_or_equal_to": most }]), description)
            }
        };
        let rules = json!([{ "rule": rule, "params": params, "description": description }]);
        json!({ "entry": "$.depth", "entry_type": "query_parameter", "rules": rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_a_positive_whole_number() {
        for (query, depth) in [
            (None, Ok(None)),
            (Some(""), Ok(None)),
            (Some("page=2"), Ok(None)),
            (Some("xdepth=2&depths=3"), Ok(None)),
            (Some("depth=1"), Ok(Some(1))),
            (Some("page=2&depth=30"), Ok(Some(30))),
            (Some("depth=007"), Ok(Some(7))),
            (Some("depth=99999999999999999999999999"), Ok(Some(u32::MAX))),
            (Some("depth=0"), Err(Wrong::TooSmall)),
            (Some("depth=000"), Err(Wrong::TooSmall)),
            (Some("depth=-1"), Err(Wrong::TooSmall)),
            (Some("depth=-99999999999999999999"), Err(Wrong::TooSmall)),
            (Some("depth"), Err(Wrong::NotANumber)),
            (Some("depth="), Err(Wrong::NotANumber)),
            (Some("depth=-"), Err(Wrong::NotANumber)),
            (Some("depth=1.5"), Err(Wrong::NotANumber)),
            (Some("depth=1e1"), Err(Wrong::NotANumber)),
            (Some("depth=abc"), Err(Wrong::NotANumber)),
            (Some("depth=+1"), Err(Wrong::NotANumber)),
            (Some("depth=%31"), Ok(Some(1))),
            (Some("%64epth=1"), Ok(Some(1))),
            (Some("%64%65%70%74%68=%30"), Err(Wrong::TooSmall)),
            (Some("depth=1&%64epth=1"), Err(Wrong::NotANumber)),
            (Some("%2564epth=2&%6=1&depth%=3"), Ok(None)),
            (Some("depth=%ff"), Err(Wrong::NotANumber)),
            (Some("depth=1%20"), Err(Wrong::NotANumber)),
            (Some("depth=١"), Err(Wrong::NotANumber)),
            (Some("depth=1&depth=1"), Err(Wrong::NotANumber)),
        ] {
            assert_eq!(read(query), depth, "{query:?}");
        }
    }
}
