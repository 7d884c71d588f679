//! Nothing is missed, whatever rows and pages do.

use std::time::Duration;

use chrono::TimeDelta;
use pipeline::clock::Clock;
use serde_json::json;
use simulators::ats::{Drift, Endpoint, Fault, Order};

use schemas::Key;

use super::*;

#[tokio::test]
async fn a_load_reads_every_applicant_once_and_checks_it_with_a_second_pass() {
    let mut options = few(300);
    options.latency = Duration::from_millis(20);
    let site = site(options);
    let run = run(&mut *site.applicants(), &Ask::Everything, None).await.unwrap();
    assert_eq!(run.records, site.oracle());
    assert_eq!((run.read, run.superseded, run.rejects.len()), (300, 0, 0));
    assert_eq!(run.complete_to, Some(site.ats.now()));
    assert_eq!(run.position.unwrap().0, json!({ "complete_to": site.ats.now() }));
    // 300 rows end in the second wave; twice.
    assert_eq!(site.ats.requests_total(), 20);
    assert_eq!(site.ats.max_in_flight(), 5);
    assert!(site.ats.requests().iter().all(|request| request.had_api_key && request.path == "/applicants"));
}

#[tokio::test]
async fn an_exact_multiple_of_the_wave_ends_with_an_empty_page() {
    let site = site(few(250));
    let run = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
    assert_eq!(run.records, site.oracle());
}

#[tokio::test]
async fn no_applicants_at_all_is_a_complete_reading() {
    let site = site(few(0));
    let run = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
    assert_eq!((run.read, run.pages, run.complete_to), (0, 1, Some(site.ats.now())));
}

