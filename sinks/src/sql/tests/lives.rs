//! A topic that was made anew: it wins whatever its versions, and those of its former life say nothing. Part of the
//! [suite](super::suite).

use pipeline::log::Offset;
use pipeline::sink::Sink;
use schemas::Key;

use super::rota::*;
use super::suite::NURSES;
use crate::sql::{OnDelete, SqlConfig};

pub(super) async fn the_topic_wins_in_a_sweep(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900), ward("icu", 901), ward("old", 902)]).await;
    runner.apply(&[gone("ward", &["lost"], 903)]).await;

    // The topic was made anew, with lower versions, and without `old`.
    let mut runner = in_summer(config(target)).await;
    let swept = runner.apply(&[ward("er", 5), gone("ward", &["icu"], 6)]).await.counts;
    assert_eq!(swept.delivered, 2);
    let held: Vec<_> =
        runner.held("ward", 0, None, 10).await.into_iter().map(|held| (held.key, held.version.0)).collect();
    assert_eq!(held, [(Key::from("er"), 5), (Key::from("old"), 902)]);

    runner.apply(&[gone("ward", &["old"], 7)]).await;
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.sweeping = false;
    runner.apply(&[ward("icu", 8), ward("lost", 9)]).await;
    assert_eq!(target.rows("select id from wards order by id").await, ["er", "icu", "lost"]);
}

/// The clock may be behind what it was: a key that comes back would be taken for stale.
pub(super) async fn a_sweep_of_an_empty_topic_forgets_what_was_deleted(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[gone("ward", &["er"], 903)]).await;
    let mut runner = Runner::with(config(target), 2).await;
    runner.incarnation = "summer";
    runner.next.clear();
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.apply(&[ward("er", 9)]).await;
    assert_eq!(target.rows("select id from wards order by id").await, ["er"]);
}

/// The newer one of two changes decides, but for versions of another life.
pub(super) async fn what_waited_in_another_life_gives_way_to_a_sweep(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    assert_eq!(runner.apply(&[mentored("ann", "bea", 903)]).await.counts.parked, 1);
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[nurse("ann", "Anna", None, 5)]).await;
    runner.sweeping = false;
    runner.apply(&[nurse("bea", "Bea", None, 6)]).await;
    runner.sink.retry_parked().await.unwrap();
    assert_eq!(target.rows(NURSES).await, ["ann Anna -", "bea Bea -"]);
}

pub(super) async fn what_waits_since_a_sweep_gives_way_to_anything_newer(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("ann", "Ann", None, 903), nurse("bea", "Bea", None, 904)]).await;
    let mut runner = in_summer(config(target)).await;
    assert_eq!(runner.apply(&[mentored("ann", "cleo", 5), mentored("bea", "cleo", 5)]).await.counts.parked, 2);
    for partition in 0..NURSE_PARTITIONS {
        runner.sink.swept(&runner.of("nurse", partition)).await.unwrap();
    }
    runner.sweeping = false;
    // One that can be written, and one that waits for somebody else.
    let newer = runner.apply(&[nurse("ann", "Anna", None, 6), mentored("bea", "dora", 6)]).await.counts;
    assert_eq!((newer.delivered, newer.parked), (1, 1));
    runner.apply(&[nurse("dora", "Dora", None, 7)]).await;
    runner.sink.retry_parked().await.unwrap();
    let nurses = "select id, name, mentor_id from nurses order by id";
    assert_eq!(target.rows(nurses).await, ["ann Anna -", "bea bea dora", "dora Dora -"]);
}

pub(super) async fn what_a_sweep_could_not_take_gives_way_to_anything_newer(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900), ward("icu", 900)]).await;
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[ward("icu", 5)]).await;
    runner.sink.outdate(&runner.of("ward", 0), &[Key::from("er")]).await.unwrap();
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.sweeping = false;
    let newer = put("ward", &["er"], 6, serde_json::json!({"id": "er", "title": "Emergency"}));
    assert_eq!(runner.apply(&[newer, ward("icu", 4)]).await.counts.stale, 1, "of `icu` this life's version is known");
    assert_eq!(target.rows("select title from wards order by id").await, ["Emergency", "Ward icu"]);
}

