//! Judges single values of a record: which types a field takes, and what each becomes. No I/O.
//!
//! Taken as they are meant: whole numbers for text and text of digits for whole numbers (older rows have both), ids
//! in any case, `""` for a text or date that may be null. Not taken: a required field that is *missing* — were the
//! feed to rename it, tolerance would empty it everywhere — nor fractions, nor lists and objects for single values.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pipeline::reject::Reason;
use schemas::{LocalTimestamp, Timestamp};

use super::dates::{self, Written};
use super::shape::{Item, List, Scalar};

/// The longest text of a field in bytes; notes of a milestone are the longest there are.
const MAX_TEXT: usize = 64 << 10;
/// The longest id: a GUID has 36.
const MAX_ID: usize = 64;

/// What is wrong with a record: place and expectation, never what stands there.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    code: &'static str,
    path: String,
    expected: &'static str,
}

impl Wrong {
    pub(super) fn new(code: &'static str, path: &str, expected: &'static str) -> Self {
        Self { code, path: path.to_owned(), expected }
    }

    fn type_of(path: &str, expected: &'static str) -> Self {
        Self::new("wrong_type", path, expected)
    }

    fn missing(path: &str, expected: &'static str) -> Self {
        Self::new("missing_field", path, expected)
    }

    /// The same, for a field of an item of a list.
    pub(super) fn inside(self, list: &str, index: usize) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { path: format!("{list}[{index}]{dot}{}", self.path), ..self }
    }
}

impl From<Wrong> for Reason {
    fn from(wrong: Wrong) -> Self {
        let Wrong { code, path, expected } = wrong;
        let place = if path.is_empty() { "the record" } else { &path };
        Self::new(code, format!("{place}: expected {expected}"))
    }
}

impl Scalar<'_> {
    /// Text that must be there; null counts as empty.
    pub(super) fn text(self, name: &str) -> Result<String, Wrong> {
        match self {
            Self::Missing => Err(Wrong::missing(name, "text")),
            Self::Null => Ok(String::new()),
            Self::Text(text) if text.len() > MAX_TEXT => Err(Wrong::new("too_long", name, "at most 64 KiB of text")),
            Self::Text(text) => Ok(text.into_owned()),
            Self::Whole(number) => Ok(number.to_string()),
            Self::Bool(_) | Self::Other => Err(Wrong::type_of(name, "text")),
        }
    }

    /// Text that may be missing, null or blank.
    pub(super) fn optional_text(self, name: &str) -> Result<Option<String>, Wrong> {
        match self {
            Self::Missing => Ok(None),
            given => given.text(name).map(|text| Some(text).filter(|text| !text.trim_ascii().is_empty())),
        }
    }

    /// A reference or an id of any form, lower-cased.
    pub(super) fn optional_id(self, name: &str) -> Result<Option<String>, Wrong> {
        let Some(text) = self.optional_text(name)? else { return Ok(None) };
        let id = text.trim_ascii();
        if id.len() > MAX_ID || id.contains(char::is_control) {
            return Err(Wrong::new("bad_id", name, "an id of at most 64 characters"));
        }
        Ok(Some(id.to_lowercase()))
    }

    pub(super) fn id(self, name: &str) -> Result<String, Wrong> {
        self.optional_id(name)?.ok_or_else(|| Wrong::missing(name, "an id"))
    }

    /// A uuid in the usual form, in any case; lower-cased.
    pub(super) fn uuid(self, name: &str) -> Result<String, Wrong> {
        let id = self.id(name)?;
        if is_uuid(&id) { Ok(id) } else { Err(Wrong::new("bad_id", name, "a uuid")) }
    }

    pub(super) fn whole(self, name: &str) -> Result<i64, Wrong> {
        const EXPECTED: &str = "a whole number";
        let number = match self {
            Self::Missing | Self::Null => return Err(Wrong::missing(name, EXPECTED)),
            Self::Whole(number) => number,
            Self::Text(text) => text.trim_ascii().parse().map_err(|_| Wrong::type_of(name, EXPECTED))?,
            Self::Bool(_) | Self::Other => return Err(Wrong::type_of(name, EXPECTED)),
        };
        i64::try_from(number).map_err(|_| Wrong::new("out_of_range", name, "a whole number of 64 bits"))
    }

    /// A small whole number; missing, null or blank is 0: unknown.
    pub(super) fn small_whole(self, name: &str) -> Result<i32, Wrong> {
        match self {
            Self::Missing | Self::Null => Ok(0),
            Self::Text(text) if text.trim_ascii().is_empty() => Ok(0),
            given => i32::try_from(given.whole(name)?)
                .map_err(|_| Wrong::new("out_of_range", name, "a whole number of 32 bits")),
        }
    }

    pub(super) fn bool(self, name: &str) -> Result<bool, Wrong> {
        self.optional_bool(name)?.ok_or_else(|| Wrong::missing(name, "true or false"))
    }

    pub(super) fn optional_bool(self, name: &str) -> Result<Option<bool>, Wrong> {
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Bool(truth) => Ok(Some(truth)),
            _ => Err(Wrong::type_of(name, "true or false")),
        }
    }

    /// A moment; without a zone it is one of `zone`.
    pub(super) fn moment(self, name: &str, zone: Tz) -> Result<Option<DateTime<Utc>>, Wrong> {
        Ok(self.date(name)?.map(|written| written.moment(zone)))
    }

    /// What a clock on the wall showed.
    pub(super) fn local(self, name: &str, zone: Tz) -> Result<Option<LocalTimestamp>, Wrong> {
        Ok(self.date(name)?.map(|written| written.local(zone).into()))
    }

    fn date(self, name: &str) -> Result<Option<Written>, Wrong> {
        const EXPECTED: &str = "a date such as 2022-06-28T17:57:43.6";
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Text(text) if text.trim_ascii().is_empty() => Ok(None),
            Self::Text(text) => match dates::parse(&text) {
                Some(written) => Ok(Some(written)),
                None => Err(Wrong::new("bad_date", name, EXPECTED)),
            },
            _ => Err(Wrong::type_of(name, EXPECTED)),
        }
    }
}

