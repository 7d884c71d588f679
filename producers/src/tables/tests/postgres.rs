//! Passes over a table of PostgreSQL: whole, resumed, by what has changed.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::*;

async fn rota() -> Option<Server> {
    let server = Server::new().await?;
    server
        .execute(
            "create table nurses (id int primary key, name text, updated_at timestamp default (now() at time zone 'utc'));
             insert into nurses select n, 'nurse ' || n, timestamp '2024-01-01' + n * interval '1 day' from generate_series(1, 23) n",
        )
        .await;
    Some(server)
}

#[tokio::test]
async fn the_whole_table_comes_page_by_page_and_then_what_changes() {
    let Some(server) = rota().await else { return };
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len()), (23, 23));
    assert_eq!(follower.field("7", "name"), "nurse 7");
    assert_eq!(follower.field("7", "updated_at"), "2024-01-08T00:00:00.000000Z");

    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.read, 0, "nothing is newer than the overlap");
    server.execute("update nurses set name = 'Grace', updated_at = now() at time zone 'utc' where id = 7").await;
    server.execute("insert into nurses (id, name) values (24, 'Ada')").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (2, 2));
    assert_eq!(follower.field("7", "name"), "Grace");
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (2, 0), "within the overlap, they come again");
}

#[tokio::test]
async fn a_load_that_was_cut_off_goes_on_where_it_was() {
    let Some(server) = rota().await else { return };
    let mut first = Follower::of(server.config(vec![nurses()])).await;
    for _ in 0..2 {
        assert!(!first.step(&Ask::Everything).await.unwrap());
    }
    // What comes behind the position is read, what comes before it is for the next pass.
    server.execute("insert into nurses (id, name) values (0, 'Ada'), (11, 'twice') on conflict do nothing").await;
    server.execute("update nurses set name = 'Grace', updated_at = now() at time zone 'utc' where id in (1, 20)").await;
    let mut second = Follower::of(server.config(vec![nurses()])).await;
    second.position = first.position;
    second.topic = first.topic;
    second.pass(&Ask::Everything).await;
    assert_eq!((second.read, second.topic.len()), (13, 23));
    assert_eq!(second.field("20", "name"), "Grace");
    second.pass(&Ask::Changes).await;
    assert_eq!(second.field("0", "name"), "Ada");
    assert_eq!(second.field("1", "name"), "Grace");
}

#[tokio::test]
async fn a_late_commit_is_found_within_the_overlap_and_no_further() {
    let Some(server) = rota().await else { return };
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    let mut late = PgConnection::connect(&server.database.url).await.unwrap();
    let mut open = late.begin().await.unwrap();
    let statement = "insert into nurses (id, name) values (30, 'Late')";
    sqlx::raw_sql(statement).execute(&mut *open).await.unwrap();
    follower.pass(&Ask::Everything).await;
    follower.pass(&Ask::Changes).await;
    assert!(!follower.topic.contains_key("30"));
    open.commit().await.unwrap();
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("30", "name"), "Late");

    // Held open for longer than the overlap: only everything finds it.
    let statement = "insert into nurses values (31, 'Later', now() at time zone 'utc' - interval '11 minutes')";
    server.execute(statement).await;
    follower.pass(&Ask::Changes).await;
    assert!(!follower.topic.contains_key("31"));
    let shorter = TableConfig { overlap: Duration::from_secs(900), ..nurses() };
    let mut wider = Follower::of(server.config(vec![shorter])).await;
    wider.position = follower.position.clone();
    wider.pass(&Ask::Changes).await;
    assert_eq!(wider.keys(), ["30", "31"]);
}

#[tokio::test]
async fn what_is_promised_is_behind_by_the_overlap() {
    let Some(server) = rota().await else { return };
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    let before = Utc::now();
    follower.pass(&Ask::Everything).await;
    let behind = before - follower.complete_to.unwrap();
    assert!(behind > TimeDelta::minutes(9) && behind <= TimeDelta::minutes(10), "{behind}");
    let without = TableConfig { change: None, ..nurses() };
    let mut follower = Follower::of(server.config(vec![without])).await;
    follower.pass(&Ask::Everything).await;
    assert!(follower.complete_to.unwrap() > before - TimeDelta::minutes(1));
}

#[tokio::test]
async fn equal_times_are_never_split_and_none_is_found_by_everything() {
    let Some(server) = rota().await else { return };
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    server.execute("update nurses set name = 'same', updated_at = (now() at time zone 'utc')").await;
    server.execute("update nurses set updated_at = null where id = 3").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (22, 22));
    assert_eq!(follower.field("3", "name"), "nurse 3");
    follower.position = None;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.field("3", "name"), "same");
}

#[tokio::test]
async fn times_that_step_back_hold_nothing_up() {
    let Some(server) = rota().await else { return };
    server.execute("update nurses set updated_at = '2090-01-01' where id = 1").await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    // A time far ahead doesn't become the position.
    server.execute("insert into nurses (id, name) values (24, 'Ada')").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("24", "name"), "Ada");
    assert_eq!((follower.read, follower.changed), (2, 1), "the one that is ahead comes each time");
    server.execute("update nurses set updated_at = '2023-01-01', name = 'back' where id = 5").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("5", "name"), "nurse 5");
    follower.position = None;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.field("5", "name"), "back");
}

