//! What must hold on every database.

use std::time::Duration;

use pipeline::reject::Reason;
use pipeline::sink::{Batch, Sink, SinkError};
use schemas::Key;

pub(super) use super::beside::*;
pub(super) use super::compared::*;
pub(super) use super::contested::*;
pub(super) use super::lives::*;
use super::rota::*;
pub(super) use super::theirs::*;
use crate::sql::{OnDelete, SqlSink};

/// Makes a test of each function for a database; `$target` opens a new one.
macro_rules! suite {
    ($target:expr => $($test:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                let Some(target) = $target else { return };
                crate::sql::tests::suite::$test(&target).await;
            }
        )*
    };
}
pub(super) use suite;

/// The whole suite, for a database whose tables' versions are at one place; `$target` opens a new one.
macro_rules! conformance {
    ($target:expr) => {
        crate::sql::tests::suite::suite!($target =>
            a_replay_changes_nothing,
            a_row_never_goes_back,
            an_empty_batch_moves_offsets,
            a_former_owner_is_fenced,
            a_gap_is_not_skipped,
            a_lost_answer_is_found_out,
            the_topic_wins_in_a_sweep,
            a_sweep_of_an_empty_topic_forgets_what_was_deleted,
            what_waited_in_another_life_gives_way_to_a_sweep,
            what_waits_since_a_sweep_gives_way_to_anything_newer,
            what_a_sweep_could_not_take_gives_way_to_anything_newer,
            what_was_marked_in_another_life_can_come_back,
            what_waits_in_a_former_life_is_forgotten,
            what_a_sweep_could_not_delete_can_be_deleted_later,
            a_sweep_that_begins_again_takes_nothing_for_written,
            rows_that_nobody_can_touch_keep_their_versions,
            a_sweep_goes_on_after_a_restart,
            what_stands_below_an_offset_is_kept_with_it,
            a_target_that_has_kept_no_prints_goes_on,
            a_child_waits_for_its_parents,
            a_parked_row_gives_way_to_a_newer_change,
            who_waits_too_long_becomes_a_letter,
            a_contradiction_waits_until_the_value_is_free,
            rows_that_hold_each_others_values_exchange_them,
            a_row_that_others_refer_to_is_succeeded_by_one_with_its_value,
            many_contradictions_in_one_batch_are_set_aside_and_nothing_else_is,
            one_value_claimed_twice_in_a_batch_is_one_row_and_one_that_waits,
            a_value_of_somebody_elses_is_not_emptied,
            a_row_with_nothing_to_match_is_recognised_by_its_identity,
            a_row_that_waits_for_a_table_nobody_maps_becomes_a_letter,
            one_bad_row_costs_one_row,
            a_malformed_change_is_named,
            what_is_there_already_needs_not_be_read,
            rows_that_are_there_are_adopted,
            initial_values_are_set_once,
            a_soft_delete_can_be_taken_back,
            parents_and_children_go_together,
            a_tree_arrives_at_once,
            held_keys_come_in_order,
            the_plan_says_what_is_missing,
            a_dropped_column_needs_a_person,
            a_row_that_somebody_deleted_comes_back,
            an_identity_that_changes_hands_belongs_to_the_last,
            the_database_can_choose_identities,
            the_database_counts_in_tables_of_our_making,
            an_identity_that_nobody_fills_is_refused,
            where_no_column_is_allowed_there_is_none,
            spoilt_rows_are_found,
            rows_that_the_topic_lacks_are_listed,
            what_waits_is_not_missing,
            what_somebody_else_keeps_is_no_difference,
            marks_of_soft_deletes_are_compared,
            case_counts_only_where_it_is_said,
            who_has_changed_is_recognised_by_identity,
            a_row_that_is_theirs_is_waited_for,
            of_an_object_only_our_names_are_ours,
            a_survey_counts_what_is_like_each_other,
        );
    };
}
pub(super) use conformance;

