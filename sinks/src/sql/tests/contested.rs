//! Values that only one row may have, and who gets them. Part of the [suite](super::suite).

use pipeline::sink::Sink;

use super::rota::*;
use super::suite::NURSES;

pub(super) async fn a_contradiction_waits_until_the_value_is_free(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("ann", "Ann", Some("7"), 1)]).await;
    let applied = runner.apply(&[nurse("bea", "Bea", Some("7"), 1), nurse("cyn", "Cyn", Some("8"), 1)]).await;
    assert_eq!((applied.counts.parked, applied.counts.delivered), (1, 1));
    assert_eq!(target.rows(NURSES).await, ["ann Ann 7", "cyn Cyn 8"]);
    assert_eq!(target.rows(&format!("select code from {}", parked_table(target))).await, ["contradiction"]);
    runner.apply(&[nurse("ann", "Ann", Some("9"), 2)]).await;
    assert_eq!(target.rows(NURSES).await, ["ann Ann 9", "bea Bea 7", "cyn Cyn 8"]);
    // Within one batch, the order of keys doesn't matter.
    let moved = runner.apply(&[nurse("ann", "Ann", Some("8"), 3), nurse("cyn", "Cyn", Some("1"), 2)]).await;
    assert_eq!(moved.counts.delivered, 2);
    assert_eq!(target.rows(NURSES).await, ["ann Ann 8", "bea Bea 7", "cyn Cyn 1"]);
}

pub(super) async fn rows_that_hold_each_others_values_exchange_them(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("ann", "Ann", Some("7"), 1), nurse("bea", "Bea", Some("8"), 1)]).await;
    runner.apply(&[nurse("cyn", "Cyn", Some("9"), 1), nurse("dot", "Dot", Some("1"), 1)]).await;
    // Ann's new number is Bea's still.
    assert_eq!(runner.apply(&[nurse("ann", "Ann", Some("8"), 2)]).await.counts.parked, 1);
    assert_eq!(runner.apply(&[nurse("bea", "Bea", Some("7"), 2)]).await.counts.delivered, 1);
    assert_eq!(target.rows(NURSES).await, ["ann Ann 8", "bea Bea 7", "cyn Cyn 9", "dot Dot 1"]);

    // Three in a circle, and one who wants what nobody gives up.
    let all = [
        nurse("ann", "Ann", Some("7"), 3),
        nurse("bea", "Bea", Some("9"), 3),
        nurse("cyn", "Cyn", Some("8"), 3),
        nurse("eve", "Eve", None, 3),
        nurse("dot", "Dot", Some("7"), 3),
    ];
    let counts = runner.apply(&all).await.counts;
    assert_eq!((counts.delivered, counts.parked), (4, 1));
    let rows = target.rows("select id from nurses where number = '7'").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(runner.sink.retry_parked().await.unwrap().waiting, 1);
}

pub(super) async fn a_row_that_others_refer_to_is_succeeded_by_one_with_its_value(target: &dyn Target) {
    let mut runner = Runner::start(target).await;
    runner.apply(&[nurse("una", "Una", Some("7"), 1), mentored("ash", "una", 1)]).await;
    // Una goes under another key from now on, and Ash with her.
    let succession = [gone("nurse", &["una"], 2), nurse("a", "Una", Some("7"), 2), mentored("ash", "a", 2)];
    assert_eq!(runner.apply(&succession).await.counts.delivered, 3);
    let rows = "select id, number, mentor_id from nurses order by id";
    assert_eq!(target.rows(rows).await, ["a 7 -", "ash - a"]);

    // Bo still refers to the one who goes: she stays as she is, and the other one waits.
    runner.apply(&[mentored("bo", "a", 3)]).await;
    let succession = [gone("nurse", &["a"], 4), nurse("z", "Una", Some("7"), 4), mentored("ash", "z", 4)];
    assert_eq!(runner.apply(&succession).await.counts.parked, 3);
    assert_eq!(target.rows(rows).await, ["a 7 -", "ash - a", "bo - a"]);
    runner.apply(&[gone("nurse", &["bo"], 5)]).await;
    assert_eq!(target.rows(rows).await, ["ash - z", "z 7 -"]);
    assert_eq!(runner.sink.retry_parked().await.unwrap().waiting, 0);
}

pub(super) async fn one_value_claimed_twice_in_a_batch_is_one_row_and_one_that_waits(target: &dyn Target) {
    // The original looked for contradictions among the rows that were there, not among those that came together.
    let mut runner = Runner::start(target).await;
    let counts = runner.apply(&[nurse("ann", "Ann", Some("7"), 1), nurse("bea", "Bea", Some("7"), 1)]).await.counts;
    assert_eq!((counts.delivered, counts.parked), (1, 1));
    assert_eq!(target.rows("select number from nurses").await, ["7"]);
    assert_eq!(target.rows(&format!("select code from {}", parked_table(target))).await, ["contradiction"]);
    // When whoever holds it goes, the other one comes in.
    let held = target.rows("select id from nurses").await.remove(0);
    runner.apply(&[gone("nurse", &[&held], 2)]).await;
    assert_eq!(target.rows("select number from nurses where number = '7'").await.len(), 1);
}

/// Fails where rows are asked after by columns that an update leaves alone: Ann, who keeps her own number, would wait
/// for Bea's.
pub(super) async fn many_contradictions_in_one_batch_are_set_aside_and_nothing_else_is(target: &dyn Target) {
    let mut first = Runner::start(target).await;
    first.apply(&[nurse("ann", "Ann", Some("1"), 1), nurse("bea", "Bea", Some("2"), 1)]).await;
    let mut all: Vec<Told> =
        (0..200).map(|n| nurse(&format!("n{n:03}"), "Nia", Some(&format!("{}", n + 10)), 1)).collect();
    // Two want what others hold, two each what another one of the batch has; one without a number contradicts nobody.
    all.extend(
        [("v", Some("1")), ("w", Some("2")), ("x", Some("900")), ("y", Some("900")), ("z", None)]
            .map(|(key, number)| nurse(key, "Zoe", number, 1)),
    );
    let counts = first.apply(&all).await.counts;
    assert_eq!((counts.parked, counts.delivered), (3, 202));
    // The next batch finds the same without having failed first.
    let counts = first.apply(&[nurse("u", "Uma", Some("900"), 1), nurse("ann", "Ann", Some("1"), 2)]).await.counts;
    assert_eq!((counts.parked, counts.delivered), (1, 1));
    let reasons = target.rows(&format!("select distinct code from {}", parked_table(target))).await;
    assert_eq!(reasons, ["contradiction"]);

    let mut config = config(target);
    change(&mut config, "nurse", |nurse| nurse.owned = Some(vec!["name".to_owned()]));
    let mut second = Runner::with(config, 2).await;
    let counts = second.apply(&[nurse("ann", "Anna", Some("2"), 3), nurse("t", "Tia", Some("2"), 1)]).await.counts;
    assert_eq!((counts.parked, counts.delivered), (1, 1));
    assert_eq!(target.rows("select id, number from nurses where name = 'Anna'").await, ["ann 1"]);
}

fn parked_table(target: &dyn Target) -> &'static str {
    if target.url().starts_with("sqlite") { "muster_parked" } else { "muster.parked" }
}
