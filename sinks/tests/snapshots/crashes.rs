//! A fault at every operation of the store: the last snapshot stays whole, and the next one is right.

use std::sync::Arc;

use pipeline::snapshot::{Coding, Generation};

use super::faulty::{Fault, Faulty};
use super::site::{Site, process};

async fn small(faulty: &Faulty) -> Site {
    let mut site = Site::over(Arc::new(faulty.clone())).await;
    site.settings.max_depth = 3;
    site.settings.codings = vec![Coding::Gzip];
    site.settings.keep = 2;
    site
}

/// A day in the life of the table; days differ.
async fn day(site: &mut Site, random: &mut fastrand::Rng) {
    site.pass(24).await;
    for _ in 0..6 {
        let n = random.u32(..25);
        if random.u32(..5) == 0 {
            site.delete(n).await
        } else {
            site.put(n, &format!("P{}", random.u8(..)), None).await
        }
    }
}

/// When `Upload::finish` doesn't wait for what the store answers, steps in the middle leave half a snapshot (tried).
#[tokio::test]
async fn whatever_step_fails_the_last_snapshot_is_whole_and_the_next_is_right() {
    for fault in [Fault::Lost, Fault::AnswerLost, Fault::Crash, Fault::CrashAfter] {
        let mut nth = 0;
        loop {
            let faulty = Faulty::new();
            let mut site = small(&faulty).await;
            let mut random = fastrand::Rng::with_seed(nth);
            for _ in 0..3 {
                day(&mut site, &mut random).await;
                site.snapshot().await;
            }
            let (former, before) = (site.read(None).await, site.latest().await.generation);
            day(&mut site, &mut random).await;
            faulty.strike(nth, fault);
            let tried = site.clock_driven(site.try_snapshot()).await;
            let steps = faulty.steps();
            faulty.heal();
            let why = format!("{fault:?} at step {nth} of {steps}: {:?}", tried.as_ref().map(|_| ()));
            let now = site.latest().await;
            // Either all of it or nothing of it.
            if now.generation == before {
                assert_eq!(site.read(None).await, former, "{why}");
            } else {
                assert_eq!(now.generation, before.next(), "{why}");
                assert_eq!(site.read(None).await, site.table, "{why}");
            }
            site.verified().await;
            // Another process takes over.
            site.runtime = process(&site.log, &site.clock).await;
            site.pass(1).await;
            site.snapshot().await;
            assert_eq!(site.read(None).await, site.table, "{why}");
            site.verified().await;
            if nth >= steps {
                assert!(tried.is_ok(), "{why}");
                break;
            }
            nth += 1;
        }
        assert!(nth > 20, "only {nth} steps were struck");
    }
}

#[tokio::test]
async fn of_two_at_the_same_time_one_publishes_and_the_other_goes_on_from_there() {
    let faulty = Faulty::new();
    let mut site = small(&faulty).await;
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..3 {
        day(&mut site, &mut random).await;
        site.complete().await;
        // The other's folder is another one, and its lease has been believed to be over.
        let other_folder = tempfile::tempdir().unwrap();
        let other =
            sinks::snapshot::Snapshots::new(site.settings.clone(), site.store.clone(), other_folder.path().to_owned());
        let job = site.job();
        let (one, two) = tokio::join!(job.make(&site.runtime, site.now()), other.make(&site.runtime, site.now()),);
        let generations: Vec<Generation> =
            [one.unwrap(), two.unwrap()].iter().map(|report| report.generation).collect();
        assert_ne!(generations[0], generations[1]);
        assert_eq!(site.read(None).await, site.table);
        site.verified().await;
    }
    assert_eq!(site.latest().await.generation, Generation(6));
}

#[tokio::test]
async fn a_second_process_waits_for_the_lease() {
    let site = Site::new().await;
    let other = process(&site.log, &site.clock).await;
    let lease = format!(
        "{{\"holder\":\"another\",\"until\":\"{}\"}}",
        (site.now() + chrono::TimeDelta::minutes(1)).to_rfc3339()
    );
    use object_store::ObjectStoreExt;
    let location = site.store.path("lease.json").unwrap();
    site.store.objects().put(&location, lease.into_bytes().into()).await.unwrap();
    let error = site.job().make(&other, site.now()).await.unwrap_err().to_string();
    assert!(error.starts_with("another is making a snapshot"), "{error}");
    // It doesn't say again that it is there.
    site.pass(1).await;
    site.complete().await;
    let error = site.job().make(&other, site.now()).await.unwrap_err().to_string();
    assert!(error.contains("empty, and its schema isn't known"), "{error}");
}

#[tokio::test]
async fn lists_that_lag_behind_mislead_nobody() {
    let faulty = Faulty::new();
    let mut site = small(&faulty).await;
    let mut random = fastrand::Rng::with_seed(5);
    for round in 1..8 {
        day(&mut site, &mut random).await;
        site.snapshot().await;
        assert_eq!(site.latest().await.generation, Generation(round));
        assert_eq!(site.read(None).await, site.table);
        if round % 2 == 0 {
            faulty.lists_lag().await;
        }
    }
    site.verified().await;
}