/// What is marked as deleted isn't there; but its version would stand in the way for ever.
pub(super) async fn what_was_marked_in_another_life_can_come_back(target: &dyn Target) {
    let softly = || {
        let mut config = config(target);
        let deleted_date = OnDelete::Soft { column: "deleted_date".to_owned(), value: None };
        change(&mut config, "ward", |ward| ward.on_delete = Some(deleted_date));
        config
    };
    let mut runner = Runner::with(softly(), 1).await;
    runner.apply(&[ward("er", 900), ward("icu", 901)]).await;
    runner.apply(&[gone("ward", &["er"], 902)]).await;
    let mut runner = in_summer(softly()).await;
    runner.apply(&[ward("icu", 5)]).await;
    let held = runner.held("ward", 0, None, 9).await;
    let marked: Vec<Key> = held.into_iter().filter(|held| held.gone).map(|held| held.key).collect();
    assert_eq!(marked, [Key::from("er")]);
    runner.sink.outdate(&runner.of("ward", 0), &marked).await.unwrap();
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.sweeping = false;
    runner.apply(&[ward("er", 6)]).await;
    assert_eq!(target.rows("select id from wards where deleted_date is null order by id").await, ["er", "icu"]);
}

/// Rows of a former life that wait, and deletes, would be carried out in the middle of the new one.
pub(super) async fn what_waits_in_a_former_life_is_forgotten(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900), nurse("ann", "Ann", None, 900), shift("ann", "er", "", "", 900)]).await;
    let waiting = runner.apply(&[mentored("cleo", "bea", 901), gone("ward", &["er"], 902)]).await.counts;
    assert_eq!(waiting.parked, 2);
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[nurse("eve", "Eve", None, 5), ward("icu", 5), nurse("bea", "Bea", None, 5)]).await;
    runner.apply(&[gone("shift", &["ann", "er", ""], 6)]).await;
    assert_eq!(runner.sink.retry_parked().await.unwrap().waiting, 0);
    assert_eq!(target.rows("select id from wards order by id").await, ["er", "icu"]);
    assert_eq!(target.rows("select id from nurses order by id").await, ["ann", "bea", "eve"]);
}

/// Its delete has the version 0: whatever is there must be older.
pub(super) async fn what_a_sweep_could_not_delete_can_be_deleted_later(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900), nurse("ann", "Ann", None, 900), shift("ann", "er", "", "", 900)]).await;
    let mut runner = in_summer(config(target)).await;
    let delete = gone("ward", &["er"], 0);
    assert_eq!(runner.apply(std::slice::from_ref(&delete)).await.counts.parked, 1);
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    // It has waited for too long, and its letter is replayed.
    let expired = pipeline::sink::Rejected {
        at: runner.of("ward", 0).at(),
        key: delete.delivery.key.clone(),
        version: delete.delivery.version,
        reason: pipeline::reject::Reason::new("still_referred_to", "a shift"),
    };
    runner.sink.forget_parked(&[expired]).await.unwrap();
    runner.apply(&[gone("shift", &["ann", "er", ""], 6)]).await;
    runner.sweeping = false;
    assert_eq!(runner.apply(&[delete]).await.counts.delivered, 1);
    assert!(target.rows("select id from wards").await.is_empty());
}

/// Whoever begins it again knows nothing of what was refused.
pub(super) async fn a_sweep_that_begins_again_takes_nothing_for_written(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900)]).await;
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[ward("er", 5)]).await;
    target.execute("delete from wards").await;
    let mut runner = Runner::with(config(target), 3).await;
    assert!(runner.next[&(topic("ward").to_owned(), 0)] < 0, "its offset says nothing");
    runner.incarnation = "summer";
    runner.sweeping = true;
    runner.next.clear();
    assert_eq!(runner.apply(&[ward("er", 5)]).await.counts.delivered, 1);
}