pub(super) const NURSES: &str = "select id, name, number from nurses order by id";

pub(super) async fn a_replay_changes_nothing(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let night =
        [nurse("ann", "Ann", Some("7"), 10), nurse("bea", "Bea", None, 10), ward("icu", 3), gone("ward", &["er"], 4)];
    assert_eq!(runner.apply(&night).await.counts.delivered, 3);
    let again = runner.apply(&night).await.counts;
    assert_eq!((again.unchanged, again.delivered), (4, 0));
    assert_eq!(target.rows(NURSES).await, ["ann Ann 7", "bea Bea -"]);
}

pub(super) async fn a_row_never_goes_back(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("ann", "Ann", None, 20)]).await;
    let late = runner.apply(&[nurse("ann", "Anne", None, 19)]).await.counts;
    assert_eq!(late.stale, 1);
    runner.apply(&[gone("nurse", &["ann"], 30)]).await;
    let late = runner.apply(&[nurse("ann", "Ann", None, 29)]).await.counts;
    assert_eq!(late.stale, 1, "a deleted row keeps its version");
    assert!(target.rows(NURSES).await.is_empty());
    runner.apply(&[nurse("ann", "Anna", None, 31)]).await;
    assert_eq!(target.rows(NURSES).await, ["ann Anna -"]);
    assert!(runner.apply(&[gone("nurse", &["ann"], 30)]).await.counts.stale == 1);
}

pub(super) async fn an_empty_batch_moves_offsets(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    assert_eq!(runner.sink.apply(&Batch::default()).await.unwrap().counts.read, 0);
    let mut batch = runner.batch(&[ward("icu", 1)]);
    batch.parts[0].deliveries.clear();
    batch.parts[0].next.0 = 40;
    runner.sink.apply(&batch).await.unwrap();
    runner.moved(&batch);
    let next = Runner::with(config(target), 2).await;
    assert_eq!(next.next[&(topic("ward").to_owned(), 0)], 40);
}

pub(super) async fn a_former_owner_is_fenced(target: &dyn Target) {
    let mut former = Runner::start(target).await;
    former.apply(&[ward("icu", 1)]).await;
    let mut owner = Runner::with(config(target), 2).await;
    let fenced = former.try_apply(&[ward("er", 2)]).await;
    assert!(matches!(fenced, Err(SinkError::Fenced { at }) if &*at.topic == topic("ward")));
    // Nor into a partition that was never written, nor by way of a sweep, which else sets any offset aside.
    assert!(matches!(former.try_apply(&[nurse("ann", "Ann", None, 1)]).await, Err(SinkError::Fenced { .. })));
    former.sweeping = true;
    former.next.clear();
    assert!(matches!(former.try_apply(&[ward("er", 2)]).await, Err(SinkError::Fenced { .. })));
    assert!(matches!(Runner::try_with(config(target), 1).await, Err(SinkError::Fenced { .. })));
    owner.apply(&[ward("er", 3)]).await;
    assert_eq!(target.rows("select id from wards order by id").await, ["er", "icu"]);
}

pub(super) async fn a_gap_is_not_skipped(target: &dyn Target) {
    let runner = Runner::start(target).await;
    let mut batch = runner.batch(&[ward("icu", 1)]);
    batch.parts[0].expected.0 = 5;
    batch.parts[0].next.0 = 6;
    // The very first batch may begin anywhere: compaction may have taken what came before.
    runner.sink.apply(&batch).await.unwrap();
    batch.parts[0].expected.0 = 8;
    batch.parts[0].next.0 = 9;
    assert!(matches!(runner.sink.apply(&batch).await, Err(SinkError::Fenced { .. })));
}

pub(super) async fn a_lost_answer_is_found_out(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("ann", "Ann", None, 1)]).await;
    let batch = runner.batch(&[nurse("ann", "Anna", None, 2), nurse("bea", "Bea", None, 1)]);
    runner.sink.apply(&batch).await.unwrap();
    // The runner never heard, and sends the same batch.
    let again = runner.sink.apply(&batch).await.unwrap().counts;
    again.balanced().unwrap();
    assert_eq!(again.unchanged, 2);
    assert_eq!(target.rows(NURSES).await, ["ann Anna -", "bea Bea -"]);
}

