use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::retry::Kind;

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn after(action: Action) -> Option<Duration> {
    match action {
        Action::Retry { after } => Some(after),
        Action::Stop { .. } => None,
    }
}

#[test]
fn what_waiting_cannot_mend_stops_at_once_with_a_hint() {
    for kind in [Kind::Unauthorized, Kind::Forbidden, Kind::NotFound, Kind::Refused, Kind::Untrusted] {
        let action = Retry::new(Policy::default(), 1).failed(&kind.into(), start());
        assert!(matches!(&action, Action::Stop { hint } if !hint.is_empty()), "{kind:?}: {action:?}");
    }
}

#[test]
fn every_kind_has_advice() {
    for kind in Kind::ALL {
        assert!(!kind.advice().is_empty(), "{kind:?}");
    }
}

#[test]
fn statuses_are_sorted_into_kinds() {
    assert_eq!(Kind::of_http_status(200), None);
    assert_eq!(Kind::of_http_status(401), Some(Kind::Unauthorized));
    assert_eq!(Kind::of_http_status(404), Some(Kind::NotFound));
    assert_eq!(Kind::of_http_status(422), Some(Kind::Refused));
    assert_eq!(Kind::of_http_status(429), Some(Kind::Throttled));
    assert_eq!(Kind::of_http_status(503), Some(Kind::Unavailable));
}

#[test]
fn a_deadlock_is_tried_again_much_sooner_than_an_outage() {
    let wait = |kind: Kind| after(Retry::new(Policy::default(), 7).failed(&kind.into(), start()));
    assert!(wait(Kind::Contended) < Some(Duration::from_millis(10)));
    assert!(wait(Kind::Unavailable) >= Some(Duration::from_millis(250)));
    assert!(wait(Kind::Full) >= Some(Duration::from_secs(30)));
}

#[test]
fn a_server_that_asks_for_time_gets_it_up_to_a_bound() {
    let mut retry = Retry::new(Policy::default(), 1);
    let throttled = |seconds| Failure { kind: Kind::Throttled, retry_after: Some(Duration::from_secs(seconds)) };
    assert_eq!(after(retry.failed(&throttled(120), start())), Some(Duration::from_secs(120)));
    assert_eq!(after(retry.failed(&throttled(u64::MAX), start())), Some(MOST_RETRY_AFTER));
}

#[test]
fn the_budget_ends_the_waiting() {
    let budget = Budget { failures: Some(2), time: None };
    let mut retry = Retry::new(Policy { budget, ..Policy::default() }, 1);
    assert!(after(retry.failed(&Kind::TimedOut.into(), start())).is_some());
    assert!(after(retry.failed(&Kind::TimedOut.into(), start())).is_some());
    let Action::Stop { hint } = retry.failed(&Kind::TimedOut.into(), start()) else { panic!("goes on") };
    assert_eq!(hint, "gave up after 3 failures in a row; check the system's load, or allow it more time");

    retry.succeeded();
    assert!(after(retry.failed(&Kind::TimedOut.into(), start())).is_some(), "counts anew after a success");
}

#[test]
fn the_budget_of_time_includes_the_next_wait() {
    let budget = Budget { failures: None, time: Some(Duration::from_secs(100)) };
    let mut retry = Retry::new(Policy { budget, ..Policy::default() }, 1);
    let throttled = Failure { kind: Kind::Throttled, retry_after: Some(Duration::from_secs(50)) };
    assert!(after(retry.failed(&throttled, start())).is_some());
    assert!(after(retry.failed(&throttled, start() + TimeDelta::seconds(50))).is_some());
    assert!(after(retry.failed(&throttled, start() + TimeDelta::seconds(51))).is_none());
}

proptest! {
    #[test]
    fn waits_double_within_their_bounds(seed: u64, first in 1u64..10_000, most in 1u64..1_000_000, failures in 1u32..80) {
        let (first, most) = (Duration::from_millis(first), Duration::from_millis(most));
        let mut retry = Retry::new(Policy { first, most, ..Policy::default() }, seed);
        let mut again = retry.clone();
        for n in 0..failures {
            let wait = after(retry.failed(&Kind::Unavailable.into(), start())).unwrap_or_default();
            let step = first.saturating_mul(2u32.saturating_pow(n)).min(most);
            prop_assert!(wait >= step / 2 && wait <= step, "{wait:?} after {n} failures, step {step:?}");
            prop_assert_eq!(after(again.failed(&Kind::Unavailable.into(), start())), Some(wait), "same seed");
        }
    }
}
