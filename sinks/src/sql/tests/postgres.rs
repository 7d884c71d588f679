//! The suite on a real PostgreSQL, and what goes wrong with servers only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pipeline::sink::SinkError;
use serde_json::json;
use services::TestDatabase;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};
use tokio::net::TcpListener;

use super::proxy::forgetful_proxy;
use super::rota::*;
use super::round_trip::{Reading, canonical, comes_back};
use crate::sql::{DatabaseUrl, SqlConfig, SqlSink, TableMapping, Versions};

struct Server {
    database: TestDatabase,
    pool: PgPool,
    versions: Versions,
}

impl Server {
    /// `None`: there is no PostgreSQL here, and that has been said.
    async fn new() -> Option<Self> {
        let postgres = services::postgres().await.unwrap()?;
        let database = postgres.database("rota").await.unwrap();
        let pool = PgPool::connect(&database.url).await.unwrap();
        Some(Self { database, pool, versions: Versions::Column })
    }

    /// Its tables allow no column of ours.
    async fn beside() -> Option<Self> {
        Some(Self { versions: Versions::Side, ..Self::new().await? })
    }

    /// The rota on a server that answers nurses called `Trouble` with this SQLSTATE, by way of a trigger.
    async fn with_trouble(state: &str) -> Option<(Self, Runner)> {
        let server = Self::new().await?;
        let runner = Runner::start(&server).await;
        server
            .execute(&format!(
                "create function trouble() returns trigger language plpgsql as $$ begin
                    if new.name = 'Trouble' then raise exception 'about %', new.name using errcode = '{state}'; end if;
                    return new; end $$;
                create trigger trouble before insert or update on nurses for each row execute function trouble()"
            ))
            .await;
        Some((server, runner))
    }
}

#[async_trait]
impl Target for Server {
    fn url(&self) -> String {
        self.database.url.clone()
    }

    fn versions(&self) -> Versions {
        self.versions
    }

    async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await.unwrap();
        let text =
            |row: &PgRow, at: usize| row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or("-".to_owned());
        rows.iter().map(|row| (0..row.columns().len()).map(|at| text(row, at)).collect::<Vec<_>>().join(" ")).collect()
    }
}

mod column {
    crate::sql::tests::suite::conformance!(super::Server::new().await);
}

mod beside {
    crate::sql::tests::suite::conformance!(super::Server::beside().await);
}

fn is_unavailable<T>(result: &Result<T, SinkError>, what: &str) -> bool {
    matches!(result, Err(error @ SinkError::Unavailable { .. }) if error.to_string().contains(what))
}

#[tokio::test]
async fn bad_values_are_named_by_column_and_never_shown() {
    let Some(server) = Server::new().await else { return };
    server.execute("create table nurses (id uuid primary key, name varchar(5), number numeric(3), mentor_id uuid, is_open boolean)").await;
    let mut config = config(&server);
    change(&mut config, "nurse", |nurse| nurse.unique.clear());
    let sink = SqlSink::of("rota", &config, &subjects()).unwrap();
    let refusals: Vec<String> = sink.plan().await.unwrap().refused.iter().map(ToString::to_string).collect();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].starts_with("nurses.number: is numeric(3,0)"), "{refusals:?}");
    server.execute("alter table nurses alter number type uuid using null").await;

    let id = |n: u32| format!("00000000-0000-4000-8000-{n:012}");
    let mut runner = Runner::with(config, 1).await;
    let told: Vec<_> = (0..40)
        .map(|n| match n {
            7 => nurse("not-a-uuid", "Ann", None, 1),
            8 => nurse(&id(8), "Annabella", None, 1),
            9 => nurse(&id(9), "Nul\0", None, 1),
            10 => nurse(&id(10), "Bea", Some("seventy"), 1),
            n => nurse(&id(n), "Ann", None, 1),
        })
        .collect();
    let mut rejected: Vec<_> =
        runner.rejected(&told).await.into_iter().map(|rejected| rejected.reason.to_string()).collect();
    rejected.sort();
    assert_eq!(
        rejected,
        [
            "value_refused: nurses.id takes uuid only",
            "value_refused: nurses.name holds a NUL character, which PostgreSQL can't store",
            "value_refused: nurses.name takes at most 5 characters",
            "value_refused: nurses.number takes uuid only",
        ]
    );
}

