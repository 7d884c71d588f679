//! Compares rows with what should be in them, in one statement for each batch.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::place::{Ours, Place, literal};
use super::rows::text;
use crate::sql::compare::{Contents, Expected};
use crate::sql::table::{Filling, quoted};

/// What the rows that are there say otherwise.
pub(super) async fn contents(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[Expected<'_>],
) -> Result<BTreeMap<String, Contents>, sqlx::Error> {
    if rows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let owned: Vec<usize> =
        place.table.columns.iter().enumerate().filter(|(_, column)| column.owned).map(|(at, _)| at).collect();
    let mut statement: Query<'_, Postgres, PgArguments> = sqlx::query(AssertSqlSafe(sql(place, &owned)));
    for at in &owned {
        statement = statement.bind(rows.iter().map(|row| row.cells.get(*at).and_then(text)).collect::<Vec<_>>());
    }
    statement = statement.bind(rows.iter().map(|row| row.key).collect::<Vec<_>>());
    for at in &owned {
        if let Some(keeps) = &place.table.columns[*at].keeps {
            statement = statement.bind(keeps.clone());
        }
    }
    let mut contents = BTreeMap::new();
    for row in statement.fetch_all(connection).await? {
        let different: Vec<bool> = row.try_get(1)?;
        let different = owned.iter().zip(different).filter(|(_, different)| *different).map(|(at, _)| *at).collect();
        contents.insert(row.try_get(0)?, Contents { different, marked: row.try_get(2)? });
    }
    Ok(contents)
}

/// Only rows that differ come back. The lateral subquery always probes the index of keys: a join would be left to what
/// the planner thinks of the table.
fn sql(place: &Place<'_>, owned: &[usize]) -> String {
    let table = place.table;
    let Ours { from, key, .. } = place.ours();
    let width = owned.len();
    let arrays = (1..=width + 1).map(|n| format!("${n}::text[]")).collect::<Vec<_>>().join(", ");
    let names = (0..width).map(|n| format!("c{n}")).chain(["key".into()]).collect::<Vec<_>>().join(", ");
    let mut kept = width + 1;
    let different = owned.iter().enumerate().map(|(n, at)| {
        let column = &table.columns[*at];
        let name = quoted(&column.name);
        if let Filling::Object(parts) = &column.filling {
            // Other names in the object are somebody else's.
            let kind = format!("jsonb_typeof(t.{name}::jsonb) is distinct from 'object'");
            let parts = parts
                .iter()
                .map(|(name, _)| literal(name))
                .map(|part| format!(" or t.{name}::jsonb -> {part} is distinct from s.c{n}::jsonb -> {part}"));
            return format!("({kind}{})", parts.collect::<String>());
        }
        // By way of the type without length, as it is written; then as the column keeps it.
        let wanted = format!("s.c{n}::{}::{}", place.cast(&column.name), place.full(&column.name));
        // JSON as text has no equality, and its blanks mean nothing.
        let differs = match place.cast(&column.name) {
            "json" => format!("t.{name}::jsonb is distinct from {wanted}::jsonb"),
            _ => format!("t.{name} is distinct from {wanted}"),
        };
        if column.keeps.is_none() {
            return differs;
        }
        kept += 1;
        format!("({differs} and not (s.c{n} is null and t.{name}::text is not distinct from ${kept}::text))")
    });
    let different = different.collect::<Vec<_>>().join(", ");
    let marked = table.soft().map_or("false".to_owned(), |(column, _)| format!("t.{} is not null", quoted(column)));
    format!(
        "select key, different, marked from (
            select s.key, array[{different}]::boolean[] as different, {marked} as marked
            from unnest({arrays}) as s ({names})
            join lateral (select t.* from {from} where {key} = s.key offset 0) t on true
        ) c where marked or true = any(different)"
    )
}

/// Those of the keys whose rows are marked as gone.
pub(super) async fn marked(
    connection: &mut PgConnection,
    place: &Place<'_>,
    keys: &[&str],
) -> Result<BTreeSet<String>, sqlx::Error> {
    let Some((column, _)) = place.table.soft().filter(|_| !keys.is_empty()) else { return Ok(BTreeSet::new()) };
    let Ours { from, key, .. } = place.ours();
    let sql = format!("select {key} from {from} where {key} = any($1) and t.{} is not null", quoted(column));
    let keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).bind(keys).fetch_all(connection).await?;
    Ok(keys.into_iter().collect())
}
