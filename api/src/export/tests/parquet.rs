//! Parquet: the stored file, whole or in ranges.

use super::fixture::{Contents, EMPLOYEES, SCOPE, Site, ask, get};
use crate::export::ExportOptions;

const PARQUET: &str = "application/vnd.apache.parquet";

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

#[tokio::test]
async fn a_file_is_read_whole_or_in_ranges_as_readers_of_columns_do() {
    let (_site, instance, key) = Site::served().await;
    let whole = ask(&instance.router, get(EMPLOYEES, &key).header("accept", PARQUET)).await;
    assert_eq!((whole.status.as_u16(), whole.header("content-type")), (200, PARQUET));
    assert_eq!((whole.header("accept-ranges"), whole.body.len()), ("bytes", 10_000));
    let tag = whole.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 66, "{tag}");
    for (range, from, length, content_range) in [
        ("bytes=0-3", 0, 4, "bytes 0-3/10000"),
        ("bytes=-8", 9_992, 8, "bytes 9992-9999/10000"),
        ("bytes=9000-", 9_000, 1_000, "bytes 9000-9999/10000"),
        ("bytes=300-99999", 300, 9_700, "bytes 300-9999/10000"),
    ] {
        let request = get(EMPLOYEES, &key).header("accept", PARQUET).header("range", range).header("if-range", &tag);
        let part = ask(&instance.router, request).await;
        assert_eq!((part.status.as_u16(), part.header("content-range")), (206, content_range));
        assert_eq!(part.header("content-length"), length.to_string());
        assert!(part.body.iter().enumerate().all(|(at, found)| *found == byte(from + at)) && part.body.len() == length);
    }
    let request =
        get(EMPLOYEES, &key).header("accept", PARQUET).header("range", "bytes=10000-").header("if-range", &tag);
    let none = ask(&instance.router, request).await;
    assert_eq!((none.status.as_u16(), none.header("content-range")), (416, "bytes */10000"));
    // Of another file than the client began with: all of the new one.
    let request =
        get(EMPLOYEES, &key).header("accept", PARQUET).header("range", "bytes=0-3").header("if-range", "\"old\"");
    assert_eq!(ask(&instance.router, request).await.status.as_u16(), 200);
    // Or than nobody knows which.
    let request = get(EMPLOYEES, &key).header("accept", PARQUET).header("range", "bytes=4-");
    assert_eq!(ask(&instance.router, request).await.status.as_u16(), 200);
    // Who has it is told so, whatever else was asked for.
    let request = get(EMPLOYEES, &key).header("accept", PARQUET).header("range", "bytes=10000-");
    let request = request.header("if-range", &tag).header("if-none-match", &tag);
    assert_eq!(ask(&instance.router, request).await.status.as_u16(), 304);
}

#[tokio::test]
async fn there_are_no_ranges_of_what_is_put_together() {
    let (_site, instance, key) = Site::served().await;
    let answer = ask(&instance.router, get(EMPLOYEES, &key).header("range", "bytes=0-3")).await;
    assert_eq!((answer.status.as_u16(), answer.header("accept-ranges")), (200, "none"));
}

#[tokio::test]
async fn depths_have_a_file_where_they_are_stored_whole() {
    for whole in [true, false] {
        let mut site = Site::new().await;
        site.publish(&Contents { whole, ..Contents::default() }).await;
        let key = site.key("lviv", &[SCOPE]).await;
        let instance = site.instance(ExportOptions::default()).await;
        let answer = ask(&instance.router, get(&format!("{EMPLOYEES}?depth=2"), &key).header("accept", PARQUET)).await;
        assert_eq!(answer.status.as_u16(), if whole { 200 } else { 406 });
        assert_eq!(ask(&instance.router, get(EMPLOYEES, &key).header("accept", PARQUET)).await.status.as_u16(), 200);
    }
}
