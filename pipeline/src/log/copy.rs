//! Copies a topic into another one with another number of partitions: the latest record of every key, as it is, headers and
//! all. Then compares the two, since what isn't in the copy is lost when the copy takes the topic's place.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use schemas::Key;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use super::{Append, Ends, Log, LogError, Offset, Reader, Record, TopicPartition};

/// Records that are appended at once, and their bytes.
const AT_ONCE: (usize, usize) = (1_000, 4 << 20);

/// A copy to be made.
#[derive(Debug, Clone)]
pub struct Copying<'a> {
    /// From here.
    pub from: &'a str,
    /// To here: empty, and there already.
    pub to: &'a str,
    /// How many leading parts of the key decide the partition.
    pub group_fields: usize,
    /// Tombstones that were written before this are left out: readers no longer count on them.
    pub tombstones_since: DateTime<Utc>,
}

/// What a topic holds, in any order and on any number of partitions: equal for equal topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Keys with a value.
    pub values: u64,
    /// Keys with a tombstone.
    pub tombstones: u64,
    /// Over keys, values and headers.
    sum: u128,
}

impl Content {
    fn add(&mut self, record: &Record) {
        match &record.value {
            Some(_) => self.values += 1,
            None => self.tombstones += 1,
        }
        let mut hasher = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(record.key.as_deref().unwrap_or_default());
        part(&[u8::from(record.value.is_some())]);
        part(record.value.as_deref().unwrap_or_default());
        for (name, value) in &record.headers.0 {
            part(name.as_bytes());
            part(value);
        }
        self.sum = self.sum.wrapping_add(hasher.digest128());
    }
}