pub(super) async fn a_child_waits_for_its_parents(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let early = [shift("ann", "icu", "2024-05-01", "night", 1), shift("bea", "icu", "2024-05-01", "day", 1)];
    assert_eq!(runner.apply(&early).await.counts.parked, 2);
    assert_eq!(runner.apply(&early).await.counts.unchanged, 2, "the same is waiting already");
    runner.apply(&[nurse("ann", "Ann", None, 1)]).await;
    assert!(target.rows("select id from shifts").await.is_empty());
    // The ward was the last that was missing: its own batch settles the shift.
    runner.apply(&[ward("icu", 1)]).await;
    assert_eq!(target.rows("select nurse_id, ward_id, day, notes from shifts").await, ["ann icu 2024-05-01 night"]);
    let unparked = runner.sink.retry_parked().await.unwrap();
    assert_eq!((unparked.settled, unparked.waiting, unparked.expired.len()), (1, 1, 0));
    // Together with its parent it doesn't wait at all.
    let together = runner.apply(&[shift("cyn", "er", "", "", 1), ward("er", 1), nurse("cyn", "Cyn", None, 1)]).await;
    assert_eq!(together.counts.delivered, 3);
}

pub(super) async fn a_parked_row_gives_way_to_a_newer_change(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("icu", 1)]).await;
    runner.apply(&[shift("ann", "icu", "", "first", 1), shift("bea", "icu", "", "first", 1)]).await;
    runner.apply(&[shift("ann", "icu", "", "second", 2), gone("shift", &["bea", "icu", ""], 2)]).await;
    assert_eq!(runner.apply(&[shift("ann", "icu", "", "first", 1)]).await.counts.stale, 1);
    runner.apply(&[nurse("ann", "Ann", None, 1), nurse("bea", "Bea", None, 1)]).await;
    assert_eq!(target.rows("select nurse_id, notes from shifts").await, ["ann second"]);
    assert_eq!(runner.sink.retry_parked().await.unwrap().waiting, 0);
}

pub(super) async fn who_waits_too_long_becomes_a_letter(target: &dyn Target) {
    let mut config = config(target);
    config.park_limit = Duration::ZERO;
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[shift("ann", "icu", "", "night", 1)]).await;
    // The limit counts in milliseconds of the database's clock.
    let letter = loop {
        if let Some(letter) = runner.sink.retry_parked().await.unwrap().expired.pop() {
            break letter;
        }
    };
    assert_eq!(letter.0.reason.code, "missing_parent");
    assert!(letter.0.reason.text.contains("shifts.nurse_id"));
    assert!(letter.1.is_some(), "with everything needed to replay it");
    runner.sink.forget_parked(&[letter.0]).await.unwrap();
    let unparked = runner.sink.retry_parked().await.unwrap();
    assert_eq!((unparked.waiting, unparked.expired.len()), (0, 0));
}

pub(super) async fn a_value_of_somebody_elses_is_not_emptied(target: &dyn Target) {
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| {
        nurse.keeps.insert("number".to_owned(), "retired".to_owned());
    });
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[nurse("ann", "Ann", None, 1), nurse("bea", "Bea", Some("7"), 1)]).await;
    target.execute("update nurses set number = 'retired' where id = 'ann'").await;
    runner.apply(&[nurse("ann", "Anna", None, 2), nurse("bea", "Bea", None, 2)]).await;
    assert_eq!(target.rows(NURSES).await, ["ann Anna retired", "bea Bea -"]);
    // What has something to say replaces it.
    runner.apply(&[nurse("ann", "Anna", Some("8"), 3)]).await;
    assert_eq!(target.rows(NURSES).await, ["ann Anna 8", "bea Bea -"]);
}

