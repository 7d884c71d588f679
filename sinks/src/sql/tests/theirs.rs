//! What is somebody else's in a table, and what isn't. Part of the [suite](super::suite).

use pipeline::sink::Sink;
use serde_json::json;

use super::rota::*;
use crate::sql::SqlSink;

const NURSES: &str = "create table nurses (id varchar(40) primary key, name varchar(40), number varchar(40) unique,
    mentor_id varchar(40), is_open boolean, remark varchar(40));";

/// Without `fold`, Ann is a row of her own.
pub(super) async fn case_counts_only_where_it_is_said(target: &dyn Target) {
    target.execute(NURSES).await;
    target.execute("insert into nurses (id, name, number) values ('x', 'Old', 'ann@CLINIC'), ('y', 'Old', 'B')").await;
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| {
        nurse.matching = Some(vec!["number".to_owned()]);
        nurse.fold = vec!["number".to_owned()];
    });
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[nurse("ann", "Ann", Some("Ann@clinic"), 1), nurse("bea", "Bea", Some("b"), 1)]).await;
    let expected = ["x Ann Ann@clinic", "y Bea b"];
    assert_eq!(target.rows("select id, name, number from nurses order by id").await, expected);
    runner.apply(&[nurse("ann", "Anna", Some("Ann@clinic"), 2)]).await;
    assert_eq!(target.rows("select name from nurses where id = 'x'").await, ["Anna"]);
}

/// Without the second look, she contradicts herself for ever: her identity is taken, by herself.
pub(super) async fn who_has_changed_is_recognised_by_identity(target: &dyn Target) {
    target.execute(NURSES).await;
    target.execute("insert into nurses (id, name, number, remark) values ('ann', 'Ann', 'former', 'kept')").await;
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| nurse.matching = Some(vec!["number".to_owned()]));
    let mut runner = Runner::with(config, 1).await;
    assert_eq!(runner.apply(&[nurse("ann", "Ann", Some("present"), 1)]).await.counts.delivered, 1);
    assert_eq!(target.rows("select id, number, remark from nurses").await, ["ann present kept"]);
}

/// Without the pattern in the statement that looks, the row is adopted and its remark's owner loses it.
pub(super) async fn a_row_that_is_theirs_is_waited_for(target: &dyn Target) {
    target.execute(NURSES).await;
    target
        .execute(
            "insert into nurses (id, name, number, remark) values
            ('x', 'By hand', '7', 'from the spreadsheet of May'), ('y', 'By hand', '8', 'seen')",
        )
        .await;
    let mut config = config(target);
    config.park_limit = std::time::Duration::ZERO;
    change(&mut config, "nurse", |nurse| {
        nurse.matching = Some(vec!["number".to_owned()]);
        nurse.theirs.insert("remark".to_owned(), "%the spreadsheet%".to_owned());
    });
    let mut runner = Runner::with(config.clone(), 1).await;
    let all = [nurse("ann", "Ann", Some("7"), 1), nurse("bea", "Bea", Some("8"), 1), nurse("cyn", "Cyn", None, 1)];
    let counts = runner.apply(&all).await.counts;
    assert_eq!((counts.delivered, counts.parked), (2, 1));
    let rows = "select id, name, remark from nurses order by id";
    let as_it_was = "x By hand from the spreadsheet of May";
    assert_eq!(target.rows(rows).await, ["cyn Cyn -", as_it_was, "y Bea seen"]);

    // Past the park limit it still waits, and is no letter: nothing is wrong with it.
    let tried = runner.sink.retry_parked().await.unwrap();
    assert_eq!((tried.waiting, tried.held_by_others, tried.expired.len()), (0, 1, 0));
    let survey = runner.sink.survey().await.unwrap();
    let nurses = survey.iter().find(|survey| survey.table == "nurses").unwrap();
    assert_eq!((nurses.rows, nurses.ours, nurses.theirs, nurses.others()), (3, 2, 1, 1));
    assert_eq!(nurses.waiting["held_by_others"], 1);
    assert!(nurses.never_written.contains(&"remark".to_owned()));

    // A newer version waits in its place, and a delete has nothing to delete.
    assert_eq!(runner.apply(&[nurse("ann", "Anna", Some("7"), 2)]).await.counts.parked, 1);
    target.execute("delete from nurses where id = 'x'").await;
    // It isn't looked for with every batch.
    for _ in 0..60 {
        runner.sink.retry_parked().await.unwrap();
    }
    assert_eq!(target.rows(rows).await, ["ann Anna -", "cyn Cyn -", "y Bea seen"]);
    assert_eq!(runner.sink.retry_parked().await.unwrap().held_by_others, 0);
    // Once it is ours it is ours, whatever somebody writes there.
    target.execute("update nurses set remark = 'in the spreadsheet' where id = 'ann'").await;
    assert_eq!(runner.apply(&[nurse("ann", "Ann", Some("7"), 3)]).await.counts.delivered, 1);

    change(&mut config, "nurse", |nurse| drop(nurse.theirs.insert("remarks".to_owned(), "%".to_owned())));
    let refused = SqlSink::of("rota", &config, &subjects()).unwrap().plan().await.unwrap().refused;
    assert!(refused[0].to_string().starts_with("nurses.remarks: `theirs` names it"), "{}", refused[0]);
}

