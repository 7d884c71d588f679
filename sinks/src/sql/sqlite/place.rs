//! A table as statements see it, and how our rows are told from others. The only file that knows where versions are: in
//! columns of the table, or in `muster_rows`.

use crate::sql::config::Versions;
use crate::sql::table::{MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};

pub(super) struct Place<'a> {
    pub(super) component: &'a str,
    pub(super) table: &'a Table,
}

/// Our rows of a table, for a statement that reads them.
pub(super) struct Ours {
    /// What stands behind `from`: the table as `t`, with all its columns, and where key, version and hash are.
    pub(super) from: String,
    pub(super) key: String,
    pub(super) version: String,
    pub(super) hash: String,
}

impl Place<'_> {
    pub(super) fn name(&self) -> String {
        quoted(&self.table.name)
    }

    pub(super) fn is_beside(&self) -> bool {
        self.table.versions == Versions::Side
    }

    pub(super) fn ours(&self) -> Ours {
        let name = self.name();
        if !self.is_beside() {
            let of = |column| format!("t.{}", quoted(column));
            let (key, version, hash) = (of(MUSTER_KEY), of(MUSTER_VERSION), of(MUSTER_HASH));
            return Ours { from: format!("{name} t"), key, version, hash };
        }
        // `cross join`: SQLite keeps the order, and goes from the entries to the rows.
        let from =
            format!("muster_rows o cross join {name} t on {} and t.{} = o.identity", self.entries(), self.identity());
        Ours { from, key: "o.key".into(), version: "o.version".into(), hash: "o.hash".into() }
    }

    /// That a row `t` isn't ours.
    pub(super) fn is_foreign(&self) -> String {
        if !self.is_beside() {
            return format!("t.{} is null", quoted(MUSTER_KEY));
        }
        let identity = self.identity();
        format!(
            "not exists (select 1 from muster_rows o where {} and o.identity = cast(t.{identity} as text))",
            self.entries()
        )
    }

    /// That a row `t` is ours and its key is among `keys`: what stands behind `in`.
    pub(super) fn has_key_in(&self, keys: &str) -> String {
        if !self.is_beside() {
            return format!("t.{} in {keys}", quoted(MUSTER_KEY));
        }
        let (identity, entries) = (self.identity(), self.entries());
        format!("t.{identity} in (select o.identity from muster_rows o where {entries} and o.key in {keys})")
    }

    /// Takes the versions of rows of ours, whose keys are listed in the only parameter.
    pub(super) fn outdate_sql(&self) -> String {
        let listed = "(select value from json_each(?))";
        if self.is_beside() {
            let entries = self.entries();
            return format!(
                "update muster_rows as o set version = null where {entries} and o.key in {listed} and o.version is not null"
            );
        }
        let version = quoted(MUSTER_VERSION);
        let ours = self.has_key_in(listed);
        format!("update {} as t set {version} = null where {ours} and t.{version} is not null", self.name())
    }

    /// A column of `t` as rows are recognised by it.
    pub(super) fn term(&self, place: usize) -> String {
        let column = &self.table.columns[place];
        let name = format!("t.{}", quoted(&column.name));
        if column.folded { format!("lower({name})") } else { name }
    }

    /// That a row `t` is never to be ours. The patterns are parameters, in order.
    pub(super) fn is_theirs(&self) -> String {
        let columns = self.table.theirs.iter();
        let fits: Vec<String> =
            columns.map(|(column, _)| format!("coalesce(t.{} like ?, 0)", quoted(column))).collect();
        if fits.is_empty() { "0".to_owned() } else { format!("({})", fits.join(" or ")) }
    }

    /// That an entry `o` of `muster_rows` is one of this table's.
    pub(super) fn entries(&self) -> String {
        format!("o.component = {} and o.topic = {}", literal(self.component), literal(self.table.topic()))
    }

    /// The column by which `muster_rows` knows a row, quoted. The mapping was checked: there is one.
    pub(super) fn identity(&self) -> String {
        quoted(self.table.key.as_deref().unwrap_or_default())
    }
}

/// A text in a statement. Names of components and topics: never what somebody sent.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
