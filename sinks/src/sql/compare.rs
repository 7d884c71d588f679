//! How rows differ from what the topic says of their keys. The databases compare, and answer columns' names only:
//! values stay where they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use pipeline::change::Version;
use pipeline::log::TopicPartition;
use pipeline::sink::{Delivery, Held, SinkError, Stored};
use pipeline::verify::{Difference, Found, Inspect};
use schemas::{Key, Topic};

use super::SqlSink;
use super::cell::Cell;
use super::decode::Arrival;
use super::failure::Failure;
use super::table::{GONE, MUSTER_HASH, Table};
use super::transaction::{State, Transaction};

/// A row as it should be.
pub(super) struct Expected<'a> {
    pub(super) key: &'a str,
    /// One per column, parents' identities in the place of their keys.
    pub(super) cells: Vec<Cell>,
}

/// What the contents of a row show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The places of owned columns that say something else.
    pub(super) different: Vec<usize>,
    /// The column that says that a row is gone isn't empty.
    pub(super) marked: bool,
}

/// What is compared with a row.
struct Wanted<'a> {
    place: usize,
    change: &'a Delivery,
    /// `None`: gone, or the target can't take it.
    cells: Option<Vec<Cell>>,
    /// Places of columns whose parents have no row.
    orphaned: Vec<usize>,
}

#[async_trait]
impl Inspect for SqlSink {
    async fn stored(&self, topic: &Topic) -> Result<BTreeMap<u32, Stored>, SinkError> {
        self.prepare_to_look().await?;
        let mut stored = BTreeMap::new();
        let Some(place) = self.tables.of_topic(&topic.name) else { return Ok(stored) };
        let mut tx = self.database.begin_reading().await.map_err(|failure| self.stop(failure))?;
        for partition in 0..self.tables.0[place].subject.partitions {
            let at = TopicPartition::new(topic.name.as_str(), partition);
            let row = tx.offset_now(&at).await.map_err(|failure| self.stop(failure))?;
            stored.extend(row.and_then(|row| Some((partition, row.stored()?))));
        }
        tx.rollback().await.map_err(|failure| self.stop(failure))?;
        Ok(stored)
    }

    async fn compare(&self, topic: &Topic, changes: &[Delivery]) -> Result<Vec<Found>, SinkError> {
        self.prepare_to_look().await?;
        let Some(place) = self.tables.of_topic(&topic.name) else { return Ok(Vec::new()) };
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.database.begin_reading().await.map_err(|failure| self.stop(failure))?;
        let found = self.compare_in(&mut *tx, place, changes).await.map_err(|failure| self.stop(failure))?;
        tx.rollback().await.map_err(|failure| self.stop(failure))?;
        Ok(found)
    }

    async fn rows(&self, topic: &Topic, after: Option<&Key>, limit: usize) -> Result<Vec<Held>, SinkError> {
        self.prepare_to_look().await?;
        let Some(place) = self.tables.of_topic(&topic.name) else { return Ok(Vec::new()) };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut tx = self.database.begin_reading().await.map_err(|failure| self.stop(failure))?;
        let rows = tx.held(&self.tables.0[place], after.map(Key::as_str), limit).await;
        let mut rows = rows.map_err(|failure| self.stop(failure))?;
        tx.rollback().await.map_err(|failure| self.stop(failure))?;
        // The parked change of a key comes before its row.
        rows.dedup_by(|row, parked| row.key == parked.key);
        Ok(rows)
    }
}

impl SqlSink {
    /// Whoever only looks creates and alters nothing.
    async fn prepare_to_look(&self) -> Result<(), SinkError> {
        if self.ready.get().is_none() {
            let plan = self.plan().await?;
            if !plan.is_empty() {
                let hint = "run `muster plan` to see every statement and what stands in the way";
                return Err(self.errors.refused("the tables lack something, so there is nothing to compare", hint));
            }
        }
        self.prepare().await
    }

