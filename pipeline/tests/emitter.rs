//! What the emitter promises: the topic is the memory, versions rise, one writer per partition, healed when it isn't.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use chrono::TimeDelta;
use common::{World, delete, key_of, morning, put, reason, reasons_emitter, stamp, version_of};
use pipeline::clock::Clock;
use pipeline::emitter::EmitError;
use pipeline::log::TopicPartition;
use pipeline::log::memory::{Fault, When};

const TOPIC: &str = "ats.reason";

#[tokio::test]
async fn an_unchanged_value_is_no_change() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    let first = emitter.emit(vec![put(&reason("r1", "moved"))], &stamp(morning())).await.unwrap();
    let again = emitter.emit(vec![put(&reason("r1", "moved"))], &stamp(morning())).await.unwrap();
    assert_eq!((first.created, first.counts.delivered), (1, 1));
    assert_eq!((again.counts.delivered, again.counts.unchanged), (0, 1));
    assert_eq!(world.records(TOPIC).await.len(), 1);
}

#[tokio::test]
async fn changes_say_what_they_are_in_their_headers() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    for change in [put(&reason("r1", "moved")), put(&reason("r1", "moved away")), delete("r1")] {
        emitter.emit(vec![change], &stamp(morning())).await.unwrap();
    }
    let records = world.records(TOPIC).await;
    let kinds: Vec<&str> = records.iter().map(|r| r.headers.text("ce_type").unwrap()).collect();
    assert_eq!(kinds, ["ats.reason.created", "ats.reason.updated", "ats.reason.deleted"]);
    let versions: Vec<i64> = records.iter().map(version_of).collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let first = &records[0].headers;
    for (name, value) in [
        ("ce_specversion", "1.0"),
        ("ce_source", "muster/ats.reason"),
        ("ce_subject", "r1"),
        ("captured", "2024-03-04T08:00:00.000000Z"),
        ("ask", "changes"),
        ("run", "run-1"),
    ] {
        assert_eq!(first.text(name), Some(value), "{name}");
    }
    assert!(first.text("hash").is_some() && records[2].headers.text("hash").is_none());
    let ids: std::collections::BTreeSet<&str> = records.iter().map(|r| r.headers.text("ce_id").unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(records[2].value.is_none());
}

#[tokio::test]
async fn versions_rise_though_the_clock_steps_back() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emitter.emit(vec![put(&reason("r1", "a"))], &stamp(morning())).await.unwrap();
    world.clock.set(morning() - TimeDelta::hours(3));
    emitter.emit(vec![put(&reason("r1", "b"))], &stamp(morning())).await.unwrap();
    let versions: Vec<i64> = world.records(TOPIC).await.iter().map(version_of).collect();
    assert_eq!(versions, [morning().timestamp_millis(), morning().timestamp_millis() + 1]);
}

#[tokio::test]
async fn a_key_that_is_not_known_begins_above_the_partitions_highest_version() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emitter.emit(vec![put(&reason("r1", "a"))], &stamp(morning())).await.unwrap();
    world.clock.set(morning() - TimeDelta::hours(3));
    emitter.emit(vec![put(&reason("r2", "b")), put(&reason("r3", "c"))], &stamp(morning())).await.unwrap();
    let versions: Vec<i64> = world.records(TOPIC).await.iter().map(version_of).collect();
    assert!(versions[1] > versions[0] && versions[2] > versions[0], "{versions:?}");
}

#[tokio::test]
async fn a_key_that_comes_twice_is_written_once_with_its_later_value() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    let changes = vec![put(&reason("r1", "a")), put(&reason("r1", "b"))];
    let emitted = emitter.emit(changes, &stamp(morning())).await.unwrap();
    assert_eq!((emitted.counts.read, emitted.counts.superseded, emitted.counts.delivered), (2, 1, 1));
    assert_eq!(world.table::<schemas::records::ats::Reason>(TOPIC).await["r1"].name, "b");
}

#[tokio::test]
async fn another_process_knows_what_is_unchanged() {
    let world = World::new().await;
    let first = world.process("one").await;
    reasons_emitter(&first).await.emit(vec![put(&reason("r1", "moved"))], &stamp(morning())).await.unwrap();
    let second = world.process("two").await;
    let mut emitter = reasons_emitter(&second).await;
    let again = emitter.emit(vec![put(&reason("r1", "moved"))], &stamp(morning())).await.unwrap();
    assert_eq!((again.counts.delivered, again.counts.unchanged), (0, 1));
}

