//! One table of the file, read key by key. Called by every component's `config.rs`; see [`super`] for how that looks.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use url::Url;

use super::document::Document;
use super::field::Field;
use super::kind::{self, Kind, alternatives, shown};
use super::problem::{Place, Problem};
use crate::schedule::Schedule;

/// One table of the file. Remembers which keys were asked for; when dropped, it reports the others.
///
/// A key's reading begins with its kind, and ends with what happens when it is missing
/// ([`Field::required`], [`Field::or`], [`Field::optional`]).
pub struct Section<'d> {
    pub(super) document: &'d Document<'d>,
    table: &'d DeTable<'d>,
    place: Place,
    asked: RefCell<Vec<Cow<'static, str>>>,
    missing: RefCell<Vec<(&'static str, Problem)>>,
    closed: bool,
}

/// Single values; the others are in `compound.rs` and `tables.rs`.
impl<'d> Section<'d> {
    /// Text that isn't empty.
    pub fn string(&self, key: &'static str) -> Field<'_, 'd, String> {
        self.get(key, kind::string(), String::new())
    }

    /// The text, or this one when the key is missing.
    pub fn text_or(&self, key: &'static str, default: &str) -> String {
        self.string(key).or(default.to_owned())
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &'static str) -> Field<'_, 'd, bool> {
        self.get(key, kind::boolean(), false)
    }

    /// A whole number inside the range.
    pub fn integer<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Field<'_, 'd, T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy + 'static,
    {
        let stand_in = *range.start();
        self.get(key, kind::integer(range), stand_in)
    }

    /// A number inside the range, with or without a fraction.
    pub fn number(&self, key: &'static str, range: RangeInclusive<f64>) -> Field<'_, 'd, f64> {
        let stand_in = *range.start();
        self.get(key, kind::number(range), stand_in)
    }

    /// A share from 0 to 1, written as `0.2` or `"20%"`.
    pub fn share(&self, key: &'static str) -> Field<'_, 'd, f64> {
        self.get(key, kind::share(), 0.0)
    }

    /// A length of time with its unit: `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`; up to a hundred years, and `"0s"` is one.
    pub fn duration(&self, key: &'static str) -> Field<'_, 'd, Duration> {
        self.get(key, kind::duration(), Duration::ZERO)
    }

    /// A size with its unit, in bytes: `"4MiB"`.
    pub fn bytes(&self, key: &'static str) -> Field<'_, 'd, u64> {
        self.get(key, kind::bytes(), 0)
    }

    /// A time zone by its IANA name.
    pub fn zone(&self, key: &'static str) -> Field<'_, 'd, Tz> {
        self.get(key, kind::zone(), Tz::UTC)
    }

    /// A day.
    pub fn date(&self, key: &'static str) -> Field<'_, 'd, NaiveDate> {
        self.get(key, kind::date(), NaiveDate::default())
    }

    /// A file or folder; nothing is looked up.
    pub fn path(&self, key: &'static str) -> Field<'_, 'd, PathBuf> {
        self.get(key, kind::path(), PathBuf::new())
    }

    /// An IP address and port to listen on.
    pub fn socket_address(&self, key: &'static str) -> Field<'_, 'd, SocketAddr> {
        self.get(key, kind::socket_address(), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A URL with one of the schemes ([`super::HTTP`], [`super::DATABASE`]) and without credentials.
    pub fn url(&self, key: &'static str, schemes: &'static [&'static str]) -> Field<'_, 'd, Url> {
        // The address reserved for never being reached; a constant that parses.
        let stand_in = Url::parse("http://stand-in.invalid").expect("a valid URL");
        self.get(key, kind::url(schemes), stand_in)
    }

    /// One of a few names, each standing for a value.
    pub fn one_of<T: Clone, const N: usize>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T); N],
    ) -> Field<'_, 'd, T> {
        const { assert!(N > 0, "a choice needs choices") };
        self.get(key, kind::one_of(choices), choices[0].1.clone())
    }

    /// Text in a form of the component's own. `parse` says what is wrong with it, `expected` what would be right.
    pub fn parsed<T, E: Display>(
        &self,
        key: &'static str,
        expected: &str,
        stand_in: T,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Field<'_, 'd, T> {
        self.get(key, kind::parsed(expected, parse), stand_in)
    }

    /// A cron expression, in this zone.
    pub fn cron(&self, key: &'static str, zone: Tz) -> Field<'_, 'd, Schedule> {
        let expected = "five fields, as in \"30 2 * * MON-FRI\", or @hourly, @daily, @weekly, @monthly or @yearly";
        self.get(key, kind::parsed(expected, |text| Schedule::cron(text, zone)), Schedule::Every(Duration::ZERO))
    }

    /// A value of any kind in [`super::kinds`].
    pub fn get<T>(&self, key: &'static str, kind: Kind<'_, T>, stand_in: T) -> Field<'_, 'd, T> {
        let read = self.look_up(key).map(|(name, value)| {
            let place = self.place_of(name);
            (kind.read)(value.get_ref()).map_err(|wrong| self.wrong(place, value.get_ref(), wrong, &kind.expected))
        });
        Field::new(self, key, kind.expected, read, stand_in)
    }
}

/// Around the values.
impl<'d> Section<'d> {
    /// Whether the key is in the file, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where the key stands, or the section if it isn't there: for problems that only the whole configuration shows.
    pub fn place(&self, key: &str) -> Place {
        match self.find(key) {
            Some((name, _)) => self.place_of(name),
            None => Place { path: self.path_of(key), ..self.place.clone() },
        }
    }

