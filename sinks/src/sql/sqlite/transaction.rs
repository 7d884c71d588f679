//! One open transaction on a SQLite file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline::change::Version;
use pipeline::log::TopicPartition;
use pipeline::sink::Held;
use schemas::Key;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::adoption;
use super::compare;
use super::failure::failure;
use super::place::{Ours, Place};
use super::rows::{self, list};
use crate::sql::cell::Cell;
use crate::sql::compare::{Contents, Expected};
use crate::sql::failure::{Errors, Failure, Fault, reason::HELD_BY_OTHERS};
use crate::sql::table::{GONE, Table, quoted};
use crate::sql::transaction::{
    Alike, HeldRow, Mine, OffsetRow, Operation, Parked, Pending, State, Step, Transaction, Which,
};

pub(super) struct Open {
    tx: sqlx::Transaction<'static, sqlx::Sqlite>,
    component: Arc<str>,
    errors: Errors,
}

impl Open {
    pub(super) fn new(tx: sqlx::Transaction<'static, sqlx::Sqlite>, component: Arc<str>, errors: Errors) -> Self {
        Self { tx, component, errors }
    }

    fn wrong(&self, error: sqlx::Error) -> Failure {
        failure(&self.errors, error)
    }

    fn ours(&self, table: &Table) -> Ours {
        place(&self.component, table).ours()
    }

    fn component(&self) -> String {
        self.component.as_ref().to_owned()
    }

    async fn raw(&mut self, sql: &'static str) -> Result<(), Failure> {
        let done = sqlx::raw_sql(sql).execute(&mut *self.tx).await;
        done.map(|_| ()).map_err(|error| self.wrong(error))
    }

    async fn fetch_parked(&mut self, mine: &[Mine], rest: &str, bind: &[i64]) -> Result<Vec<Parked>, Failure> {
        let sql = format!(
            "select p.topic, p.partition, p.key, p.version, p.hash, p.forced, p.schema, p.body, p.code, p.reason, p.hopeless {PARKED_OF_MINE} {rest}"
        );
        let mut statement = sqlx::query(AssertSqlSafe(sql)).bind(self.component()).bind(mine_list(mine));
        for number in bind {
            statement = statement.bind(*number);
        }
        let rows = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        rows.iter().map(parked).collect::<Result<_, _>>().map_err(|error| self.wrong(error))
    }
}

/// Apart from the transaction, which is borrowed by what runs in it.
fn place<'a>(component: &'a str, table: &'a Table) -> Place<'a> {
    Place { component, table }
}

const PARKED_OF_MINE: &str = "from muster_parked p
    join muster_offsets o on o.component = p.component and o.topic = p.topic and o.partition = p.partition
    join json_each(?2) m on m.value ->> 0 = o.topic and m.value ->> 1 = o.partition and m.value ->> 2 = o.epoch
    where p.component = ?1";

fn mine_list(mine: &[Mine]) -> String {
    let mine: Vec<_> = mine.iter().map(|(at, epoch)| (&*at.topic, at.partition, epoch.0)).collect();
    list(&mine)
}

