//! Servers that refuse, are slow, are locked, or die in the middle.

use std::time::Duration;

use services::Postgres;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const NURSES: &str = "create table nurses (id int primary key, name text, updated_at timestamptz default now());
    insert into nurses select n, 'nurse ' || n from generate_series(1, 23) n";

/// A server that answers whoever comes with an error of this state. Its message must not be believed to be harmless.
async fn refusing(state: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut packet = [0; 1024];
            // The wish for encryption, which isn't granted, then the greeting.
            let _ = stream.read(&mut packet).await;
            let _ = stream.write_all(b"N").await;
            let _ = stream.read(&mut packet).await;
            let fields = format!("SFATAL\0VFATAL\0C{state}\0Msomething about user \"muster\"\0\0");
            let mut error = vec![b'E'];
            error.extend((fields.len() as u32 + 4).to_be_bytes());
            error.extend(fields.as_bytes());
            let _ = stream.write_all(&error).await;
        }
    });
    format!("postgres://muster:hunter2@127.0.0.1:{port}/rota")
}

#[tokio::test]
async fn a_password_that_is_wrong_must_be_mended_and_is_never_repeated() {
    for (state, refused) in [("28P01", true), ("28000", true), ("57P03", false), ("53300", false)] {
        let url = DatabaseUrl::new(refusing(state).await);
        let config = TablesConfig::new(url, "rota", vec![nurses()]);
        let error = Follower::begin(config.clone(), Path::new("")).await.err().unwrap();
        assert_eq!(matches!(error, SourceError::Refused { .. }), refused, "{error}");
        assert!(!format!("{error} {config:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn who_is_slow_or_locked_is_waited_for() {
    let Some(server) = Server::new().await else { return };
    server.execute(NURSES).await;
    server.execute("create view slow as select id, name || pg_sleep(60) as name, updated_at from nurses").await;
    let slow = TableConfig { table: "slow".into(), ..nurses() };
    let config = TablesConfig { statement_timeout: Duration::from_millis(300), ..server.config(vec![slow]) };
    let mut follower = Follower::of(config).await;
    let Err(SourceError::Unavailable { reason, .. }) = follower.try_pass(&Ask::Everything).await else { panic!() };
    assert!(reason.contains("statement time-out"), "{reason}");

    let config = TablesConfig { lock_timeout: Duration::from_millis(200), ..server.config(vec![nurses()]) };
    let mut follower = Follower::of(config).await;
    let mut other = PgConnection::connect(&server.database.url).await.unwrap();
    let mut holding = other.begin().await.unwrap();
    sqlx::raw_sql("lock table nurses in access exclusive mode").execute(&mut *holding).await.unwrap();
    let Err(SourceError::Unavailable { reason, .. }) = follower.try_pass(&Ask::Everything).await else { panic!() };
    assert!(reason.contains("lock"), "{reason}");
    holding.rollback().await.unwrap();
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.topic.len(), 23);
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_costs_nothing() {
    let Some(server) = Postgres::own().await.unwrap() else { return };
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql(NURSES).execute(&mut connection).await.unwrap();
    drop(connection);
    let config =
        TablesConfig { page_rows: 5, ..TablesConfig::new(DatabaseUrl::new(server.url()), "rota", vec![nurses()]) };
    let mut follower = Follower::of(config).await;
    assert!(!follower.step(&Ask::Everything).await.unwrap());
    server.kill().await.unwrap();
    let error = follower.step(&Ask::Everything).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable { .. }), "{error}");
    server.restart().await.unwrap();
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len()), (18, 23));
}