pub(super) async fn a_row_with_nothing_to_match_is_recognised_by_its_identity(target: &dyn Target) {
    let table = "create table nurses (id varchar(40) primary key, name varchar(40), number varchar(9), mentor_id varchar(40), is_open boolean)";
    target.execute(table).await;
    target.execute("insert into nurses (id, name, number) values ('ann', 'By hand', null), ('x', 'Bea', '8')").await;
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| nurse.matching = Some(vec!["number".to_owned()]));
    let mut runner = Runner::with(config, 1).await;
    let all = [nurse("ann", "Ann", None, 1), nurse("bea", "Bea B.", Some("8"), 1), nurse("cyn", "Cyn", None, 1)];
    assert_eq!(runner.apply(&all).await.counts.delivered, 3);
    assert_eq!(target.rows(NURSES).await, ["ann Ann -", "cyn Cyn -", "x Bea B. 8"]);
}

pub(super) async fn a_row_that_waits_for_a_table_nobody_maps_becomes_a_letter(target: &dyn Target) {
    Runner::start(target).await.apply(&[shift("ann", "icu", "", "night", 1)]).await;
    let mut config = config(target);
    config.tables.retain(|table| table.entity != "shift");
    let runner = Runner::with(config, 2).await;
    let expired = runner.sink.retry_parked().await.unwrap().expired;
    assert_eq!(expired.iter().map(|(row, _)| row.reason.code).collect::<Vec<_>>(), ["not_mapped"]);
}

pub(super) async fn one_bad_row_costs_one_row(target: &dyn Target) {
    target.execute("create table nurses (id varchar(40) primary key, name varchar(40) check (length(name) < 20), number varchar(9), mentor_id varchar(40), is_open boolean)").await;
    let mut runner = Runner::start(target).await;
    let name = |at: usize| if at % 40 == 17 { "Somebody whose name is too long".to_owned() } else { format!("N{at}") };
    let mut all: Vec<_> = (0..90).map(|at| nurse(&format!("n{at:02}"), &name(at), None, 1)).collect();
    all.push(ward("icu", 1));
    let rejected = runner.rejected(&all).await;
    let keys: Vec<_> = rejected.iter().map(|rejected| rejected.key.as_str()).collect();
    assert_eq!(keys.len(), 2, "{rejected:?}");
    assert!(keys.contains(&"n17") && keys.contains(&"n57"));
    for Reason { code, text } in rejected.iter().map(|rejected| &rejected.reason) {
        assert_eq!(*code, "check_violation");
        assert!(text.contains("nurses") && !text.contains("Somebody"), "{text}");
    }
    assert!(target.rows(NURSES).await.is_empty(), "nothing of the batch is written before the letters are");
    all.retain(|told| !keys.contains(&told.delivery.key.as_str()));
    assert_eq!(runner.apply(&all).await.counts.delivered, 89);
    assert_eq!(target.rows(NURSES).await.len(), 88);
}

pub(super) async fn a_malformed_change_is_named(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let mut bad = ward("icu", 1);
    if let Some(payload) = &mut bad.delivery.payload {
        payload.body = payload.body.slice(..2);
    }
    let rejected = runner.rejected(&[ward("er", 1), bad]).await;
    assert_eq!(rejected.len(), 1);
    assert_eq!((rejected[0].key.as_str(), rejected[0].reason.code), ("icu", "malformed"));
}

/// A replay is judged by its version. Fails when changes are decoded first: the second batch is rejected.
pub(super) async fn what_is_there_already_needs_not_be_read(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("icu", 2)]).await;
    let unreadable = |version| {
        let mut told = ward("icu", version);
        if let Some(payload) = &mut told.delivery.payload {
            payload.body = payload.body.slice(..2);
        }
        told
    };
    assert_eq!(runner.apply(&[unreadable(2)]).await.counts.unchanged, 1);
    assert_eq!(runner.apply(&[unreadable(1)]).await.counts.stale, 1);
    assert_eq!(runner.rejected(&[unreadable(3)]).await.len(), 1);
}

