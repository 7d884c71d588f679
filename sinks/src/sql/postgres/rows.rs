//! Statements that write rows of the mapped tables.

use std::collections::BTreeMap;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::beside;
use super::place::Place;
use super::source::{Source, Staged};
use crate::sql::cell::{Cell, hex};
use crate::sql::table::{GONE, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};
use crate::sql::transaction::Pending;

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// As PostgreSQL reads it, whatever the column's type.
pub(super) fn text(cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Real(x) if x.is_nan() => "NaN".to_owned(),
        Cell::Real(x) if x.is_infinite() => if *x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Cell::Blob(bytes) => format!("\\x{}", hex(bytes)),
        cell => return cell.as_text(),
    })
}

pub(super) fn column_of(rows: &[&&Pending], place: usize) -> Vec<Option<String>> {
    rows.iter().map(|row| row.cells().get(place).and_then(text)).collect()
}

pub(super) fn keys(rows: &[&&Pending]) -> Vec<String> {
    rows.iter().map(|row| row.item.key.as_str().to_owned()).collect()
}

/// How many of `rows` were written; fewer means that something else has written newer ones.
///
/// Versions were compared when the batch was judged, by probes that lock nothing, so what is only a replay never gets
/// here; the guard is for what others wrote since.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
    staged: &mut Staged,
) -> Result<u64, sqlx::Error> {
    if place.is_beside() {
        return beside::upsert(connection, place, rows, staged).await;
    }
    let mut written = 0;
    for forced in [false, true] {
        let rows: Vec<&&Pending> = rows.iter().filter(|row| row.item.forced == forced).collect();
        if rows.is_empty() {
            continue;
        }
        let source = Source::of(connection, place, &rows, staged).await?;
        let statement = source.bind(sqlx::query(AssertSqlSafe(upsert_sql(place, &source, forced))), place.table, &rows);
        let statement = bind_kept(bind_initial(statement, place.table), place.table);
        written += statement.execute(&mut *connection).await?.rows_affected();
    }
    Ok(written)
}

pub(super) fn bind_initial<'q>(statement: Statement<'q>, table: &Table) -> Statement<'q> {
    table.initial.iter().fold(statement, |statement, (_, value)| statement.bind(text(value)))
}

/// What [`set`] takes.
pub(super) fn bind_kept<'q>(statement: Statement<'q>, table: &Table) -> Statement<'q> {
    let kept = table.columns.iter().filter_map(|column| column.keeps.as_ref());
    kept.fold(statement, |statement, value| statement.bind(value.clone()))
}

/// The columns' names, and their values as their types want them: those of fields, then those set on insert, which are
/// bound behind the rows.
pub(super) fn filled(place: &Place<'_>, source: &Source) -> Vec<(String, String)> {
    let cast = |column: &str, value: String| (quoted(column), format!("{value}::{}", place.cast(column)));
    let table = place.table;
    let columns = table.columns.iter().enumerate().map(|(n, column)| cast(&column.name, format!("s.c{n}")));
    let first = source.width(table) + 1;
    let initial = table.initial.iter().enumerate();
    let initial = initial.map(|(n, (column, _))| cast(column, format!("${}::text", first + n)));
    columns.chain(initial).collect()
}

/// What becomes of the owned columns of a row `t` that is there. `new`: where the new values are; the kept values are
/// bound behind `bound` others.
pub(super) fn set(table: &Table, new: &str, bound: usize) -> Vec<String> {
    let mut kept = bound;
    let owned = table.columns.iter().filter(|column| column.owned);
    let set = owned.map(|column| {
        let name = quoted(&column.name);
        if column.keeps.is_none() {
            return format!("{name} = {new}.{name}");
        }
        kept += 1;
        let stays = format!("{new}.{name} is null and t.{name}::text = ${kept}::text");
        format!("{name} = case when {stays} then t.{name} else {new}.{name} end")
    });
    let back = table.soft().map(|(column, _)| format!("{} = null", quoted(column)));
    set.chain(back).collect()
}

fn upsert_sql(place: &Place<'_>, source: &Source, forced: bool) -> String {
    let table = place.table;
    let (mut columns, mut values): (Vec<String>, Vec<String>) = filled(place, source).into_iter().unzip();
    let own = [(MUSTER_KEY, "s.key"), (MUSTER_VERSION, "s.version"), (MUSTER_HASH, "s.hash")];
    for (column, value) in own {
        columns.push(quoted(column));
        values.push(value.to_owned());
    }
    let mut set = set(table, "excluded", source.width(table) + table.initial.len());
    set.extend([MUSTER_VERSION, MUSTER_HASH].map(|column| format!("{0} = excluded.{0}", quoted(column))));
    let version = quoted(MUSTER_VERSION);
    let guard = if forced { "" } else { &format!(" where t.{version} is null or excluded.{version} > t.{version}") };
    format!(
        "insert into {} as t ({}) select {} from {} on conflict ({}) do update set {}{guard}",
        place.name(),
        columns.join(", "),
        values.join(", "),
        source.sql(table),
        quoted(MUSTER_KEY),
        set.join(", "),
    )
}

/// By what rows are recognised: places of columns, and whether the value is null there.
type Likeness = Vec<(usize, bool)>;

/// Null or not makes different statements: `is not distinct from` can't use an index, `=` and `is null` can.
fn by_likeness<'r>(table: &Table, rows: &[&'r Pending]) -> BTreeMap<Likeness, Vec<&'r Pending>> {
    let mut groups: BTreeMap<Likeness, Vec<&Pending>> = BTreeMap::new();
    for row in rows {
        let places = table.recognised_by(row.cells()).into_iter();
        let likeness = places.map(|place| (place, row.cells()[place] == Cell::Null)).collect();
        groups.entry(likeness).or_default().push(row);
    }
    groups
}

