//! What a processor is: a pure function from the latest inputs of a group to its complete outputs.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemas::{Entity, Key, Schema};

use crate::change::Change;
use crate::reject::{Reason, Reject};

/// An entity as a topic holds it.
#[derive(Clone)]
pub struct Payload {
    /// What it was written with.
    pub schema: Arc<Schema>,
    /// The Avro body, without the wire frame.
    pub body: Bytes,
}

/// Never shows the contents: they are personal data.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.schema.name(), self.body.len())
    }
}

/// One row of a reference table, or one input of a group.
pub struct Row {
    /// The topic it lies in.
    pub topic: Arc<str>,
    /// Its key there.
    pub key: Key,
    /// What the topic holds.
    pub payload: Payload,
    /// When the source says it changed.
    pub time: Option<DateTime<Utc>>,
}

/// One input of a group, decoded.
#[derive(Debug)]
pub struct Input<In> {
    /// The topic it lies in.
    pub topic: Arc<str>,
    /// Its key there.
    pub key: Key,
    /// What it says.
    pub value: In,
}

/// The records that share a partition key and are worked out together: the latest of each key, in the order of
/// (topic, key), never in that of their arrival.
#[derive(Debug)]
pub struct Group<In> {
    /// What they share.
    pub key: Key,
    /// Empty when all have gone: then there is nothing to put.
    pub inputs: Vec<Input<In>>,
}

/// What a group comes to.
#[derive(Default)]
pub struct Outputs {
    /// Complete: what was there before and isn't here is deleted.
    pub changes: Vec<(&'static str, Change)>,
    /// Parts that were set aside.
    pub rejects: Vec<Reject>,
    /// Parts that another part of the same group overtook.
    pub superseded: u64,
    /// Parts that a rule leaves out, by the rule's name.
    pub left_out: std::collections::BTreeMap<&'static str, u64>,
}

impl Outputs {
    /// The group has this entity.
    pub fn put<E: Entity>(&mut self, entity: &E) -> Result<(), Reject> {
        let key = entity.key();
        let not_encodable =
            |text: String| Reject::new(Some(key.clone()), Reason::new("not_encodable", text), Bytes::new());
        let Some(topic) = schemas::catalogue().entity(E::TOPIC) else {
            return Err(not_encodable(format!("the catalogue has no entity topic {}", E::TOPIC)));
        };
        let mut body = Vec::with_capacity(256);
        schemas::to_avro(&topic.schema, entity, &mut body).map_err(|error| not_encodable(error.to_string()))?;
        self.changes.push((E::TOPIC, Change::Put { key, body: body.into(), time: None }));
        Ok(())
    }

    /// Sets one part aside and goes on with the rest.
    pub fn reject(&mut self, part: Reject) {
        self.rejects.push(part);
    }

    /// Counts a part that the rule called `rule` leaves out on purpose.
    pub fn leave_out(&mut self, rule: &'static str) {
        *self.left_out.entry(rule).or_default() += 1;
    }
}

/// A pure function: no I/O, no clock (a daily tick is a one-record table). The same inputs in any order give the same bytes.
pub trait Processor: Send + Sync + 'static {
    /// An input, decoded.
    type In: Send;
    /// The reference tables, arranged for look-up.
    type Tables: Send + Sync;

    /// Its name, for groups, headers and metrics.
    fn name(&self) -> &'static str;
    /// Raised whenever the same inputs would give other outputs: all groups are derived again.
    fn version(&self) -> u32;
    /// The topics whose records make the groups; all share group key and partition count, or the runner refuses them. With
    /// several, it keeps the latest inputs on local disk; one that is [one group](Self::one_group) has one.
    fn inputs(&self) -> &'static [&'static str];
    /// Small topics read whole before the first input.
    fn tables(&self) -> &'static [&'static str];
    /// The topics it alone writes. Every output key begins with the whole key of its group, unless the processor is
    /// [one group](Self::one_group).
    fn outputs(&self) -> &'static [&'static str];
    /// All inputs are one group (a small master that groups otherwise than by its key).
    fn one_group(&self) -> bool {
        false
    }

    /// Decodes one input.
    fn decode(&self, row: &Row) -> Result<Self::In, Reject>;
    /// Arranges the reference tables; a row that can't be used is left out and reported.
    fn arrange(&self, rows: &[Row], rejects: &mut Vec<Reject>) -> Self::Tables;
    /// The complete outputs of one group. `Err`: nothing of the group is emitted, its last outputs stay.
    fn derive(&self, group: &Group<Self::In>, tables: &Self::Tables, out: &mut Outputs) -> Result<(), Reject>;
}
