//! Writes one dataset while its rows pass by once: the full files, the deletions, and the rows of each window into a scratch file;
//! then the windows' parts, and depths as copies of parts. Four threads have the rows: one merges and renders, one each has the full lists
//! (JSON), the full table (Parquet), and the rows that wait.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field as Column, Schema as Columns, SchemaRef};
use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use pipeline::snapshot::{Coding, Form, Object, Set, Window};
use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::SnapshotError;
use super::columns::{KEY, VERSION, moment};
use super::config::SnapshotSettings;
use super::lists::{Lists, Names, scratch_error, store_joined};
use super::merge::{DELETED_AT, Deletion, Merge, Tally};
use super::parquet::{join, writer};
use super::parts::{self, Waiting};
use super::render::{Renderer, text};
use super::several::{joined, several};
use super::upload::{Upload, Uploads};
use super::windows::window_of;

/// Everything that a pass needs beside the rows.
pub(super) struct Pass<'a> {
    pub settings: &'a SnapshotSettings,
    pub names: Names,
    /// Where the windows begin.
    pub begins: Vec<DateTime<Utc>>,
    pub columns: SchemaRef,
    pub renderer: Renderer,
    /// The names of the key's parts.
    pub key_fields: Vec<String>,
    /// A folder of its own.
    pub scratch: &'a Path,
    pub uploads: Uploads,
    /// Told how many rows have passed.
    pub told: &'a (dyn Fn(u64) + Send + Sync),
    pub stop: CancellationToken,
}

/// What a pass came to.
pub(super) struct Written {
    pub full: Set,
    pub windows: Vec<Window>,
    pub deleted: Set,
    pub tally: Tally,
    pub superseded: u64,
}

/// Rows, rendered and assigned to windows.
struct Batch {
    rows: RecordBatch,
    json: Vec<u8>,
    windows: Vec<Option<usize>>,
}

/// How many records, and from when to when they changed.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    records: u64,
    times: Option<(i64, i64)>,
}

impl Span {
    fn add(&mut self, changed: i64) {
        self.records += 1;
        self.times = Some(self.times.map_or((changed, changed), |(min, max)| (min.min(changed), max.max(changed))));
    }

    fn with(self, other: Self) -> Self {
        let times = match (self.times, other.times) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        Self { records: self.records + other.records, times }
    }

    fn set(self, objects: Vec<Object>) -> Set {
        let moment = |micros| DateTime::from_timestamp_micros(micros);
        let (min_changed, max_changed) = match self.times {
            Some((min, max)) => (moment(min), moment(max)),
            None => (None, None),
        };
        Set { records: self.records, min_changed, max_changed, objects }
    }
}

