//! Topic settings and limits that the logs on one machine share. Kafka's broker has its own.

use std::collections::{BTreeMap, BTreeSet};
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

/// A member's partitions as the range assignor gives them when all members read the same topics: the same numbers in
/// each of its topics that has the same count. `Err`: two topics whose numbers differ.
pub(super) fn check_alignment(
    group: &str,
    topics: &[(Arc<str>, u32)],
    places: &[TopicPartition],
) -> Result<(), LogError> {
    let numbers = |topic: &Arc<str>| -> BTreeSet<u32> {
        places.iter().filter(|at| at.topic == *topic).map(|at| at.partition).collect()
    };
    let mut first: BTreeMap<u32, (&Arc<str>, BTreeSet<u32>)> = BTreeMap::new();
    for (topic, count) in topics {
        let held = numbers(topic);
        let (other, theirs) = first.entry(*count).or_insert_with(|| (topic, held.clone()));
        if *theirs != held {
            return Err(LogError::Refused {
                reason: format!("group {group} gave us different partitions of {other} and {topic}"),
                hint: "stop the members that read other topics: all members of a group read the same ones".into(),
            });
        }
    }
    Ok(())
}

/// Members of a group that don't read the same topics would not hold the same partitions in each. Known at once only
/// where the members' lists are at hand.
#[cfg(any(test, feature = "testing"))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_one_size_are_held_alike() {
        let topics: [(Arc<str>, u32); 3] = [("nurses".into(), 2), ("posts".into(), 2), ("users".into(), 1)];
        let held = |places: &[(&str, u32)]| {
            let places: Vec<_> = places.iter().map(|(topic, n)| TopicPartition::new(*topic, *n)).collect();
            check_alignment("register", &topics, &places)
        };
        assert!(held(&[]).is_ok());
        assert!(held(&[("nurses", 1), ("posts", 1)]).is_ok());
        assert!(held(&[("nurses", 0), ("posts", 0), ("users", 0)]).is_ok());
        let Err(LogError::Refused { reason, .. }) = held(&[("nurses", 1), ("posts", 0), ("posts", 1)]) else {
            panic!("taken")
        };
        assert!(reason.contains("nurses and posts"), "{reason}");
    }
}