#[tokio::test]
async fn an_append_that_fails_half_way_loses_nothing_and_says_nothing_twice() {
    for when in [When::Before, When::After] {
        let world = World::new().await;
        let process = world.process("one").await;
        let mut emitter = reasons_emitter(&process).await;
        common::fail_append(&world.log, TOPIC, 0, when, Fault::Unavailable);
        let changes = || vec![put(&reason("r1", "a")), put(&reason("r2", "b"))];
        emitter.emit(changes(), &stamp(morning())).await.unwrap_err();
        emitter.emit(changes(), &stamp(morning())).await.unwrap();
        let keys: Vec<String> = world.records(TOPIC).await.iter().map(key_of).collect();
        assert_eq!(keys, ["r1", "r2"], "{when:?}");
    }
}

#[tokio::test]
async fn a_fenced_emitter_refuses() {
    let world = World::new().await;
    let (old, new) = (world.process("old").await, world.process("new").await);
    let mut stalled = reasons_emitter(&old).await;
    let _owner = reasons_emitter(&new).await;
    old.state.claims.settled().await.unwrap();
    let refused = stalled.emit(vec![put(&reason("r1", "late"))], &stamp(morning())).await;
    assert!(matches!(refused, Err(EmitError::Fenced { .. })), "{refused:?}");
    assert!(world.records(TOPIC).await.is_empty());
}

#[tokio::test]
async fn a_partition_that_is_not_owned_is_refused() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emitter.disown(&[0]).unwrap();
    let refused = emitter.emit(vec![put(&reason("r1", "a"))], &stamp(morning())).await;
    assert!(matches!(refused, Err(EmitError::NotOwned { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_record_that_is_too_large_is_a_reject_and_the_rest_goes_through() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    let huge = reason("huge", &"x".repeat(2 << 20));
    let changes = vec![put(&reason("r1", "a")), put(&huge), put(&reason("r2", "b"))];
    let emitted = emitter.emit(changes, &stamp(morning())).await.unwrap();
    assert_eq!((emitted.created, emitted.counts.delivered, emitted.rejects.len()), (2, 2, 1));
    assert_eq!(emitted.rejects[0].key.as_ref().unwrap().as_str(), "huge");
    assert_eq!(emitted.rejects[0].reason.code, "too_large");
    let keys: Vec<String> = world.records(TOPIC).await.iter().map(key_of).collect();
    assert_eq!(keys, ["r1", "r2"]);
    // What was set aside isn't remembered as written.
    let again = emitter.emit(vec![put(&huge)], &stamp(world.clock.now())).await.unwrap();
    assert_eq!(again.rejects.len(), 1);
}

#[tokio::test]
async fn an_edited_replay_is_not_undone_by_stating_the_original_again() {
    let world = World::new().await;
    let process = world.process("one").await;
    let mut emitter = reasons_emitter(&process).await;
    emitter.emit(vec![put(&reason("r1", "wrong"))], &stamp(morning())).await.unwrap();
    let original = world.records(TOPIC).await[0].headers.text("hash").unwrap().parse().unwrap();
    emitter.emit_edited(put(&reason("r1", "mended")), original, &stamp(morning())).await.unwrap();
    let restated = emitter.emit(vec![put(&reason("r1", "wrong"))], &stamp(morning())).await.unwrap();
    assert_eq!(restated.counts.unchanged, 1);
    let records = world.records(TOPIC).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].headers.text("hash"), records[0].headers.text("hash"));
    assert!(records[1].headers.text("edited").is_some());
    assert!(version_of(&records[1]) > version_of(&records[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_grows_while_it_is_looked_at_keeps_its_life() {
    let world = World::new().await;
    let (one, two) = (world.process("one").await, world.process("two").await);
    let at = TopicPartition::new("ats.reason", 0);
    let life = one.state.incarnations.present(&at).await.unwrap();
    let mut emitter = reasons_emitter(&one).await;
    let growing = tokio::spawn(async move {
        for n in 0..1_000 {
            emitter.emit(vec![put(&reason("r1", &n.to_string()))], &stamp(morning())).await.unwrap();
            for (at, life, end) in emitter.ends() {
                one.state.incarnations.reached(&at, &life, end).await.unwrap();
            }
        }
    });
    while !growing.is_finished() {
        assert_eq!(two.state.incarnations.present(&at).await.unwrap(), life);
    }
    growing.await.unwrap();
}