impl Pass<'_> {
    /// Writes it all. Called from a thread that may wait.
    pub fn run(&self, mut merge: Merge) -> Result<Written, SnapshotError> {
        let begins: Vec<i64> = self.begins.iter().map(DateTime::timestamp_micros).collect();
        let full = |coding| self.uploads.begin(&self.names.json("full", coding));
        let mut lists = Lists::new(self.settings, full)?;
        let mut table = writer(self.uploads.begin(&self.names.parquet("full"))?, &self.columns)?;
        let mut waiting = Waiting::new(&self.columns, begins.len(), self.scratch);
        let mut deletions = Deletions::new(self)?;
        let (mut all, mut spans) = (Span::default(), vec![Span::default(); begins.len()]);
        let (to_lists, for_lists) = sync_channel::<Arc<Batch>>(1);
        let (to_table, for_table) = sync_channel::<Arc<Batch>>(1);
        let (to_waiting, for_waiting) = sync_channel::<Arc<Batch>>(1);
        let (lists, table, waiting) = std::thread::scope(|scope| {
            let lists = scope.spawn(move || {
                while let Some(batch) = next(&for_lists) {
                    lists.push(&batch.json, batch.rows.num_rows())?;
                }
                Ok(lists)
            });
            let table = scope.spawn(move || {
                while let Some(batch) = next(&for_table) {
                    table.write(&batch.rows)?;
                }
                Ok(table)
            });
            let waiting = scope.spawn(move || {
                while let Some(batch) = next(&for_waiting) {
                    waiting.push(&batch.rows, &batch.windows)?;
                }
                Ok(waiting)
            });
            let to = [to_lists, to_table, to_waiting];
            let merged = self.merge(&mut merge, &begins, &mut all, &mut spans, &mut deletions, &to);
            drop(to);
            let lists: io::Result<Lists<Upload>> = joined(lists.join());
            let table: Result<ArrowWriter<Upload>, ParquetError> = joined(table.join());
            let waiting: Result<Waiting, SnapshotError> = joined(waiting.join());
            // Why a writer gave up says more than that nobody took the rows.
            let written = (lists.map_err(scratch_error)?, table?, waiting?);
            merged.map(|()| written)
        })?;
        let (superseded, tally) = (merge.superseded(), merge.tally);
        // What it holds of the former files, and the files of the sorted changes, aren't needed any more.
        drop(merge);
        let mut objects = lists.store().map_err(scratch_error)?;
        let table = table.into_inner()?;
        objects.push(table.finish(Form::Parquet, Coding::Identity, None).map_err(scratch_error)?);
        let waiting = waiting.finish()?;
        let (deleted, of_windows) = deletions.finish()?;
        let mut windows = Vec::with_capacity(begins.len());
        for (nth, part) in self.parts(waiting, &spans)?.into_iter().enumerate() {
            windows.push(Window {
                depth: u32::try_from(nth + 1).unwrap_or(u32::MAX),
                from: self.begins[nth],
                part: spans[nth].set(part),
                whole: None,
                deleted: of_windows[nth],
            });
        }
        self.materialise(&mut windows, &spans)?;
        Ok(Written { full: all.set(objects), windows, deleted, superseded, tally })
    }

    fn merge(
        &self,
        merge: &mut Merge,
        begins: &[i64],
        all: &mut Span,
        spans: &mut [Span],
        deletions: &mut Deletions,
        to: &[SyncSender<Arc<Batch>>],
    ) -> Result<(), SnapshotError> {
        while let Some(merged) = merge.next()? {
            self.check_stop()?;
            deletions.add(&merged.deleted, begins)?;
            if merged.rows.num_rows() == 0 {
                continue;
            }
            let mut windows = Vec::with_capacity(merged.changed.len());
            for changed in &merged.changed {
                all.add(*changed);
                let window = window_of(begins, *changed);
                if let Some(window) = window {
                    spans[window].add(*changed);
                }
                windows.push(window);
            }
            let json = self.renderer.render(&merged.rows)?;
            let batch = Arc::new(Batch { rows: merged.rows, json, windows });
            for to in to {
                // A writer that has gone says why when it is joined.
                if to.send(Arc::clone(&batch)).is_err() {
                    return Ok(());
                }
            }
            (self.told)(all.records);
        }
        Ok(())
    }

    /// The windows' parts, from the first window on.
    fn parts(&self, waiting: Vec<Option<PathBuf>>, spans: &[Span]) -> Result<Vec<Vec<Object>>, SnapshotError> {
        let windows: Vec<(usize, Option<PathBuf>)> = waiting.into_iter().enumerate().collect();
        let mut parts = several(windows, |(window, waiting)| {
            self.check_stop()?;
            Ok((window, parts::store(self, window, waiting.as_deref(), spans[window].records)?))
        })?;
        parts.sort_unstable_by_key(|(window, _)| *window);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    /// Depths as objects of their own. One whose newest window alone has records, or that has none more than the one before, is
    /// the same object.
    fn materialise(&self, windows: &mut [Window], spans: &[Span]) -> Result<(), SnapshotError> {
        let wanted = (0..windows.len()).filter(|nth| self.settings.materialise.wants(windows[*nth].depth));
        let filled = |nth: usize| (0..=nth).filter(|window| spans[*window].records > 0).collect::<Vec<_>>();
        let mut several: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
        for nth in wanted.clone() {
            several.entry(filled(nth)).or_insert(windows[nth].depth);
        }
        several.retain(|windows, _| windows.len() > 1);
        let made = self.join_all(several, windows, spans)?;
        for nth in wanted.collect::<Vec<_>>() {
            let whole = match filled(nth).as_slice() {
                [] => windows[0].part.clone(),
                [only] => windows[*only].part.clone(),
                several => made[several].clone(),
            };
            windows[nth].whole = Some(whole);
        }
        Ok(())
    }

    /// The joined parts of each of these lists of windows, with the depth that they are called by: several at a time, for
    /// copies wait for the store and work digests out.
    fn join_all(
        &self,
        lists: BTreeMap<Vec<usize>, u32>,
        windows: &[Window],
        spans: &[Span],
    ) -> Result<BTreeMap<Vec<usize>, Set>, SnapshotError> {
        // The longest is the last one, and begun with first: what is left at the end is short.
        let made = several(lists.into_iter().collect(), |(list, depth)| {
            self.check_stop()?;
            let parts: Vec<&Set> = list.iter().map(|window| &windows[*window].part).collect();
            let span = list.iter().fold(Span::default(), |sum, window| sum.with(spans[*window]));
            let objects = self.joined(depth, &parts)?;
            Ok((list, span.set(objects)))
        })?;
        Ok(made.into_iter().collect())
    }

    fn joined(&self, depth: u32, parts: &[&Set]) -> Result<Vec<Object>, SnapshotError> {
        let name = format!("depth-{depth:03}");
        let mut objects = Vec::with_capacity(self.settings.codings.len() + 1);
        for coding in &self.settings.codings {
            let lists: Vec<&Object> = parts.iter().filter_map(|part| part.object(Form::Json, *coding)).collect();
            objects.push(store_joined(
                &self.uploads,
                &lists,
                |path| self.copy_of(path),
                &self.names.json(&name, *coding),
                *coding,
            )?);
        }
        let tables = parts.iter().filter_map(|part| part.object(Form::Parquet, Coding::Identity));
        let files: Vec<PathBuf> = tables.map(|table| self.copy_of(&table.path)).collect();
        let upload = join(&files, self.uploads.begin(&self.names.parquet(&name))?)?;
        objects.push(upload.finish(Form::Parquet, Coding::Identity, None).map_err(scratch_error)?);
        Ok(objects)
    }

    /// Where a part's bytes lie that is an object of this name.
    pub fn copy_of(&self, path: &str) -> PathBuf {
        self.scratch.join(path.rsplit('/').next().unwrap_or(path))
    }

    pub fn check_stop(&self) -> Result<(), SnapshotError> {
        if self.stop.is_cancelled() { Err(SnapshotError::Stopped) } else { Ok(()) }
    }
}

