//! Drives the processors of the ATS in memory: latest inputs per group, tables, and the difference to the last outputs.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use pipeline::change::Change;
use pipeline::processor::{Payload, Row};
use pipeline::reject::Reject;
use pipeline::run::AnyProcessor;
use processors::{Applicants, FOREIGN_MILESTONE, Users, health_authorities, reasons, statuses};
use schemas::{Entity, Key, catalogue};

/// One record of an input topic: the entity's latest, or that it is gone.
#[derive(Clone, Debug)]
pub struct Record {
    pub topic: &'static str,
    pub key: Key,
    pub payload: Option<Payload>,
}

pub fn now<E: Entity>(entity: &E) -> Record {
    let schema = Arc::clone(&catalogue().entity(E::TOPIC).unwrap().schema);
    let mut body = Vec::new();
    schemas::to_avro(&schema, entity, &mut body).unwrap();
    Record { topic: E::TOPIC, key: entity.key(), payload: Some(Payload { schema, body: body.into() }) }
}

pub fn gone<E: Entity>(entity: &E) -> Record {
    Record { topic: E::TOPIC, key: entity.key(), payload: None }
}

/// What the topics of the register hold, and what was said on the way.
#[derive(Default)]
pub struct Register {
    inputs: BTreeMap<(&'static str, Key), Payload>,
    rows: Rows,
    /// Of every derivation so far, by the processor's name.
    pub reports: BTreeMap<&'static str, Report>,
}

pub type Rows = BTreeMap<(&'static str, Key), Bytes>;

#[derive(Debug, Default, PartialEq)]
pub struct Report {
    pub superseded: u64,
    pub left_out: BTreeMap<&'static str, u64>,
    /// Key and code.
    pub rejected: Vec<(String, &'static str)>,
}

impl Register {
    /// All records are there before the first derivation.
    pub fn of(records: &[Record]) -> Self {
        let mut register = Self::default();
        register.catch_up(records);
        register
    }

    /// A process that takes over: it has what the topics keep, and nothing else.
    pub fn resumed(self) -> Self {
        Self { reports: BTreeMap::new(), ..self }
    }

    /// Takes the records as one batch.
    pub fn catch_up(&mut self, records: &[Record]) {
        for record in records {
            let place = (record.topic, record.key.clone());
            match &record.payload {
                Some(payload) => self.inputs.insert(place, payload.clone()),
                None => self.inputs.remove(&place),
            };
        }
        self.process(&Users, records);
        self.process(&statuses(), records);
        self.process(&reasons(), records);
        self.process(&health_authorities(), records);
        // Without such milestones it must do as it does without their topic.
        self.process(&Applicants { with_foreign: true }, records);
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The entities of one topic, in the order of their keys.
    pub fn all<E: Entity>(&self) -> Vec<E> {
        let schema = &catalogue().entity(E::TOPIC).unwrap().schema;
        let rows = self.rows.iter().filter(|((topic, _), _)| *topic == E::TOPIC);
        rows.map(|(_, body)| schemas::from_avro(schema, body).unwrap()).collect()
    }

    pub fn report(&self, processor: &str) -> &Report {
        &self.reports[processor]
    }

    fn process(&mut self, processor: &dyn AnyProcessor, touched: &[Record]) {
        let mut report = Report::default();
        let mut rejects = Vec::new();
        // The order of a group's inputs is promised, that of the tables' rows isn't.
        let mut rows = self.latest(processor.tables());
        rows.reverse();
        let tables = processor.arrange(&rows, &mut rejects);

        let table_changed = touched.iter().any(|record| processor.tables().contains(&record.topic));
        let mut groups = BTreeSet::new();
        for (topic, key) in self.inputs.keys().chain(self.rows.keys()) {
            let is_ours = processor.inputs().contains(topic) || processor.outputs().contains(topic);
            if table_changed && is_ours {
                groups.insert(group_of(processor, topic, key));
            }
        }
        for record in touched.iter().filter(|record| processor.inputs().contains(&record.topic)) {
            groups.insert(group_of(processor, record.topic, &record.key));
        }

        for key in groups {
            self.derive(processor, &key, tables.as_ref(), &mut report, &mut rejects);
        }
        report.rejected = rejects.iter().map(said).collect();
        let total = self.reports.entry(processor.name()).or_default();
        total.superseded += report.superseded;
        total.rejected.extend(report.rejected);
        for (rule, count) in report.left_out {
            *total.left_out.entry(rule).or_default() += count;
        }
    }

    fn derive(
        &mut self,
        processor: &dyn AnyProcessor,
        group: &Key,
        tables: &(dyn Any + Send + Sync),
        report: &mut Report,
        rejects: &mut Vec<Reject>,
    ) {
        let mut inputs = self.latest(processor.inputs());
        inputs.retain(|row| group_of(processor, &row.topic, &row.key) == *group);
        let out = match processor.derive(group, &inputs.iter().collect::<Vec<_>>(), tables) {
            Ok(out) => out,
            Err(reject) => {
                rejects.push(reject);
                return;
            }
        };
        rejects.extend(out.rejects);
        report.superseded += out.superseded;
        for (rule, count) in out.left_out {
            *report.left_out.entry(rule).or_default() += count;
        }

        self.rows.retain(|(topic, row), _| {
            !(processor.outputs().contains(topic) && (processor.one_group() || row.is_under(group.as_str())))
        });
        for (topic, change) in out.changes {
            let Change::Put { key, body, .. } = change else {
                panic!("a processor says what is there, not what isn't")
            };
            assert!(processor.outputs().contains(&topic), "{topic} isn't an output of {}", processor.name());
            assert!(processor.one_group() || key.is_under(group.as_str()), "{key} isn't under {group}");
            schemas::check(&catalogue().entity(topic).unwrap().schema, &body).unwrap();
            assert!(self.rows.insert((topic, key), body).is_none(), "one key twice");
        }
    }

    fn latest(&self, topics: &[&str]) -> Vec<Row> {
        let ours = self.inputs.iter().filter(|((topic, _), _)| topics.contains(topic));
        ours.map(|((topic, key), payload)| Row {
            topic: Arc::from(*topic),
            key: key.clone(),
            payload: payload.clone(),
            time: None,
        })
        .collect()
    }
}

fn group_of(processor: &dyn AnyProcessor, topic: &str, key: &Key) -> Key {
    match (processor.one_group(), topic) {
        (true, _) => Key::from(""),
        (false, FOREIGN_MILESTONE) => Key::from(key.prefix(1)),
        (false, topic) => Key::from(catalogue().entity(topic).unwrap().partition_key(key)),
    }
}

fn said(reject: &Reject) -> (String, &'static str) {
    (reject.key.as_ref().map(Key::to_string).unwrap_or_default(), reject.reason.code)
}

/// Taken at once, and stopped and resumed after every change: the same rows.
pub fn straight_and_resumed(records: &[Record]) -> Register {
    let straight = Register::of(records);
    for stop in 0..=records.len() {
        let (before, after) = records.split_at(stop);
        let mut register = Register::of(before).resumed();
        for record in after {
            register.catch_up(std::slice::from_ref(record));
            register = register.resumed();
        }
        assert!(register.rows == straight.rows, "stopped after {stop} of {} changes: other rows", records.len());
    }
    straight
}
