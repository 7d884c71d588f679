//! Reading partitions to the ends they have at one moment.

use std::collections::{BTreeMap, BTreeSet};

use super::{Log, LogError, Offset, Reader, Record, TopicPartition};

/// Reads partitions to the ends they had when it began, chunk by chunk, so that its user can leave off in between.
pub struct Scan {
    reader: Option<Box<dyn Reader>>,
    ends: BTreeMap<TopicPartition, Offset>,
    left: BTreeSet<TopicPartition>,
}

impl Scan {
    /// From the given offsets to the ends of this moment.
    pub async fn begin(log: &dyn Log, from: &[(TopicPartition, Offset)]) -> Result<Self, LogError> {
        let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        let mut open: Vec<(TopicPartition, Offset)> = Vec::new();
        for (at, offset) in from {
            let bounds = log.ends(&at.topic).await?;
            let Some(bounds) = bounds.get(at.partition as usize).copied() else {
                return Err(LogError::UnknownTopic { topic: at.to_string() });
            };
            if *offset > bounds.end {
                return Err(LogError::OutOfRange { at: at.clone(), offset: *offset, ends: bounds });
            }
            ends.insert(at.clone(), bounds.end);
            if *offset < bounds.end {
                // What retention has taken, if somebody set it, isn't there to be read.
                open.push((at.clone(), (*offset).max(bounds.start)));
            }
        }
        let reader = if open.is_empty() { None } else { Some(log.read(&open).await?) };
        Ok(Self { reader, ends, left: open.into_iter().map(|(at, _)| at).collect() })
    }

    /// Ends where another one did, if the log goes further by now.
    pub fn until(mut self, ends: &[(TopicPartition, Offset)]) -> Self {
        for (at, end) in ends {
            self.ends.insert(at.clone(), *end);
            if *end == Offset::START {
                self.left.remove(at);
            }
        }
        self
    }

    /// Where it stops, per partition.
    pub fn end(&self, at: &TopicPartition) -> Offset {
        self.ends.get(at).copied().unwrap_or_default()
    }

    /// The next records, possibly none; `None`: everything was read.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, LogError> {
        let Some(reader) = self.reader.as_mut().filter(|_| !self.left.is_empty()) else { return Ok(None) };
        let mut chunk = reader.next().await?;
        let (ends, left) = (&self.ends, &mut self.left);
        chunk.records.retain(|record| {
            let end = ends.get(&record.at).copied().unwrap_or_default();
            if record.offset.next() >= end {
                left.remove(&record.at);
            }
            record.offset < end
        });
        for (at, reached) in chunk.at_end {
            if ends.get(&at).is_some_and(|end| reached >= *end) {
                left.remove(&at);
            }
        }
        Ok(Some(chunk.records))
    }
}

/// Reads `partitions` from the given offsets to the end they have at this moment, and hands every record to `each`.
/// Answers where it stopped: the end that was reported, in the order given.
pub async fn scan(
    log: &dyn Log,
    from: &[(TopicPartition, Offset)],
    mut each: impl FnMut(Record) + Send,
) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
    let mut scan = Scan::begin(log, from).await?;
    while let Some(records) = scan.next().await? {
        records.into_iter().for_each(&mut each);
    }
    Ok(from.iter().map(|(at, _)| (at.clone(), scan.end(at))).collect())
}
