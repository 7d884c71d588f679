//! Feeds whose records say themselves what they are: schemas that grow while a system runs, feeds that are left out, and
//! comparisons that bring only what differs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::{World, ask, key, new_topic};
use pipeline::change::Change;
use pipeline::clock::{Clock, VirtualClock};
use pipeline::log::Log;
use pipeline::reject::{Reason, Reject};
use pipeline::run::{Feed, Mode, RunError, Standing, System, Vanished};
use pipeline::schedule::Schedule;
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use pipeline::state::RequestKind;
use schemas::{Profile, Schema, TableTopic, Topic};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "rota.nurse";

#[derive(Default)]
struct State {
    /// Fields beside `id`.
    fields: Vec<&'static str>,
    /// Those of the schema that was asked for last.
    known: Option<Vec<&'static str>>,
    rows: Vec<&'static str>,
    /// What a comparison finds gone.
    gone: Option<Vec<&'static str>>,
    refuses: bool,
    away: bool,
    /// Every read finds other columns than the look before it.
    never_rests: bool,
    announced: Vec<usize>,
    passes: Vec<(Ask, bool)>,
}

/// A table in memory. Clones are the same table.
#[derive(Clone)]
struct Table {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
}

impl Table {
    fn new(world: &World, rows: &[&'static str]) -> Self {
        let state = State { rows: rows.to_vec(), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), clock: world.clock.clone() }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn feed(&self, topic: &str) -> Feed {
        Feed {
            topic: table_topic(topic),
            source: Box::new(self.clone()),
            schedule: Schedule::Every(Duration::from_secs(60)),
            reconcile: Some(Schedule::Every(Duration::from_secs(600))),
            vanished: Vanished::Delete { max_share: 1.0 },
        }
    }
}

fn table_topic(name: &str) -> Arc<Topic> {
    let entity = name.strip_prefix("rota.").unwrap().to_owned();
    Arc::new(
        Topic::of_table(TableTopic {
            name: name.to_owned(),
            system: "rota".to_owned(),
            entity,
            key_fields: vec!["id".to_owned()],
            group_fields: 1,
            one_partition: true,
        })
        .unwrap(),
    )
}

#[async_trait]
impl Source for Table {
    async fn schema(&mut self, announced: &[Arc<Schema>]) -> Result<Option<Arc<Schema>>, SourceError> {
        let mut state = self.state.lock().unwrap();
        if state.away {
            return Err(SourceError::Unavailable { system: "rota".into(), reason: "away".into(), retry_after: None });
        }
        if state.refuses {
            let (reason, hint) = ("grade was long and is string".into(), "leave it out".into());
            return Err(SourceError::Refused { system: "rota".into(), reason, hint });
        }
        state.announced.push(announced.len());
        state.known = Some(state.fields.clone());
        let nullable =
            state.fields.iter().map(|name| json!({"name": name, "type": ["null", "string"], "default": null}));
        let fields: Vec<_> = std::iter::once(json!({"name": "id", "type": "string"})).chain(nullable).collect();
        let text = json!({"type": "record", "name": "muster.rota.nurse", "fields": fields});
        Ok(Some(Arc::new(Schema::parse(&text.to_string()).unwrap())))
    }

    fn compares(&self) -> bool {
        true
    }

    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        let mut state = self.state.lock().unwrap();
        if state.never_rests || state.known.as_ref() != Some(&state.fields) {
            return Err(SourceError::Evolved { system: "rota".into(), reason: "other columns".into() });
        }
        state.passes.push((ask.clone(), after.is_some()));
        let put = |id: &&str| {
            let mut body = vec![(id.len() * 2) as u8];
            body.extend(id.as_bytes());
            body.extend(state.fields.iter().map(|_| 0));
            Change::Put { key: key(id), body: Bytes::from(body), time: None }
        };
        let compared = after.is_some() && *ask == Ask::Everything && state.gone.is_some();
        let changes: Vec<Change> = if compared { Vec::new() } else { state.rows.iter().map(put).collect() };
        let gone = state.gone.as_ref().filter(|_| compared).map(|gone| gone.iter().map(|id| key(id)).collect());
        Ok(Page {
            read: changes.len() as u64,
            changes,
            rejects: Vec::new(),
            superseded: 0,
            next: Position(json!("end")),
            end: true,
            captured: self.clock.now(),
            complete_to: Some(self.clock.now()),
            gone,
        })
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        Err(Reject::new(None, Reason::new("none", "nothing"), raw.to_vec()))
    }
}

