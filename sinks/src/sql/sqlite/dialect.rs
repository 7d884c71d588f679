//! How SQLite says it: types, Muster's own tables, indexes.

use crate::sql::cell::Shape;
use crate::sql::plan::{Dialect, ExistingColumn};
use crate::sql::table::quoted;

pub(super) struct Sqlite;

/// Each entry is one version, for ever: what has been released is never changed, only followed by another.
const MIGRATIONS: &[&[&str]] = &[
    &[
        "create table muster_sink_migrations (version integer primary key, at integer not null)",
        "create table muster_offsets (
    component text not null,
    topic text not null,
    partition integer not null,
    incarnation text not null,
    next integer not null,
    epoch integer not null,
    at integer not null,
    sweeping integer not null,
    primary key (component, topic, partition)
) without rowid",
        "create table muster_parked (
    component text not null,
    topic text not null,
    key text not null,
    partition integer not null,
    version integer not null,
    hash text,
    forced integer not null,
    schema text,
    body blob,
    code text not null,
    reason text not null,
    since integer not null,
    attempts integer not null,
    hopeless integer not null,
    primary key (component, topic, key)
)",
        "create index muster_parked_next on muster_parked (component, attempts, since)",
        "create table muster_deleted (
    component text not null,
    topic text not null,
    key text not null,
    partition integer not null,
    version integer not null,
    at integer not null,
    primary key (component, topic, key)
) without rowid",
        "create index muster_deleted_at on muster_deleted (at)",
    ],
    &[
        "create table muster_rows (
    component text not null,
    topic text not null,
    key text not null,
    identity text not null,
    version integer,
    hash text,
    primary key (component, topic, key)
) without rowid",
        "create index muster_rows_identity on muster_rows (component, topic, identity)",
    ],
    &["alter table muster_offsets add column print integer"],
];

impl Dialect for Sqlite {
    fn table(&self, name: &str) -> String {
        quoted(name)
    }

    fn migrations(&self) -> Vec<Vec<String>> {
        let numbered = MIGRATIONS.iter().enumerate().map(|(done, statements)| {
            let record =
                format!("insert into muster_sink_migrations values ({}, unixepoch('subsec') * 1000)", done + 1);
            statements.iter().map(|statement| (*statement).to_owned()).chain([record]).collect()
        });
        numbered.collect()
    }

    fn column_type(&self, shape: Shape) -> String {
        match shape {
            Shape::Bool => "boolean",
            Shape::Int | Shape::Long => "integer",
            Shape::Float | Shape::Double => "real",
            Shape::Bytes => "blob",
            // Affinity `numeric` would round decimals; dates are ISO text, which compares as dates do.
            Shape::Text
            | Shape::Uuid
            | Shape::Date
            | Shape::Timestamp
            | Shape::LocalTimestamp
            | Shape::Decimal { .. }
            | Shape::Json => "text",
        }
        .to_owned()
    }

    fn generated_type(&self) -> &'static str {
        "integer primary key"
    }

    fn own_types(&self) -> [&'static str; 3] {
        ["text", "integer", "text"]
    }

    fn moment_type(&self) -> &'static str {
        "text"
    }

    /// Columns hold any value whatever their type; `strict` tables refuse row by row.
    fn misfit(&self, _shape: Shape, _column: &ExistingColumn) -> Option<String> {
        None
    }

    fn folded(&self, column: &str) -> String {
        format!("lower({column})")
    }

    fn create_index(&self, unique: bool, name: &str, table: &str, columns: &[String], only: Option<&str>) -> String {
        let unique = if unique { "unique " } else { "" };
        let columns = columns.join(", ");
        let only = only.map_or_else(String::new, |only| format!(" where {only}"));
        format!("create {unique}index {} on {} ({columns}){only}", quoted(name), quoted(table))
    }
}
