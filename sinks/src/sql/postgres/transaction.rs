//! One open transaction on a PostgreSQL database.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline::change::Version;
use pipeline::log::TopicPartition;
use pipeline::sink::Held;
use schemas::Key;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::adoption;
use super::compare;
use super::contested;
use super::failure::failure;
use super::parked;
use super::place::{Ours, Place};
use super::rows;
use super::source::Staged;
use crate::sql::cell::Cell;
use crate::sql::compare::{Contents, Expected};
use crate::sql::failure::{Errors, Failure, Fault, FaultKind};
use crate::sql::plan::Catalog;
use crate::sql::table::{GONE, Table, quoted};
use crate::sql::transaction::{
    Alike, HeldRow, Mine, OffsetRow, Operation, Parked, Pending, State, Step, Transaction, Which,
};

pub(super) struct Open {
    pub(super) tx: sqlx::Transaction<'static, sqlx::Postgres>,
    pub(super) component: Arc<str>,
    pub(super) schema: Arc<str>,
    pub(super) known: Arc<Catalog>,
    pub(super) errors: Errors,
    pub(super) staged: Staged,
}

impl Open {
    fn wrong(&self, error: sqlx::Error) -> Failure {
        failure(&self.errors, error)
    }

    fn ours(&self, table: &Table) -> Ours {
        place(&self.component, &self.schema, &self.known, table).ours()
    }

    async fn raw(&mut self, sql: &'static str) -> Result<(), Failure> {
        let done = sqlx::raw_sql(sql).execute(&mut *self.tx).await;
        done.map(|_| ()).map_err(|error| self.wrong(error))
    }

    async fn find_offset(&mut self, at: &TopicPartition, lock: &str) -> Result<Option<OffsetRow>, Failure> {
        let sql = format!(
            "select incarnation, next, epoch, (extract(epoch from at) * 1000)::bigint, sweeping, print
            from muster.offsets where component = $1 and topic = $2 and partition = $3 {lock}"
        );
        let statement =
            sqlx::query(AssertSqlSafe(sql)).bind(&*self.component).bind(&*at.topic).bind(at.partition as i32);
        let row = statement.fetch_optional(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        row.as_ref().map(offset_row).transpose().map_err(|error| self.wrong(error))
    }

    /// Whether the text can be read as the type. The transaction goes on either way.
    async fn fits(&mut self, text: String, full: &str) -> Result<bool, Failure> {
        self.savepoint().await?;
        let sql = format!("select ($1::text::{full}) is null");
        match sqlx::query(AssertSqlSafe(sql)).bind(text).fetch_one(&mut *self.tx).await {
            Ok(_) => self.release().await.map(|()| true),
            Err(error) => match self.wrong(error) {
                Failure::Data(_) => self.rollback_to().await.map(|()| false),
                other => Err(other),
            },
        }
    }
}

/// Apart from the transaction, which is borrowed by what runs in it.
fn place<'a>(component: &'a str, schema: &'a str, known: &'a Catalog, table: &'a Table) -> Place<'a> {
    Place { component, schema, known, table }
}

fn offset_row(row: &PgRow) -> Result<OffsetRow, sqlx::Error> {
    Ok(OffsetRow {
        incarnation: row.try_get(0)?,
        next: row.try_get(1)?,
        epoch: row.try_get(2)?,
        at_ms: row.try_get(3)?,
        sweeping: row.try_get(4)?,
        print: row.try_get(5)?,
    })
}

#[async_trait]
impl Transaction for Open {
    async fn take_over(&mut self, at: &TopicPartition, epoch: i64) -> Result<OffsetRow, Failure> {
        let sql =
            "insert into muster.offsets as o (component, topic, partition, incarnation, next, epoch, at, sweeping)
            values ($1, $2, $3, '', 0, $4, now(), false)
            on conflict (component, topic, partition) do update set epoch = excluded.epoch,
                next = case when o.sweeping then -1 else o.next end
            where excluded.epoch > o.epoch";
        let statement = sqlx::query(sql).bind(&*self.component).bind(&*at.topic).bind(at.partition as i32).bind(epoch);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let row = self.offset(at).await?;
        row.ok_or_else(|| self.errors.unavailable("an offset vanished while it was written").into())
    }

