//! The tables as statements, in the words of both kinds of database.
//!
//! PostgreSQL gets bare tables first, and keys, references and indexes when the rows are in: on random ids that takes a fraction of
//! the time. SQLite can't add keys later, so its tables have them from the start.

use super::tables::{Column, Kind, Reference, Table};

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// Where the tables are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dialect: Dialect,
    pub(super) schema: Option<String>,
}

/// A name as SQL may hold it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Place {
    /// A table's or an index's full name.
    pub(super) fn name(&self, name: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(name)),
            None => quoted(name),
        }
    }

    /// Before anything else.
    pub(super) fn create_schema(&self) -> Option<String> {
        Some(format!("create schema if not exists {}", quoted(self.schema.as_ref()?)))
    }

    pub(super) fn create_table(&self, table: Table) -> String {
        let mut parts: Vec<String> = table.columns().iter().map(|column| self.column(column)).collect();
        if self.dialect == Dialect::Sqlite {
            parts.push(format!("primary key ({})", listed(table.key())));
            let reference = |Reference { column, to }: &Reference| {
                format!("foreign key ({}) references {} (\"id\")", quoted(column), self.name(to.name()))
            };
            parts.extend(table.references().iter().map(reference));
        }
        format!("create table if not exists {} (\n    {}\n)", self.name(table.name()), parts.join(",\n    "))
    }

    fn column(&self, column: &Column) -> String {
        let default = if column.name == "is_active" { " default false" } else { "" };
        let required = if column.required { " not null" } else { "" };
        format!("{} {}{default}{required}", quoted(column.name), self.kind(column.kind))
    }

    /// What a column of this kind is declared as, and what text is cast to.
    pub(super) fn kind(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Uuid => "uuid",
            Kind::Varchar => "varchar",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Date => "date",
            Kind::Timestamp => "timestamp",
            Kind::Timestamptz => "timestamptz",
            // SQLite keeps what is declared, whatever it is called, for whoever reads the table.
            Kind::Jsonb if self.dialect == Dialect::Sqlite => "json",
            Kind::Jsonb => "jsonb",
        }
    }

    /// Takes away what slows a fill down: references of all tables before the keys they rest on.
    pub(super) fn before_fill(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if self.dialect == Dialect::Postgres {
            for table in Table::ALL {
                for Reference { column, .. } in table.references() {
                    statements.push(self.drop_constraint(table, &format!("{table}_{column}_fkey")));
                }
            }
            for table in Table::ALL {
                statements.push(self.drop_constraint(table, &format!("{table}_pkey")));
            }
        }
        for table in Table::ALL {
            for columns in table.indexes() {
                statements.push(format!("drop index if exists {}", self.name(&index(table, columns))));
            }
        }
        statements
    }

    /// Puts it back.
    pub(super) fn after_fill(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if self.dialect == Dialect::Postgres {
            for table in Table::ALL {
                let name = quoted(&format!("{table}_pkey"));
                let key = listed(table.key());
                statements
                    .push(format!("alter table {} add constraint {name} primary key ({key})", self.name(table.name())));
            }
            for table in Table::ALL {
                for Reference { column, to } in table.references() {
                    statements.push(format!(
                        "alter table {} add constraint {} foreign key ({}) references {} (\"id\")",
                        self.name(table.name()),
                        quoted(&format!("{table}_{column}_fkey")),
                        quoted(column),
                        self.name(to.name()),
                    ));
                }
            }
        }
        for table in Table::ALL {
            for columns in table.indexes() {
                let name = quoted(&index(table, columns));
                statements.push(format!("create index {name} on {} ({})", self.name(table.name()), listed(columns)));
            }
        }
        statements
    }

    fn drop_constraint(&self, table: Table, name: &str) -> String {
        format!("alter table {} drop constraint if exists {}", self.name(table.name()), quoted(name))
    }

    /// Empties all tables, children first.
    pub(super) fn empty(&self) -> Vec<String> {
        let names = Table::ALL.iter().rev().map(|table| self.name(table.name()));
        match self.dialect {
            Dialect::Postgres => vec![format!("truncate table {}", names.collect::<Vec<_>>().join(", "))],
            Dialect::Sqlite => names.map(|name| format!("delete from {name}")).collect(),
        }
    }

    pub(super) fn holds_rows(&self, table: Table) -> String {
        format!("select exists (select 1 from {})", self.name(table.name()))
    }

    pub(super) fn copy(&self, table: Table) -> String {
        format!("copy {} ({}) from stdin (format text)", self.name(table.name()), columns(table))
    }

    /// Adds so many rows whose cells are all bound as text.
    pub(super) fn insert(&self, table: Table, rows: usize) -> String {
        let width = table.columns().len();
        let row = |nth: usize| {
            let cells = table.columns().iter().enumerate();
            let cells: Vec<String> = cells.map(|(at, column)| self.bound(nth * width + at + 1, column)).collect();
            format!("({})", cells.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("insert into {} ({}) values {}", self.name(table.name()), columns(table), rows.join(", "))
    }

    /// Sets every column of the row with this key; all cells are bound, in the order of the columns.
    pub(super) fn update(&self, table: Table) -> String {
        let keys = table.key().len();
        let equals =
            |(at, column): (usize, &Column)| format!("{} = {}", quoted(column.name), self.bound(at + 1, column));
        let cells = table.columns().iter().enumerate();
        let sets: Vec<String> = cells.clone().skip(keys).map(equals).collect();
        let is: Vec<String> = cells.take(keys).map(equals).collect();
        format!("update {} set {} where {}", self.name(table.name()), sets.join(", "), is.join(" and "))
    }

    /// Deletes the row with this key; the cells of the key are bound.
    pub(super) fn delete(&self, table: Table) -> String {
        let cells = table.columns().iter().enumerate().take(table.key().len());
        let is = cells.map(|(at, column)| format!("{} = {}", quoted(column.name), self.bound(at + 1, column)));
        format!("delete from {} where {}", self.name(table.name()), is.collect::<Vec<_>>().join(" and "))
    }

    fn bound(&self, number: usize, column: &Column) -> String {
        match self.dialect {
            Dialect::Postgres => format!("${number}::{}", self.kind(column.kind)),
            Dialect::Sqlite => format!("?{number}"),
        }
    }
}

fn columns(table: Table) -> String {
    let names: Vec<&str> = table.columns().iter().map(|column| column.name).collect();
    listed(&names)
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// As the registry's own migrations name it.
fn index(table: Table, columns: &[&str]) -> String {
    format!("{table}_{}_index", columns.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_quotes() {
        let place = Place { dialect: Dialect::Postgres, schema: Some("a\"; drop".to_owned()) };
        assert_eq!(place.name("employees"), "\"a\"\"; drop\".\"employees\"");
    }
}
