//! The Parquet of one dataset: the full file, and one for each window.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::SnapshotError;
use super::columns::{CHANGED, KEY, VERSION};
use super::lists::scratch_error;
use super::upload::Upload;

/// A row group has at most so many rows and about so many bytes: what a reader holds, and a writer, before it is written.
const GROUP_ROWS: usize = 256 << 10;
const GROUP_BYTES: usize = 8 << 20;

/// The windows' files together hold so much in memory before the largest row group of them is written.
const PARTS_BYTES: usize = 16 << 20;

/// How files are written: sorted by key, with statistics, zstd at its fastest.
fn properties(columns: &SchemaRef) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES));
    // No two rows share them: a dictionary would be the column once more.
    for name in [KEY, VERSION, CHANGED] {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    // Places of leaves and of columns differ where there are nested ones.
    let is_flat = columns.fields().iter().all(|field| !field.data_type().is_nested());
    if let Some(key) = columns.index_of(KEY).ok().filter(|_| is_flat).and_then(|key| i32::try_from(key).ok()) {
        let by_key = SortingColumn { column_idx: key, descending: false, nulls_first: false };
        properties = properties.set_sorting_columns(Some(vec![by_key]));
    }
    properties.build()
}

/// A new Parquet file of these columns, as snapshots have them.
pub fn writer<W: Write + Send>(out: W, columns: &SchemaRef) -> Result<ArrowWriter<W>, ParquetError> {
    ArrowWriter::try_new(out, Arc::clone(columns), Some(properties(columns)))
}

/// All files of a dataset, while its rows pass by.
pub(super) struct Tables {
    columns: SchemaRef,
    full: ArrowWriter<Upload>,
    /// Made when the first row comes.
    parts: Vec<Option<ArrowWriter<BufWriter<File>>>>,
    scratch: PathBuf,
}

impl Tables {
    pub fn new(columns: &SchemaRef, windows: usize, full: Upload, scratch: &Path) -> Result<Self, SnapshotError> {
        let full = writer(full, columns)?;
        let parts = (0..windows).map(|_| None).collect();
        Ok(Self { columns: Arc::clone(columns), full, parts, scratch: scratch.to_owned() })
    }

    /// Adds rows, and each to its window.
    pub fn push(&mut self, rows: &RecordBatch, windows: &[Option<usize>]) -> Result<(), SnapshotError> {
        self.full.write(rows)?;
        let mut of: Vec<Vec<u32>> = vec![Vec::new(); self.parts.len()];
        for (row, window) in windows.iter().enumerate() {
            if let Some(window) = window {
                of[*window].push(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        for (window, picked) in of.into_iter().enumerate().filter(|(_, picked)| !picked.is_empty()) {
            let part = take_record_batch(rows, &UInt32Array::from(picked))?;
            self.part(window)?.write(&part)?;
        }
        self.keep_small()
    }

    fn part(&mut self, window: usize) -> Result<&mut ArrowWriter<BufWriter<File>>, SnapshotError> {
        let path = self.path(window);
        let open = &mut self.parts[window];
        Ok(match open {
            Some(part) => part,
            None => {
                let file = BufWriter::new(File::create(path).map_err(scratch_error)?);
                open.insert(writer(file, &self.columns)?)
            }
        })
    }

    fn path(&self, window: usize) -> PathBuf {
        self.scratch.join(format!("part-{window}.parquet"))
    }

    fn keep_small(&mut self) -> Result<(), SnapshotError> {
        loop {
            let open = self.parts.iter_mut().flatten();
            let sizes = open.map(|part| (part.memory_size(), part));
            let (mut sum, mut largest) = (0, None);
            for (size, part) in sizes {
                sum += size;
                if largest.as_ref().is_none_or(|(most, _)| size > *most) {
                    largest = Some((size, part));
                }
            }
            match largest {
                Some((size, part)) if sum > PARTS_BYTES && size > 0 => part.flush()?,
                _ => return Ok(()),
            }
        }
    }

    /// Ends all of them: the full file's upload, and the windows' scratch files.
    pub fn finish(mut self) -> Result<(Upload, Vec<PathBuf>), SnapshotError> {
        let mut paths = Vec::with_capacity(self.parts.len());
        for window in 0..self.parts.len() {
            self.part(window)?;
            paths.push(self.path(window));
            if let Some(part) = self.parts[window].take() {
                let file = part.into_inner()?;
                drop(file.into_inner().map_err(io::IntoInnerError::into_error).map_err(scratch_error)?);
            }
        }
        Ok((self.full.into_inner()?, paths))
    }
}

/// One file with the row groups of these, one file after the other, copied as they are.
pub(super) fn join<W: Write + Send>(files: &[&Path], out: W) -> Result<W, SnapshotError> {
    let mut writer: Option<SerializedFileWriter<W>> = None;
    let mut out = Some(out);
    for path in files {
        let file = File::open(path).map_err(scratch_error)?;
        let metadata =
            ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(&file)?;
        let writer = match (&mut writer, out.take()) {
            (Some(writer), _) => writer,
            (None, Some(out)) => {
                let about = metadata.file_metadata();
                let properties =
                    WriterProperties::builder().set_key_value_metadata(about.key_value_metadata().cloned()).build();
                let schema = about.schema_descr().root_schema_ptr();
                writer.insert(SerializedFileWriter::new(out, schema, Arc::new(properties))?)
            }
            (None, None) => return Err(ParquetError::General("no file to write to".into()).into()),
        };
        for (nth, group) in metadata.row_groups().iter().enumerate() {
            let mut copy = writer.next_row_group()?;
            for (column_nth, column) in group.columns().iter().enumerate() {
                let index = metadata.page_index();
                let close = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: index.and_then(|index| index.column_index(nth, column_nth)).cloned(),
                    offset_index: index.and_then(|index| index.offset_index(nth, column_nth)).cloned(),
                };
                copy.append_column(&file, close)?;
            }
            copy.close()?;
        }
    }
    match writer {
        Some(writer) => Ok(writer.into_inner()?),
        None => Err(ParquetError::General("nothing to join".into()).into()),
    }
}
