//! Every export is put on record: who, what, when, and how it ended. Nobody waits for that: what is to be noted stands in a queue
//! of bounded length, and behind that in the operations database's own, which keeps it while the database is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::Utc;
use pipeline::operations::{ExportEnd, ExportStart, Operations};
use pipeline::telemetry;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::Place;
use super::pace::Connection;

/// So much waits for the database at most; what comes then is lost, and counted.
const MOST: usize = 10_000;

/// How often what waits behind it is written when nothing else comes.
const CATCH_UP: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Note {
    Began(Box<ExportStart>),
    Ended { id: String, ended: chrono::DateTime<Utc>, bytes: u64, end: ExportEnd },
}

/// Where exports are noted. Clones note in the same place.
#[derive(Clone)]
pub(super) struct Audit {
    notes: mpsc::Sender<Note>,
    lost: Arc<AtomicU64>,
}

/// Writes down what was noted.
pub(super) struct Clerk {
    notes: mpsc::Receiver<Note>,
    operations: Operations,
}

/// Somewhere to note, and who writes it down.
pub(super) fn audit(operations: Operations) -> (Audit, Clerk) {
    let (send, notes) = mpsc::channel(MOST);
    (Audit { notes: send, lost: Arc::default() }, Clerk { notes, operations })
}

impl Clerk {
    /// Writes until told to stop; then, what is still in the queue.
    pub(super) async fn write(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                note = self.notes.recv() => match note {
                    Some(note) => self.note(note).await,
                    None => return,
                },
                () = tokio::time::sleep(CATCH_UP) => self.operations.catch_up().await,
                () = stop.cancelled() => break,
            }
        }
        self.notes.close();
        while let Some(note) = self.notes.recv().await {
            self.note(note).await;
        }
    }

    async fn note(&self, note: Note) {
        match note {
            Note::Began(export) => self.operations.begin_export(&export).await,
            Note::Ended { id, ended, bytes, end } => self.operations.end_export(&id, ended, bytes, end).await,
        }
    }
}

impl Audit {
    /// Notes that an export begins. What comes back is dropped when it has ended.
    pub(super) fn begin(&self, export: ExportStart, place: Place, connection: Option<Arc<Connection>>) -> Entry {
        metrics::gauge!(telemetry::EXPORTS_OPEN).increment(1.0);
        self.note(Note::Began(Box::new(export.clone())));
        let (audit, began) = (self.clone(), Instant::now());
        Entry { export, audit, began, bytes: 0, failed: false, connection, _place: place }
    }

    fn note(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            metrics::counter!(telemetry::EXPORT_NOTES_LOST).increment(1);
            if lost.is_power_of_two() {
                tracing::error!(lost, "exports come faster than they can be put on record: some aren't");
            }
        }
    }
}

/// An export that is under way. How it ended is noted when it is dropped.
pub(super) struct Entry {
    export: ExportStart,
    audit: Audit,
    began: Instant,
    bytes: u64,
    failed: bool,
    connection: Option<Arc<Connection>>,
    _place: Place,
}

impl Entry {
    /// So many bytes were handed to the network.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The store failed; the answer is broken off.
    pub(super) fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.failed = true;
        let (request_id, resource) = (&self.export.request, &self.export.resource);
        tracing::error!(request_id, resource, generation = self.export.generation, error = %error, "an answer is broken off");
    }

    fn end(&self) -> ExportEnd {
        if self.failed {
            ExportEnd::Failed
        } else if self.bytes == self.export.expected {
            ExportEnd::Complete
        } else if self.connection.as_ref().is_some_and(|connection| connection.was_slow()) {
            ExportEnd::Slow
        } else {
            ExportEnd::CutOff
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let (export, end, bytes) = (&self.export, self.end(), self.bytes);
        metrics::gauge!(telemetry::EXPORTS_OPEN).decrement(1.0);
        metrics::counter!(telemetry::EXPORT_BYTES, "resource" => export.resource.clone()).increment(bytes);
        metrics::counter!(telemetry::EXPORTS, "resource" => export.resource.clone(), "status" => end.name())
            .increment(1);
        tracing::info!(
            request_id = export.request,
            token = export.label,
            resource = export.resource,
            depth = export.depth,
            form = export.form,
            coding = export.coding,
            generation = export.generation,
            bytes,
            took_ms = self.began.elapsed().as_millis() as u64,
            status = end.name(),
            "export ended"
        );
        self.audit.note(Note::Ended { id: export.id.clone(), ended: Utc::now(), bytes, end });
    }
}
