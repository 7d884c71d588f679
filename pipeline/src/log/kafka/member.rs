//! A group's member: the thread that owns the consumer, answers rebalances and serves its user's commands.
//!
//! Eager rebalancing: everything is revoked before anything is assigned anew, and librdkafka rejoins the group only after
//! the old assignment was dropped. So the thread goes on serving commits after a revocation until its user has let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Message, Offset as NativeOffset, TopicPartitionList};
use tokio::sync::mpsc;

use super::clerk::Clerk;
use super::cluster::signed;
use super::context::{Heard, MemberContext, Rebalance};
use super::errors::{Health, is_final, is_out_of_range, is_unknown_topic, lock};
use super::options::KafkaOptions;
use super::outbox::Outbox;
use super::queues::{Filling, Part, Polled, Silence, exists, next_event, watermarks};
use super::subscription::{Command, Reply};
use super::wake::Bell;
use crate::log::settings::{check_alignment, check_commit};
use crate::log::{Committed, Event, LogError, Offset, TopicPartition};

/// Between two looks when no queue and no command rings: rebalances arrive without ringing.
const IDLE: Duration = Duration::from_millis(20);

/// Partitions are started one by one, right after each other: librdkafka is given them together.
const STARTED_TOGETHER: Duration = Duration::from_millis(3);

/// Events with records that wait for their user.
const RECORD_EVENTS: usize = 2;

/// Whom to join.
pub(super) struct Group {
    pub(super) name: String,
    /// With the counts of their partitions.
    pub(super) topics: Vec<(Arc<str>, u32)>,
}

/// How the user is reached.
pub(super) struct Wires {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) bell: Arc<Bell>,
    pub(super) stop: Arc<AtomicBool>,
}

/// The thread's side.
pub(super) struct Member {
    // Before the consumer: its queues must go first.
    parts: Vec<Part<MemberContext>>,
    consumer: Arc<BaseConsumer<MemberContext>>,
    /// The group's assignment. librdkafka is given only what was started of it: see [`Member::start`].
    held: Vec<TopicPartition>,
    /// Partitions being delivered.
    started: BTreeSet<TopicPartition>,
    /// Started partitions that librdkafka is given next, and when the last of them was asked for.
    wanted: BTreeMap<TopicPartition, Offset>,
    asked: Instant,
    /// A revocation waits until then to be released.
    revoking: Option<Instant>,
    /// Let go of, but not yet given back: see [`Member::unassign`].
    leaving: bool,
    clerk: Clerk,
    turn: usize,
    silence: Silence,
    group: Group,
    wires: Wires,
    options: KafkaOptions,
    health: Arc<Health>,
}

impl Member {
    pub(super) fn join(
        options: &KafkaOptions,
        health: &Arc<Health>,
        group: Group,
        wires: Wires,
    ) -> Result<Self, LogError> {
        if group.topics.is_empty() {
            return Err(LogError::Refused {
                reason: format!("joining {}: no topics", group.name),
                hint: "name at least one topic".to_owned(),
            });
        }
        let partitions: u32 = group.topics.iter().map(|(_, count)| count).sum();
        let config = options.member(&group.name, partitions as usize)?;
        let context = MemberContext {
            health: Arc::clone(health),
            rebalances: Mutex::new(VecDeque::new()),
            closing: AtomicBool::new(false),
            heard: Heard::default(),
        };
        let failed = |error| health.explain(&format!("joining group {}", group.name), &error);
        let consumer: BaseConsumer<MemberContext> =
            BaseConsumer::from_config_and_context(&config, context).map_err(failed)?;
        let topics: Vec<&str> = group.topics.iter().map(|(topic, _)| &**topic).collect();
        consumer.subscribe(&topics).map_err(failed)?;
        let consumer = Arc::new(consumer);
        Ok(Self {
            parts: Vec::new(),
            clerk: Clerk::start(&consumer, options, health)?,
            consumer,
            held: Vec::new(),
            started: BTreeSet::new(),
            wanted: BTreeMap::new(),
            asked: Instant::now(),
            revoking: None,
            leaving: false,
            turn: 0,
            silence: Silence::default(),
            group,
            wires,
            options: options.clone(),
            health: Arc::clone(health),
        })
    }

