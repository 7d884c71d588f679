//! Carries changes out inside one transaction: judges versions, orders deletes and upserts, finds bad rows by halves,
//! parks what must wait. The same for both databases.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pipeline::reject::Reason;

use super::cell::Cell;
use super::exchange;
use super::failure::{Failure, Fault, FaultKind, reason};
use super::isolate::{Care, alike, isolated};
use super::table::{Column, GONE, Table, Tables};
use super::transaction::{Alike, HeldRow, Item, Operation, Pending, State, Transaction};

/// Rows that wait for rows of the same transaction are tried again this often: the depth of a tree that arrives at once.
const ROUNDS: usize = 16;

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Unchanged,
    Stale,
    Parked(Reason),
    Rejected(Reason),
}

/// What became of the items, by tag. After [`write`], the whole batch is in it.
pub(super) type Fates = BTreeMap<usize, Fate>;

/// Writes what [`judge`] has left of a batch and tries `waiting` rows again, none of which has a key of the batch: its
/// change decides what becomes of the waiting one. Rejected items leave the transaction good for nothing but a rollback.
pub(super) async fn write(
    tx: &mut dyn Transaction,
    tables: &Tables,
    batch: Vec<Pending>,
    waiting: Vec<Item>,
    care: Care,
    fates: &mut Fates,
) -> Result<(), Failure> {
    let mut parked = round(tx, tables, batch, care, fates).await?;
    let waiting = judge(tx, tables, waiting, true, fates).await?;
    parked.extend(waiting.into_iter().map(|(item, state)| Pending::of(item, state)));
    let parked = rounds(tx, tables, parked, fates).await?;
    let parked = exchange::succeed(tx, tables, parked, fates).await?;
    exchange::swap(tx, tables, parked, fates).await
}

/// Tries rows again for as long as that settles some. Answers what must wait.
pub(super) async fn rounds(
    tx: &mut dyn Transaction,
    tables: &Tables,
    mut parked: Vec<Pending>,
    fates: &mut Fates,
) -> Result<Vec<Pending>, Failure> {
    for _ in 0..ROUNDS {
        if parked.is_empty() {
            break;
        }
        let before = parked.len();
        parked = round(tx, tables, parked, Care::Careful, fates).await?;
        if parked.len() == before {
            break;
        }
    }
    Ok(parked)
}

/// What can be judged by the target's state of its key, before it is decoded.
pub(super) trait Judged: Keyed {
    fn tag(&self) -> usize;
    fn table(&self) -> usize;
    fn version(&self) -> i64;
    /// Wins whatever its version.
    fn forced(&self) -> bool;
    /// Whether these are the contents; only asked where [`Self::forced`].
    fn is_same(&self, held: &HeldRow) -> bool;
}

impl Judged for Item {
    fn tag(&self) -> usize {
        self.tag
    }