/// As a moment is stored.
pub(super) fn stored(moment: Option<DateTime<Utc>>) -> Option<Timestamp> {
    moment.map(Timestamp::from)
}

/// Whether it has the usual form, lower-cased.
pub(super) fn is_uuid(id: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(is_right)
}

impl<'a, T> List<'a, T> {
    /// The items; `None` when the list is null, or missing where it may be. A single item counts as a list of one
    /// where `one` says so.
    pub(super) fn items(self, name: &str, one: One, absent: Absent) -> Result<Option<Vec<Item<'a, T>>>, Wrong> {
        const EXPECTED: &str = "a list";
        match (self, one, absent) {
            (Self::Missing, _, Absent::Required | Absent::MayBeNull) => Err(Wrong::missing(name, EXPECTED)),
            (Self::Null, _, Absent::Required) => Err(Wrong::type_of(name, EXPECTED)),
            (Self::Missing | Self::Null, ..) => Ok(None),
            (Self::Items(items), ..) => Ok(Some(items)),
            (Self::TooMany, ..) => Err(Wrong::new("too_long", name, "at most 1000 items")),
            (Self::One(Item::Scalar(Scalar::Text(text))), One::IsAList, _) if text.trim_ascii().is_empty() => Ok(None),
            (Self::One(item), One::IsAList, _) => Ok(Some(vec![item])),
            (Self::One(_), One::IsWrong, _) => Err(Wrong::type_of(name, EXPECTED)),
        }
    }
}

/// What a single item in the place of a list is.
#[derive(Debug, Clone, Copy)]
pub(super) enum One {
    IsAList,
    IsWrong,
}

/// Whether a list may be absent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// Neither missing nor null.
    Required,
    /// Null, but not missing.
    MayBeNull,
    /// Both.
    MayBeMissing,
}
