//! Rows that somebody has spoilt are found, each kind of them, and nothing else is.

use pipeline::sink::{Delivery, Sink};
use pipeline::verify::{Difference, Found, Inspect};
use schemas::catalogue;

use super::rota::*;
use crate::sql::{OnDelete, SqlSink, Versions};

fn inspect(sink: &SqlSink) -> &dyn Inspect {
    sink.inspect().unwrap()
}

/// How the rows of these changes differ, as text: key, kind, columns.
async fn differ(runner: &Runner, told: &[Told]) -> Vec<String> {
    let changes: Vec<Delivery> = told.iter().map(|told| told.delivery.clone()).collect();
    let topic = catalogue().topic(topic(told[0].entity)).unwrap();
    let found = inspect(&runner.sink).compare(topic, &changes).await.unwrap();
    let line = |Found { place, difference }: &Found| {
        let key = changes[*place].key.as_str();
        match difference {
            Difference::Columns { columns } => format!("{key} {}", columns.join(" ")),
            other => match other.above() {
                Some(held) => format!("{key} {} {held}", other.name()),
                None => format!("{key} {}", other.name()),
            },
        }
    };
    found.iter().map(line).collect()
}

/// What is noted of a row beside its own columns is changed, wherever that is.
async fn note(target: &dyn Target, entity: &str, table: &str, key: &str, set: &str) {
    let sql = match target.versions() {
        Versions::Column => {
            format!(
                "update {table} set {} where muster_key = '{key}'",
                set.replace("version", "muster_version").replace("hash", "muster_hash")
            )
        }
        Versions::Side => {
            format!("update {} set {set} where topic = '{}' and key = '{key}'", beside(target), topic(entity))
        }
    };
    target.execute(&sql).await;
}

fn beside(target: &dyn Target) -> &'static str {
    if target.url().starts_with("sqlite") { "muster_rows" } else { "muster.rows" }
}

/// All keys of a topic's rows.
async fn rows(runner: &Runner, entity: &str) -> Vec<String> {
    let topic = catalogue().topic(topic(entity)).unwrap();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = inspect(&runner.sink).rows(topic, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.key.clone());
        all.extend(page.into_iter().map(|row| format!("{}{}", row.key.as_str(), if row.gone { " gone" } else { "" })));
    }
}

pub(super) async fn spoilt_rows_are_found(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let told = [
        nurse("ann", "Ann", Some("7"), 10),
        nurse("bea", "Bea", None, 11),
        nurse("cid", "Cid", Some("8"), 12),
        nurse("dot", "Dot", None, 13),
        nurse("eve", "Eve", None, 14),
        nurse("fay", "Fay", None, 15),
        nurse("gil", "Gil", Some("9"), 16),
        mentored("hal", "ann", 17),
        nurse("ida", "Ida", None, 18),
    ];
    runner.apply(&told).await;
    assert!(differ(&runner, &told).await.is_empty(), "nothing was spoilt yet");

    for sql in [
        "delete from nurses where id = 'bea'",
        "update nurses set name = 'cid' where id = 'cid'",
        "update nurses set name = null, number = '10' where id = 'gil'",
        "update nurses set mentor_id = 'cid' where id = 'hal'",
        // Theirs: a row that isn't ours, and a column that we only set once.
        "insert into nurses (id, name) values ('zoe', 'Zoe')",
        "update nurses set is_open = false where id = 'ann'",
    ] {
        target.execute(sql).await;
    }
    for (key, set) in
        [("dot", "version = 5"), ("eve", "hash = 'other'"), ("fay", "version = 99"), ("ida", "version = null")]
    {
        note(target, "nurse", "nurses", key, set).await;
    }
    let found = differ(&runner, &told).await;
    let expected = [
        "bea missing",
        "cid name",
        "dot stale 5",
        "eve muster_hash",
        "fay newer 99",
        "gil name number",
        "hal mentor_id",
        "ida stale",
    ];
    assert_eq!(found, expected);

    assert!(rows(&runner, "nurse").await.contains(&"ida".to_owned()), "a row without a version is a row");

    // What the topic states again is written again, whole, although its contents are the same.
    let again: Vec<Told> = told
        .iter()
        .map(|told| {
            let mut told = told.clone();
            told.delivery.version.0 += 100;
            told
        })
        .collect();
    runner.apply(&again).await;
    assert!(differ(&runner, &again).await.is_empty());
}

