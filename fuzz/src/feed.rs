//! What an ATS answers, and letters read back from their topic.

use chrono_tz::Tz;
use pipeline::change::Change;
use pipeline::dead_letters::Letter;
use pipeline::state::Request;
use producers::ats::{AtsFeed, decode_body};
use schemas::catalogue;

use crate::choose;

/// The body of an answer: every element becomes a change that can be read again or a reject, and a reject doesn't quote.
pub fn ats_page(data: &[u8]) {
    let Some((feed, body)) = choose(&AtsFeed::ALL, data) else { return };
    let Some(records) = decode_body(*feed, Tz::America__Vancouver, body) else { return };
    let entity = catalogue().entity(feed.topic()).expect("every feed has a topic");
    for record in records {
        match record {
            Ok(Change::Put { key, body, .. }) => {
                schemas::check(&entity.schema, &body).expect("what was decoded can be read");
                assert_eq!(entity.key_of(&body), Ok(key), "a record is under its own key");
            }
            Ok(change) => panic!("a list holds no deletes: {change:?}"),
            Err(reject) => assert!(reject.reason.text.len() < 1_000, "a reason is short and doesn't quote the record"),
        }
    }
}

/// A record of `muster.dead-letters` or of `muster.requests`: read, and the same when written again.
pub fn letter(data: &[u8]) {
    if let Ok(letter) = serde_json::from_slice::<Letter>(data) {
        let _ = letter.contents.bytes();
        let text = serde_json::to_vec(&letter).expect("what was read can be written");
        let again: Letter = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(again.contents, letter.contents);
    }
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let text = serde_json::to_vec(&request).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Request>(&text).ok(), Some(request));
    }
}
