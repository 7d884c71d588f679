//! What topics are called in the log. A topic is named by the catalogue; one that was resized lies in the log under another
//! name (`ats.applicant` in `ats.applicant.v2`), and this is the only place that knows. See `docs/decisions/resize.md`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Append, Chunk, Committed, Ends, Event, Headers, Log, LogError, NewTopic, Offset, Reader, Subscription, TopicInfo,
    TopicPartition, scan,
};

/// The topic that holds the names, which is never resized itself.
const TOPIC: &str = "muster.topics";

/// The record's key there. Partitions' keys hold a bar: this is none.
pub const KEY: &str = "names";

/// The names of resized topics: one record, so that all topics of a set change their names at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The catalogue's name -> the log's, for topics that were resized.
    #[serde(default)]
    pub topics: BTreeMap<String, String>,
    /// Topics of the log that were in use before, and are nobody's now.
    #[serde(default)]
    pub retired: BTreeSet<String>,
    /// The highest number that a copy was ever named with: a deleted topic's name may linger, so none is given twice.
    #[serde(default)]
    pub generation: u32,
    /// A resize that hasn't ended: nobody may work meanwhile.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
}

/// A resize that hasn't ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// Tells two that were begun at once apart.
    pub id: String,
    /// The number that is wanted.
    pub partitions: u32,
    /// The catalogue's name -> the copy that is being made.
    pub topics: BTreeMap<String, String>,
}

impl Names {
    /// As the log holds them now. `log` is one that doesn't know of them.
    pub async fn read(log: &dyn Log) -> Result<Self, LogError> {
        let partition = match partition(log).await {
            Ok(partition) => partition,
            // An empty cluster.
            Err(LogError::UnknownTopic { .. }) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut value: Option<Bytes> = None;
        scan(log, &[(TopicPartition::new(TOPIC, partition), Offset::START)], |record| {
            if record.key.as_deref() == Some(KEY.as_bytes()) {
                value = record.value;
            }
        })
        .await?;
        let Some(value) = value else { return Ok(Self::default()) };
        serde_json::from_slice(&value).map_err(|error| LogError::Refused {
            reason: format!("{TOPIC} holds names of topics that aren't understood: {error}"),
            hint: "was it written by a newer muster?".to_owned(),
        })
    }

    /// Writes them, durably: one append, after which they are in force.
    pub async fn write(&self, log: &dyn Log) -> Result<(), LogError> {
        let value = serde_json::to_vec(self).map_err(|error| LogError::Refused {
            reason: format!("names of topics can't be written: {error}"),
            hint: "this is a mistake in the program".to_owned(),
        })?;
        let at = TopicPartition::new(TOPIC, partition(log).await?);
        let key = Bytes::from_static(KEY.as_bytes());
        log.append(vec![Append { at, key, value: Some(value.into()), headers: Headers::default() }]).await?;
        Ok(())
    }

    /// The log by the catalogue's names.
    pub fn over(&self, log: Arc<dyn Log>) -> Arc<dyn Log> {
        if self.topics.is_empty() {
            return log;
        }
        let pairs = || self.topics.iter().map(|(name, own)| (Arc::<str>::from(&**name), Arc::<str>::from(&**own)));
        let back = pairs().map(|(name, own)| (own, name)).collect();
        Arc::new(Named { log, maps: Arc::new(Maps { to_own: pairs().collect(), back }) })
    }
}

async fn partition(log: &dyn Log) -> Result<u32, LogError> {
    let partitions = u32::try_from(log.ends(TOPIC).await?.len()).unwrap_or(u32::MAX);
    Ok(schemas::partition_of(KEY.as_bytes(), partitions))
}

type Map = BTreeMap<Arc<str>, Arc<str>>;

struct Maps {
    to_own: Map,
    back: Map,
}

fn named(map: &Map, topic: &Arc<str>) -> Arc<str> {
    Arc::clone(map.get(topic).unwrap_or(topic))
}

fn place(map: &Map, at: &TopicPartition) -> TopicPartition {
    TopicPartition { topic: named(map, &at.topic), partition: at.partition }
}

impl Maps {
    fn own(&self, topic: &str) -> Arc<str> {
        self.to_own.get(topic).map_or_else(|| topic.into(), Arc::clone)
    }

    fn own_places<T: Clone>(&self, places: &[(TopicPartition, T)]) -> Vec<(TopicPartition, T)> {
        places.iter().map(|(at, with)| (place(&self.to_own, at), with.clone())).collect()
    }

    fn own_partitions(&self, of: &[TopicPartition]) -> Vec<TopicPartition> {
        of.iter().map(|at| place(&self.to_own, at)).collect()
    }

    fn rename(&self, topic: &mut Arc<str>) {
        if let Some(name) = self.back.get(topic) {
            *topic = Arc::clone(name);
        }
    }

