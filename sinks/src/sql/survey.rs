//! What is in the tables before anything is written: how much is ours, what could be adopted, what never will be. Counts
//! and columns only; the database does the counting, whatever it has.

use std::collections::{BTreeMap, BTreeSet};

use super::config::Versions;
use super::plan::{Catalog, ExistingTable};
use super::table::{Filling, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table};

/// What a table holds, and what of it is whose. Names and counts, no contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The entity that fills it.
    pub entity: String,
    /// The table.
    pub table: String,
    /// All rows.
    pub rows: u64,
    /// Rows that Muster has written or adopted.
    pub ours: u64,
    /// Rows of others that `theirs` says are never adopted.
    pub theirs: u64,
    /// Columns by which rows of others are recognised. Empty: never.
    pub recognised_by: Vec<String>,
    /// Values of these columns that several rows of others have: what would be one of them is rejected.
    pub ambiguous_values: u64,
    /// The rows that have them.
    pub ambiguous_rows: u64,
    /// Changes that wait in the target, by reason.
    pub waiting: BTreeMap<String, u64>,
    /// Columns that are kept up to date.
    pub kept_up_to_date: Vec<String>,
    /// Columns that get a value when a row is inserted, and are the table's own afterwards.
    pub set_on_insert: Vec<String>,
    /// Columns that are never written.
    pub never_written: Vec<String>,
}

impl Survey {
    /// Rows that aren't Muster's.
    pub fn others(&self) -> u64 {
        self.rows.saturating_sub(self.ours)
    }

    /// The table as mapped, and as it is there; nothing is counted yet.
    pub(super) fn of(table: &Table, existing: &ExistingTable) -> Self {
        let (kept, set): (Vec<_>, Vec<_>) = table.columns.iter().partition(|column| column.owned);
        let named = |column: &&super::table::Column| match &column.filling {
            Filling::Field(_) => column.name.clone(),
            Filling::Object(parts) => {
                let names = parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                format!("{} ({names})", column.name)
            }
        };
        let own = [MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH].into_iter();
        let written: BTreeSet<&str> = table.columns.iter().map(|column| column.name.as_str()).chain(own).collect();
        let initial = table.initial.iter().map(|(column, _)| column.as_str());
        let on_delete = table.soft().map(|(column, _)| column);
        let written: BTreeSet<&str> = written.into_iter().chain(initial).chain(on_delete).collect();
        let matching = table.matching.iter().map(|place| &table.columns[*place]);
        Self {
            entity: table.entity.clone(),
            table: table.name.clone(),
            recognised_by: matching.map(|column| column.name.clone()).collect(),
            kept_up_to_date: kept.iter().map(named).collect(),
            set_on_insert: set.iter().map(named).chain(table.initial.iter().map(|(name, _)| name.clone())).collect(),
            never_written: existing.columns.keys().filter(|name| !written.contains(name.as_str())).cloned().collect(),
            ..Self::default()
        }
    }
}

/// How a database counts a table.
pub(super) struct Counting {
    /// All rows, ours, and theirs. Takes the patterns.
    pub(super) rows: String,
    /// Ambiguous values, and the rows that have them. Takes the patterns. `None`: nothing is adopted, or columns of it
    /// aren't there yet.
    pub(super) ambiguous: Option<String>,
}

/// A table in a statement, as `t`.
pub(super) struct Terms {
    pub(super) name: String,
    /// What stands behind `from` for our rows, and their key.
    pub(super) ours: (String, String),
    pub(super) is_foreign: String,
    /// Takes the patterns as its first parameters.
    pub(super) is_theirs: String,
    /// What rows are recognised by.
    pub(super) matching: Vec<String>,
}

/// The statements for a table that is there. Before Muster's own tables and columns are, no row is ours.
pub(super) fn counting(table: &Table, existing: &ExistingTable, catalog: &Catalog, terms: &Terms) -> Counting {
    let is_set_up = match table.versions {
        Versions::Column => existing.columns.contains_key(MUSTER_KEY),
        Versions::Side => {
            let is_there = |key: &String| existing.columns.contains_key(key);
            catalog.migrations >= SIDE_SINCE && table.key.as_ref().is_some_and(is_there)
        }
    };
    let Terms { name, ours: (from, key), is_theirs, .. } = terms;
    let is_foreign = if is_set_up { terms.is_foreign.as_str() } else { "1 = 1" };
    let ours = match is_set_up {
        true => format!("(select count(*) from {from} where {key} is not null)"),
        false => "0".to_owned(),
    };
    let is_there = |column: &String| existing.columns.contains_key(column);
    let theirs = match !table.theirs.is_empty() && table.theirs.iter().all(|(column, _)| is_there(column)) {
        true => format!("(select count(*) from {name} t where {is_foreign} and {is_theirs})"),
        false => "0".to_owned(),
    };
    let rows = format!(
        "select cast((select count(*) from {name}) as bigint), cast({ours} as bigint), cast({theirs} as bigint)"
    );
    let matches = !table.matching.is_empty()
        && table.matching.iter().all(|place| is_there(&table.columns[*place].name))
        && table.theirs.iter().all(|(column, _)| is_there(column));
    let ambiguous = matches.then(|| {
        // What has nothing to be recognised by is like no other.
        let says_nothing: Vec<String> = terms.matching.iter().map(|term| format!("{term} is null")).collect();
        format!(
            "select count(*), cast(coalesce(sum(g.n), 0) as bigint) from (select count(*) as n from {name} t \
             where {is_foreign} and not {is_theirs} and not ({}) group by {} having count(*) > 1) g",
            says_nothing.join(" and "),
            terms.matching.join(", "),
        )
    });
    Counting { rows, ambiguous }
}

/// The migration that made the table of versions.
const SIDE_SINCE: usize = 2;
