//! Begins work on a system's feeds: each with the schema of its source and an emitter of its own.
//!
//! A feed that the system refuses before its first read (a table that has gone, or has got columns that don't fit what
//! its topic holds) is left out; the others go on, and it is tried again when somebody asks for it.

use std::sync::Arc;

use schemas::{Schema, Topic};

use super::{Feed, Working};
use crate::emitter::Emitter;
use crate::run::{Account, RunError, Runtime};
use crate::source::SourceError;
use crate::state::Answer;

/// The feeds of a system.
#[derive(Default)]
pub(super) struct Feeds<'a> {
    pub working: Vec<Working<'a>>,
    left_out: Vec<LeftOut<'a>>,
}

/// A feed that a person must look after.
struct LeftOut<'a> {
    feed: &'a mut Feed,
    account: &'a mut Account,
    refused: Refused,
}

/// Why.
struct Refused {
    system: String,
    reason: String,
    hint: String,
}

impl Refused {
    fn error(&self) -> RunError {
        let Self { system, reason, hint } = self;
        SourceError::Refused { system: system.clone(), reason: reason.clone(), hint: hint.clone() }.into()
    }
}

impl<'a> Feeds<'a> {
    /// Begins work on a feed, or leaves it out.
    pub async fn open(
        &mut self,
        system: &'a str,
        feed: &'a mut Feed,
        account: &'a mut Account,
        runtime: &Runtime,
    ) -> Result<(), RunError> {
        let announced = announced(&feed.topic, runtime).await?;
        let topic = match feed.source.schema(&announced).await {
            Ok(Some(schema)) => Arc::new(feed.topic.with_schema(schema)),
            Ok(None) => Arc::clone(&feed.topic),
            Err(SourceError::Refused { system, reason, hint }) => {
                let refused = Refused { system, reason, hint };
                tracing::error!(source = feed.name(), error = %refused.error(), "feed stopped, a person must act");
                self.left_out.push(LeftOut { feed, account, refused });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut emitter = Emitter::open(runtime.emitter_context(), feed.name(), topic).await?;
        let all: Vec<u32> = (0..emitter.partitions()).collect();
        emitter.own(&all).await?;
        self.working.push(Working {
            system,
            feed,
            emitter,
            account,
            put_off: None,
            refused: None,
            restate: false,
            restating: false,
        });
        Ok(())
    }

    /// The names of all feeds, those left out included.
    pub fn names(&self) -> Vec<String> {
        let working = self.working.iter().map(|work| work.feed.name());
        working.chain(self.left_out.iter().map(|out| out.feed.name())).map(str::to_owned).collect()
    }

    /// Why a feed was left out, the first of them.
    pub fn left_out(&self) -> Option<RunError> {
        self.left_out.first().map(|out| out.refused.error())
    }

    /// Tries to begin work on the feeds left out that are asked for. Answers for those that still can't be read.
    pub async fn try_again(
        &mut self,
        system: &'a str,
        target: &str,
        runtime: &Runtime,
    ) -> Result<Vec<Answer>, RunError> {
        let wanted = |out: &LeftOut<'a>| target == system || target == out.feed.name();
        let all = std::mem::take(&mut self.left_out);
        let (wanted, others): (Vec<_>, Vec<_>) = all.into_iter().partition(wanted);
        self.left_out = others;
        let mut answers = Vec::new();
        for LeftOut { feed, account, .. } in wanted {
            let name = feed.name().to_owned();
            self.open(system, feed, account, runtime).await?;
            if let Some(out) = self.left_out.last().filter(|out| out.feed.name() == name) {
                let error = out.refused.error().to_string();
                let details = serde_json::json!({ "feed": name, "error": error });
                answers.push(Answer { done: false, text: format!("{name}: {error}"), details });
            }
        }
        Ok(answers)
    }
}

/// What a topic's values were written with so far, oldest first.
pub(super) async fn announced(topic: &Topic, runtime: &Runtime) -> Result<Vec<Arc<Schema>>, RunError> {
    let generated = topic.entity().is_some_and(|entity| entity.generated);
    if !generated {
        return Ok(Vec::new());
    }
    let mut announced = runtime.state.schemas.announced(&topic.name).await?;
    let own_name = runtime.log.own_name(&topic.name);
    if *own_name != *topic.name {
        // A resized topic holds what was written under its first name, too.
        announced.extend(runtime.state.schemas.announced(&own_name).await?);
    }
    Ok(announced)
}
