//! Master lists: read whole; empty ones and odd answers change nothing.

use serde_json::json;
use simulators::ats::{Endpoint, Fault};

use super::*;

#[tokio::test]
async fn a_list_is_read_whole_each_time() {
    let site = site(few(60));
    let mut source = site.source(AtsFeed::Milestones);
    let first = run(&mut *source, &Ask::Changes, None).await.unwrap();
    assert_eq!(first.records.len(), site.ats.masters().milestones.len());
    assert_eq!((first.pages, first.complete_to), (1, Some(site.ats.now())));
    let again = run(&mut *source, &Ask::Everything, first.position.as_ref()).await.unwrap();
    assert_eq!(again.records, first.records);
}

#[tokio::test]
async fn only_staff_and_applicants_are_asked_with_the_key() {
    let site = site(few(60));
    for feed in AtsFeed::ALL {
        site.ats.clear_requests();
        run(&mut *site.source(feed), &Ask::Changes, None).await.unwrap();
        let with_key = matches!(feed, AtsFeed::Staff | AtsFeed::Applicants);
        assert!(site.ats.requests().iter().all(|request| request.had_api_key == with_key), "{feed}");
    }
}

#[tokio::test]
async fn an_empty_list_or_no_list_is_skipped_and_proves_nothing_absent() {
    let site = site(few(60));
    let mut source = site.source(AtsFeed::Staff);
    let good = run(&mut *source, &Ask::Changes, None).await.unwrap();
    for fault in [Fault::EmptyArray, Fault::Null, Fault::Object] {
        site.ats.set_fault(Endpoint::Staff, fault, Some(1));
        let skipped = run(&mut *source, &Ask::Everything, good.position.as_ref()).await.unwrap();
        assert_eq!((skipped.read, skipped.complete_to), (0, None));
        assert_eq!(skipped.position, good.position);
    }
}

#[tokio::test]
async fn one_bad_entry_costs_one_entry_and_the_last_of_an_id_counts() {
    let site = site(few(60));
    let id = "06E2D762-05BA-4667-93D2-7843D3CF9FC5";
    let rows = vec![
        json!({ "id": id, "name": "First" }),
        json!({ "name": "No id" }),
        json!({ "id": id.to_lowercase(), "name": "Last" }),
    ];
    assert!(site.ats.set_master(Endpoint::Milestones, rows));
    let page = site.source(AtsFeed::Milestones).read(&Ask::Changes, None).await.unwrap();
    assert_eq!((page.read, page.changes.len(), page.rejects.len(), page.superseded), (3, 1, 1, 1));
    let Change::Put { body, .. } = &page.changes[0] else { panic!("a delete") };
    assert!(body.windows(4).any(|part| part == b"Last"));
}
