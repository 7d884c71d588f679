//! A group's members and how partitions pass between them: eager rebalances that wait for everybody to let go.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::{Committed, Event, LogError, TopicPartition, settings};
use super::assign::range;
use super::state::Topics;

pub(super) struct Group {
    topics: Vec<Arc<str>>,
    members: BTreeMap<u64, Member>,
    /// Until when a rebalance under way waits for members to let go.
    deadline: Option<Instant>,
    pub offsets: BTreeMap<TopicPartition, Committed>,
}

struct Member {
    stage: Stage,
    owned: Vec<TopicPartition>,
    /// It vanished without closing, and is given up at this time.
    gone: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has nothing and waits for the next assignment.
    Waiting,
    /// Has been given partitions and doesn't know yet.
    Offered,
    Holding,
    /// Is asked to let go; `told` once it knows.
    Revoking {
        told: bool,
    },
    /// Was declared dead; `told` once it knows.
    Lost {
        told: bool,
    },
}

impl Group {
    pub fn new(topics: &[Arc<str>]) -> Self {
        let mut topics = topics.to_vec();
        topics.sort();
        Self { topics, members: BTreeMap::new(), deadline: None, offsets: BTreeMap::new() }
    }

    /// Members that take part.
    pub fn size(&self) -> usize {
        self.members.values().filter(|member| !matches!(member.stage, Stage::Lost { .. })).count()
    }

    pub fn forget(&mut self) {
        self.offsets.clear();
    }

    /// Lets a member in. All members name the same topics; an empty group takes those of its first member.
    pub fn join(
        &mut self,
        name: &str,
        id: u64,
        topics: &[Arc<str>],
        all: &Topics,
        deadline: Instant,
    ) -> Result<(), LogError> {
        let mut named = topics.to_vec();
        named.sort();
        if self.members.is_empty() {
            self.topics = named;
        } else if self.topics != named {
            return Err(settings::other_topics(name, &self.topics, &named));
        }
        self.members.insert(id, Member { stage: Stage::Waiting, owned: Vec::new(), gone: None });
        self.rebalance(all, deadline);
        Ok(())
    }

    pub fn leave(&mut self, id: u64, all: &Topics, deadline: Instant) {
        if self.members.remove(&id).is_some() {
            self.rebalance(all, deadline);
        }
    }

    /// The member's process is gone; nobody knows until `at`.
    pub fn vanish(&mut self, id: u64, at: Instant) {
        if let Some(member) = self.members.get_mut(&id) {
            member.gone = Some(at);
        }
    }

    pub fn expire(&mut self, nth: usize, all: &Topics, deadline: Instant) -> bool {
        let mut alive = self.members.values_mut().filter(|member| !matches!(member.stage, Stage::Lost { .. }));
        let Some(member) = alive.nth(nth) else { return false };
        member.lose();
        self.rebalance(all, deadline);
        true
    }

    /// Asks everybody to let go. While a rebalance is under way, its deadline stands.
    fn rebalance(&mut self, all: &Topics, deadline: Instant) {
        self.deadline.get_or_insert(deadline);
        for member in self.members.values_mut() {
            match member.stage {
                Stage::Offered => member.take_back(),
                Stage::Holding if member.owned.is_empty() => member.take_back(),
                Stage::Holding => member.stage = Stage::Revoking { told: false },
                Stage::Waiting | Stage::Revoking { .. } | Stage::Lost { .. } => {}
            }
        }
        self.assign_when_free(all);
    }

    fn assign_when_free(&mut self, all: &Topics) {
        let held = self.members.values().any(|member| matches!(member.stage, Stage::Revoking { .. }));
        if self.deadline.is_none() || held {
            return;
        }
        self.deadline = None;
        let sizes: Vec<(Arc<str>, u32)> =
            self.topics.iter().filter_map(|name| Some((name.clone(), all.get(name)?.info.partitions))).collect();
        let shares = range(&sizes, self.size());
        let alive = self.members.values_mut().filter(|member| !matches!(member.stage, Stage::Lost { .. }));
        for (member, owned) in alive.zip(shares) {
            member.stage = Stage::Offered;
            member.owned = owned;
        }
    }

    /// Does what time demands. `true`: something changed.
    pub fn tick(&mut self, now: Instant, all: &Topics, deadline: Instant) -> bool {
        let before = self.members.len();
        self.members.retain(|_, member| member.gone.is_none_or(|gone| gone > now));
        let mut changed = before != self.members.len();
        if changed {
            self.rebalance(all, deadline);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            for member in self.members.values_mut() {
                if matches!(member.stage, Stage::Revoking { .. }) {
                    member.lose();
                    changed = true;
                }
            }
            self.assign_when_free(all);
        }
        changed
    }

    /// When [`Self::tick`] has something to do.
    pub fn wake(&self) -> Option<Instant> {
        let gone = self.members.values().filter_map(|member| member.gone).min();
        self.deadline.into_iter().chain(gone).min()
    }

    /// What the member must be told next.
    pub fn event(&mut self, id: u64) -> Option<Event> {
        let member = self.members.get_mut(&id)?;
        match member.stage {
            Stage::Offered => {
                member.stage = Stage::Holding;
                (!member.owned.is_empty()).then(|| Event::Assigned(member.owned.clone()))
            }
            Stage::Revoking { told: false } => {
                member.stage = Stage::Revoking { told: true };
                Some(Event::Revoked(member.owned.clone()))
            }
            Stage::Lost { told: false } => {
                member.stage = Stage::Lost { told: true };
                Some(Event::Lost(std::mem::take(&mut member.owned)))
            }
            Stage::Waiting | Stage::Holding | Stage::Revoking { told: true } | Stage::Lost { told: true } => None,
        }
    }

    /// A member that was declared dead and knows it joins again. `true`: it did so now.
    pub fn rejoin(&mut self, id: u64, all: &Topics, deadline: Instant) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        if member.stage != (Stage::Lost { told: true }) {
            return false;
        }
        member.take_back();
        self.rebalance(all, deadline);
        true
    }

    pub fn released(&mut self, id: u64, all: &Topics) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.stage == (Stage::Revoking { told: true }) {
            member.take_back();
            self.assign_when_free(all);
        }
    }

    /// Whether records may be handed out to the member.
    pub fn delivers(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.stage == Stage::Holding)
    }

    /// Whether the partition is still the member's, be it only to commit.
    pub fn holds(&self, id: u64, at: &TopicPartition) -> Result<(), LogError> {
        let held = self.members.get(&id).is_some_and(|member| {
            matches!(member.stage, Stage::Holding | Stage::Revoking { .. }) && member.owned.contains(at)
        });
        if held { Ok(()) } else { Err(LogError::NotOurs { at: at.clone() }) }
    }
}

impl Member {
    fn take_back(&mut self) {
        self.stage = Stage::Waiting;
        self.owned.clear();
    }

    fn lose(&mut self) {
        let knows_of_something = matches!(self.stage, Stage::Holding | Stage::Revoking { .. });
        if !knows_of_something {
            self.owned.clear();
        }
        self.stage = Stage::Lost { told: !knows_of_something || self.owned.is_empty() };
    }
}
