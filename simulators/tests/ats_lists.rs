//! What is served, to whom, and in which pages.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use simulators::ats::{Ats, AtsOptions, Drift, Order};
use support::{few, ids, serve, site, times_seen};

#[tokio::test]
async fn a_pass_of_pages_shows_every_applicant_once() {
    let site = site(few(333));
    let rows = site.pass("").await;
    assert_eq!(rows, site.ats.applicants());
    assert!(times_seen(&rows).values().all(|times| *times == 1));
    assert_eq!(rows.len(), 333);
    let keys: Vec<_> = rows.iter().map(|row| instant(&row["updated_date"])).collect();
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn an_exact_multiple_of_the_page_ends_with_an_empty_page() {
    let site = site(few(100));
    assert_eq!(site.rows("/applicants?next=50&offset=50").await.len(), 50);
    assert_eq!(site.rows("/applicants?next=50&offset=100").await, Vec::<Value>::new());
    assert_eq!(site.rows("/applicants?next=50&offset=99999999").await, Vec::<Value>::new());
}

#[tokio::test]
async fn old_and_new_paths_lead_to_the_same_lists_in_any_case() {
    let site = site(few(60));
    for (old, new) in [
        ("/Applicant", "/applicants"),
        ("/HealthAuthority", "/health-authorities"),
        ("/Reason", "/withdrawal-reasons"),
        ("/Milestone", "/MILESTONES"),
        ("/staff", "/Staff"),
    ] {
        let rows = site.rows(old).await;
        assert!(!rows.is_empty(), "{old}");
        assert_eq!(rows, site.rows(new).await);
    }
    assert_eq!(site.get("/specialty-departments").await.status(), 404);
    assert_eq!(site.get("/nothing").await.status(), 404);
    assert_eq!(site.client.post(format!("{}/staff", site.server.url())).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn staff_and_applicants_need_the_key_and_the_others_do_not() {
    let site = site(few(60));
    for (path, needs_key) in [
        ("/staff", true),
        ("/applicants", true),
        ("/Applicant", true),
        ("/health-authorities", false),
        ("/withdrawal-reasons", false),
        ("/milestones", false),
    ] {
        let url = format!("{}{path}", site.server.url());
        let without = site.client.get(&url).send().await.unwrap();
        let wrong = site.client.get(&url).header("ApiKey", "guessed").send().await.unwrap();
        let right = site.client.get(&url).header("apikey", &site.ats.options().api_key).send().await.unwrap();
        let expected = if needs_key { 401 } else { 200 };
        assert_eq!((without.status().as_u16(), wrong.status().as_u16()), (expected, expected), "{path}");
        assert_eq!(right.status(), 200, "{path}");
        if needs_key {
            let answer: Value = without.json().await.unwrap();
            assert!(answer["message"].is_string());
        }
    }
    assert_eq!(site.ats.requests().iter().filter(|seen| !seen.had_api_key).count(), 6);
}

#[tokio::test]
async fn days_are_those_of_the_servers_zone() {
    let site = serve(Ats::from_feed(Vec::new(), AtsOptions::default()));
    // Half past eleven in the evening of 10 March in Vancouver is the 11th in UTC.
    site.ats.set_now("2026-03-11T06:30:00Z".parse().unwrap());
    let evening = site.ats.add_applicant();
    site.ats.set_now("2026-03-11T07:00:00Z".parse().unwrap());
    let midnight = site.ats.add_applicant();

    for (window, expected) in [
        ("from=2026-03-10&to=2026-03-10", vec![&evening]),
        ("from=2026-03-11&to=2026-03-11", vec![&midnight]),
        ("from=2026-03-10&to=2026-03-11", vec![&evening, &midnight]),
        ("cfrom=2026-03-11", vec![&midnight]),
        ("uto=2026-03-10", vec![&evening]),
        ("from=2026-03-12", vec![]),
        ("from=2026-03-11&to=2026-03-10", vec![]),
    ] {
        let rows = site.rows(&format!("/applicants?{window}")).await;
        assert_eq!(ids(&rows).iter().collect::<Vec<_>>(), expected, "{window}");
    }
    for wrong in ["from=yesterday", "uto=2026-02-30", "cfrom=2026-3-1", "offset=-1", "next=all"] {
        assert_eq!(site.get(&format!("/applicants?{wrong}")).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn an_edit_is_found_by_its_day_and_moves_the_row_to_the_end() {
    let site = site(few(200));
    site.ats.set_now("2027-01-05T20:00:00Z".parse().unwrap());
    let before = site.ats.applicants();
    let changed = site.ats.change_some(7);
    assert_eq!(changed.iter().collect::<BTreeSet<_>>().len(), 7);

    let rows = site.pass("&from=2027-01-05&to=2027-01-05").await;
    assert_eq!(ids(&rows).into_iter().collect::<BTreeSet<_>>(), changed.into_iter().collect());
    assert_eq!(rows, site.pass("").await[193..]);
    for row in &rows {
        let was = before.iter().find(|other| other["applicant_id"] == row["applicant_id"]);
        let mut was = was.unwrap().clone();
        was["updated_date"] = row["updated_date"].clone();
        assert_ne!(*row, was, "more than the date has changed");
    }
}

#[tokio::test]
async fn rows_that_drift_are_skipped_or_repeated_by_whoever_counts_offsets() {
    let drift = Drift { every: 1, changed: 10, inserted: 2, removed: 3, reordered: 10, rounds: Some(5) };
    let site = site(AtsOptions { drift: Some(drift), ..few(300) });
    let at_first: BTreeSet<_> = ids(&site.ats.applicants()).into_iter().collect();
    let seen = site.pass("").await;
    let at_last: BTreeSet<_> = ids(&site.ats.applicants()).into_iter().collect();
    let times = times_seen(&seen);

    let skipped = at_first.intersection(&at_last).filter(|id| !times.contains_key(*id)).count();
    let repeated = times.values().filter(|times| **times > 1).count();
    assert!(skipped > 0, "nothing was skipped");
    assert!(repeated > 0, "nothing was repeated");
    assert_eq!(site.ats.len(), 300 - 5 * 3 + 5 * 2);

    // The drift is over: the next pass is complete.
    assert_eq!(site.pass("").await, site.ats.applicants());
}

#[tokio::test]
async fn odd_servers_list_in_another_order() {
    let by_created = site(AtsOptions { order: Order::ByCreated, ..few(120) });
    let rows = by_created.pass("").await;
    let keys: Vec<_> = rows.iter().map(|row| instant(&row["created_date"])).collect();
    assert!(keys.is_sorted());

    let shuffled = site(AtsOptions { order: Order::Shuffled, ..few(120) });
    let once = ids(&shuffled.pass("").await);
    assert_eq!(once, ids(&shuffled.pass("").await), "at rest it stays as it is");
    shuffled.ats.change_some(1);
    assert_ne!(once, ids(&shuffled.pass("").await));
}

#[tokio::test]
async fn the_log_tells_how_many_requests_ran_at_once() {
    let site = site(AtsOptions { latency: Duration::from_millis(300), ..few(60) });
    let paths: Vec<String> = (0..5).map(|page| format!("/applicants?offset={page}")).collect();
    let five = paths.iter().map(|path| site.get(path));
    futures::future::join_all(five).await;
    assert_eq!(site.ats.max_in_flight(), 5);
    let seen = site.ats.requests();
    assert_eq!(seen.len(), 5);
    assert!(
        seen.iter().all(|seen| seen.path == "/applicants" && seen.query.starts_with("offset=") && seen.had_api_key)
    );
}

#[tokio::test]
async fn applicants_come_no_faster_than_the_pace_and_masters_dont_count() {
    let site = site(AtsOptions { pace: Some(200), ..few(150) });
    let began = std::time::Instant::now();
    site.get("/milestones").await;
    assert_eq!(site.pass("").await.len(), 150);
    // The first page goes at once, and the last of three pages of 50 after the two before it.
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn rows_that_are_wrong_are_served_as_they_are() {
    let site = site(few(60));
    let id = ids(&site.ats.applicants())[10].clone();
    assert!(site.ats.replace_raw(&id.to_uppercase(), json!({ "applicant_id": id, "ats1_id": "many" })));
    site.ats.add_raw(json!("not even an object"));
    site.ats.add_raw(json!({ "applicant_id": 17 }));
    assert!(!site.ats.replace_raw("nobody", json!({})));
    let rows = site.pass("").await;
    assert_eq!(rows.len(), 62);
    assert!(rows.contains(&json!({ "applicant_id": id, "ats1_id": "many" })));
    assert!(rows.contains(&json!("not even an object")));
    // Edits leave them alone.
    assert_eq!(site.ats.change_some(62).len(), 61);
    assert!(site.ats.remove_applicant(&id));
    assert_eq!(site.ats.applicant(&id), None);
}

#[tokio::test]
async fn stopping_frees_the_port_and_the_data_stays() {
    let site = site(few(60));
    let addr = site.server.addr;
    site.server.stop().await;
    assert!(site.client.get(format!("http://{addr}/milestones")).send().await.is_err());
    let again = site.ats.serve(addr).unwrap();
    assert_eq!(site.client.get(format!("{}/milestones", again.url())).send().await.unwrap().status(), 200);
}

fn instant(date: &Value) -> chrono::NaiveDateTime {
    chrono::NaiveDateTime::parse_from_str(date.as_str().unwrap(), "%Y-%m-%dT%H:%M:%S%.f").unwrap()
}