#[tokio::test]
async fn who_must_wait_and_who_must_act() {
    for (state, waits) in [
        ("53100", true),
        ("25006", true),
        ("57P01", true),
        ("55P03", true),
        ("28P01", false),
        ("42501", false),
        ("42703", false),
    ] {
        let Some((server, mut runner)) = Server::with_trouble(state).await else { return };
        let result = runner.try_apply(&[nurse("ann", "Ann", None, 1), nurse("tom", "Trouble", None, 1)]).await;
        let as_told = match &result {
            Err(SinkError::Unavailable { .. }) => waits,
            Err(SinkError::Refused { hint, .. }) => !waits && !hint.is_empty(),
            _ => false,
        };
        assert!(as_told, "{state}: {result:?}");
        assert!(server.rows("select id from nurses").await.is_empty(), "{state}: nothing is written");
        assert_eq!(runner.apply(&[nurse("ann", "Ann", None, 1)]).await.counts.delivered, 1, "{state}: and it goes on");
    }
}

#[tokio::test]
async fn a_trigger_that_refuses_a_row_costs_the_row_and_is_not_quoted() {
    let Some((_server, mut runner)) = Server::with_trouble("P0001").await else { return };
    let rejected = runner.rejected(&[nurse("ann", "Ann", None, 1), nurse("tom", "Trouble", None, 1)]).await;
    assert_eq!(rejected.len(), 1);
    assert!(!rejected[0].reason.text.contains("Trouble"), "{}", rejected[0].reason);
}

/// Fails when a table that was made behind a savepoint is believed to be there after it was rolled back (`relation
/// pg_temp.… does not exist`), which is how a load of the whole register once stopped.
#[tokio::test]
async fn many_rows_go_by_way_of_a_temporary_table_also_around_bad_ones() {
    let Some((server, mut runner)) = Server::with_trouble("P0001").await else { return };
    let mut all: Vec<_> = (0..40).map(|n| nurse(&format!("n{n:02}"), "Nora", None, 1)).collect();
    all[17] = nurse("n17", "Trouble", None, 1);
    assert_eq!(runner.rejected(&all).await.len(), 1);
    all.remove(17);
    assert_eq!(runner.apply(&all).await.counts.delivered, 39);
    let staged = "select count(*) from pg_class where relname like 'muster\\_stage\\_%' and relpersistence = 't'";
    assert_eq!(server.rows(staged).await, ["1"]);
    let again: Vec<_> = (0..40).map(|n| nurse(&format!("n{n:02}"), "Nora B.", None, 2)).collect();
    assert_eq!(runner.apply(&again).await.counts.delivered, 40);
    assert_eq!(server.rows("select count(*) from nurses where name = 'Nora B.'").await, ["40"]);
}

