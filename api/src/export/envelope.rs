//! What stands around the records of an answer. Pure.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// What stands behind the last record.
pub(super) const TAIL: &[u8] = b"\n]}\n";

/// A moment as the contract writes it: `2023-04-20T00:00:00.000Z`.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// What stands before the first record: the envelope, as far as `data`'s opening bracket.
pub(super) fn head(url: &str, request_id: &str, date: DateTime<Utc>) -> Vec<u8> {
    let (url, id) = (Value::from(url), Value::from(request_id));
    let date = moment(date);
    format!("{{\"meta\":{{\"code\":200,\"url\":{url},\"type\":\"list\",\"request_id\":{id},\"date\":\"{date}\"}},\"data\":[\n")
        .into_bytes()
}

/// An answer that is one object.
pub(super) fn object(url: &str, request_id: &str, data: Value) -> Value {
    json!({ "meta": { "code": 200, "url": url, "type": "object", "request_id": request_id }, "data": data })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_envelope_is_the_contracts() {
        let date = "2023-04-20T00:00:00.123456Z".parse().unwrap();
        let head = head("https://ehealth.example/api/pis/bulk/employees?depth=1", "a\"b", date);
        let text = [head.as_slice(), b"{\"id\":1},\n{\"id\":2}", TAIL].concat();
        let answer: Value = serde_json::from_slice(&text).unwrap();
        let meta = json!({
            "code": 200,
            "url": "https://ehealth.example/api/pis/bulk/employees?depth=1",
            "type": "list",
            "request_id": "a\"b",
            "date": "2023-04-20T00:00:00.123Z",
        });
        assert_eq!(answer, json!({ "meta": meta, "data": [{ "id": 1 }, { "id": 2 }] }));
    }

    #[test]
    fn a_whole_second_has_milliseconds_too() {
        assert_eq!(moment("2023-04-20T00:00:00Z".parse().unwrap()), "2023-04-20T00:00:00.000Z");
    }
}
