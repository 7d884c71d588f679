//! The values of a section that are more than one TOML value: lists, maps, secrets, schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use toml::de::DeValue;

use super::field::Field;
use super::kind::{self, Kind, Scalar};
use super::secret::{Origin, SecretRef};
use super::section::{Section, quoted};
use crate::schedule::Schedule;

/// Lists, secrets and schedules.
impl<'d> Section<'d> {
    /// Several values of one kind: `s.list("hosts", kinds::host_port())`. Every wrong one is reported, by its own line.
    pub fn list<T>(&self, key: &'static str, kind: Kind<'_, T>) -> Field<'_, 'd, Vec<T>> {
        let expected = format!("a list, each {}", kind.expected);
        let read = self.look_up(key).map(|(name, value)| {
            let DeValue::Array(items) = value.get_ref() else {
                return Err(self.found(self.place_of(name), value.get_ref()).expected(&expected));
            };
            let mut values = Vec::new();
            for (i, item) in items.iter().enumerate() {
                match (kind.read)(item.get_ref()) {
                    Ok(value) => values.push(value),
                    Err(wrong) => {
                        let place = self.document.place(&item.span(), format!("{}[{i}]", self.path_of(name.get_ref())));
                        self.report(self.wrong(place, item.get_ref(), wrong, &kind.expected));
                    }
                }
            }
            Ok(values)
        });
        Field::new(self, key, expected, read, Vec::new())
    }

    /// Several texts.
    pub fn strings(&self, key: &'static str) -> Field<'_, 'd, Vec<String>> {
        self.list(key, kind::string())
    }

    /// Names of the user's own, each with a text: `columns = { given_name = "first_name" }`.
    pub fn string_map(&self, key: &'static str) -> Field<'_, 'd, BTreeMap<String, String>> {
        self.map(key, kind::string(), "a text")
    }

    /// Names of the user's own, each with such a map: `json = { address = { city = "city", street = "street" } }`.
    pub fn string_maps(&self, key: &'static str) -> Field<'_, 'd, BTreeMap<String, BTreeMap<String, String>>> {
        self.map(key, kind::string_table(), "a table of texts")
    }

    /// Names of the user's own, each with a truth, a number or a text: `initial = { is_open = true }`.
    pub fn scalar_map(&self, key: &'static str) -> Field<'_, 'd, BTreeMap<String, Scalar>> {
        self.map(key, kind::scalar(), "a truth, a number or a text")
    }

    /// Names of the user's own, each with a time zone: `offset_zone = { changed_at = "Europe/Kyiv" }`.
    pub fn zone_map(&self, key: &'static str) -> Field<'_, 'd, BTreeMap<String, Tz>> {
        self.map(key, kind::zone(), "a time zone")
    }

    fn map<T>(&self, key: &'static str, kind: Kind<'_, T>, each: &str) -> Field<'_, 'd, BTreeMap<String, T>> {
        let expected = format!("a table of names, each with {each}");
        let read = self.look_up(key).map(|(name, value)| {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(self.found(self.place_of(name), value.get_ref()).expected(&expected));
            };
            let mut map = BTreeMap::new();
            for (entry, value) in table {
                match (kind.read)(value.get_ref()) {
                    Ok(read) => {
                        map.insert(entry.get_ref().to_string(), read);
                    }
                    Err(wrong) => {
                        let path = format!("{}.{}", self.path_of(name.get_ref()), quoted(entry.get_ref()));
                        let place = self.document.place(&entry.span(), path);
                        self.report(self.wrong(place, value.get_ref(), wrong, &kind.expected));
                    }
                }
            }
            Ok(map)
        });
        Field::new(self, key, expected, read, BTreeMap::new())
    }

    /// Where a secret is. The secret itself in the file is a problem, which doesn't repeat it.
    pub fn secret(&self, key: &'static str) -> Field<'_, 'd, SecretRef> {
        const EXPECTED: &str = "a secret as { env = \"NAME\" } or { file = \"/path\" }";
        let read = self.look_up(key).map(|(name, value)| {
            let place = self.place_of(name);
            let DeValue::Table(table) = value.get_ref() else {
                return Err(place.problem("a secret must not stand in this file").expected(EXPECTED));
            };
            let mut entries = table.iter();
            let (Some((kind, text)), None) = (entries.next(), entries.next()) else {
                return Err(place.problem("must name one place").expected(EXPECTED));
            };
            let text = text.get_ref().as_str().filter(|text| !text.is_empty());
            match (kind.get_ref().as_ref(), text) {
                ("env", Some(name)) => Ok(SecretRef { from: Origin::Env(name.to_owned()), place }),
                ("file", Some(path)) => Ok(SecretRef { from: Origin::File(path.into()), place }),
                ("env" | "file", None) => Err(place.problem("names no place").expected(EXPECTED)),
                (other, _) => {
                    let inner = self.document.place(&kind.span(), format!("{}.{}", place.path, quoted(other)));
                    Err(inner.problem("unknown key").expected(EXPECTED).nearest_of(other, ["env", "file"]))
                }
            }
        });
        let nowhere = SecretRef { from: Origin::Env(String::new()), place: self.place(key) };
        Field::new(self, key, EXPECTED.to_owned(), read, nowhere)
    }

    /// When something is done: the keys `every`, or `cron` with `zone` (else `default_zone`), in this section.
    /// `None` when neither is there; both is a problem.
    pub fn schedule(&self, default_zone: Tz) -> Option<Schedule> {
        let zone = self.zone("zone").or(default_zone);
        let cron = self.cron("cron", zone).optional();
        let not_zero = |every: &Duration| match every.is_zero() {
            true => Err("would run without pause".to_owned()),
            false => Ok(()),
        };
        let every = self.duration("every").check(not_zero).optional().map(Schedule::Every);
        if self.has("cron") && self.has("every") {
            self.report(self.place("every").problem("given together with `cron`").expected("one of the two"));
        } else if self.has("zone") && !self.has("cron") {
            self.report(self.place("zone").problem("has no effect without `cron`"));
        }
        cron.or(every)
    }
}
