//! The tables within a section: single ones, named ones, lists of them, and choices that bring their own keys.

use toml::de::DeValue;

use super::kind::alternatives;
use super::section::{Section, quoted};

/// Tables within this one.
impl<'d> Section<'d> {
    /// The table under this key. `None` when it is missing, or (reported) when it isn't a table.
    pub fn section(&self, key: &'static str) -> Option<Section<'d>> {
        let (name, value) = self.look_up(key)?;
        self.table_at(self.place_of(name), value)
    }

    /// The table under a key that the configuration itself has made a name of; otherwise as [`Self::section`].
    pub fn section_of(&self, key: &str) -> Option<Section<'d>> {
        let (name, value) = self.look_up(key.to_owned())?;
        self.table_at(self.place_of(name), value)
    }

    /// The table under this key; a missing one is a problem.
    pub fn required_section(&self, key: &'static str) -> Option<Section<'d>> {
        let section = self.section(key);
        if !self.has(key) {
            self.report_missing(key, format!("a section [{}]", self.path_of(key)));
        }
        section
    }

    /// The tables with names of the user's own under this key: `[sources.ats]`, `[sources.mdm]`. In order of names.
    pub fn sections(&self, key: &'static str) -> Vec<(String, Section<'d>)> {
        let Some((name, value)) = self.look_up(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            let expected = format!("sections [{}.NAME]", self.path_of(key));
            self.report(self.found(self.place_of(name), value.get_ref()).expected(expected));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in table {
            let path = format!("{}.{}", self.path_of(key), quoted(name.get_ref()));
            let place = self.document.place(&name.span(), path);
            sections.extend(self.table_at(place, value).map(|section| (name.get_ref().to_string(), section)));
        }
        sections
    }

    /// The tables of a list: `[[tables]]`, or `tables = [{ .. }, { .. }]`. In the order of the file.
    pub fn tables(&self, key: &'static str) -> Vec<Section<'d>> {
        let Some((name, value)) = self.look_up(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            let expected = format!("a list of tables [[{}]]", self.path_of(key));
            self.report(self.found(self.place_of(name), value.get_ref()).expected(expected));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let place = self.document.place(&item.span(), format!("{}[{i}]", self.path_of(key)));
            sections.extend(self.table_at(place, item));
        }
        sections
    }

    /// A choice that brings its own keys: `from.ats = { .. }`. Exactly one of the tags must be there.
    ///
    /// `None` (reported) otherwise; the tag that is returned is one of `tags`.
    pub fn tagged(&self, key: &'static str, tags: &[&'static str]) -> Option<(&'static str, Section<'d>)> {
        let choices = || alternatives(tags.iter().map(|tag| format!("{key}.{tag}")));
        let Some((name, value)) = self.look_up(key) else {
            self.report_missing(key, choices());
            return None;
        };
        let DeValue::Table(table) = value.get_ref() else {
            self.report(self.found(self.place_of(name), value.get_ref()).expected(format!("{} = {{ … }}", choices())));
            return None;
        };

        let mut chosen = None;
        for (found, value) in table {
            let path = format!("{}.{}", self.path_of(key), quoted(found.get_ref()));
            let place = self.document.place(&found.span(), path);
            match tags.iter().find(|&&tag| tag == found.get_ref()) {
                None => {
                    let tags = tags.iter().copied();
                    self.report(place.problem("unknown kind").expected(choices()).nearest_of(found.get_ref(), tags));
                }
                Some(tag) if table.len() == 1 => {
                    chosen = self.table_at(place, value).map(|section| (*tag, section));
                }
                Some(_) => {}
            }
        }
        if table.len() != 1 {
            let message = if table.is_empty() { "names no kind" } else { "names several kinds" };
            self.report(self.place_of(name).problem(message).expected(format!("one of {}", choices())));
        }
        chosen
    }
}
