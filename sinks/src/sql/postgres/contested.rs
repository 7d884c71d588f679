//! Finds the rows that can't be written because another row has a value that only one may have, with one question a
//! unique key: the statement itself would only name one of them, and finding the others by halves writes the batch a
//! dozen times.

use std::collections::{BTreeMap, HashSet};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::place::Place;
use super::rows::{column_of, keys};
use crate::sql::failure::{Fault, FaultKind};
use crate::sql::table::{Filling, Table, quoted};
use crate::sql::transaction::Pending;

/// By tag: rows of one statement whose natural keys are held by others, or by an earlier one of the statement. What the
/// database compares in another way than by equality of text isn't found: the statement fails.
pub(super) async fn contested(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<BTreeMap<usize, Fault>, sqlx::Error> {
    let table = place.table;
    let uniques: Vec<Unique<'_>> = natural_keys(place);
    let mut found = BTreeMap::new();
    for unique in &uniques {
        let rows: Vec<&&Pending> = rows.iter().filter(|row| unique.is_claimed_by(row)).collect();
        if rows.is_empty() {
            continue;
        }
        let sql = held_sql(place, unique);
        let tags: Vec<i64> = rows.iter().map(|row| row.item.tag as i64).collect();
        let statement = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(tags).bind(keys(&rows));
        let statement = unique.places.iter().fold(statement, |statement, at| statement.bind(column_of(&rows, *at)));
        let held = statement.fetch_all(&mut *connection).await?;
        found.extend(held.into_iter().map(|tag| (tag as usize, unique.fault(table))));
    }
    let mut taken = HashSet::new();
    for row in rows {
        if found.contains_key(&row.item.tag) {
            continue;
        }
        let claims = uniques.iter().enumerate().filter(|(_, unique)| unique.is_claimed_by(row));
        let claims: Vec<_> = claims.map(|(n, unique)| (n, unique.values(row))).collect();
        match claims.iter().find(|claim| taken.contains(*claim)) {
            Some((n, _)) => drop(found.insert(row.item.tag, uniques[*n].fault(table))),
            None => taken.extend(claims),
        }
    }
    Ok(found)
}

/// A unique index over the values of these columns.
struct Unique<'a> {
    names: &'a [String],
    places: Vec<usize>,
    /// Rows that are there get all of them.
    is_owned: bool,
}

fn natural_keys<'a>(place: &'a Place<'_>) -> Vec<Unique<'a>> {
    let Some(existing) = place.known.tables.get(&place.table.name) else { return Vec::new() };
    let columns = &place.table.columns;
    let unique = |names: &'a Vec<String>| {
        let place_of = |name: &String| columns.iter().position(|column| column.name == *name);
        let places: Vec<usize> = names.iter().map(place_of).collect::<Option<_>>()?;
        let is_whole = |at: &usize| !matches!(columns[*at].filling, Filling::Object(_));
        let is_owned = places.iter().all(|at| columns[*at].owned);
        (place.table.is_natural_key(names) && places.iter().all(is_whole)).then_some(Unique { names, places, is_owned })
    };
    existing.uniques.values().filter_map(unique).collect()
}

impl Unique<'_> {
    /// Whether the statement gives the row these values. A row that is adopted has them already.
    fn is_claimed_by(&self, row: &Pending) -> bool {
        let is_null = |at: &usize| row.cells().get(*at).and_then(super::rows::text).is_none();
        !row.adopts && (self.is_owned || row.state.row.is_none()) && !self.places.iter().any(is_null)
    }

    fn values(&self, row: &Pending) -> Vec<Option<String>> {
        self.places.iter().map(|at| row.cells().get(*at).and_then(super::rows::text)).collect()
    }

    fn fault(&self, table: &Table) -> Fault {
        let text = format!("{}: another row has the same {}", table.name, self.names.join(", "));
        Fault { kind: FaultKind::Unique(self.names.to_vec()), text }
    }
}

/// Answers tags. Each row probes the index by itself: a join would be left to what the planner thinks of the table.
fn held_sql(place: &Place<'_>, unique: &Unique<'_>) -> String {
    let count = unique.names.len();
    let arrays: String = (0..count).map(|n| format!(", ${}::text[]", n + 3)).collect();
    let names: String = (0..count).map(|n| format!(", m{n}")).collect();
    let same = unique.names.iter().enumerate();
    let same = same.map(|(n, name)| format!("t.{} = s.m{n}::{}", quoted(name), place.cast(name)));
    let same = same.collect::<Vec<_>>().join(" and ");
    format!(
        "select s.tag from unnest($1::bigint[], $2::text[]{arrays}) as s (tag, key{names})
        where (select true from {} t where {same} and {} limit 1)",
        place.name(),
        place.is_of_another_key("s.key"),
    )
}
