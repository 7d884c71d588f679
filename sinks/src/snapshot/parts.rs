//! The windows' parts. Rows wait in a scratch file of their window until all have passed by; then each window's files are made of
//! them, a few windows at a time. Were the files of all windows written while the rows pass by, each would have its compressors,
//! and its table a dictionary and a compressor for every column: the more windows the more memory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use pipeline::snapshot::{Coding, Form, Object};

use super::SnapshotError;
use super::config::Materialise;
use super::lists::{Lists, scratch_error};
use super::parquet::writer;
use super::write::Pass;

/// What a scratch file is written and read through.
const BUFFER: usize = 32 << 10;

/// Rows, each in the file of its window, while they pass by.
pub(super) struct Waiting {
    columns: SchemaRef,
    scratch: PathBuf,
    /// By window; made when the first row comes.
    files: Vec<Option<StreamWriter<BufWriter<File>>>>,
}

impl Waiting {
    pub fn new(columns: &SchemaRef, windows: usize, scratch: &Path) -> Self {
        let files = (0..windows).map(|_| None).collect();
        Self { columns: Arc::clone(columns), scratch: scratch.to_owned(), files }
    }

    /// Adds rows, each to its window.
    pub fn push(&mut self, rows: &RecordBatch, windows: &[Option<usize>]) -> Result<(), SnapshotError> {
        let mut of: Vec<Vec<u32>> = vec![Vec::new(); self.files.len()];
        for (row, window) in windows.iter().enumerate() {
            if let Some(window) = window {
                of[*window].push(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        for (window, picked) in of.into_iter().enumerate().filter(|(_, picked)| !picked.is_empty()) {
            let part = take_record_batch(rows, &UInt32Array::from(picked))?;
            self.file(window)?.write(&part).map_err(waiting_error)?;
        }
        Ok(())
    }

    fn file(&mut self, window: usize) -> Result<&mut StreamWriter<BufWriter<File>>, SnapshotError> {
        let path = self.path(window);
        let open = &mut self.files[window];
        Ok(match open {
            Some(file) => file,
            None => {
                let file = BufWriter::with_capacity(BUFFER, File::create(path).map_err(scratch_error)?);
                open.insert(StreamWriter::try_new(file, &self.columns).map_err(waiting_error)?)
            }
        })
    }

    fn path(&self, window: usize) -> PathBuf {
        self.scratch.join(format!("rows-{window}"))
    }

    /// By window: where its rows are; `None`: it has none.
    pub fn finish(mut self) -> Result<Vec<Option<PathBuf>>, SnapshotError> {
        let mut paths = Vec::with_capacity(self.files.len());
        for window in 0..self.files.len() {
            let Some(mut file) = self.files[window].take() else {
                paths.push(None);
                continue;
            };
            // It flushes what it writes through, too.
            file.finish().map_err(waiting_error)?;
            paths.push(Some(self.path(window)));
        }
        Ok(paths)
    }
}

/// Makes and stores the files of a window of the rows that wait, so many, which don't wait any longer then.
pub(super) fn store(
    pass: &Pass<'_>,
    window: usize,
    waiting: Option<&Path>,
    records: u64,
) -> Result<Vec<Object>, SnapshotError> {
    let name = format!("part-{:03}", window + 1);
    let begin = |path: String| match pass.settings.materialise {
        Materialise::Nothing => pass.uploads.begin(&path),
        // Depths are joined of the copies.
        Materialise::All | Materialise::Depths(_) => pass.uploads.begin_with_copy(&path, &pass.copy_of(&path)),
    };
    let mut lists = Lists::new(pass.settings, |coding| begin(pass.names.json(&name, coding)))?;
    let mut table = writer(begin(pass.names.parquet(&name))?, &pass.columns)?;
    if let Some(waiting) = waiting {
        read_back(waiting, records, |rows| {
            pass.check_stop()?;
            lists.push(&pass.renderer.render(rows)?, rows.num_rows()).map_err(scratch_error)?;
            Ok(table.write(rows)?)
        })?;
        std::fs::remove_file(waiting).map_err(scratch_error)?;
    }
    let mut objects = lists.store().map_err(scratch_error)?;
    let table = table.into_inner()?;
    objects.push(table.finish(Form::Parquet, Coding::Identity, None).map_err(scratch_error)?);
    Ok(objects)
}

/// Hands over the rows of a file, which must be so many.
fn read_back(
    waiting: &Path,
    records: u64,
    mut take: impl FnMut(&RecordBatch) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let from = BufReader::with_capacity(BUFFER, File::open(waiting).map_err(scratch_error)?);
    let mut read = 0;
    for rows in StreamReader::try_new(from, None).map_err(waiting_error)? {
        let rows = rows.map_err(waiting_error)?;
        read += rows.num_rows() as u64;
        take(&rows)?;
    }
    // A stream that ends between two messages, or goes on with zeros, is a whole one to its reader.
    if read == records {
        return Ok(());
    }
    let text = format!("{} has {read} rows instead of {records}", waiting.display());
    Err(scratch_error(io::Error::new(io::ErrorKind::UnexpectedEof, text)))
}

/// A full disk isn't the columns' fault.
fn waiting_error(error: ArrowError) -> SnapshotError {
    match error {
        ArrowError::IoError(_, source) => SnapshotError::Scratch { source },
        other => SnapshotError::Columns(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    /// The file of a window that has so many batches of two rows.
    fn written(scratch: &Path, batches: u32) -> PathBuf {
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["worker-1", "worker-2"]));
        let rows = RecordBatch::try_from_iter([("_key", keys)]).unwrap();
        let mut waiting = Waiting::new(&rows.schema(), 1, scratch);
        for _ in 0..batches {
            waiting.push(&rows, &[Some(0), Some(0)]).unwrap();
        }
        waiting.finish().unwrap().remove(0).unwrap()
    }

    #[test]
    fn a_file_that_lost_its_end_is_not_taken_for_a_whole_one() {
        /// "No more follows", which the stream ends with.
        const END: u64 = 8;
        let scratch = tempfile::tempdir().unwrap();
        let first_ends = written(scratch.path(), 1).metadata().unwrap().len() - END;
        let path = written(scratch.path(), 2);
        let whole = path.metadata().unwrap().len();
        read_back(&path, 4, |_| Ok(())).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // Cut off behind the first batch; then with zeros in place of the second.
        for length in [first_ends, whole] {
            file.set_len(length).unwrap();
            let mut read = 0;
            let error = read_back(&path, 4, |rows| {
                read += rows.num_rows();
                Ok(())
            });
            let error = error.unwrap_err();
            assert!(matches!(error, SnapshotError::Scratch { .. }), "{error}");
            assert!(error.to_string().contains("2 rows instead of 4"), "{error}");
            assert_eq!(read, 2);
        }
    }
}
