//! Merges the rows of the previous generation with what has changed since, in the order of the keys, batch by batch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::interleave;
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use schemas::{Reader, Schema, Value};

use super::SnapshotError;
use super::adapt::Adapter;
use super::base::Rows;
use super::columns::{self, CHANGED, KEY, VERSION};
use super::runs::{Change, Sorted};
use super::windows::ChangeRule;

/// A batch has at most so many rows, and about so many bytes.
const ROWS: usize = 4096;
const BYTES: usize = 3 << 20;

/// Changes that are decoded at once.
const DECODED_BYTES: usize = 2 << 20;

/// A batch is made of rows of so many others at most.
const SOURCES: usize = 4;

/// A key that isn't there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deletion {
    pub key: String,
    pub version: i64,
    /// In microseconds.
    pub at: i64,
}

/// What is decided beforehand.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub change: ChangeRule,
    /// The topic was read whole, to be compared: it is right whatever its versions, and what it hasn't is deleted.
    pub sweeping: bool,
    /// There were readers before: they must hear of deletions.
    pub tell_deletions: bool,
    /// Deletions before this are forgotten. In microseconds.
    pub forget_before: i64,
    /// When a key was deleted that is missed in a sweep. In microseconds.
    pub missed_at: i64,
}

/// Rows in order, with deletions that lie between them.
pub(super) struct Merged {
    /// All columns.
    pub rows: RecordBatch,
    /// The time of each row's change, in microseconds.
    pub changed: Vec<i64>,
    pub deleted: Vec<Deletion>,
}

/// What became of it all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Rows as they were.
    pub kept: u64,
    pub written: u64,
    pub deleted: u64,
    /// Records that weren't newer than what is held.
    pub stale: u64,
    /// Records of a sweep that say what is held.
    pub unchanged: u64,
    /// Keys that a sweep missed.
    pub missed: u64,
}

/// Merges. Called from a thread that may wait.
pub(super) struct Merge {
    columns: SchemaRef,
    base: Option<BaseCursor>,
    deleted: Option<DeletedCursor>,
    changes: ChangeCursor,
    rule: Rule,
    pub tally: Tally,
}

impl Merge {
    /// `base` and `deleted` are what the previous generation held; `schemas` what values were written with, by id.
    pub fn new(
        schema: &Arc<Schema>,
        base: Option<(Rows, Adapter)>,
        deleted: Option<Rows>,
        changes: Sorted,
        schemas: &HashMap<u32, Arc<Schema>>,
        changed_by: &[String],
        rule: Rule,
    ) -> Result<Self, SnapshotError> {
        let columns = columns::columns(schema);
        let change = rule.change;
        let base = base.map(|(rows, adapter)| BaseCursor { rows, adapter, rule: change, now: None, ended: false });
        let deleted = deleted.map(|rows| DeletedCursor { rows, rule: change, now: None });
        let changes = ChangeCursor::new(schema, changes, schemas, changed_by, rule.change)?;
        Ok(Self { columns, base, deleted, changes, rule, tally: Tally::default() })
    }

    /// How many changes were superseded while they were sorted.
    pub fn superseded(&self) -> u64 {
        self.changes.sorted.superseded
    }

    /// The next rows; `None`: that was all.
    pub fn next(&mut self) -> Result<Option<Merged>, SnapshotError> {
        let mut out = Picked::default();
        let mut deleted = Vec::new();
        loop {
            let begins_another = self.begins_another();
            let full = out.rows.len() >= ROWS || out.bytes >= BYTES || deleted.len() >= ROWS;
            if full || (begins_another && out.sources.len() >= SOURCES) {
                break;
            }
            if let Some(base) = &mut self.base {
                base.fill()?;
            }
            if let Some(deleted) = &mut self.deleted {
                deleted.fill()?;
            }
            self.changes.fill()?;
            let base_key = self.base.as_ref().and_then(BaseCursor::key);
            let gone_key = self.deleted.as_ref().and_then(DeletedCursor::key);
            let change_key = self.changes.key();
            let Some(key) = [base_key, gone_key, change_key].into_iter().flatten().min() else {
                if out.rows.is_empty() && deleted.is_empty() {
                    return Ok(None);
                }
                break;
            };
            let here = |of: Option<&str>| of == Some(key);
            let (in_base, in_gone, in_changes) = (here(base_key), here(gone_key), here(change_key));
            self.step(in_base, in_gone, in_changes, &mut out, &mut deleted);
        }
        out.finish(&self.columns).map(|(rows, changed)| Some(Merged { rows, changed, deleted }))
    }

