//! The same on a SQLite file.

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tempfile::TempDir;

use super::*;

struct File {
    folder: TempDir,
    connection: SqliteConnection,
}

impl File {
    async fn new(sql: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("rota.db")).create_if_missing(true);
        let mut file = Self { connection: SqliteConnection::connect_with(&options).await.unwrap(), folder };
        file.execute(sql).await;
        file
    }

    async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await.unwrap();
    }

    fn config(&self, tables: Vec<TableConfig>) -> TablesConfig {
        let url = DatabaseUrl::new(format!("sqlite://{}/rota.db", self.folder.path().display()));
        TablesConfig { page_rows: 5, zone: Some(chrono_tz::Tz::UTC), ..TablesConfig::new(url, "rota", tables) }
    }
}

const NURSES: &str = "create table nurses (id integer primary key, name varchar(20), pay decimal(8, 2), is_open boolean, updated_at datetime);
    with recursive n (n) as (select 1 union all select n + 1 from n where n < 12)
    insert into nurses select n, 'nurse ' || n, n * 1.5, n % 2, '2024-01-' || printf('%02d', n) || ' 08:00:00' from n";

#[tokio::test]
async fn the_whole_table_comes_page_by_page_and_then_what_changes() {
    let mut file = File::new(NURSES).await;
    let mut follower = Follower::of(file.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len()), (12, 12));
    assert_eq!(
        follower.topic["12"].to_string(),
        r#"{"id":12,"is_open":false,"name":"nurse 12","pay":"18.00","updated_at":"2024-01-12T08:00:00.000000Z"}"#
    );
    file.execute("update nurses set name = 'Grace', updated_at = strftime('%Y-%m-%dT%H:%M:%f', 'now') where id = 7")
        .await;
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (1, 1));
    file.execute("alter table nurses add ward text").await;
    file.execute("update nurses set ward = 'surgery', updated_at = datetime('now') where id in (3, 10)").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("10", "ward"), "surgery");
    assert_eq!(follower.announced.len(), 2);
}

#[tokio::test]
async fn a_value_that_isnt_what_its_column_says_is_set_aside() {
    let mut file = File::new(NURSES).await;
    file.execute(
        "update nurses set pay = 'much' where id = 1; update nurses set updated_at = 'yesterday' where id = 2",
    )
    .await;
    file.execute("update nurses set is_open = 7, pay = 1.005 where id = 3").await;
    let mut follower = Follower::of(file.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    let told: Vec<String> = follower
        .rejects
        .iter()
        .map(|reject| format!("{} {}", reject.key.as_ref().unwrap(), reject.reason.text))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    1 pay: expected a decimal of as many digits as its column declares
    2 updated_at: expected a time such as 2023-01-31 07:00:00, within the years 1 to 9999
    3 pay: expected a decimal of as many digits as its column declares; is_open: expected 0 or 1
    ");
}

#[tokio::test]
async fn types_can_be_told_and_keys_may_be_text() {
    let file = File::new(
        "create table shifts (ward text, number, about text, seen text, primary key (ward, number));
         insert into shifts values ('a', 1, '{\"x\": 1}', '2024-01-01T08:00:00+02:00'), ('a', 10, null, null), ('a', 9, '[]', null),
            ('b', 1, null, null), ('c', 1, null, null), ('d', 1, null, null), ('e', 1, null, null)",
    )
    .await;
    let mut shifts = TableConfig::new("rota", "shift", "shifts", &["ward", "number"]);
    shifts.types = [("number", "long"), ("about", "json"), ("seen", "timestamptz")]
        .map(|(column, name)| {
            let kind = crate::tables::types::NAMES.iter().find(|(known, _)| *known == name).unwrap().1.clone();
            (column.to_owned(), kind)
        })
        .into();
    let mut follower = Follower::of(file.config(vec![shifts])).await;
    follower.pass(&Ask::Everything).await;
    assert!(follower.rejects.is_empty(), "{:?}", follower.rejects);
    assert_eq!(follower.keys(), ["a|1", "a|10", "a|9", "b|1", "c|1", "d|1", "e|1"]);
    assert_eq!(
        follower.topic["a|1"].to_string(),
        r#"{"about":"{\"x\": 1}","number":1,"seen":"2024-01-01T06:00:00.000000Z","ward":"a"}"#
    );
}

#[tokio::test]
async fn a_file_that_isnt_there_must_be_looked_after() {
    let file = File::new(NURSES).await;
    let mut config = file.config(vec![nurses()]);
    config.url = DatabaseUrl::new(format!("sqlite://{}/rots.db", file.folder.path().display()));
    assert!(matches!(Follower::begin(config, Path::new("")).await, Err(SourceError::Refused { .. })));
    let missing = TableConfig { table: "nurse".into(), ..nurses() };
    assert!(matches!(
        Follower::begin(file.config(vec![missing]), Path::new("")).await,
        Err(SourceError::Refused { .. })
    ));
}

#[tokio::test]
async fn only_rows_that_fit_are_followed() {
    let mut file = File::new(NURSES).await;
    let table = TableConfig {
        like: [("name".to_owned(), "nurse 1%".to_owned())].into(),
        null: vec!["ward".into()],
        change: None,
        ..nurses()
    };
    let mut follower = Follower::of(file.config(vec![table])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.topic.keys().collect::<Vec<_>>(), ["1", "10", "11", "12"]);
    file.execute("alter table nurses add ward text; update nurses set ward = 'surgery' where id in (10, 11)").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.read, 2);
}

