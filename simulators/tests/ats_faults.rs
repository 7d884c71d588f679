//! Each fault, over a real socket.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use simulators::ats::{Endpoint, Fault, RetryAfter};
use support::{Site, few, site};

const PAGE: &str = "/applicants?next=50";

/// An ATS whose next request for applicants goes wrong like this.
fn failing(fault: Fault) -> Site {
    let site = site(few(120));
    site.ats.set_fault(Endpoint::Applicants, fault, Some(1));
    site
}

/// After the fault the same request is answered rightly.
async fn recovered(site: &Site) {
    assert_eq!(site.rows(PAGE).await, site.ats.applicants()[..50]);
}

#[tokio::test]
async fn statuses_come_with_a_message() {
    for code in [401, 403, 404, 429, 500, 503] {
        let site = failing(Fault::status(code));
        let response = site.get(PAGE).await;
        assert_eq!(response.status(), code);
        assert_eq!(response.headers().get(RETRY_AFTER), None);
        assert!(response.json::<Value>().await.unwrap()["message"].is_string());
        recovered(&site).await;
    }
}

#[tokio::test]
async fn retry_after_is_seconds_a_date_or_nonsense() {
    let said = |retry_after| async {
        let site = failing(Fault::too_many_requests(retry_after));
        let response = site.get(PAGE).await;
        assert_eq!(response.status(), 429);
        response.headers()[RETRY_AFTER].to_str().unwrap().to_owned()
    };
    assert_eq!(said(RetryAfter::Seconds(7)).await, "7");
    assert_eq!(said(RetryAfter::Text("99999999999999999999".to_owned())).await, "99999999999999999999");
    assert_eq!(said(RetryAfter::Text("soon".to_owned())).await, "soon");
    assert_eq!(said(RetryAfter::Text("in\r\ntwo lines".to_owned())).await, "?");
    let date = said(RetryAfter::DateIn(60)).await;
    let date = chrono::NaiveDateTime::parse_from_str(&date, "%a, %d %b %Y %H:%M:%S GMT").unwrap().and_utc();
    assert!((50..=60).contains(&(date - chrono::Utc::now()).num_seconds()));
}

#[tokio::test]
async fn a_hang_lasts_as_long_as_the_client_waits() {
    let site = failing(Fault::Hang);
    let url = format!("{}{PAGE}", site.server.url());
    let error = site.client.get(url).timeout(Duration::from_millis(200)).send().await.unwrap_err();
    assert!(error.is_timeout());
    recovered(&site).await;
    site.ats.set_fault(Endpoint::Milestones, Fault::Hang, None);
    let (answer, ()) = futures::join!(site.client.get(format!("{}/milestones", site.server.url())).send(), async {
        while site.ats.requests().last().is_none_or(|seen| seen.path != "/milestones") {
            tokio::task::yield_now().await;
        }
        site.server.stop().await;
    });
    assert!(answer.is_err(), "stopping ends what hangs");
}

#[tokio::test]
async fn slow_and_dripping_answers_are_right_in_the_end() {
    let site = failing(Fault::Slow { ms: 150 });
    let asked = Instant::now();
    recovered(&site).await;
    assert!(asked.elapsed() >= Duration::from_millis(150));

    site.ats.set_fault(Endpoint::Applicants, Fault::Drip { ms: 1 }, Some(1));
    recovered(&site).await;
}

#[tokio::test]
async fn truncated_json_is_complete_for_http() {
    let site = failing(Fault::TruncatedJson);
    let text = site.get(PAGE).await.text().await.unwrap();
    assert!(text.starts_with("[{"));
    assert!(serde_json::from_str::<Value>(&text).unwrap_err().is_eof());
    recovered(&site).await;
}

#[tokio::test]
async fn a_cut_body_is_an_error_of_the_connection() {
    let site = failing(Fault::CutBody);
    let response = site.get(PAGE).await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err());
    recovered(&site).await;
}

#[tokio::test]
async fn a_reset_is_no_answer_at_all() {
    let site = failing(Fault::Reset);
    let error = site.try_get(PAGE).await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionReset"), "{error:?}");
    recovered(&site).await;
}

