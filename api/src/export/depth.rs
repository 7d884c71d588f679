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
    let mut depths = query.unwrap_or_default().split('&').filter_map(|pair| match pair.split_once('=') {
        Some((name, value)) => (name == "depth").then_some(value),
        None => (pair == "depth").then_some(""),
    });
    match (depths.next(), depths.next()) {
        (None, _) => Ok(None),
        (Some(text), None) => number(text).map(Some),
        (Some(_), Some(_)) => Err(Wrong::NotANumber),
    }
}

/// Nothing of a number has to be percent-encoded, so nothing is decoded.
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
            (Some("depth=%31"), Err(Wrong::NotANumber)),
            (Some("depth=1%20"), Err(Wrong::NotANumber)),
            (Some("depth=١"), Err(Wrong::NotANumber)),
            (Some("depth=1&depth=1"), Err(Wrong::NotANumber)),
        ] {
            assert_eq!(read(query), depth, "{query:?}");
        }
    }
}