/// With the stored type left out of the position, every text would be above every number: rows after the first page were
/// never read.
#[tokio::test]
async fn a_key_without_a_declared_type_loses_no_row_whatever_stands_in_it() {
    let mut file = File::new(
        "create table shifts (number, ward text);
         create unique index by_number on shifts (number);
         create view known as select * from shifts;
         with recursive n (n) as (select 1 union all select n + 1 from n where n < 23)
         insert into shifts select n, 'ward ' || n from n",
    )
    .await;
    let shifts = TableConfig::new("rota", "shift", "known", &["number"]);
    let Err(SourceError::Refused { reason, hint, .. }) =
        Follower::begin(file.config(vec![shifts.clone()]), Path::new("")).await
    else {
        panic!("1 and '1' would be the same key")
    };
    assert!(reason.contains("declares no type") && hint.contains("types"), "{reason} ({hint})");

    let told = |kind| TableConfig { types: [("number".to_owned(), kind)].into(), ..shifts.clone() };
    let mut follower = Follower::of(file.config(vec![told(crate::tables::ColumnKind::Long)])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len(), follower.rejects.len()), (23, 23, 0));

    // A number among texts, and a text that looks like it, are two rows: one of them has a key.
    file.execute("update shifts set number = 'n' || number where number < 20; insert into shifts values ('20', 'x'), (x'00', 'y')")
        .await;
    let mut follower = Follower::of(file.config(vec![told(crate::tables::ColumnKind::String)])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len(), follower.rejects.len()), (25, 20, 5));
    assert_eq!(follower.field("20", "ward"), "x");
    assert!(follower.rejects.iter().all(|reject| reject.key.is_none()));
}