/// Makes the copy; answers what it must hold, and where the topic ended. `told` hears of every batch.
pub async fn copy(
    log: &dyn Log,
    of: &Copying<'_>,
    told: &(dyn Fn(usize) + Sync),
) -> Result<(Content, Vec<Ends>), LogError> {
    let ends = log.ends(of.from).await?;
    let partitions = u32::try_from(log.ends(of.to).await?.len()).unwrap_or(u32::MAX);
    let latest = latest(log, of.from, &ends).await?;
    let mut content = Content::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut pages = Pages::of(log, of.from, &ends).await?;
    while let Some(records) = pages.next().await? {
        for record in records {
            if !is_latest(&latest, &record) || is_old_tombstone(&record, of.tombstones_since) {
                continue;
            }
            content.add(&record);
            let append = moved(of, record, partitions)?;
            bytes += append.size();
            batch.push(append);
            if batch.len() >= AT_ONCE.0 || bytes >= AT_ONCE.1 {
                told(batch.len());
                log.append(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
    }
    told(batch.len());
    log.append(batch).await?;
    Ok((content, ends))
}

/// What a topic holds.
pub async fn content(log: &dyn Log, topic: &str) -> Result<Content, LogError> {
    let ends = log.ends(topic).await?;
    let latest = latest(log, topic, &ends).await?;
    let mut content = Content::default();
    let mut pages = Pages::of(log, topic, &ends).await?;
    while let Some(records) = pages.next().await? {
        records.iter().filter(|record| is_latest(&latest, record)).for_each(|record| content.add(record));
    }
    Ok(content)
}

fn moved(of: &Copying<'_>, record: Record, partitions: u32) -> Result<Append, LogError> {
    let refused = || LogError::Refused {
        reason: format!("{}@{} has no text key", record.at, record.offset),
        hint: "something other than muster wrote it: write a tombstone over it, or have the topic made anew".to_owned(),
    };
    let bytes = record.key.clone().ok_or_else(refused)?;
    let key = Key::from_bytes(&bytes).map_err(|_| refused())?;
    let partition = schemas::partition_of(key.prefix(of.group_fields).as_bytes(), partitions);
    let at = TopicPartition::new(of.to, partition);
    Ok(Append { at, key: bytes, value: record.value, headers: record.headers })
}

fn is_old_tombstone(record: &Record, since: DateTime<Utc>) -> bool {
    record.value.is_none() && record.timestamp < since
}

/// The last offset of each key: at most 75 bytes a key, while nothing else runs.
type Latest = HashMap<u128, Offset>;

async fn latest(log: &dyn Log, topic: &str, ends: &[Ends]) -> Result<Latest, LogError> {
    let mut latest = Latest::new();
    let mut pages = Pages::of(log, topic, ends).await?;
    while let Some(records) = pages.next().await? {
        latest.extend(records.iter().map(|record| (id(record), record.offset)));
    }
    Ok(latest)
}

fn is_latest(latest: &Latest, record: &Record) -> bool {
    latest.get(&id(record)) == Some(&record.offset)
}

/// Offsets compare within a partition only.
fn id(record: &Record) -> u128 {
    xxh3_128_with_seed(record.key.as_deref().unwrap_or_default(), record.at.partition.into())
}

/// A topic, read to where it ended.
struct Pages {
    reader: Option<Box<dyn Reader>>,
    /// Partitions that aren't read to their ends yet.
    open: BTreeMap<u32, Offset>,
}

impl Pages {
    async fn of(log: &dyn Log, topic: &str, ends: &[Ends]) -> Result<Self, LogError> {
        let held = (0u32..).zip(ends).filter(|(_, bounds)| bounds.start < bounds.end);
        let from: Vec<(TopicPartition, Offset)> =
            held.clone().map(|(partition, bounds)| (TopicPartition::new(topic, partition), bounds.start)).collect();
        let open = held.map(|(partition, bounds)| (partition, bounds.end)).collect();
        let reader = if from.is_empty() { None } else { Some(log.read(&from).await?) };
        Ok(Self { reader, open })
    }

    async fn next(&mut self) -> Result<Option<Vec<Record>>, LogError> {
        let Some(reader) = self.reader.as_mut().filter(|_| !self.open.is_empty()) else { return Ok(None) };
        let mut chunk = reader.next().await?;
        // What lies behind the end that was asked about isn't part of it.
        chunk.records.retain(|record| self.open.get(&record.at.partition).is_some_and(|end| record.offset < *end));
        let read = chunk.records.iter().map(|record| (record.at.partition, record.offset.next()));
        let ended = chunk.at_end.iter().map(|(at, end)| (at.partition, *end));
        for (partition, reached) in read.chain(ended) {
            if self.open.get(&partition).is_some_and(|end| reached >= *end) {
                self.open.remove(&partition);
            }
        }
        Ok(Some(chunk.records))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use bytes::Bytes;
    use chrono::TimeDelta;

    use super::super::memory::MemoryLog;
    use super::super::names::{Names, UnderWay};
    use super::super::{Event, Headers, NewTopic, scan};
    use super::*;

    fn topic(name: &str, partitions: u32) -> NewTopic {
        NewTopic { name: name.to_owned(), partitions, replication: 1, settings: BTreeMap::new() }
    }

    fn record(topic: &str, key: &str, value: Option<&str>, partitions: u32) -> Append {
        let mut headers = Headers::default();
        headers.push("version", "7");
        let group = key.split('|').next().unwrap();
        let partition = schemas::partition_of(group.as_bytes(), partitions);
        Append {
            at: TopicPartition::new(topic, partition),
            key: Bytes::from(key.to_owned()),
            value: value.map(|value| Bytes::from(value.to_owned())),
            headers,
        }
    }

    async fn shifts() -> MemoryLog {
        let log = MemoryLog::default();
        log.create(&[topic("rota.shift", 3), topic("rota.shift.v2", 8), topic("muster.topics", 1)]).await.unwrap();
        let mut records = Vec::new();
        for nurse in 0..40 {
            records.push(record("rota.shift", &format!("nurse-{nurse}|early"), Some("planned"), 3));
            records.push(record("rota.shift", &format!("nurse-{nurse}|early"), Some("worked"), 3));
        }
        records.push(record("rota.shift", "nurse-1|early", None, 3));
        log.append(records).await.unwrap();
        log
    }

    fn of(days: i64) -> Copying<'static> {
        let tombstones_since = Utc::now() - TimeDelta::days(days);
        Copying { from: "rota.shift", to: "rota.shift.v2", group_fields: 1, tombstones_since }
    }

    #[tokio::test]
    async fn the_copy_holds_the_latest_of_every_key_with_its_headers_where_its_group_belongs() {
        let log = shifts().await;
        let (must_hold, ends) = copy(&log, &of(90), &|_| {}).await.unwrap();
        assert_eq!((must_hold.values, must_hold.tombstones, ends.len()), (39, 1, 3));
        assert_eq!(content(&log, "rota.shift.v2").await.unwrap(), must_hold);
        let all: Vec<_> = (0..8).map(|p| (TopicPartition::new("rota.shift.v2", p), Offset::START)).collect();
        let mut copied = 0;
        scan(&log, &all, |record| {
            copied += 1;
            let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
            assert_eq!(record.at.partition, schemas::partition_of(key.split('|').next().unwrap().as_bytes(), 8));
            assert_eq!(record.headers.text("version"), Some("7"));
            let gone = key == "nurse-1|early";
            assert_eq!(record.value.as_deref(), (!gone).then_some(b"worked".as_slice()));
        })
        .await
        .unwrap();
        assert_eq!(copied, 40);
    }

    #[tokio::test]
    async fn a_copy_that_differs_in_one_value_or_header_is_found() {
        let log = shifts().await;
        let (must_hold, _) = copy(&log, &of(90), &|_| {}).await.unwrap();
        log.append(vec![record("rota.shift.v2", "nurse-2|early", Some("swapped"), 8)]).await.unwrap();
        assert_ne!(content(&log, "rota.shift.v2").await.unwrap(), must_hold);
        let mut right = record("rota.shift.v2", "nurse-2|early", Some("worked"), 8);
        right.headers = Headers::default();
        log.append(vec![right.clone()]).await.unwrap();
        assert_ne!(content(&log, "rota.shift.v2").await.unwrap(), must_hold);
        right.headers.push("version", "7");
        log.append(vec![right]).await.unwrap();
        assert_eq!(content(&log, "rota.shift.v2").await.unwrap(), must_hold);
    }

    #[tokio::test]
    async fn tombstones_that_nobody_counts_on_any_more_stay_behind() {
        let log = shifts().await;
        let (must_hold, _) = copy(&log, &of(-1), &|_| {}).await.unwrap();
        assert_eq!((must_hold.values, must_hold.tombstones), (39, 0));
    }

    #[tokio::test]
    async fn one_record_gives_a_topic_its_new_name_everywhere() {
        let log = shifts().await;
        copy(&log, &of(90), &|_| {}).await.unwrap();
        let plain: Arc<dyn Log> = Arc::new(log.clone());
        let under_way = UnderWay {
            id: "1".into(),
            partitions: 8,
            topics: [("rota.shift".to_owned(), "rota.shift.v2".to_owned())].into(),
        };
        let names = Names { under_way: Some(under_way.clone()), ..Names::default() };
        names.write(&log).await.unwrap();
        // Not in force yet.
        let read = Names::read(&log).await.unwrap();
        assert_eq!(read, names);
        assert_eq!(read.over(Arc::clone(&plain)).ends("rota.shift").await.unwrap().len(), 3);
        let names = Names { topics: under_way.topics, retired: ["rota.shift".to_owned()].into(), ..Names::default() };
        names.write(&log).await.unwrap();
        let by_name = Names::read(&log).await.unwrap().over(plain);
        assert_eq!(by_name.own_name("rota.shift"), "rota.shift.v2");
        assert_eq!(by_name.ends("rota.shift").await.unwrap().len(), 8);
        let named: Vec<(String, u32)> =
            by_name.topics().await.unwrap().into_iter().map(|t| (t.name, t.partitions)).collect();
        assert_eq!(named, [("muster.topics".to_owned(), 1), ("rota.shift".to_owned(), 8)]);
        // Records come, and offsets go, under the catalogue's name.
        let mut member = by_name.subscribe("muster.wards", &["rota.shift".into()]).await.unwrap();
        let Event::Assigned(partitions) = member.next().await.unwrap() else { panic!("an assignment") };
        assert!(partitions.len() == 8 && partitions.iter().all(|at| &*at.topic == "rota.shift"));
        for at in &partitions {
            member.start(at, Offset::START).await.unwrap();
        }
        let Event::Records(records) = member.next().await.unwrap() else { panic!("records") };
        let at = records[0].at.clone();
        assert_eq!(&*at.topic, "rota.shift");
        let committed = super::super::Committed { next: Offset(1), metadata: "x".into() };
        member.commit(&[(at.clone(), committed.clone())]).await.unwrap();
        assert_eq!(by_name.committed("muster.wards", &[at]).await.unwrap(), [Some(committed)]);
        let outside = by_name.read(&[(TopicPartition::new("rota.shift", 0), Offset(10_000))]).await;
        let outside = match outside {
            Ok(mut reader) => reader.next().await.err(),
            Err(error) => Some(error),
        };
        let Some(LogError::OutOfRange { at, .. }) = outside else { panic!("nothing is there") };
        assert_eq!(&*at.topic, "rota.shift");
    }
}