pub(super) async fn rows_that_are_there_are_adopted(target: &dyn Target) {
    target.execute("create table wards (id varchar(40) primary key, title varchar(40), beds integer)").await;
    target.execute("create table shifts (id varchar(40) primary key, nurse_id varchar(40), ward_id varchar(40), day date, notes varchar(99), paid boolean)").await;
    target.execute("insert into wards values ('w1', 'Ward icu', 12), ('w2', 'Ward er', 8), ('w3', 'Ward er', 9), ('w4', 'Attic', 0)").await;
    target.execute("insert into shifts values ('s1', 'ann', 'w1', null, 'by hand', true)").await;
    let mut config = config(target);
    change(&mut config, "ward", |ward| ward.matching = Some(vec!["title".to_owned()]));
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[nurse("ann", "Ann", None, 1), ward("icu", 1), shift("ann", "icu", "", "night", 1)]).await;
    // The ward keeps its identity and its beds, the shift finds it, and is recognised itself although its day is null.
    let ours = ours(target, topic("ward"), "wards");
    let adopted = format!("select o.id, o.key, w.beds from wards w join {ours} o on o.id = w.id");
    assert_eq!(target.rows(&adopted).await, ["w1 icu 12"]);
    let shifts = "select id, ward_id, notes, case when paid then 'paid' end from shifts";
    assert_eq!(target.rows(shifts).await, ["s1 w1 night paid"]);

    let rejected = runner.rejected(&[ward("er", 1)]).await;
    assert_eq!(rejected[0].reason.code, "ambiguous_match");
    runner.apply(&[gone("ward", &["attic"], 1)]).await;
    let theirs = format!("select id from wards where id not in (select id from {ours} o) order by id");
    assert_eq!(target.rows(&theirs).await, ["w2", "w3", "w4"]);
}

pub(super) async fn initial_values_are_set_once(target: &dyn Target) {
    let mut config = config(target);
    change(&mut config, "nurse", |nurse| nurse.owned = Some(vec!["name".to_owned()]));
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[nurse("ann", "Ann", Some("7"), 1)]).await;
    target.execute("update nurses set is_open = false, number = '70'").await;
    runner.apply(&[nurse("ann", "Anna", Some("8"), 2)]).await;
    let rows = target.rows("select name, number, case when is_open then 'open' else 'closed' end from nurses").await;
    assert_eq!(rows, ["Anna 70 closed"]);
}

pub(super) async fn a_soft_delete_can_be_taken_back(target: &dyn Target) {
    let mut config = config(target);
    let deleted_date = OnDelete::Soft { column: "deleted_date".to_owned(), value: None };
    change(&mut config, "ward", |ward| ward.on_delete = Some(deleted_date));
    let mut runner = Runner::with(config, 1).await;
    runner.apply(&[ward("icu", 1), ward("er", 1)]).await;
    runner.apply(&[gone("ward", &["icu"], 2)]).await;
    let there = "select id from wards where deleted_date is null order by id";
    assert_eq!(target.rows(there).await, ["er"]);
    let held = runner.held("ward", 0, None, 9).await;
    assert_eq!(
        held.iter().map(|held| (held.key.as_str(), held.gone)).collect::<Vec<_>>(),
        [("er", false), ("icu", true)]
    );
    assert_eq!(runner.apply(&[gone("ward", &["icu"], 2)]).await.counts.unchanged, 1);
    assert_eq!(runner.apply(&[ward("icu", 1)]).await.counts.stale, 1);
    runner.apply(&[ward("icu", 3)]).await;
    assert_eq!(target.rows(there).await, ["er", "icu"]);
}