    /// Whether the next row may come from a batch that isn't read yet.
    fn begins_another(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.now.is_none() && !base.ended)
            || (self.changes.now.is_none() && !self.changes.ended)
    }

    /// Decides on one key, which is in these places, and moves past it.
    fn step(&mut self, in_base: bool, in_gone: bool, in_changes: bool, out: &mut Picked, deleted: &mut Vec<Deletion>) {
        let base = if in_base { self.base.as_mut().and_then(BaseCursor::take) } else { None };
        let gone = if in_gone { self.deleted.as_mut().and_then(DeletedCursor::take) } else { None };
        let change = if in_changes { self.changes.take() } else { None };
        let held = base.as_ref().map(|row| row.version).max(gone.as_ref().map(|gone| gone.version));
        let is_newer = |version: i64| self.rule.sweeping || held.is_none_or(|held| version > held);
        let Some(change) = change else {
            match (base, gone) {
                (Some(row), _) if self.rule.sweeping => {
                    self.tally.missed += 1;
                    deleted.push(Deletion { key: row.key(), version: row.version, at: self.rule.missed_at });
                }
                (Some(row), _) => {
                    self.tally.kept += 1;
                    out.pick(row);
                }
                (None, Some(gone)) => deleted.extend((gone.at >= self.rule.forget_before).then_some(gone)),
                (None, None) => {}
            }
            return;
        };
        if !is_newer(change.version) {
            self.tally.stale += 1;
            match (base, gone) {
                (Some(row), _) => {
                    self.tally.kept += 1;
                    out.pick(row);
                }
                (None, gone) => deleted.extend(gone.filter(|gone| gone.at >= self.rule.forget_before)),
            }
            return;
        }
        match change.row {
            Some(mut row) => {
                // What a sweep reads again has changed when it changed.
                let as_before = base.filter(|base| self.rule.sweeping && base.says_the_same(&row));
                match as_before {
                    Some(base) => {
                        self.tally.unchanged += 1;
                        row.changed = base.changed;
                    }
                    None => self.tally.written += 1,
                }
                out.pick(row);
            }
            None => {
                let was_there = base.is_some();
                self.tally.deleted += 1;
                // A tombstone that a sweep meets again says nothing new.
                let known = gone.filter(|_| self.rule.sweeping);
                let at = known.as_ref().map_or(change.changed, |gone| gone.at);
                let is_told = (self.rule.tell_deletions || was_there) && at >= self.rule.forget_before;
                if is_told {
                    deleted.push(Deletion { key: change.key, version: change.version, at });
                }
            }
        }
    }
}

/// One row of a batch, and what is known of it.
struct Row {
    of: Arc<Source>,
    at: usize,
    version: i64,
    changed: i64,
}

/// A batch that rows are picked from: the fields and the key, without the other columns of the snapshot.
struct Source {
    fields: Vec<ArrayRef>,
    keys: StringArray,
    /// What a row takes, on average.
    each: usize,
}

impl Source {
    fn new(fields: Vec<ArrayRef>, keys: StringArray) -> Arc<Self> {
        let bytes: usize = fields.iter().map(|array| array.get_array_memory_size()).sum();
        let each = bytes / keys.len().max(1);
        Arc::new(Self { fields, keys, each })
    }
}

impl Row {
    fn key(&self) -> String {
        self.of.keys.value(self.at).to_owned()
    }

    fn says_the_same(&self, other: &Row) -> bool {
        let pairs = self.of.fields.iter().zip(&other.of.fields);
        pairs.into_iter().all(|(a, b)| a.slice(self.at, 1) == b.slice(other.at, 1))
    }
}

/// Rows that make up the next batch.
#[derive(Default)]
struct Picked {
    sources: Vec<Arc<Source>>,
    rows: Vec<(usize, usize)>,
    versions: Vec<i64>,
    changed: Vec<i64>,
    bytes: usize,
}

impl Picked {
    fn pick(&mut self, row: Row) {
        let known = self.sources.iter().rposition(|source| Arc::ptr_eq(source, &row.of));
        let source = known.unwrap_or_else(|| {
            self.sources.push(Arc::clone(&row.of));
            self.sources.len() - 1
        });
        self.bytes += row.of.each;
        self.rows.push((source, row.at));
        self.versions.push(row.version);
        self.changed.push(row.changed);
    }

