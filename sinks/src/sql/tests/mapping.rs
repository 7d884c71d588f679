//! What the mapping comes to: its mistakes, and the statements for an empty PostgreSQL. Nothing is connected to.

use std::sync::Arc;

use super::rota::{self, change, subjects};
use crate::sql::plan::{Catalog, plan};
use crate::sql::postgres::dialect;
use crate::sql::table::Tables;
use crate::sql::{DatabaseUrl, OnDelete, SqlConfig, SqlSink, TableMapping};

fn config() -> SqlConfig {
    rota::config_at("sqlite:///nowhere.db")
}

#[test]
fn every_mistake_in_the_mapping_is_named() {
    let mut config = config();
    config.tables.push(TableMapping::new("porter", "register.porter", "porters", "id"));
    change(&mut config, "ward", |ward| {
        ward.columns = Some([("id".to_owned(), "id".to_owned()), ("colour".to_owned(), "colour".to_owned())].into());
        ward.matching = Some(vec!["title".to_owned()]);
        ward.owned = Some(vec!["id".to_owned()]);
        ward.keeps = [("id".to_owned(), "attic".to_owned()), ("colour".to_owned(), "red".to_owned())].into();
        ward.on_delete = Some(OnDelete::Soft { column: "id".to_owned(), value: None });
        ward.fold = vec!["id".to_owned()];
        ward.json.insert("title".to_owned(), [("t".to_owned(), "titel".to_owned())].into());
    });
    change(&mut config, "shift", |shift| {
        shift.owned = Some(vec!["notes".to_owned()]);
        shift.keeps.insert("day".to_owned(), "never".to_owned());
        shift.refers.insert("day".to_owned(), "ward".to_owned());
        shift.refers.insert("notes".to_owned(), "matron".to_owned());
        shift.table = "wards".to_owned();
        shift.key = None;
        shift.versions = Some(crate::sql::Versions::Side);
        shift.matching = Some(vec!["day".to_owned()]);
        shift.fold = vec!["day".to_owned()];
    });
    let mut problems = SqlSink::of("rota", &config, &subjects()).err().unwrap();
    problems.sort();
    assert_eq!(
        problems,
        [
            "tables.porter.topic: no entity has a topic register.porter",
            "tables.shift.fold: wards.day is no text: it has no case",
            "tables.shift.keeps: wards.day isn't among `owned`: it is never replaced",
            "tables.shift.refers: wards.day refers to another table, but day is a date",
            "tables.shift.refers: wards.notes refers to matron, which isn't mapped",
            "tables.shift.versions: wards has no `key`, by which rows are known that have no column of ours",
            "tables.ward.columns: ward has no field colour",
            "tables.ward.deleted_column: wards.id says that a row is gone: no field can fill it",
            "tables.ward.fold: names wards.id, by which no row is recognised: it isn't in `match`",
            "tables.ward.json: ward has no field titel; did you mean `title`?",
            "tables.ward.keeps: names wards.colour, which no field fills",
            "tables.ward.match: wards.title is an object of several fields: it can't be named here",
            "tables.ward.owned: wards.id is the table's identity: it can't be among `owned`",
            "tables.ward.table: table wards is mapped twice",
        ]
    );
}

#[test]
fn tables_that_refer_in_a_circle_are_refused() {
    let mut config = config();
    change(&mut config, "ward", |ward| {
        ward.refers.insert("title".to_owned(), "shift".to_owned());
    });
    let problems = SqlSink::of("rota", &config, &subjects()).err().unwrap();
    assert_eq!(problems, ["tables.shift.refers: shift, ward refer to each other in a circle"]);
}

#[test]
fn an_unknown_kind_of_database_is_refused() {
    let mut config = config();
    config.url = DatabaseUrl::new("mysql://muster:secret@db/rota");
    let problems = SqlSink::of("rota", &config, &subjects()).err().unwrap();
    assert_eq!(problems, ["`url` must begin with postgres:// or sqlite://"]);
}

#[test]
fn an_empty_database_gets_parents_first() {
    let tables = Arc::new(Tables::new(&config(), &subjects()).unwrap());
    let empty = Catalog { migrations: usize::MAX, ..Catalog::default() };
    let plan = plan(&tables, &empty, &dialect::Postgres { schema: "rota" });
    let expected = r#"create table "rota"."nurses" (
    "id" text primary key not null,
    "name" text,
    "number" text,
    "mentor_id" text references "rota"."nurses" ("id"),
    "is_open" boolean,
    "muster_key" text collate "C",
    "muster_version" bigint,
    "muster_hash" text
);
create unique index "muster_key_nurses" on "rota"."nurses" ("muster_key");
create unique index "muster_unique_nurses_number" on "rota"."nurses" ("number");
create index "muster_match_nurses_id" on "rota"."nurses" ("id") where "muster_key" is null;
create table "rota"."wards" (
    "id" text primary key not null,
    "title" text,
    "muster_key" text collate "C",
    "muster_version" bigint,
    "muster_hash" text
);
create unique index "muster_key_wards" on "rota"."wards" ("muster_key");
create index "muster_match_wards_id" on "rota"."wards" ("id") where "muster_key" is null;
create table "rota"."shifts" (
    "id" text primary key not null,
    "nurse_id" text references "rota"."nurses" ("id"),
    "ward_id" text references "rota"."wards" ("id"),
    "day" date,
    "notes" text,
    "muster_key" text collate "C",
    "muster_version" bigint,
    "muster_hash" text
);
create unique index "muster_key_shifts" on "rota"."shifts" ("muster_key");
create index "muster_match_shifts_nurse_id_ward_id_day" on "rota"."shifts" ("nurse_id", "ward_id", "day") where "muster_key" is null"#;
    assert_eq!(plan.statements.join(";\n"), expected);
    assert!(plan.refused.is_empty());
}