pub(super) async fn parents_and_children_go_together(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("icu", 1), nurse("ann", "Ann", None, 1), shift("ann", "icu", "", "", 1)]).await;
    let gone = [gone("ward", &["icu"], 2), gone("nurse", &["ann"], 2), gone("shift", &["ann", "icu", ""], 2)];
    // The ward can't go while its shift is there: it waits, and goes with the shift.
    assert_eq!(runner.apply(&gone[..1]).await.counts.parked, 1);
    assert_eq!(runner.apply(&gone[1..]).await.counts.delivered, 2);
    assert!(target.rows("select id from wards").await.is_empty());
}

pub(super) async fn a_tree_arrives_at_once(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    // In the order of keys, every nurse comes before her mentor.
    let tree = [mentored("a", "b", 1), mentored("b", "c", 1), mentored("c", "d", 1), nurse("d", "Dot", None, 1)];
    assert_eq!(runner.apply(&tree).await.counts.delivered, 4);
    assert_eq!(target.rows("select id, mentor_id from nurses order by id").await, ["a b", "b c", "c d", "d -"]);
}

pub(super) async fn held_keys_come_in_order(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    let names = ["Zoe", "ann", "Älva", "bea", "_", "a b", "a|b"];
    let nurses: Vec<_> = names.iter().map(|name| nurse(name, name, None, 4)).collect();
    runner.apply(&nurses).await;
    runner.apply(&[mentored("waits", "nobody", 6)]).await;
    let mut found = Vec::new();
    for partition in 0..NURSE_PARTITIONS {
        let mut after = None;
        let mut last: Option<Key> = None;
        loop {
            let page = runner.held("nurse", partition, after.as_ref(), 1).await;
            let Some(held) = page.into_iter().next() else { break };
            assert!(last.as_ref() < Some(&held.key), "in the order of bytes");
            assert!(held.hash.is_some());
            last = Some(held.key.clone());
            after = Some(held.key.clone());
            found.push(held.key);
        }
    }
    found.sort();
    let mut all: Vec<Key> = names.iter().map(|name| Key::of(&[Some(name)])).chain([Key::from("waits")]).collect();
    all.sort();
    assert_eq!(found, all);
}

pub(super) async fn the_plan_says_what_is_missing(target: &dyn Target) {
    target.execute("create table wards (id varchar(40) primary key, beds integer not null)").await;
    let mut config = config(target);
    config.alter = false;
    let sink = SqlSink::of("rota", &config, &subjects()).unwrap();
    let plan = sink.plan().await.unwrap();
    assert_eq!(plan.refused.len(), 1);
    assert!(plan.refused[0].to_string().starts_with("wards.beds: must not be null"), "{}", plan.refused[0]);
    let refused = Runner::try_with(config.clone(), 1).await;
    assert!(matches!(refused, Err(SinkError::Refused { hint, .. }) if hint.contains("muster plan")));

    change(&mut config, "ward", |ward| {
        ward.initial.insert("beds".to_owned(), crate::sql::Scalar::Integer(0));
    });
    let sink = SqlSink::of("rota", &config, &subjects()).unwrap();
    let plan = sink.plan().await.unwrap();
    assert!(plan.refused.is_empty());
    assert!(plan.statements.iter().any(|statement| statement.contains("add column \"title\"")));
    assert!(matches!(Runner::try_with(config.clone(), 1).await, Err(SinkError::Refused { .. })), "only by hand");
    assert_eq!(sink.apply_plan().await.unwrap(), plan);
    assert!(sink.plan().await.unwrap().is_empty());
    Runner::with(config, 1).await.apply(&[ward("icu", 1)]).await;
    assert_eq!(target.rows("select id, title, beds from wards").await, ["icu Ward icu 0"]);
}

pub(super) async fn a_dropped_column_needs_a_person(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[ward("icu", 1)]).await;
    target.execute("alter table wards drop column title").await;
    let refused = runner.try_apply(&[ward("er", 1)]).await;
    assert!(matches!(&refused, Err(SinkError::Refused { hint, .. }) if hint.contains("muster plan")), "{refused:?}");
}