    fn table(&self) -> usize {
        self.table
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn forced(&self) -> bool {
        self.forced
    }

    fn is_same(&self, held: &HeldRow) -> bool {
        match &self.cells {
            Some(_) => held.hash.is_some() && held.hash == self.hash,
            None => held.hash.as_deref() == Some(GONE),
        }
    }
}

/// Settles what the target has already, or has newer. The rest must be written; by table, sorted by key.
pub(super) async fn judge<T: Judged>(
    tx: &mut dyn Transaction,
    tables: &Tables,
    items: Vec<T>,
    was_parked: bool,
    fates: &mut Fates,
) -> Result<Vec<(T, State)>, Failure> {
    let mut pending = Vec::with_capacity(items.len());
    for (place, items) in by_table(items, |item| item.table()) {
        let table = &tables.0[place];
        let keys: Vec<&str> = items.iter().map(|item| item.key().as_str()).collect();
        let states = tx.states(table, &keys).await?;
        let mut settled: Vec<(String, i64)> = Vec::new();
        for (item, state) in items.into_iter().zip(states) {
            let known = if was_parked { state.applied() } else { state.newest() };
            match verdict(&item, &state, known) {
                Some(fate) => {
                    if was_parked {
                        settled.push((item.key().as_str().to_owned(), item.version()));
                    }
                    fates.insert(item.tag(), fate);
                }
                None => pending.push((item, state)),
            }
        }
        let settled: Vec<_> = settled.iter().map(|(key, version)| (key.as_str(), *version)).collect();
        tx.unpark(table.topic(), &settled).await?;
    }
    Ok(pending)
}

/// `None`: write it.
fn verdict(item: &impl Judged, state: &State, known: Option<i64>) -> Option<Fate> {
    let known = known?;
    if item.forced() {
        let same_row = |row: &HeldRow| row.version == Some(item.version()) && item.is_same(row);
        let nothing_else = state.deleted.is_none() && state.parked.is_none();
        return (nothing_else && state.row.as_ref().is_some_and(same_row)).then_some(Fate::Unchanged);
    }
    match item.version().cmp(&known) {
        std::cmp::Ordering::Less => Some(Fate::Stale),
        std::cmp::Ordering::Equal => Some(Fate::Unchanged),
        std::cmp::Ordering::Greater => None,
    }
}

/// Child deletes, parent deletes, parent upserts, child upserts. Answers what must wait.
async fn round(
    tx: &mut dyn Transaction,
    tables: &Tables,
    pending: Vec<Pending>,
    care: Care,
    fates: &mut Fates,
) -> Result<Vec<Pending>, Failure> {
    let (puts, deletes): (Vec<_>, Vec<_>) = pending.into_iter().partition(|row| row.item.cells.is_some());
    let mut parked = Vec::new();
    for (place, rows) in by_table(deletes, |row| row.item.table).into_iter().rev() {
        parked.extend(delete(tx, &tables.0[place], rows, care, fates).await?);
    }
    for (place, rows) in by_table(puts, |row| row.item.table) {
        parked.extend(put(tx, tables, &tables.0[place], rows, care, fates).await?);
    }
    Ok(parked)
}

async fn delete(
    tx: &mut dyn Transaction,
    table: &Table,
    rows: Vec<Pending>,
    care: Care,
    fates: &mut Fates,
) -> Result<Vec<Pending>, Failure> {
    let there: Vec<&Pending> = rows.iter().filter(|row| row.state.row.is_some()).collect();
    let faults = isolated(tx, Operation::Delete, table, &there, care).await?;
    let mut parked = Vec::new();
    let mut gone = Vec::new();
    for row in rows {
        match faults.get(&row.item.tag) {
            None => {
                let was_there = row.state.row.as_ref().is_some_and(|held| held.hash.as_deref() != Some(GONE));
                fates.insert(row.item.tag, if was_there { Fate::Delivered } else { Fate::Unchanged });
                gone.push(row);
            }
            Some(fault) => set_aside(row, verdict_of(table, fault, reason::STILL_REFERRED_TO), fates, &mut parked),
        }
    }
    // A soft-deleted row keeps its version itself.
    let hard = gone.iter().filter(|row| table.soft().is_none() || row.state.row.is_none());
    let hard: Vec<_> = hard.map(|row| (row.item.key.as_str(), row.item.partition, row.item.version)).collect();
    tx.remember_deleted(table.topic(), &hard).await?;
    unpark(tx, table, gone.iter()).await?;
    Ok(parked)
}

pub(super) async fn put(
    tx: &mut dyn Transaction,
    tables: &Tables,
    table: &Table,
    rows: Vec<Pending>,
    care: Care,
    fates: &mut Fates,
) -> Result<Vec<Pending>, Failure> {
    let mut parked = Vec::new();
    let rows = find_parents(tx, tables, table, rows, fates, &mut parked).await?;
    let rows = recognise(tx, table, rows, care, fates, &mut parked).await?;
    let all: Vec<&Pending> = rows.iter().collect();
    let faults = isolated(tx, Operation::Upsert, table, &all, care).await?;
    let mut written = Vec::new();
    for row in rows {
        match faults.get(&row.item.tag) {
            None => {
                fates.insert(row.item.tag, Fate::Delivered);
                written.push(row);
            }
            Some(fault) => set_aside(row, verdict_of(table, fault, reason::MISSING_PARENT), fates, &mut parked),
        }
    }
    let revived = written.iter().filter(|row| row.state.deleted.is_some());
    let revived: Vec<_> = revived.map(|row| row.item.key.as_str()).collect();
    tx.forget_deleted(table.topic(), &revived).await?;
    unpark(tx, table, written.iter()).await?;
    Ok(parked)
}

async fn unpark(tx: &mut dyn Transaction, table: &Table, rows: impl Iterator<Item = &Pending>) -> Result<(), Failure> {
    let settled = rows.filter_map(|row| Some((row.item.key.as_str(), row.state.parked?)));
    let settled: Vec<_> = settled.collect();
    tx.unpark(table.topic(), &settled).await
}

/// Puts parents' identities in the place of their keys. Rows without their parent wait.
async fn find_parents(
    tx: &mut dyn Transaction,
    tables: &Tables,
    table: &Table,
    mut rows: Vec<Pending>,
    fates: &mut Fates,
    parked: &mut Vec<Pending>,
) -> Result<Vec<Pending>, Failure> {
    if !table.has_parents() {
        return Ok(rows);
    }
    for row in rows.iter_mut().filter(|row| row.parents.is_empty()) {
        let referring = table.columns.iter().enumerate().filter(|(_, column)| column.refers.is_some());
        let key_at = |(place, _): (usize, &Column)| Some((place, row.cells()[place].as_text()?));
        row.parents = referring.filter_map(key_at).collect();
    }
    for (place, column) in table.columns.iter().enumerate() {
        let Some(entity) = &column.refers else { continue };
        // The mapping was checked: the entity has a table.
        let Some(parent) = tables.of_entity(entity) else { continue };
        let keys: BTreeSet<&str> = rows.iter().filter_map(|row| row.parent_key(place)).collect();
        let keys: Vec<&str> = keys.into_iter().collect();
        let identities = tx.identities(parent, &keys).await?;
        let mut found = Vec::with_capacity(rows.len());
        for mut row in rows {
            let identity = row.parent_key(place).map(|key| identities.get(key));
            match identity {
                None => found.push(row),
                Some(None) => {
                    let waits = Fate::Parked(reason::missing_parent(&table.name, &column.name, entity));
                    set_aside(row, waits, fates, parked);
                }
                Some(Some(identity)) => {
                    if let Some(cells) = &mut row.item.cells {
                        cells[place] = identity.clone();
                    }
                    found.push(row);
                }
            }
        }
        rows = found;
    }
    Ok(rows)
}

/// Finds rows that are already there and aren't ours.
async fn recognise(
    tx: &mut dyn Transaction,
    table: &Table,
    mut rows: Vec<Pending>,
    care: Care,
    fates: &mut Fates,
    parked: &mut Vec<Pending>,
) -> Result<Vec<Pending>, Failure> {
    for row in &mut rows {
        row.adopts = false;
        row.by = table.recognised_by(row.cells());
    }
    if table.matching.is_empty() {
        return Ok(rows);
    }
    // Null equals null, but a row with nothing else to go by would be like any other.
    let new: Vec<&Pending> = rows.iter().filter(|row| row.state.row.is_none() && !row.by.is_empty()).collect();
    let (mut found, mut faults) = alike(tx, table, &new, care).await?;
    // What a row is recognised by can have changed since somebody else wrote it: then its identity says which it was.
    if let Some(identity) = table.identity() {
        let like_none = |row: &&mut Pending| found.get(&row.item.tag) == Some(&Alike::default());
        let mut changed = Vec::new();
        for row in rows.iter_mut().filter(like_none) {
            if !row.by.contains(&identity) && row.cells()[identity] != Cell::Null {
                row.by = vec![identity];
                changed.push(row.item.tag);
            }
        }
        let changed: Vec<&Pending> = rows.iter().filter(|row| changed.contains(&row.item.tag)).collect();
        let (more, wrong) = alike(tx, table, &changed, care).await?;
        found.extend(more);
        faults.extend(wrong);
    }
    let mut taken: HashSet<Vec<(usize, Option<String>)>> = HashSet::new();
    let mut left = Vec::with_capacity(rows.len());
    for mut row in rows {
        if let Some(fault) = faults.get(&row.item.tag) {
            set_aside(row, verdict_of(table, fault, reason::MISSING_PARENT), fates, parked);
            continue;
        }
        let columns = || row.by.iter().map(|place| &*table.columns[*place].name).collect::<Vec<_>>().join(", ");
        match found.get(&row.item.tag).copied().unwrap_or_default() {
            Alike { theirs: true, .. } => {
                let fate = Fate::Parked(reason::held_by_others(&table.name, &columns()));
                set_aside(row, fate, fates, parked);
            }
            Alike { adoptable: 0, .. } => left.push(row),
            Alike { adoptable: 1, .. } => {
                let values = row.by.iter().map(|place| (*place, table.compared(*place, &row.cells()[*place])));
                // The first of a batch gets the row; the next one is a row of its own, or a contradiction.
                row.adopts = taken.insert(values.collect());
                left.push(row);
            }
            Alike { .. } => {
                let fate = Fate::Rejected(reason::ambiguous(&table.name, &columns()));
                set_aside(row, fate, fates, parked);
            }
        }
    }
    Ok(left)
}

fn set_aside(row: Pending, fate: Fate, fates: &mut Fates, parked: &mut Vec<Pending>) {
    let waits = matches!(fate, Fate::Parked(_));
    fates.insert(row.item.tag, fate);
    if waits {
        parked.push(row);
    }
}

fn verdict_of(table: &Table, fault: &Fault, reference: &'static str) -> Fate {
    let because = |code| Reason::new(code, fault.text.clone());
    match &fault.kind {
        FaultKind::Reference => Fate::Parked(because(reference)),
        FaultKind::Unique(columns) if table.is_natural_key(columns) => Fate::Parked(because(reason::CONTRADICTION)),
        FaultKind::Unique(_) => Fate::Rejected(because("unique_violation")),
        FaultKind::NotNull => Fate::Rejected(because("null_not_allowed")),
        FaultKind::Check => Fate::Rejected(because("check_violation")),
        FaultKind::Value => Fate::Rejected(because("value_refused")),
    }
}

/// By table, parents first, each sorted by key so that two writers meet the rows in the same order.
pub(super) fn by_table<T: Keyed>(rows: Vec<T>, table: impl Fn(&T) -> usize) -> Vec<(usize, Vec<T>)> {
    let mut tables: BTreeMap<usize, Vec<T>> = BTreeMap::new();
    for row in rows {
        tables.entry(table(&row)).or_default().push(row);
    }
    for rows in tables.values_mut() {
        rows.sort_by(|a, b| a.key().cmp(b.key()));
    }
    tables.into_iter().collect()
}

pub(super) trait Keyed {
    fn key(&self) -> &schemas::Key;
}

impl Keyed for Item {
    fn key(&self) -> &schemas::Key {
        &self.key
    }
}

impl Keyed for Pending {
    fn key(&self) -> &schemas::Key {
        &self.item.key
    }
}
