//! Entity tags and ranges. Pure (RFC 9110, 8.8.3, 13.1 and 14).

use std::fmt::Write as _;
use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use sha2::{Digest, Sha256};

/// The tag of an answer that is put together: weak, for its envelope names the request. `parts` are all that it is made of.
pub(super) fn weak_tag<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut tag = String::from("W/\"");
    for byte in &hash.finalize()[..16] {
        // Writing to a string doesn't fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

/// The tag of an object as it is stored.
pub(super) fn strong_tag(sha256: &str) -> String {
    format!("\"{sha256}\"")
}

/// The tag of something small, whole.
pub(super) fn digest_tag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    strong_tag(&digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Whether the client has what it asks for already. Tags are compared weakly, as the header wants it.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

/// Whether the client wants another answer than this one. Tags are compared strongly, as the header wants it: a weak one,
/// as answers have that are put together, is never the same.
pub(super) fn is_another(headers: &HeaderMap, tag: &str) -> bool {
    let mut lines = headers.get_all(IF_MATCH).iter().peekable();
    if lines.peek().is_none() {
        return false;
    }
    let is_same = |wanted: &str| wanted == "*" || (wanted == tag && !tag.starts_with("W/"));
    !lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).any(|wanted| is_same(wanted.trim()))
}

/// What a client wants of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, several, or one that isn't understood or no longer holds.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// None that there are.
    Nothing,
}

/// What a client wants of an object of so many bytes, with this strong tag.
pub(super) fn wanted(headers: &HeaderMap, bytes: u64, tag: &str) -> Wanted {
    let header = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let Some(range) = header(RANGE) else { return Wanted::Whole };
    // Who doesn't say of which object may hold the beginning of another, and would glue two snapshots together. Dates aren't
    // compared: two objects can have the same.
    if header(IF_RANGE).is_none_or(|condition| condition.trim() != tag) {
        return Wanted::Whole;
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Wanted::Whole;
    };
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Some(digits.parse::<u64>().unwrap_or(u64::MAX)),
        false => None,
    };
    let range = match (first, last) {
        ("", "") => return Wanted::Whole,
        ("", last) => number(last).map(|last| bytes.saturating_sub(last)..if last == 0 { 0 } else { bytes }),
        (first, "") => number(first).map(|first| first..bytes),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => return Wanted::Whole,
            (Some(first), Some(last)) => Some(first..last.saturating_add(1).min(bytes)),
            _ => None,
        },
    };
    match range {
        None => Wanted::Whole,
        Some(range) if range.is_empty() => Wanted::Nothing,
        Some(range) => Wanted::Part(range),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(of: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_tag_changes_with_every_part_and_where_one_ends() {
        let tag = weak_tag(["ab", "c"]);
        assert!(tag.starts_with("W/\"") && tag.len() == 3 + 32 + 1, "{tag}");
        assert_eq!(tag, weak_tag(["ab", "c"]));
        assert_ne!(tag, weak_tag(["a", "bc"]));
        assert_ne!(tag, weak_tag(["ab"]));
    }

    #[test]
    fn wanted_tags_are_compared_strongly() {
        for (line, tag, another) in [
            ("\"a\"", "\"a\"", false),
            ("\"b\", \"a\"", "\"a\"", false),
            ("*", "W/\"a\"", false),
            ("\"b\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("W/\"a\"", "W/\"a\"", true),
        ] {
            assert_eq!(is_another(&headers(&[(IF_MATCH, line)]), tag), another, "{line} of {tag}");
        }
        assert!(!is_another(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn known_tags_are_compared_weakly() {
        for (line, known) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(is_known(&headers(&[(IF_NONE_MATCH, line)]), "W/\"a\""), known, "{line}");
        }
        assert!(!is_known(&HeaderMap::new(), "W/\"a\""));
    }

    #[test]
    fn ranges_are_of_bytes_and_one_at_a_time() {
        for (range, expected) in [
            ("bytes=0-9", Wanted::Part(0..10)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=-10", Wanted::Part(90..100)),
            ("bytes=-1000", Wanted::Part(0..100)),
            ("bytes=99-99", Wanted::Part(99..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=9-1", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=0-9", Wanted::Whole),
        ] {
            let headers = headers(&[(RANGE, range), (IF_RANGE, "\"t\"")]);
            assert_eq!(wanted(&headers, 100, "\"t\""), expected, "{range}");
        }
        assert_eq!(wanted(&headers(&[(RANGE, "bytes=0-9")]), 100, "\"t\""), Wanted::Whole, "of which file?");
        for condition in ["\"other\"", "W/\"t\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let headers = headers(&[(RANGE, "bytes=0-9"), (IF_RANGE, condition)]);
            assert_eq!(wanted(&headers, 100, "\"t\""), Wanted::Whole, "{condition}");
        }
    }
}
