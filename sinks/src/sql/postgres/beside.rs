//! Writing rows of tables that have no column of ours: what is ours stands in `muster.rows`, by the row's identity. A row
//! that somebody else deleted leaves its entry behind, which counts for nothing.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::place::{Place, literal};
use super::rows::{bind_initial, bind_kept, filled, set};
use super::source::{Source, Staged};
use crate::sql::table::GONE;
use crate::sql::transaction::Pending;

/// How many of `rows` were written; fewer means that something else has written newer ones.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    place: &Place<'_>,
    rows: &[&Pending],
    staged: &mut Staged,
) -> Result<u64, sqlx::Error> {
    let table = place.table;
    let is_there = |row: &&&Pending| row.adopts || row.state.row.is_some();
    let (there, new): (Vec<&&Pending>, Vec<&&Pending>) = rows.iter().partition(is_there);
    let mut written = 0;
    for forced in [false, true] {
        let rows: Vec<&&Pending> = there.iter().copied().filter(|row| row.item.forced == forced).collect();
        if !rows.is_empty() {
            let source = Source::of(connection, place, &rows, staged).await?;
            let statement = source.bind(sqlx::query(AssertSqlSafe(update_sql(place, &source, forced))), table, &rows);
            written += bind_kept(statement, table).execute(&mut *connection).await?.rows_affected();
        }
    }
    if !new.is_empty() {
        let source = Source::of(connection, place, &new, staged).await?;
        let statement = source.bind(sqlx::query(AssertSqlSafe(insert_sql(place, &source))), table, &new);
        written += bind_initial(statement, table).execute(&mut *connection).await?.rows_affected();
    }
    Ok(written)
}

fn update_sql(place: &Place<'_>, source: &Source, forced: bool) -> String {
    let table = place.table;
    let filled = filled(place, source).into_iter().take(table.columns.len());
    let values = filled.map(|(column, value)| format!("{value} as {column}")).collect::<Vec<_>>().join(", ");
    let mut set = set(place, "s", source.width(table));
    if set.is_empty() {
        // Nothing is kept up to date but the version; a row must be updated to be counted.
        set.push(format!("{0} = t.{0}", place.identity()));
    }
    let guard = if forced { "" } else { " and (o.version is null or s.muster_version > o.version)" };
    format!(
        "with u as (update {} t set {} from (select {values}, s.key as muster_key, s.version as muster_version, \
             s.hash as muster_hash from {}) s join muster.rows o on {} and o.key = s.muster_key \
             where {}{guard} returning s.muster_key, s.muster_version, s.muster_hash) \
         update muster.rows o set version = u.muster_version, hash = u.muster_hash from u \
         where {} and o.key = u.muster_key",
        place.name(),
        set.join(", "),
        source.sql(table),
        place.entries(),
        place.is_of_entry(),
        place.entries(),
    )
}

/// An identity that the database fills is asked for beforehand, since what `returning` answers names no key.
fn insert_sql(place: &Place<'_>, source: &Source) -> String {
    let mut filled = filled(place, source);
    let generated = place.generated().map(|(column, default)| (crate::sql::table::quoted(column), default.to_owned()));
    let overriding = if generated.is_some() { " overriding system value" } else { "" };
    filled.extend(generated);
    let columns = filled.iter().map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(", ");
    let values = filled.iter().map(|(column, value)| format!("{value} as {column}")).collect::<Vec<_>>().join(", ");
    let (entries, identity) = (place.entries(), place.identity());
    format!(
        "with s as materialized (select {values}, s.key as muster_key, s.version as muster_version, \
             s.hash as muster_hash from {source}), \
         left_behind as (delete from muster.rows o using s \
             where {entries} and o.identity = s.{identity}::text and o.key <> s.muster_key), \
         i as (insert into {name} ({columns}){overriding} select {columns} from s) \
         insert into muster.rows (component, topic, key, identity, version, hash) \
         select {component}, {topic}, s.muster_key, s.{identity}::text, s.muster_version, s.muster_hash from s \
         on conflict (component, topic, key) do update \
         set identity = excluded.identity, version = excluded.version, hash = excluded.hash",
        source = source.sql(place.table),
        name = place.name(),
        component = literal(place.component),
        topic = literal(place.table.topic()),
    )
}

/// Makes rows `t` that are like those of `source` ours.
pub(super) fn adopt_sql(place: &Place<'_>, source: &str, same: &str) -> String {
    format!(
        "insert into muster.rows (component, topic, key, identity) \
         select {}, {}, s.key, t.{}::text from {source} join {} t on {same} \
         on conflict (component, topic, key) do update set identity = excluded.identity, version = null, hash = null",
        literal(place.component),
        literal(place.table.topic()),
        place.identity(),
        place.name(),
    )
}

/// Sets a column of rows that go, and keeps their versions. Keys and versions are the first parameters.
pub(super) fn retire_sql(place: &Place<'_>, set: &str) -> String {
    format!(
        "with u as (update {} t set {set} from unnest($1::text[], $2::bigint[]) as s (key, version) \
             join muster.rows o on {entries} and o.key = s.key where {} returning s.key, s.version) \
         update muster.rows o set version = u.version, hash = '{GONE}' from u where {entries} and o.key = u.key",
        place.name(),
        place.is_of_entry(),
        entries = place.entries(),
    )
}

/// Drops what is known of rows that are gone.
pub(super) async fn forget(
    connection: &mut PgConnection,
    place: &Place<'_>,
    keys: Vec<String>,
) -> Result<(), sqlx::Error> {
    let sql = format!("delete from muster.rows o where {} and o.key = any($1)", place.entries());
    sqlx::query(AssertSqlSafe(sql)).bind(keys).execute(connection).await?;
    Ok(())
}
