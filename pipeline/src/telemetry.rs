//! The names of all metrics, and what they mean. Keys, counts and times only: never contents.

use crate::ledger::Counts;
use crate::processor::Outputs;

/// Counter, labels `component`, `outcome` (delivered, unchanged, superseded, stale, rejected, parked): records, by what became of them.
pub const RECORDS: &str = "muster_records_total";
/// Counter, label `component`: records that came in.
pub const READ: &str = "muster_records_read_total";
/// Counter, labels `topic`, `kind` (created, updated, deleted): changes appended to a topic.
pub const CHANGES: &str = "muster_changes_total";
/// Counter, labels `processor`, `rule`: parts of a group that a rule leaves out on purpose, `superseded` for those that another part overtook.
pub const LEFT_OUT: &str = "muster_parts_left_out_total";
/// Counter, labels `component`, `code`: dead letters written.
pub const LETTERS: &str = "muster_dead_letters_total";
/// Counter, label `component`: tries after a failure that can pass.
pub const RETRIES: &str = "muster_retries_total";
/// Histogram, label `component`: records in a batch.
pub const BATCH_RECORDS: &str = "muster_batch_records";
/// Histogram, label `component`: seconds a batch took.
pub const BATCH_SECONDS: &str = "muster_batch_seconds";
/// Gauge, labels `component`, `topic`: records between a reader and the topic's end.
pub const LAG: &str = "muster_lag_records";
/// Gauge, label `source`: seconds since 1970 up to which a feed is complete.
pub const COMPLETE_TO: &str = "muster_source_complete_to_seconds";
/// Counter, labels `source`, `success`: runs of a source.
pub const RUNS: &str = "muster_source_runs_total";
/// Counter, labels `component`, `success`: runs of a job.
pub const JOB_RUNS: &str = "muster_job_runs_total";
/// Gauge, label `dataset`: seconds since 1970 up to which the newest snapshot is complete.
pub const SNAPSHOT_DATE: &str = "muster_snapshot_date_seconds";
/// Gauge, label `dataset`: records in the newest snapshot.
pub const SNAPSHOT_RECORDS: &str = "muster_snapshot_records";
/// Gauge, label `component`: rows that wait for another row.
pub const PARKED: &str = "muster_parked_rows";
/// Gauge: notes that wait for the operations database.
pub const NOTES: &str = "muster_operations_notes_waiting";
/// Counter: notes that went unwritten, because the operations database was away for too long.
pub const NOTES_LOST: &str = "muster_operations_notes_lost_total";
/// Gauge, label `component`: rows that wait for as long as a row of somebody else's is there.
pub const HELD_BY_OTHERS: &str = "muster_held_by_others_rows";
/// Counter, labels `resource`, `status` (complete, cut_off, slow, failed): exports that ended.
pub const EXPORTS: &str = "muster_exports_total";
/// Gauge: exports that are under way.
pub const EXPORTS_OPEN: &str = "muster_exports_open";
/// Counter, label `resource`: bytes of exports.
pub const EXPORT_BYTES: &str = "muster_export_bytes_total";
/// Counter, label `code`: answers of the export's HTTP, by status code.
pub const EXPORT_ANSWERS: &str = "muster_export_answers_total";
/// Counter: exports that couldn't be put on record.
pub const EXPORT_NOTES_LOST: &str = "muster_export_notes_lost_total";

/// Registers all names with their meanings.
pub fn describe() {
    metrics::describe_counter!(RECORDS, "records, by what became of them");
    metrics::describe_counter!(READ, "records that came in");
    metrics::describe_counter!(CHANGES, "changes appended to a topic");
    metrics::describe_counter!(LEFT_OUT, "parts of a group that a rule leaves out on purpose");
    metrics::describe_counter!(LETTERS, "dead letters written");
    metrics::describe_counter!(RETRIES, "tries after a failure that can pass");
    metrics::describe_histogram!(BATCH_RECORDS, "records in a batch");
    metrics::describe_histogram!(BATCH_SECONDS, metrics::Unit::Seconds, "what a batch took");
    metrics::describe_gauge!(LAG, "records between a reader and the topic's end");
    metrics::describe_gauge!(COMPLETE_TO, "up to when a feed is complete, in seconds since 1970");
    metrics::describe_counter!(RUNS, "runs of a source");
    metrics::describe_counter!(JOB_RUNS, "runs of a job");
    metrics::describe_gauge!(SNAPSHOT_DATE, "up to when the newest snapshot is complete, in seconds since 1970");
    metrics::describe_gauge!(SNAPSHOT_RECORDS, "records in the newest snapshot");
    metrics::describe_gauge!(PARKED, "rows that wait for another row");
    metrics::describe_gauge!(NOTES, "notes that wait for the operations database");
    metrics::describe_gauge!(HELD_BY_OTHERS, "rows that wait for as long as a row of somebody else's is there");
    metrics::describe_counter!(EXPORTS, "exports that ended");
    metrics::describe_counter!(NOTES_LOST, "notes that the operations database was away too long for");
    metrics::describe_gauge!(EXPORTS_OPEN, "exports that are under way");
    metrics::describe_counter!(EXPORT_BYTES, metrics::Unit::Bytes, "bytes of exports");
    metrics::describe_counter!(EXPORT_ANSWERS, "answers of the export's HTTP, by status code");
    metrics::describe_counter!(EXPORT_NOTES_LOST, "exports that couldn't be put on record");
}

/// Counts a step's records.
pub fn count(component: &str, counts: &Counts) {
    metrics::counter!(READ, "component" => component.to_owned()).increment(counts.read);
    let outcomes = [
        ("delivered", counts.delivered),
        ("unchanged", counts.unchanged),
        ("superseded", counts.superseded),
        ("stale", counts.stale),
        ("rejected", counts.rejected),
        ("parked", counts.parked),
    ];
    for (outcome, records) in outcomes {
        // Those with none, too: a counter that begins with its first reject hides it from rates.
        metrics::counter!(RECORDS, "component" => component.to_owned(), "outcome" => outcome).increment(records);
    }
}

/// Counts the parts of a group that its outputs don't hold, by the rule that leaves them out.
pub fn count_parts(processor: &'static str, outputs: &Outputs) {
    let superseded = std::iter::once(("superseded", outputs.superseded));
    let left_out = outputs.left_out.iter().map(|(rule, parts)| (*rule, *parts));
    for (rule, parts) in left_out.chain(superseded) {
        if parts > 0 {
            metrics::counter!(LEFT_OUT, "processor" => processor, "rule" => rule).increment(parts);
        }
    }
}

/// Counts the changes an emitter appended.
pub fn count_changes(topic: &str, created: u64, updated: u64, deleted: u64) {
    for (kind, changes) in [("created", created), ("updated", updated), ("deleted", deleted)] {
        if changes > 0 {
            metrics::counter!(CHANGES, "topic" => topic.to_owned(), "kind" => kind).increment(changes);
        }
    }
}
