//! A table as statements see it: its name, its columns' types, and how our rows are told from others. The only file that
//! knows where versions are: in columns of the table, or in `muster.rows`.

use crate::sql::config::Versions;
use crate::sql::plan::Catalog;
use crate::sql::table::{MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};

/// A table and the types its columns have.
pub(super) struct Place<'a> {
    pub(super) component: &'a str,
    pub(super) schema: &'a str,
    pub(super) known: &'a Catalog,
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
        format!("{}.{}", quoted(self.schema), quoted(&self.table.name))
    }

    /// The type to cast a column's text to: without length, since an explicit cast to `varchar(9)` would cut.
    pub(super) fn cast(&self, column: &str) -> &str {
        let columns = self.known.tables.get(&self.table.name).map(|table| &table.columns);
        columns.and_then(|columns| columns.get(column)).map_or("text", |column| column.cast.as_str())
    }

    /// The type as it was declared.
    pub(super) fn full(&self, column: &str) -> &str {
        let columns = self.known.tables.get(&self.table.name).map(|table| &table.columns);
        columns.and_then(|columns| columns.get(column)).map_or("text", |column| column.full.as_str())
    }

    /// A column of `t` as rows are recognised by it.
    pub(super) fn term(&self, place: usize) -> String {
        let column = &self.table.columns[place];
        let name = format!("t.{}", quoted(&column.name));
        if column.folded { format!("lower({name}::text)") } else { name }
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
        let from = format!("muster.rows o join {name} t on {} and {}", self.entries(), self.is_of_entry());
        Ours { from, key: "o.key".into(), version: "o.version".into(), hash: "o.hash".into() }
    }

    /// That a row `t` isn't ours.
    pub(super) fn is_foreign(&self) -> String {
        if !self.is_beside() {
            return format!("t.{} is null", quoted(MUSTER_KEY));
        }
        format!(
            "not exists (select from muster.rows o where {} and o.identity = t.{}::text)",
            self.entries(),
            self.identity()
        )
    }

    /// That a row `t` is another one than that of the key, ours or not.
    pub(super) fn is_of_another_key(&self, key: &str) -> String {
        if !self.is_beside() {
            return format!("t.{} is distinct from {key}", quoted(MUSTER_KEY));
        }
        let (entries, same) = (self.entries(), self.is_of_entry());
        format!("not exists (select from muster.rows o where {entries} and o.key = {key} and {same})")
    }

    /// That a row `t` is ours and has one of these keys: a parameter.
    pub(super) fn has_key_in(&self, keys: &str) -> String {
        if !self.is_beside() {
            return format!("t.{} = any({keys})", quoted(MUSTER_KEY));
        }
        let identity = self.identity();
        let cast = self.identity_cast();
        let entries = self.entries();
        // As an array, so that the table's own index is used whatever the planner thinks of it.
        format!(
            "t.{identity} = any(array(select o.identity::{cast} from muster.rows o where {entries} and o.key = any({keys})))"
        )
    }

    /// Takes the versions of rows of ours, whose keys are the only parameter.
    pub(super) fn outdate_sql(&self) -> String {
        if self.is_beside() {
            let entries = self.entries();
            return format!(
                "update muster.rows o set version = null where {entries} and o.key = any($1) and o.version is not null"
            );
        }
        let version = quoted(MUSTER_VERSION);
        format!(
            "update {} t set {version} = null where {} and t.{version} is not null",
            self.name(),
            self.has_key_in("$1")
        )
    }

    /// That an entry `o` of `muster.rows` is one of this table's.
    pub(super) fn entries(&self) -> String {
        format!("o.component = {} and o.topic = {}", literal(self.component), literal(self.table.topic()))
    }

    /// That `t` is the row of an entry `o`. By the column's own type, so that its index is used.
    pub(super) fn is_of_entry(&self) -> String {
        format!("t.{} = o.identity::{}", self.identity(), self.identity_cast())
    }

    /// The column by which `muster.rows` knows a row, quoted. The mapping was checked: there is one.
    pub(super) fn identity(&self) -> String {
        quoted(self.table.key.as_deref().unwrap_or_default())
    }

    fn identity_cast(&self) -> &str {
        self.cast(self.table.key.as_deref().unwrap_or_default())
    }

    /// That a row `t` is never to be ours; the patterns are parameters, from `first` on.
    pub(super) fn is_theirs(&self, first: usize) -> String {
        let one = |(n, (column, _)): (usize, &(String, String))| {
            format!("coalesce(t.{}::text like ${}::text, false)", quoted(column), first + n)
        };
        let fits: Vec<String> = self.table.theirs.iter().enumerate().map(one).collect();
        if fits.is_empty() { "false".to_owned() } else { format!("({})", fits.join(" or ")) }
    }

    /// What the database puts into the identity, where no field fills it.
    pub(super) fn generated(&self) -> Option<(&str, &str)> {
        let column = self.table.generated()?;
        let there = self.known.tables.get(&self.table.name)?.columns.get(column)?;
        Some((column, there.default.as_deref()?))
    }
}

/// A text in a statement. Names of components and topics: never what somebody sent.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
