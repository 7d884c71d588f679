//! The replay of a feed's dead letter, by its owner: decoded again, or as it was edited.

use std::sync::Arc;

use super::Working;
use crate::change::Asked;
use crate::emitter::Stamp;
use crate::operations::LetterState;
use crate::run::{RunError, Runtime};
use crate::state::Answer;

impl Working<'_> {
    /// Tries a letter of this feed again. The answer says what came of it; the letter stays open unless it was used.
    pub(super) async fn replay(
        &mut self,
        letter: &str,
        edited: Option<&serde_json::Value>,
        runtime: &Runtime,
    ) -> Result<Answer, RunError> {
        let refused = |text: String| Answer { done: false, text, details: serde_json::json!({ "letter": letter }) };
        let Some((state, found)) = runtime.letters.get(letter).await? else {
            return Ok(refused(format!("there is no dead letter {letter}")));
        };
        if state != LetterState::Open {
            return Ok(refused(format!("dead letter {letter} is settled already: {}", state.as_str())));
        }
        let Ok(original) = found.contents.bytes() else {
            return Ok(refused(format!("dead letter {letter} can't be read: its contents aren't base64")));
        };
        let raw = match edited {
            Some(json) => json.to_string().into_bytes(),
            None => original,
        };
        let change = match self.feed.source.decode(&raw) {
            Ok(change) => change,
            Err(reject) => return Ok(refused(format!("dead letter {letter} still can't be used: {}", reject.reason))),
        };
        let stamp =
            Stamp { captured: runtime.clock.now(), asked: Asked::Changes, run: Arc::from(format!("replay-{letter}")) };
        let emitted = self.emitter.emit(vec![change], &stamp).await?;
        if let Some(reject) = emitted.rejects.first() {
            return Ok(refused(format!("dead letter {letter} still can't be used: {}", reject.reason)));
        }
        self.account.book(&emitted.counts)?;
        // The unchanged record of the system stays among those rejected before: reading it again doesn't bring the letter back.
        runtime.letters.settle(letter, LetterState::Replayed).await?;
        let changed = emitted.counts.delivered > 0;
        let text = if changed { "replayed: a change was written" } else { "replayed: the topic holds it already" };
        Ok(Answer {
            done: true,
            text: text.into(),
            details: serde_json::json!({ "letter": letter, "changed": changed }),
        })
    }
}