    /// Until its user stops it; leaves the group.
    pub(super) fn run(mut self) {
        while !self.wires.stop.load(Ordering::Acquire) {
            self.serve_events();
            self.serve_rebalances();
            let mut busy = self.serve_commands();
            if self.revoking.is_some_and(|until| Instant::now() >= until) {
                tracing::warn!("a revocation wasn't released in time: its partitions go without a last commit");
                let gone = self.held.clone();
                self.let_go();
                self.wires.outbox.push(Event::Lost(gone));
            }
            self.unassign();
            self.take_wanted();
            busy |= self.deliver();
            if !busy {
                let topic = &self.group.topics[0].0;
                if let Some(error) = self.silence.check(&self.consumer, &self.options, &self.health, topic) {
                    self.wires.outbox.fail(error);
                }
                self.wires.bell.wait(if self.wanted.is_empty() { IDLE } else { STARTED_TOGETHER });
            }
        }
        self.leave();
    }

    /// Leaves the group when the last holder of the consumer has gone: the clerk is waited for as long as for any
    /// answer, and takes the consumer with it when that isn't enough.
    fn leave(mut self) {
        self.let_go();
        let until = Instant::now() + self.options.limits.request_within;
        let Self { parts, consumer, clerk, .. } = self;
        drop(parts);
        let clerk = clerk.dismiss();
        while !clerk.is_finished() && Instant::now() < until {
            while next_event(&consumer).is_some() {}
            std::thread::sleep(STARTED_TOGETHER);
        }
        consumer.context().closing.store(true, Ordering::Release);
        if let Err(error) = consumer.unassign() {
            tracing::debug!(%error, "unassigning while closing");
        }
    }

    fn serve_events(&mut self) {
        while let Some(event) = next_event(&self.consumer) {
            let error = match event {
                Ok(message) => {
                    let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                    let strayed = self
                        .parts
                        .iter()
                        .find(|part| *part.at.topic == *topic && signed(part.at.partition) == partition)
                        .filter(|part| self.started.contains(&part.at) && offset >= part.next.0);
                    // Its partition's queue isn't the one that librdkafka fills: given anew from where its delivery stands.
                    if let Some(part) = strayed {
                        self.wanted.entry(part.at.clone()).or_insert(part.next);
                        self.asked = Instant::now();
                    }
                    continue;
                }
                Err(error) => error,
            };
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            if code == Code::AllBrokersDown {
                self.silence.begins();
            }
            let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
            match self.health.explain("the group", &error) {
                refused @ LogError::Refused { .. } => self.wires.outbox.fail(refused),
                other if fatal => self.wires.outbox.fail(other),
                _ => tracing::debug!(%code, "the group goes on after an error"),
            }
        }
    }

    fn serve_rebalances(&mut self) {
        loop {
            let rebalance = lock(&self.consumer.context().rebalances).pop_front();
            match rebalance {
                Some(Rebalance::Assign(places)) => self.assigned(places),
                Some(Rebalance::Revoke { lost }) => self.revoked(lost),
                None => return,
            }
        }
    }

    fn assigned(&mut self, places: Vec<TopicPartition>) {
        self.silence.ends();
        self.leaving = false;
        // Nothing of it is read yet, but the group must see that it was taken.
        if let Err(error) = self.assign(&BTreeMap::new()) {
            self.wires.outbox.fail(error);
            return;
        }
        if let Err(error) = self.check_alignment(&places) {
            // Not held: what others read with other topics in mind is no business of ours until the group is mended.
            self.wires.outbox.fail(error);
            return;
        }
        self.held.clone_from(&places);
        // With more members than partitions there may be nothing to tell.
        if !places.is_empty() {
            self.wires.outbox.push(Event::Assigned(places));
        }
    }