/// A rule came after the row, which breaks it: nothing that touches the row succeeds, and nothing else waits for it.
pub(super) async fn rows_that_nobody_can_touch_keep_their_versions(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900), ward("icu", 900)]).await;
    target.execute(&frozen(target, "er")).await;
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[ward("lab", 5)]).await;
    runner.sink.outdate(&runner.of("ward", 0), &[Key::from("er"), Key::from("icu")]).await.unwrap();
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.sweeping = false;
    assert_eq!(runner.apply(&[ward("icu", 6)]).await.counts.delivered, 1);
}

/// A trigger that lets nobody change a ward.
fn frozen(target: &dyn Target, id: &str) -> String {
    if target.url().starts_with("sqlite") {
        return format!(
            "create trigger frozen before update on wards when old.id = '{id}' begin select raise(abort, 'frozen'); end"
        );
    }
    format!(
        "create function frozen() returns trigger language plpgsql as $$ begin \
             if old.id = '{id}' then raise check_violation; end if; return new; end $$; \
         create trigger frozen before update on wards for each row execute function frozen()"
    )
}

/// The topics were made anew; the next owner begins to compare.
async fn in_summer(config: SqlConfig) -> Runner {
    let mut runner = Runner::with(config, 2).await;
    runner.incarnation = "summer";
    runner.sweeping = true;
    runner.next.clear();
    runner
}

pub(super) async fn a_sweep_goes_on_after_a_restart(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900)]).await;
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[ward("er", 5)]).await;
    let Some(stored) = stored(&runner).await else { panic!("something was stored") };
    assert!(stored.sweeping && stored.incarnation.0 == "summer" && stored.next.0 == 1 && stored.at_ms > 0);
    // The same batch again is an answer that was lost; the next one goes on.
    runner.apply(&[ward("icu", 6)]).await;
}

async fn stored(runner: &Runner) -> Option<pipeline::sink::Stored> {
    let of = runner.of("ward", 0);
    match runner.sink.assigned(std::slice::from_ref(&of)).await.unwrap() {
        pipeline::sink::Resume::Own(stored) => stored[&of.at()].clone(),
        pipeline::sink::Resume::GroupOffsets => None,
    }
}

pub(super) async fn what_stands_below_an_offset_is_kept_with_it(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let landmark = async |runner: &Runner| stored(runner).await.and_then(|stored| stored.landmark);
    assert_eq!(landmark(&runner).await, None);
    runner.apply(&[ward("er", 900), ward("icu", 901)]).await;
    assert_eq!(landmark(&runner).await, Some(landmark_below(Offset(2))));
    // Another life, and behind its sweep.
    let mut runner = in_summer(config(target)).await;
    runner.apply(&[ward("er", 5)]).await;
    runner.sink.swept(&runner.of("ward", 0)).await.unwrap();
    runner.sweeping = false;
    assert_eq!(landmark(&runner).await, Some(landmark_below(Offset(1))));
    runner.apply(&[ward("icu", 6)]).await;
    assert_eq!(landmark(&runner).await, Some(landmark_below(Offset(2))));
}

/// It was made before prints were kept.
pub(super) async fn a_target_that_has_kept_no_prints_goes_on(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("er", 900)]).await;
    let own = if target.url().starts_with("sqlite") { "muster_" } else { "muster." };
    target.execute(&format!("alter table {own}offsets drop column print")).await;
    target.execute(&format!("delete from {own}sink_migrations where version = 3")).await;
    let mut runner = Runner::with(config(target), 2).await;
    let before = stored(&runner).await.unwrap();
    assert_eq!((before.next, before.landmark), (Offset(1), None));
    runner.apply(&[ward("icu", 901)]).await;
    assert_eq!(stored(&runner).await.unwrap().landmark, Some(landmark_below(Offset(2))));
}
