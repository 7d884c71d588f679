//! Every topic of the system: what it is called, keyed by, how it is partitioned and kept.
//!
//! A new entity is a schema in `avro/<system>/` and one line in [`ENTITIES`].

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::json;

use crate::{
    decode::values,
    key::Key,
    malformed::Malformed,
    schema::{Schema, SchemaError},
    time::{Date, LocalTimestamp, Timestamp},
    value::Value,
};

/// What is true of an entity topic before its schema is read.
struct Entry {
    system: &'static str,
    entity: &'static str,
    key_fields: &'static [&'static str],
    group_fields: usize,
    spread: Spread,
    schema: &'static str,
}

const fn entry(system: &'static str, entity: &'static str, schema: &'static str) -> Entry {
    Entry { system, entity, key_fields: &["id"], group_fields: 1, spread: Spread::One, schema }
}

/// Small masters have one partition always: they are one group, and others read them whole.
static ENTITIES: [Entry; 11] = [
    entry("ats", "staff", include_str!("../avro/ats/staff.avsc")),
    entry("ats", "health_authority", include_str!("../avro/ats/health_authority.avsc")),
    entry("ats", "reason", include_str!("../avro/ats/reason.avsc")),
    entry("ats", "milestone", include_str!("../avro/ats/milestone.avsc")),
    Entry {
        key_fields: &["applicant_id"],
        spread: Spread::Default,
        ..entry("ats", "applicant", include_str!("../avro/ats/applicant.avsc"))
    },
    entry("register", "user", include_str!("../avro/register/user.avsc")),
    entry("register", "health_authority", include_str!("../avro/register/health_authority.avsc")),
    entry("register", "reason", include_str!("../avro/register/reason.avsc")),
    entry("register", "status", include_str!("../avro/register/status.avsc")),
    Entry {
        key_fields: &["applicant_id"],
        spread: Spread::Default,
        ..entry("register", "applicant", include_str!("../avro/register/applicant.avsc"))
    },
    Entry {
        key_fields: &["applicant_id", "status_id", "start_date"],
        spread: Spread::Default,
        ..entry("register", "milestone", include_str!("../avro/register/milestone.avsc"))
    },
];

/// Muster's own state. The tasks' partitions are shared out among processes; the rest is read whole by each.
static STATES: [(&str, Spread); 7] = [
    ("muster.tasks", Spread::Default),
    ("muster.positions", Spread::One),
    ("muster.topics", Spread::One),
    ("muster.schemas", Spread::One),
    ("muster.progress", Spread::One),
    ("muster.dead-letters", Spread::One),
    ("muster.requests", Spread::One),
];

/// One topic. All topics are compacted.
#[derive(Clone, Debug)]
pub struct Topic {
    /// As in `ats.applicant`.
    pub name: String,
    /// What its values are.
    pub kind: TopicKind,
    /// How long a tombstone lives at least.
    pub delete_retention: Duration,
    /// How long a record stays at least before compaction may drop it for a newer one.
    pub min_compaction_lag: Duration,
    /// The largest record, in bytes.
    pub max_message_bytes: u32,
    spread: Spread,
}

/// What a configuration says of a topic that isn't built in: one that a table is followed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableTopic {
    /// As in `prm.employee`.
    pub name: String,
    /// The system, as in `prm`.
    pub system: String,
    /// The entity, as in `employee`.
    pub entity: String,
    /// The fields that make up the key, in order.
    pub key_fields: Vec<String>,
    /// How many leading key fields form the partition key.
    pub group_fields: usize,
    /// One partition always, whatever the log's default.
    pub one_partition: bool,
}

/// What the values of a topic are.
#[derive(Clone, Debug)]
pub enum TopicKind {
    /// Entities in Avro.
    Entity(EntityTopic),
    /// Muster's own state in JSON.
    State,
}

