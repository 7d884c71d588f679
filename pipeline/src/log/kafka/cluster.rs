//! Questions to the cluster: topics, settings, ends, committed offsets. librdkafka blocks, so each runs on a thread for that.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as NativeTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset as NativeOffset, TopicPartitionList};

use super::context::Context;
use super::errors::{Health, is_unknown_topic, lock};
use super::options::KafkaOptions;
use super::queues::next_event;
use crate::log::{Committed, Ends, LogError, NewTopic, Offset, TopicInfo, TopicPartition};

/// Between two looks whether a new topic is there.
const CREATED_YET: Duration = Duration::from_millis(25);

/// Topics of the brokers themselves begin like this.
const INTERNAL: &str = "__";

/// A cluster's metadata, and who asks for it.
pub(super) struct Cluster {
    options: KafkaOptions,
    health: Arc<Health>,
    tools: BaseConsumer<Context>,
    admin: AdminClient<Context>,
    /// Topics that were there when last looked for, with their partitions.
    known: Mutex<HashMap<Arc<str>, u32>>,
}

impl Cluster {
    pub(super) fn new(options: &KafkaOptions, health: &Arc<Health>) -> Result<Self, LogError> {
        let config = options.tools()?;
        let context = || Context::new(health);
        let failed = |error| health.explain("creating a client", &error);
        Ok(Self {
            options: options.clone(),
            health: Arc::clone(health),
            tools: BaseConsumer::from_config_and_context(&config, context()).map_err(failed)?,
            admin: AdminClient::from_config_and_context(&config, context()).map_err(failed)?,
            known: Mutex::default(),
        })
    }

    /// How many partitions `topic` has.
    pub(super) async fn partitions(self: &Arc<Self>, topic: &str) -> Result<u32, LogError> {
        let asked: Arc<str> = topic.into();
        self.ask(move |cluster| cluster.partitions_now(&asked)).await
    }

    /// Makes sure that places to append to are there. Asks only about topics not seen before.
    pub(super) async fn expect<'a>(
        self: &Arc<Self>,
        places: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<(), LogError> {
        let mut checked: Option<(&Arc<str>, u32)> = None;
        for at in places {
            let partitions = match checked {
                Some((topic, partitions)) if *topic == at.topic => partitions,
                _ => {
                    let known = lock(&self.known).get(&at.topic).copied();
                    match known {
                        Some(partitions) => partitions,
                        None => self.partitions(&at.topic).await?,
                    }
                }
            };
            if at.partition >= partitions {
                return Err(LogError::UnknownTopic { topic: at.to_string() });
            }
            checked = Some((&at.topic, partitions));
        }
        Ok(())
    }

    /// Looks for `topic` again before the next append.
    pub(super) fn forget(&self, topic: &str) {
        lock(&self.known).remove(topic);
    }

    /// The largest batch the topic takes, in bytes.
    pub(super) async fn record_limit(&self, topic: &str) -> Result<usize, LogError> {
        let settings = self.settings(&[topic]).await?;
        let limit = settings.into_values().next().and_then(|settings| settings.get("max.message.bytes")?.parse().ok());
        Ok(limit.unwrap_or(self.options.limits.record_bytes))
    }

