//! Looks whether a partition is still ours and still the same: claims, records of somebody else, another life, a schema
//! that isn't known. What has to be mended is mended in [`super::heal`].

use chrono::TimeDelta;
use schemas::{Schema, SchemaId};

use super::absorb::Absorber;
use super::{EmitError, Emitter};
use crate::change::Epoch;
use crate::log::{LogError, Offset, scan};

/// So often a partition is read on before its owner gives way to whoever goes on appending to it.
const READ_ON: usize = 10;

/// How often an emitter looks whether somebody else has appended.
const LOOK_FOR_FOREIGN: TimeDelta = TimeDelta::seconds(5);

impl Emitter {
    /// Before a change is made: the claims still hold, and nothing was appended by somebody else.
    pub(super) async fn ready(&mut self, partitions: Vec<u32>) -> Result<(), EmitError> {
        let now = self.context.clock.now();
        let mut look = false;
        for partition in &partitions {
            let Some(owned) = self.owned.get(partition) else {
                return Err(EmitError::NotOwned { at: self.at(*partition) });
            };
            if !owned.claim.held() {
                return Err(EmitError::Fenced { at: self.at(*partition) });
            }
            look |= owned.behind || (now - owned.looked).abs() >= LOOK_FOR_FOREIGN;
        }
        if look { self.look(&partitions).await } else { Ok(()) }
    }

    /// Looks whether somebody else has appended to any owned partition, and heals what they did. Loops call it when
    /// they have nothing else to do.
    pub async fn check(&mut self) -> Result<(), EmitError> {
        let partitions = self.owned();
        self.ready(partitions).await
    }

    async fn look(&mut self, partitions: &[u32]) -> Result<(), EmitError> {
        let ends = self.context.log.ends(&self.name).await?;
        let now = self.context.clock.now();
        for &partition in partitions {
            let at = self.at(partition);
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            owned.looked = now;
            if !self.context.state.incarnations.is_present(&at, &owned.incarnation)? {
                // A reader has found out that ours is over.
                return Err(EmitError::Reincarnated { at });
            }
            let end = ends.get(partition as usize).map_or(Offset::START, |bounds| bounds.end);
            if end < owned.end {
                let reached = owned.end;
                return Err(self.reincarnated(partition, reached).await);
            }
            if end > owned.end || owned.behind {
                self.catch_up(partition, false).await?;
            }
        }
        Ok(())
    }

    /// The partition ends below what was in it: notes that it had been there, so that a new incarnation begins when
    /// it is owned again.
    async fn reincarnated(&self, partition: u32, reached: Offset) -> EmitError {
        let at = self.at(partition);
        if let Some(life) = self.incarnation(partition)
            && let Err(error) = self.context.state.incarnations.reached(&at, life, reached).await
        {
            return error.into();
        }
        EmitError::Reincarnated { at }
    }

    /// Reads what the memory hasn't seen and heals what is wrong, until nothing is left that it hasn't seen: while something
    /// is, a change could be given a version that a key has already.
    pub(super) async fn catch_up(&mut self, partition: u32, takeover: bool) -> Result<(), EmitError> {
        for turn in 0..READ_ON {
            self.read_on(partition, takeover && turn == 0).await?;
            let Some(owned) = self.owned.get(&partition) else { return Ok(()) };
            if !owned.behind {
                return Ok(());
            }
            if !owned.claim.held() {
                return Err(EmitError::Fenced { at: self.at(partition) });
            }
        }
        let reason = format!("something other than muster keeps appending to {}", self.at(partition));
        Err(LogError::Unavailable { reason }.into())
    }

    async fn read_on(&mut self, partition: u32, takeover: bool) -> Result<(), EmitError> {
        let at = self.at(partition);
        // Records behind the last one that is known are somebody else's only where that one still stands.
        let kept = self.owned.get(&partition).map(|owned| owned.reached(at.clone()));
        if !takeover && self.context.state.incarnations.end_belied(kept.as_slice()).await? {
            return Err(EmitError::Reincarnated { at });
        }
        let Some(owned) = self.owned.get_mut(&partition) else { return Err(EmitError::NotOwned { at }) };
        owned.behind = true;
        let from = owned.memory.next();
        let mut absorber = Absorber::new(&mut owned.memory);
        let reached = scan(self.context.log.as_ref(), &[(at.clone(), from)], |record| absorber.absorb(record)).await;
        let ends = match reached {
            Err(LogError::OutOfRange { .. }) => return Err(self.reincarnated(partition, from).await),
            reached => reached?,
        };
        let end = ends.first().map_or(from, |(_, end)| *end);
        let schemas = absorber.finish(end)?;
        owned.end = end;
        if takeover && owned.memory.writer() >= owned.writer {
            // Epochs began anew with the claims' topic: ours must still be above all that wrote here.
            owned.writer = Epoch(owned.memory.writer().0 + 1);
        }
        for id in schemas {
            if id == self.schema_id {
                continue;
            }
            if let Err(error) = self.released(id).await {
                // Read again, so that a restart stops here too.
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.memory.forget()?;
                }
                return Err(error);
            }
        }
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.behind = false;
        }
        let healed = self.heal(partition, "a former owner appended late, healing").await;
        if healed.is_err() {
            self.behind(partition);
        }
        healed
    }

    /// A writer that finds a schema it doesn't know stops.
    async fn released(&self, id: SchemaId) -> Result<(), EmitError> {
        let schema = self.context.state.schemas.schema(id).await?;
        let released = schemas::compatibility::released().iter().filter(|released| *released.topic == *self.name);
        let known = released
            .filter_map(|released| Schema::parse(released.text).ok())
            .any(|s| s.canonical() == schema.canonical());
        let outgrown = self.topic.entity().is_some_and(|entity| entity.generated) && has_all_of(&self.schema, &schema);
        if known || outgrown || self.schema.canonical() == schema.canonical() {
            Ok(())
        } else {
            Err(EmitError::NewerSchema { topic: self.name.to_string(), id: id.0 })
        }
    }
}

/// Whether every field of an earlier schema is in the one that was made from it.
fn has_all_of(present: &Schema, earlier: &Schema) -> bool {
    let is_there = |field: &schemas::Field| {
        let same = |(_, now): (usize, &schemas::Field)| {
            now.kind.to_string() == field.kind.to_string() && now.nullable == field.nullable
        };
        present.field(&field.name).is_some_and(same)
    };
    present.name() == earlier.name() && earlier.fields().iter().all(is_there)
}
