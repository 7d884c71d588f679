//! Which form and which coding an answer has, by what the client accepts and what is stored. Pure (RFC 9110, 12.5).

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING};
use pipeline::snapshot::Coding;

/// In what form records are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The contract's envelope.
    Json,
    /// A record on each line, nothing around them.
    Ndjson,
    /// The stored file.
    Parquet,
}

/// What each is called in `Accept`, the one that is preferred first.
const SHAPES: [(Shape, &str); 3] =
    [(Shape::Json, JSON), (Shape::Ndjson, "application/x-ndjson"), (Shape::Parquet, "application/vnd.apache.parquet")];

/// The contract's media type.
pub(super) const JSON: &str = "application/json";

/// That of two of the original's resources.
pub(super) const OCTETS: &str = "application/octet-stream";

/// What is gladly sent first: small, and understood by everybody; then smaller; then plain.
const PREFERRED: [Coding; 3] = [Coding::Gzip, Coding::Zstd, Coding::Identity];

impl Shape {
    /// Its media type, of resources that have the usual one.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Ndjson => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// As the audit and metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }
}

/// The shape that is accepted most; of several, the first of [`SHAPES`]. `None`: none.
pub(super) fn shape(headers: &HeaderMap, json_type: &str) -> Option<Shape> {
    let accepted = weights(headers, &ACCEPT);
    if accepted.is_empty() {
        return Some(Shape::Json);
    }
    let weight = |shape: Shape, name: &str| match shape {
        // Whoever asks for JSON gets it, whatever this resource calls it, and the reverse.
        Shape::Json => media_weight(&accepted, JSON).max(media_weight(&accepted, json_type)),
        _ => media_weight(&accepted, name),
    };
    let weighed = SHAPES.map(|(shape, name)| (weight(shape, name), shape));
    best(weighed)
}

/// The coding that is accepted most among those that can be had; of several, the first of [`PREFERRED`]. `None`: none.
pub(super) fn coding(headers: &HeaderMap, available: impl Fn(Coding) -> bool) -> Option<Coding> {
    let accepted = weights(headers, &ACCEPT_ENCODING);
    let named = |names: &[&str]| accepted.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, q)| *q);
    let weighed = PREFERRED.map(|coding| {
        let weight = match coding {
            // Whoever says nothing of it takes it, but rather something that was named.
            Coding::Identity => named(&["identity"]).or(named(&["*"]).filter(|q| *q == 0)).unwrap_or(1),
            Coding::Gzip => named(&["gzip", "x-gzip"]).or(named(&["*"])).unwrap_or(0),
            Coding::Zstd => named(&["zstd"]).or(named(&["*"])).unwrap_or(0),
        };
        (if available(coding) { weight } else { 0 }, coding)
    });
    best(weighed)
}

fn best<T: Copy, const N: usize>(weighed: [(u16, T); N]) -> Option<T> {
    let most = weighed.iter().map(|(weight, _)| *weight).max().filter(|most| *most > 0)?;
    weighed.into_iter().find(|(weight, _)| *weight == most).map(|(_, one)| one)
}

/// The most specific range that matches decides.
fn media_weight(accepted: &[(String, u16)], media_type: &str) -> u16 {
    let group = media_type.split_once('/').map_or(String::new(), |(group, _)| format!("{group}/*"));
    let find = |name: &str| accepted.iter().find(|(range, _)| range == name).map(|(_, weight)| *weight);
    find(media_type).or_else(|| find(&group)).or_else(|| find("*/*")).or_else(|| find("*")).unwrap_or(0)
}

/// What a list with q-values names, in thousandths. A weight that can't be read is the least there is: it was named.
fn weights(headers: &HeaderMap, name: &axum::http::HeaderName) -> Vec<(String, u16)> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let items = lines.flat_map(|line| line.split(','));
    items
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
            let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some((name, q.map_or(1_000, |q| thousandths(q).unwrap_or(1))))
        })
        .collect()
}

/// `0.25` is 250, and so is `.25`, as Java's own client writes it: at most three digits behind the point.
fn thousandths(q: &str) -> Option<u16> {
    let (whole, rest) = q.split_once('.').unwrap_or((q, ""));
    let digits = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if digits && rest.bytes().all(|byte| byte == b'0') => Some(1_000),
        "0" | "" if digits && !(whole.is_empty() && rest.is_empty()) => format!("{rest:0<3}").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(name: axum::http::HeaderName, value: Option<&str>) -> HeaderMap {
        value.into_iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_shape_is_what_is_accepted_most() {
        for (accept, expected) in [
            (None, Some(Shape::Json)),
            (Some("*/*"), Some(Shape::Json)),
            (Some("application/json"), Some(Shape::Json)),
            (Some("application/*"), Some(Shape::Json)),
            (Some("application/octet-stream"), None),
            (Some("application/x-ndjson"), Some(Shape::Ndjson)),
            (Some("APPLICATION/X-NDJSON; charset=utf-8"), Some(Shape::Ndjson)),
            (Some("application/vnd.apache.parquet, */*;q=0.1"), Some(Shape::Parquet)),
            (Some("application/json;q=0.5, application/x-ndjson;q=0.9"), Some(Shape::Ndjson)),
            (Some("application/json;q=0, */*"), Some(Shape::Ndjson)),
            (Some("text/html"), None),
            (Some("application/json;q=0"), None),
            // What can't be read isn't there.
            (Some("application/json;q=2"), Some(Shape::Json)),
            (Some("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), Some(Shape::Json)),
            (Some("text/html, *; q=.2"), Some(Shape::Json)),
        ] {
            assert_eq!(shape(&headers(ACCEPT, accept), JSON), expected, "{accept:?}");
        }
        let octets = headers(ACCEPT, Some(OCTETS));
        assert_eq!(shape(&octets, OCTETS), Some(Shape::Json));
        assert_eq!(shape(&headers(ACCEPT, Some(JSON)), OCTETS), Some(Shape::Json));
    }

    #[test]
    fn the_coding_is_what_is_accepted_most_of_what_is_there() {
        use Coding::{Gzip, Identity, Zstd};
        let all = [Identity, Gzip, Zstd];
        for (accept, available, expected) in [
            (None, &all[..], Some(Identity)),
            (Some(""), &all, Some(Identity)),
            (Some("gzip"), &all, Some(Gzip)),
            (Some("x-gzip"), &all, Some(Gzip)),
            (Some("gzip, deflate, br, zstd"), &all, Some(Gzip)),
            (Some("gzip;q=0.5, zstd;q=0.8"), &all, Some(Zstd)),
            (Some("gzip;q=0.5, zstd;q=0.8"), &[Identity, Gzip], Some(Gzip)),
            (Some("zstd"), &[Identity, Gzip], Some(Identity)),
            (Some("gzip;q=0"), &all, Some(Identity)),
            (Some("*"), &all, Some(Gzip)),
            (Some("*;q=0"), &all, None),
            (Some("*;q=0, gzip"), &all, Some(Gzip)),
            (Some("identity;q=0"), &[Identity], None),
            (Some("identity;q=0, zstd;q=0.001"), &all, Some(Zstd)),
            (Some("identity, gzip;q=0.9"), &all, Some(Identity)),
            (Some("gzip;q=1.5"), &all, Some(Gzip)),
            (Some("br"), &all, Some(Identity)),
        ] {
            let chosen = coding(&headers(ACCEPT_ENCODING, accept), |coding| available.contains(&coding));
            assert_eq!(chosen, expected, "{accept:?} of {available:?}");
        }
    }
}
