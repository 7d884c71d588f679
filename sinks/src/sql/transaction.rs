//! What the two databases do differently: one open transaction, seen from [`super::write`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pipeline::change::Epoch;
use pipeline::log::{Offset, TopicPartition};
use pipeline::sink::{Held, Stored};
use pipeline::state::Landmark;
use schemas::Key;

use super::cell::Cell;
use super::compare::{Contents, Expected};
use super::failure::{Failure, Fault};
use super::plan::{Catalog, Plan};
use super::survey::Survey;
use super::table::Table;

/// A change on its way to its table.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Whose fate it is: the place in the list of fates.
    pub(super) tag: usize,
    /// Place in [`super::table::Tables`].
    pub(super) table: usize,
    /// Of the topic.
    pub(super) partition: u32,
    pub(super) key: Key,
    pub(super) version: i64,
    pub(super) hash: Option<String>,
    /// Wins whatever its version.
    pub(super) forced: bool,
    /// One per column; parents by their keys, until these are looked up. `None`: delete.
    pub(super) cells: Option<Vec<Cell>>,
}

/// An item that must be written, with what the target holds of its key.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) item: Item,
    pub(super) state: State,
    /// Where cells hold parents' identities: the parents' keys, which stood there before.
    pub(super) parents: Vec<(usize, String)>,
    /// Places of the columns by which a row of somebody else's is recognised.
    pub(super) by: Vec<usize>,
    /// A row of somebody else's is taken over.
    pub(super) adopts: bool,
}

/// Which of the rows that wait are tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    /// Those that were tried fewer times than this.
    pub(super) tries: i64,
    /// Also those that wait for others' rows to go.
    pub(super) held: bool,
}

/// Rows that aren't ours and look like an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Alike {
    /// How many could be adopted: 0, 1, or 2 for more.
    pub(super) adoptable: u8,
    /// There is one that never can be.
    pub(super) theirs: bool,
}

impl Pending {
    pub(super) fn of(item: Item, state: State) -> Self {
        Self { item, state, parents: Vec::new(), by: Vec::new(), adopts: false }
    }

    /// The key of the parent that a column refers to.
    pub(super) fn parent_key(&self, place: usize) -> Option<&str> {
        self.parents.iter().find(|(at, _)| *at == place).map(|(_, key)| key.as_str())
    }

    pub(super) fn cells(&self) -> &[Cell] {
        self.item.cells.as_deref().unwrap_or_default()
    }
}

/// What the target holds of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) row: Option<HeldRow>,
    /// The version of a hard delete.
    pub(super) deleted: Option<i64>,
    pub(super) parked: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldRow {
    /// `None`: adopted and never written, or outdated.
    pub(super) version: Option<i64>,
    pub(super) hash: Option<String>,
}

impl State {
    /// The newest version that arrived here, applied or not.
    pub(super) fn newest(&self) -> Option<i64> {
        // What is parked was newer than all else when it came, or stood above versions by a sweep.
        self.parked.or_else(|| self.applied())
    }

    /// The newest version that was carried out.
    pub(super) fn applied(&self) -> Option<i64> {
        self.row.as_ref().and_then(|row| row.version).max(self.deleted)
    }
}

/// What is kept of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffsetRow {
    /// Empty until the first batch.
    pub(super) incarnation: String,
    /// Below 0: a sweep begins again.
    pub(super) next: i64,
    /// Of the record right below `next`.
    pub(super) print: Option<i64>,
    pub(super) epoch: i64,
    pub(super) at_ms: i64,
    pub(super) sweeping: bool,
}

/// How far a partition's offset is to move.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) at: TopicPartition,
    /// What must stand there.
    pub(super) expected: i64,
    pub(super) to: OffsetRow,
}

