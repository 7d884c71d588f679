//! What every [`Log`] must do, one function per behaviour, so that a failure names it. [`core`] is for all logs,
//! [`groups`] for those with more than one member per group.
//!
//! An implementation writes a [`Harness`] and says `pipeline::core_log_tests!(harness())` in a file of `tests/`,
//! where `harness()` is a future of it; then each behaviour is a test of its own.

pub mod core;
pub mod groups;
mod member;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::member::Member;
use crate::log::{
    Append, Chunk, Event, Headers, Log, LogError, NewTopic, Offset, Reader, Record, Subscription, TopicPartition, scan,
};

/// Brings a log under test, and what it can do beside the trait. `false`: it can't, and the behaviour isn't tested.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The log; the same one each time, until [`Self::reopen`].
    async fn log(&self) -> Arc<dyn Log>;

    /// Stops the log and starts it again on what it has kept.
    async fn reopen(&self) -> bool {
        false
    }

    /// Deletes a topic and makes it anew with as many partitions; returns when that can be seen.
    async fn recreate_topic(&self, topic: &str, partitions: u32) -> bool {
        let _ = (topic, partitions);
        false
    }

    /// Loses the records from `end` on.
    async fn truncate(&self, at: &TopicPartition, end: Offset) -> bool {
        let _ = (at, end);
        false
    }

    /// Compacts, or does what makes the log compact before long (it may append records with the key `filler`). Called
    /// again and again until the effect is seen or [`Self::patience`] is over.
    async fn compact(&self, topic: &str) -> bool {
        let _ = topic;
        false
    }

    /// Settings under which compaction happens at once and drops tombstones at once.
    fn compacting(&self) -> BTreeMap<String, String> {
        let settings = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "0"), ("delete.retention.ms", "0")];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// How many copies the topics have that the suite creates.
    fn replication(&self) -> u16 {
        1
    }

    /// How many records the log has fetched for its readers so far, handed out or not; `None`: it can't say.
    fn fetched(&self) -> Option<u64> {
        None
    }

    /// How long a condition may take to come true.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Waits for `what`, no longer than the harness' patience.
pub(crate) async fn within<T>(harness: &dyn Harness, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(harness.patience(), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {:?}", harness.patience()),
    }
}

/// A topic that no other test has.
pub(crate) async fn topic(harness: &dyn Harness, partitions: u32) -> Arc<str> {
    topic_with(harness, partitions, BTreeMap::new()).await
}

pub(crate) async fn topic_with(harness: &dyn Harness, partitions: u32, settings: BTreeMap<String, String>) -> Arc<str> {
    let name = format!("suite-{}", uuid::Uuid::new_v4());
    let topic = NewTopic { name: name.clone(), partitions, replication: harness.replication(), settings };
    let log = harness.log().await;
    let topics = [topic];
    let created = async {
        loop {
            match log.create(&topics).await {
                // The cluster's controller may just be changing: wait, as every caller does.
                Err(LogError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                created => return created,
            }
        }
    };
    within(harness, "the topic", created).await.expect("the topic is created");
    name.into()
}

/// A group that no other test has.
pub(crate) fn group() -> String {
    format!("suite-{}", uuid::Uuid::new_v4())
}

pub(crate) fn at(topic: &Arc<str>, partition: u32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

/// A record whose value says what it is: `value`.
pub(crate) fn record(at: &TopicPartition, key: &str, value: &str) -> Append {
    let value = Some(Bytes::from(value.to_owned()));
    Append { at: at.clone(), key: key.to_owned().into(), value, headers: Headers::default() }
}

pub(crate) fn tombstone(at: &TopicPartition, key: &str) -> Append {
    Append { value: None, ..record(at, key, "") }
}

pub(crate) fn key(record: &Record) -> String {
    String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned()
}

pub(crate) fn value(record: &Record) -> Option<String> {
    record.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// All records of a partition, up to its present end.
pub(crate) async fn all(harness: &dyn Harness, at: &TopicPartition) -> Vec<Record> {
    let log = harness.log().await;
    let mut records = Vec::new();
    let from = [(at.clone(), Offset::START)];
    within(harness, "scan", scan(&*log, &from, |record| records.push(record))).await.expect("the partition is read");
    records
}

/// Reads until `count` records have come.
pub(crate) async fn take(harness: &dyn Harness, reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let Chunk { records: more, .. } =
            within(harness, "next chunk", reader.next()).await.expect("the reader reads on");
        records.extend(more);
    }
    records
}

/// Reads until the partition's end is reported at or behind `end`.
pub(crate) async fn until_end(
    harness: &dyn Harness,
    reader: &mut dyn Reader,
    at: &TopicPartition,
    end: Offset,
) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let chunk = within(harness, "end of the partition", reader.next()).await.expect("the reader reads on");
        records.extend(chunk.records);
        if chunk.at_end.iter().any(|(of, reached)| of == at && *reached >= end) {
            return records;
        }
    }
}