#[tokio::test]
async fn after_a_serialization_failure_the_same_batch_is_tried_again() {
    let Some((server, mut runner)) = Server::with_trouble("40001").await else { return };
    let told = [nurse("tom", "Trouble", None, 1)];
    let contended = runner.try_apply(&told).await;
    assert!(matches!(contended, Err(SinkError::Contended { .. })), "{contended:?}");
    // The second attempt finds it healed.
    server
        .execute(
            "create sequence attempts;
            create or replace function trouble() returns trigger language plpgsql as $$ begin
                if nextval('attempts') < 3 then raise exception 'again' using errcode = '40001'; end if;
                return new; end $$",
        )
        .await;
    assert_eq!(runner.apply(&told).await.counts.delivered, 1);
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let Some(server) = Server::new().await else { return };
    let mut runner = Runner::start(&server).await;
    runner.apply(&[ward("er", 1), ward("icu", 1)]).await;
    server.execute(&format!("alter database {} set deadlock_timeout = '50ms'", database_name(&server))).await;

    // Somebody locks the wards in the other order. We have `er` and wait for `icu`; they then want `er`.
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    // Who waits for longest is cut off: they check late, so that it's us.
    sqlx::raw_sql("set deadlock_timeout = '1h'; begin; select from wards where id = 'icu' for update")
        .execute(&mut other)
        .await
        .unwrap();
    let mut config = config(&server);
    config.connections = 1;
    let mut runner2 = Runner::with(config, 2).await;
    let ours = tokio::spawn(async move { runner2.apply(&[ward("er", 2), ward("icu", 2)]).await.counts });
    let waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    while server.rows(waits).await.is_empty() {}
    sqlx::raw_sql("select from wards where id = 'er' for update; commit").execute(&mut other).await.unwrap();
    assert_eq!(ours.await.unwrap().delivered, 2);
}

