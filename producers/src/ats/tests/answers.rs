//! What each kind of answer counts as: the table in `client.rs`, line by line.

use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use pipeline::retry::MOST_RETRY_AFTER;
use simulators::ats::{Endpoint, Fault, RetryAfter};

use super::*;

/// What reading the feed gives when its answers go wrong like this; afterwards it can be read.
async fn outcome_of(site: Site, feed: AtsFeed, endpoint: Endpoint, fault: Fault) -> SourceError {
    site.ats.set_fault(endpoint, fault, None);
    let mut source = site.source(feed);
    let error = source.read(&Ask::Changes, None).await.unwrap_err();
    site.ats.clear_faults();
    assert!(source.read(&Ask::Changes, None).await.is_ok());
    error
}

async fn outcome(fault: Fault) -> SourceError {
    outcome_of(site(few(120)), AtsFeed::Applicants, Endpoint::Applicants, fault).await
}

/// The same, with a source that waits no longer than this.
async fn outcome_within(timeout: Duration, idle_timeout: Duration, fault: Fault) -> SourceError {
    let mut site = site(few(120));
    site.config.concurrency = 1;
    site.config.timeout = timeout;
    site.config.idle_timeout = idle_timeout;
    outcome_of(site, AtsFeed::Applicants, Endpoint::Applicants, fault).await
}

/// The reason, without the address.
fn unavailable(error: SourceError) -> (String, Option<Duration>) {
    match error {
        SourceError::Unavailable { reason, retry_after, .. } => (reason, retry_after),
        other => panic!("{other}"),
    }
}

fn refused(error: SourceError) -> String {
    match error {
        SourceError::Refused { hint, .. } => hint,
        other => panic!("{other}"),
    }
}

/// An ATS that gives this answer to every request.
async fn answering<R: IntoResponse + Clone + Send + Sync + 'static>(answer: R) -> SourceError {
    let mut site = site(few(0));
    let router = Router::new().fallback(get(move || async move { answer }));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    site.config.url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let error = run(&mut *site.applicants(), &Ask::Changes, None).await.err().unwrap();
    server.abort();
    error
}

#[tokio::test]
async fn a_wrong_key_needs_a_person() {
    for code in [401, 403] {
        assert!(refused(outcome(Fault::status(code)).await).contains("`api_key`"));
        let keyless = outcome_of(site(few(60)), AtsFeed::Reasons, Endpoint::Reasons, Fault::status(code)).await;
        assert!(refused(keyless).contains("needs no key"));
    }
    let mut site = site(few(1));
    site.config = AtsConfig::new(site.config.url.clone(), "wrong");
    assert!(refused(site.applicants().read(&Ask::Changes, None).await.unwrap_err()).contains("`api_key`"));
}

#[tokio::test]
async fn a_wrong_path_needs_a_person() {
    assert!(refused(outcome(Fault::status(404)).await).contains("`paths`"));
    assert!(refused(outcome(Fault::status(400)).await).contains("`page_size`"));
}

#[tokio::test]
async fn too_many_requests_wait_as_long_as_the_server_says() {
    let wait = |retry_after| async { unavailable(outcome(Fault::too_many_requests(retry_after)).await).1 };
    assert_eq!(wait(RetryAfter::Seconds(7)).await, Some(Duration::from_secs(7)));
    assert_eq!(wait(RetryAfter::Seconds(u64::MAX)).await, Some(MOST_RETRY_AFTER));
    assert_eq!(wait(RetryAfter::Text("soon".to_owned())).await, None);
    assert_eq!(unavailable(outcome(Fault::status(429)).await).1, None);
    let dated =
        Fault::Status { code: 503, retry_after: Some(RetryAfter::Text("Wed, 21 Oct 2015 07:28:00 GMT".to_owned())) };
    assert_eq!(unavailable(outcome(dated).await).1, Some(Duration::ZERO));
}

#[tokio::test]
async fn failures_of_the_server_pass() {
    for code in [408, 500, 502, 503, 504] {
        let (reason, _) = unavailable(outcome(Fault::status(code)).await);
        assert!(
            reason.starts_with("GET /applicants?next=50&offset=") && reason.contains(&code.to_string()),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_or_too_slowly_is_unavailable() {
    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(60);
    let stands_still = unavailable(outcome_within(LONG, SHORT, Fault::Hang).await).0;
    assert!(stands_still.contains("it stood still"), "{stands_still}");
    for fault in [Fault::Slow { ms: 20_000 }, Fault::Drip { ms: 200 }] {
        // The second is never silent for long.
        let takes_too_long = unavailable(outcome_within(SHORT, LONG, fault).await).0;
        assert!(takes_too_long.contains("no complete answer in 1s"), "{takes_too_long}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable() {
    for fault in [Fault::Reset, Fault::CutBody] {
        let (reason, _) = unavailable(outcome(fault).await);
        assert!(reason.contains("the connection broke in the middle"), "{reason}");
    }
    let site = site(few(1));
    let mut source = site.applicants();
    site.server.stop().await;
    let (reason, _) = unavailable(source.read(&Ask::Changes, None).await.unwrap_err());
    assert!(reason.contains("could not connect"), "{reason}");
}

#[tokio::test]
async fn answers_that_are_no_list_are_unavailable() {
    for (fault, reason) in [
        (Fault::TruncatedJson, "ends in the middle of the list"),
        (Fault::HtmlPage, "looks like HTML"),
        (Fault::Null, "is JSON, but not a list"),
        (Fault::Object, "is JSON, but not a list"),
    ] {
        let (said, _) = unavailable(outcome(fault).await);
        assert!(said.contains(reason), "{said}");
    }
    assert!(unavailable(answering("").await).0.contains("the body is empty"));
    assert!(unavailable(answering("Service starting").await).0.contains("isn't JSON"));
    assert!(unavailable(answering((StatusCode::NO_CONTENT, "")).await).0.contains("204"));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let mut site = site(few(120));
    site.config.max_body = 1 << 20;
    let (reason, _) =
        unavailable(outcome_of(site, AtsFeed::Applicants, Endpoint::Applicants, Fault::EndlessBody).await);
    assert!(reason.contains("more than 1048576 bytes (max_body)"), "{reason}");
    let large = format!("[\"{}\"]", "x".repeat(40 << 20));
    assert!(unavailable(answering(large).await).0.contains("max_body"));
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let redirect = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://elsewhere.invalid/applicants")]);
    assert!(refused(answering(redirect).await).contains("redirects aren't followed"));
}

#[tokio::test]
async fn a_server_that_ignores_the_offset_is_noticed() {
    let rows = (StatusCode::OK, r#"[{"applicant_id":"a"},{"applicant_id":"b"}]"#);
    let (reason, _) = unavailable(answering(rows).await);
    assert!(reason.contains("`offset` seems to be ignored"), "{reason}");
}

#[tokio::test]
async fn errors_name_neither_the_key_nor_people() {
    for fault in [Fault::status(401), Fault::TruncatedJson, Fault::CutBody, Fault::status(500)] {
        let error = outcome(fault).await;
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("simulated-key") && !shown.contains('@'), "{shown}");
    }
}