/// What only topics of entities have.
#[derive(Clone, Debug)]
pub struct EntityTopic {
    /// The system the entity belongs to, as in `ats`.
    pub system: String,
    /// The entity, as in `applicant`.
    pub entity: String,
    /// The fields that make up the key, in order.
    pub key_fields: Vec<String>,
    /// How many leading key fields form the partition key.
    pub group_fields: usize,
    /// The current schema of the values. Of a [`generated`](Self::generated) one, until its table has been looked at, an
    /// outline that has the key's fields alone, as text.
    pub schema: Arc<Schema>,
    /// The schema isn't released with the program: whoever reads the table makes it, and grows it.
    pub generated: bool,
}

/// How a topic is spread over partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    One,
    Default,
}

/// Where the topics are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A Kafka cluster of three brokers or more.
    Production,
    /// The log inside the process.
    Embedded,
}

/// All topics.
#[derive(Clone, Debug)]
pub struct Catalogue {
    topics: Vec<Arc<Topic>>,
}

/// The catalogue built into this program.
///
/// # Panics
/// When a schema in `avro/` can't be used, which the tests of this crate rule out.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        let entities = ENTITIES.iter().map(entity_topic);
        let states = STATES.iter().map(|(name, spread)| topic((*name).to_owned(), TopicKind::State, *spread));
        Catalogue { topics: entities.chain(states).map(Arc::new).collect() }
    });
    &CATALOGUE
}

impl Catalogue {
    /// This catalogue with other topics beside; of two with one name, the earlier one stays.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = Topic>) -> Catalogue {
        let (mut topics, states): (Vec<_>, Vec<_>) =
            self.topics.iter().cloned().partition(|topic| topic.entity().is_some());
        for topic in more {
            let taken = topics.iter().chain(&states).any(|other| other.name == topic.name);
            if !taken {
                topics.push(Arc::new(topic));
            }
        }
        topics.extend(states);
        Catalogue { topics }
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// What only topics of entities have, by the topic's name.
    pub fn entity(&self, name: &str) -> Option<&EntityTopic> {
        self.topic(name)?.entity()
    }

    /// Every topic, entities first.
    pub fn topics(&self) -> &[Arc<Topic>] {
        &self.topics
    }

    /// Every topic's name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| topic.name.as_str())
    }
}

impl TableTopic {
    /// The full name of the schema's record, as in `muster.prm.employee`: another one for each topic, so that schemas of
    /// two topics never share an id.
    pub fn schema_name(&self) -> String {
        let beside = self.name.strip_prefix(&self.system).and_then(|rest| rest.strip_prefix('.'));
        let name = beside.filter(|rest| !rest.is_empty()).unwrap_or(&self.name);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        format!("muster.{}.{}", self.system, name.chars().map(plain).collect::<String>())
    }
}

impl Topic {
    /// The topic of a table, with an outline of its schema. Fails when the names can't be Avro's.
    pub fn of_table(of: TableTopic) -> Result<Topic, SchemaError> {
        let fields: Vec<_> = of.key_fields.iter().map(|name| json!({ "name": name, "type": "string" })).collect();
        let outline = json!({
            "type": "record",
            "name": of.schema_name(),
            "doc": "An outline: its table hasn't been looked at.",
            "fields": fields,
        });
        let entity = EntityTopic {
            system: of.system,
            entity: of.entity,
            key_fields: of.key_fields,
            group_fields: of.group_fields,
            schema: Arc::new(Schema::parse(&outline.to_string())?),
            generated: true,
        };
        let spread = if of.one_partition { Spread::One } else { Spread::Default };
        Ok(topic(of.name, TopicKind::Entity(entity), spread))
    }

    /// The same topic with values of this schema. A state topic has none, and stays as it is.
    #[must_use]
    pub fn with_schema(&self, schema: Arc<Schema>) -> Topic {
        let mut topic = self.clone();
        if let TopicKind::Entity(entity) = &mut topic.kind {
            entity.schema = schema;
        }
        topic
    }

    /// What only topics of entities have.
    pub fn entity(&self) -> Option<&EntityTopic> {
        match &self.kind {
            TopicKind::Entity(entity) => Some(entity),
            TopicKind::State => None,
        }
    }

