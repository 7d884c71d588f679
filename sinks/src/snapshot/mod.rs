//! Snapshots: all records of a dataset as of one set of offsets, and those that changed in the last days, as files in an
//! object store. The state is the previous generation: `full.parquet`, merged by key with what its topic says since.
//!
//! | file | what it does |
//! |---|---|
//! | `changes`, `runs` | reads a topic since the offsets of the previous generation, and sorts it with bounded memory |
//! | `base`, `adapt` | reads the rows of the previous generation, and brings them into the columns of a newer schema |
//! | `columns` | Avro to Arrow |
//! | `merge`, `windows` | what holds now, when each row changed, and to which day that belongs |
//! | `render` | Arrow to the JSON of the export |
//! | `write`, `parts`, `several` | what is written while the rows pass by, and what afterwards |
//! | `parquet`, `lists`, `upload` | files and objects |
//! | `dataset`, `publish`, `lease`, `scratch` | one dataset of a generation; the generation; who makes it, and where |
//! | `retention`, `verify` | what goes, and whether what is there is right |

mod adapt;
mod base;
mod changes;
mod columns;
mod config;
mod dataset;
mod lease;
mod lists;
mod merge;
mod parquet;
mod parts;
mod publish;
mod render;
mod retention;
mod runs;
mod scratch;
mod several;
mod upload;
pub mod verify;
mod windows;
mod write;

use std::io;

use ::parquet::errors::ParquetError;
use arrow::error::ArrowError;
use pipeline::job::JobError;
use pipeline::log::LogError;
use pipeline::snapshot::StoreError;
use pipeline::state::StateError;

pub use self::config::{DatasetSettings, Materialise, NAME, SnapshotSettings};
pub use self::parquet::writer as table_writer;
pub use self::publish::{DatasetReport, Report, Snapshots};
pub use self::retention::{Pruned, prune};
pub use self::windows::DayRule;

/// Why a snapshot, or a dataset of it, couldn't be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The object store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Muster's own state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The folder for files that lie there while a snapshot is made.
    #[error("a scratch file failed: {source} (is there room? `snapshots.scratch` names another folder)")]
    Scratch {
        /// What the system says.
        source: io::Error,
    },
    /// Columns that don't go together.
    #[error("the columns can't be made: {0}")]
    Columns(#[from] ArrowError),
    /// A Parquet file couldn't be written.
    #[error("a Parquet file can't be written: {0}")]
    Parquet(#[source] ParquetError),
    /// An object of the previous generation isn't what its manifest says: the topic is read whole instead.
    #[error("{path} of the previous generation can't be used: {reason}")]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// This dataset can't be made now; others can.
    #[error("{reason} ({hint})")]
    Dataset {
        /// What is wrong.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// Somebody else is making one.
    #[error("{holder} is making a snapshot, and has until {until} to say that it still does")]
    Busy {
        /// Who.
        holder: String,
        /// When nobody believes it any more.
        until: chrono::DateTime<chrono::Utc>,
    },
    /// Others were first, again and again.
    #[error("others published {times} generations meanwhile")]
    Overtaken {
        /// How often.
        times: u32,
    },
    /// It was told to stop.
    #[error("it was told to stop")]
    Stopped,
}

impl SnapshotError {
    /// Whether other datasets of the same run may still be made.
    fn is_of_one_dataset(&self) -> bool {
        matches!(self, Self::Dataset { .. } | Self::Damaged { .. } | Self::Columns(_))
            || matches!(self, Self::Log(LogError::UnknownTopic { .. }))
    }
}

/// What is written to says that it is full, not that the rows are wrong.
impl From<ParquetError> for SnapshotError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(source) => Self::Scratch { source: *source },
                Err(cause) => Self::Parquet(ParquetError::External(cause)),
            },
            other => Self::Parquet(other),
        }
    }
}

impl From<SnapshotError> for JobError {
    fn from(error: SnapshotError) -> Self {
        let reason = error.to_string();
        match error {
            SnapshotError::Log(error) => Self::Log(error),
            SnapshotError::State(error) => Self::State(error),
            SnapshotError::Store(StoreError::Unavailable { .. })
            | SnapshotError::Scratch { .. }
            | SnapshotError::Busy { .. }
            | SnapshotError::Overtaken { .. }
            | SnapshotError::Stopped => Self::Unavailable { reason },
            SnapshotError::Store(StoreError::Refused { reason, hint }) => Self::Refused { reason, hint },
            SnapshotError::Dataset { reason, hint } => Self::Refused { reason, hint },
            SnapshotError::Store(_)
            | SnapshotError::Columns(_)
            | SnapshotError::Parquet(_)
            | SnapshotError::Damaged { .. } => {
                Self::Refused { reason, hint: "look at the store with `muster snapshot verify`".into() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};

    use super::*;

    /// Takes so many bytes.
    struct Disk(usize);

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_is_full_while_a_table_is_written_is_said_to_be_full() {
        // More than the writer has room for before it writes.
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..100_000).map(|n| format!("worker-{n}"))));
        let rows = RecordBatch::try_from_iter([("_key", keys)]).unwrap();
        let write = |room| -> Result<(), SnapshotError> {
            let mut table = table_writer(Disk(room), &rows.schema())?;
            table.write(&rows)?;
            table.into_inner()?;
            Ok(())
        };
        write(10 << 20).unwrap();
        for room in [0, 1_000] {
            let error = write(room).unwrap_err();
            let is_full =
                matches!(&error, SnapshotError::Scratch { source } if source.kind() == io::ErrorKind::StorageFull);
            assert!(is_full, "{error}");
        }
    }
}
