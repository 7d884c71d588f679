//! Tables with something of their own to say: whether they take a column of ours, and who chooses identities. Part of the
//! [suite](super::suite), which runs with versions at both places.

use serde_json::json;

use super::rota::*;
use crate::sql::{SqlSink, Versions};

pub(super) async fn a_row_that_somebody_deleted_comes_back(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 7), ward("icu", 7)]).await;
    target.execute("delete from wards where id = 'icu'").await;
    assert_eq!(runner.held("ward", 0, None, 9).await.len(), 1, "what isn't there isn't held");
    assert_eq!(runner.apply(&[ward("er", 7), ward("icu", 7)]).await.counts.delivered, 1);
    assert_eq!(target.rows("select id from wards order by id").await, ["er", "icu"]);
    // Nor does it come back when it goes where nobody looks.
    target.execute("delete from wards where id = 'icu'").await;
    assert_eq!(runner.apply(&[gone("ward", &["icu"], 8)]).await.counts.unchanged, 1);
    assert_eq!(runner.apply(&[ward("icu", 7)]).await.counts.stale, 1);
}

/// Without the deletion of what was left behind, the tombstone of the first key takes the row of the second.
pub(super) async fn an_identity_that_changes_hands_belongs_to_the_last(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let attic = |key: &str, version| put("ward", &[key], version, json!({"id": "attic", "title": key}));
    runner.apply(&[attic("old", 1)]).await;
    target.execute("delete from wards").await;
    assert_eq!(runner.apply(&[attic("new", 2)]).await.counts.delivered, 1);
    runner.apply(&[gone("ward", &["old"], 3)]).await;
    assert_eq!(target.rows("select id, title from wards").await, ["attic new"]);
    runner.apply(&[gone("ward", &["new"], 4)]).await;
    assert!(target.rows("select id from wards").await.is_empty());
}

/// Wards have a number that the database counts; the key is a code beside it.
fn numbered(target: &dyn Target) -> crate::sql::SqlConfig {
    let mut config = config(target);
    change(&mut config, "ward", |ward| {
        let column = |field: &str, column: &str| (field.to_owned(), column.to_owned());
        ward.columns = Some([column("id", "code"), column("title", "title")].into());
    });
    config
}

pub(super) async fn the_database_can_choose_identities(target: &dyn Target) {
    let counted = if target.url().starts_with("sqlite") { "integer" } else { "serial" };
    target
        .execute(&format!(
            "create table wards (id {counted} primary key, code varchar(9) unique, title varchar(40), beds integer);
             insert into wards (code, title, beds) values ('attic', 'Attic', 0), ('icu', 'Intensive', 12)"
        ))
        .await;
    let mut runner = Runner::with(numbered(target), 1).await;
    let all = [ward("er", 1), ward("icu", 1), nurse("ann", "Ann", None, 1)];
    let shifts = [shift("ann", "er", "2024-05-01", "", 1), shift("ann", "icu", "2024-05-01", "", 1)];
    assert_eq!(runner.apply(&[&all[..], &shifts[..]].concat()).await.counts.delivered, 5);
    let wards = "select id, code, title, beds from wards order by id";
    assert_eq!(target.rows(wards).await, ["1 attic Attic 0", "2 icu Ward icu 12", "3 er Ward er -"]);
    assert_eq!(
        target.rows("select id, ward_id from shifts order by id").await,
        ["ann/er/2024-05-01 3", "ann/icu/2024-05-01 2"]
    );
    // Later versions find the same rows, and one that goes frees its code, not its number.
    runner.apply(&[put("ward", &["er"], 2, json!({"id": "er", "title": "Emergency"}))]).await;
    runner.apply(&[gone("shift", &["ann", "icu", "2024-05-01"], 2), gone("ward", &["icu"], 2), ward("lab", 2)]).await;
    assert_eq!(runner.apply(&[ward("icu", 3)]).await.counts.delivered, 1);
    let wards = "select code, title from wards order by id";
    let left = target.rows(wards).await;
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(left[..2], ["attic Attic", "er Emergency"]);
}

pub(super) async fn the_database_counts_in_tables_of_our_making(target: &dyn Target) {
    let mut runner = Runner::with(numbered(target), 1).await;
    runner.apply(&[ward("er", 1), nurse("ann", "Ann", None, 1), shift("ann", "er", "", "", 1)]).await;
    assert_eq!(target.rows("select s.ward_id, w.code from shifts s join wards w on w.id = s.ward_id").await, ["1 er"]);
}

pub(super) async fn an_identity_that_nobody_fills_is_refused(target: &dyn Target) {
    target.execute("create table wards (id varchar(9), code varchar(9))").await;
    let refused = SqlSink::of("rota", &numbered(target), &subjects()).unwrap().plan().await.unwrap().refused;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].to_string().starts_with("wards.id: no field fills it"), "{}", refused[0]);
}

pub(super) async fn where_no_column_is_allowed_there_is_none(target: &dyn Target) {
    target.execute("create table wards (id varchar(40) primary key, title varchar(40))").await;
    let plan = SqlSink::of("rota", &config(target), &subjects()).unwrap().plan().await.unwrap();
    let touched: Vec<_> = plan.statements.iter().filter(|statement| statement.contains("wards\"")).collect();
    match target.versions() {
        Versions::Column => assert!(touched.len() > 3, "{touched:?}"),
        // The shifts that are made refer to them; that is all.
        Versions::Side => {
            assert!(touched.iter().all(|statement| statement.starts_with("create table")), "{touched:?}");
            assert_eq!(touched.len(), 1, "{touched:?}");
        }
    }
    Runner::start(target).await.apply(&[ward("icu", 1)]).await;
    let columns = match target.url().starts_with("sqlite") {
        true => "select name from pragma_table_info('wards')",
        false => "select column_name from information_schema.columns where table_name = 'wards'",
    };
    let expected = if target.versions() == Versions::Column { 5 } else { 2 };
    assert_eq!(target.rows(columns).await.len(), expected);
}
