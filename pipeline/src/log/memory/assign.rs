//! The range assignor: a member holds the same partition numbers in every topic of a size.

use std::sync::Arc;

use super::super::TopicPartition;

/// Shares the partitions of `topics` (name and count) among `members`, in their order: contiguous ranges per topic,
/// the first members holding one more where it doesn't divide.
pub fn range(topics: &[(Arc<str>, u32)], members: usize) -> Vec<Vec<TopicPartition>> {
    let mut shares = vec![Vec::new(); members];
    if members == 0 {
        return shares;
    }
    for (topic, partitions) in topics {
        let each = *partitions as usize / members;
        let longer = *partitions as usize % members;
        let mut next = 0;
        for (member, share) in shares.iter_mut().enumerate() {
            let count = each + usize::from(member < longer);
            share.extend((next..next + count).map(|partition| TopicPartition::new(topic.clone(), partition as u32)));
            next += count;
        }
    }
    shares
}