    /// The subject of the values' schemas in a registry.
    pub fn subject(&self) -> String {
        format!("{}-value", self.name)
    }

    /// How many partitions it is created with.
    pub fn partitions(&self, profile: Profile) -> u32 {
        match (self.spread, profile) {
            (Spread::One, _) | (Spread::Default, Profile::Embedded) => 1,
            (Spread::Default, Profile::Production) => 12,
        }
    }

    /// How many brokers keep a copy.
    pub fn replication(&self, profile: Profile) -> u16 {
        match profile {
            Profile::Production => 3,
            Profile::Embedded => 1,
        }
    }

    /// The topic's configuration in Kafka's own terms.
    pub fn kafka_config(&self, profile: Profile) -> Vec<(&'static str, String)> {
        let in_sync = match profile {
            Profile::Production => 2,
            Profile::Embedded => 1,
        };
        vec![
            ("cleanup.policy", "compact".to_owned()),
            ("delete.retention.ms", self.delete_retention.as_millis().to_string()),
            ("min.compaction.lag.ms", self.min_compaction_lag.as_millis().to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("min.insync.replicas", in_sync.to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ]
    }
}

impl EntityTopic {
    /// The key of an encoded entity: what [`crate::Entity::key`] gives for its struct.
    pub fn key_of(&self, body: &[u8]) -> Result<Key, Malformed> {
        let values = values(&self.schema, body)?;
        let mut parts = Vec::with_capacity(self.key_fields.len());
        for name in &self.key_fields {
            let Some((place, _)) = self.schema.field(name) else {
                return Err(Malformed::new(0, format!("key field {name} isn't in the schema")));
            };
            parts.push(key_part(&values[place]).map_err(|fault| fault.in_field(name))?);
        }
        let parts: Vec<Option<&str>> = parts.iter().map(Option::as_deref).collect();
        Ok(Key::of(&parts))
    }

    /// The part of a key that decides the partition and the group.
    pub fn partition_key<'k>(&self, key: &'k Key) -> &'k str {
        key.prefix(self.group_fields)
    }
}

fn key_part(value: &Value<'_>) -> Result<Option<String>, Malformed> {
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::String(text) => (*text).to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Long(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Date(days) => Date(*days).to_string(),
        Value::Timestamp { micros } => Timestamp(*micros).to_string(),
        Value::LocalTimestamp { micros } => LocalTimestamp(*micros).to_string(),
        Value::Decimal(decimal) => decimal.to_string(),
        Value::Float(_) | Value::Double(_) | Value::Bytes(_) | Value::Array(_) | Value::Map(_) | Value::Record(_) => {
            return Err(Malformed::new(0, "its type can't be part of a key"));
        }
    }))
}

fn entity_topic(entry: &Entry) -> Topic {
    let name = format!("{}.{}", entry.system, entry.entity);
    let schema = match Schema::parse(entry.schema) {
        Ok(schema) => Arc::new(schema),
        Err(err) => panic!("built-in schema of {name}: {err}"),
    };
    let entity = EntityTopic {
        system: entry.system.to_owned(),
        entity: entry.entity.to_owned(),
        key_fields: entry.key_fields.iter().map(|field| (*field).to_owned()).collect(),
        group_fields: entry.group_fields,
        schema,
        generated: false,
    };
    topic(name, TopicKind::Entity(entity), entry.spread)
}

fn topic(name: String, kind: TopicKind, spread: Spread) -> Topic {
    // A letter holds a whole entity and what is known about its fault.
    let max_message_bytes = if name == "muster.dead-letters" { 4 << 20 } else { 1 << 20 };
    Topic {
        name,
        kind,
        // Longer than the longest depth window of a snapshot (30 days) and another 30 days.
        delete_retention: Duration::from_hours(90 * 24),
        min_compaction_lag: Duration::from_hours(1),
        max_message_bytes,
        spread,
    }
}

#[cfg(test)]
mod tests;
