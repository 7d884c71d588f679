//! What isn't a plain next day: other schemas, topics that begin anew, files that can't be read, tables that stand still.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use pipeline::snapshot::{Coding, Form};
use schemas::Schema;
use serde_json::json;

use super::site::{PARTITIONS, Site, TOPIC, employee, records, uuid};

fn with_grade() -> Arc<Schema> {
    let mut json: serde_json::Value = serde_json::from_str(employee().text()).unwrap();
    json["fields"].as_array_mut().unwrap().push(json!({ "name": "grade", "type": "string", "default": "none" }));
    let later = json!({ "name": "ward", "type": ["null", "string"], "default": null });
    json["fields"].as_array_mut().unwrap().insert(1, later);
    Arc::new(Schema::parse(&json.to_string()).unwrap())
}

#[tokio::test]
async fn a_field_that_is_added_has_its_default_in_the_rows_of_before() {
    let mut site = Site::new().await;
    for n in 0..10 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    site.pass(24).await;
    site.schema = with_grade();
    site.put(3, "P2", None).await;
    let report = site.snapshot().await;
    assert_eq!(report.datasets["employees"].counts.read, 1, "the rows of before aren't read again");
    for row in site.table.values_mut() {
        row["grade"] = "none".into();
    }
    assert_eq!(site.read(None).await, site.table);
    site.verified().await;
}

/// The columns of both would have one name.
#[tokio::test]
async fn a_field_called_as_a_column_of_snapshots_stops_the_dataset_alone() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    site.snapshot().await;
    let before = site.employees().await;
    let mut json: serde_json::Value = serde_json::from_str(employee().text()).unwrap();
    json["fields"].as_array_mut().unwrap().push(json!({ "name": "_key", "type": ["null", "string"], "default": null }));
    site.schema = Arc::new(Schema::parse(&json.to_string()).unwrap());
    site.pass(24).await;
    site.put(2, "P1", None).await;
    let told = site.try_snapshot().await.map_or_else(|error| error.to_string(), |report| report.text());
    assert!(told.contains("has a field _key"), "{told}");
    assert_eq!(site.employees().await.full, before.full, "its former files are kept");
}

/// What a stalled writer appended late may stand in the place of the right record.
#[tokio::test]
async fn a_topic_that_has_lost_records_is_left_alone_until_all_was_stated() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    site.snapshot().await;
    let lives = Arc::clone(&site.runtime.state.incarnations);
    let of = pipeline::log::TopicPartition::new(TOPIC, 0);
    let life = lives.present_all(std::slice::from_ref(&of)).await.unwrap().remove(&of).unwrap();
    lives.set_incomplete(&of, &life, true).await.unwrap();
    site.pass(24).await;
    site.put(2, "P1", None).await;
    let told = site.try_snapshot().await.map_or_else(|error| error.to_string(), |report| report.text());
    assert!(told.contains("has lost records"), "{told}");
    assert_eq!(site.employees().await.full.records, 1);
    lives.set_incomplete(&of, &life, false).await.unwrap();
    site.snapshot().await;
    assert_eq!(site.read(None).await, site.table);
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_compared_and_only_what_differs_is_news() {
    let mut site = Site::new().await;
    for n in 0..20 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    site.pass(48).await;
    site.snapshot().await;
    site.pass(24).await;
    site.log.recreate_topic(TOPIC, PARTITIONS);
    // Its source states what the table holds now: one row is gone, one has changed.
    let table = std::mem::take(&mut site.table);
    assert_eq!(table.len(), 20);
    for n in (0..20).filter(|n| *n != 4) {
        site.put_as(
            n,
            if n == 5 { "P9" } else { "P1" },
            super::site::morning() - chrono::TimeDelta::days(400),
            None,
            "initial",
        )
        .await;
    }
    let report = site.snapshot().await;
    let counts = report.datasets["employees"].counts;
    assert_eq!((counts.unchanged, counts.delivered), (18, 1));
    assert_eq!(site.read(None).await, site.table);
    assert_eq!(site.read(Some(1)).await.into_keys().collect::<Vec<_>>(), [uuid(5)]);
    let deleted = records(&site.store, &site.employees().await.deleted).await;
    assert_eq!(deleted[0]["key"], uuid(4));
    site.verified().await;
}