    fn finish(self, columns: &SchemaRef) -> Result<(RecordBatch, Vec<i64>), SnapshotError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.fields().len());
        // All rows of one batch as they stand: nothing to copy.
        let first = self.rows.first().copied().unwrap_or_default();
        let is_slice = self.rows.iter().enumerate().all(|(nth, row)| *row == (first.0, first.1 + nth));
        for column in 0..columns.fields().len() - 3 {
            arrays.push(match self.sources.get(first.0) {
                None => arrow::array::new_empty_array(columns.field(column).data_type()),
                Some(source) if is_slice => source.fields[column].slice(first.1, self.rows.len()),
                Some(_) => {
                    let of: Vec<&dyn Array> =
                        self.sources.iter().map(|source| source.fields[column].as_ref()).collect();
                    interleave(&of, &self.rows)?
                }
            });
        }
        let keys = self.rows.iter().map(|(source, row)| self.sources[*source].keys.value(*row));
        arrays.push(Arc::new(StringArray::from_iter_values(keys)));
        arrays.push(Arc::new(Int64Array::from(self.versions)));
        arrays.push(Arc::new(TimestampMicrosecondArray::from(self.changed.clone()).with_timezone("UTC")));
        Ok((RecordBatch::try_new(Arc::clone(columns), arrays)?, self.changed))
    }
}

/// The rows of the previous generation.
struct BaseCursor {
    rows: Rows,
    adapter: Adapter,
    rule: ChangeRule,
    now: Option<Held>,
    ended: bool,
}

struct Held {
    source: Arc<Source>,
    versions: Int64Array,
    changed: TimestampMicrosecondArray,
    at: usize,
}

impl BaseCursor {
    fn fill(&mut self) -> Result<(), SnapshotError> {
        while self.now.is_none() && !self.ended {
            match self.rows.next()? {
                None => self.ended = true,
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => {
                    let keys = named(&batch, KEY)?.as_string_opt::<i32>().cloned();
                    let versions = named(&batch, VERSION)?.as_primitive_opt::<Int64Type>().cloned();
                    let changed = named(&batch, CHANGED)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
                    let (Some(keys), Some(versions), Some(changed)) = (keys, versions, changed) else {
                        return Err(damaged("the snapshot's own columns have other types"));
                    };
                    let source = Source::new(self.adapter.adapt(&batch)?, keys);
                    self.now = Some(Held { source, versions, changed, at: 0 });
                }
            }
        }
        Ok(())
    }

    fn key(&self) -> Option<&str> {
        self.now.as_ref().map(|held| held.source.keys.value(held.at))
    }

    fn take(&mut self) -> Option<Row> {
        let held = self.now.as_mut()?;
        let row = Row {
            of: Arc::clone(&held.source),
            at: held.at,
            version: held.versions.value(held.at),
            changed: self.rule.held(held.changed.value(held.at)),
        };
        held.at += 1;
        if held.at == held.versions.len() {
            self.now = None;
        }
        Some(row)
    }
}

/// A column by its name.
pub(super) fn named<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, SnapshotError> {
    batch.column_by_name(name).ok_or_else(|| damaged(&format!("it has no column {name}")))
}

fn damaged(reason: &str) -> SnapshotError {
    SnapshotError::Damaged { path: "the previous generation".into(), reason: reason.to_owned() }
}

/// When a key was deleted, in the list of deletions.
pub(super) const DELETED_AT: &str = "_deleted_at";

/// The keys that were deleted before.
struct DeletedCursor {
    rows: Rows,
    rule: ChangeRule,
    now: Option<(StringArray, Int64Array, TimestampMicrosecondArray, usize)>,
}

impl DeletedCursor {
    fn fill(&mut self) -> Result<(), SnapshotError> {
        while self.now.is_none() {
            let Some(batch) = self.rows.next()? else { return Ok(()) };
            let keys = named(&batch, KEY)?.as_string_opt::<i32>().cloned();
            let versions = named(&batch, VERSION)?.as_primitive_opt::<Int64Type>().cloned();
            let at = named(&batch, DELETED_AT)?.as_primitive_opt::<TimestampMicrosecondType>().cloned();
            let (Some(keys), Some(versions), Some(at)) = (keys, versions, at) else {
                return Err(damaged("the columns of the deletions have other types"));
            };
            self.now = (!keys.is_empty()).then_some((keys, versions, at, 0));
        }
        Ok(())
    }

    fn key(&self) -> Option<&str> {
        self.now.as_ref().map(|(keys, _, _, at)| keys.value(*at))
    }

    fn take(&mut self) -> Option<Deletion> {
        let (keys, versions, times, next) = self.now.as_mut()?;
        let row = *next;
        let at = ChangeRule { strict: false, ..self.rule }.held(times.value(row));
        let gone = Deletion { key: keys.value(row).to_owned(), version: versions.value(row), at };
        *next += 1;
        if *next == keys.len() {
            self.now = None;
        }
        Some(gone)
    }
}

/// A change that is decoded.
struct Decoded {
    key: String,
    version: i64,
    changed: i64,
    /// `None`: deleted.
    row: Option<Row>,
}