    pub(super) async fn create(self: &Arc<Self>, topics: &[NewTopic]) -> Result<(), LogError> {
        let natives = topics.iter().map(|topic| {
            let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let replication = TopicReplication::Fixed(i32::from(topic.replication));
            let native = NativeTopic::new(&topic.name, partitions, replication);
            topic.settings.iter().fold(native, |native, (name, value)| native.set(name, value))
        });
        let natives: Vec<NativeTopic<'_>> = natives.collect();
        if natives.is_empty() {
            return Ok(());
        }
        let answers = self.admin.create_topics(&natives, &self.admin_options()).await;
        let answers = answers.map_err(|error| self.health.explain("creating topics", &error))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(self.health.explain_code(&format!("creating topic {topic}"), code)),
            }
        }
        self.await_leaders(topics).await
    }

    /// A broker says yes before the others have heard of it.
    async fn await_leaders(self: &Arc<Self>, topics: &[NewTopic]) -> Result<(), LogError> {
        let started = Instant::now();
        for topic in topics {
            loop {
                // Metadata names leaders that don't know it yet: until they answer for themselves, they lead nothing.
                match self.ends(&topic.name).await {
                    Ok(_) => break,
                    Err(LogError::UnknownTopic { .. } | LogError::Unavailable { .. })
                        if started.elapsed() < self.options.limits.request_within => {}
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(CREATED_YET).await;
            }
        }
        Ok(())
    }

    pub(super) async fn topics(self: &Arc<Self>) -> Result<Vec<TopicInfo>, LogError> {
        let mut infos = self.ask(Self::topics_now).await?;
        let names: Vec<&str> = infos.iter().map(|info| info.name.as_str()).collect();
        let mut settings = self.settings(&names).await?;
        // Deleted since: no settings came back for it.
        infos.retain_mut(|info| match settings.remove(&info.name) {
            Some(settings) => {
                info.settings = settings;
                true
            }
            None => false,
        });
        Ok(infos)
    }

    async fn settings(&self, topics: &[&str]) -> Result<BTreeMap<String, BTreeMap<String, String>>, LogError> {
        let mut settings = BTreeMap::new();
        if topics.is_empty() {
            return Ok(settings);
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = self.admin.describe_configs(&resources, &self.admin_options()).await;
        let answers = answers.map_err(|error| self.health.explain("reading topics' settings", &error))?;
        for (topic, answer) in topics.iter().zip(answers) {
            match answer {
                Ok(resource) => {
                    let entries = resource.entries.into_iter().filter(|entry| !entry.is_sensitive);
                    let entries = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
                    settings.insert((*topic).to_owned(), entries);
                }
                Err(code) if is_unknown_topic(code) => {}
                Err(code) => return Err(self.health.explain_code(&format!("reading the settings of {topic}"), code)),
            }
        }
        Ok(settings)
    }

    pub(super) async fn ends(self: &Arc<Self>, topic: &str) -> Result<Vec<Ends>, LogError> {
        let topic: Arc<str> = topic.into();
        self.ask(move |cluster| cluster.ends_now(&topic)).await
    }

    pub(super) async fn committed(
        self: &Arc<Self>,
        group: &str,
        of: &[TopicPartition],
    ) -> Result<Vec<Option<Committed>>, LogError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let (group, of) = (group.to_owned(), of.to_vec());
        self.ask(move |cluster| {
            let mut config = cluster.options.tools()?;
            config.set("group.id", &group).set("enable.auto.commit", "false");
            let context = Context::new(&cluster.health);
            let consumer: BaseConsumer<Context> = BaseConsumer::from_config_and_context(&config, context)
                .map_err(|error| cluster.health.explain("creating a client", &error))?;
            committed_of(&consumer, &cluster.options, &cluster.health, &of)
        })
        .await
    }

    pub(super) async fn members(self: &Arc<Self>, prefix: &str) -> Result<Vec<(String, usize)>, LogError> {
        let prefix = prefix.to_owned();
        self.ask(move |cluster| {
            let listed = cluster.tools.fetch_group_list(None, cluster.options.limits.request_within);
            let listed = listed.map_err(|error| cluster.health.explain("listing groups", &error))?;
            cluster.health.answered();
            let ours = listed.groups().iter().filter(|group| group.name().starts_with(&prefix));
            let lively = ours.filter(|group| !group.members().is_empty());
            Ok(lively.map(|group| (group.name().to_owned(), group.members().len())).collect())
        })
        .await
    }

    pub(super) async fn delete(&self, topics: &[&str]) -> Result<(), LogError> {
        if topics.is_empty() {
            return Ok(());
        }
        let answers = self.admin.delete_topics(topics, &self.admin_options()).await;
        for answer in answers.map_err(|error| self.health.explain("deleting topics", &error))? {
            match answer {
                Ok(topic) => self.forget(&topic),
                Err((topic, code)) if is_unknown_topic(code) => self.forget(&topic),
                Err((topic, code)) => return Err(self.health.explain_code(&format!("deleting topic {topic}"), code)),
            }
        }
        Ok(())
    }

    /// The cluster answers at all.
    pub(super) async fn reach(self: &Arc<Self>) -> Result<(), LogError> {
        self.ask(|cluster| cluster.metadata(None).map(drop)).await
    }

    fn partitions_now(&self, topic: &Arc<str>) -> Result<u32, LogError> {
        let metadata = self.metadata(Some(topic))?;
        let unknown = || LogError::UnknownTopic { topic: topic.to_string() };
        let found = metadata.topics().iter().find(|found| found.name() == &**topic).ok_or_else(unknown)?;
        if let Some(error) = found.error() {
            let code = Code::from(error);
            if is_unknown_topic(code) {
                self.forget(topic);
                return Err(unknown());
            }
            return Err(self.health.explain_code(&format!("metadata of {topic}"), code));
        }
        let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
        if !led || found.partitions().is_empty() {
            let reason = format!("metadata of {topic}: a partition has no leader now");
            return Err(LogError::Unavailable { reason });
        }
        let partitions = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
        lock(&self.known).insert(Arc::clone(topic), partitions);
        Ok(partitions)
    }

    fn topics_now(&self) -> Result<Vec<TopicInfo>, LogError> {
        let metadata = self.metadata(None)?;
        let ours =
            metadata.topics().iter().filter(|topic| !topic.name().starts_with(INTERNAL) && topic.error().is_none());
        let mut infos: Vec<TopicInfo> = ours
            .map(|topic| TopicInfo {
                name: topic.name().to_owned(),
                partitions: u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX),
                replication: topic
                    .partitions()
                    .first()
                    .and_then(|partition| u16::try_from(partition.replicas().len()).ok())
                    .unwrap_or(0),
                settings: BTreeMap::new(),
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    /// Watermarks by two requests to each leader, whatever the number of partitions: librdkafka's own call makes two per partition.
    fn ends_now(&self, topic: &Arc<str>) -> Result<Vec<Ends>, LogError> {
        let partitions = self.partitions_now(topic)?;
        let starts = self.offsets(topic, partitions, NativeOffset::Beginning)?;
        let ends = self.offsets(topic, partitions, NativeOffset::End)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Ends { start, end }).collect())
    }

    /// The offset at `edge` of each partition. In the request both edges are times: -2 and -1, which is what librdkafka
    /// calls the edges themselves.
    fn offsets(&self, topic: &str, partitions: u32, edge: NativeOffset) -> Result<Vec<Offset>, LogError> {
        let what = format!("ends of {topic}");
        let failed = |error: KafkaError| match error.rdkafka_error_code() {
            Some(code) if is_unknown_topic(code) => LogError::UnknownTopic { topic: topic.to_owned() },
            _ => self.health.explain(&what, &error),
        };
        let mut list = TopicPartitionList::with_capacity(partitions as usize);
        for partition in 0..partitions {
            list.add_partition_offset(topic, signed(partition), edge).map_err(failed)?;
        }
        let answered = self.tools.offsets_for_times(list, self.options.limits.request_within).map_err(failed)?;
        let mut offsets = vec![Offset(-1); partitions as usize];
        for element in answered.elements() {
            element.error().map_err(failed)?;
            let place = usize::try_from(element.partition()).ok().and_then(|partition| offsets.get_mut(partition));
            if let (Some(place), NativeOffset::Offset(offset)) = (place, element.offset()) {
                *place = Offset(offset);
            }
        }
        if offsets.iter().any(|offset| offset.0 < 0) {
            return Err(LogError::Unavailable { reason: format!("{what}: the answer has gaps") });
        }
        self.health.answered();
        Ok(offsets)
    }

    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, LogError> {
        // Complaints pile up in the client's queue until somebody polls it; its context has them then.
        while next_event(&self.tools).is_some() {}
        let metadata = self.tools.fetch_metadata(topic, self.options.limits.request_within);
        let metadata = metadata.map_err(|error| {
            let what = format!("metadata of {} from {}", topic.unwrap_or("all topics"), self.options.bootstrap);
            self.health.explain(&what, &error)
        })?;
        self.health.answered();
        Ok(metadata)
    }

    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let cluster = Arc::clone(self);
        tokio::task::spawn_blocking(move || question(&cluster)).await.map_err(|error| LogError::Unavailable {
            reason: format!("a question to the cluster ended early: {error}"),
        })?
    }

    fn admin_options(&self) -> AdminOptions {
        let within = Some(self.options.limits.request_within);
        AdminOptions::new().request_timeout(within).operation_timeout(within)
    }
}

