//! A member of a group that works by itself: starts what it is assigned where the group had got to, takes what comes,
//! commits when it must let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::log::{Committed, Event, Log, LogError, Offset, Subscription, TopicPartition};

use super::{Harness, within};

/// What a member has and has seen.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Its partitions.
    pub owned: BTreeSet<TopicPartition>,
    /// Every record it was handed, in order.
    pub seen: Vec<(TopicPartition, Offset)>,
    /// Why it ended, when it failed.
    pub failed: Option<String>,
}

/// How a member ends.
enum End {
    /// Commits and closes.
    Close,
    /// Is gone, without a word.
    Crash,
}

/// A member at work in a task of its own.
pub struct Member {
    view: watch::Receiver<View>,
    end: oneshot::Sender<End>,
    task: JoinHandle<()>,
}

impl Member {
    /// Joins and works until closed or crashed.
    pub async fn join(log: &dyn Log, group: &str, topics: &[Arc<str>]) -> Self {
        let subscription = log.subscribe(group, topics).await.expect("the member joins");
        let (publish, view) = watch::channel(View::default());
        let (end, ending) = oneshot::channel();
        let worker = Worker { subscription, view: View::default(), publish, next: BTreeMap::new() };
        Self { view, end, task: tokio::spawn(worker.run(ending)) }
    }

    /// What it has and has seen now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Commits what it was handed, leaves, and tells what it has seen.
    pub async fn close(self) -> View {
        self.finish(End::Close).await
    }

    /// Vanishes without committing.
    pub async fn crash(self) -> View {
        self.finish(End::Crash).await
    }

    async fn finish(self, how: End) -> View {
        // A member that has failed has ended already.
        drop(self.end.send(how));
        self.task.await.expect("the member ends");
        let view = self.view.borrow().clone();
        assert_eq!(view.failed, None);
        view
    }
}

/// Waits until the members' views fulfil a condition.
pub(super) async fn until(harness: &dyn Harness, what: &str, members: &[&Member], met: impl Fn(&[View]) -> bool) {
    let mut views: Vec<watch::Receiver<View>> = members.iter().map(|member| member.view.clone()).collect();
    let wait = async {
        loop {
            let now: Vec<View> = views.iter_mut().map(|view| view.borrow_and_update().clone()).collect();
            if let Some(failed) = now.iter().find_map(|view| view.failed.clone()) {
                panic!("{what}: a member failed: {failed}");
            }
            if met(&now) {
                return;
            }
            let changes = views.iter_mut().map(|view| Box::pin(view.changed()));
            drop(futures::future::select_all(changes).await);
        }
    };
    within(harness, what, wait).await;
}

struct Worker {
    subscription: Box<dyn Subscription>,
    view: View,
    publish: watch::Sender<View>,
    /// Where to go on, per partition that it was handed something of.
    next: BTreeMap<TopicPartition, Offset>,
}

impl Worker {
    async fn run(mut self, mut ending: oneshot::Receiver<End>) {
        loop {
            let worked = tokio::select! {
                event = self.subscription.next() => match event {
                    Ok(event) => self.work(event).await,
                    Err(err) => Err(err),
                },
                how = &mut ending => {
                    let publish = self.publish.clone();
                    if matches!(how, Ok(End::Close)) && let Err(err) = self.close().await {
                        publish.send_modify(|view| view.failed = Some(err.to_string()));
                    }
                    return;
                }
            };
            if let Err(err) = worked {
                self.view.failed = Some(err.to_string());
            }
            let view = self.view.clone();
            let failed = view.failed.is_some();
            self.publish.send_replace(view);
            if failed {
                return;
            }
        }
    }

    async fn work(&mut self, event: Event) -> Result<(), LogError> {
        match event {
            Event::Assigned(partitions) => {
                let committed = self.subscription.committed(&partitions).await?;
                for (at, committed) in partitions.iter().zip(committed) {
                    let from = committed.map_or(Offset::START, |committed| committed.next);
                    self.subscription.start(at, from).await?;
                }
                self.view.owned.extend(partitions);
            }
            Event::Revoked(partitions) => {
                self.commit().await?;
                self.subscription.released().await?;
                self.forget(&partitions);
            }
            Event::Lost(partitions) => self.forget(&partitions),
            Event::Records(records) => {
                for record in records {
                    self.next.insert(record.at.clone(), record.offset.next());
                    self.view.seen.push((record.at, record.offset));
                }
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.next.retain(|at, _| !partitions.contains(at));
        self.view.owned.retain(|at| !partitions.contains(at));
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        let offsets: Vec<(TopicPartition, Committed)> = self
            .next
            .iter()
            .map(|(at, next)| (at.clone(), Committed { next: *next, metadata: String::new() }))
            .collect();
        if offsets.is_empty() { Ok(()) } else { self.subscription.commit(&offsets).await }
    }

    async fn close(mut self) -> Result<(), LogError> {
        self.commit().await?;
        self.subscription.close().await
    }
}