/// The changes, decoded some at a time.
struct ChangeCursor {
    schema: Arc<Schema>,
    sorted: Sorted,
    readers: HashMap<u32, Reader>,
    /// The places of the fields that say when a record changed.
    changed_by: Vec<usize>,
    rule: ChangeRule,
    now: Option<VecDeque<Decoded>>,
    ended: bool,
}

impl ChangeCursor {
    fn new(
        schema: &Arc<Schema>,
        sorted: Sorted,
        schemas: &HashMap<u32, Arc<Schema>>,
        changed_by: &[String],
        rule: ChangeRule,
    ) -> Result<Self, SnapshotError> {
        let mut readers = HashMap::with_capacity(schemas.len());
        for (id, writer) in schemas {
            let reader =
                Reader::new(Arc::clone(writer), Arc::clone(schema)).map_err(|error| SnapshotError::Dataset {
                    reason: format!("values that were written with schema {id} can't be read: {error}"),
                    hint: "give the dataset a topic whose schemas are compatible".into(),
                })?;
            readers.insert(*id, reader);
        }
        let changed_by = changed_by.iter().filter_map(|name| Some(schema.field(name)?.0)).collect();
        Ok(Self { schema: Arc::clone(schema), sorted, readers, changed_by, rule, now: None, ended: false })
    }

    fn fill(&mut self) -> Result<(), SnapshotError> {
        if self.now.is_some() || self.ended {
            return Ok(());
        }
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while changes.len() < ROWS && bytes < DECODED_BYTES {
            let next = self.sorted.next().map_err(|source| SnapshotError::Scratch { source })?;
            let Some(change) = next else { break };
            bytes += change.body.as_ref().map_or(0, Vec::len) + change.key.len();
            changes.push(change);
        }
        if changes.is_empty() {
            self.ended = true;
            return Ok(());
        }
        self.now = Some(self.decode(changes)?.into());
        Ok(())
    }

    fn decode(&self, changes: Vec<Change>) -> Result<Vec<Decoded>, SnapshotError> {
        let mut records: Vec<Vec<Value<'_>>> = Vec::with_capacity(changes.len());
        for change in &changes {
            let Some(body) = &change.body else { continue };
            let reader =
                self.readers.get(&change.schema).ok_or_else(|| unreadable(change, "its schema isn't known"))?;
            let values = reader.read(body).map_err(|fault| unreadable(change, &fault.to_string()))?;
            records.push(values);
        }
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for (place, field) in self.schema.fields().iter().enumerate() {
            let values: Vec<Option<&Value<'_>>> =
                records.iter().map(|record| columns::present(&record[place])).collect();
            arrays.push(columns::array(&field.kind, &values)?);
        }
        let times: Vec<Option<i64>> = records.iter().map(|record| self.own_time(record)).collect();
        drop(records);
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let with_rows = changes.iter().filter(|change| change.body.is_some());
        let source = Source::new(arrays, StringArray::from_iter_values(with_rows.map(|change| text(&change.key))));
        let mut decoded = Vec::with_capacity(changes.len());
        let mut at = 0;
        for change in changes {
            let (version, is_row) = (change.version, change.body.is_some());
            let own = if is_row { times[at] } else { None };
            let changed = if is_row {
                self.rule.time(own, change.captured, change.initial)
            } else {
                // A deletion has no time of its own: strict or not, readers who were there before must hear of it.
                ChangeRule { strict: false, ..self.rule }.time(None, change.captured, false)
            };
            let row = is_row.then(|| Row { of: Arc::clone(&source), at, version, changed });
            at += usize::from(is_row);
            decoded.push(Decoded { key: text(&change.key), version, changed, row });
        }
        Ok(decoded)
    }

    /// By the record's own account, in microseconds.
    fn own_time(&self, record: &[Value<'_>]) -> Option<i64> {
        self.changed_by.iter().find_map(|place| match record[*place] {
            Value::Timestamp { micros } | Value::LocalTimestamp { micros } => Some(micros),
            Value::Date(days) => Some(i64::from(days) * 86_400_000_000),
            _ => None,
        })
    }

    fn key(&self) -> Option<&str> {
        Some(self.now.as_ref()?.front()?.key.as_str())
    }

    fn take(&mut self) -> Option<Decoded> {
        let now = self.now.as_mut()?;
        let taken = now.pop_front();
        if now.is_empty() {
            self.now = None;
        }
        taken
    }
}

/// Keys may name people: the place in the topic isn't known here, the length of the key is.
fn unreadable(change: &Change, why: &str) -> SnapshotError {
    SnapshotError::Dataset {
        reason: format!("the value of version {} (schema {}) can't be decoded: {why}", change.version, change.schema),
        hint: "something other than muster writes this topic: have the record deleted or written again".into(),
    }
}
