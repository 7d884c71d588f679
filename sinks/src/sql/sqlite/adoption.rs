//! Recognises rows that are there already, and makes them ours.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::beside;
use super::place::Place;
use super::rows::{Statement, bound};
use crate::sql::table::{MUSTER_KEY, quoted};
use crate::sql::transaction::{Alike, Pending};

/// That a row `t` isn't ours and is like this one. What it compares with is bound by [`bind`].
fn same(place: &Place<'_>, row: &Pending) -> String {
    let one = |at: &usize| {
        let column = &place.table.columns[*at];
        format!("{} is {}", place.term(*at), if column.folded { "lower(?)" } else { "?" })
    };
    row.by.iter().map(one).chain([place.is_foreign()]).collect::<Vec<_>>().join(" and ")
}

/// Binds the values that a row is recognised by, then the patterns of those that never are.
fn bind<'q>(statement: Statement<'q>, place: &Place<'_>, row: &Pending) -> Statement<'q> {
    let statement = row.by.iter().fold(statement, |statement, at| bound(statement, &row.cells()[*at]));
    let patterns = place.table.theirs.iter();
    patterns.fold(statement, |statement, (_, pattern)| statement.bind(pattern.clone()))
}

/// Rows that aren't ours and are like these.
pub(super) async fn alike(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<Vec<Alike>, sqlx::Error> {
    let name = place.name();
    // Where versions are beside, no index knows of foreign rows, and to look for one would be to look at all.
    if !place.is_beside() {
        let foreign = format!("select exists (select 1 from {name} t where {})", place.is_foreign());
        let has_foreign_rows: bool = sqlx::query_scalar(AssertSqlSafe(foreign)).fetch_one(&mut *connection).await?;
        if !has_foreign_rows {
            return Ok(vec![Alike::default(); rows.len()]);
        }
    }
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (same, theirs) = (same(place, row), place.is_theirs());
        let has_theirs = match place.table.theirs.is_empty() {
            true => "0".to_owned(),
            false => format!("exists (select 1 from {name} t where {same} and {theirs})"),
        };
        let sql = format!(
            "select (select count(*) from (select 1 from {name} t where {same} and not {theirs} limit 2)), {has_theirs}"
        );
        let mut statement = bind(sqlx::query(AssertSqlSafe(sql)), place, row);
        if !place.table.theirs.is_empty() {
            statement = bind(statement, place, row);
        }
        let alike = statement.fetch_one(&mut *connection).await?;
        found.push(Alike { adoptable: sqlx::Row::try_get(&alike, 0)?, theirs: sqlx::Row::try_get(&alike, 1)? });
    }
    Ok(found)
}

/// Makes somebody else's row ours. Answers how many rows it was.
pub(super) async fn adopt(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    row: &Pending,
) -> Result<u64, sqlx::Error> {
    let same = format!("{} and not {}", same(place, row), place.is_theirs());
    let sql = match place.is_beside() {
        true => beside::adopt_sql(place, &same),
        false => format!("update {} as t set {} = ? where {same}", place.name(), quoted(MUSTER_KEY)),
    };
    let statement = sqlx::query(AssertSqlSafe(sql)).bind(row.item.key.as_str().to_owned());
    Ok(bind(statement, place, row).execute(connection).await?.rows_affected())
}