/// A parked change, as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) key: Key,
    pub(super) version: i64,
    pub(super) hash: Option<String>,
    pub(super) forced: bool,
    /// Schema text and Avro body; `None`: delete.
    pub(super) payload: Option<(String, Vec<u8>)>,
    pub(super) code: String,
    pub(super) reason: String,
    /// Waiting won't help: becomes a dead letter next time.
    pub(super) hopeless: bool,
}

/// What a statement does to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Delete,
    Upsert,
}

/// A partition and the epoch under which it is ours.
pub(super) type Mine = (TopicPartition, Epoch);

/// What a database says about itself and about us.
#[derive(Debug, Default)]
pub(super) struct About {
    /// As in `PostgreSQL 16.11`.
    pub(super) version: String,
    /// `None`: it has no clock of its own.
    pub(super) now: Option<DateTime<Utc>>,
    /// What stands in the way of writing.
    pub(super) denied: Vec<String>,
    /// What stands in the way of creating or altering tables; matters only where something is missing.
    pub(super) denied_to_create: Vec<String>,
}

/// A database.
#[async_trait]
pub(super) trait Database: Send + Sync {
    /// What is there.
    async fn catalog(&self) -> Result<Catalog, Failure>;
    /// What the mapped tables hold. Changes nothing.
    async fn survey(&self) -> Result<Vec<Survey>, Failure>;
    /// Who answers, and what it won't let us do. Changes nothing.
    async fn about(&self) -> Result<About, Failure>;
    /// What must be done so that the tables can be written.
    fn plan(&self, catalog: &Catalog) -> Plan;
    /// Works the plan out again under a lock and carries it out whole or not at all.
    async fn migrate(&self) -> Result<Plan, Failure>;
    /// Remembers column types for the statements.
    fn learn(&self, catalog: &Catalog);
    async fn begin(&self) -> Result<Box<dyn Transaction>, Failure>;
    /// One consistent look; holds nobody up.
    async fn begin_reading(&self) -> Result<Box<dyn Transaction>, Failure>;
    /// Why a value can't be written whatever its column; checked before anything is sent.
    fn unwritable(&self, text: &str) -> Option<&'static str>;
}

