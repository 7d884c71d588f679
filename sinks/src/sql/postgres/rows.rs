//! Statements that write rows of the mapped tables.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use super::beside;
use super::place::{Place, literal};
use super::source::{Source, Staged};
use crate::sql::cell::{Cell, hex};
use crate::sql::table::{Filling, GONE, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};
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
pub(super) fn set(place: &Place<'_>, new: &str, bound: usize) -> Vec<String> {
    let table = place.table;
    let mut kept = bound;
    let owned = table.columns.iter().filter(|column| column.owned);
    let set = owned.map(|column| {
        let name = quoted(&column.name);
        if let Filling::Object(parts) = &column.filling {
            // Our names are taken out first: what has become null isn't among the new ones.
            let ours = parts.iter().map(|(name, _)| literal(name)).collect::<Vec<_>>().join(", ");
            let others = format!("t.{name}::jsonb - array[{ours}]::text[]");
            return format!(
                "{name} = case when jsonb_typeof(t.{name}::jsonb) = 'object' \
                 then ({others} || {new}.{name}::jsonb)::{} else {new}.{name} end",
                place.cast(&column.name),
            );
        }
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
    let mut set = set(place, "excluded", source.width(table) + table.initial.len());
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
