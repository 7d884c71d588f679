//! What a PostgreSQL database has, read from its catalog.

use sqlx::{PgConnection, Row};

use crate::sql::plan::{Catalog, ExistingColumn, ExistingTable};
use crate::sql::table::Tables;

const COLUMNS: &str = "select c.relname::text, c.relkind in ('r', 'p'), a.attname::text,
        format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), not a.attnotnull,
        a.atthasdef or a.attidentity <> '',
        case when a.atttypid in ('varchar'::regtype, 'bpchar'::regtype) and a.atttypmod > 4 then a.atttypmod - 4 end,
        t.typcategory::text,
        case when a.attidentity <> '' then format('nextval(%L::regclass)', pg_get_serial_sequence(c.oid::regclass::text, a.attname))
            else pg_get_expr(d.adbin, d.adrelid) end
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where n.nspname = $1 and c.relname = any($2) and c.relkind in ('r', 'p', 'v', 'm', 'f')";

const INDEXES: &str = "select c.relname::text, i.relname::text, x.indisunique,
        x.indisvalid and x.indpred is null and x.indexprs is null,
        array(select a.attname::text from unnest(x.indkey) with ordinality k (attnum, place)
            join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
            where k.place <= x.indnkeyatts order by k.place)
    from pg_index x
    join pg_class c on c.oid = x.indrelid
    join pg_class i on i.oid = x.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = any($2)";

pub(super) async fn read(connection: &mut PgConnection, schema: &str, tables: &Tables) -> Result<Catalog, sqlx::Error> {
    let names: Vec<String> = tables.0.iter().map(|table| table.name.clone()).collect();
    let mut catalog = Catalog::default();
    for row in sqlx::query(COLUMNS).bind(schema).bind(&names).fetch_all(&mut *connection).await? {
        let table: &mut ExistingTable = catalog.tables.entry(row.try_get(0)?).or_default();
        table.is_other = !row.try_get::<bool, _>(1)?;
        let column = ExistingColumn {
            cast: row.try_get(3)?,
            full: row.try_get(4)?,
            nullable: row.try_get(5)?,
            has_default: row.try_get(6)?,
            length: row.try_get::<Option<i32>, _>(7)?.and_then(|length| usize::try_from(length).ok()),
            category: row.try_get::<String, _>(8)?.chars().next().unwrap_or('X'),
            default: row.try_get(9)?,
        };
        table.columns.insert(row.try_get(2)?, column);
    }
    for row in sqlx::query(INDEXES).bind(schema).bind(&names).fetch_all(&mut *connection).await? {
        let table = catalog.tables.entry(row.try_get(0)?).or_default();
        let index: String = row.try_get(1)?;
        let columns: Vec<String> = row.try_get(4)?;
        if row.try_get(3)? {
            table.indexed.extend(columns.first().cloned());
            if row.try_get(2)? {
                table.uniques.insert(index.clone(), columns);
            }
        }
        table.indexes.push(index);
    }
    let temporary = "select has_database_privilege(current_database(), 'temporary')";
    catalog.temporary = sqlx::query_scalar(temporary).fetch_one(&mut *connection).await?;
    let is_there = "select to_regclass('muster.sink_migrations') is not null";
    if sqlx::query_scalar(is_there).fetch_one(&mut *connection).await? {
        let done: i64 =
            sqlx::query_scalar("select count(*) from muster.sink_migrations").fetch_one(&mut *connection).await?;
        catalog.migrations = usize::try_from(done).unwrap_or(0);
    }
    Ok(catalog)
}