#[tokio::test]
async fn a_page_for_people_comes_with_200() {
    let site = failing(Fault::HtmlPage);
    let response = site.get(PAGE).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers()[CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    recovered(&site).await;
}

#[tokio::test]
async fn a_body_without_end_goes_on_until_the_client_leaves() {
    let site = failing(Fault::EndlessBody);
    let mut response = site.get(PAGE).await;
    let mut read = 0;
    while read < 20_000_000 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
    drop(response);
    recovered(&site).await;
}

#[tokio::test]
async fn wrong_types_leave_the_ids_alone() {
    let site = failing(Fault::WrongTypes { every: 10 });
    let rows = site.rows(PAGE).await;
    let right = site.ats.applicants();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row["applicant_id"], right[at]["applicant_id"]);
        assert_eq!(row["ats1_id"].is_string(), at % 10 == 0);
        assert_eq!(*row == right[at], at % 10 != 0);
    }
    recovered(&site).await;
}

#[tokio::test]
async fn other_shapes_come_with_200() {
    let site = failing(Fault::DuplicateRows);
    let rows = site.rows(PAGE).await;
    assert_eq!(rows.len(), 100);
    assert!(rows.chunks(2).all(|pair| pair[0] == pair[1]));

    for (fault, expected) in [(Fault::EmptyArray, json!([])), (Fault::Null, Value::Null)] {
        site.ats.set_fault(Endpoint::Applicants, fault, Some(1));
        assert_eq!(site.get(PAGE).await.json::<Value>().await.unwrap(), expected);
    }
    site.ats.set_fault(Endpoint::Applicants, Fault::Object, Some(1));
    let envelope: Value = site.get(PAGE).await.json().await.unwrap();
    assert_eq!(envelope["data"].as_array().unwrap().len(), 50);
    recovered(&site).await;
}

#[tokio::test]
async fn a_fault_waits_for_its_turn_and_stays_on_its_path() {
    let site = site(few(120));
    site.ats.set_fault_after(Endpoint::Applicants, 2, Fault::status(503), Some(2));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(site.get("/Applicant").await.status().as_u16());
        assert_eq!(site.get("/staff").await.status(), 200);
    }
    assert_eq!(statuses, [200, 200, 503, 503, 200]);
}

#[tokio::test]
async fn other_programs_steer_it_over_http() {
    let site = site(few(120));
    let admin = |method: Method, what: &'static str, body: Value| {
        let url = format!("{}/__admin/{what}", site.server.url());
        site.client.request(method, url).json(&body).send()
    };
    let fault =
        json!({ "path": "/Applicant", "fault": { "status": { "code": 429, "retry_after": { "seconds": 2 } } } });
    assert_eq!(admin(Method::POST, "faults", fault).await.unwrap().status(), 204);
    assert_eq!(site.get(PAGE).await.headers()[RETRY_AFTER], "2");
    let hang = json!({ "path": "/staff", "fault": "hang", "times": 1 });
    assert_eq!(admin(Method::POST, "faults", hang).await.unwrap().status(), 204);
    assert_eq!(admin(Method::DELETE, "faults", Value::Null).await.unwrap().status(), 204);
    assert_eq!(site.get("/staff").await.status(), 200);
    let nowhere = json!({ "path": "/nowhere", "fault": "hang" });
    assert_eq!(admin(Method::POST, "faults", nowhere).await.unwrap().status(), 400);

    let before = site.ats.now();
    assert_eq!(admin(Method::POST, "clock", json!({ "advance_seconds": 86_400 })).await.unwrap().status(), 200);
    assert_eq!((site.ats.now() - before).num_days(), 1);
    let changed: Value = admin(Method::POST, "change", json!({ "count": 3 })).await.unwrap().json().await.unwrap();
    assert_eq!(changed["changed"].as_array().unwrap().len(), 3);
    let state: Value = admin(Method::GET, "state", Value::Null).await.unwrap().json().await.unwrap();
    assert_eq!((&state["applicants"], &state["faults"]), (&json!(120), &json!(0)));
}