fn database_name(server: &Server) -> &str {
    server.database.url.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn a_slow_statement_and_a_foreign_lock_are_cut_off() {
    let Some(server) = Server::new().await else { return };
    let mut limits = config(&server);
    limits.lock_timeout = Duration::from_millis(100);
    let mut runner = Runner::with(limits.clone(), 1).await;
    runner.apply(&[ward("icu", 1)]).await;
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("begin; lock table wards in exclusive mode").execute(&mut other).await.unwrap();
    assert!(is_unavailable(&runner.try_apply(&[ward("icu", 2)]).await, "lock"));
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();

    limits.statement_timeout = Duration::from_millis(100);
    limits.lock_timeout = Duration::from_secs(10);
    let mut runner = Runner::with(limits, 2).await;
    server
        .execute(
            "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$;
            create trigger slow before update on wards for each row execute function slow()",
        )
        .await;
    assert!(is_unavailable(&runner.try_apply(&[ward("icu", 2)]).await, "time-out"));
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for() {
    let Some(server) = Server::new().await else { return };
    let mut runner = Runner::start(&server).await;
    runner.apply(&[ward("icu", 1)]).await;
    server
        .execute(
            "create function cut() returns trigger language plpgsql as $$ begin
            perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
        create trigger cut before update on wards for each row execute function cut()",
        )
        .await;
    let told = [ward("icu", 2)];
    assert!(matches!(runner.try_apply(&told).await, Err(SinkError::Unavailable { .. })));
    server.execute("drop trigger cut on wards").await;
    assert_eq!(runner.apply(&told).await.counts.delivered, 1);
}

#[tokio::test]
async fn a_read_only_database_is_waited_for() {
    let Some(server) = Server::new().await else { return };
    let mut runner = Runner::start(&server).await;
    runner.apply(&[ward("icu", 1)]).await;
    // The pool's connections learn of it when they are made anew, as after a failover.
    server.execute(&format!("alter database {} set default_transaction_read_only = on", database_name(&server))).await;
    server.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'muster rota' and datname = current_database()").await;
    let told = [ward("icu", 2)];
    let mut refusal = runner.try_apply(&told).await;
    while is_unavailable(&refusal, "connection broke") || is_unavailable(&refusal, "stopping") {
        refusal = runner.try_apply(&told).await;
    }
    assert!(is_unavailable(&refusal, "read-only"), "{refusal:?}");
}

#[tokio::test]
async fn who_may_not_is_told_what_to_grant() {
    let Some(server) = Server::new().await else { return };
    let mut runner = Runner::start(&server).await;
    runner.apply(&[ward("icu", 1)]).await;
    let role = format!("reader_of_{}", database_name(&server));
    let role = &role[..role.len().min(60)];
    server.execute(&format!("create role {role} login; grant usage on schema muster to {role}; grant select, update, insert on all tables in schema muster to {role}")).await;
    let mut config = config(&server);
    config.url = DatabaseUrl::new(server.url().replace("://muster@", &format!("://{role}@")));
    let mut reader = Runner::with(config.clone(), 2).await;
    let refused = reader.try_apply(&[ward("icu", 2)]).await;
    assert!(
        matches!(&refused, Err(SinkError::Refused { reason, hint, .. }) if reason.contains("wards") && hint.contains("grant")),
        "{refused:?}"
    );
    drop(reader);
    server.execute(&format!("drop owned by {role}; drop role {role}")).await;
    // Nobody of that name any more: the same answer as for a wrong password.
    let unknown = Runner::try_with(config, 3).await.err();
    assert!(matches!(&unknown, Some(SinkError::Refused { hint, .. }) if hint.contains("password")), "{unknown:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = DatabaseUrl::new(format!("postgres://muster:secret@127.0.0.1:{port}/rota"));
    let mut config = SqlConfig::new(url, Vec::new());
    config.connect_timeout = Duration::from_millis(100);
    let sink = SqlSink::of("rota", &config, &subjects()).unwrap();
    let answer = sink.plan().await;
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
    assert!(!format!("{answer:?} {config:?}").contains("secret"));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let Some(server) = Server::new().await else { return };
    let address = server.url();
    let address = address.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let loses_commit = Arc::new(AtomicBool::new(false));
    let port = forgetful_proxy(&address, loses_commit.clone()).await;
    let mut config = config(&server);
    config.url = DatabaseUrl::new(server.url().replace(&address, &format!("127.0.0.1:{port}")));
    let mut runner = Runner::with(config, 1).await;

    let told = [ward("icu", 1), nurse("ann", "Ann", None, 1)];
    loses_commit.store(true, Ordering::SeqCst);
    let lost = runner.try_apply(&told).await;
    assert!(matches!(lost, Err(SinkError::Unavailable { .. })), "{lost:?}");
    assert_eq!(server.rows("select id from wards").await, ["icu"], "it was written all the same");
    let again = runner.apply(&told).await.counts;
    assert_eq!((again.unchanged, again.delivered), (2, 0));
    assert_eq!(runner.apply(&[ward("er", 1)]).await.counts.delivered, 1, "and the next batch follows");
}

#[tokio::test]
async fn a_table_with_types_of_its_own_is_written() {
    let Some(server) = Server::new().await else { return };
    server.execute("create type mood as enum ('glad', 'tired');
        create table wards (id uuid primary key, title mood);
        create table nurses (id uuid primary key, name citext_or_text, number varchar(9), mentor_id uuid, is_open boolean)".replace("citext_or_text", "char(8)").as_str()).await;
    let id = "00000000-0000-4000-8000-00000000000a";
    let mut runner = Runner::start(&server).await;
    let told = put("ward", &[id], 1, json!({"id": id.to_uppercase(), "title": "glad"}));
    runner.apply(&[told, nurse(id, "Ann", None, 1)]).await;
    assert_eq!(server.rows("select id, title from wards").await, [format!("{id} glad")]);
    let other = "00000000-0000-4000-8000-00000000000b";
    let rejected = runner.rejected(&[put("ward", &["b"], 1, json!({"id": other, "title": "furious"}))]).await;
    assert_eq!(rejected[0].reason.to_string(), "value_refused: wards.title takes mood only");
    // A uuid column refers to a uuid column, whatever the key's text looks like.
    runner.apply(&[put("shift", &["s"], 1, json!({"id": "s", "nurse_id": id, "ward_id": id}))]).await;
    assert_eq!(server.rows("select ward_id from shifts").await, [id]);
}

#[async_trait]
impl Reading for Server {
    async fn everything(&self) -> Vec<Vec<Option<String>>> {
        let sql = r#"select id, flag::text, few, many, coarse, fine, words, encode(raw, 'hex'), uuid, day,
            to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            to_char(local, 'YYYY-MM-DD"T"HH24:MI:SS.US'), price, mood, list, map, part from everything order by id"#;
        let rows = sqlx::raw_sql(sql).fetch_all(&self.pool).await.unwrap();
        let column = |row: &PgRow, at: usize| {
            let text = row.try_get_unchecked::<Option<String>, _>(at).unwrap();
            text.map(|text| match at {
                4 | 5 => canonical(text.parse().unwrap()),
                // Blanks and the order of keys are the database's own.
                14..=16 => serde_json::from_str::<serde_json::Value>(&text).unwrap().to_string(),
                _ => text,
            })
        };
        rows.iter().map(|row| (0..row.columns().len()).map(|at| column(row, at)).collect()).collect()
    }
}

#[tokio::test]
async fn values_come_back() {
    let Some(server) = Server::new().await else { return };
    comes_back(&server).await;
}

#[tokio::test]
async fn the_register_takes_in_what_is_there() {
    for target in [Server::new().await, Server::beside().await] {
        let Some(server) = target else { return };
        super::register::the_register_takes_in_what_is_there(&server).await;
    }
}

#[tokio::test]
async fn the_register_makes_its_own_tables() {
    let Some(server) = Server::new().await else { return };
    super::register::the_register_makes_its_own_tables(&server).await;
}

#[tokio::test]
async fn a_look_says_what_is_missing_and_what_is_not_allowed() {
    let Some(server) = Server::new().await else { return };
    let sink = SqlSink::of("rota", &config(&server), &subjects()).unwrap();
    let probe = sink.probe().await.unwrap();
    assert!(probe.version.starts_with("PostgreSQL ") && probe.denied.is_empty(), "{probe:?}");
    assert!((chrono::Utc::now() - probe.now.unwrap()).abs() < chrono::TimeDelta::minutes(1));
    assert!(!probe.plan.statements.is_empty());
    assert_eq!(server.rows("select count(*)::text from pg_tables where schemaname = 'public'").await, ["0"]);

    sink.apply_plan().await.unwrap();
    let role = format!("visitor_{}", std::process::id());
    server
        .execute(&format!(
            "create role {role}; grant usage on schema public, muster to {role};
             grant select, insert on all tables in schema public, muster to {role};
             alter table wards drop column title"
        ))
        .await;
    let mut config = config(&server);
    let with = if server.url().contains('?') { '&' } else { '?' };
    config.url = DatabaseUrl::new(format!("{}{with}options=-c%20role%3D{role}", server.url()));
    let probe = SqlSink::of("rota", &config, &subjects()).unwrap().probe().await.unwrap();
    server.execute(&format!("drop owned by {role}; drop role {role}")).await;
    assert_eq!(probe.plan.statements.len(), 1);
    for denied in [format!("{role} may not update, delete on public.wards"), format!("{role} doesn't own public.wards")]
    {
        assert!(probe.denied.contains(&denied), "{:#?}", probe.denied);
    }
}

#[tokio::test]
async fn identities_of_every_kind_are_asked_for() {
    let kinds = [
        "id bigserial primary key",
        "id integer generated always as identity primary key",
        "id uuid primary key default gen_random_uuid()",
    ];
    for kind in kinds {
        let Some(server) = Server::beside().await else { return };
        server.execute(&format!("create table wards ({kind}, code varchar(9), title varchar(40))")).await;
        let mut ward = TableMapping::new("ward", topic("ward"), "wards", "id");
        let column = |name: &str, column: &str| (name.to_owned(), column.to_owned());
        ward.columns = Some([column("id", "code"), column("title", "title")].into());
        let config =
            SqlConfig { versions: Versions::Side, ..SqlConfig::new(DatabaseUrl::new(server.url()), vec![ward]) };
        let mut runner = Runner::with(config, 1).await;
        runner.apply(&[super::rota::ward("er", 1), super::rota::ward("icu", 1)]).await;
        runner.apply(&[super::rota::ward("er", 2), gone("ward", &["icu"], 2)]).await;
        assert_eq!(server.rows("select code from wards").await, ["er"], "{kind}");
        let known = "select o.version from muster.rows o join wards w on w.id::text = o.identity";
        assert_eq!(server.rows(known).await, ["2"], "{kind}");
    }
}
