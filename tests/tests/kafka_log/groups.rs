//! Groups: who has what, what is handed over, and what can still be committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use pipeline::log::{Committed, Event, Log, LogError, Offset, Record, Subscription, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::setting::{SOON, at, log, name, record, text, topic};

/// A member that follows its assignment and keeps what it reads.
struct Member {
    subscription: Box<dyn Subscription>,
    has: BTreeSet<TopicPartition>,
    read: Vec<Record>,
}

impl Member {
    async fn join(log: &dyn Log, group: &str, topics: &[Arc<str>]) -> Result<Self> {
        Ok(Self { subscription: log.subscribe(group, topics).await?, has: BTreeSet::new(), read: Vec::new() })
    }

    /// Starts what is assigned where the group has committed, commits what it read when revoked.
    async fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Assigned(places) => {
                let committed = self.subscription.committed(&places).await?;
                for (at, committed) in places.iter().zip(committed) {
                    self.subscription.start(at, committed.map_or(Offset::START, |c| c.next)).await?;
                }
                self.has.extend(places);
            }
            Event::Revoked(places) => {
                self.commit().await?;
                self.subscription.released().await?;
                self.has.retain(|at| !places.contains(at));
            }
            Event::Lost(places) => self.has.retain(|at| !places.contains(at)),
            Event::Records(records) => {
                if let Some(record) = records.iter().find(|record| !self.has.contains(&record.at)) {
                    bail!("{record:?} of a partition that isn't ours");
                }
                self.read.extend(records);
            }
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        let mut next: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for record in self.read.iter().filter(|record| self.has.contains(&record.at)) {
            next.insert(record.at.clone(), record.offset.next());
        }
        let offsets: Vec<_> =
            next.into_iter().map(|(at, next)| (at, Committed { next, metadata: "asha".to_owned() })).collect();
        Ok(self.subscription.commit(&offsets).await?)
    }
}

/// Lets members work until it is so.
async fn until(members: &mut [&mut Member], mut so: impl FnMut(&[&mut Member]) -> bool) -> Result<()> {
    let done = async {
        while !so(members) {
            let next = members.iter_mut().map(|member| member.subscription.next());
            let (event, who, _) = futures::future::select_all(next).await;
            members[who].handle(event?).await?;
        }
        Ok(())
    };
    tokio::time::timeout(SOON, done).await.context("the members never got there")?
}

fn split(members: &[&mut Member], each: &[usize]) -> bool {
    let mut sizes: Vec<usize> = members.iter().map(|member| member.has.len()).collect();
    sizes.sort_unstable();
    sizes == each
}

/// The same partition numbers in each topic, and nothing twice.
fn aligned(members: &[&mut Member], topics: &[Arc<str>]) -> bool {
    members.iter().all(|member| {
        let numbers = |topic: &Arc<str>| -> BTreeSet<u32> {
            member.has.iter().filter(|at| at.topic == *topic).map(|at| at.partition).collect()
        };
        topics.iter().all(|topic| numbers(topic) == numbers(&topics[0]))
    })
}

#[tokio::test]
async fn members_hold_the_same_partitions_in_every_topic() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topics = [topic(&log, "applicants", 6).await?, topic(&log, "milestones", 6).await?];
    let group = name("aligned");
    let mut one = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one], |m| split(m, &[12])).await?;
    let mut two = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one, &mut two], |m| split(m, &[6, 6]) && aligned(m, &topics)).await?;
    let mut three = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one, &mut two, &mut three], |m| split(m, &[4, 4, 4]) && aligned(m, &topics)).await?;
    one.subscription.close().await?;
    until(&mut [&mut two, &mut three], |m| split(m, &[6, 6]) && aligned(m, &topics)).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_read_when_revoked_is_committed_and_read_once() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topics = [topic(&log, "handover", 4).await?];
    let group = name("handover");
    let write = async |from: u32, to: u32| {
        log.append((from..to).map(|n| record(at(&topics[0], n % 4), &n.to_string(), &n.to_string())).collect()).await
    };
    write(0, 1_000).await?;
    let mut one = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one], |m| !m[0].read.is_empty()).await?;
    let mut two = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one, &mut two], |m| split(m, &[2, 2])).await?;
    write(1_000, 2_000).await?;
    until(&mut [&mut one, &mut two], |m| m[0].read.len() + m[1].read.len() >= 2_000).await?;

    let mut all: Vec<u32> = one.read.iter().chain(&two.read).map(|record| text(record).parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..2_000).collect::<Vec<_>>());

    two.commit().await?;
    let places: Vec<_> = two.has.iter().cloned().collect();
    let committed = log.committed(&group, &places).await?;
    assert!(committed.iter().all(|c| c.as_ref().is_some_and(|c| c.next == Offset(500) && c.metadata == "asha")));
    assert_eq!(log.committed(&name("nobody"), &places[..1]).await?, [None]);
    Ok(())
}

#[tokio::test]
async fn a_member_that_vanishes_is_replaced_and_can_commit_no_more() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topics = [topic(&log, "vanished", 2).await?];
    let group = name("vanished");
    log.append((0..100).map(|n| record(at(&topics[0], n % 2), "asha", &n.to_string())).collect()).await?;
    let mut one = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut one], |m| m[0].read.len() == 100).await?;

    // It neither releases nor leaves: after ten seconds its partitions go on without it.
    let mut two = Member::join(&log, &group, &topics).await?;
    let revoked = tokio::time::timeout(SOON, one.subscription.next()).await??;
    assert!(matches!(revoked, Event::Revoked(_)), "{revoked:?}");
    until(&mut [&mut two], |m| m[0].has.len() == 1).await?;
    let late = one.commit().await.unwrap_err();
    assert!(matches!(late.downcast_ref(), Some(LogError::NotOurs { .. })), "{late:?}");

    drop(one);
    until(&mut [&mut two], |m| m[0].has.len() == 2 && m[0].read.len() >= 100).await?;
    Ok(())
}