#[tokio::test]
async fn a_topic_that_was_made_anew_and_is_empty_yet_keeps_the_former_snapshot() {
    let mut site = Site::new().await;
    for n in 0..20 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    site.pass(24).await;
    site.log.recreate_topic(TOPIC, PARTITIONS);
    // What the source said of the former life doesn't count.
    let error = site.job().make(&site.runtime, site.now()).await.unwrap_err().to_string();
    assert!(error.contains("began a new life"), "{error}");
    // Even if it says that it is complete: that would be a whole table gone.
    let error = site.try_snapshot().await.unwrap_err().to_string();
    assert!(error.contains("20 of 20 keys"), "{error}");
    assert_eq!(site.read(None).await, site.table);
}

#[tokio::test]
async fn a_former_file_that_has_rotted_is_found_and_everything_counts_as_changed() {
    for (form, what) in [(Form::Parquet, "full"), (Form::Parquet, "deleted")] {
        let mut site = Site::new().await;
        for n in 0..20 {
            site.put(n, "P1", None).await;
        }
        site.snapshot().await;
        site.pass(72).await;
        site.snapshot().await;
        site.pass(24).await;
        site.put(1, "P2", None).await;
        let dataset = site.employees().await;
        let set = if what == "full" { &dataset.full } else { &dataset.deleted };
        let object = set.object(form, Coding::Identity).unwrap();
        let location = site.store.path(&object.path).unwrap();
        let mut bytes = super::site::bytes(&site.store, &object.path).await;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        site.store.objects().put(&location, bytes.into()).await.unwrap();
        let report = site.snapshot().await;
        assert_eq!(report.datasets["employees"].counts.read, 21, "{what}: the topic is read whole");
        assert_eq!(site.read(None).await, site.table);
        assert_eq!(site.read(Some(1)).await, site.table, "{what}: a daily reader gets everything again");
        site.verified().await;
    }
}

#[tokio::test]
async fn after_an_absence_longer_than_tombstones_live_all_keys_are_compared() {
    let mut site = Site::new().await;
    for n in 0..20 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    site.delete(8).await;
    site.pass(91 * 24).await;
    // The tombstone is gone: only comparing shows that the key is.
    site.log.compact(TOPIC, Duration::from_secs(90 * 24 * 3600));
    let report = site.snapshot().await;
    assert_eq!(report.datasets["employees"].counts.unchanged, 19);
    assert_eq!(site.read(None).await, site.table);
    let deleted = records(&site.store, &site.employees().await.deleted).await;
    assert_eq!(deleted.len(), 1);
}

#[tokio::test]
async fn a_table_that_can_not_be_read_keeps_its_older_files_and_its_older_date() {
    let mut site = Site::new().await;
    let mut other = site.settings.datasets["employees"].clone();
    other.topic = "prm.other".into();
    site.put(1, "P1", None).await;
    site.snapshot().await;
    let before = site.employees().await;
    site.settings.datasets.insert("staff".into(), site.settings.datasets["employees"].clone());
    site.pass(24).await;
    site.snapshot().await;
    // Now `employees` is to come from a topic that isn't there.
    site.settings.datasets.insert("employees".into(), other);
    site.pass(24).await;
    site.settings.keep = 1;
    let report = site.snapshot().await;
    assert!(report.datasets["employees"].reason.is_some());
    let kept = site.employees().await;
    assert!(kept.date > before.date && kept.date < report.nominal);
    site.verified().await;
}

#[tokio::test]
async fn a_table_that_stands_still_does_not_hold_back_the_others_and_is_told_of() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    site.snapshot().await;
    site.pass(48).await;
    let report = site.job().make(&site.runtime, site.now()).await.unwrap();
    let employees = &report.datasets["employees"];
    assert!(employees.reason.as_ref().unwrap().contains("48 hours"), "{employees:?}");
    assert_eq!(site.employees().await.date, super::site::morning());
}

#[tokio::test]
async fn old_generations_go_and_what_younger_ones_name_stays() {
    let mut site = Site::new().await;
    for day in 0..5 {
        site.put(day, "P1", None).await;
        site.snapshot().await;
        site.pass(24).await;
    }
    let orphan = site.store.path("data/00000009-abandoned/employees/full.parquet").unwrap();
    site.store.objects().put(&orphan, vec![1, 2, 3].into()).await.unwrap();
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    // Somebody may be about to publish what nobody names.
    let day = Duration::from_secs(24 * 3600);
    let young = sinks::snapshot::prune(&site.store, 2, day, later).await.unwrap();
    assert_eq!((young.generations.len(), young.objects), (3, 0));
    let pruned = sinks::snapshot::prune(&site.store, 2, Duration::ZERO, later).await.unwrap();
    assert!(pruned.generations.is_empty() && pruned.objects > 3, "{pruned:?}");
    assert!(site.store.objects().head(&orphan).await.is_err());
    assert_eq!(site.store.generations().await.unwrap().len(), 2);
    site.verified().await;
    let again = sinks::snapshot::prune(&site.store, 2, Duration::ZERO, later).await.unwrap();
    assert_eq!(again, sinks::snapshot::Pruned::default());
}