    /// Where the section itself stands.
    pub fn own_place(&self) -> &Place {
        &self.place
    }

    /// Reports what only the component can know: `s.report(s.place("to").problem("before `from`"))`.
    pub fn report(&self, problem: Problem) {
        self.document.report(problem);
    }

    /// How many problems have been found in the file so far, to see whether a part of it had any. What is missing or
    /// unknown in a section counts from when the section is dropped.
    pub fn told(&self) -> usize {
        self.document.told()
    }

    /// Leaves the other keys unread without reporting them: for a section that somebody else reads.
    pub fn ignore_rest(mut self) {
        self.closed = true;
    }

    pub(super) fn root(document: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Self::new(document, table, document.place(&(0..0), String::new()))
    }

    pub(super) fn report_missing(&self, key: &'static str, expected: String) {
        let problem = self.place(key).problem("missing").expected(expected);
        self.missing.borrow_mut().push((key, problem));
    }

    fn new(document: &'d Document<'d>, table: &'d DeTable<'d>, place: Place) -> Self {
        Self { document, table, place, asked: RefCell::default(), missing: RefCell::default(), closed: false }
    }

    pub(super) fn look_up(
        &self,
        key: impl Into<Cow<'static, str>>,
    ) -> Option<(&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)> {
        let key = key.into();
        self.document.asked(self.path_of(&key));
        let found = self.find(&key);
        self.asked.borrow_mut().push(key);
        found
    }

    fn find(&self, key: &str) -> Option<(&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>)> {
        self.table.iter().find(|(name, _)| name.get_ref() == key)
    }

    pub(super) fn table_at(&self, place: Place, value: &'d Spanned<DeValue<'d>>) -> Option<Section<'d>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.report(self.found(place, value.get_ref()).expected("a table"));
            return None;
        };
        Some(Section::new(self.document, table, place))
    }

    pub(super) fn found(&self, place: Place, value: &DeValue<'_>) -> Problem {
        place.problem(format!("found {}", shown(value)))
    }

    pub(super) fn wrong(&self, place: Place, value: &DeValue<'_>, wrong: kind::Wrong, expected: &str) -> Problem {
        let mut problem = match wrong.message {
            Some(message) => place.problem(message),
            None => self.found(place, value),
        };
        problem.nearest = wrong.nearest;
        problem.expected(expected)
    }

    pub(super) fn place_of(&self, name: &Spanned<DeString<'_>>) -> Place {
        self.document.place(&name.span(), self.path_of(name.get_ref()))
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        match self.place.path.as_str() {
            "" => quoted(key),
            path => format!("{path}.{}", quoted(key)),
        }
    }
}

impl Drop for Section<'_> {
    /// Reports the keys that nobody asked for. One that is near to a missing key is the missing key, mistyped.
    fn drop(&mut self) {
        let asked = self.asked.take();
        let mut missing = self.missing.take();
        if !self.closed {
            for (name, value) in self.table.iter().filter(|(name, _)| !asked.contains(name.get_ref())) {
                let what = if value.get_ref().is_table() { "unknown section" } else { "unknown key" };
                let absent = || missing.iter().map(|(key, _)| *key);
                let all = || asked.iter().map(|key| &**key);
                let free = all().filter(|key| !self.has(key));
                let mut problem = self.place_of(name).problem(what);
                problem.nearest = super::nearest(name.get_ref(), absent())
                    .or_else(|| super::nearest(name.get_ref(), free))
                    .or_else(|| super::nearest(name.get_ref(), all()));
                match &problem.nearest {
                    Some(nearest) => missing.retain(|(key, _)| key != nearest),
                    None => {
                        let mut known = asked.clone();
                        known.sort_unstable();
                        known.dedup();
                        problem = problem.expected(alternatives(known.iter().map(|key| key.to_string())));
                    }
                }
                self.document.report(problem);
            }
        }
        for (_, problem) in missing {
            self.document.report_missing(problem);
        }
    }
}

/// A key as it must be written in the file.
pub(super) fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}