    fn error(&self, error: LogError) -> LogError {
        let renamed = |at: TopicPartition| place(&self.back, &at);
        match error {
            LogError::TooLarge { at, bytes, limit, index } => {
                LogError::TooLarge { at: renamed(at), bytes, limit, index }
            }
            LogError::OutOfRange { at, offset, ends } => LogError::OutOfRange { at: renamed(at), offset, ends },
            LogError::NotOurs { at } => LogError::NotOurs { at: renamed(at) },
            // These go to people, who must find it in the log.
            error @ (LogError::UnknownTopic { .. } | LogError::Unavailable { .. } | LogError::Refused { .. }) => error,
        }
    }
}

/// A log whose topics go by the catalogue's names.
struct Named {
    log: Arc<dyn Log>,
    maps: Arc<Maps>,
}

#[async_trait]
impl Log for Named {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        let own = |topic: &NewTopic| NewTopic { name: self.maps.own(&topic.name).to_string(), ..topic.clone() };
        let topics: Vec<NewTopic> = topics.iter().map(own).collect();
        self.log.create(&topics).await
    }

    /// Topics whose name now stands for another one are left out.
    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        let mut topics = self.log.topics().await?;
        topics.retain(|topic| !self.maps.to_own.contains_key(&*topic.name));
        for topic in &mut topics {
            if let Some(name) = self.maps.back.get(&*topic.name) {
                topic.name = name.to_string();
            }
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    async fn append(&self, mut records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        for record in &mut records {
            record.at = place(&self.maps.to_own, &record.at);
        }
        self.log.append(records).await.map_err(|error| self.maps.error(error))
    }

    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.log.ends(&self.maps.own(topic)).await
    }

    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        let maps = Arc::clone(&self.maps);
        let reader = self.log.read(&maps.own_places(from)).await.map_err(|error| maps.error(error))?;
        Ok(Box::new(NamedReader { reader, maps }))
    }

    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        let maps = Arc::clone(&self.maps);
        let topics: Vec<Arc<str>> = topics.iter().map(|topic| maps.own(topic)).collect();
        let subscription = self.log.subscribe(group, &topics).await.map_err(|error| maps.error(error))?;
        Ok(Box::new(NamedSubscription { subscription, maps }))
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        let of = self.maps.own_partitions(of);
        self.log.committed(group, &of).await.map_err(|error| self.maps.error(error))
    }

    fn own_name<'n>(&'n self, topic: &'n str) -> Cow<'n, str> {
        self.maps.to_own.get(topic).map_or(Cow::Borrowed(topic), |own| Cow::Borrowed(&**own))
    }
}

struct NamedReader {
    reader: Box<dyn Reader>,
    maps: Arc<Maps>,
}

#[async_trait]
impl Reader for NamedReader {
    async fn next(&mut self) -> Result<Chunk, LogError> {
        let mut chunk = self.reader.next().await.map_err(|error| self.maps.error(error))?;
        for record in &mut chunk.records {
            self.maps.rename(&mut record.at.topic);
        }
        for (at, _) in &mut chunk.at_end {
            self.maps.rename(&mut at.topic);
        }
        Ok(chunk)
    }
}

struct NamedSubscription {
    subscription: Box<dyn Subscription>,
    maps: Arc<Maps>,
}

impl NamedSubscription {
    fn renamed(&self, mut partitions: Vec<TopicPartition>) -> Vec<TopicPartition> {
        for at in &mut partitions {
            self.maps.rename(&mut at.topic);
        }
        partitions
    }
}

#[async_trait]
impl Subscription for NamedSubscription {
    async fn next(&mut self) -> Result<Event, LogError> {
        let event = self.subscription.next().await.map_err(|error| self.maps.error(error))?;
        Ok(match event {
            Event::Assigned(partitions) => Event::Assigned(self.renamed(partitions)),
            Event::Revoked(partitions) => Event::Revoked(self.renamed(partitions)),
            Event::Lost(partitions) => Event::Lost(self.renamed(partitions)),
            Event::Records(mut records) => {
                for record in &mut records {
                    self.maps.rename(&mut record.at.topic);
                }
                Event::Records(records)
            }
        })
    }

    async fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError> {
        let own = place(&self.maps.to_own, at);
        self.subscription.start(&own, from).await.map_err(|error| self.maps.error(error))
    }

    async fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        let own = self.maps.own_partitions(of);
        self.subscription.pause(&own).await.map_err(|error| self.maps.error(error))
    }

    async fn committed(&mut self, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        let own = self.maps.own_partitions(of);
        self.subscription.committed(&own).await.map_err(|error| self.maps.error(error))
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError> {
        let own = self.maps.own_places(offsets);
        self.subscription.commit(&own).await.map_err(|error| self.maps.error(error))
    }

    async fn released(&mut self) -> Result<(), LogError> {
        self.subscription.released().await.map_err(|error| self.maps.error(error))
    }

    async fn close(self: Box<Self>) -> Result<(), LogError> {
        let Self { subscription, maps } = *self;
        subscription.close().await.map_err(|error| maps.error(error))
    }
}
