//! Sources, processors and a sink over the memory log, all at once, with a crash or a failure before and after every
//! durable step (`steps.rs`), processes that stall, machines that lose their disk, deliveries that come late or twice,
//! pages that shift under the reader, bad records, lost topics, restored targets and clocks that step. In the end the
//! target holds what the system holds (`oracle.rs`), every account balances, and nothing is in the dead letters that
//! wasn't planned.
//!
//! A history is drawn from its seed alone (`history.rs`) and is the same each time it is played: one thread, paused time.
//! A failure prints its seed.
//!
//! ```text
//! cargo test -p pipeline --test loops_simulation                        the seeds of CI
//! MUSTER_SEED=17 cargo test -p pipeline --test loops_simulation         one seed, again
//! MUSTER_SEED=17 MUSTER_STEPS=1 cargo test -p pipeline --test loops_simulation -- --nocapture    and every step of it
//! MUSTER_SEEDS=100000 cargo test --release -p pipeline --test loops_simulation
//! MUSTER_SEEDS=5000..9000 cargo test --release -p pipeline --test loops_simulation
//! ```
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod history;
mod machine;
mod oracle;
mod outside;
mod steps;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use self::history::{Told, play};
use self::steps::Coverage;

/// In CI.
const SEEDS: u64 = 2_000;

/// More failures say nothing new.
const MOST_FAILURES: usize = 10;

/// The seeds that the environment asks for, and whether they are those of CI.
fn seeds() -> (Range<u64>, bool) {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no seed"));
    if let Ok(seed) = std::env::var("MUSTER_SEED") {
        let seed = number(&seed);
        return (seed..seed + 1, false);
    }
    match std::env::var("MUSTER_SEEDS") {
        Ok(seeds) => match seeds.split_once("..") {
            Some((from, to)) => (number(from)..number(to), false),
            None => (0..number(&seeds), false),
        },
        Err(_) => (0..SEEDS, true),
    }
}

/// One history, from its beginning to its end, in a runtime of its own.
fn told(seed: u64, coverage: &Coverage) -> Result<Told, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(seed, coverage))));
    played.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default())
    })
}

#[test]
fn whatever_step_fails_the_target_ends_up_with_what_the_system_holds() {
    let (seeds, in_ci) = seeds();
    let (next, coverage, failures) = (AtomicU64::new(seeds.start), Coverage::default(), Mutex::new(Vec::new()));
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures.lock().unwrap().len() >= MOST_FAILURES {
                        break;
                    }
                    if let Err(wrong) = told(seed, &coverage) {
                        eprintln!("seed {seed} (MUSTER_SEED={seed} repeats it): {wrong}");
                        failures.lock().unwrap().push(seed);
                    }
                    let done = seed + 1 - seeds.start;
                    if !in_ci && done.is_multiple_of(1_000) {
                        eprintln!("{done} seeds in {} s", began.elapsed().as_secs());
                    }
                }
            });
        }
    });
    eprintln!("{}", coverage.table());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "seeds {failures:?} fail (MUSTER_SEED=… repeats one)");
    let missing = coverage.missing();
    assert!(!in_ci || missing.is_empty(), "never struck: {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..6 {
        let coverage = Coverage::default();
        let (first, second) = (told(seed, &coverage).unwrap(), told(seed, &coverage).unwrap());
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