/// An open transaction. Dropped without [`commit`](Self::commit), it never happened.
#[async_trait]
pub(super) trait Transaction: Send {
    /// Takes a partition over: the epoch is mine unless a later one stands there. Answers what is there now: of a sweep that
    /// wasn't finished, [nothing](OffsetRow::next).
    async fn take_over(&mut self, at: &TopicPartition, epoch: i64) -> Result<OffsetRow, Failure>;
    /// Moves the offsets that nothing else has moved, and answers which these are.
    async fn advance(&mut self, steps: &[Step]) -> Result<HashSet<TopicPartition>, Failure>;
    /// What is kept of a partition; nobody changes it until the transaction ends.
    async fn offset(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure>;
    /// As [`offset`](Self::offset), but others go on changing it.
    async fn offset_now(&mut self, at: &TopicPartition) -> Result<Option<OffsetRow>, Failure>;
    /// Sets the offset whatever stands there. Only after [`offset`](Self::offset).
    async fn place(&mut self, at: &TopicPartition, to: &OffsetRow) -> Result<(), Failure>;

    /// What the target holds of these keys, each of them once, in their order.
    async fn states(&mut self, table: &Table, keys: &[&str]) -> Result<Vec<State>, Failure>;
    /// The identities of the rows with these keys.
    async fn identities(&mut self, parent: &Table, keys: &[&str]) -> Result<HashMap<String, Cell>, Failure>;
    /// Rows that aren't ours and have the same values in the columns [`Pending::by`], for each item.
    async fn alike(&mut self, table: &Table, rows: &[&Pending]) -> Result<Vec<Alike>, Failure>;
    /// Those of the rows that can't be written now, because another row, or an earlier one of them, has a value that only
    /// one may have; by tag. May find none although there are some: then the statement fails.
    async fn contested(&mut self, table: &Table, rows: &[&Pending]) -> Result<BTreeMap<usize, Fault>, Failure>;
    /// Deletes or upserts all rows, or fails. Rows are sorted by key.
    async fn run(&mut self, operation: Operation, table: &Table, rows: &[&Pending]) -> Result<(), Failure>;
    /// Takes the versions of the rows of these keys: every version is newer from now on.
    async fn outdate(&mut self, table: &Table, keys: &[&str]) -> Result<(), Failure>;
    /// Empties the [contested](Table::contested) columns of these rows, which are there.
    async fn vacate(&mut self, table: &Table, rows: &[&Pending]) -> Result<(), Failure>;
    /// Says more exactly what is wrong with the only row of a failed statement.
    async fn explain(&mut self, table: &Table, row: &Pending, fault: Fault) -> Result<Fault, Failure>;

    async fn remember_deleted(&mut self, topic: &str, gone: &[(&str, u32, i64)]) -> Result<(), Failure>;
    /// Forgets what was deleted in another life of the partition, and what waits since then: versions of two lives don't
    /// compare, and everything is read again.
    async fn forget_life(&mut self, at: &TopicPartition) -> Result<(), Failure>;
    async fn forget_deleted(&mut self, topic: &str, keys: &[&str]) -> Result<(), Failure>;
    async fn purge_deleted(&mut self, older_than_ms: i64) -> Result<(), Failure>;

    async fn park(&mut self, rows: &[Parked]) -> Result<(), Failure>;
    /// Parked rows of my partitions, least often tried first.
    async fn parked(&mut self, mine: &[Mine], which: Which, limit: u32) -> Result<Vec<Parked>, Failure>;
    /// The same rows are still waiting.
    async fn still_parked(&mut self, rows: &[Parked]) -> Result<(), Failure>;
    async fn unpark(&mut self, topic: &str, rows: &[(&str, i64)]) -> Result<(), Failure>;
    /// How many of my partitions' rows are waiting, and how many of them for others' rows to go.
    async fn waiting(&mut self, mine: &[Mine]) -> Result<(u64, u64), Failure>;
    /// Rows that have waited longer than this, or are hopeless; but not those that wait for others' rows to go.
    async fn expired(&mut self, mine: &[Mine], older_than_ms: i64, limit: u32) -> Result<Vec<Parked>, Failure>;

    /// Keys after `after` (from the first one without), in the order of their bytes: rows, those that are marked as
    /// deleted among them, and parked rows. A key may come twice, parked first.
    async fn held(&mut self, table: &Table, after: Option<&str>, limit: u32) -> Result<Vec<Held>, Failure>;

    /// What is different in the rows of these keys; those that aren't there, or are as they should be, are left out.
    async fn contents(&mut self, table: &Table, rows: &[Expected<'_>]) -> Result<BTreeMap<String, Contents>, Failure>;
    /// Those of the keys whose rows are marked as gone.
    async fn marked(&mut self, table: &Table, keys: &[&str]) -> Result<BTreeSet<String>, Failure>;

    async fn savepoint(&mut self) -> Result<(), Failure>;
    async fn rollback_to(&mut self) -> Result<(), Failure>;
    async fn release(&mut self) -> Result<(), Failure>;
    async fn rollback(self: Box<Self>) -> Result<(), Failure>;
    async fn commit(self: Box<Self>) -> Result<(), Failure>;
}

impl OffsetRow {
    /// `None` where nothing was ever written.
    pub(super) fn stored(&self) -> Option<Stored> {
        let written = !self.incarnation.is_empty();
        written.then(|| Stored {
            incarnation: pipeline::change::Incarnation(self.incarnation.clone()),
            next: Offset(self.next),
            landmark: self.print.map(|print| Landmark { offset: Offset(self.next - 1), print: print.cast_unsigned() }),
            at_ms: self.at_ms,
            sweeping: self.sweeping,
        })
    }
}