/// What `consumer`'s group has committed. Blocks.
pub(super) fn committed_of<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    options: &KafkaOptions,
    health: &Health,
    of: &[TopicPartition],
) -> Result<Vec<Option<Committed>>, LogError> {
    let what = "reading committed offsets";
    let mut list = TopicPartitionList::with_capacity(of.len());
    for at in of {
        list.add_partition(&at.topic, signed(at.partition));
    }
    let list = consumer
        .committed_offsets(list, options.limits.request_within)
        .map_err(|error| health.explain(what, &error))?;
    let mut committed = Vec::with_capacity(of.len());
    for at in of {
        let found = list.find_partition(&at.topic, signed(at.partition));
        let Some(element) = found else {
            committed.push(None);
            continue;
        };
        element.error().map_err(|error| match error.rdkafka_error_code() {
            Some(code) if is_unknown_topic(code) => LogError::UnknownTopic { topic: at.to_string() },
            _ => health.explain(what, &error),
        })?;
        committed.push(match element.offset() {
            NativeOffset::Offset(next) => {
                // rdkafka panics over metadata that isn't text.
                let metadata = catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned()));
                let metadata = metadata.map_err(|_| LogError::Refused {
                    reason: format!("{what}: the metadata that the group has for {at} isn't UTF-8"),
                    hint: "somebody else commits for this group: give Muster a group of its own".to_owned(),
                })?;
                Some(Committed { next: Offset(next), metadata })
            }
            _ => None,
        });
    }
    health.answered();
    Ok(committed)
}

/// Partitions as librdkafka counts them; more than it can count there are none.
pub(super) fn signed(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