    /// A topic that is gone has no partitions to give; whoever reads it is told so.
    fn check_alignment(&self, places: &[TopicPartition]) -> Result<(), LogError> {
        let check = |topics: &[(Arc<str>, u32)]| check_alignment(&self.group.name, topics, places);
        check(&self.group.topics).or_else(|_| {
            let mut there = self.group.topics.clone();
            there.retain(|(topic, _)| exists(&self.consumer, &self.options, topic) != Some(false));
            check(&there)
        })
    }

    /// Has librdkafka fetch these from their places on, and nothing else.
    fn assign(&mut self, places: &BTreeMap<TopicPartition, Offset>) -> Result<(), LogError> {
        // First: a queue that goes takes the bell of its successor with it.
        self.parts.clear();
        let failed = |error| self.health.explain("taking partitions", &error);
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (at, from) in places {
            let native = NativeOffset::Offset(from.0);
            list.add_partition_offset(&at.topic, signed(at.partition), native).map_err(failed)?;
        }
        // Before librdkafka fetches: what it has before a partition has its own queue goes to the common one.
        for (at, from) in places {
            self.parts.push(Part::split(&self.consumer, at, *from, &self.wires.bell)?);
        }
        self.consumer.assign(&list).map_err(failed)
    }

    /// Gives librdkafka what was started, and what it had before from where its delivery stands.
    fn take_wanted(&mut self) {
        if self.wanted.is_empty() || self.asked.elapsed() < STARTED_TOGETHER || self.consumer.assignment_lost() {
            return;
        }
        let mut places = std::mem::take(&mut self.wanted);
        for part in self.parts.iter().filter(|part| self.started.contains(&part.at)) {
            places.entry(part.at.clone()).or_insert(part.next);
        }
        if let Err(error) = self.assign(&places) {
            self.started.clear();
            self.wires.outbox.fail(error);
        }
    }

    fn revoked(&mut self, lost: bool) {
        self.started.clear();
        self.wanted.clear();
        self.wires.outbox.take_back(|_| true);
        let unseen = self.wires.outbox.take_back_assigned();
        let gone = self.held.clone();
        if unseen || gone.is_empty() {
            self.let_go();
        } else if lost {
            self.let_go();
            self.wires.outbox.push(Event::Lost(gone));
        } else {
            self.revoking = Some(Instant::now() + self.options.limits.release_within);
            self.wires.outbox.push(Event::Revoked(gone));
        }
    }

    /// Drops the assignment; librdkafka rejoins.
    fn let_go(&mut self) {
        self.revoking = None;
        self.held.clear();
        self.started.clear();
        self.wanted.clear();
        self.parts.clear();
        self.clerk.assignment_ends();
        self.leaving = true;
        self.unassign();
    }

