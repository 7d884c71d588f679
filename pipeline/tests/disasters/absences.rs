//! What happened while nobody was there: tombstones expired, groups were forgotten.

use std::time::Duration;

use crate::site::{INPUT, OUTPUT, Site, gone};

/// Longer than tombstones live.
const A_SEASON: Duration = Duration::from_secs(100 * 24 * 3600);

/// How long the catalogue keeps them.
const TOMBSTONES: Duration = Duration::from_secs(90 * 24 * 3600);

const ALL: [(u32, &str); 4] = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];

/// A sink is away for longer than tombstones live: the one that would have told it to delete a row has gone.
///
/// Guard: `tombstones_gone` in `Loop::judge` (`run/sink.rs`). Without it the target kept `A`.
#[tokio::test]
async fn tombstones_expired_while_a_sink_was_away() {
    let site = Site::new().await;
    site.says(&ALL);
    site.day("one").await;
    site.states("person", vec![gone(1)]).await;
    site.derive(&site.process("two").await).await.unwrap();
    // A tombstone that stood last would be missed as the landmark.
    let left = [(2, "b"), (3, "c"), (4, "newer")];
    site.says(&left);
    site.read(&site.process("three").await).await.unwrap();
    site.derive(&site.process("three").await).await.unwrap();
    site.world.clock.advance(A_SEASON).await;
    assert!(site.world.log.compact(OUTPUT, TOMBSTONES) > 0);
    site.deliver(&site.process("four").await).await.unwrap();
    site.is(&left).await;
}

/// The same of a processor, whose input's tombstone has gone.
///
/// Guard: `tombstones_live` in `Loop::usable` (`run/processor.rs`). Without it `A` stayed in the register.
#[tokio::test]
async fn tombstones_expired_while_a_processor_was_away() {
    let site = Site::new().await;
    site.says(&ALL);
    site.day("one").await;
    site.states("person", vec![gone(1)]).await;
    site.says(&ALL[1..]);
    site.world.clock.advance(A_SEASON).await;
    assert!(site.world.log.compact(INPUT, TOMBSTONES) > 0);
    site.day("two").await;
    site.is(&ALL[1..]).await;
}

/// All processes are stopped, and the broker forgets their groups: offsets, members, all. Meanwhile a reason goes, and
/// so does its tombstone.
///
/// Guard: `let Some(…) = committed.get(at) else { return Ok(false) }` in `Loop::usable` (`run/processor.rs`): all groups
/// are derived anew. Going on from the start instead, the processor never heard of the reason that had gone, and `A`
/// stayed. (The sink needs no group: `delivery_resumes_where_the_target_says` in `sink_loop.rs`. What Kafka says of a
/// group it has forgotten: `a_group_that_was_forgotten_begins_anew` in `tests/tests/kafka_log/groups.rs`.)
#[tokio::test]
async fn all_processes_stopped_for_a_night() {
    let site = Site::new().await;
    site.says(&ALL);
    site.day("one").await;
    let (written, batches) = (site.world.records(OUTPUT).await.len(), site.target.batches().len());
    for group in ["muster.tasks", "muster.reasons", "muster.register"] {
        site.world.log.forget_group(group);
    }
    site.day("next morning").await;
    assert_eq!(site.world.records(OUTPUT).await.len(), written, "nothing is written again");
    assert_eq!(site.target.batches().len(), batches, "nothing is delivered again");

    site.states("person", vec![gone(1)]).await;
    site.world.log.compact(INPUT, Duration::ZERO);
    for group in ["muster.tasks", "muster.reasons", "muster.register"] {
        site.world.log.forget_group(group);
    }
    site.says(&ALL[1..]);
    site.day("the morning after").await;
    site.is(&ALL[1..]).await;
}
