//! Replays of dead letters by the processor: of its own, by deriving the group again; and, edited, of letters of a
//! sink that delivers its topics, since nobody else writes them.

use schemas::Key;

use super::Loop;
use crate::change::{Change, Version};
use crate::dead_letters::Letter;
use crate::emitter::version_of;
use crate::ledger::Counts;
use crate::log::{Offset, Record, TopicPartition, scan};
use crate::operations::LetterState;
use crate::run::RunError;
use crate::run::repair::repair;
use crate::state::{Answer, RequestKind};

impl Loop<'_> {
    /// Does what was asked of this processor; requests for partitions that others hold are left to them.
    pub(super) async fn answer_requests(&mut self) -> Result<(), RunError> {
        let name = self.processor.name();
        for request in self.runtime.state.requests.open(|target| target == name)? {
            let answer = match &request.kind {
                RequestKind::Replay { letter, edited } => match self.replay(letter, edited.as_ref()).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        self.runtime.give_up_on(&request, &error).await?;
                        return Err(error);
                    }
                },
                RequestKind::Repair { topic, partition, keys } => match self.repair(topic, *partition, keys).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        self.runtime.give_up_on(&request, &error).await?;
                        return Err(error);
                    }
                },
                RequestKind::Sync { .. } | RequestKind::Compare { .. } | RequestKind::Run => {
                    Some(not_done(format!("{name} is a processor: it reads no system")))
                }
            };
            if let Some(answer) = answer {
                self.runtime.state.requests.answer(request, answer).await?;
            }
        }
        Ok(())
    }

    async fn repair(
        &mut self,
        topic: &str,
        partition: u32,
        keys: &[(String, Option<Version>)],
    ) -> Result<Option<Answer>, RunError> {
        let Some(emitter) = self.outputs.iter_mut().find(|(name, _)| **name == topic).map(|(_, emitter)| emitter)
        else {
            return Ok(Some(not_done(format!("{topic} isn't written by {}", self.processor.name()))));
        };
        if !emitter.owned().contains(&partition) {
            return Ok(None);
        }
        repair(emitter, partition, keys).await.map(Some)
    }

    async fn replay(&mut self, id: &str, edited: Option<&serde_json::Value>) -> Result<Option<Answer>, RunError> {
        let Some((LetterState::Open, letter)) = self.runtime.letters.get(id).await? else {
            return Ok(Some(not_done(format!("there is no open dead letter {id}"))));
        };
        let Some(key) = letter.key.as_deref().and_then(|key| Key::from_bytes(key.as_bytes()).ok()) else {
            return Ok(Some(not_done(format!("dead letter {id} has no key"))));
        };
        match edited {
            Some(json) => self.write_edited(&letter, key, json).await,
            None => self.derive_again(&letter, &key).await,
        }
    }

    /// A new change in place of the letter's. Its `hash` stays the original's, so that deriving the unchanged inputs
    /// again doesn't undo it.
    async fn write_edited(
        &mut self,
        letter: &Letter,
        key: Key,
        json: &serde_json::Value,
    ) -> Result<Option<Answer>, RunError> {
        let stamp = self.stamp();
        let topic = letter.topic.as_str();
        let Some(emitter) = self.outputs.iter_mut().find(|(name, _)| **name == topic).map(|(_, emitter)| emitter)
        else {
            return Ok(Some(not_done(format!(
                "{topic} isn't written by {}: mend the record where it comes from",
                self.processor.name()
            ))));
        };
        if !emitter.owned().contains(&emitter.partition_of(&key)) {
            return Ok(None);
        }
        let Some(entity) = emitter.topic().entity() else {
            return Ok(Some(not_done(format!("{topic} holds no entities"))));
        };
        let body = match schemas::from_json(&entity.schema, json) {
            Ok(body) => body,
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return Ok(Some(not_done(problems.join("\n"))));
            }
        };
        match entity.key_of(&body) {
            Ok(edited) if edited == key => {}
            _ => return Ok(Some(not_done("the edited record has another key than the letter".into()))),
        }
        let Some(original) = letter.hash.as_deref().and_then(|hash| hash.parse().ok()) else {
            return Ok(Some(not_done(format!("dead letter {} doesn't say what it was made of", letter.id))));
        };
        let change = Change::Put { key, body: body.into(), time: None };
        let emitted = emitter.emit_edited(change, original, &stamp).await?;
        if let Some(reject) = emitted.rejects.first() {
            return Ok(Some(not_done(reject.reason.to_string())));
        }
        self.runtime.letters.settle(&letter.id, LetterState::Replayed).await?;
        Ok(Some(done("replayed: the edited record was written as a new change")))
    }

    /// Derives the letter's group again, from what its topic holds now.
    async fn derive_again(&mut self, letter: &Letter, key: &Key) -> Result<Option<Answer>, RunError> {
        if !self.processor.inputs().contains(&letter.topic.as_str()) {
            let text = format!(
                "{} is looked up whole: mend the record where it comes from, it is then taken in",
                letter.topic
            );
            return Ok(Some(not_done(text)));
        }
        let partition = letter.place.map(|(partition, _)| partition);
        if partition.is_some_and(|partition| !self.partitions.contains_key(&partition)) {
            return Ok(None);
        }
        let Some(record) = self.latest(&letter.topic, key).await? else {
            self.runtime.letters.settle(&letter.id, LetterState::Superseded).await?;
            return Ok(Some(done("its record has gone: superseded")));
        };
        let version = version_of(&record).unwrap_or_default();
        let mut counts = Counts { read: 1, ..Counts::default() };
        let aside = self.derive_and_emit(vec![record], &mut counts).await?;
        // Other parts have letters of their own; where nothing was emitted, nothing was mended.
        let still = aside.iter().find(|aside| !aside.is_part() || self.letter(aside).id == letter.id);
        if let Some(still) = still {
            return Ok(Some(not_done(format!("dead letter {} still can't be used: {}", letter.id, still.reason()))));
        }
        self.account.book(&counts)?;
        let newer = letter.version.is_some_and(|was| was < version);
        let state = if newer { LetterState::Superseded } else { LetterState::Replayed };
        self.runtime.letters.settle(&letter.id, state).await?;
        Ok(Some(done("replayed: its group was derived again")))
    }

    /// The latest record of a key in our partitions.
    async fn latest(&self, topic: &str, key: &Key) -> Result<Option<Record>, RunError> {
        let all: Vec<_> = self.partitions.keys().map(|n| (TopicPartition::new(topic, *n), Offset::START)).collect();
        let mut latest = None;
        scan(self.runtime.log.as_ref(), &all, |record| {
            if record.key.as_deref() == Some(key.as_str().as_bytes()) {
                latest = Some(record);
            }
        })
        .await?;
        Ok(latest.filter(|record| record.value.is_some()))
    }
}

fn done(text: &str) -> Answer {
    Answer { done: true, text: text.to_owned(), details: serde_json::Value::Null }
}

fn not_done(text: String) -> Answer {
    Answer { done: false, text, details: serde_json::Value::Null }
}
