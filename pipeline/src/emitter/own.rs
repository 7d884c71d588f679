//! Takes partitions over: claims them, opens what this machine remembers of them, and reads on.

use std::collections::BTreeMap;

use super::memory::Memory;
use super::{EmitError, Emitter, Owned, OwnedPartition};
use crate::change::Incarnation;
use crate::log::TopicPartition;
use crate::state::Reached;

impl Emitter {
    /// Claims partitions, reads what the topic holds of them and heals what a former owner left.
    pub async fn own(&mut self, partitions: &[u32]) -> Result<BTreeMap<u32, OwnedPartition>, EmitError> {
        let mut shown = BTreeMap::new();
        let all: Vec<TopicPartition> = partitions.iter().map(|partition| self.at(*partition)).collect();
        let mut claims = Vec::with_capacity(all.len());
        for at in &all {
            self.owned.remove(&at.partition);
            let key = format!("{}|{at}", self.component);
            claims.push(self.context.state.claims.claim(&key).await?);
        }
        let memories = self.memories(&all).await?;
        for ((at, claim), (incarnation, memory)) in all.into_iter().zip(claims).zip(memories) {
            let partition = at.partition;
            let (writer, end, looked) = (claim.epoch(), memory.next(), self.context.clock.now());
            let life = incarnation.clone();
            let owned = Owned { claim, writer, incarnation: life, memory, end, behind: true, looked };
            self.owned.insert(partition, owned);
            // A former owner may have died before it could state everything again.
            self.forgotten += u64::from(self.context.state.incarnations.incomplete(&at, &incarnation)?);
            self.catch_up(partition, true).await?;
            self.save(partition)?;
            shown.insert(partition, OwnedPartition { incarnation });
        }
        Ok(shown)
    }

    /// The partitions' present lives, with what this machine remembers of them. What it remembers may show that a life is
    /// over.
    async fn memories(&self, of: &[TopicPartition]) -> Result<Vec<(Incarnation, Memory)>, EmitError> {
        let now_ms = self.context.clock.now().timestamp_millis();
        let usable_for_ms = i64::try_from(self.topic.delete_retention.as_millis()).unwrap_or(i64::MAX) / 2;
        loop {
            let mut lives = self.context.state.incarnations.present_all(of).await?;
            let mut memories = Vec::with_capacity(of.len());
            let mut kept = Vec::with_capacity(of.len());
            for at in of {
                let Some(life) = lives.remove(at) else { return Err(EmitError::NotOwned { at: at.clone() }) };
                let (folder, name) = (self.context.folder.as_ref(), at.to_string());
                let memory = Memory::open(folder, &name, self.partitions, &life, now_ms, usable_for_ms)?;
                let (incarnation, end, landmark) = (life.clone(), memory.next(), memory.landmark());
                kept.push(Reached { at: at.clone(), incarnation, end, landmark });
                memories.push((life, memory));
            }
            if !self.context.state.incarnations.end_belied(&kept).await? {
                return Ok(memories);
            }
        }
    }
}
