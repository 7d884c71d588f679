//! The Parquet of one dataset: how a file is written, and how several become one.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

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

/// A row group has at most so many rows and about so many bytes: what a reader holds, and a writer, before it is written.
const GROUP_ROWS: usize = 256 << 10;
const GROUP_BYTES: usize = 8 << 20;

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

/// One file with the row groups of these, one file after the other, copied as they are.
pub(super) fn join<W: Write + Send>(files: &[PathBuf], out: W) -> Result<W, SnapshotError> {
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