pub(super) async fn rows_that_the_topic_lacks_are_listed(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let told = [nurse("ann", "Ann", None, 10), nurse("bea", "Bea", None, 11), nurse("cid", "Cid", None, 12)];
    runner.apply(&told).await;
    runner.apply(&[gone("nurse", &["cid"], 13)]).await;
    target.execute("insert into nurses (id, name) values ('eve', 'Eve')").await;
    let claimed = match target.versions() {
        Versions::Column => "update nurses set muster_key = 'eve', muster_version = 7 where id = 'eve'".to_owned(),
        Versions::Side => format!(
            "insert into {} (component, topic, key, identity, version) values ('rota', '{}', 'eve', 'eve', 7)",
            beside(target),
            topic("nurse")
        ),
    };
    target.execute(&claimed).await;
    target.execute("insert into nurses (id, name) values ('zoe', 'Zoe')").await;
    assert_eq!(rows(&runner, "nurse").await, ["ann", "bea", "eve"], "of all partitions, and ours alone");
    let of_the_gone = [gone("nurse", &["cid"], 13), gone("nurse", &["eve"], 0)];
    assert_eq!(differ(&runner, &of_the_gone).await, ["eve extra 7"]);
}

pub(super) async fn what_waits_is_not_missing(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let early = [shift("ann", "icu", "2024-05-01", "night", 20)];
    assert_eq!(runner.apply(&early).await.counts.parked, 1);
    assert_eq!(differ(&runner, &early).await, ["ann|icu|2024-05-01 waiting"]);
    runner.apply(&[ward("icu", 1), nurse("ann", "Ann", None, 2)]).await;
    runner.sink.retry_parked().await.unwrap();
    assert!(differ(&runner, &early).await.is_empty());
    // A parent that is no longer ours leaves nothing right to point to.
    let disowned = match target.versions() {
        Versions::Column => "update wards set muster_key = null".to_owned(),
        Versions::Side => format!("delete from {} where topic = '{}'", beside(target), topic("ward")),
    };
    target.execute(&disowned).await;
    assert_eq!(differ(&runner, &early).await, ["ann|icu|2024-05-01 ward_id"]);
}

pub(super) async fn what_somebody_else_keeps_is_no_difference(target: &dyn Target) {
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| {
        nurse.keeps.insert("number".to_owned(), "retired".to_owned());
    });
    let mut runner = Runner::with(config, 1).await;
    let told = [nurse("ann", "Ann", None, 10), nurse("bea", "Bea", Some("7"), 11), nurse("cid", "Cid", None, 12)];
    runner.apply(&told).await;
    target.execute("update nurses set number = 'retired' where id = 'ann'").await;
    target.execute("update nurses set number = 'on leave' where id = 'bea'").await;
    target.execute("update nurses set number = 'gone' where id = 'cid'").await;
    // Those are no values that they keep.
    assert_eq!(differ(&runner, &told).await, ["bea number", "cid number"]);
}

pub(super) async fn marks_of_soft_deletes_are_compared(target: &dyn Target) {
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| {
        nurse.on_delete = Some(OnDelete::Soft { column: "gone_at".to_owned(), value: None });
    });
    let mut runner = Runner::with(config, 1).await;
    let told = [nurse("ann", "Ann", None, 10), nurse("bea", "Bea", None, 11), nurse("cid", "Cid", None, 12)];
    runner.apply(&told).await;
    let gone = [gone("nurse", &["bea"], 20), gone("nurse", &["cid"], 21)];
    runner.apply(&gone).await;
    assert!(differ(&runner, &gone).await.is_empty());
    target.execute("update nurses set gone_at = null where id = 'bea'").await;
    target.execute("update nurses set gone_at = '2024-05-01' where id = 'ann'").await;
    assert_eq!(differ(&runner, &gone).await, ["bea extra 20"]);
    assert_eq!(differ(&runner, &told[..1]).await, ["ann gone_at"]);
    assert_eq!(rows(&runner, "nurse").await, ["ann", "bea gone", "cid gone"]);
}
