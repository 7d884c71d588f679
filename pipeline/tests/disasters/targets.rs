//! Targets that lose their memory, or their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline::log::memory::{Action, Fault, When};
use pipeline::run::{SinkLimits, SinkTask};
use tokio_util::sync::CancellationToken;

use crate::common::sink::Trouble;
use crate::site::{OUTPUT, Site, gone};

/// The target has written a batch, and its answer to COMMIT is lost; so is the broker's answer to the commits of groups.
///
/// Guard: `of_log` in `run/error.rs`: what can pass begins the loop again, from what was committed. With `Unavailable` as
/// final, the processor stopped. (How a real database tells that a batch was written before, `Claim::Written` in
/// `sinks/src/sql/offsets.rs`, is the business of `a_lost_answer_is_found_out` in `sinks/src/sql/tests/suite.rs` and of the
/// proxy in `sinks/src/sql/tests/postgres.rs`, which swallows the answer.)
#[tokio::test]
async fn a_lost_commit_answer() {
    let site = Site::new().await;
    site.says(&[(1, "a"), (2, "b")]);
    site.target.meets([Trouble::LostAnswer]);
    site.day("one").await;
    site.is(&[(1, "a"), (2, "b")]).await;
    let writes = site.world.records(OUTPUT).await.len();
    // The next commit of every group is done, and never answered.
    for group in ["muster.reasons", "muster.register"] {
        let lost = AtomicU64::new(0);
        site.world.log.set_faults(Arc::new(move |step| {
            let here =
                matches!(&step.action, Action::Commit { group: of } if **of == *group) && step.when == When::After;
            if here && lost.fetch_add(1, Ordering::SeqCst) == 0 { Fault::Unavailable } else { Fault::Ok }
        }));
        site.says(&[(1, "a"), (2, group)]);
        site.day("again").await;
        site.is(&[(1, "a"), (2, group)]).await;
    }
    assert_eq!(site.world.records(OUTPUT).await.len(), writes + 2, "one record for each change");
}

/// The target is restored from last night's backup while the sink is stopped: what came since is delivered again, the
/// delete too.
///
/// Guard: `Resume::Own` in `Loop::assigned` (`run/sink.rs`): the target says where to go on. With the group's offsets
/// instead it kept `A` and `B` of the night before.
#[tokio::test]
async fn a_target_restored_from_an_older_backup() {
    let site = Site::new().await;
    site.says(&[(1, "a"), (2, "b")]);
    site.day("one").await;
    let backup = site.target.backup();
    site.states("person", vec![gone(1)]).await;
    site.says(&[(2, "newer"), (3, "c")]);
    site.day("two").await;
    site.target.restore(&backup);
    site.day("three").await;
    site.is(&[(2, "newer"), (3, "c")]).await;
}

/// The target is made anew, empty, while the sink is stopped.
///
/// Guard: as above. With the group's offsets the target stayed empty.
#[tokio::test]
async fn a_target_restored_empty() {
    let site = Site::new().await;
    let empty = site.target.backup();
    site.says(&[(1, "a"), (2, "b")]);
    site.day("one").await;
    site.target.restore(&empty);
    site.day("two").await;
    site.is(&[(1, "a"), (2, "b")]).await;
}

/// The target is restored under a running sink, which believes that it is further.
///
/// Guard: a target that refuses the batch, since its own offset isn't the expected one, makes the loop begin again from
/// there: `SinkError::Fenced` in `can_pass` (`run/error.rs`), and `Resume::Own` in `Loop::assigned` (`run/sink.rs`).
/// Without either, the target never got its rows back.
#[tokio::test]
async fn a_target_restored_under_a_running_sink() {
    for older in [true, false] {
        let site = Site::new().await;
        let empty = site.target.backup();
        site.says(&[(1, "a")]);
        site.day("one").await;
        let backup = if older { site.target.backup() } else { empty };
        site.says(&[(1, "a"), (2, "b")]);
        site.day("two").await;
        let (process, stop) = (site.process("three").await, CancellationToken::new());
        let tasks = site.follow(&process, &stop);
        site.says(&[(1, "a"), (2, "b"), (3, "c")]);
        site.world.until(async || site.target_holds().len() == 3).await;
        site.target.restore(&backup);
        // The next change finds it out.
        site.says(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
        site.world.until(async || site.target_holds().len() == 4).await;
        stop.cancel();
        for task in tasks {
            site.world.drive(task).await.unwrap().unwrap();
        }
        site.is(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]).await;
    }
}

/// A backup older than tombstones live: the deletes since then are in no topic any more.
///
/// Guard: `tombstones_gone` in `Loop::judge` (`run/sink.rs`). Without it the target kept `A`.
#[tokio::test]
async fn a_target_restored_from_a_backup_older_than_tombstones() {
    let site = Site::new().await;
    site.says(&[(1, "a"), (2, "b")]);
    site.day("one").await;
    let backup = site.target.backup();
    site.states("person", vec![gone(1)]).await;
    site.says(&[(2, "b")]);
    site.day("two").await;
    // A tombstone that stood last would be missed as the landmark.
    site.says(&[(2, "newer")]);
    site.day("three").await;
    let season = std::time::Duration::from_secs(100 * 24 * 3600);
    site.world.clock.advance(season).await;
    assert!(site.world.log.compact(OUTPUT, season - std::time::Duration::from_secs(10 * 24 * 3600)) > 0);
    site.target.restore(&backup);
    let sink = SinkTask { limits: SinkLimits::default(), ..site.sink() };
    let process = site.process("four").await;
    site.world.drive(sink.run(&process, pipeline::run::Mode::Once, &CancellationToken::new())).await.unwrap();
    site.is(&[(2, "newer")]).await;
}
