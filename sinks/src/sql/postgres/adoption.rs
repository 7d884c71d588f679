//! Recognises rows that are there already, and makes them ours.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::beside;
use super::place::Place;
use super::rows::{Statement, column_of, keys};
use crate::sql::cell::Cell;
use crate::sql::table::{MUSTER_KEY, quoted};
use crate::sql::transaction::{Alike, Pending};

/// By what rows are recognised: places of columns, and whether the value is null there.
type Likeness = Vec<(usize, bool)>;

/// Null or not makes different statements: `is not distinct from` can't use an index, `=` and `is null` can.
fn by_likeness<'r>(rows: &[&'r Pending]) -> BTreeMap<Likeness, Vec<&'r Pending>> {
    let mut groups: BTreeMap<Likeness, Vec<&Pending>> = BTreeMap::new();
    for row in rows {
        let likeness = row.by.iter().map(|place| (*place, row.cells()[*place] == Cell::Null)).collect();
        groups.entry(likeness).or_default().push(row);
    }
    groups
}

/// That a row `t` isn't ours and is like a row of [`source`].
fn same(place: &Place<'_>, likeness: &Likeness) -> String {
    let one = |(n, (at, null)): (usize, &(usize, bool))| {
        let column = &place.table.columns[*at];
        match (null, column.folded) {
            (true, _) => format!("t.{} is null", quoted(&column.name)),
            (false, true) => format!("{} = lower(s.m{n})", place.term(*at)),
            (false, false) => format!("{} = s.m{n}::{}", place.term(*at), place.cast(&column.name)),
        }
    };
    let conditions = likeness.iter().enumerate().map(one);
    conditions.chain([place.is_foreign()]).collect::<Vec<_>>().join(" and ")
}

/// What [`bind`] binds: the rows' own column, named `own`, and the values they are recognised by.
fn source(likeness: &Likeness, own: &str, typ: &str) -> String {
    let arrays: String = (0..likeness.len()).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names: String = (0..likeness.len()).map(|n| format!(", m{n}")).collect();
    format!("unnest($1::{typ}[]{arrays}) as s ({own}{names})")
}

/// Binds the values that rows are recognised by, then the patterns of those that never are.
fn bind<'q>(statement: Statement<'q>, place: &Place<'_>, likeness: &Likeness, rows: &[&&Pending]) -> Statement<'q> {
    let statement = likeness.iter().fold(statement, |statement, (at, _)| statement.bind(column_of(rows, *at)));
    let patterns = place.table.theirs.iter();
    patterns.fold(statement, |statement, (_, pattern)| statement.bind(pattern.clone()))
}

/// Rows that aren't ours and are like these.
pub(super) async fn alike(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<Vec<Alike>, sqlx::Error> {
    let name = place.name();
    // The order makes the planner take the index of foreign rows, however little it knows of the table. Where versions
    // are beside there is no such index, and to look for a foreign row would be to look at all.
    if !place.is_beside() {
        let order = place.table.matching.iter().map(|at| place.term(*at)).collect::<Vec<_>>().join(", ");
        let foreign = format!("select 1 from {name} t where {} order by {order} limit 1", place.is_foreign());
        if sqlx::query(AssertSqlSafe(foreign)).fetch_optional(&mut *connection).await?.is_none() {
            return Ok(vec![Alike::default(); rows.len()]);
        }
    }
    let mut found: BTreeMap<usize, Alike> = BTreeMap::new();
    for (likeness, rows) in by_likeness(rows) {
        let same = same(place, &likeness);
        let theirs = place.is_theirs(likeness.len() + 2);
        let has_theirs = match place.table.theirs.is_empty() {
            true => "false".to_owned(),
            false => format!("exists (select from {name} t where {same} and {theirs})"),
        };
        let sql = format!(
            "select s.tag, (select count(*) from (select 1 from {name} t where {same} and not {theirs} limit 2) c), \
             {has_theirs} from {}",
            source(&likeness, "tag", "bigint"),
        );
        let rows: Vec<&&Pending> = rows.iter().collect();
        let tags: Vec<i64> = rows.iter().map(|row| row.item.tag as i64).collect();
        let statement = bind(sqlx::query(AssertSqlSafe(sql)).bind(tags), place, &likeness, &rows);
        for row in statement.fetch_all(&mut *connection).await? {
            let tag: i64 = sqlx::Row::try_get(&row, 0)?;
            let count: i64 = sqlx::Row::try_get(&row, 1)?;
            let theirs = sqlx::Row::try_get(&row, 2)?;
            found.insert(tag as usize, Alike { adoptable: count.clamp(0, 2) as u8, theirs });
        }
    }
    Ok(rows.iter().map(|row| found.get(&row.item.tag).copied().unwrap_or_default()).collect())
}

/// Makes somebody else's rows ours. Answers how many it were.
pub(super) async fn adopt(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    let mut adopted = 0;
    for (likeness, rows) in by_likeness(rows) {
        let source = source(&likeness, "key", "text");
        let same = format!("{} and not {}", same(place, &likeness), place.is_theirs(likeness.len() + 2));
        let sql = match place.is_beside() {
            true => beside::adopt_sql(place, &source, &same),
            false => format!("update {} t set {} = s.key from {source} where {same}", place.name(), quoted(MUSTER_KEY)),
        };
        let rows: Vec<&&Pending> = rows.iter().collect();
        let statement = bind(sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)), place, &likeness, &rows);
        adopted += statement.execute(&mut *connection).await?.rows_affected();
    }
    Ok(adopted)
}
