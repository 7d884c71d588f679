//! Statements about parked rows.

use schemas::Key;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::sql::failure::reason::HELD_BY_OTHERS;
use crate::sql::transaction::{Mine, Parked, Which};

const PARKED_OF_MINE: &str = "from muster.parked p
    join muster.offsets o on o.component = p.component and o.topic = p.topic and o.partition = p.partition
    join unnest($2::text[], $3::int[], $4::bigint[]) as m (topic, partition, epoch)
        on m.topic = o.topic and m.partition = o.partition and m.epoch = o.epoch
    where p.component = $1";

fn columns_of(mine: &[Mine]) -> (Vec<String>, Vec<i32>, Vec<i64>) {
    let topics = mine.iter().map(|(at, _)| at.topic.to_string()).collect();
    let partitions = mine.iter().map(|(at, _)| at.partition as i32).collect();
    (topics, partitions, mine.iter().map(|(_, epoch)| epoch.0).collect())
}

fn parked(row: &PgRow) -> Result<Parked, sqlx::Error> {
    let schema: Option<String> = row.try_get(6)?;
    let body: Option<Vec<u8>> = row.try_get(7)?;
    Ok(Parked {
        topic: row.try_get(0)?,
        partition: row.try_get::<i32, _>(1)?.unsigned_abs(),
        key: Key::from(row.try_get::<String, _>(2)?),
        version: row.try_get(3)?,
        hash: row.try_get(4)?,
        forced: row.try_get(5)?,
        payload: schema.zip(body),
        code: row.try_get(8)?,
        reason: row.try_get(9)?,
        hopeless: row.try_get(10)?,
    })
}

async fn fetch(
    connection: &mut PgConnection,
    component: &str,
    mine: &[Mine],
    rest: &str,
    bind: &[i64],
) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = format!(
        "select p.topic, p.partition, p.key, p.version, p.hash, p.forced, p.schema, p.body, p.code, p.reason, \
         p.hopeless {PARKED_OF_MINE} {rest}"
    );
    let (topics, partitions, epochs) = columns_of(mine);
    let mut statement = sqlx::query(AssertSqlSafe(sql)).bind(component).bind(topics).bind(partitions).bind(epochs);
    for number in bind {
        statement = statement.bind(*number);
    }
    statement.fetch_all(connection).await?.iter().map(parked).collect()
}

/// The least often tried first. Locks the offsets of what it answers, so that no later owner decides about the same
/// rows meanwhile; what somebody else has locked is left for another time.
pub(super) async fn next(
    connection: &mut PgConnection,
    component: &str,
    mine: &[Mine],
    which: Which,
    limit: u32,
) -> Result<Vec<Parked>, sqlx::Error> {
    let but = if which.held { String::new() } else { format!("and p.code <> '{HELD_BY_OTHERS}'") };
    let rest = format!(
        "and not p.hopeless {but} and p.attempts < $5 order by p.attempts, p.since limit $6 for share of o skip locked"
    );
    fetch(connection, component, mine, &rest, &[which.tries, i64::from(limit)]).await
}

pub(super) async fn expired(
    connection: &mut PgConnection,
    component: &str,
    mine: &[Mine],
    older_than_ms: i64,
    limit: u32,
) -> Result<Vec<Parked>, sqlx::Error> {
    let rest = format!(
        "and (p.hopeless or (p.since < now() - $5 * interval '1 millisecond' and p.code <> '{HELD_BY_OTHERS}')) \
         order by p.since limit $6"
    );
    fetch(connection, component, mine, &rest, &[older_than_ms, i64::from(limit)]).await
}

pub(super) async fn park(connection: &mut PgConnection, component: &str, rows: &[Parked]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "insert into muster.parked
        select $1, s.topic, s.key, s.partition, s.version, s.hash, s.forced, s.schema, s.body, s.code, s.reason,
            now(), 0, false
        from unnest($2::text[], $3::text[], $4::int[], $5::bigint[], $6::text[], $7::bool[], $8::text[],
            $9::bytea[], $10::text[], $11::text[])
            as s (topic, key, partition, version, hash, forced, schema, body, code, reason)
        on conflict (component, topic, key) do update set partition = excluded.partition,
            version = excluded.version, hash = excluded.hash, forced = excluded.forced, schema = excluded.schema,
            body = excluded.body, code = excluded.code, reason = excluded.reason, since = excluded.since,
            attempts = 0, hopeless = false";
    let payload = |row: &Parked| row.payload.as_ref().map(|(text, body)| (text.clone(), body.clone())).unzip();
    let (schemas, bodies): (Vec<Option<String>>, Vec<Option<Vec<u8>>>) = rows.iter().map(payload).unzip();
    sqlx::query(sql)
        .bind(component)
        .bind(rows.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.partition as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.hash.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.forced).collect::<Vec<_>>())
        .bind(schemas)
        .bind(bodies)
        .bind(rows.iter().map(|row| row.code.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn still(connection: &mut PgConnection, component: &str, rows: &[Parked]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "update muster.parked p
        set attempts = p.attempts + 1, code = s.code, reason = s.reason, hopeless = s.hopeless
        from unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bool[])
            as s (topic, key, version, code, reason, hopeless)
        where p.component = $1 and p.topic = s.topic and p.key = s.key and p.version = s.version";
    sqlx::query(sql)
        .bind(component)
        .bind(rows.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.code.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.hopeless).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn unpark(
    connection: &mut PgConnection,
    component: &str,
    topic: &str,
    rows: &[(&str, i64)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "delete from muster.parked p using unnest($3::text[], $4::bigint[]) as s (key, version)
        where p.component = $1 and p.topic = $2 and p.key = s.key and p.version = s.version";
    let (keys, versions): (Vec<&str>, Vec<i64>) = rows.iter().copied().unzip();
    sqlx::query(sql).bind(component).bind(topic).bind(keys).bind(versions).execute(connection).await?;
    Ok(())
}

/// How many wait, and how many of them for others' rows to go.
pub(super) async fn waiting(
    connection: &mut PgConnection,
    component: &str,
    mine: &[Mine],
) -> Result<(u64, u64), sqlx::Error> {
    let sql = format!("select count(*), count(*) filter (where p.code = '{HELD_BY_OTHERS}') {PARKED_OF_MINE}");
    let (topics, partitions, epochs) = columns_of(mine);
    let statement = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(sql)).bind(component);
    let (all, held) = statement.bind(topics).bind(partitions).bind(epochs).fetch_one(connection).await?;
    Ok((all.unsigned_abs(), held.unsigned_abs()))
}
