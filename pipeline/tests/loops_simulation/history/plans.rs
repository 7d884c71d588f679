//! Records that can't be used: they come once, are mended where they come from, or are replayed.

use std::sync::Arc;
use std::time::Duration;

use pipeline::clock::Clock;
use pipeline::log::memory::{Fault, When};
use pipeline::operations::LetterRow;
use pipeline::state::{Request, RequestKind, State};

use super::History;
use crate::common::processors::{applicant_id, milestone, milestone_id};
use crate::common::reason;
use crate::machine::{Aim, Strikes};
use crate::outside::{Held, MILESTONES, REASONS};
use crate::steps::Durable;

const BAD: u32 = 100;
const BAD_NAME: u32 = 101;
const REFUSED: u32 = 102;
const EDITED: u32 = 103;
const PARKED: u32 = 104;
const BAD_MILESTONE: u32 = 105;

impl History {
    /// Bad records: they come once, and are mended by the end.
    pub(super) fn plan_for(&mut self, round: u32) {
        let outside = self.sim.outside.clone();
        let as_reason = |n: u32, name: &str| Held::Reason(reason(&applicant_id(n), name));
        match round {
            0 => {
                outside.set(REASONS, &applicant_id(BAD), Held::Bad);
                outside.set(REASONS, &applicant_id(EDITED), Held::Bad);
                outside.set(REASONS, &applicant_id(BAD_NAME), as_reason(BAD_NAME, "bad"));
                outside.set(REASONS, &applicant_id(REFUSED), as_reason(REFUSED, "refused"));
                outside.set(REASONS, &applicant_id(PARKED), as_reason(PARKED, "parked"));
                outside.set(MILESTONES, &milestone_id(BAD_MILESTONE), Held::Milestone(milestone(BAD_MILESTONE, "bad")));
                self.sim.target.refuses(&[&applicant_id(REFUSED)]);
                self.sim.target.parks(&[&applicant_id(PARKED)]);
                self.plan.refused.insert(applicant_id(REFUSED));
                self.plan.letter("ats.reason", Some(&applicant_id(BAD)), false);
                self.plan.letter("ats.reason", Some(&applicant_id(EDITED)), true);
                self.plan.letter("reasons", Some(&applicant_id(BAD_NAME)), false);
                self.plan.letter("register", Some(&applicant_id(REFUSED)), true);
                self.plan.letter("applicants", Some(&milestone_id(BAD_MILESTONE)), false);
            }
            1 => {
                outside.set(REASONS, "unreadable", Held::Unreadable);
                self.plan.letter("ats.reason", None, false);
                outside.set(REASONS, &applicant_id(BAD), as_reason(BAD, "mended"));
            }
            _ => {
                self.sim.target.parks(&[]);
                outside.set(REASONS, &applicant_id(BAD_NAME), as_reason(BAD_NAME, "mended"));
            }
        }
    }

    /// Replays what was set aside, the one with an edit, the other since the target takes it now.
    pub(super) async fn mend(&mut self) -> Result<(), String> {
        self.sim.target.refuses(&[]);
        let edit = serde_json::json!(reason(&applicant_id(EDITED), "edited"));
        self.plan.edited.insert(applicant_id(EDITED), "edited".into());
        self.plan.refused.clear();
        let asks = [("ats.reason", applicant_id(EDITED), Some(edit)), ("register", applicant_id(REFUSED), None)];
        let (log, topics) = (Arc::new(self.sim.world.log.clone()), self.sim.world.state_topics());
        let clerk = State::open(log, "clerk", &topics, None).await.map_err(|error| error.to_string())?;
        for (component, id, edited) in asks {
            let letters = self.sim.world.letters().await;
            let of = |l: &&LetterRow| l.component == component && l.key.as_deref() == Some(id.as_str());
            let mut found: Vec<&LetterRow> = letters.iter().filter(of).collect();
            if found.is_empty() {
                return Err(format!("no letter of {component} for {id}"));
            }
            if edited.is_some() {
                found.drain(..found.len() - 1);
            }
            // Where the topic was made anew, each of its lives has a letter of its own.
            for letter in found.into_iter().map(|letter| letter.id.clone()) {
                let kind = RequestKind::Replay { letter: letter.clone(), edited: edited.clone() };
                let (target, at) = (component.to_owned(), self.sim.world.clock.now());
                let request = Request { id: format!("replay-{letter}"), target, kind, at, answer: None };
                clerk.requests.ask(&request).await.map_err(|error| error.to_string())?;
            }
        }
        // Answering is struck like everything else.
        if !self.one_in(4) {
            for at in 0..self.machines.len() {
                let steps = [
                    Durable::RequestAnswered,
                    Durable::LetterSettled,
                    Durable::LetterIndexSettled,
                    Durable::SourceAppended,
                ];
                let when = if self.random.bool() { When::Before } else { When::After };
                let fault = if self.random.bool() { Fault::Crash } else { Fault::Unavailable };
                let aim = Aim::Step(self.random.choice(steps).unwrap(), when, 0);
                let mut process = self.start(at, Strikes { aimed: vec![(aim, fault)], flaky: None });
                let ended = process.ended_within(Duration::from_secs(30)).await;
                if let Some(ended) = ended {
                    self.note_end(&ended)?;
                } else {
                    process.kill().await;
                }
            }
        }
        self.settle("replayed").await
    }
}
