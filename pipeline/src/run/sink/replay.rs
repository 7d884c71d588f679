//! The replay of a sink's dead letter. It keeps its version, so the guard decides: an old version never wins. A letter of
//! another life of its topic isn't delivered at all: versions of two lives say nothing to each other.

use schemas::Key;
use tokio_util::sync::CancellationToken;

use super::Loop;
use crate::change::Version;
use crate::dead_letters::Letter;
use crate::ledger::Counts;
use crate::log::TopicPartition;
use crate::operations::LetterState;
use crate::processor::Payload;
use crate::run::RunError;
use crate::sink::{Batch, Delivery, SinkError};
use crate::state::{Answer, RequestKind, StateError};

impl Loop<'_> {
    /// Does what was asked of this sink; requests for partitions that others hold are left to them.
    pub(super) async fn answer_requests(&mut self, stop: &CancellationToken) -> Result<(), RunError> {
        let name = self.task.name.to_string();
        for request in self.runtime.state.requests.open(|target| target == name)? {
            let answer = match &request.kind {
                RequestKind::Replay { letter, edited: None } => match self.replay(letter, stop).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        self.runtime.give_up_on(&request, &error).await?;
                        return Err(error);
                    }
                },
                RequestKind::Replay { .. } => {
                    let text = "an edited letter is replayed by the component that writes its topic";
                    Some(Answer { done: false, text: text.into(), details: serde_json::Value::Null })
                }
                RequestKind::Sync { .. }
                | RequestKind::Repair { .. }
                | RequestKind::Compare { .. }
                | RequestKind::Run => {
                    let text = format!("{name} is a sink: it states nothing itself");
                    Some(Answer { done: false, text, details: serde_json::Value::Null })
                }
            };
            if let Some(answer) = answer {
                self.runtime.state.requests.answer(request, answer).await?;
            }
        }
        Ok(())
    }

    async fn replay(&mut self, id: &str, stop: &CancellationToken) -> Result<Option<Answer>, RunError> {
        let refused = |text: String| Some(Answer { done: false, text, details: serde_json::json!({ "letter": id }) });
        let Some((LetterState::Open, letter)) = self.runtime.letters.get(id).await? else {
            return Ok(refused(format!("there is no open dead letter {id}")));
        };
        let Some((at, delivery)) = self.delivery_of(&letter).await? else {
            return Ok(refused(format!("dead letter {id} has no record that could be delivered")));
        };
        let Some(place) = self.places.get(&at) else { return Ok(None) };
        if place.sweep.is_some() {
            // The topic wins now, whatever its version: a letter's must not. Taken up when the comparison is done.
            return Ok(None);
        }
        if letter.life.is_some_and(|life| life != place.of.incarnation) {
            if self.runtime.state.incarnations.present(&at).await? != place.of.incarnation {
                // Ours is over. Whoever has the partition next, and be it us again, finds out.
                return Err(SinkError::Fenced { at }.into());
            }
            let state = LetterState::Superseded;
            self.runtime.letters.settle(id, state).await?;
            let text =
                "the topic was made anew since, and what it holds now was delivered or set aside again: superseded";
            let details = serde_json::json!({ "letter": id, "state": state });
            return Ok(Some(Answer { done: true, text: text.into(), details }));
        }
        let batch = Batch { parts: vec![place.part(vec![delivery], false)] };
        let applied = match self.task.sink.apply(&batch).await {
            Ok(applied) => applied,
            Err(SinkError::Rejected(rejected)) => {
                let reason = rejected.first().map(|r| r.reason.to_string()).unwrap_or_default();
                return Ok(refused(format!("dead letter {id} still can't be delivered: {reason}")));
            }
            Err(SinkError::Unavailable { .. } | SinkError::Contended { .. }) if !stop.is_cancelled() => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let counts = Counts { read: 1, ..applied.counts };
        self.account.book(&counts)?;
        let superseded = counts.stale > 0 || counts.unchanged > 0;
        let state = if superseded { LetterState::Superseded } else { LetterState::Replayed };
        self.runtime.letters.settle(id, state).await?;
        let text = match counts {
            _ if superseded => "the target holds a newer version: superseded",
            Counts { parked: 1.., .. } => "replayed: the row waits in the target for another row",
            _ => "replayed: the row was delivered",
        };
        Ok(Some(Answer { done: true, text: text.into(), details: serde_json::json!({ "letter": id, "state": state }) }))
    }

    async fn delivery_of(&self, letter: &Letter) -> Result<Option<(TopicPartition, Delivery)>, RunError> {
        let (Some(key), Some(version)) = (&letter.key, letter.version) else { return Ok(None) };
        let Ok(key) = Key::from_bytes(key.as_bytes()) else { return Ok(None) };
        let Some(topic) = self.task.topics.iter().find(|topic| topic.name == letter.topic) else { return Ok(None) };
        let partitions = u32::try_from(self.runtime.log.ends(&topic.name).await?.len()).unwrap_or(u32::MAX);
        let group_fields = topic.entity().map_or(1, |entity| entity.group_fields);
        let partition = schemas::partition_of(key.prefix(group_fields).as_bytes(), partitions);
        let Ok(raw) = letter.contents.bytes() else { return Ok(None) };
        let payload = if raw.is_empty() {
            None
        } else {
            // What can't be read is no delete.
            let Some(payload) = self.payload(&raw).await? else { return Ok(None) };
            Some(payload)
        };
        let hash = letter.hash.as_deref().and_then(|hash| hash.parse().ok());
        let offset = letter.place.map_or_else(Default::default, |(_, offset)| offset);
        let at = TopicPartition::new(topic.name.as_str(), partition);
        Ok(Some((at, Delivery { key, version: Version(version.0), hash, offset, payload })))
    }

    async fn payload(&self, raw: &[u8]) -> Result<Option<Payload>, RunError> {
        let Ok((id, body)) = schemas::unframe(raw) else { return Ok(None) };
        let schema = match self.runtime.state.schemas.schema(id).await {
            Ok(schema) => schema,
            Err(StateError::UnknownSchema { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let body = bytes::Bytes::copy_from_slice(body);
        Ok(schemas::check(&schema, &body).is_ok().then_some(Payload { schema, body }))
    }
}
