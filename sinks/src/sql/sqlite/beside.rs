//! Writing rows of tables that have no column of ours: what is ours stands in `muster_rows`, by the row's identity. A row
//! that somebody else deleted leaves its entry behind, which counts for nothing. Row by row: nothing is between us and
//! the file.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, query};

use super::place::{Place, literal};
use super::rows::{Statement, bind_kept, bound, filled, set};
use crate::sql::table::{GONE, quoted};
use crate::sql::transaction::Pending;

/// How many of `rows` were written; fewer means that something else has written newer ones.
pub(super) async fn upsert(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    rows: &[&Pending],
) -> Result<u64, sqlx::Error> {
    let mut written = 0;
    for row in rows {
        let is_there = row.adopts || row.state.row.is_some();
        let identity = match is_there {
            true => update(connection, place, row).await?,
            false => insert(connection, place, row).await?,
        };
        if let Some(identity) = identity {
            record(connection, place, row, identity).await?;
            written += 1;
        }
    }
    Ok(written)
}

/// The identity of the row, which had an older version.
async fn update(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    row: &Pending,
) -> Result<Option<String>, sqlx::Error> {
    let table = place.table;
    let names = table.columns.iter().map(|column| format!("? as {}", quoted(&column.name)));
    let values = names.collect::<Vec<_>>().join(", ");
    let mut set = set(table, "s");
    if set.is_empty() {
        // Nothing is kept up to date but the version; a row must be updated to be counted.
        set.push(format!("{0} = t.{0}", place.identity()));
    }
    let (entries, identity) = (place.entries(), place.identity());
    // In the order of the text: what is set, from where, which row.
    let guard = if row.item.forced { "" } else { " and (o.version is null or ? > o.version)" };
    let sql = format!(
        "update {} as t set {} from (select {values}) s where t.{identity} = (select o.identity from muster_rows o \
         where {entries} and o.key = ?{guard}) returning cast({identity} as text)",
        place.name(),
        set.join(", "),
    );
    let mut statement = bind_kept(query(AssertSqlSafe(sql)), table);
    for cell in row.cells() {
        statement = bound(statement, cell);
    }
    statement = statement.bind(row.item.key.as_str().to_owned());
    if !row.item.forced {
        statement = statement.bind(row.item.version);
    }
    identity_of(statement, connection).await
}

/// The identity of the new row, which the database may have chosen.
async fn insert(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    row: &Pending,
) -> Result<Option<String>, sqlx::Error> {
    let columns = filled(place.table);
    let values = vec!["?"; columns.len()].join(", ");
    let sql = format!(
        "insert into {} ({}) values ({values}) returning cast({} as text)",
        place.name(),
        columns.join(", "),
        place.identity(),
    );
    let mut statement = query(AssertSqlSafe(sql));
    for cell in row.cells().iter().chain(place.table.initial.iter().map(|(_, cell)| cell)) {
        statement = bound(statement, cell);
    }
    let identity = identity_of(statement, connection).await?;
    if let Some(identity) = &identity {
        let left_behind =
            format!("delete from muster_rows as o where {} and o.identity = ? and o.key <> ?", place.entries());
        let statement = query(AssertSqlSafe(left_behind)).bind(identity.clone());
        statement.bind(row.item.key.as_str().to_owned()).execute(connection).await?;
    }
    Ok(identity)
}

async fn identity_of(
    statement: Statement<'_>,
    connection: &mut SqliteConnection,
) -> Result<Option<String>, sqlx::Error> {
    let row = statement.fetch_optional(connection).await?;
    row.map(|row| sqlx::Row::try_get(&row, 0)).transpose().map(Option::flatten)
}

async fn record(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    row: &Pending,
    identity: String,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "insert into muster_rows (component, topic, key, identity, version, hash) values ({}, {}, ?, ?, ?, ?) \
         on conflict do update set identity = excluded.identity, version = excluded.version, hash = excluded.hash",
        literal(place.component),
        literal(place.table.topic()),
    );
    let item = &row.item;
    let statement = query(AssertSqlSafe(sql)).bind(item.key.as_str().to_owned()).bind(identity);
    statement.bind(item.version).bind(item.hash.clone()).execute(connection).await?;
    Ok(())
}

/// Makes a row `t` ours. The key is the first parameter.
pub(super) fn adopt_sql(place: &Place<'_>, same: &str) -> String {
    format!(
        "insert into muster_rows (component, topic, key, identity) select {}, {}, ?, cast(t.{} as text) from {} t \
         where {same} on conflict do update set identity = excluded.identity, version = null, hash = null",
        literal(place.component),
        literal(place.table.topic()),
        place.identity(),
        place.name(),
    )
}

/// Keeps the versions of rows that go. `gone`: pairs of key and version.
pub(super) async fn retire(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    gone: String,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "update muster_rows as o set version = s.value ->> 1, hash = '{GONE}' from json_each(?) s \
         where {} and o.key = s.value ->> 0",
        place.entries(),
    );
    query(AssertSqlSafe(sql)).bind(gone).execute(connection).await?;
    Ok(())
}

/// Drops what is known of rows that are gone. `keys`: a list.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    place: &Place<'_>,
    keys: &str,
) -> Result<(), sqlx::Error> {
    let listed = "(select value from json_each(?))";
    let sql = format!("delete from muster_rows as o where {} and o.key in {listed}", place.entries());
    query(AssertSqlSafe(sql)).bind(keys.to_owned()).execute(connection).await?;
    Ok(())
}