fn parked(row: &SqliteRow) -> Result<Parked, sqlx::Error> {
    let schema: Option<String> = row.try_get(6)?;
    let body: Option<Vec<u8>> = row.try_get(7)?;
    Ok(Parked {
        topic: row.try_get(0)?,
        partition: row.try_get(1)?,
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

fn offset_row(row: &SqliteRow) -> Result<OffsetRow, sqlx::Error> {
    Ok(OffsetRow {
        incarnation: row.try_get(0)?,
        next: row.try_get(1)?,
        epoch: row.try_get(2)?,
        at_ms: row.try_get(3)?,
        sweeping: row.try_get(4)?,
        print: row.try_get(5)?,
    })
}

/// By SQLite's clock, in ms since 1970.
const NOW: &str = "cast(unixepoch('subsec') * 1000 as integer)";

#[async_trait]
impl Transaction for Open {
    async fn take_over(&mut self, at: &TopicPartition, epoch: i64) -> Result<OffsetRow, Failure> {
        let sql = "insert into muster_offsets (component, topic, partition, incarnation, next, epoch, at, sweeping)
            values (?1, ?2, ?3, '', 0, ?4, 0, false)
            on conflict do update set epoch = excluded.epoch, next = case when sweeping then -1 else next end
            where excluded.epoch > muster_offsets.epoch";
        let statement =
            sqlx::query(sql).bind(self.component()).bind(at.topic.to_string()).bind(at.partition).bind(epoch);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let row = self.offset(at).await?;
        row.ok_or_else(|| self.errors.unavailable("an offset vanished while it was written").into())
    }

    async fn advance(&mut self, steps: &[Step]) -> Result<HashSet<TopicPartition>, Failure> {
        let sql = format!(
            "update muster_offsets set next = ?6, print = ?9, at = {NOW} where component = ?1 and topic = ?2 and partition = ?3
            and next = ?4 and epoch = ?5 and incarnation = ?7 and sweeping = ?8"
        );
        let mut moved = HashSet::new();
        for Step { at, expected, to } in steps {
            let statement = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(self.component())
                .bind(at.topic.to_string())
                .bind(at.partition)
                .bind(expected)
                .bind(to.epoch)
                .bind(to.next)
                .bind(to.incarnation.clone())
                .bind(to.sweeping)
                .bind(to.print);
            let done = statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
            if done.rows_affected() == 1 {
                moved.insert(at.clone());
            }
        }
        Ok(moved)
    }

    async fn offset(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure> {
        let sql = "select incarnation, next, epoch, at, sweeping, print from muster_offsets
            where component = ?1 and topic = ?2 and partition = ?3";
        let statement = sqlx::query(sql).bind(self.component()).bind(at.topic.to_string()).bind(at.partition);
        let row = statement.fetch_optional(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        row.as_ref().map(offset_row).transpose().map_err(|error| self.wrong(error))
    }

    async fn offset_now(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure> {
        self.offset(at).await
    }

    async fn place(&mut self, at: &TopicPartition, to: &OffsetRow) -> Result<(), Failure> {
        let sql = format!(
            "update muster_offsets set incarnation = ?4, next = ?5, at = {NOW}, sweeping = ?6, print = ?7
            where component = ?1 and topic = ?2 and partition = ?3"
        );
        let statement = sqlx::query(AssertSqlSafe(sql))
            .bind(self.component())
            .bind(at.topic.to_string())
            .bind(at.partition)
            .bind(to.incarnation.clone())
            .bind(to.next)
            .bind(to.sweeping)
            .bind(to.print);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn states(&mut self, table: &Table, keys: &[&str]) -> Result<Vec<State>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let Ours { from, key, version, hash } = self.ours(table);
        let sql = format!(
            "select s.value, (select json_array({version}, {hash}) from {from} where {key} = s.value), d.version, p.version
            from json_each(?1) s
            left join muster_deleted d on d.component = ?2 and d.topic = ?3 and d.key = s.value
            left join muster_parked p on p.component = ?2 and p.topic = ?3 and p.key = s.value"
        );
        let statement =
            sqlx::query(AssertSqlSafe(sql)).bind(list(keys)).bind(self.component()).bind(table.topic().to_owned());
        let rows = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let state = |row: &SqliteRow| -> Result<(String, State), sqlx::Error> {
            let held = row.try_get::<Option<String>, _>(1)?;
            let held = held.and_then(|held| serde_json::from_str(&held).ok());
            let held = held.map(|(version, hash)| HeldRow { version, hash });
            Ok((row.try_get(0)?, State { row: held, deleted: row.try_get(2)?, parked: row.try_get(3)? }))
        };
        let known: Result<HashMap<String, State>, _> = rows.iter().map(state).collect();
        let mut known = known.map_err(|error| self.wrong(error))?;
        Ok(keys.iter().map(|key| known.remove(*key).unwrap_or_default()).collect())
    }

    async fn identities(&mut self, parent: &Table, keys: &[&str]) -> Result<HashMap<String, Cell>, Failure> {
        let Some(identity) = &parent.key else { return Ok(HashMap::new()) };
        let Ours { from, key, .. } = self.ours(parent);
        let identity = quoted(identity);
        let sql = format!(
            "select {key}, cast(t.{identity} as text) from {from} where {key} in (select value from json_each(?1))"
        );
        let rows = sqlx::query_as::<_, (String, Option<String>)>(AssertSqlSafe(sql)).bind(list(keys));
        let rows = rows.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        // A row without an identity can't be referred to.
        Ok(rows.into_iter().filter_map(|(key, identity)| Some((key, Cell::Text(identity?)))).collect())
    }

    async fn alike(&mut self, table: &Table, rows: &[&Pending]) -> Result<Vec<Alike>, Failure> {
        adoption::alike(&mut self.tx, &place(&self.component, table), rows).await.map_err(|error| self.wrong(error))
    }

    /// Halves do: there is no network between, and rows are written one by one.
    async fn contested(&mut self, _: &Table, _: &[&Pending]) -> Result<BTreeMap<usize, Fault>, Failure> {
        Ok(BTreeMap::new())
    }

    async fn run(&mut self, operation: Operation, table: &Table, rows: &[&Pending]) -> Result<(), Failure> {
        let component = self.component.clone();
        let place = place(&component, table);
        if operation == Operation::Delete {
            return rows::delete(&mut self.tx, &place, rows).await.map_err(|error| self.wrong(error));
        }
        for row in rows.iter().filter(|row| row.adopts) {
            let adopted = adoption::adopt(&mut self.tx, &place, row).await.map_err(|error| self.wrong(error))?;
            if adopted != 1 {
                return Err(Failure::Again(format!("a row of {} to be adopted has changed", table.name)));
            }
        }
        let written = rows::upsert(&mut self.tx, &place, rows).await.map_err(|error| self.wrong(error))?;
        if written != rows.len() as u64 {
            return Err(Failure::Again(format!("somebody else wrote rows of {}", table.name)));
        }
        Ok(())
    }

    async fn outdate(&mut self, table: &Table, keys: &[&str]) -> Result<(), Failure> {
        let sql = place(&self.component, table).outdate_sql();
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(list(keys));
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn vacate(&mut self, table: &Table, rows: &[&Pending]) -> Result<(), Failure> {
        rows::vacate(&mut self.tx, &place(&self.component, table), rows).await.map_err(|error| self.wrong(error))
    }

    async fn explain(&mut self, table: &Table, _row: &Pending, mut fault: Fault) -> Result<Fault, Failure> {
        if !fault.text.contains(&table.name) {
            fault.text = format!("{}: {}", table.name, fault.text);
        }
        Ok(fault)
    }

    async fn remember_deleted(&mut self, topic: &str, gone: &[(&str, u32, i64)]) -> Result<(), Failure> {
        if gone.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "insert into muster_deleted select ?1, ?2, s.value ->> 0, s.value ->> 1, s.value ->> 2, {NOW}
            from json_each(?3) s where true
            on conflict do update set version = excluded.version, at = excluded.at, partition = excluded.partition"
        );
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(self.component()).bind(topic.to_owned()).bind(list(gone));
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn forget_life(&mut self, at: &TopicPartition) -> Result<(), Failure> {
        for sql in [
            "delete from muster_deleted where component = ?1 and topic = ?2 and partition = ?3",
            "delete from muster_parked where component = ?1 and topic = ?2 and partition = ?3",
        ] {
            let statement = sqlx::query(sql).bind(self.component()).bind(at.topic.to_string()).bind(at.partition);
            statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    async fn forget_deleted(&mut self, topic: &str, keys: &[&str]) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let sql = "delete from muster_deleted where component = ?1 and topic = ?2
            and key in (select value from json_each(?3))";
        let statement = sqlx::query(sql).bind(self.component()).bind(topic.to_owned()).bind(list(keys));
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn purge_deleted(&mut self, older_than_ms: i64) -> Result<(), Failure> {
        let sql = format!("delete from muster_deleted where component = ?1 and at < {NOW} - ?2");
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(self.component()).bind(older_than_ms);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn park(&mut self, rows: &[Parked]) -> Result<(), Failure> {
        let sql: Arc<str> = format!(
            "insert into muster_parked values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, {NOW}, 0, false)
            on conflict do update set partition = excluded.partition, version = excluded.version, hash = excluded.hash,
            forced = excluded.forced, schema = excluded.schema, body = excluded.body, code = excluded.code,
            reason = excluded.reason, since = excluded.since, attempts = 0, hopeless = false"
        )
        .into();
        for row in rows {
            let (schema, body) = row.payload.clone().unzip();
            let statement = sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(self.component())
                .bind(row.topic.clone())
                .bind(row.key.as_str().to_owned())
                .bind(row.partition)
                .bind(row.version)
                .bind(row.hash.clone())
                .bind(row.forced)
                .bind(schema)
                .bind(body)
                .bind(row.code.clone())
                .bind(row.reason.clone());
            statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    async fn parked(&mut self, mine: &[Mine], which: Which, limit: u32) -> Result<Vec<Parked>, Failure> {
        let but = if which.held { String::new() } else { format!("and p.code <> '{HELD_BY_OTHERS}'") };
        let rest = format!("and not p.hopeless {but} and p.attempts < ?3 order by p.attempts, p.since limit ?4");
        self.fetch_parked(mine, &rest, &[which.tries, i64::from(limit)]).await
    }

    async fn still_parked(&mut self, rows: &[Parked]) -> Result<(), Failure> {
        let sql = "update muster_parked set attempts = attempts + 1, code = ?5, reason = ?6, hopeless = ?7
            where component = ?1 and topic = ?2 and key = ?3 and version = ?4";
        for row in rows {
            let statement = sqlx::query(sql)
                .bind(self.component())
                .bind(row.topic.clone())
                .bind(row.key.as_str().to_owned())
                .bind(row.version)
                .bind(row.code.clone())
                .bind(row.reason.clone())
                .bind(row.hopeless);
            statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    async fn unpark(&mut self, topic: &str, rows: &[(&str, i64)]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let sql = "delete from muster_parked where component = ?1 and topic = ?2
            and (key, version) in (select value ->> 0, value ->> 1 from json_each(?3))";
        let statement = sqlx::query(sql).bind(self.component()).bind(topic.to_owned()).bind(list(rows));
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn waiting(&mut self, mine: &[Mine]) -> Result<(u64, u64), Failure> {
        let sql = format!("select count(*), count(*) filter (where p.code = '{HELD_BY_OTHERS}') {PARKED_OF_MINE}");
        let statement = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(sql)).bind(self.component());
        let counted = statement.bind(mine_list(mine)).fetch_one(&mut *self.tx).await;
        let (all, held) = counted.map_err(|error| self.wrong(error))?;
        Ok((all.unsigned_abs(), held.unsigned_abs()))
    }

    async fn expired(&mut self, mine: &[Mine], older_than_ms: i64, limit: u32) -> Result<Vec<Parked>, Failure> {
        let rest = format!(
            "and (p.hopeless or (p.since < {NOW} - ?3 and p.code <> '{HELD_BY_OTHERS}')) order by p.since limit ?4"
        );
        self.fetch_parked(mine, &rest, &[older_than_ms, i64::from(limit)]).await
    }

    async fn held(&mut self, table: &Table, after: Option<&str>, limit: u32) -> Result<Vec<Held>, Failure> {
        let Ours { from, key, version, hash } = self.ours(table);
        let behind = if after.is_some() { ">" } else { ">=" };
        let sql = format!(
            "select key, version, hash from (
                select * from (select {key} as key, coalesce({version}, 0) as version, {hash} as hash, 1 as place from {from}
                    where {key} {behind} ?1 order by {key} limit ?2)
                union all
                select * from (select key, version, hash, 0 from muster_parked
                    where component = ?3 and topic = ?4 and key {behind} ?1 and body is not null order by key limit ?2)
            ) order by key, place limit ?2"
        );
        let statement = sqlx::query_as::<_, (String, i64, Option<String>)>(AssertSqlSafe(sql))
            .bind(after.unwrap_or_default().to_owned())
            .bind(limit)
            .bind(self.component())
            .bind(table.topic().to_owned());
        let rows = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let held = rows.into_iter().map(|(key, version, hash)| Held {
            key: Key::from(key),
            version: Version(version),
            gone: hash.as_deref() == Some(GONE),
            hash: hash.and_then(|hash| hash.parse().ok()),
        });
        Ok(held.collect())
    }

    async fn contents(&mut self, table: &Table, rows: &[Expected<'_>]) -> Result<BTreeMap<String, Contents>, Failure> {
        compare::contents(&mut self.tx, &place(&self.component, table), rows).await.map_err(|error| self.wrong(error))
    }

    async fn marked(&mut self, table: &Table, keys: &[&str]) -> Result<BTreeSet<String>, Failure> {
        compare::marked(&mut self.tx, &place(&self.component, table), keys).await.map_err(|error| self.wrong(error))
    }

    async fn savepoint(&mut self) -> Result<(), Failure> {
        self.raw("savepoint part").await
    }

    async fn rollback_to(&mut self) -> Result<(), Failure> {
        self.raw("rollback to part; release part").await
    }

    async fn release(&mut self) -> Result<(), Failure> {
        self.raw("release part").await
    }

    async fn rollback(self: Box<Self>) -> Result<(), Failure> {
        let errors = self.errors;
        self.tx.rollback().await.map_err(|error| failure(&errors, error))
    }

    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        let errors = self.errors;
        self.tx.commit().await.map_err(|error| match failure(&errors, error) {
            // Only a deferred constraint can fail as late as this, and it names no row.
            Failure::Data(fault) => {
                errors.refused(format!("at COMMIT: {}", fault.text), "make the foreign keys immediate").into()
            }
            other => other,
        })
    }
}
