//! What PostgreSQL says about a table.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::tables::plan::{Column, Look};
use crate::tables::sql::{Dialect, Name};
use crate::tables::types::ColumnKind;

/// A domain is what it is made of. Base types alone bring operators of their own: those of enums are PostgreSQL's.
const COLUMNS: &str = "\
    with recursive named as (
        select a.attnum, a.attname::text as name, a.attnotnull as required, a.atttypid as type, a.atttypmod as modifier,
            format_type(a.atttypid, a.atttypmod) as shown, format_type(a.atttypid, -1) as cast_to
        from pg_catalog.pg_attribute a
        where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
    ), typed as (
        select n.*, t.typtype::text as kind, t.typbasetype, t.typtypmod, t.typname::text, t.typcategory::text, t.typelem
        from named n join pg_catalog.pg_type t on t.oid = n.type
        union all
        select n.attnum, n.name, n.required, n.typbasetype, n.typtypmod, n.shown, n.cast_to,
            t.typtype::text, t.typbasetype, t.typtypmod, t.typname::text, t.typcategory::text, t.typelem
        from typed n join pg_catalog.pg_type t on t.oid = n.typbasetype where n.kind = 'd'
    )
    select n.name, n.required, n.shown, n.cast_to, n.modifier, n.typname, n.typcategory = 'A' as is_array,
        coalesce(e.typname::text, '') as element,
        case when n.kind = 'b' and s.nspname <> all (current_schemas(true)) then quote_ident(s.nspname) end as hidden_in
    from typed n join pg_catalog.pg_type t on t.oid = n.type join pg_catalog.pg_namespace s on s.oid = t.typnamespace
    left join pg_catalog.pg_type e on e.oid = n.typelem
    where n.kind <> 'd' order by n.attnum";

/// A unique index over some of the key's columns means that no two rows have the same key. Views have none.
const UNIQUE: &str = "\
    select c.relkind::text in ('r', 'p') as is_table, exists (
        select from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
        and (
            select array_agg(a.attname::text) from unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
            join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where k.place <= i.indnkeyatts
        ) <@ $2::text[]
    ) as is_unique
    from pg_catalog.pg_class c where c.oid = to_regclass($1)";

/// Changes with names, types and nullability of the columns.
const PRINT: &str = "\
    select statement_timestamp() as now, coalesce((
        select hashtextextended(string_agg(
            concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull), ',' order by a.attnum), 0)::text
        from pg_catalog.pg_attribute a
        where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
    ), '') as print";

/// The database's time, and what tells whether a table is still as it was; empty: it isn't there.
pub async fn print(connection: &mut PgConnection, name: &Name) -> Result<(DateTime<Utc>, String), sqlx::Error> {
    let row = sqlx::query(PRINT).bind(name.sql(Dialect::Postgres)).persistent(false).fetch_one(connection).await?;
    Ok((row.try_get("now")?, row.try_get("print")?))
}

/// The table's columns, and whether its key tells rows apart. `None`: there is no such table.
pub async fn look(connection: &mut PgConnection, name: &Name, key: &[String]) -> Result<Option<Look>, sqlx::Error> {
    let (_, print) = print(connection, name).await?;
    let table = name.sql(Dialect::Postgres);
    let columns = sqlx::query(COLUMNS).bind(&table).persistent(false).fetch_all(&mut *connection).await?;
    let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    if columns.is_empty() {
        return Ok(None);
    }
    let row = sqlx::query(UNIQUE).bind(&table).bind(key).persistent(false).fetch_one(connection).await?;
    let (is_table, is_unique): (bool, bool) = (row.try_get("is_table")?, row.try_get("is_unique")?);
    Ok(Some(Look { columns, print, unique: is_table.then_some(is_unique) }))
}

fn column(row: &PgRow) -> Result<Column, sqlx::Error> {
    let modifier: i32 = row.try_get("modifier")?;
    let is_array: bool = row.try_get("is_array")?;
    let name: String = row.try_get(if is_array { "element" } else { "typname" })?;
    let kind = ColumnKind::of_postgres(&name, modifier);
    Ok(Column {
        name: row.try_get("name")?,
        required: row.try_get("required")?,
        shown: row.try_get("shown")?,
        cast: row.try_get("cast_to")?,
        hidden_in: row.try_get("hidden_in")?,
        kind: if is_array { ColumnKind::Array(Box::new(kind)) } else { kind },
    })
}