fn same(place: &Place<'_>, likeness: &Likeness) -> String {
    let one = |(n, (at, null)): (usize, &(usize, bool))| {
        let column = &place.table.columns[*at].name;
        match null {
            true => format!("t.{} is null", quoted(column)),
            false => format!("t.{} = s.m{n}::{}", quoted(column), place.cast(column)),
        }
    };
    let conditions = likeness.iter().enumerate().map(one);
    conditions.chain([place.is_foreign()]).collect::<Vec<_>>().join(" and ")
}

fn matching_arrays(likeness: &Likeness) -> (String, String) {
    let arrays = (0..likeness.len()).map(|n| format!(", ${}::text[]", n + 2)).collect();
    let names = (0..likeness.len()).map(|n| format!(", m{n}")).collect();
    (arrays, names)
}

fn bind_matching<'q>(mut statement: Statement<'q>, likeness: &Likeness, rows: &[&&Pending]) -> Statement<'q> {
    for (place, _) in likeness {
        statement = statement.bind(column_of(rows, *place));
    }
    statement
}

/// How many rows that aren't ours each could adopt, up to 2.
pub(super) async fn candidates(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<Vec<u8>, sqlx::Error> {
    let name = place.name();
    // The order makes the planner take the index of foreign rows, however little it knows of the table. Where versions
    // are beside there is no such index, and to look for a foreign row would be to look at all.
    if !place.is_beside() {
        let order = place.columns(&place.table.matching).map(quoted).collect::<Vec<_>>().join(", ");
        let foreign = format!("select 1 from {name} t where {} order by {order} limit 1", place.is_foreign());
        if sqlx::query(AssertSqlSafe(foreign)).fetch_optional(&mut *connection).await?.is_none() {
            return Ok(vec![0; rows.len()]);
        }
    }
    let mut found: BTreeMap<usize, u8> = BTreeMap::new();
    for (likeness, rows) in by_likeness(place.table, rows) {
        let (arrays, names) = matching_arrays(&likeness);
        let sql = format!(
            "select s.tag, (select count(*) from (select 1 from {name} t where {} limit 2) c) \
             from unnest($1::bigint[]{arrays}) as s (tag{names})",
            same(place, &likeness),
        );
        let rows: Vec<&&Pending> = rows.iter().collect();
        let tags: Vec<i64> = rows.iter().map(|row| row.item.tag as i64).collect();
        let statement = bind_matching(sqlx::query(AssertSqlSafe(sql)).bind(tags), &likeness, &rows);
        for row in statement.fetch_all(&mut *connection).await? {
            let tag: i64 = sqlx::Row::try_get(&row, 0)?;
            let count: i64 = sqlx::Row::try_get(&row, 1)?;
            found.insert(tag as usize, count.clamp(0, 2) as u8);
        }
    }
    Ok(rows.iter().map(|row| found.get(&row.item.tag).copied().unwrap_or(0)).collect())
}

/// Makes somebody else's rows ours. Answers how many it were.
pub(super) async fn adopt(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    let mut adopted = 0;
    for (likeness, rows) in by_likeness(place.table, rows) {
        let (arrays, names) = matching_arrays(&likeness);
        let source = format!("unnest($1::text[]{arrays}) as s (key{names})");
        let same = same(place, &likeness);
        let sql = match place.is_beside() {
            true => beside::adopt_sql(place, &source, &same),
            false => format!("update {} t set {} = s.key from {source} where {same}", place.name(), quoted(MUSTER_KEY)),
        };
        let rows: Vec<&&Pending> = rows.iter().collect();
        let statement = bind_matching(sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)), &likeness, &rows);
        adopted += statement.execute(&mut *connection).await?.rows_affected();
    }
    Ok(adopted)
}

/// Empties the contested columns.
pub(super) async fn vacate(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let set = place.table.contested().map(|column| format!("{} = null", quoted(column))).collect::<Vec<_>>().join(", ");
    let sql = format!("update {} t set {set} where {}", place.name(), place.has_key_in("$1"));
    let rows: Vec<&&Pending> = rows.iter().collect();
    sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).execute(connection).await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let name = place.name();
    let rows: Vec<&&Pending> = rows.iter().collect();
    let Some((column, value)) = place.table.soft() else {
        let sql = format!("delete from {name} t where {}", place.has_key_in("$1"));
        sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).execute(&mut *connection).await?;
        if place.is_beside() {
            beside::forget(connection, place, keys(&rows)).await?;
        }
        return Ok(());
    };
    let now = match &value {
        None => "now()".to_owned(),
        Some(_) => format!("$3::text::{}", place.cast(column)),
    };
    let set = format!("{} = {now}", quoted(column));
    let sql = match place.is_beside() {
        true => beside::retire_sql(place, &set),
        false => format!(
            "update {name} t set {set}, {} = s.version, {} = '{GONE}' \
             from unnest($1::text[], $2::bigint[]) as s (key, version) where t.{} = s.key",
            quoted(MUSTER_VERSION),
            quoted(MUSTER_HASH),
            quoted(MUSTER_KEY),
        ),
    };
    let versions: Vec<i64> = rows.iter().map(|row| row.item.version).collect();
    let mut statement: Statement<'_> = sqlx::query(AssertSqlSafe(sql)).bind(keys(&rows)).bind(versions);
    if let Some(value) = &value {
        statement = statement.bind(text(value));
    }
    statement.execute(connection).await?;
    Ok(())
}