#[tokio::test]
async fn numbers_rise_and_a_gap_that_is_filled_late_is_found_within_the_overlap() {
    let Some(server) = Server::new().await else { return };
    server.execute("create table shifts (ward text, day date, edition bigint, primary key (ward, day))").await;
    server
        .execute("insert into shifts select 'ward ' || n % 3, date '2024-01-01' + n, n from generate_series(1, 12) n")
        .await;
    let shifts = TableConfig {
        change: Some("edition".into()),
        overlap_count: 3,
        ..TableConfig::new("rota", "shift", "shifts", &["ward", "day"])
    };
    let mut follower = Follower::of(server.config(vec![shifts])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.topic.len(), 12);
    assert_eq!(follower.keys()[0], "ward 0|2024-01-04");
    server.execute("insert into shifts values ('ward 1', '2024-02-01', 10), ('ward 1', '2024-02-02', 2)").await;
    follower.pass(&Ask::Changes).await;
    assert!(follower.topic.contains_key("ward 1|2024-02-01") && !follower.topic.contains_key("ward 1|2024-02-02"));
    assert_eq!((follower.read, follower.changed), (5, 1));
}

#[tokio::test]
async fn a_window_reads_its_days_and_moves_nothing() {
    let Some(server) = rota().await else { return };
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    let day = |day| chrono::NaiveDate::from_ymd_opt(2024, 1, day).unwrap();
    follower.pass(&Ask::Window { from: day(3), to: day(9), page: None }).await;
    assert_eq!(follower.keys(), ["2", "3", "4", "5", "6", "7", "8"]);
    assert_eq!(follower.complete_to, None);
}

#[tokio::test]
async fn a_table_without_a_change_column_is_read_whole_each_time() {
    let Some(server) = rota().await else { return };
    let without = TableConfig { change: None, ..nurses() };
    let mut follower = Follower::of(server.config(vec![without])).await;
    follower.pass(&Ask::Everything).await;
    server.execute("update nurses set name = 'Grace' where id = 7").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (23, 1));
    let window = Ask::Window { from: Default::default(), to: Default::default(), page: None };
    assert!(matches!(follower.try_pass(&window).await, Err(SourceError::Refused { .. })));
}

#[tokio::test]
async fn who_must_wait_and_who_must_act() {
    let Some(server) = rota().await else { return };
    let kind = |config: TablesConfig| async {
        match Follower::begin(config, Path::new("")).await {
            Err(SourceError::Unavailable { reason, .. }) => format!("waits: {reason}"),
            Err(SourceError::Refused { reason, .. }) => format!("refused: {reason}"),
            Err(error) => error.to_string(),
            Ok(_) => "reads".to_owned(),
        }
    };
    // Roles are the whole server's, which other tests use, too.
    let (_, database) = server.database.url.rsplit_once('/').unwrap();
    let user = format!("reader_of_{database}");
    server.execute(&format!("create role \"{user}\" login; create table secrets (id int primary key)")).await;
    let mut away = server.config(vec![nurses()]);
    away.url = DatabaseUrl::new("postgres://muster@127.0.0.1:1/rota");
    assert!(kind(away).await.starts_with("waits: the connection broke"));
    let mut unknown = server.config(vec![nurses()]);
    unknown.url = DatabaseUrl::new(format!("{}_no", server.database.url));
    assert!(kind(unknown).await.starts_with("refused: database"));
    let missing = TableConfig { table: "nurse\"s".into(), ..nurses() };
    let told = kind(server.config(vec![missing])).await;
    assert!(told.contains(r#"there is no table "public"."nurse""s""#), "{told}");
    let elsewhere = TableConfig { schema: Some("nowhere".into()), ..nurses() };
    assert!(kind(server.config(vec![elsewhere])).await.contains("there is no table"));

    let mut reader =
        server.config(vec![TableConfig { change: None, ..TableConfig::new("rota", "secret", "secrets", &["id"]) }]);
    reader.url = DatabaseUrl::new(as_user(&server.database.url, &user));
    let mut follower = Follower::begin(reader, Path::new("")).await.unwrap();
    match follower.try_pass(&Ask::Everything).await {
        Err(SourceError::Refused { hint, .. }) => assert!(hint.contains("grant"), "{hint}"),
        other => panic!("{other:?}"),
    }
}

/// The same address, as somebody else.
fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}@{host}")
}

#[tokio::test]
async fn nothing_can_be_written_over_its_connection() {
    let Some(server) = rota().await else { return };
    server
        .execute(
            "create function meddle() returns text language plpgsql as $$ begin delete from nurses; return 'x'; end $$;
             create view meddling as select id, meddle() as name, updated_at from nurses",
        )
        .await;
    let view = TableConfig { table: "meddling".into(), ..nurses() };
    let mut follower = Follower::of(server.config(vec![view])).await;
    assert!(follower.try_pass(&Ask::Everything).await.is_err());
    let count: i64 = sqlx::query_scalar("select count(*) from nurses").fetch_one(&server.pool).await.unwrap();
    assert_eq!(count, 23);
}
