//! The operations database: the same history on SQLite and on a real PostgreSQL, which processes share, and which may be
//! away.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use pipeline::change::Version;
use pipeline::clock::{Clock, VirtualClock};
use pipeline::dead_letters::DeadLetters;
use pipeline::ledger::Counts;
use pipeline::log::memory::{Delivery, MemoryLog};
use pipeline::log::{Append, Headers, Log, NewTopic, TopicPartition};
use pipeline::operations::{
    ExportEnd, ExportStart, LedgerRow, LetterFilter, LetterState, NewToken, Operations, PostgresOptions, RunOutcome,
    RunStart,
};
use pipeline::reject::{Reason, Reject};
use schemas::Key;
use services::TestDatabase;

const LETTERS: &str = "muster.dead-letters";

/// A database, opened by as many processes as a test likes.
enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(TestDatabase),
}

impl Place {
    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None`: there is no PostgreSQL here, and that has been said.
    async fn postgres() -> Option<Self> {
        let postgres = services::postgres().await.unwrap()?;
        Some(Self::Postgres(postgres.database("operations").await.unwrap()))
    }

    async fn open(&self) -> Operations {
        match self {
            Self::Sqlite(folder) => Operations::open(&folder.path().join("operations.sqlite")).await.unwrap(),
            Self::Postgres(database) => Operations::postgres(&PostgresOptions::new(&*database.url)).unwrap(),
        }
    }
}

macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $story() { super::$story(super::Place::sqlite()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $story() {
                let Some(place) = super::Place::postgres().await else { return };
                super::$story(place).await;
            })*
        }
    };
}

on_both!(
    runs_are_told_newest_first,
    an_account_is_written_over_and_texts_may_hold_anything,
    letters_are_listed_settled_and_opened_again,
    the_index_goes_on_where_it_stood,
    two_processes_keep_one_index,
    a_topic_made_anew_is_read_from_its_start,
    what_ended_long_ago_is_forgotten_but_no_open_letter,
    tokens_are_told_without_keys_and_with_what_was_exported,
);

fn morning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2024, 3, 4, 8, 0, 0).unwrap()
}

fn counts(read: u64) -> Counts {
    Counts { read, delivered: read, ..Counts::default() }
}

async fn run(operations: &Operations, id: &str, minute: i64, outcome: RunOutcome) {
    let started = morning() + TimeDelta::minutes(minute);
    let window = Some((started.date_naive(), started.date_naive()));
    operations.begin_run(&RunStart { id, source: "rota.shift", ask: "window", window, started }).await;
    operations.end_run(id, started + TimeDelta::seconds(5), &counts(3), 1, &outcome).await;
}

async fn runs_are_told_newest_first(place: Place) {
    let operations = place.open().await;
    run(&operations, "one", 0, RunOutcome::Success).await;
    run(&operations, "two", 5, RunOutcome::Failed("the rota is closed".into())).await;
    // Begun at the same moment as the one before.
    run(&operations, "three", 5, RunOutcome::CutOff).await;
    let told = place.open().await;
    let runs = told.runs("rota.shift", 10).await.unwrap();
    let ids: Vec<_> = runs.iter().map(|run| (run.id.as_str(), run.success)).collect();
    assert_eq!(ids, [("three", None), ("two", Some(false)), ("one", Some(true))]);
    let last = told.last_success("rota.shift").await.unwrap().unwrap();
    assert_eq!((last.started, last.window_from, last.counts, last.vanished), {
        (morning(), Some(morning().date_naive()), counts(3), 1)
    });
    assert_eq!(told.sources().await.unwrap(), ["rota.shift"]);
    assert_eq!(told.runs("rota.shift", 1).await.unwrap()[0].id, "three");
}

async fn an_account_is_written_over_and_texts_may_hold_anything(place: Place) {
    let operations = place.open().await;
    let mut row = LedgerRow {
        component: "wards \0 of 'Saltmarsh'".into(),
        process: "ward-1".into(),
        since: morning(),
        updated: morning(),
        counts: counts(1),
    };
    operations.write_ledger(&row).await;
    row.counts = counts(u64::from(u32::MAX) * 7);
    operations.write_ledger(&row).await;
    let accounts = place.open().await.ledger().await.unwrap();
    assert_eq!((accounts.len(), accounts[0].counts, accounts[0].since), (1, row.counts, morning()));
    assert!(accounts[0].component.ends_with("of 'Saltmarsh'"));
}

/// A log with the letters' topic, and how many of its records were handed out.
struct Rejects {
    log: MemoryLog,
    clock: Arc<VirtualClock>,
    read: Arc<AtomicU64>,
}

impl Rejects {
    async fn new() -> Self {
        let log = MemoryLog::default();
        let topic = NewTopic { name: LETTERS.into(), partitions: 1, replication: 1, settings: Default::default() };
        log.create(&[topic]).await.unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&read);
        log.set_delivery(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Delivery::Now
        }));
        Self { log, clock: Arc::new(VirtualClock::manual(morning())), read }
    }

    async fn letters(&self, operations: Operations) -> DeadLetters {
        let (log, clock) = (Arc::new(self.log.clone()) as Arc<dyn Log>, Arc::clone(&self.clock) as Arc<dyn Clock>);
        DeadLetters::open(log, operations, clock).await.unwrap()
    }

    /// A shift that the register can't take is set aside.
    async fn reject(&self, letters: &DeadLetters, key: &str, version: i64) -> String {
        let key = Key::of(&[Some(key)]);
        let reject = Reject::new(Some(key), Reason::new("no_ward", "there is no such ward"), b"shift".to_vec());
        let letter = letters.of_record("register", "rota.shift", None, &reject, Version(version));
        letters.write(std::slice::from_ref(&letter)).await.unwrap();
        letter.id
    }
}

async fn open_keys(operations: &Operations) -> Vec<String> {
    let open = LetterFilter { state: Some(LetterState::Open), ..LetterFilter::default() };
    let mut keys: Vec<String> =
        operations.letters(&open, 100).await.unwrap().into_iter().filter_map(|letter| letter.key).collect();
    assert_eq!(operations.count_letters(&open).await.unwrap(), keys.len() as u64);
    keys.sort();
    keys
}

async fn letters_are_listed_settled_and_opened_again(place: Place) {
    let (rejects, operations) = (Rejects::new().await, place.open().await);
    let letters = rejects.letters(operations.clone()).await;
    let early = rejects.reject(&letters, "early", 1).await;
    let late = rejects.reject(&letters, "late", 1).await;
    assert_eq!(open_keys(&operations).await, ["early", "late"]);
    let filter = LetterFilter {
        component: Some("register".into()),
        topic: Some("rota.shift".into()),
        code: Some("no_ward".into()),
        key: Some("late".into()),
        since: Some(morning()),
        until: Some(morning() + TimeDelta::seconds(1)),
        ..LetterFilter::default()
    };
    assert_eq!(operations.letters(&filter, 10).await.unwrap()[0].id, late);
    let (state, letter) = letters.get(&early).await.unwrap().unwrap();
    assert_eq!((state, letter.contents.bytes().unwrap()), (LetterState::Open, b"shift".to_vec()));
    // A newer version settles the older letter, and only of that key.
    assert_eq!(
        letters.delivered("register", "rota.shift", &[("late", Version(2)), ("noon", Version(2))]).await.unwrap(),
        1
    );
    assert_eq!(open_keys(&operations).await, ["early"]);
    letters.settle(&early, LetterState::Dropped).await.unwrap();
    // What was superseded and comes again is open again; what was dropped stays dropped.
    rejects.reject(&letters, "late", 1).await;
    rejects.reject(&letters, "early", 1).await;
    assert_eq!(open_keys(&operations).await, ["late"]);
    assert!(letters.get("nobody").await.unwrap().is_none());
}

async fn the_index_goes_on_where_it_stood(place: Place) {
    let rejects = Rejects::new().await;
    let letters = rejects.letters(place.open().await).await;
    for nurse in 0..20 {
        rejects.reject(&letters, &format!("nurse-{nurse}"), 1).await;
    }
    assert_eq!(rejects.read.load(Ordering::SeqCst), 20);
    // A command, or a process that starts.
    let operations = place.open().await;
    let letters = rejects.letters(operations.clone()).await;
    letters.catch_up().await.unwrap();
    assert_eq!(rejects.read.load(Ordering::SeqCst), 20);
    rejects.reject(&letters, "nurse-20", 1).await;
    assert_eq!(rejects.read.load(Ordering::SeqCst), 21);
    assert_eq!(operations.letters(&LetterFilter::default(), 100).await.unwrap().len(), 21);
}

async fn two_processes_keep_one_index(place: Place) {
    let rejects = Rejects::new().await;
    let (one, two) = (place.open().await, place.open().await);
    let mine = rejects.letters(one.clone()).await;
    let yours = rejects.letters(two.clone()).await;
    let mut all = Vec::new();
    for nurse in 0..30 {
        let (key, letters) = (format!("nurse-{nurse:02}"), if nurse % 2 == 0 { &mine } else { &yours });
        all.push((rejects.reject(letters, &key, 1).await, key));
    }
    assert_eq!(open_keys(&one).await, open_keys(&two).await);
    let settle = async |letters: &DeadLetters, half: usize| {
        for (id, _) in all.iter().skip(half).step_by(2) {
            letters.settle(id, LetterState::Replayed).await.unwrap();
        }
    };
    let (_, _, followed, again) = tokio::join!(settle(&mine, 0), settle(&yours, 1), mine.catch_up(), yours.catch_up());
    followed.unwrap();
    again.unwrap();
    assert!(open_keys(&one).await.is_empty());
    // A third, without an index, learns what became of them from the log alone.
    let alone = Place::sqlite();
    let third = alone.open().await;
    rejects.letters(third.clone()).await.catch_up().await.unwrap();
    assert!(open_keys(&third).await.is_empty());
    assert_eq!(third.letters(&LetterFilter::default(), 100).await.unwrap().len(), 30);
}

async fn a_topic_made_anew_is_read_from_its_start(place: Place) {
    let (old, operations) = (Rejects::new().await, place.open().await);
    let letters = old.letters(operations.clone()).await;
    for nurse in 0..5 {
        old.reject(&letters, &format!("nurse-{nurse}"), 1).await;
    }
    let new = Rejects::new().await;
    let id = new.reject(&new.letters(operations.clone()).await, "porter", 1).await;
    assert_eq!(operations.letter(&id).await.unwrap().unwrap().0.key.as_deref(), Some("porter"));
    // A record that isn't a letter holds nothing up.
    let stray = Append {
        at: TopicPartition::new(LETTERS, 0),
        key: "stray".into(),
        value: Some("{}".into()),
        headers: Headers::default(),
    };
    new.log.append(vec![stray]).await.unwrap();
    new.reject(&new.letters(operations.clone()).await, "matron", 1).await;
    assert!(open_keys(&operations).await.contains(&"matron".to_owned()));
}

async fn what_ended_long_ago_is_forgotten_but_no_open_letter(place: Place) {
    let (rejects, operations) = (Rejects::new().await, place.open().await);
    let letters = rejects.letters(operations.clone()).await;
    run(&operations, "old", 0, RunOutcome::Success).await;
    run(&operations, "new", 60 * 24 * 10, RunOutcome::Success).await;
    let settled = rejects.reject(&letters, "settled", 1).await;
    rejects.reject(&letters, "open", 1).await;
    letters.settle(&settled, LetterState::Dropped).await.unwrap();
    // Who serves exports alone forgets nothing of the others.
    operations.forget_exports(morning() + TimeDelta::days(99)).await.unwrap();
    assert_eq!(operations.runs("rota.shift", 10).await.unwrap().len(), 2);
    operations.forget(morning() + TimeDelta::days(5)).await.unwrap();
    let runs = operations.runs("rota.shift", 10).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(operations.letters(&LetterFilter::default(), 10).await.unwrap().len(), 1);
    assert_eq!(open_keys(&operations).await, ["open"]);
}

async fn tokens_are_told_without_keys_and_with_what_was_exported(place: Place) {
    let operations = place.open().await;
    let token = |label: &str, expires: Option<DateTime<Utc>>| NewToken {
        id: format!("id-{label}"),
        label: label.into(),
        hash: format!("hash-{label}"),
        scopes: vec!["employee_bulk:read_pis".into(), "party_bulk:read_pis".into()],
        created: morning(),
        expires,
    };
    assert!(operations.create_token(&token("odesa", Some(morning()))).await.unwrap());
    assert!(operations.create_token(&token("lviv", None)).await.unwrap());
    assert!(
        !operations.create_token(&NewToken { id: "x".into(), hash: "x".into(), ..token("lviv", None) }).await.unwrap()
    );
    let other = place.open().await;
    assert_eq!(other.live_tokens(morning()).await.unwrap().len(), 1, "the other has expired");
    let before = morning() - TimeDelta::hours(1);
    assert_eq!(other.live_tokens(before).await.unwrap().len(), 2);
    assert!(operations.revoke_token("id-odesa", morning()).await.unwrap());
    let live = other.live_tokens(before).await.unwrap();
    assert_eq!((live.len(), live[0].hash.as_str(), &live[0].scopes), (1, "hash-lviv", &token("lviv", None).scopes));
    let revoked = other.token("odesa").await.unwrap().unwrap();
    assert_eq!((revoked.expires, revoked.revoked), (Some(morning()), Some(morning())));
    for (id, depth, day) in [("one", None, 0), ("two", Some(30), 5)] {
        let export = ExportStart {
            id: id.into(),
            token: "id-lviv".into(),
            label: "lviv".into(),
            resource: "employees".into(),
            depth,
            form: "json",
            coding: "gzip",
            generation: 7,
            expected: 5_000_000_000,
            began: morning() + TimeDelta::days(day),
            request: "worker#1".into(),
        };
        operations.begin_export(&export).await;
    }
    operations.end_export("two", morning() + TimeDelta::days(6), 4_999_999_999, ExportEnd::Slow).await;
    let exports = other.exports("id-lviv", 10).await.unwrap();
    let told: Vec<_> = exports.iter().map(|e| (e.id.as_str(), e.depth, e.bytes, e.status.as_deref())).collect();
    assert_eq!(told, [("two", Some(30), Some(4_999_999_999), Some("slow")), ("one", None, None, None)]);
    operations.forget(morning() + TimeDelta::days(1)).await.unwrap();
    assert_eq!(other.exports("id-lviv", 10).await.unwrap().len(), 1);
    assert_eq!(other.tokens().await.unwrap().len(), 2, "tokens aren't history");
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_schema() {
    let Some(place) = Place::postgres().await else { return };
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let operations = place.open().await;
        starting.spawn(async move { operations.prepare().await });
    }
    for started in starting.join_all().await {
        started.unwrap();
    }
    let operations = place.open().await;
    run(&operations, "one", 0, RunOutcome::Success).await;
    // Somebody forgets everything: nothing else depends on it.
    let Place::Postgres(database) = &place else { unreachable!("opened above") };
    let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
    sqlx::raw_sql("drop schema muster cascade").execute(&pool).await.unwrap();
    run(&operations, "two", 0, RunOutcome::Success).await;
    assert_eq!(operations.runs("rota.shift", 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_that_is_away_holds_nobody_up_and_is_caught_up() -> Result<()> {
    let Some(server) = services::Postgres::own().await? else { return Ok(()) };
    let rejects = Rejects::new().await;
    let operations = Operations::postgres(&PostgresOptions::new(server.url()))?;
    let letters = rejects.letters(operations.clone()).await;
    rejects.reject(&letters, "early", 1).await;
    run(&operations, "before", 0, RunOutcome::Success).await;
    server.kill().await?;
    let began = Instant::now();
    for minute in 1..200 {
        run(&operations, &format!("away-{minute}"), minute, RunOutcome::Success).await;
        letters.delivered("register", "rota.shift", &[("early", Version(2))]).await?;
    }
    rejects.reject(&letters, "late", 1).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(operations.runs("rota.shift", 1).await.is_err() && operations.waiting() == 398);
    server.restart().await?;
    let began = Instant::now();
    while operations.waiting() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} notes still wait", operations.waiting());
        operations.catch_up().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(operations.runs("rota.shift", 1_000).await?.len(), 200);
    letters.catch_up().await?;
    letters.delivered("register", "rota.shift", &[("noon", Version(1))]).await?;
    assert_eq!(open_keys(&operations).await, ["late"]);
    Ok(())
}
