//! The statements that read a table. Pure: names are quoted, values are parameters.

use super::plan::{Column, Only, Plan};

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A table's name as statements have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The PostgreSQL schema; SQLite has none.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

/// What a statement selects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra {
    /// Beside the columns, two hashes of each row: of key and change column, and of all columns.
    pub hashes: bool,
}

/// Where a statement begins: the parameters come in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The change column isn't below the first parameter.
    pub from: bool,
    /// It is below the next one.
    pub below: bool,
    /// Behind the row whose change column (where rows come in its order) and key are the next ones.
    pub after: bool,
    /// Not behind the row whose change column (where rows come in its order) and key are in the next ones.
    pub up_to: bool,
    /// The change column isn't null. Takes no parameter.
    pub known: bool,
}

/// An identifier, whatever is in it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Name {
    /// As it stands behind `from`.
    pub fn sql(&self, dialect: Dialect) -> String {
        match (dialect, &self.schema) {
            (Dialect::Postgres, schema) => {
                format!("{}.{}", quoted(schema.as_deref().unwrap_or("public")), quoted(&self.table))
            }
            (Dialect::Sqlite, _) => quoted(&self.table),
        }
    }
}

/// Writes the statements of one table.
pub struct Statements<'p> {
    /// Whose.
    pub dialect: Dialect,
    /// The table.
    pub name: &'p Name,
    /// How it is read.
    pub plan: &'p Plan,
}

