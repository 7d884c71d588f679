//! Reads a Parquet object of the previous generation, row group by row group, in bounded memory, and checks its digest on the
//! way: what has rotted isn't carried on.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use pipeline::snapshot::{Object, Store, StoreError};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use super::SnapshotError;

/// Most footers are shorter.
const TAIL: u64 = 256 << 10;

/// A batch has about so many bytes, and at most [`ROWS`] rows.
const BATCH_BYTES: u64 = 2 << 20;
const ROWS: u64 = 4096;

/// An object's rows, in order.
pub(super) struct Rows {
    object: Object,
    location: Path,
    store: Store,
    handle: Handle,
    metadata: Arc<ParquetMetaData>,
    arrow: ArrowReaderMetadata,
    /// The end of the object, from here on.
    tail: (u64, Bytes),
    group: usize,
    reading: Option<ParquetRecordBatchReader>,
    digest: Sha256,
    digested: u64,
    ended: bool,
}

impl Rows {
    /// Reads the footer. Called, as [`Self::next`], from a thread that may wait.
    pub fn open(store: &Store, object: &Object, handle: &Handle) -> Result<Self, SnapshotError> {
        unless_it_panics(object, || Self::open_checked(store, object, handle))
    }

    fn open_checked(store: &Store, object: &Object, handle: &Handle) -> Result<Self, SnapshotError> {
        let location = store.path(&object.path).map_err(|error| damaged(object, &error))?;
        let from = object.bytes.saturating_sub(TAIL);
        let mut tail = Piece { start: from, length: object.bytes, bytes: Bytes::new() };
        let mut wanted = from;
        let metadata = loop {
            tail.bytes = fetch(store, &location, object, wanted..object.bytes, handle)?;
            tail.start = wanted;
            let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
            match reader.parse_and_finish(&tail) {
                Ok(metadata) => break metadata,
                Err(ParquetError::NeedMoreData(bytes)) if (bytes as u64) <= object.bytes && wanted > 0 => {
                    wanted = object.bytes.saturating_sub(bytes as u64).min(wanted / 2);
                }
                Err(error) => return Err(damaged(object, &error)),
            }
        };
        let metadata = Arc::new(metadata);
        let arrow = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())
            .map_err(|error| damaged(object, &error))?;
        Ok(Self {
            object: object.clone(),
            location,
            store: store.clone(),
            handle: handle.clone(),
            metadata,
            arrow,
            tail: (tail.start, tail.bytes),
            group: 0,
            reading: None,
            digest: Sha256::new(),
            digested: 0,
            ended: false,
        })
    }

    /// How many rows the footer speaks of.
    pub fn count(&self) -> u64 {
        u64::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0)
    }

    /// The next rows; `None`: that was all, and every byte of it was what the manifest says.
    pub fn next(&mut self) -> Result<Option<RecordBatch>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let object = self.object.clone();
        unless_it_panics(&object, || self.read())
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, SnapshotError> {
        loop {
            if let Some(reading) = &mut self.reading {
                match reading.next() {
                    Some(Ok(batch)) => return Ok(Some(batch)),
                    Some(Err(error)) => return Err(damaged(&self.object, &error)),
                    None => self.reading = None,
                }
            }
            if self.group == self.metadata.num_row_groups() {
                self.check_digest()?;
                self.ended = true;
                return Ok(None);
            }
            self.open_group()?;
        }
    }

    fn open_group(&mut self) -> Result<(), SnapshotError> {
        let group = self.metadata.row_group(self.group);
        let ranges = group.columns().iter().map(|column| column.byte_range());
        let end = ranges.map(|(start, length)| start.saturating_add(length)).max().unwrap_or(0);
        if end < self.digested || end > self.object.bytes {
            return Err(damaged(&self.object, &"its row groups aren't in order"));
        }
        let bytes = fetch(&self.store, &self.location, &self.object, self.digested..end, &self.handle)?;
        self.digest.update(&bytes);
        let piece = Piece { start: self.digested, length: self.object.bytes, bytes };
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        let each = u64::try_from(group.total_byte_size()).unwrap_or(0) / rows + 1;
        let at_once = (BATCH_BYTES / each).clamp(16, ROWS) as usize;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(piece, self.arrow.clone())
            .with_row_groups(vec![self.group])
            .with_batch_size(at_once)
            .build()
            .map_err(|error| damaged(&self.object, &error))?;
        self.reading = Some(reader);
        self.digested = end;
        self.group += 1;
        Ok(())
    }

    /// Ends with what lies behind the last row group.
    fn check_digest(&mut self) -> Result<(), SnapshotError> {
        let (from, tail) = &self.tail;
        if self.digested < *from {
            let between = fetch(&self.store, &self.location, &self.object, self.digested..*from, &self.handle)?;
            self.digest.update(&between);
        }
        let known = self.digested.saturating_sub(*from) as usize;
        self.digest.update(tail.get(known..).unwrap_or_default());
        self.digested = self.object.bytes;
        self.tail = (self.object.bytes, Bytes::new());
        let found = hex(&std::mem::take(&mut self.digest).finalize());
        if found == self.object.sha256 {
            return Ok(());
        }
        Err(damaged(&self.object, &"its digest isn't the one of the manifest"))
    }
}

/// As manifests have digests.
pub(super) fn hex(digest: &[u8]) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that have rotted make the decoder panic here and there, before their digest is known.
fn unless_it_panics<T>(object: &Object, read: impl FnOnce() -> Result<T, SnapshotError>) -> Result<T, SnapshotError> {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(damaged(object, &"its decoder gave up")))
}

fn damaged(object: &Object, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Damaged { path: object.path.clone(), reason: error.to_string() }
}

fn fetch(
    store: &Store,
    location: &Path,
    object: &Object,
    range: Range<u64>,
    handle: &Handle,
) -> Result<Bytes, SnapshotError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let length = range.end - range.start;
    let bytes = handle.block_on(store.objects().get_range(location, range)).map_err(|error| {
        match pipeline::snapshot::failed(&object.path, &error) {
            // Gone, or shorter than it was: as good as unreadable.
            StoreError::Missing { .. } => damaged(object, &"it isn't there"),
            other => SnapshotError::Store(other),
        }
    })?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(damaged(object, &"it is shorter than the manifest says")) }
}

/// A stretch of an object that knows how long the object is.
#[derive(Clone)]
struct Piece {
    start: u64,
    length: u64,
    bytes: Bytes,
}

impl Length for Piece {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Piece {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        use bytes::Buf;
        let from = self.place(start)?;
        Ok(self.bytes.slice(from..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let from = self.place(start)?;
        match from.checked_add(length).filter(|end| *end <= self.bytes.len()) {
            Some(end) => Ok(self.bytes.slice(from..end)),
            None => Err(ParquetError::EOF(format!("{length} bytes at {start} are beyond what was read"))),
        }
    }
}

impl Piece {
    fn place(&self, start: u64) -> Result<usize, ParquetError> {
        let missing = || usize::try_from(self.length.saturating_sub(start)).unwrap_or(usize::MAX);
        let from = start.checked_sub(self.start).ok_or_else(|| ParquetError::NeedMoreData(missing()))?;
        usize::try_from(from)
            .ok()
            .filter(|from| *from <= self.bytes.len())
            .ok_or_else(|| ParquetError::EOF(format!("the place {start} is beyond what was read")))
    }
}