#[tokio::test]
async fn rows_that_are_inserted_removed_and_moved_between_pages_are_not_missed() {
    for order in [Order::Stable, Order::ByCreated, Order::Shuffled] {
        for seed in 1..=4 {
            let mut site = site(AtsOptions { order, seed, drift: Some(Drift::default()), ..few(330) });
            site.config.max_passes = 30;
            let run = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
            assert!(run.complete_to.is_some());
            for (key, body) in site.oracle() {
                assert_eq!(run.records.get(&key), Some(&body), "{key}, {order:?}, seed {seed}");
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_two_passes_skip_is_found_by_a_third() {
    let mut site = site(few(40));
    site.config.page_size = 10;
    site.config.concurrency = 1;
    let ids: Vec<String> = site.oracle_in_order();
    let mut source = site.applicants();
    let mut run = Run::default();
    for (pages_before, removed) in [(2, 0..1), (4, 1..11)] {
        // The first pass loses row 20, which moves to the page before; ten removals later, so does the second. The
        // second brings nothing new either: only that it is shorter than the first tells.
        for _ in 0..pages_before {
            run.add(source.read(&Ask::Changes, run.position.as_ref()).await.unwrap());
        }
        for id in &ids[removed] {
            assert!(site.ats.remove_applicant(id));
        }
    }
    assert!(!run.records.contains_key(&ids[20]));
    run.finish(&mut *source, &Ask::Changes).await.unwrap();
    assert!(run.records.contains_key(&ids[20]));
    assert_eq!(run.complete_to, Some(site.ats.now()));
}

/// A page is read while the one before it is appended. What was read and not appended is forgotten with it.
#[tokio::test]
async fn what_was_read_ahead_of_a_page_that_was_lost_comes_again() {
    for lost in 0.. {
        let mut site = site(few(40));
        site.config.page_size = 10;
        site.config.concurrency = 1;
        let mut source = site.applicants();
        let mut run = Run::default();
        for _ in 0..lost {
            run.add(source.read(&Ask::Changes, run.position.as_ref()).await.unwrap());
        }
        let page = source.read(&Ask::Changes, run.position.as_ref()).await.unwrap();
        if page.end {
            assert!(lost > 5, "two passes of several pages");
            return;
        }
        source.read(&Ask::Changes, Some(&page.next)).await.unwrap();
        run.finish(&mut *source, &Ask::Changes).await.unwrap();
        assert_eq!(run.records, site.oracle(), "page {lost} was lost");
    }
}

#[tokio::test]
async fn a_reading_is_complete_to_the_moment_its_last_pass_began() {
    let site = site(few(40));
    let mut source = site.applicants();
    let mut run = Run::default();
    let mut asked = Vec::new();
    while run.complete_to.is_none() {
        asked.push(site.clock.now());
        run.add(source.read(&Ask::Changes, run.position.as_ref()).await.unwrap());
        site.clock.advance(Duration::from_secs(3_600)).await;
    }
    // Each pass: the rows, then nothing.
    assert_eq!(asked.len(), 4);
    assert_eq!(run.complete_to, Some(asked[2]));
}

#[tokio::test]
async fn a_feed_that_never_rests_ends_the_run_without_a_claim() {
    let drift = Drift { rounds: None, ..Drift::default() };
    let mut site = site(AtsOptions { drift: Some(drift), ..few(120) });
    site.config.max_passes = 3;
    let first = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
    assert_eq!(first.complete_to, None);
    assert_eq!(first.position.clone().unwrap().0, json!({ "complete_to": null }));
    // Once it rests, the next run completes.
    site.ats.set_drift(None);
    let next = run(&mut *site.applicants(), &Ask::Changes, first.position.as_ref()).await.unwrap();
    assert_eq!(next.complete_to, Some(site.ats.now()));
}

#[tokio::test]
async fn a_server_that_serves_smaller_pages_than_asked_for_skips_nothing() {
    for (max_page, page_size, concurrency) in [(50, 100, 5), (7, 50, 5), (7, 50, 1), (1, 3, 2), (50, 51, 1)] {
        let mut site = site(AtsOptions { max_page, ..few(120) });
        site.config.page_size = page_size;
        site.config.concurrency = concurrency;
        let run = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
        assert_eq!(run.records, site.oracle(), "{max_page} of {page_size}");
        assert_eq!(run.read, 120);
        let asked_for_less = format!("next={max_page}&");
        assert!(site.ats.requests().iter().any(|request| request.query.starts_with(&asked_for_less)));
    }
}

#[tokio::test]
async fn a_process_killed_in_the_middle_goes_on_at_its_offset_and_misses_nothing() {
    let site = site(few(600));
    let mut whole = Run::default();
    let mut killed = site.applicants();
    whole.add(killed.read(&Ask::Changes, None).await.unwrap());
    drop(killed);
    site.ats.clear_requests();
    let rest = run(&mut *site.applicants(), &Ask::Changes, whole.position.as_ref()).await.unwrap();
    assert!(site.ats.requests()[..5].iter().any(|request| request.query == "next=50&offset=250"));
    assert_eq!(rest.complete_to, Some(site.ats.now()));
    whole.records.extend(rest.records);
    assert_eq!(whole.records, site.oracle());
}

#[tokio::test]
async fn a_page_that_was_not_stored_is_read_again() {
    let site = site(few(300));
    let mut source = site.applicants();
    let first = source.read(&Ask::Changes, None).await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let page = source.read(&Ask::Changes, Some(&first.next)).await.unwrap();
        counts.push((page.changes.len(), page.next));
    }
    assert_eq!(counts[0], counts[1]);
    assert_eq!(counts[0].0, 50);
    // And after a failure.
    site.ats.set_fault(Endpoint::Applicants, Fault::status(500), Some(1));
    assert!(source.read(&Ask::Changes, Some(&first.next)).await.is_err());
    let rest = run(&mut *source, &Ask::Changes, Some(&first.next)).await.unwrap();
    assert_eq!((rest.read, rest.complete_to), (50, Some(site.ats.now())));
}

#[tokio::test]
async fn one_failed_page_fails_the_wave_and_loses_nothing() {
    let site = site(few(300));
    site.ats.set_fault_after(Endpoint::Applicants, 3, Fault::Reset, Some(1));
    let mut source = site.applicants();
    assert!(source.read(&Ask::Changes, None).await.is_err());
    let run = run(&mut *source, &Ask::Changes, None).await.unwrap();
    assert_eq!(run.records, site.oracle());
}

#[tokio::test]
async fn changes_are_asked_for_from_the_last_success_with_overlap_to_tomorrow() {
    // The default clock stands at 2026-05-28 13:26 in Vancouver.
    let site = site(few(400));
    let mut source = site.applicants();
    let load = run(&mut *source, &Ask::Changes, None).await.unwrap();
    site.ats.advance(TimeDelta::days(3));
    site.clock.advance(Duration::from_secs(3 * 86_400)).await;
    let changed = site.ats.change_some(7);
    site.ats.clear_requests();

    let run = run(&mut *source, &Ask::Changes, load.position.as_ref()).await.unwrap();
    assert!(site.ats.requests().iter().all(|request| request.query.ends_with("&from=2026-05-27&to=2026-06-01")));
    let oracle = site.oracle();
    for key in changed {
        assert_eq!(run.records.get(&key), oracle.get(&key));
    }
    assert_eq!(run.complete_to, Some(site.ats.now()));
}

#[tokio::test]
async fn the_first_window_begins_where_the_settings_say() {
    let mut site = site(few(10));
    site.config.from = Some("2026-01-31".parse().unwrap());
    run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
    assert!(site.ats.requests().iter().all(|request| request.query.ends_with("&from=2026-01-31&to=2026-05-29")));
    site.ats.clear_requests();
    // The first load is one of everything, and that day bounds it too; later ones find what vanished, so they have no bound.
    let load = run(&mut *site.applicants(), &Ask::Everything, None).await.unwrap();
    assert!(site.ats.requests().iter().all(|request| request.query.ends_with("&from=2026-01-31&to=2026-05-29")));
    site.ats.clear_requests();
    run(&mut *site.applicants(), &Ask::Everything, load.position.as_ref()).await.unwrap();
    assert!(site.ats.requests().iter().all(|request| !request.query.contains("from")));
}

#[tokio::test]
async fn a_window_can_be_read_from_a_later_page_on_and_the_first_page_is_the_first() {
    let site = site(few(120));
    let mut source = site.applicants();
    let window = |page: u32| Ask::Window {
        from: "2020-01-01".parse().unwrap(),
        to: "2026-12-31".parse().unwrap(),
        page: std::num::NonZeroU32::new(page),
    };
    assert_eq!(run(&mut *source, &window(1), None).await.unwrap().read, 120);
    assert_eq!(run(&mut *source, &window(3), None).await.unwrap().read, 20);
    assert_eq!(run(&mut *source, &window(9), None).await.unwrap().read, 0);
}

#[tokio::test]
async fn a_window_is_read_without_moving_the_position() {
    let site = site(few(100));
    let mut source = site.applicants();
    let load = run(&mut *source, &Ask::Changes, None).await.unwrap();
    site.clock.advance(Duration::from_secs(86_400)).await;
    let ask = Ask::Window { from: "2020-01-01".parse().unwrap(), to: "2026-12-31".parse().unwrap(), page: None };
    let window = run(&mut *source, &ask, load.position.as_ref()).await.unwrap();
    assert_eq!(window.read, 100);
    assert_eq!((window.complete_to, window.position), (None, load.position));
}

#[tokio::test]
async fn one_bad_applicant_costs_one_applicant_once() {
    let site = site(few(120));
    let id = site.ats.applicants()[60]["applicant_id"].as_str().unwrap().to_lowercase();
    let mut bad = site.ats.applicant(&id).unwrap();
    bad["milestones"] = json!([{ "id": null }]);
    assert!(site.ats.replace_raw(&id, bad));
    site.ats.add_raw(json!("not even an object"));

    let run = run(&mut *site.applicants(), &Ask::Everything, None).await.unwrap();
    assert_eq!(run.records.len(), 119);
    assert_eq!(run.records, site.oracle());
    let mut rejects: Vec<_> = run.rejects.iter().map(|reject| (reject.key.clone(), reject.reason.code)).collect();
    rejects.sort();
    assert_eq!(rejects, [(None, "wrong_type"), (Some(Key::from(&*id)), "missing_field")]);
    assert!(run.complete_to.is_some());
}

#[tokio::test]
async fn a_rejected_record_can_be_decoded_again_and_once_it_is_mended() {
    let site = site(few(1));
    let source = site.applicants();
    let mut row = site.ats.applicants().remove(0);
    row["ats1_id"] = json!("none");
    assert!(source.decode(row.to_string().as_bytes()).is_err());
    row["ats1_id"] = json!(7);
    assert!(source.decode(format!(" {row}\n").as_bytes()).is_ok());
}

#[tokio::test]
async fn a_record_that_comes_twice_on_a_page_counts_as_superseded() {
    let mut site = site(few(40));
    site.config.page_size = 100;
    site.ats.set_fault(Endpoint::Applicants, Fault::DuplicateRows, Some(1));
    let page = site.applicants().read(&Ask::Changes, None).await.unwrap();
    assert_eq!((page.read, page.changes.len(), page.superseded), (80, 40, 40));
}

#[tokio::test]
async fn wrong_types_are_rejected_one_by_one() {
    let site = site(few(40));
    site.ats.set_fault(Endpoint::Applicants, Fault::WrongTypes { every: 4 }, None);
    let run = run(&mut *site.applicants(), &Ask::Changes, None).await.unwrap();
    assert_eq!((run.read, run.records.len(), run.rejects.len()), (40, 30, 10));
}

#[tokio::test]
async fn both_generations_of_paths_are_read() {
    for paths in [AtsPaths::current(), AtsPaths::original()] {
        let mut site = site(few(60));
        site.config.paths = paths;
        for feed in AtsFeed::ALL {
            let run = run(&mut *site.source(feed), &Ask::Changes, None).await.unwrap();
            assert!(run.read > 0 && run.rejects.is_empty(), "{feed}");
            let path = site.config.paths.of_feed(feed);
            assert!(site.ats.requests().iter().any(|request| request.path == path));
        }
    }
}

#[tokio::test]
async fn a_real_feed_is_read_with_all_its_masters() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recorded/ats/applicants.json");
    let rows = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let site = serve(Ats::from_feed(rows, AtsOptions::default()));
    for feed in AtsFeed::ALL {
        let run = run(&mut *site.source(feed), &Ask::Everything, None).await.unwrap();
        assert!(run.rejects.is_empty() && run.superseded == 0, "{feed}");
        // Nobody in it has withdrawn, so it names no reasons: an empty list, which is skipped.
        let is_skipped = feed == AtsFeed::Reasons;
        assert_eq!((run.records.is_empty(), run.complete_to.is_none()), (is_skipped, is_skipped), "{feed}");
        if feed == AtsFeed::Applicants {
            assert_eq!(run.records, site.oracle());
            assert_eq!(run.records.len(), site.ats.len());
        }
    }
}

#[tokio::test]
async fn more_rows_than_allowed_stop_the_source() {
    let mut site = site(few(120));
    site.config.max_records = 100;
    let Err(SourceError::Refused { hint, .. }) = run(&mut *site.applicants(), &Ask::Changes, None).await else {
        panic!("read on")
    };
    assert!(hint.contains("max_records"));
    site.server.stop().await;
}