    async fn advance(&mut self, steps: &[Step]) -> Result<HashSet<TopicPartition>, Failure> {
        if steps.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = "update muster.offsets o set next = s.to_next, print = s.print, at = now()
            from unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bool[],
                    $9::bigint[])
                as s (topic, partition, expected, to_next, epoch, incarnation, sweeping, print)
            where o.component = $1 and o.topic = s.topic and o.partition = s.partition
            and o.next = s.expected and o.epoch = s.epoch and o.incarnation = s.incarnation
            and o.sweeping = s.sweeping
            returning o.topic, o.partition";
        let statement = sqlx::query_as::<_, (String, i32)>(sql)
            .bind(&*self.component)
            .bind(steps.iter().map(|step| step.at.topic.to_string()).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.at.partition as i32).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.expected).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.to.next).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.to.epoch).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.to.incarnation.clone()).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.to.sweeping).collect::<Vec<_>>())
            .bind(steps.iter().map(|step| step.to.print).collect::<Vec<_>>());
        let moved = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(moved.into_iter().map(|(topic, partition)| TopicPartition::new(topic, partition.unsigned_abs())).collect())
    }

    async fn offset(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure> {
        self.find_offset(at, "for update").await
    }

    async fn offset_now(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure> {
        self.find_offset(at, "").await
    }

    async fn place(&mut self, at: &TopicPartition, to: &OffsetRow) -> Result<(), Failure> {
        let sql = "update muster.offsets set incarnation = $4, next = $5, at = now(), sweeping = $6, print = $7
            where component = $1 and topic = $2 and partition = $3";
        let statement = sqlx::query(sql)
            .bind(&*self.component)
            .bind(&*at.topic)
            .bind(at.partition as i32)
            .bind(&to.incarnation)
            .bind(to.next)
            .bind(to.sweeping)
            .bind(to.print);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    /// Each key probes the index by itself: a join would be left to what the planner thought of an empty table. The other
    /// two tables aren't probed where they have nothing of the topic, as is usual.
    async fn states(&mut self, table: &Table, keys: &[&str]) -> Result<Vec<State>, Failure> {
        let mut states = vec![State::default(); keys.len()];
        if keys.is_empty() {
            return Ok(states);
        }
        let Ours { from, key, version, hash } = self.ours(table);
        let own = |table: &str| {
            let mine = format!("from {table} x where x.component = $2 and x.topic = $3");
            format!("case when (select exists (select {mine})) then (select x.version {mine} and x.key = s.key) end")
        };
        let sql = format!(
            "select * from (
                select s.place, e.there, e.version, e.hash, {} as deleted, {} as parked
                from unnest($1::text[]) with ordinality as s (key, place)
                left join lateral (
                    select true as there, {version}::bigint as version, {hash} as hash from {from}
                    where {key} = s.key limit 1) e on true
                offset 0) k
            where there or deleted is not null or parked is not null",
            own("muster.deleted"),
            own("muster.parked"),
        );
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(keys).bind(&*self.component).bind(table.topic());
        let rows = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let state = |row: &PgRow| -> Result<(i64, State), sqlx::Error> {
            let there = row.try_get::<Option<bool>, _>(1)?.is_some();
            let held = if there { Some(HeldRow { version: row.try_get(2)?, hash: row.try_get(3)? }) } else { None };
            Ok((row.try_get(0)?, State { row: held, deleted: row.try_get(4)?, parked: row.try_get(5)? }))
        };
        for row in &rows {
            let (place, found) = state(row).map_err(|error| self.wrong(error))?;
            if let Some(state) = usize::try_from(place - 1).ok().and_then(|place| states.get_mut(place)) {
                *state = found;
            }
        }
        Ok(states)
    }

    async fn identities(&mut self, parent: &Table, keys: &[&str]) -> Result<HashMap<String, Cell>, Failure> {
        let Some(identity) = &parent.key else { return Ok(HashMap::new()) };
        let Ours { from, key, .. } = self.ours(parent);
        let sql = format!("select {key}, t.{}::text from {from} where {key} = any($1)", quoted(identity));
        let rows = sqlx::query_as::<_, (String, Option<String>)>(AssertSqlSafe(sql)).bind(keys);
        let rows = rows.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        // A row without an identity can't be referred to.
        Ok(rows.into_iter().filter_map(|(key, identity)| Some((key, Cell::Text(identity?)))).collect())
    }

    async fn alike(&mut self, table: &Table, rows: &[&Pending]) -> Result<Vec<Alike>, Failure> {
        let place = place(&self.component, &self.schema, &self.known, table);
        adoption::alike(&mut self.tx, &place, rows).await.map_err(|error| failure(&self.errors, error))
    }

    /// A value that doesn't fit its column's type is found by the statement.
    async fn contested(&mut self, table: &Table, rows: &[&Pending]) -> Result<BTreeMap<usize, Fault>, Failure> {
        self.savepoint().await?;
        let place = place(&self.component, &self.schema, &self.known, table);
        match contested::contested(&mut self.tx, &place, rows).await.map_err(|error| failure(&self.errors, error)) {
            Ok(found) => self.release().await.map(|()| found),
            Err(Failure::Data(_)) => self.rollback_to().await.map(|()| BTreeMap::new()),
            Err(other) => Err(other),
        }
    }

    async fn run(&mut self, operation: Operation, table: &Table, rows: &[&Pending]) -> Result<(), Failure> {
        let place = place(&self.component, &self.schema, &self.known, table);
        let wrong = |error| failure(&self.errors, error);
        if operation == Operation::Delete {
            return rows::delete(&mut self.tx, &place, rows).await.map_err(wrong);
        }
        let adopting: Vec<&Pending> = rows.iter().copied().filter(|row| row.adopts).collect();
        if !adopting.is_empty() {
            let adopted = adoption::adopt(&mut self.tx, &place, &adopting).await.map_err(wrong)?;
            if adopted != adopting.len() as u64 {
                return Err(Failure::Again(format!("rows of {} to be adopted have changed", table.name)));
            }
        }
        let written = rows::upsert(&mut self.tx, &place, rows, &mut self.staged).await.map_err(wrong)?;
        if written != rows.len() as u64 {
            return Err(Failure::Again(format!("somebody else wrote rows of {}", table.name)));
        }
        Ok(())
    }

    async fn outdate(&mut self, table: &Table, keys: &[&str]) -> Result<(), Failure> {
        let sql = place(&self.component, &self.schema, &self.known, table).outdate_sql();
        let statement = sqlx::query(AssertSqlSafe(sql)).bind(keys);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn vacate(&mut self, table: &Table, rows: &[&Pending]) -> Result<(), Failure> {
        let place = place(&self.component, &self.schema, &self.known, table);
        rows::vacate(&mut self.tx, &place, rows).await.map_err(|error| failure(&self.errors, error))
    }

    async fn explain(&mut self, table: &Table, row: &Pending, mut fault: Fault) -> Result<Fault, Failure> {
        let known = self.known.clone();
        let Some(existing) = known.tables.get(&table.name) else { return Ok(fault) };
        if let FaultKind::Unique(names) = &mut fault.kind
            && let Some(columns) = names.first().and_then(|constraint| existing.uniques.get(constraint))
        {
            fault.text = format!("{}: another row has the same {}", table.name, columns.join(", "));
            names.clone_from(columns);
        }
        if fault.kind == FaultKind::Value {
            for (column, cell) in table.columns.iter().zip(row.cells()) {
                let Some(there) = existing.columns.get(&column.name) else { continue };
                let Some(text) = rows::text(cell) else { continue };
                let named = format!("{}.{}", table.name, column.name);
                if let Some(length) = there.length {
                    if text.chars().count() > length {
                        fault.text = format!("{named} takes at most {length} characters");
                        break;
                    }
                } else if !self.fits(text, &there.full).await? {
                    fault.text = format!("{named} takes {} only", there.full);
                    break;
                }
            }
        }
        Ok(fault)
    }

    async fn remember_deleted(&mut self, topic: &str, gone: &[(&str, u32, i64)]) -> Result<(), Failure> {
        if gone.is_empty() {
            return Ok(());
        }
        let sql = "insert into muster.deleted select $1, $2, s.key, s.partition, s.version, now()
            from unnest($3::text[], $4::int[], $5::bigint[]) as s (key, partition, version)
            on conflict (component, topic, key) do update
                set version = excluded.version, at = excluded.at, partition = excluded.partition";
        let statement = sqlx::query(sql)
            .bind(&*self.component)
            .bind(topic)
            .bind(gone.iter().map(|(key, _, _)| *key).collect::<Vec<_>>())
            .bind(gone.iter().map(|(_, partition, _)| *partition as i32).collect::<Vec<_>>())
            .bind(gone.iter().map(|(_, _, version)| *version).collect::<Vec<_>>());
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn forget_life(&mut self, at: &TopicPartition) -> Result<(), Failure> {
        for sql in [
            "delete from muster.deleted where component = $1 and topic = $2 and partition = $3",
            "delete from muster.parked where component = $1 and topic = $2 and partition = $3",
        ] {
            let statement = sqlx::query(sql).bind(&*self.component).bind(&*at.topic).bind(at.partition as i32);
            statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        }
        Ok(())
    }

    async fn forget_deleted(&mut self, topic: &str, keys: &[&str]) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let sql = "delete from muster.deleted where component = $1 and topic = $2 and key = any($3)";
        let statement = sqlx::query(sql).bind(&*self.component).bind(topic).bind(keys);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn purge_deleted(&mut self, older_than_ms: i64) -> Result<(), Failure> {
        let sql = "delete from muster.deleted where component = $1 and at < now() - $2 * interval '1 millisecond'";
        let statement = sqlx::query(sql).bind(&*self.component).bind(older_than_ms);
        statement.execute(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        Ok(())
    }

    async fn park(&mut self, rows: &[Parked]) -> Result<(), Failure> {
        let done = parked::park(&mut self.tx, &self.component, rows).await;
        done.map_err(|error| self.wrong(error))
    }

    async fn parked(&mut self, mine: &[Mine], which: Which, limit: u32) -> Result<Vec<Parked>, Failure> {
        let rows = parked::next(&mut self.tx, &self.component, mine, which, limit).await;
        rows.map_err(|error| self.wrong(error))
    }

    async fn still_parked(&mut self, rows: &[Parked]) -> Result<(), Failure> {
        let done = parked::still(&mut self.tx, &self.component, rows).await;
        done.map_err(|error| self.wrong(error))
    }

    async fn unpark(&mut self, topic: &str, rows: &[(&str, i64)]) -> Result<(), Failure> {
        let done = parked::unpark(&mut self.tx, &self.component, topic, rows).await;
        done.map_err(|error| self.wrong(error))
    }

    async fn waiting(&mut self, mine: &[Mine]) -> Result<(u64, u64), Failure> {
        let count = parked::waiting(&mut self.tx, &self.component, mine).await;
        count.map_err(|error| self.wrong(error))
    }

    async fn expired(&mut self, mine: &[Mine], older_than_ms: i64, limit: u32) -> Result<Vec<Parked>, Failure> {
        let rows = parked::expired(&mut self.tx, &self.component, mine, older_than_ms, limit).await;
        rows.map_err(|error| self.wrong(error))
    }

    async fn held(&mut self, table: &Table, after: Option<&str>, limit: u32) -> Result<Vec<Held>, Failure> {
        let Ours { from, key, version, hash } = self.ours(table);
        let behind = if after.is_some() { ">" } else { ">=" };
        let sql = format!(
            "(select {key} as key, coalesce({version}, 0) as version, {hash} as hash, 1 as place from {from}
                where {key} {behind} $1 order by {key} limit $2)
            union all
            (select key, version, hash, 0 from muster.parked
                where component = $3 and topic = $4 and key {behind} $1 and body is not null order by key limit $2)
            order by key, place limit $2"
        );
        let statement = sqlx::query_as::<_, (String, i64, Option<String>, i32)>(AssertSqlSafe(sql))
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit))
            .bind(&*self.component)
            .bind(table.topic());
        let rows = statement.fetch_all(&mut *self.tx).await.map_err(|error| self.wrong(error))?;
        let held = rows.into_iter().map(|(key, version, hash, _)| Held {
            key: Key::from(key),
            version: Version(version),
            gone: hash.as_deref() == Some(GONE),
            hash: hash.and_then(|hash| hash.parse().ok()),
        });
        Ok(held.collect())
    }

    async fn contents(&mut self, table: &Table, rows: &[Expected<'_>]) -> Result<BTreeMap<String, Contents>, Failure> {
        let place = place(&self.component, &self.schema, &self.known, table);
        compare::contents(&mut self.tx, &place, rows).await.map_err(|error| failure(&self.errors, error))
    }

    async fn marked(&mut self, table: &Table, keys: &[&str]) -> Result<BTreeSet<String>, Failure> {
        let place = place(&self.component, &self.schema, &self.known, table);
        compare::marked(&mut self.tx, &place, keys).await.map_err(|error| failure(&self.errors, error))
    }

    async fn savepoint(&mut self) -> Result<(), Failure> {
        self.raw("savepoint part").await
    }

    async fn rollback_to(&mut self) -> Result<(), Failure> {
        self.raw("rollback to savepoint part; release savepoint part").await
    }

    async fn release(&mut self) -> Result<(), Failure> {
        self.raw("release savepoint part").await
    }

    async fn rollback(self: Box<Self>) -> Result<(), Failure> {
        let errors = self.errors;
        self.tx.rollback().await.map_err(|error| failure(&errors, error))
    }

    async fn commit(self: Box<Self>) -> Result<(), Failure> {
        let errors = self.errors;
        self.tx.commit().await.map_err(|error| match failure(&errors, error) {
            Failure::Data(fault) => {
                let hint = "a constraint trigger fires at COMMIT only: make it immediate";
                errors.refused(format!("at COMMIT: {}", fault.text), hint).into()
            }
            other => other,
        })
    }
}