fn next(batches: &Receiver<Arc<Batch>>) -> Option<Arc<Batch>> {
    batches.recv().ok()
}

/// The list of deletions, as it is written.
struct Deletions {
    columns: SchemaRef,
    lists: Lists<Upload>,
    table: ArrowWriter<Upload>,
    span: Span,
    of_windows: Vec<u64>,
    key_fields: Vec<String>,
}

impl Deletions {
    fn new(pass: &Pass<'_>) -> Result<Self, SnapshotError> {
        let mut columns = vec![
            Column::new(KEY, DataType::Utf8, false),
            Column::new(VERSION, DataType::Int64, false),
            Column::new(DELETED_AT, moment(), false),
        ];
        let is_free = |name: &&String| !["key", "deleted_at", KEY, VERSION, DELETED_AT].contains(&name.as_str());
        let key_fields: Vec<String> = pass.key_fields.iter().filter(is_free).cloned().collect();
        columns.extend(key_fields.iter().map(|name| Column::new(name, DataType::Utf8, true)));
        let columns = Arc::new(Columns::new(columns));
        let lists = Lists::new(pass.settings, |coding| pass.uploads.begin(&pass.names.json("deleted", coding)))?;
        let table = writer(pass.uploads.begin(&pass.names.parquet("deleted"))?, &columns)?;
        let of_windows = vec![0; pass.begins.len()];
        Ok(Self { columns, lists, table, span: Span::default(), of_windows, key_fields })
    }

    fn add(&mut self, deleted: &[Deletion], begins: &[i64]) -> Result<(), SnapshotError> {
        if deleted.is_empty() {
            return Ok(());
        }
        let parts: Vec<Vec<Option<String>>> = deleted.iter().map(|gone| Key::from(gone.key.as_str()).parts()).collect();
        let mut line = Vec::new();
        for (gone, parts) in deleted.iter().zip(&parts) {
            self.span.add(gone.at);
            if let Some(window) = window_of(begins, gone.at) {
                self.of_windows[window] += 1;
            }
            line.clear();
            line.extend_from_slice(b"{\"key\":");
            text(&gone.key, &mut line);
            line.extend_from_slice(b",\"deleted_at\":");
            let at = DateTime::from_timestamp_micros(gone.at).unwrap_or_default();
            text(&at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true), &mut line);
            for (name, part) in self.key_fields.iter().zip(parts) {
                line.push(b',');
                text(name, &mut line);
                line.push(b':');
                match part {
                    Some(part) => text(part, &mut line),
                    None => line.extend_from_slice(b"null"),
                }
            }
            line.push(b'}');
            self.lists.push(&line, 1).map_err(scratch_error)?;
        }
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(deleted.iter().map(|gone| gone.key.as_str()))),
            Arc::new(Int64Array::from_iter_values(deleted.iter().map(|gone| gone.version))),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(deleted.iter().map(|gone| gone.at)).with_timezone("UTC"),
            ),
        ];
        for nth in 0..self.key_fields.len() {
            let part = parts.iter().map(|parts| parts.get(nth).and_then(Option::as_deref));
            arrays.push(Arc::new(part.collect::<StringArray>()));
        }
        self.table.write(&RecordBatch::try_new(Arc::clone(&self.columns), arrays)?)?;
        Ok(())
    }

    fn finish(self) -> Result<(Set, Vec<u64>), SnapshotError> {
        let mut objects = self.lists.store().map_err(scratch_error)?;
        let upload = self.table.into_inner()?;
        objects.push(upload.finish(Form::Parquet, Coding::Identity, None).map_err(scratch_error)?);
        Ok((self.span.set(objects), self.of_windows))
    }
}