impl Statements<'_> {
    /// Rows in the order of the key.
    pub fn by_key(&self, bounds: Bounds, extra: Extra, limit: Option<u32>) -> String {
        let key = self.key();
        self.rows(bounds, &key, extra, limit, 0)
    }

    /// Rows in the order of the change column; those of one value in the order of the key. `skip`: rows left out at the
    /// beginning.
    pub fn by_change(&self, bounds: Bounds, limit: u32, skip: u64) -> String {
        let mut order = self.change();
        order.extend(self.key());
        // Null is in no order with others: the comparison finds such rows.
        self.rows(Bounds { known: true, ..bounds }, &order, Extra::default(), Some(limit), skip)
    }

    /// How many rows there are in a range, and what their hashes come to.
    pub fn hash(&self, bounds: Bounds, whole: bool) -> String {
        let mut parameter = 0;
        let filter = self.filter(bounds, &self.key(), &mut parameter);
        let table = self.name.sql(self.dialect);
        let hash = self.hash_of(whole);
        format!("select count(*), coalesce(sum({hash}), 0)::text from {table} t{filter}")
    }

    /// As [`Self::hash`], of all ranges at once, each with its place. The one parameter is the list of their last keys, in
    /// their order. `None`: a key of several columns has no places.
    pub fn hashes(&self, whole: bool) -> Option<String> {
        let [key] = self.key()[..] else { return None };
        let filter = self.filter(Bounds::default(), &[key], &mut 0);
        let (table, column, cast) = (self.name.sql(self.dialect), self.column(key), &key.cast);
        let hash = self.hash_of(whole);
        // A last key lies in its own range, not in the next one. The list is read once, and a row is placed once (`offset 0`).
        Some(format!(
            "with bounds as materialized (select current_setting('muster.p1')::{cast}[] as last), \
             placed as (select width_bucket({column}, bounds.last) as place, bounds.last, {column} as key, {hash} as hash \
             from {table} t cross join bounds{filter} offset 0) \
             select (place - case when last[place] = key then 1 else 0 end)::int8, count(*), coalesce(sum(hash), 0)::text \
             from placed group by 1"
        ))
    }

    /// Which of so many keys are there: the key's columns alone.
    pub fn present(&self, keys: usize) -> String {
        let key = self.key();
        let mut parameter = 0;
        let tuples: Vec<String> =
            (0..keys).map(|_| format!("({})", self.parameters(&key, &mut parameter).join(", "))).collect();
        let columns = key.iter().map(|column| self.column(column)).collect::<Vec<_>>().join(", ");
        let selected = key.iter().map(|column| self.selected(column)).collect::<Vec<_>>().join(", ");
        let table = self.name.sql(self.dialect);
        let tuples = match self.dialect {
            Dialect::Postgres => tuples.join(", "),
            Dialect::Sqlite => format!("values {}", tuples.join(", ")),
        };
        let only = self.only().into_iter().map(|condition| format!(" and {condition}")).collect::<String>();
        format!("select {selected} from {table} t where ({columns}) in ({tuples}){only}")
    }

    /// The highest value of the change column.
    pub fn highest(&self) -> Option<String> {
        let change = self.change();
        let column = self.column(change.first()?);
        let only = self.only();
        let filter = if only.is_empty() { String::new() } else { format!(" where {}", only.join(" and ")) };
        Some(format!("select max({column}) from {} t{filter}", self.name.sql(self.dialect)))
    }

    fn rows(&self, bounds: Bounds, order: &[&Column], extra: Extra, limit: Option<u32>, skip: u64) -> String {
        let mut parameter = 0;
        let filter = self.filter(bounds, order, &mut parameter);
        let mut selected: Vec<String> = self.plan.select.iter().map(|column| self.selected(column)).collect();
        if extra.hashes {
            selected.extend([self.hash_of(false), self.hash_of(true)]);
        }
        let ordered = order.iter().map(|column| self.column(column)).collect::<Vec<_>>().join(", ");
        let table = self.name.sql(self.dialect);
        let limit = limit.map_or_else(String::new, |limit| format!(" limit {limit}"));
        let skip = if skip > 0 { format!(" offset {skip}") } else { String::new() };
        format!("select {} from {table} t{filter} order by {ordered}{limit}{skip}", selected.join(", "))
    }

    fn filter(&self, bounds: Bounds, order: &[&Column], parameter: &mut usize) -> String {
        let mut conditions = self.only();
        // A view may have rows without a key, which nobody can follow.
        let keyless = self.key().into_iter().filter(|column| !column.required);
        conditions.extend(keyless.map(|column| format!("{} is not null", self.column(column))));
        if bounds.known && !bounds.from && !bounds.after {
            conditions.extend(self.change().iter().map(|change| format!("{} is not null", self.column(change))));
        }
        for (wanted, operator) in [(bounds.from, ">="), (bounds.below, "<")] {
            for change in self.change().iter().filter(|_| wanted) {
                let value = self.parameters(&[change], parameter).join("");
                conditions.push(format!("{} {operator} {value}", self.column(change)));
            }
        }
        for (wanted, operator) in [(bounds.after, ">"), (bounds.up_to, "<=")] {
            if wanted {
                let names = order.iter().map(|column| self.column(column)).collect::<Vec<_>>();
                let values = self.parameters(order, parameter);
                conditions.push(match names.len() {
                    1 => format!("{} {operator} {}", names[0], values[0]),
                    _ => format!("({}) {operator} ({})", names.join(", "), values.join(", ")),
                });
            }
        }
        match conditions.is_empty() {
            true => String::new(),
            false => format!(" where {}", conditions.join(" and ")),
        }
    }

    /// What is true of the rows that are followed. Patterns are written in hexadecimal: as text, a statement would have to
    /// know how its database quotes it.
    fn only(&self) -> Vec<String> {
        let text = |pattern: &str| {
            let hex: String = pattern.bytes().map(|byte| format!("{byte:02x}")).collect();
            match self.dialect {
                Dialect::Postgres => format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
                Dialect::Sqlite => format!("cast(x'{hex}' as text)"),
            }
        };
        let condition = |only: &Only| match (only, self.dialect) {
            (Only::Null(column), _) => format!("t.{} is null", quoted(column)),
            (Only::Like(column, pattern), Dialect::Postgres) => {
                format!("t.{}::text like {}", quoted(column), text(pattern))
            }
            (Only::Like(column, pattern), Dialect::Sqlite) => format!("t.{} like {}", quoted(column), text(pattern)),
        };
        self.plan.only.iter().map(condition).collect()
    }

    /// One parameter for each column, of the column's own type.
    fn parameters(&self, columns: &[&Column], parameter: &mut usize) -> Vec<String> {
        let one = |column: &&Column| {
            *parameter += 1;
            match self.dialect {
                // `COPY` takes no parameters; settings of the transaction do as well.
                Dialect::Postgres => format!("current_setting('muster.p{parameter}')::{}", column.cast),
                // Each is bound as what it was.
                Dialect::Sqlite => format!("?{parameter}"),
            }
        };
        columns.iter().map(one).collect()
    }

    fn hash_of(&self, whole: bool) -> String {
        let mut columns = self.key();
        columns.extend(self.change());
        if whole {
            columns = self.plan.select.iter().collect();
        }
        let columns = columns.iter().map(|column| self.column(column)).collect::<Vec<_>>().join(", ");
        format!("hashtextextended(row({columns})::text, 0)")
    }

    fn selected(&self, column: &Column) -> String {
        match self.dialect {
            Dialect::Postgres => format!("{}::{}", self.column(column), column.kind.sent_as()),
            Dialect::Sqlite => self.column(column),
        }
    }

    fn column(&self, column: &Column) -> String {
        format!("t.{}", quoted(&column.name))
    }

    fn key(&self) -> Vec<&Column> {
        self.plan.key.iter().map(|at| &self.plan.select[*at]).collect()
    }

    fn change(&self) -> Vec<&Column> {
        self.plan.change.iter().map(|(at, _)| &self.plan.select[*at]).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use chrono_tz::Tz;

    use super::*;
    use crate::tables::config::TableConfig;
    use crate::tables::plan::{Look, plan};
    use crate::tables::types::ColumnKind;

    fn shifts() -> (Name, Plan) {
        let column = |name: &str, kind: ColumnKind, cast: &str| Column {
            name: name.into(),
            required: true,
            shown: cast.into(),
            cast: cast.into(),
            hidden_in: None,
            kind,
        };
        let columns = vec![
            column("ward", ColumnKind::String, "character varying"),
            column("Order", ColumnKind::Long, "integer"),
            column("say \"hi\"", ColumnKind::Array(Box::new(ColumnKind::String)), "mood[]"),
            column("updated_at", ColumnKind::Local, "timestamp without time zone"),
        ];
        let config = TableConfig {
            change: Some("updated_at".into()),
            ..TableConfig::new("rota", "shift", "Shifts", &["ward", "Order"])
        };
        let look = Look { columns, print: String::new(), unique: Some(true) };
        let name = Name { schema: Some("Ward 7".into()), table: "Shifts".into() };
        (name, plan(&config, Some(Tz::UTC), &look, &[]).unwrap())
    }

    #[test]
    fn postgres_is_asked_for_the_types_that_are_understood() {
        let (name, plan) = shifts();
        let statements = Statements { dialect: Dialect::Postgres, name: &name, plan: &plan };
        let after = Bounds { after: true, ..Bounds::default() };
        let range = Bounds { after: true, up_to: true, ..Bounds::default() };
        let all = [
            statements.by_key(Bounds::default(), Extra::default(), Some(10)),
            statements.by_key(after, Extra::default(), Some(10)),
            statements.by_key(range, Extra { hashes: true }, None),
            statements.by_change(Bounds { from: true, ..Bounds::default() }, 10, 20),
            statements.by_change(Bounds { from: true, below: true, after: true, ..Bounds::default() }, 10, 0),
            statements.hash(range, false),
            statements.hash(Bounds::default(), true),
            statements.present(2),
            statements.highest().unwrap(),
        ];
        assert_eq!(statements.hashes(true), None, "a key of two columns");
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn only_rows_that_fit_are_asked_for_whatever_is_in_a_pattern() {
        let (name, plan) = shifts();
        let only = vec![Only::Like("say".into(), "50%'; --".into()), Only::Null("muster_key".into())];
        let plan = Plan { only, ..plan };
        for (dialect, like) in [
            (Dialect::Postgres, "t.\"say\"::text like convert_from(decode('353025273b202d2d', 'hex'), 'UTF8')"),
            (Dialect::Sqlite, "t.\"say\" like cast(x'353025273b202d2d' as text)"),
        ] {
            let statements = Statements { dialect, name: &name, plan: &plan };
            let after = Bounds { after: true, ..Bounds::default() };
            for sql in [
                statements.by_key(Bounds::default(), Extra::default(), Some(10)),
                statements.by_key(after, Extra::default(), Some(10)),
                statements.by_change(after, 10, 0),
                statements.hash(Bounds::default(), true),
                statements.present(2),
                statements.highest().unwrap(),
            ] {
                assert!(sql.contains(&format!("{like} and t.\"muster_key\" is null")), "{sql}");
            }
        }
    }

    #[test]
    fn sqlite_binds_what_it_is_given() {
        let (name, plan) = shifts();
        let statements = Statements { dialect: Dialect::Sqlite, name: &name, plan: &plan };
        let all = [
            statements.by_key(Bounds { after: true, ..Bounds::default() }, Extra::default(), Some(10)),
            statements.by_change(Bounds { from: true, after: true, ..Bounds::default() }, 10, 0),
            statements.present(2),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