async fn world(topics: &[&str]) -> World {
    let world = World::new().await;
    let topics: Vec<_> = topics.iter().map(|name| new_topic(&table_topic(name), Profile::Embedded)).collect();
    world.log.create(&topics).await.unwrap();
    world
}

async fn run(world: &World, process: &str, feeds: Vec<Feed>) -> Result<(), RunError> {
    let runtime = world.process(process).await;
    let mut system = System { name: "rota".into(), feeds };
    world.drive(system.run(&runtime, Mode::Once, &CancellationToken::new())).await
}

async fn keys(world: &World, topic: &str) -> Vec<String> {
    let mut keys = std::collections::BTreeSet::new();
    for record in world.records(topic).await {
        let key = common::key_of(&record);
        if record.value.is_some() {
            keys.insert(key)
        } else {
            keys.remove(&key)
        };
    }
    keys.into_iter().collect()
}

#[tokio::test]
async fn a_schema_that_grows_is_announced_and_states_nothing_again() {
    let world = world(&[TOPIC]).await;
    let table = Table::new(&world, &["ann", "bea"]);
    run(&world, "one", vec![table.feed(TOPIC)]).await.unwrap();
    assert_eq!(world.records(TOPIC).await.len(), 2);
    // While the second process runs: between its look and its read.
    table.with(|state| state.rows.push("cleo"));
    let feed = table.feed(TOPIC);
    let late = table.clone();
    let state = world.process("two").await.state;
    table.with(|state| state.fields.push("ward"));
    run(&world, "two", vec![feed]).await.unwrap();
    drop(late);
    assert_eq!(world.records(TOPIC).await.len(), 3, "a field that is null changes nothing");
    table.with(|state| state.fields.push("grade"));
    table.with(|state| state.known = None);
    run(&world, "three", vec![table.feed(TOPIC)]).await.unwrap();
    let announced = state.schemas.announced(TOPIC).await.unwrap();
    assert_eq!(announced.iter().map(|schema| schema.fields().len()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(state.schemas.current(TOPIC).await.unwrap().unwrap().fields().len(), 3);
    assert!(state.schemas.current("rota.nobody").await.unwrap().is_none());
    assert_eq!(table.state.lock().unwrap().announced, [0, 1, 2]);
}

#[tokio::test]
async fn columns_that_change_while_it_runs_are_no_failure_and_columns_that_never_rest_are() {
    let world = world(&[TOPIC]).await;
    let table = Table::new(&world, &["ann"]);
    let runtime = world.process("one").await;
    let mut system = System { name: "rota".into(), feeds: vec![table.feed(TOPIC)] };
    let stop = CancellationToken::new();
    let (records, state) = (&world, runtime.state.clone());
    let watching = async {
        world.until(async || records.records(TOPIC).await.len() == 1).await;
        table.with(|state| {
            state.fields.push("ward");
            state.rows.push("bea");
        });
        world.until(async || records.records(TOPIC).await.len() == 2).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(system.run(&runtime, Mode::Follow, &stop), watching);
    ran.unwrap();
    assert_eq!(state.schemas.announced(TOPIC).await.unwrap().len(), 2);

    table.with(|state| state.never_rests = true);
    let failed = run(&world, "two", vec![table.feed(TOPIC)]).await.unwrap_err();
    assert!(matches!(failed, RunError::Source(SourceError::Evolved { .. })), "{failed}");
}

#[tokio::test]
async fn a_table_that_is_refused_stops_alone_and_is_tried_again_when_asked_for() {
    let world = world(&[TOPIC, "rota.ward"]).await;
    let (nurses, wards) = (Table::new(&world, &["ann"]), Table::new(&world, &["surgery"]));
    nurses.with(|state| state.refuses = true);
    let failed = run(&world, "one", vec![nurses.feed(TOPIC), wards.feed("rota.ward")]).await.unwrap_err();
    assert!(failed.to_string().contains("grade was long and is string"), "{failed}");
    assert_eq!((keys(&world, TOPIC).await, keys(&world, "rota.ward").await), (vec![], vec!["surgery".to_owned()]));

    let runtime = world.process("two").await;
    let mut system = System { name: "rota".into(), feeds: vec![nurses.feed(TOPIC), wards.feed("rota.ward")] };
    let stop = CancellationToken::new();
    let sync = || RequestKind::Sync { window: None, page: None, everything: false };
    let asking = async {
        let answer = ask(&world, &runtime, "1", TOPIC, sync()).await;
        assert!(!answer.done && answer.text.contains("grade was long"), "{}", answer.text);
        world.until(async || matches!(runtime.health.components()["rota"].standing, Standing::Waiting { .. })).await;
        nurses.with(|state| state.refuses = false);
        let answer = ask(&world, &runtime, "2", TOPIC, sync()).await;
        assert!(answer.done, "{}", answer.text);
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(system.run(&runtime, Mode::Follow, &stop), asking);
    ran.unwrap();
    assert_eq!(keys(&world, TOPIC).await, ["ann"]);

    nurses.with(|state| state.refuses = true);
    let alone = run(&world, "three", vec![nurses.feed(TOPIC)]).await;
    assert!(matches!(alone, Err(RunError::Source(SourceError::Refused { .. }))));
    nurses.with(|state| state.away = true);
    let away = run(&world, "four", vec![nurses.feed(TOPIC)]).await;
    assert!(matches!(away, Err(RunError::Source(SourceError::Unavailable { .. }))));
}

#[tokio::test]
async fn what_two_comparisons_find_gone_is_deleted_and_nothing_else() {
    let world = world(&[TOPIC]).await;
    let table = Table::new(&world, &["ann", "bea", "cleo"]);
    let runtime = world.process("one").await;
    // Only what is asked for.
    let never = Schedule::Every(Duration::from_secs(1_000 * 24 * 3600));
    let feed = Feed { schedule: never.clone(), reconcile: Some(never), ..table.feed(TOPIC) };
    let mut system = System { name: "rota".into(), feeds: vec![feed] };
    let stop = CancellationToken::new();
    let everything = || RequestKind::Sync { window: None, page: None, everything: true };
    let asking = async {
        world.until(async || world.records(TOPIC).await.len() == 3).await;
        table.with(|state| {
            state.rows = vec!["ann"];
            state.gone = Some(vec!["bea"]);
        });
        ask(&world, &runtime, "1", TOPIC, everything()).await;
        assert_eq!(keys(&world, TOPIC).await.len(), 3, "gone for the first time");
        table.with(|state| state.gone = Some(Vec::new()));
        ask(&world, &runtime, "2", TOPIC, everything()).await;
        table.with(|state| state.gone = Some(vec!["bea", "nobody"]));
        ask(&world, &runtime, "3", TOPIC, everything()).await;
        assert_eq!(keys(&world, TOPIC).await.len(), 3, "it was there in between");
        let answer = ask(&world, &runtime, "4", TOPIC, everything()).await;
        assert!(answer.text.contains("1 vanished (1 deleted)"), "{}", answer.text);
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(system.run(&runtime, Mode::Follow, &stop), asking);
    ran.unwrap();
    // Cleo wasn't brought, and isn't gone.
    assert_eq!(keys(&world, TOPIC).await, ["ann", "cleo"]);
}

/// Comparisons don't know of what went before the first of them.
#[tokio::test]
async fn what_went_before_the_first_comparison_is_deleted_with_it() {
    let world = world(&[TOPIC]).await;
    let table = Table::new(&world, &["ann", "bea", "cleo"]);
    let runtime = world.process("one").await;
    let never = Schedule::Every(Duration::from_secs(1_000 * 24 * 3600));
    let feed = Feed { schedule: never.clone(), reconcile: Some(never), ..table.feed(TOPIC) };
    let mut system = System { name: "rota".into(), feeds: vec![feed] };
    let stop = CancellationToken::new();
    let sync = |everything| RequestKind::Sync { window: None, page: None, everything };
    let asking = async {
        world.until(async || world.records(TOPIC).await.len() == 3).await;
        table.with(|state| state.rows = vec!["ann"]);
        ask(&world, &runtime, "1", TOPIC, sync(true)).await;
        assert_eq!(keys(&world, TOPIC).await.len(), 3, "not brought for the first time");
        // Bea is back, as she was: no change of hers tells.
        table.with(|state| {
            state.rows = vec!["ann", "bea"];
            state.gone = Some(Vec::new());
        });
        ask(&world, &runtime, "2", TOPIC, sync(false)).await;
        ask(&world, &runtime, "3", TOPIC, sync(true)).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(system.run(&runtime, Mode::Follow, &stop), asking);
    ran.unwrap();
    assert_eq!(keys(&world, TOPIC).await, ["ann", "bea"]);
}
