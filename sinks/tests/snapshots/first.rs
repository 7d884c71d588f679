//! One snapshot, and the next.

use chrono::TimeDelta;
use pipeline::snapshot::{Coding, Form, Generation};
use serde_json::json;

use super::site::{Site, morning, records, uuid};

#[tokio::test]
async fn the_first_snapshot_holds_the_table_as_the_export_shows_it() {
    let mut site = Site::new().await;
    for n in 0..40 {
        site.put_as(n, "P1", morning() - TimeDelta::days(i64::from(n)), None, "initial").await;
    }
    let report = site.snapshot().await;
    assert_eq!(report.generation, Generation(1));
    assert_eq!(site.read(None).await, site.table);
    let dataset = site.employees().await;
    assert_eq!((dataset.full.records, dataset.date), (40, morning()));
    // By their own time: two of them lie within a day, both ends counted.
    assert_eq!(site.read(Some(1)).await.len(), 2);
    assert_eq!(site.read(Some(5)).await.len(), 6);
    let ids: Vec<String> =
        records(&site.store, &dataset.full).await.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.is_sorted());
    site.verified().await;
}

#[tokio::test]
async fn the_next_one_is_the_former_with_what_changed() {
    let mut site = Site::new().await;
    for n in 0..100 {
        site.put(n, "P1", None).await;
    }
    site.snapshot().await;
    site.pass(24).await;
    site.put(7, "P2", Some(site.now())).await;
    site.put(200, "P3", Some(site.now())).await;
    site.delete(50).await;
    let report = site.snapshot().await;
    let counts = report.datasets["employees"].counts;
    assert_eq!((counts.read, counts.delivered), (3, 3), "what was there isn't read again");
    assert_eq!(site.read(None).await, site.table);
    let dataset = site.employees().await;
    let deleted = records(&site.store, &dataset.deleted).await;
    assert_eq!(deleted, [json!({ "key": uuid(50), "deleted_at": "2024-03-21T02:00:00Z", "id": uuid(50) })]);
    assert_eq!(dataset.windows.iter().map(|window| window.deleted).sum::<u64>(), 1);
    // Those of yesterday were captured at the nominal time of the run before, where the newest window begins.
    assert_eq!(site.read(Some(1)).await, site.table);
    site.pass(24).await;
    site.snapshot().await;
    let of_a_day: Vec<String> = site.read(Some(1)).await.into_keys().collect();
    assert_eq!(of_a_day, [uuid(7), uuid(200)]);
    site.verified().await;
}

#[tokio::test]
async fn depths_are_inside_each_other_and_inside_the_full_set() {
    let mut site = Site::new().await;
    let mut random = fastrand::Rng::with_seed(11);
    for day in 0..8 {
        for _ in 0..20 {
            let n = random.u32(..60);
            if random.u32(..6) == 0 { site.delete(n).await } else { site.put(n, &format!("P{day}"), None).await }
        }
        site.snapshot().await;
        let mut inner = site.read(Some(1)).await;
        for depth in (2..=5).map(Some).chain([None]) {
            let outer = site.read(depth).await;
            assert!(inner.iter().all(|(id, record)| outer.get(id) == Some(record)), "day {day}, depth {depth:?}");
            inner = outer;
        }
        assert_eq!(inner, site.table);
        site.verified().await;
        site.pass(24).await;
    }
}

#[tokio::test]
async fn depths_are_objects_of_their_own_where_that_is_wished() {
    let mut site = Site::new().await;
    site.settings.materialise = sinks::snapshot::Materialise::Depths([3].into());
    for day in 0..4 {
        site.put(day, "P1", None).await;
        site.snapshot().await;
        site.pass(24).await;
    }
    let dataset = site.employees().await;
    let has_whole: Vec<bool> = dataset.windows.iter().map(|window| window.whole.is_some()).collect();
    assert_eq!(has_whole, [false, false, true, false, false]);
    let whole = dataset.windows[2].whole.as_ref().unwrap();
    let parts: u64 = dataset.windows[..3].iter().map(|window| window.part.records).sum();
    assert_eq!(whole.records, parts);
    assert!(whole.object(Form::Parquet, Coding::Identity).is_some());
    site.verified().await;
}

#[tokio::test]
async fn a_record_that_is_older_than_what_is_held_changes_nothing() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    site.put(1, "P2", None).await;
    site.delete(2).await;
    site.snapshot().await;
    let was = site.table.clone();
    site.pass(24).await;
    let old = schemas::from_json(
        &site.schema,
        &json!({ "id": uuid(1), "position": "P0", "is_active": true, "start_date": "2017-03-02", "inserted_at": "2017-03-02T00:00:00Z" }),
    );
    site.append_version(&uuid(1), Some(old.unwrap()), "changes", 1).await;
    let report = site.snapshot().await;
    assert_eq!(report.datasets["employees"].counts.stale, 1);
    assert_eq!(site.read(None).await, was);
}

#[tokio::test]
async fn a_table_that_never_was_complete_is_not_in_the_snapshot_and_the_reason_is_told() {
    let mut site = Site::new().await;
    site.put(1, "P1", None).await;
    let mut other = site.settings.datasets["employees"].clone();
    other.topic = "prm.party".into();
    site.settings.datasets.insert("parties".into(), other);
    let error = site.job().make(&site.runtime, site.now()).await.unwrap_err().to_string();
    assert!(error.contains("isn't complete up to any moment yet"), "{error}");
    assert_eq!(site.store.latest(None).await.unwrap(), None);
    let report = site.snapshot().await;
    assert!(report.datasets["parties"].reason.as_ref().unwrap().contains("prm.party"));
    assert_eq!(site.latest().await.datasets.keys().collect::<Vec<_>>(), ["employees"]);
}

#[tokio::test]
async fn little_memory_gives_the_same_snapshot() {
    let mut site = Site::new().await;
    site.settings.sort_memory = 10_000;
    for n in 0..500 {
        site.put(n % 170, &format!("P{n}"), None).await;
    }
    let report = site.snapshot().await;
    assert_eq!(report.datasets["employees"].counts.superseded, 330);
    assert_eq!(site.read(None).await, site.table);
    site.verified().await;
    let left = std::fs::read_dir(site.folder.path().join("snapshot-scratch")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "files are left");
}

#[tokio::test]
async fn a_table_that_was_loaded_meanwhile_is_not_left_out_until_the_next_night() {
    use pipeline::job::Job;

    let mut site = Site::new().await;
    site.settings.datasets.insert("late".into(), sinks::snapshot::DatasetSettings::of("prm.late"));
    site.put(1, "P1", None).await;
    site.complete().await;
    let job = site.job();
    assert_eq!(job.last(&site.runtime).await.unwrap(), None);
    job.run(&site.runtime, site.now()).await.unwrap();
    assert_eq!(job.last(&site.runtime).await.unwrap(), Some(morning()), "it isn't there to be read yet");
    let loaded = pipeline::state::Progress { complete_to: site.now(), ends: Vec::new(), run: "run".into() };
    site.runtime.state.positions.save_progress("prm.late", &loaded).await.unwrap();
    assert_eq!(job.last(&site.runtime).await.unwrap(), None, "now it is due");
    // Tried once, and not again and again: this one has no topic.
    job.run(&site.runtime, site.now()).await.unwrap();
    assert_eq!(job.last(&site.runtime).await.unwrap(), Some(morning()));
}