/// With `{}` for all of them, the second would count as the first, read again.
#[tokio::test]
async fn rows_without_a_key_are_told_apart_and_a_letter_is_never_replayed_as_something_else() {
    let file = File::new(
        "create table nurses (id varchar(9) primary key, name varchar(20), photo blob, about json);
         insert into nurses values (null, 'Ada', null, null), (null, 'Grace', null, null), (x'07', 'Ida', null, null),
             ('a', 'Ann', 12, null), ('b', 'Eve', 34.5, '{'), ('c', 'Joan', null, null)",
    )
    .await;
    let nurses = TableConfig::new("rota", "nurse", "nurses", &["id"]);
    let mut follower = Follower::of(file.config(vec![nurses])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.keys(), ["c"]);
    let mut letters: Vec<Json> =
        follower.rejects.iter().map(|reject| serde_json::from_slice(&reject.raw).unwrap()).collect();
    letters.sort_by_key(|letter| letter["name"].to_string());
    let shown: Vec<String> = letters.iter().map(Json::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    {"about":null,"id":null,"name":"Ada","photo":null}
    {"about":null,"id":"a","name":"Ann","photo":{"unusable":"12"}}
    {"about":{"unusable":"{"},"id":"b","name":"Eve","photo":"34.5"}
    {"about":null,"id":null,"name":"Grace","photo":null}
    {"about":null,"id":{"unusable":"x'07'"},"name":"Ida","photo":null}
    "#);
    // `12` is a byte in hexadecimal, `null` no picture at all: neither is what the row has.
    for reject in &follower.rejects {
        assert!(follower.source.decode(&reject.raw).is_err(), "{}", reject.reason);
    }
    letters[1]["photo"] = "0c".into();
    assert_eq!(follower.source.decode(letters[1].to_string().as_bytes()).unwrap().key().as_str(), "a");
}

#[tokio::test]
async fn a_statement_that_never_ends_is_broken_off() {
    let file = File::new(
        "create view nurses as with recursive n (n) as (select 1 union all select n + 1 from n)
         select cast(n as integer) as id from n where n < 0",
    )
    .await;
    let nurses = TableConfig::new("rota", "nurse", "nurses", &["id"]);
    let config = TablesConfig { statement_timeout: std::time::Duration::from_millis(200), ..file.config(vec![nurses]) };
    let mut follower = Follower::of(config).await;
    let Err(SourceError::Unavailable { reason, .. }) = follower.try_pass(&Ask::Everything).await else { panic!() };
    assert_eq!(reason, "a statement took longer than the statement time-out");
}

/// Text is compared by the day it shows, which is another in another zone.
#[tokio::test]
async fn times_with_an_offset_are_found_whatever_day_they_show() {
    let mut file = File::new(
        "create table nurses (id integer primary key, name text, updated_at text);
         insert into nurses values (1, 'Ada', '2024-01-02T22:30:00-10:00'), (2, 'Bea', '2024-01-03T12:00:00-08:00'),
             (3, 'Cleo', '2024-01-04T07:00:00Z'), (4, 'Dora', '2024-01-10T12:00:00-08:00'),
             (5, 'Eve', '2023-12-24T12:00:00Z')",
    )
    .await;
    let types = [("updated_at".to_owned(), crate::tables::ColumnKind::Moment)].into();
    let zone = Some(chrono_tz::America::Vancouver);
    let config = TablesConfig { zone, ..file.config(vec![TableConfig { types, ..nurses() }]) };
    let mut follower = Follower::of(config).await;
    let third = chrono::NaiveDate::from_ymd_opt(2024, 1, 3).unwrap();
    follower.pass(&Ask::Window { from: third, to: third, page: None }).await;
    assert_eq!(follower.keys(), ["1", "2", "3"]);

    follower.pass(&Ask::Everything).await;
    // As far behind UTC as can be written: it shows yesterday at any hour.
    file.execute(
        "update nurses set name = 'Grace',
         updated_at = strftime('%Y-%m-%dT%H:%M:%f', 'now', '-23 hours', '-59 minutes') || '-23:59' where id = 4",
    )
    .await;
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.field("4", "name")), (1, &Json::from("Grace")));
}

/// They counted for nothing, however large: a page could take as much as all of them.
#[tokio::test]
async fn large_rows_that_are_set_aside_come_in_small_pages_too() {
    let file = File::new(
        "create table nurses (id integer primary key, about text, pay decimal(8, 2));
         with recursive n (n) as (select 1 union all select n + 1 from n where n < 40)
         insert into nurses select n, hex(zeroblob(50000)), 'much' from n",
    )
    .await;
    let nurses = TableConfig::new("rota", "nurse", "nurses", &["id"]);
    let config = TablesConfig { page_rows: 1_000, page_bytes: 1 << 20, ..file.config(vec![nurses]) };
    let mut follower = Follower::of(config).await;
    assert!(!follower.step(&Ask::Everything).await.unwrap());
    assert_eq!(follower.rejects.len(), 21, "two MiB of them");
    assert!(!follower.step(&Ask::Everything).await.unwrap());
    assert_eq!(follower.rejects.len(), 31, "and one MiB from then on");
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.rejects.len(), 40);
}
