//! What the [`super::writer`] says to SQLite, inside its transactions.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::super::{Append, Committed, NewTopic, Offset};
use super::headers;
use super::topics::Topic;

/// Compaction's memory of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// No key occurs twice before this offset.
    pub upto: i64,
    /// How many records are left there.
    pub kept: i64,
    /// When the oldest tombstone there was written, in ms.
    pub tombstone: Option<i64>,
}

/// A record on its way into the file.
pub(super) struct NewRow<'a> {
    pub topic: &'a Topic,
    pub offset: Offset,
    pub record: &'a Append,
}

/// Records per statement: each statement costs a hop to SQLite's thread, and parameters are limited to 32,766.
const ROWS_PER_INSERT: [usize; 3] = [256, 16, 1];

const INSERT: &str = "INSERT INTO records (topic, partition, offset, at, key, headers, value) VALUES ";

static INSERTS: LazyLock<Vec<(usize, Arc<str>)>> = LazyLock::new(|| {
    let insert = |rows: usize| {
        let mut sql = INSERT.to_owned();
        for row in 0..rows {
            // Writing into a string can't fail.
            let _ = write!(sql, "{}(?,?,?,?,?,?,?)", if row == 0 { "" } else { "," });
        }
        (rows, sql.into())
    };
    ROWS_PER_INSERT.into_iter().map(insert).collect()
});

/// Adds records, many per statement.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    mut rows: Vec<NewRow<'_>>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let now = now.timestamp_millis();
    // In the order of the tree, so that neighbours are written together.
    rows.sort_unstable_by_key(|row| (row.topic.id, row.record.at.partition, row.offset));
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let Some((count, sql)) = INSERTS.iter().find(|(count, _)| *count <= rest.len()) else { return Ok(()) };
        let (now_written, later) = rest.split_at(*count);
        rest = later;
        let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
        for NewRow { topic, offset, record } in now_written {
            query = query
                .bind(topic.id)
                .bind(record.at.partition)
                .bind(offset.0)
                .bind(now)
                .bind(record.key.as_ref())
                .bind(headers::encode(&record.headers))
                .bind(record.value.as_deref());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Keeps a group's place in a partition.
pub(super) async fn commit(
    connection: &mut SqliteConnection,
    group: &str,
    topic: i64,
    partition: u32,
    committed: &Committed,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO commits (member_group, topic, partition, next, metadata) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET next = excluded.next, metadata = excluded.metadata",
    )
    .bind(group)
    .bind(topic)
    .bind(partition)
    .bind(committed.next.0)
    .bind(committed.metadata.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// `None`: there is one of that name.
pub(super) async fn create(connection: &mut SqliteConnection, topic: &NewTopic) -> Result<Option<Topic>, sqlx::Error> {
    let settings = serde_json::to_string(&topic.settings).map_err(|err| sqlx::Error::Encode(err.into()))?;
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO topics (name, partitions, settings) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
    )
    .bind(topic.name.as_str())
    .bind(topic.partitions)
    .bind(settings)
    .fetch_optional(connection)
    .await?;
    let ends = vec![0; topic.partitions as usize];
    Ok(id.map(|id| Topic::new(id, topic.name.as_str().into(), topic.settings.clone(), ends)))
}

/// The old topic loses its name; compaction removes what is left of it, bit by bit.
pub(super) async fn recreate(
    connection: &mut SqliteConnection,
    old: &Topic,
    partitions: u32,
) -> Result<Option<Topic>, sqlx::Error> {
    sqlx::query("UPDATE topics SET name = NULL WHERE id = ?").bind(old.id).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM commits WHERE topic = ?").bind(old.id).execute(&mut *connection).await?;
    let topic = NewTopic { name: old.name.to_string(), partitions, replication: 1, settings: old.settings.clone() };
    create(connection, &topic).await
}

/// Takes records out of a partition.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    topic: i64,
    partition: u32,
    offsets: &[i64],
) -> Result<(), sqlx::Error> {
    let offsets = serde_json::to_string(offsets).map_err(|err| sqlx::Error::Encode(err.into()))?;
    sqlx::query("DELETE FROM records WHERE topic = ? AND partition = ? AND offset IN (SELECT value FROM json_each(?))")
        .bind(topic)
        .bind(partition)
        .bind(offsets)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps what compaction has done.
pub(super) async fn cleaned(
    connection: &mut SqliteConnection,
    topic: i64,
    partition: u32,
    done: &Cleaned,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO cleaned (topic, partition, upto, kept, tombstone) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET upto = excluded.upto, kept = excluded.kept, tombstone = excluded.tombstone",
    )
    .bind(topic)
    .bind(partition)
    .bind(done.upto)
    .bind(done.kept)
    .bind(done.tombstone)
    .execute(connection)
    .await?;
    Ok(())
}

/// `true`: nothing is left of the topic.
pub(super) async fn purge(connection: &mut SqliteConnection, topic: i64) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM records WHERE (topic, partition, offset) IN
             (SELECT topic, partition, offset FROM records WHERE topic = ?1 LIMIT 1000)",
    )
    .bind(topic)
    .execute(&mut *connection)
    .await?;
    if removed.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM cleaned WHERE topic = ?").bind(topic).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM topics WHERE id = ? AND name IS NULL").bind(topic).execute(connection).await?;
    Ok(true)
}