#[tokio::test]
async fn verifying_finds_what_is_wrong_and_a_topic_that_says_something_else() {
    let mut site = Site::new().await;
    for n in 0..30 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    let dataset = site.employees().await;
    let scratch = site.folder.path().join("compare");
    let compare = || sinks::snapshot::verify::compare_with_topic(&site.runtime, &site.store, &dataset, &scratch, 5);
    let equal = compare().await.unwrap();
    assert!(equal.is_equal() && equal.same == 30, "{equal:?}");
    let gzip = dataset.full.object(Form::Json, Coding::Gzip).unwrap();
    let location = site.store.path(&gzip.path).unwrap();
    let mut bytes = super::site::bytes(&site.store, &gzip.path).await;
    let last = bytes.len() - 20;
    bytes[last] ^= 4;
    site.store.objects().put(&location, bytes.into()).await.unwrap();
    let part = dataset.windows[0].part.object(Form::Json, Coding::Identity).unwrap();
    site.store.objects().delete(&site.store.path(&part.path).unwrap()).await.unwrap();
    let found = sinks::snapshot::verify::verify(&site.store, &site.latest().await, |_| {}).await.unwrap();
    assert!(found.problems.iter().any(|problem| problem.starts_with(&gzip.path)), "{found:?}");
    assert!(found.problems.iter().any(|problem| problem.starts_with(&part.path)), "{found:?}");
}

#[tokio::test]
async fn verifying_finds_windows_that_have_each_others_rows() {
    let mut site = Site::new().await;
    for n in 0..20 {
        site.put(n, "P1", None).await;
    }
    site.pass(1).await;
    site.snapshot().await;
    site.pass(24).await;
    for n in 5..15 {
        site.put(n, "P2", None).await;
    }
    site.snapshot().await;
    let mut manifest = site.latest().await;
    let windows = &mut manifest.datasets.get_mut("employees").unwrap().windows;
    let (newest, older) = (windows[0].part.clone(), windows[1].part.clone());
    assert_eq!((newest.records, older.records), (10, 10));
    (windows[0].part, windows[1].part) = (older, newest);
    let found = sinks::snapshot::verify::verify(&site.store, &manifest, |_| {}).await.unwrap();
    let wrong = |depth: u32| format!("employees: the rows of window {depth} aren't those that the full set has of it");
    assert_eq!(found.problems, [wrong(1), wrong(2)]);
}

/// A generation that stands for next year would stand in the way of all others until then.
#[tokio::test]
async fn a_time_that_is_yet_to_come_is_refused_and_one_that_is_there_is_left_behind() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    // By its own account it changes next year: news once, not until then.
    site.put(2, "P1", Some(site.now() + chrono::TimeDelta::days(365))).await;
    site.complete().await;
    let next_year = site.now() + chrono::TimeDelta::days(365);
    let told = site.job().make(&site.runtime, next_year).await.unwrap_err().to_string();
    assert!(told.contains("yet to come"), "{told}");
    site.pass(1).await;
    site.snapshot().await;

    // Such a one was made with a clock that was ahead, and rows came meanwhile.
    site.pass(24).await;
    site.put(3, "P1", None).await;
    let mut wrong = site.latest().await;
    wrong.generation = wrong.generation.next();
    wrong.nominal = next_year;
    site.store.publish(&wrong).await.unwrap();
    site.pass(1).await;
    site.put(4, "P1", None).await;
    let report = site.snapshot().await;
    assert_eq!(report.nominal, site.now());
    assert_eq!(site.read(Some(1)).await.into_keys().collect::<Vec<_>>(), [uuid(3), uuid(4)]);
    site.pass(49).await;
    site.snapshot().await;
    site.pass(25).await;
    site.snapshot().await;
    assert_eq!(site.read(Some(1)).await.len(), 0);
    assert_eq!(site.read(None).await, site.table);
    site.verified().await;
}
