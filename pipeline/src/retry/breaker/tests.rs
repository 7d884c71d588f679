use chrono::TimeDelta;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn opened_at_zero() -> Breaker {
    let mut breaker = Breaker::new(BreakerSettings { failures: 3, open_for: Duration::from_secs(30) });
    for _ in 0..3 {
        assert_eq!(breaker.ask(at(0)), Ok(()));
        breaker.failed(at(0));
    }
    breaker
}

#[test]
fn it_opens_after_failures_in_a_row_and_says_how_long() {
    let mut breaker = opened_at_zero();
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.ask(at(10)), Err(Duration::from_secs(20)));
}

#[test]
fn a_success_between_failures_keeps_it_closed() {
    let mut breaker = Breaker::new(BreakerSettings { failures: 2, open_for: Duration::from_secs(30) });
    for _ in 0..10 {
        breaker.failed(at(0));
        breaker.succeeded();
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn one_tries_when_the_time_is_over_and_decides_for_all() {
    let mut breaker = opened_at_zero();
    assert_eq!(breaker.ask(at(30)), Ok(()));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.ask(at(31)), Err(Duration::from_secs(29)), "the second waits for the first");

    breaker.failed(at(32));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.ask(at(33)), Err(Duration::from_secs(29)));

    assert_eq!(breaker.ask(at(62)), Ok(()));
    breaker.succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_try_that_never_ends_is_not_waited_for_for_ever() {
    let mut breaker = opened_at_zero();
    assert_eq!(breaker.ask(at(30)), Ok(()));
    assert_eq!(breaker.ask(at(60)), Ok(()));
}

#[test]
fn late_failures_do_not_prolong_it() {
    let mut breaker = opened_at_zero();
    breaker.failed(at(20));
    assert_eq!(breaker.ask(at(30)), Ok(()));
}

#[test]
fn a_clock_set_back_does_not_prolong_it() {
    let mut breaker = opened_at_zero();
    assert_eq!(breaker.ask(at(-5000)), Err(Duration::from_secs(30)));
    assert_eq!(breaker.ask(at(-4970)), Ok(()));
}
