//! Statements that write rows of the mapped tables.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, query::Query};

use super::beside;
use super::place::{Place, literal};
use crate::sql::cell::Cell;
use crate::sql::table::{Filling, GONE, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};
use crate::sql::transaction::Pending;

pub(super) type Statement<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// SQLite takes 32,766 parameters; longer statements only cost memory.
pub(super) const MAX_PARAMETERS: usize = 8_000;

pub(super) fn bound<'q>(statement: Statement<'q>, cell: &Cell) -> Statement<'q> {
    match cell {
        Cell::Null => statement.bind(None::<String>),
        Cell::Bool(b) => statement.bind(*b),
        Cell::Int(n) => statement.bind(*n),
        // SQLite stores NaN as null; its text says what it was.
        Cell::Real(x) if x.is_nan() => statement.bind(x.to_string()),
        Cell::Real(x) => statement.bind(*x),
        Cell::Text(text) => statement.bind(text.clone()),
        Cell::Blob(bytes) => statement.bind(bytes.clone()),
        Cell::Date(_) | Cell::Timestamp(_) | Cell::LocalTimestamp(_) => statement.bind(cell.as_text()),
    }
}

/// How many of `rows` were written; fewer means that something else has written newer ones.
pub(super) async fn upsert(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    if place.is_beside() {
        return beside::upsert(connection, place, rows).await;
    }
    let table = place.table;
    let mut written = 0;
    for forced in [false, true] {
        let rows: Vec<&&Pending> = rows.iter().filter(|row| row.item.forced == forced).collect();
        for chunk in rows.chunks((MAX_PARAMETERS / width(table)).max(1)) {
            let sql = upsert_sql(table, chunk.len(), forced);
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for row in chunk {
                for cell in row.cells().iter().chain(table.initial.iter().map(|(_, cell)| cell)) {
                    statement = bound(statement, cell);
                }
                let item = &row.item;
                statement = statement.bind(item.key.as_str().to_owned()).bind(item.version).bind(item.hash.clone());
            }
            written += bind_kept(statement, table).execute(&mut *connection).await?.rows_affected();
        }
    }
    Ok(written)
}

/// What [`set`] takes.
pub(super) fn bind_kept<'q>(statement: Statement<'q>, table: &Table) -> Statement<'q> {
    let kept = table.columns.iter().filter_map(|column| column.keeps.as_ref());
    kept.fold(statement, |statement, value| statement.bind(value.clone()))
}

fn width(table: &Table) -> usize {
    table.columns.len() + table.initial.len() + 3
}

/// The columns that get a value when a row is inserted, quoted: those of fields, then those set once.
pub(super) fn filled(table: &Table) -> Vec<String> {
    let columns = table.columns.iter().map(|column| column.name.as_str());
    columns.chain(table.initial.iter().map(|(column, _)| column.as_str())).map(quoted).collect()
}

/// What becomes of the owned columns of a row `t` that is there. `new`: where the new values are. The kept values are
/// parameters, in order.
pub(super) fn set(table: &Table, new: &str) -> Vec<String> {
    let owned = table.columns.iter().filter(|column| column.owned);
    let set = owned.map(|column| {
        let name = quoted(&column.name);
        if let Filling::Object(parts) = &column.filling {
            // Our names are taken out first: what has become null isn't among the new ones.
            let ours: String =
                parts.iter().map(|(name, _)| format!(", {}", literal(&format!("$.\"{name}\"")))).collect();
            return format!(
                "{name} = case when not json_valid(t.{name}) then {new}.{name} when json_type(t.{name}) = 'object' \
                 then json_patch(json_remove(t.{name}{ours}), {new}.{name}) else {new}.{name} end"
            );
        }
        if column.keeps.is_none() {
            return format!("{name} = {new}.{name}");
        }
        let stays = format!("{new}.{name} is null and t.{name} = ?");
        format!("{name} = case when {stays} then t.{name} else {new}.{name} end")
    });
    let back = table.soft().map(|(column, _)| format!("{} = null", quoted(column)));
    set.chain(back).collect()
}

fn upsert_sql(table: &Table, rows: usize, forced: bool) -> String {
    let name = quoted(&table.name);
    let own = [MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH].map(quoted);
    let all = filled(table).into_iter().chain(own).collect::<Vec<_>>().join(", ");
    let row = format!("({})", vec!["?"; width(table)].join(", "));
    let values = vec![row; rows].join(", ");
    let mut set = set(table, "excluded");
    set.extend([MUSTER_VERSION, MUSTER_HASH].map(|column| format!("{0} = excluded.{0}", quoted(column))));
    let version = quoted(MUSTER_VERSION);
    let guard = if forced { "" } else { &format!(" where t.{version} is null or excluded.{version} > t.{version}") };
    let conflict = format!("on conflict ({}) do update set {}{guard}", quoted(MUSTER_KEY), set.join(", "));
    format!("insert into {name} as t ({all}) values {values} {conflict}")
}

/// Empties the contested columns.
pub(super) async fn vacate(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let contested = place.table.contested().map(|column| format!("{} = null", quoted(column)));
    let set = contested.collect::<Vec<_>>().join(", ");
    let sql = format!("update {} as t set {set} where {}", place.name(), place.has_key_in(LISTED));
    sqlx::query(AssertSqlSafe(sql)).bind(keys(rows)).execute(connection).await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let name = place.name();
    let Some((column, value)) = place.table.soft() else {
        let sql = format!("delete from {name} as t where {}", place.has_key_in(LISTED));
        sqlx::query(AssertSqlSafe(sql)).bind(keys(rows)).execute(&mut *connection).await?;
        if place.is_beside() {
            beside::forget(connection, place, &keys(rows)).await?;
        }
        return Ok(());
    };
    let gone: Vec<(&str, i64)> = rows.iter().map(|row| (row.item.key.as_str(), row.item.version)).collect();
    let now = if value.is_none() { "strftime('%Y-%m-%dT%H:%M:%fZ')" } else { "?" };
    let set = format!("{} = {now}", quoted(column));
    if place.is_beside() {
        let sql = format!("update {name} as t set {set} where {}", place.has_key_in(LISTED));
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        if let Some(value) = &value {
            statement = bound(statement, value);
        }
        statement.bind(keys(rows)).execute(&mut *connection).await?;
        return beside::retire(connection, place, list(&gone)).await;
    }
    let sql = format!(
        "update {name} as t set {set}, {} = s.value ->> 1, {} = '{GONE}' from json_each(?) s where t.{} = s.value ->> 0",
        quoted(MUSTER_VERSION),
        quoted(MUSTER_HASH),
        quoted(MUSTER_KEY),
    );
    let mut statement = sqlx::query(AssertSqlSafe(sql));
    if let Some(value) = &value {
        statement = bound(statement, value);
    }
    statement.bind(list(&gone)).execute(connection).await?;
    Ok(())
}

/// A list of values in one parameter.
const LISTED: &str = "(select value from json_each(?))";

fn keys(rows: &[&Pending]) -> String {
    list(&rows.iter().map(|row| row.item.key.as_str()).collect::<Vec<_>>())
}

/// As `json_each` takes it.
pub(super) fn list<T: serde::Serialize>(values: &[T]) -> String {
    // Keys, numbers and their pairs: always JSON.
    serde_json::to_string(values).unwrap_or_default()
}