/// Waits for the first assignment.
pub(crate) async fn assigned(harness: &dyn Harness, member: &mut dyn Subscription) -> Vec<TopicPartition> {
    loop {
        let event = within(harness, "an assignment", member.next()).await.expect("the member goes on");
        if let Event::Assigned(mut partitions) = event {
            partitions.sort();
            return partitions;
        }
    }
}

/// Waits for `count` records of started partitions.
pub(crate) async fn delivered(harness: &dyn Harness, member: &mut dyn Subscription, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let event = within(harness, "records", member.next()).await.expect("the member goes on");
        if let Event::Records(more) = event {
            records.extend(more);
        }
    }
    records
}

/// Whether an error says that a reader's place is no longer in its partition.
pub(crate) fn is_lost_place(err: &LogError) -> bool {
    matches!(err, LogError::OutOfRange { .. } | LogError::UnknownTopic { .. })
}

/// A behaviour that needs what the harness can't do is passed over, and says so.
pub(crate) fn cannot(what: &str) {
    eprintln!("not tested: this log can't {what} on request");
}

/// Makes one test of each named behaviour. `$harness` is a future of a [`Harness`], made anew for each. `[ignore = "why"]`
/// leaves them out unless they are asked for.
#[macro_export]
macro_rules! log_suite_tests {
    ([] $harness:expr; $part:ident: $($behaviour:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let harness = $harness.await;
                $crate::testing::log_suite::$part::$behaviour(&harness).await;
            }
        )*
    };
    ([$ignore:meta] $harness:expr; $part:ident: $($behaviour:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[$ignore]
            async fn $behaviour() {
                let harness = $harness.await;
                $crate::testing::log_suite::$part::$behaviour(&harness).await;
            }
        )*
    };
}

/// Tests of the part `core`.
#[macro_export]
macro_rules! core_log_tests {
    ([$($ignore:tt)*] $harness:expr) => {
        $crate::log_suite_tests! { [$($ignore)*] $harness; core:
            order_is_kept_per_key
            offsets_come_in_the_order_given
            what_was_acknowledged_is_there_after_a_restart
            a_reader_is_told_the_end_of_each_partition
            a_reader_follows_what_is_appended_later
            a_dropped_wait_loses_nothing
            a_commit_keeps_offset_and_metadata
            a_member_goes_on_where_its_group_had_committed
            compaction_keeps_the_latest_and_then_drops_tombstones
            a_scan_ends_where_compaction_left_gaps
            large_messages_pass_and_too_large_ones_are_named
            headers_come_back_as_they_were
            empty_values_are_not_tombstones
            several_topics_come_through_one_subscription
            a_slow_reader_is_not_sent_more_than_it_takes
            a_slow_member_is_not_sent_more_than_it_takes
            a_place_beyond_the_end_is_an_error
            a_recreated_topic_is_an_error_to_its_readers
            a_truncated_partition_is_an_error_to_its_readers
            what_does_not_exist_is_named
            creating_again_changes_nothing
            start_goes_back
            paused_partitions_are_silent
            many_readers_read_the_same
            many_tasks_append_at_once
            claims_are_settled_by_their_offsets
        }
    };
    ($harness:expr) => { $crate::core_log_tests! { [] $harness } };
}

/// Tests of the part `groups`.
#[macro_export]
macro_rules! group_log_tests {
    ([$($ignore:tt)*] $harness:expr) => {
        $crate::log_suite_tests! { [$($ignore)*] $harness; groups:
            members_hold_the_same_partitions_in_every_topic
            a_batch_in_flight_survives_a_rebalance
            a_commit_inside_revocation_counts
            a_commit_after_letting_go_is_not_ours
            others_take_over_at_once_after_a_close
            others_take_over_from_the_commit_after_a_crash
        }
    };
    ($harness:expr) => { $crate::group_log_tests! { [] $harness } };
}
