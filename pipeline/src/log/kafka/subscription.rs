//! A group's member as its user holds it: commands to the thread in [`super::member`], events back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::errors::Health;
use super::member;
use super::options::KafkaOptions;
use super::outbox::Outbox;
use super::wake::Bell;
use crate::log::{Committed, Event, LogError, Offset, Subscription, TopicPartition};

/// Commands that wait for the thread: a user has one at a time, and may drop it half-way.
const COMMANDS: usize = 8;

/// Where a command's answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Start { at: TopicPartition, from: Offset, reply: Reply<()> },
    Pause { of: Vec<TopicPartition>, reply: Reply<()> },
    Committed { of: Vec<TopicPartition>, reply: Reply<Vec<Option<Committed>>> },
    Commit { offsets: Vec<(TopicPartition, Committed)>, reply: Reply<()> },
    Released { reply: Reply<()> },
}

/// The async side; dropping it leaves the group.
pub(super) struct KafkaSubscription {
    commands: mpsc::Sender<Command>,
    outbox: Arc<Outbox>,
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    left: oneshot::Receiver<()>,
    options: KafkaOptions,
}

/// Joins `group`, to read `topics`, each with the count of its partitions.
pub(super) fn start(
    options: &KafkaOptions,
    health: &Arc<Health>,
    group: &str,
    topics: Vec<(Arc<str>, u32)>,
) -> Result<KafkaSubscription, LogError> {
    let (commands, received) = mpsc::channel(COMMANDS);
    let (leave, left) = oneshot::channel();
    let bell = Arc::new(Bell::default());
    let outbox = Arc::new(Outbox::new(&bell));
    let stop = Arc::new(AtomicBool::new(false));
    let member = member::Member::join(
        options,
        health,
        member::Group { name: group.to_owned(), topics },
        member::Wires {
            commands: received,
            outbox: Arc::clone(&outbox),
            bell: Arc::clone(&bell),
            stop: Arc::clone(&stop),
        },
    )?;
    std::thread::Builder::new()
        .name("kafka-member".to_owned())
        .spawn(move || {
            member.run();
            // Nobody waiting for it is no loss.
            let _ = leave.send(());
        })
        .map_err(|error| LogError::Unavailable { reason: format!("starting a member's thread: {error}") })?;
    Ok(KafkaSubscription { commands, outbox, bell, stop, left, options: options.clone() })
}

impl KafkaSubscription {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LogError> {
        let gone =
            || LogError::Unavailable { reason: "the member has stopped after an error: subscribe again".to_owned() };
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        self.bell.ring();
        answer.await.map_err(|_| gone())?
    }

    /// Waits no longer than for any other answer: librdkafka may wait for a coordinator much longer.
    async fn ask_coordinator<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LogError> {
        let within = self.options.limits.request_within;
        let late = |_| LogError::Unavailable {
            reason: format!("the group's coordinator gave no answer within {} ms", within.as_millis()),
        };
        tokio::time::timeout(within, self.ask(command)).await.map_err(late)?
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Event, LogError> {
        self.outbox.next().await
    }

    async fn start(&mut self, at: &TopicPartition, from: Offset) -> Result<(), LogError> {
        self.ask(|reply| Command::Start { at: at.clone(), from, reply }).await
    }

    async fn pause(&mut self, of: &[TopicPartition]) -> Result<(), LogError> {
        self.ask(|reply| Command::Pause { of: of.to_vec(), reply }).await
    }

    async fn committed(&mut self, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        self.ask_coordinator(|reply| Command::Committed { of: of.to_vec(), reply }).await
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result<(), LogError> {
        self.ask_coordinator(|reply| Command::Commit { offsets: offsets.to_vec(), reply }).await
    }

    async fn released(&mut self) -> Result<(), LogError> {
        self.ask(|reply| Command::Released { reply }).await
    }

    async fn close(mut self: Box<Self>) -> Result<(), LogError> {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        let within = self.options.limits.request_within;
        match tokio::time::timeout(within, &mut self.left).await {
            Ok(_) => Ok(()),
            Err(_) => Err(LogError::Unavailable {
                reason: format!("leaving the group took longer than {} s; the brokers will notice", within.as_secs()),
            }),
        }
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
    }
}