    /// librdkafka rejoins after this, so a commit on its way is waited for: it belongs to the old generation. (While the
    /// coordinator is away neither can happen.)
    fn unassign(&mut self) {
        if !self.leaving || !self.clerk.is_idle() {
            return;
        }
        self.leaving = false;
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "letting partitions go");
        }
    }

    fn serve_commands(&mut self) -> bool {
        let mut busy = false;
        // An answer that nobody waits for any more is no loss.
        while let Ok(command) = self.wires.commands.try_recv() {
            busy = true;
            match command {
                Command::Start { at, from, reply } => drop(reply.send(self.start(&at, from))),
                Command::Pause { of, reply } => {
                    self.pause(&of);
                    drop(reply.send(Ok(())));
                }
                Command::Committed { of, reply } => self.clerk.committed(of, reply),
                Command::Commit { offsets, reply } => self.commit(offsets, reply),
                Command::Released { reply } => {
                    if self.revoking.is_some() {
                        self.let_go();
                    }
                    drop(reply.send(Ok(())));
                }
            }
        }
        busy
    }

    fn is_ours(&self, at: &TopicPartition) -> bool {
        self.held.contains(at) && !self.consumer.assignment_lost()
    }

    /// A partition that librdkafka fetches already is moved; any other is given to it with its place. (Giving it all at
    /// their ends and moving them from there looks simpler, but loses records: when the answer to the question for the
    /// end comes after the move, librdkafka asks again and goes to the end.)
    fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError> {
        if self.revoking.is_some() || !self.is_ours(at) {
            return Err(LogError::NotOurs { at: at.clone() });
        }
        self.pause(std::slice::from_ref(at));
        if !self.moved(at, from) {
            self.parts.retain(|part| part.at != *at);
            self.wanted.insert(at.clone(), from);
            self.asked = Instant::now();
        }
        self.started.insert(at.clone());
        Ok(())
    }

    /// Moves a partition that is being fetched: librdkafka drops what it had fetched before. It can't where it isn't
    /// fetching yet, or has given up after an error.
    fn moved(&mut self, at: &TopicPartition, from: Offset) -> bool {
        let Some(part) = self.parts.iter_mut().find(|part| part.at == *at) else { return false };
        let place = NativeOffset::Offset(from.0);
        match self.consumer.seek(&at.topic, signed(at.partition), place, Duration::from_secs(1)) {
            Ok(()) => {
                part.next = from;
                true
            }
            Err(error) => {
                tracing::debug!(topic = &*at.topic, partition = at.partition, %error, "partition is assigned anew");
                false
            }
        }
    }

    fn pause(&mut self, of: &[TopicPartition]) {
        self.started.retain(|at| !of.contains(at));
        self.wanted.retain(|at, _| !of.contains(at));
        self.wires.outbox.take_back(|at| of.contains(at));
    }

    /// Commits what this member holds, in the generation it holds it in.
    fn commit(&self, offsets: Vec<(TopicPartition, Committed)>, reply: Reply<()>) {
        let refused = match offsets.iter().find(|(at, _)| !self.is_ours(at)) {
            Some((at, _)) => Err(LogError::NotOurs { at: at.clone() }),
            None => check_commit(&offsets),
        };
        match refused {
            Ok(()) if !offsets.is_empty() => self.clerk.commit(offsets, reply),
            // Nobody waiting for it is no loss.
            answer => drop(reply.send(answer)),
        }
    }

    fn deliver(&mut self) -> bool {
        if self.revoking.is_some() || self.started.is_empty() || self.wires.outbox.record_events() >= RECORD_EVENTS {
            return false;
        }
        let mut filling = Filling::new(&self.options);
        let mut failed: Vec<(TopicPartition, Code, Offset)> = Vec::new();
        let started = &self.started;
        let wanted = |at: &TopicPartition| started.contains(at);
        filling.take_from(&mut self.parts, &mut self.turn, wanted, |part, polled| {
            if let Polled::Failed(code) = polled {
                failed.push((part.at.clone(), code, part.next));
            }
        });
        for (at, code, next) in failed {
            self.judge(&at, code, next);
        }
        let any = !filling.records.is_empty();
        if any {
            self.silence.ends();
            self.wires.outbox.push(Event::Records(filling.records));
        }
        any
    }

    /// An error in a partition's queue: it stops the partition until it is started anew, or mends by itself.
    fn judge(&mut self, at: &TopicPartition, code: Code, next: Offset) {
        let error = if is_out_of_range(code) {
            match watermarks(&self.consumer, &self.options, &self.health, at) {
                Ok(ends) => LogError::OutOfRange { at: at.clone(), offset: next, ends },
                Err(error) => error,
            }
        } else if is_unknown_topic(code) && exists(&self.consumer, &self.options, &at.topic) == Some(false) {
            LogError::UnknownTopic { topic: at.topic.to_string() }
        } else if is_final(code) {
            self.health.explain_code(&format!("reading {at}"), code)
        } else {
            tracing::debug!(topic = &*at.topic, partition = at.partition, %code, "reading goes on after an error");
            return;
        };
        self.started.remove(at);
        self.parts.retain(|part| part.at != *at);
        self.wires.outbox.fail(error);
    }
}
