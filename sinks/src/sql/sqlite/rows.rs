//! Statements that write rows of the mapped tables.

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, query::Query};

use crate::sql::cell::Cell;
use crate::sql::table::{GONE, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, quoted};
use crate::sql::transaction::Pending;

type Statement<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// SQLite takes 32,766 parameters; longer statements only cost memory.
const MAX_PARAMETERS: usize = 8_000;

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
    }
}

/// How many of `rows` were written; fewer means that something else has written newer ones.
pub(super) async fn upsert(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
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
            for value in table.columns.iter().filter_map(|column| column.keeps.as_ref()) {
                statement = statement.bind(value.clone());
            }
            written += statement.execute(&mut *connection).await?.rows_affected();
        }
    }
    Ok(written)
}

fn width(table: &Table) -> usize {
    table.columns.len() + table.initial.len() + 3
}

fn upsert_sql(table: &Table, rows: usize, forced: bool) -> String {
    let name = quoted(&table.name);
    let columns = table.columns.iter().map(|column| column.name.as_str());
    let initial = table.initial.iter().map(|(column, _)| column.as_str());
    let all = columns.chain(initial).chain([MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH]);
    let all = all.map(quoted).collect::<Vec<_>>().join(", ");
    let row = format!("({})", vec!["?"; width(table)].join(", "));
    let values = vec![row; rows].join(", ");
    let owned =
        table.columns.iter().filter(|column| column.owned).map(|column| (&*column.name, column.keeps.is_some()));
    let set = owned.chain([(MUSTER_VERSION, false), (MUSTER_HASH, false)]).map(|(column, keeps)| {
        let column = quoted(column);
        if !keeps {
            return format!("{column} = excluded.{column}");
        }
        let stays = format!("excluded.{column} is null and {name}.{column} = ?");
        format!("{column} = case when {stays} then {name}.{column} else excluded.{column} end")
    });
    let back = table.soft().map(|(column, _)| format!("{} = null", quoted(column)));
    let set = set.chain(back).collect::<Vec<_>>().join(", ");
    let guard = if forced {
        String::new()
    } else {
        let held = format!("{name}.{}", quoted(MUSTER_VERSION));
        format!(" where {held} is null or excluded.{} > {held}", quoted(MUSTER_VERSION))
    };
    let conflict = format!("on conflict ({}) do update set {set}{guard}", quoted(MUSTER_KEY));
    format!("insert into {name} ({all}) values {values} {conflict}")
}

/// The places of the columns by which the row is recognised, and the condition that takes their values.
fn likeness(table: &Table, row: &Pending) -> (Vec<usize>, String) {
    let places = table.recognised_by(row.cells());
    let conditions = places.iter().map(|place| format!("{} is ?", quoted(&table.columns[*place].name)));
    let conditions = conditions.collect::<Vec<_>>().join(" and ");
    (places, conditions)
}

/// Makes somebody else's row ours. Answers how many rows it was.
pub(super) async fn adopt(connection: &mut SqliteConnection, table: &Table, row: &Pending) -> Result<u64, sqlx::Error> {
    let (places, matching) = likeness(table, row);
    let key = quoted(MUSTER_KEY);
    let sql = format!("update {} set {key} = ? where {key} is null and {matching}", quoted(&table.name));
    let mut statement = sqlx::query(AssertSqlSafe(sql)).bind(row.item.key.as_str().to_owned());
    for place in places {
        statement = bound(statement, &row.cells()[place]);
    }
    Ok(statement.execute(connection).await?.rows_affected())
}

/// How many rows each could adopt, up to 2.
pub(super) async fn candidates(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &[&Pending],
) -> Result<Vec<u8>, sqlx::Error> {
    let name = quoted(&table.name);
    let key = quoted(MUSTER_KEY);
    let foreign = format!("select exists (select 1 from {name} where {key} is null)");
    let has_foreign_rows: bool = sqlx::query_scalar(AssertSqlSafe(foreign)).fetch_one(&mut *connection).await?;
    if !has_foreign_rows {
        return Ok(vec![0; rows.len()]);
    }
    let mut counts = Vec::with_capacity(rows.len());
    for row in rows {
        let (places, matching) = likeness(table, row);
        let sql = format!("select count(*) from (select 1 from {name} where {key} is null and {matching} limit 2)");
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for place in places {
            statement = bound(statement, &row.cells()[place]);
        }
        let count = statement.fetch_one(&mut *connection).await?;
        counts.push(sqlx::Row::try_get::<u8, _>(&count, 0)?);
    }
    Ok(counts)
}

/// Empties the contested columns.
pub(super) async fn vacate(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let set = table.contested().map(|column| format!("{} = null", quoted(column))).collect::<Vec<_>>().join(", ");
    let (name, key) = (quoted(&table.name), quoted(MUSTER_KEY));
    let keys: Vec<&str> = rows.iter().map(|row| row.item.key.as_str()).collect();
    let sql = format!("update {name} set {set} where {key} in (select value from json_each(?))");
    sqlx::query(AssertSqlSafe(sql)).bind(list(&keys)).execute(connection).await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    table: &Table,
    rows: &[&Pending],
) -> Result<(), sqlx::Error> {
    let name = quoted(&table.name);
    let key = quoted(MUSTER_KEY);
    let Some((column, value)) = table.soft() else {
        let keys: Vec<&str> = rows.iter().map(|row| row.item.key.as_str()).collect();
        let sql = format!("delete from {name} where {key} in (select value from json_each(?))");
        sqlx::query(AssertSqlSafe(sql)).bind(list(&keys)).execute(connection).await?;
        return Ok(());
    };
    let gone: Vec<(&str, i64)> = rows.iter().map(|row| (row.item.key.as_str(), row.item.version)).collect();
    let now = if value.is_none() { "strftime('%Y-%m-%dT%H:%M:%fZ')" } else { "?" };
    let sql = format!(
        "update {name} set {} = {now}, {} = s.value ->> 1, {} = '{GONE}' from json_each(?) s where {name}.{key} = s.value ->> 0",
        quoted(column),
        quoted(MUSTER_VERSION),
        quoted(MUSTER_HASH),
    );
    let mut statement = sqlx::query(AssertSqlSafe(sql));
    if let Some(value) = &value {
        statement = bound(statement, value);
    }
    statement.bind(list(&gone)).execute(connection).await?;
    Ok(())
}

/// As `json_each` takes it.
pub(super) fn list<T: serde::Serialize>(values: &[T]) -> String {
    // Keys, numbers and their pairs: always JSON.
    serde_json::to_string(values).unwrap_or_default()
}
