//! Which server answers, and what Muster's user may not do there. Reads catalogs only.

use sqlx::{PgConnection, Row};

use crate::sql::table::Tables;
use crate::sql::transaction::About;

const SERVER: &str = "select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1), clock_timestamp(),
        pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean,
        current_user::text, current_database()::text, has_database_privilege(current_database(), 'create')";

const SCHEMAS: &str = "select nspname::text, has_schema_privilege(oid, 'usage'), has_schema_privilege(oid, 'create')
    from pg_namespace where nspname in ($1, 'muster')";

const TABLES: &str = "select n.nspname || '.' || c.relname,
        array(select privilege from unnest(array['select', 'insert', 'update', 'delete']) as privileges (privilege)
            where not has_table_privilege(c.oid, privilege)),
        pg_has_role(c.relowner, 'usage')
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where ((n.nspname = $1 and c.relname = any($2)) or n.nspname = 'muster') and c.relkind in ('r', 'p')
    order by 1";

pub(super) async fn read(connection: &mut PgConnection, schema: &str, tables: &Tables) -> Result<About, sqlx::Error> {
    let server = sqlx::query(SERVER).fetch_one(&mut *connection).await?;
    let mut about = About { version: server.try_get(0)?, now: Some(server.try_get(1)?), ..About::default() };
    let (user, database): (String, String) = (server.try_get(3)?, server.try_get(4)?);
    let may_create_schemas: bool = server.try_get(5)?;
    if server.try_get(2)? {
        about.denied.push("the database is read-only: a standby, or after a failover".to_owned());
    }

    let (mut is_there, mut has_own) = (false, false);
    for row in sqlx::query(SCHEMAS).bind(schema).fetch_all(&mut *connection).await? {
        let name: String = row.try_get(0)?;
        is_there |= name == schema;
        has_own |= name == "muster";
        if !row.try_get::<bool, _>(1)? {
            about.denied.push(format!("{user} has no right `usage` on schema {name}"));
        }
        if !row.try_get::<bool, _>(2)? {
            about.denied_to_create.push(format!("{user} has no right `create` on schema {name}"));
        }
    }
    if !is_there {
        about.denied.push(format!("schema {schema} doesn't exist"));
    }
    if !has_own && !may_create_schemas {
        let right = format!("{user} has no right `create` on database {database}, to create the schema muster");
        about.denied_to_create.push(right);
    }

    let names: Vec<String> = tables.0.iter().map(|table| table.name.clone()).collect();
    for row in sqlx::query(TABLES).bind(schema).bind(&names).fetch_all(&mut *connection).await? {
        let (table, missing): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        if !missing.is_empty() {
            about.denied.push(format!("{user} may not {} on {table}", missing.join(", ")));
        }
        if !row.try_get::<bool, _>(2)? {
            about.denied_to_create.push(format!("{user} doesn't own {table}"));
        }
    }
    Ok(about)
}