/// Where an object replaces the column instead, the shoe size goes.
pub(super) async fn of_an_object_only_our_names_are_ours(target: &dyn Target) {
    let json = if target.url().starts_with("sqlite") { "text" } else { "jsonb" };
    target
        .execute(&format!(
            "create table nurses (id varchar(40) primary key, mentor_id varchar(40), is_open boolean, data {json});
             insert into nurses (id, data) values ('ann', '{{\"shoe\": 39, \"called\": \"A.\"}}'), ('bea', null), ('cyn', '[1]')"
        ))
        .await;
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| {
        nurse.unique.clear();
        let of = |name: &str, field: &str| (name.to_owned(), field.to_owned());
        nurse.json.insert("data".to_owned(), [of("called", "name"), of("number", "number")].into());
    });
    let mut runner = Runner::with(config, 1).await;
    let all = [nurse("ann", "Ann", Some("7"), 1), nurse("bea", "Bea", Some("8"), 1), nurse("cyn", "Cyn", None, 1)];
    runner.apply(&[&all[..], &[nurse("dot", "Dot \"D\"", None, 1)]].concat()).await;
    let data = |rows: Vec<String>| -> Vec<serde_json::Value> {
        rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
    };
    let rows = "select data from nurses order by id";
    let expected = [
        json!({"shoe": 39, "called": "Ann", "number": "7"}),
        json!({"called": "Bea", "number": "8"}),
        json!({"called": "Cyn"}),
        json!({"called": "Dot \"D\""}),
    ];
    assert_eq!(data(target.rows(rows).await), expected);
    // What becomes empty goes; what others put there stays.
    runner.apply(&[nurse("ann", "Ann", None, 2)]).await;
    assert_eq!(data(target.rows(rows).await)[0], json!({"shoe": 39, "called": "Ann"}));
}

pub(super) async fn a_survey_counts_what_is_like_each_other(target: &dyn Target) {
    target.execute(NURSES).await;
    target
        .execute(
            "insert into nurses (id, name, number) values ('1', 'Ann', null), ('2', 'Ann', null), ('3', 'Bea', null),
            ('4', 'bea', null), ('5', 'BEA', null), ('6', null, null), ('7', null, null)",
        )
        .await;
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| nurse.matching = Some(vec!["name".to_owned()]));
    let count = async |config: &crate::sql::SqlConfig| {
        let survey = SqlSink::of("rota", config, &subjects()).unwrap().survey().await.unwrap();
        let nurses = survey.iter().find(|survey| survey.table == "nurses").unwrap();
        (nurses.rows, nurses.ours, nurses.ambiguous_values, nurses.ambiguous_rows)
    };
    assert_eq!(count(&config).await, (7, 0, 1, 2));
    change(&mut config, "nurse", |nurse| nurse.fold = vec!["name".to_owned()]);
    assert_eq!(count(&config).await, (7, 0, 2, 5));
    // Nothing was made by looking.
    assert!(SqlSink::of("rota", &config, &subjects()).unwrap().plan().await.unwrap().statements.len() > 3);
    Runner::with(config.clone(), 1).await.apply(&[nurse("8", "Cyn", None, 1)]).await;
    assert_eq!(count(&config).await, (8, 1, 2, 5));
}
