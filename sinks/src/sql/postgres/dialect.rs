//! How PostgreSQL says it: types, Muster's own tables, indexes, and which types lose nothing.

use crate::sql::cell::Shape;
use crate::sql::plan::{Dialect, ExistingColumn};
use crate::sql::table::quoted;

pub(in crate::sql) struct Postgres<'a> {
    pub(in crate::sql) schema: &'a str,
}

/// Each entry is one version, for ever: what has been released is never changed, only followed by another. Keys are
/// compared by their bytes, as topics do, hence `collate "C"`.
const MIGRATIONS: &[&[&str]] = &[&[
    // `create schema if not exists` needs the right to create one even where there is one.
    "do $$ begin if to_regnamespace('muster') is null then create schema muster; end if; end $$",
    "create table muster.sink_migrations (version integer primary key, at timestamptz not null default now())",
    r#"create table muster.offsets (
    component text not null,
    topic text not null,
    partition integer not null,
    incarnation text not null,
    next bigint not null,
    epoch bigint not null,
    at timestamptz not null,
    sweeping boolean not null,
    primary key (component, topic, partition)
)"#,
    r#"create table muster.parked (
    component text not null,
    topic text not null,
    key text collate "C" not null,
    partition integer not null,
    version bigint not null,
    hash text,
    forced boolean not null,
    schema text,
    body bytea,
    code text not null,
    reason text not null,
    since timestamptz not null,
    attempts bigint not null,
    hopeless boolean not null,
    primary key (component, topic, key)
)"#,
    "create index parked_next on muster.parked (component, attempts, since)",
    r#"create table muster.deleted (
    component text not null,
    topic text not null,
    key text collate "C" not null,
    partition integer not null,
    version bigint not null,
    at timestamptz not null,
    primary key (component, topic, key)
)"#,
    "create index deleted_at on muster.deleted (at)",
]];

impl Dialect for Postgres<'_> {
    fn table(&self, name: &str) -> String {
        format!("{}.{}", quoted(self.schema), quoted(name))
    }

    fn migrations(&self) -> Vec<Vec<String>> {
        let numbered = MIGRATIONS.iter().enumerate().map(|(done, statements)| {
            let record = format!("insert into muster.sink_migrations (version) values ({})", done + 1);
            statements.iter().map(|statement| (*statement).to_owned()).chain([record]).collect()
        });
        numbered.collect()
    }

    fn column_type(&self, shape: Shape) -> String {
        match shape {
            Shape::Text => "text",
            Shape::Uuid => "uuid",
            Shape::Bool => "boolean",
            Shape::Int => "integer",
            Shape::Long => "bigint",
            // A shortest text in between keeps a float's digits, and a wider column keeps them as they are.
            Shape::Float | Shape::Double => "double precision",
            Shape::Bytes => "bytea",
            Shape::Date => "date",
            Shape::Timestamp => "timestamptz",
            Shape::LocalTimestamp => "timestamp",
            Shape::Decimal { precision, scale } => return format!("numeric({precision},{scale})"),
            Shape::Json => "jsonb",
        }
        .to_owned()
    }

    fn own_types(&self) -> [&'static str; 3] {
        ["text collate \"C\"", "bigint", "text"]
    }

    fn moment_type(&self) -> &'static str {
        "timestamptz"
    }

    fn misfit(&self, shape: Shape, column: &ExistingColumn) -> Option<String> {
        let is_text = column.category == 'S';
        let cast = column.cast.as_str();
        let fits = match shape {
            // Enumerations, domains over text and JSON take what they take, row by row.
            Shape::Text => is_text || column.category == 'E' || matches!(cast, "uuid" | "json" | "jsonb"),
            Shape::Uuid => is_text || cast == "uuid",
            Shape::Bool => cast == "boolean",
            Shape::Int => matches!(cast, "integer" | "bigint" | "numeric") && scale_of(&column.full).is_none(),
            Shape::Long => matches!(cast, "bigint" | "numeric") && scale_of(&column.full).is_none(),
            Shape::Float => matches!(cast, "real" | "double precision"),
            Shape::Double => cast == "double precision",
            Shape::Bytes => cast == "bytea",
            Shape::Date => is_text || matches!(cast, "date" | "timestamp without time zone"),
            // Without a zone it is the time in UTC.
            Shape::Timestamp => is_text || matches!(cast, "timestamp with time zone" | "timestamp without time zone"),
            Shape::LocalTimestamp => is_text || cast == "timestamp without time zone",
            Shape::Decimal { precision, scale } => {
                is_text || (cast == "numeric" && holds_digits(&column.full, precision, scale))
            }
            Shape::Json => is_text || matches!(cast, "json" | "jsonb"),
        };
        if fits {
            return None;
        }
        let wanted = self.column_type(shape);
        Some(format!("is {}, which can't hold every {wanted}; change it by hand, or map another column", column.full))
    }

    fn create_index(&self, unique: bool, name: &str, table: &str, columns: &[&str], only: Option<&str>) -> String {
        let unique = if unique { "unique " } else { "" };
        let columns = columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
        let only = only.map_or_else(String::new, |only| format!(" where {only}"));
        format!("create {unique}index {} on {} ({columns}){only}", quoted(name), self.table(table))
    }
}

/// Precision and scale of `numeric(12,2)`; `None` for `numeric`, which holds everything.
fn scale_of(full: &str) -> Option<(u32, u32)> {
    let (precision, scale) = full.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.parse().ok()?, scale.parse().ok()?))
}

fn holds_digits(full: &str, precision: u32, scale: u32) -> bool {
    scale_of(full).is_none_or(|(p, s)| s >= scale && p.saturating_sub(s) >= precision - scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misfit(shape: Shape, cast: &str, full: &str, category: char) -> bool {
        let column = ExistingColumn { cast: cast.into(), full: full.into(), category, ..ExistingColumn::default() };
        Postgres { schema: "public" }.misfit(shape, &column).is_some()
    }

    #[test]
    fn narrower_types_are_refused() {
        let price = Shape::Decimal { precision: 12, scale: 2 };
        assert!(!misfit(price, "numeric", "numeric", 'N'));
        assert!(!misfit(price, "numeric", "numeric(14,4)", 'N'));
        assert!(misfit(price, "numeric", "numeric(12,4)", 'N'));
        assert!(misfit(price, "numeric", "numeric(14,1)", 'N'));
        assert!(misfit(Shape::Long, "integer", "integer", 'N'));
        assert!(!misfit(Shape::Int, "bigint", "bigint", 'N'));
        assert!(misfit(Shape::LocalTimestamp, "timestamp with time zone", "timestamp with time zone", 'D'));
        assert!(misfit(Shape::LocalTimestamp, "date", "date", 'D'));
        assert!(!misfit(Shape::Text, "end_of_journey", "end_of_journey", 'E'));
    }
}
