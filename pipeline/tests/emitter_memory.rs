//! The emitter's memory on disk: a restart doesn't read the topic again, and a memory that can't be trusted is rebuilt.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{World, morning, put, reason, reasons_emitter, stamp};
use pipeline::emitter::Emitter;
use pipeline::run::Runtime;

async fn with_memory(world: &World, name: &str) -> Runtime {
    let mut process = world.process(name).await;
    process.folder = Some(world.memories().into());
    process
}

async fn filled(world: &World) {
    let mut emitter = reasons_emitter(&with_memory(world, "one").await).await;
    let reasons = (0..50).map(|n| put(&reason(&format!("r{n}"), "a"))).collect();
    emitter.emit(reasons, &stamp(morning())).await.unwrap();
    emitter.save_all().unwrap();
}

/// How many records owning the partition takes, once the process follows its state topics.
async fn reads(world: &World, process: &Runtime) -> (u64, Emitter) {
    let mut emitter =
        Emitter::open(process.emitter_context(), "ats.reason", common::topic("ats.reason")).await.unwrap();
    let before = world.log.fetched();
    emitter.own(&[0]).await.unwrap();
    (world.log.fetched() - before, emitter)
}

fn memory_file(world: &World) -> std::path::PathBuf {
    std::fs::read_dir(world.memories()).unwrap().next().unwrap().unwrap().path()
}

async fn all_is_known(mut emitter: Emitter) {
    let again = emitter.emit(vec![put(&reason("r7", "a"))], &stamp(morning())).await.unwrap();
    assert_eq!(again.counts.unchanged, 1);
}

#[tokio::test]
async fn a_restart_does_not_read_the_topic_again() {
    let world = World::new().await;
    filled(&world).await;
    let (reads, emitter) = reads(&world, &with_memory(&world, "two").await).await;
    // The claim is read back by both followers of the tasks' topic that are alive; the fifty records aren't.
    assert!(reads < 10, "{reads} records were read");
    all_is_known(emitter).await;
}

#[tokio::test]
async fn a_memory_that_is_gone_is_rebuilt() {
    let world = World::new().await;
    filled(&world).await;
    std::fs::remove_dir_all(world.memories()).unwrap();
    let (reads, emitter) = reads(&world, &with_memory(&world, "two").await).await;
    assert!(reads >= 50);
    all_is_known(emitter).await;
}

#[tokio::test]
async fn a_damaged_memory_is_rebuilt() {
    for damage in [&b"garbage"[..], &[0; 4096], &[]] {
        let world = World::new().await;
        filled(&world).await;
        std::fs::write(memory_file(&world), damage).unwrap();
        let (reads, emitter) = reads(&world, &with_memory(&world, "two").await).await;
        assert!(reads >= 50);
        all_is_known(emitter).await;
    }
}

#[tokio::test]
async fn a_memory_cut_in_half_is_rebuilt() {
    let world = World::new().await;
    filled(&world).await;
    let file = memory_file(&world);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (_, emitter) = reads(&world, &with_memory(&world, "two").await).await;
    all_is_known(emitter).await;
}

#[tokio::test]
async fn a_memory_older_than_tombstones_live_is_rebuilt() {
    let world = World::new().await;
    filled(&world).await;
    world.clock.advance(Duration::from_secs(60 * 24 * 3600)).await;
    let (reads, emitter) = reads(&world, &with_memory(&world, "two").await).await;
    assert!(reads >= 50);
    all_is_known(emitter).await;
}