#[tokio::test]
async fn delivery_stops_at_a_pause_and_goes_on_from_where_it_is_told() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let topics = [topic(&log, "pause", 1).await?];
    let here = at(&topics[0], 0);
    log.append((0..10).map(|n| record(here.clone(), "asha", &n.to_string())).collect()).await?;
    let mut one = Member::join(&log, &name("pause"), &topics).await?;
    until(&mut [&mut one], |m| m[0].read.len() == 10).await?;

    one.subscription.pause(std::slice::from_ref(&here)).await?;
    log.append(vec![record(here.clone(), "asha", "10")]).await?;
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(1), one.subscription.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");

    one.read.clear();
    one.subscription.start(&here, Offset(4)).await?;
    until(&mut [&mut one], |m| m[0].read.len() >= 7).await?;
    assert_eq!(one.read.iter().map(|record| record.offset.0).collect::<Vec<_>>(), (4..11).collect::<Vec<_>>());

    one.subscription.start(&here, Offset(99)).await?;
    let beyond = tokio::time::timeout(SOON, one.subscription.next()).await?.unwrap_err();
    assert!(matches!(beyond, LogError::OutOfRange { .. }), "{beyond}");
    one.subscription.start(&here, Offset(10)).await?;
    one.read.clear();
    until(&mut [&mut one], |m| m[0].read.len() == 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_commit_that_fails_for_one_partition_is_no_success() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let Some(kafka) = services::kafka().await? else { return Ok(()) };
    let (kept, gone) = (topic(&log, "kept", 1).await?, topic(&log, "gone", 1).await?);
    let mut one = log.subscribe(&name("partly"), &[Arc::clone(&kept), Arc::clone(&gone)]).await?;
    let assigned = tokio::time::timeout(SOON, one.next()).await??;
    assert!(matches!(&assigned, Event::Assigned(places) if places.len() == 2), "{assigned:?}");
    let next = |n| Committed { next: Offset(n), metadata: "asha".to_owned() };
    one.commit(&[(at(&kept, 0), next(0)), (at(&gone, 0), next(0))]).await?;

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    admin.delete_topics(&[&*gone], &AdminOptions::new().operation_timeout(Some(SOON))).await?;
    until_gone(&log, &gone).await?;
    let failed = one.commit(&[(at(&kept, 0), next(0)), (at(&gone, 0), next(0))]).await.unwrap_err();
    assert!(matches!(&failed, LogError::UnknownTopic { topic } if **topic == *gone), "{failed}");
    one.commit(&[(at(&kept, 0), next(0))]).await?;
    Ok(())
}

/// All processes are stopped until the broker forgets their group (offsets live for a week): whoever comes next is told
/// that nothing was committed, and its commits count.
#[tokio::test]
async fn a_group_that_was_forgotten_begins_anew() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let Some(kafka) = services::kafka().await? else { return Ok(()) };
    let topics = [topic(&log, "night", 1).await?];
    let here = at(&topics[0], 0);
    let group = name("night");
    log.append((0..10).map(|n| record(here.clone(), "asha", &n.to_string())).collect()).await?;
    let mut evening = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut evening], |m| m[0].read.len() == 10).await?;
    evening.commit().await?;
    assert!(log.committed(&group, std::slice::from_ref(&here)).await?[0].is_some());
    evening.subscription.close().await?;

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create()?;
    // The member has gone a moment after its answer; a group with members can't be deleted.
    super::setting::until("the group is forgotten", || async {
        let deleted = admin.delete_groups(&[&group], &AdminOptions::new()).await?;
        Ok(deleted.iter().all(Result::is_ok))
    })
    .await?;
    assert_eq!(log.committed(&group, std::slice::from_ref(&here)).await?, [None]);

    let mut morning = Member::join(&log, &group, &topics).await?;
    until(&mut [&mut morning], |m| m[0].read.len() == 10).await?;
    assert_eq!(morning.read[0].offset, Offset::START, "it was told to begin at the start");
    morning.commit().await?;
    let committed = log.committed(&group, std::slice::from_ref(&here)).await?;
    assert_eq!(committed[0].as_ref().map(|c| c.next), Some(Offset(10)));
    Ok(())
}

async fn until_gone(log: &dyn Log, topic: &str) -> Result<()> {
    super::setting::until("the topic is gone", || async {
        Ok(matches!(log.ends(topic).await, Err(LogError::UnknownTopic { .. })))
    })
    .await
}

#[tokio::test]
async fn members_that_read_different_topics_are_refused() -> Result<()> {
    let Some(log) = log().await? else { return Ok(()) };
    let (both, one) = (topic(&log, "both", 4).await?, topic(&log, "one", 4).await?);
    let group = name("unlike");
    let mut first = Member::join(&log, &group, &[Arc::clone(&both), Arc::clone(&one)]).await?;
    until(&mut [&mut first], |m| split(m, &[8])).await?;
    let mut second = Member::join(&log, &group, std::slice::from_ref(&both)).await?;
    let refused = until(&mut [&mut first, &mut second], |_| false).await.unwrap_err();
    let Some(LogError::Refused { reason, .. }) = refused.downcast_ref() else { panic!("{refused:?}") };
    assert!(reason.contains(&group) && reason.contains(&*one), "{reason}");
    Ok(())
}