    async fn compare_in(
        &self,
        tx: &mut dyn Transaction,
        place: usize,
        changes: &[Delivery],
    ) -> Result<Vec<Found>, Failure> {
        let table = &self.tables.0[place];
        let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        let states: HashMap<&str, State> = keys.iter().copied().zip(tx.states(table, &keys).await?).collect();
        let mut wanted = Vec::with_capacity(changes.len());
        for (tag, change) in changes.iter().enumerate() {
            let partition = table.partition_of(&change.key);
            let arrival = Arrival { tag, place, partition, delivery: change, forced: false };
            // One that can't be made a row was set aside: only its version can be compared.
            let cells = self.decoder.item(&self.tables, &arrival, &*self.database).ok().and_then(|item| item.cells);
            wanted.push(Wanted { place: tag, change, cells, orphaned: Vec::new() });
        }
        self.find_parents_of(tx, table, &mut wanted).await?;

        // Contents are compared where the right version is held: others differ anyway, and may be what the columns can't
        // take.
        let held = |change: &Delivery| {
            let row = states.get(change.key.as_str()).and_then(|state| state.row.as_ref());
            row.is_some_and(|row| row.version == Some(change.version.0) && row.hash.as_deref() != Some(GONE))
        };
        let rows: Vec<Expected<'_>> = wanted
            .iter_mut()
            .filter(|row| held(row.change))
            .filter_map(|row| Some(Expected { key: row.change.key.as_str(), cells: row.cells.take()? }))
            .collect();
        let contents = tx.contents(table, &rows).await?;
        let marks: Vec<&str> =
            changes.iter().filter(|change| change.payload.is_none()).map(|change| change.key.as_str()).collect();
        let marked = if table.soft().is_some() { tx.marked(table, &marks).await? } else { BTreeSet::new() };
        let mut found = Vec::new();
        for row in wanted {
            let key = row.change.key.as_str();
            let state = states.get(key).cloned().unwrap_or_default();
            let contents = contents.get(key).cloned().unwrap_or_default();
            let difference = match &row.change.payload {
                None => extra(row.change, &state, table.soft().is_some() && !marked.contains(key)),
                Some(_) => difference(table, &row, &state, contents),
            };
            found.extend(difference.map(|difference| Found { place: row.place, difference }));
        }
        Ok(found)
    }

    /// Puts parents' identities in the place of their keys, as the sink does when it writes.
    async fn find_parents_of(
        &self,
        tx: &mut dyn Transaction,
        table: &Table,
        rows: &mut [Wanted<'_>],
    ) -> Result<(), Failure> {
        for (place, column) in table.columns.iter().enumerate() {
            let Some(parent) = column.refers.as_ref().and_then(|entity| self.tables.of_entity(entity)) else {
                continue;
            };
            let key_of = |row: &Wanted<'_>| row.cells.as_ref().and_then(|cells| cells[place].as_text());
            let keys: BTreeSet<String> = rows.iter().filter_map(key_of).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let identities = tx.identities(parent, &keys).await?;
            for row in rows.iter_mut() {
                let Some(key) = key_of(row) else { continue };
                let Some(cells) = &mut row.cells else { continue };
                match identities.get(&key) {
                    Some(identity) => cells[place] = identity.clone(),
                    None => {
                        // What it should be can't be said: nothing that stands there is right.
                        cells[place] = Cell::Null;
                        row.orphaned.push(place);
                    }
                }
            }
        }
        Ok(())
    }
}

/// How the row of an entity differs.
fn difference(table: &Table, row: &Wanted<'_>, state: &State, contents: Contents) -> Option<Difference> {
    let change = row.change;
    let version = change.version.0;
    let held = state.row.as_ref().filter(|held| held.hash.as_deref() != Some(GONE));
    if held.and_then(|held| held.version) != Some(version) && state.parked == Some(version) {
        return Some(Difference::Waiting);
    }
    let Some(held) = held else {
        // Marked as gone, or deleted, by a change that the topic doesn't have.
        return Some(match state.applied() {
            Some(applied) if applied > version => Difference::Newer { held: Version(applied) },
            _ => Difference::Missing,
        });
    };
    match held.version {
        None => return Some(Difference::Stale { held: None }),
        Some(held) if held < version => return Some(Difference::Stale { held: Some(Version(held)) }),
        Some(held) if held > version => return Some(Difference::Newer { held: Version(held) }),
        Some(_) => {}
    }
    let mut places: BTreeSet<usize> = contents.different.into_iter().collect();
    places.extend(row.orphaned.iter().filter(|place| table.columns[**place].owned));
    let mut columns: Vec<String> = places.into_iter().map(|place| table.columns[place].name.clone()).collect();
    if let Some((column, _)) = table.soft()
        && contents.marked
    {
        columns.push(column.to_owned());
    }
    if held.hash != change.hash.map(|hash| hash.to_string()) {
        columns.push(MUSTER_HASH.to_owned());
    }
    (!columns.is_empty()).then_some(Difference::Columns { columns })
}

/// How the row of an entity that is gone differs.
fn extra(change: &Delivery, state: &State, unmarked: bool) -> Option<Difference> {
    let held = state.row.as_ref()?;
    let version = Version(held.version.unwrap_or_default());
    if held.hash.as_deref() == Some(GONE) {
        return unmarked.then_some(Difference::Extra { held: version });
    }
    // Its deletion waits for rows that refer to it.
    if state.parked == Some(change.version.0) {
        return Some(Difference::Waiting);
    }
    Some(Difference::Extra { held: version })
}
