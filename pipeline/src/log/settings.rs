//! Topic settings and limits that the logs on one machine share. Kafka's broker has its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Committed, LogError, NewTopic, TopicPartition};

/// Kafka's default: 1 MiB and the frame of a batch.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// Kafka's default for `offset.metadata.max.bytes`, and what the seam promises.
const MAX_METADATA_BYTES: usize = 4096;

/// `max.message.bytes` of a topic.
pub(super) fn max_message_bytes(settings: &BTreeMap<String, String>) -> usize {
    number(settings, "max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES)
}

/// A numeric setting; what isn't a number counts as not set.
pub(super) fn number<T: std::str::FromStr>(settings: &BTreeMap<String, String>, name: &str, default: T) -> T {
    settings.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Whether the metadata fits.
pub(super) fn check_commit(offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError> {
    for (at, committed) in offsets {
        let bytes = committed.metadata.len();
        if bytes > MAX_METADATA_BYTES {
            return Err(LogError::Refused {
                reason: format!("the metadata committed for {at} has {bytes} bytes"),
                hint: format!("a commit carries at most {MAX_METADATA_BYTES}"),
            });
        }
    }
    Ok(())
}

/// Members of a group that don't read the same topics would not hold the same partitions in each.
pub(super) fn other_topics(group: &str, theirs: &[Arc<str>], ours: &[Arc<str>]) -> LogError {
    LogError::Refused {
        reason: format!("group {group} reads {}, and a new member wants {}", theirs.join(", "), ours.join(", ")),
        hint: "stop the other members first: all members of a group read the same topics".into(),
    }
}

/// What a broker would refuse: the same topics must work everywhere.
pub(super) fn check_topic(topic: &NewTopic) -> Result<(), LogError> {
    let letters = topic.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    let named = letters && !topic.name.is_empty() && topic.name.len() <= 249;
    if named && topic.partitions > 0 {
        return Ok(());
    }
    Err(LogError::Refused {
        reason: format!("topic {:?} with {} partitions can't be created", topic.name, topic.partitions),
        hint: "names are 1 to 249 letters, digits, '.', '_' and '-'; a topic has at least one partition".into(),
    })
}
