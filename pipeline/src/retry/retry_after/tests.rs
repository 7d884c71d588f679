use super::*;
use chrono::TimeDelta;
use proptest::prelude::*;

fn noon() -> DateTime<Utc> {
    // Friday, 6 November 2026
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_793_966_400)
}

fn asked(header: &str) -> Option<u64> {
    parse_retry_after(header, noon(), MOST_RETRY_AFTER).map(|wait| wait.as_secs())
}

#[test]
fn seconds_are_read_and_bounded() {
    assert_eq!(asked("120"), Some(120));
    assert_eq!(asked(" 0 "), Some(0));
    assert_eq!(asked("-5"), Some(0));
    assert_eq!(asked("86400"), Some(3600));
    assert_eq!(asked("99999999999999999999999999999999"), Some(3600));
    assert_eq!(asked("-99999999999999999999999999999999"), Some(0));
}

#[test]
fn dates_are_read_in_all_three_forms() {
    assert_eq!(asked("Fri, 06 Nov 2026 12:10:00 GMT"), Some(600));
    assert_eq!(asked("Friday, 06-Nov-26 12:10:00 GMT"), Some(600));
    assert_eq!(asked("Fri Nov  6 12:10:00 2026"), Some(600));
    assert_eq!(asked("Mon, 06 Nov 2026 12:10:00 GMT"), Some(600), "a wrong weekday doesn't matter");
}

#[test]
fn past_dates_are_now_and_far_ones_are_bounded() {
    assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
    assert_eq!(asked("Sunday, 06-Nov-94 08:49:37 GMT"), Some(0), "94 is 1994, not 2094");
    assert_eq!(asked("Thu, 01 Jan 9999 00:00:00 GMT"), Some(3600));
    assert_eq!(asked("Thursday, 01-Jan-70 00:00:00 GMT"), Some(3600), "70 is 2070, 44 years ahead");
}

#[test]
fn what_says_nothing_is_nothing() {
    for header in ["", "-", "soon", "1.5", "+5", "5 s", "Fri, 06 Nov 2026", "Fri, 31 Feb 2026 00:00:00 GMT", "١٢"] {
        assert_eq!(asked(header), None, "{header:?}");
    }
}

proptest! {
    #[test]
    fn whatever_a_server_sends_the_wait_is_bounded(header in "\\PC*", most in 0u64..10_000) {
        let most = Duration::from_secs(most);
        let wait = parse_retry_after(&header, noon(), most);
        prop_assert!(wait.is_none_or(|wait| wait <= most));
    }

    #[test]
    fn things_like_dates_never_panic(header in "[A-Z][a-z]{2,8},? [0-9]{1,2}[ -][A-Z][a-z]{2}[ -][0-9]{1,6} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?") {
        let wait = parse_retry_after(&header, noon(), MOST_RETRY_AFTER);
        prop_assert!(wait.is_none_or(|wait| wait <= MOST_RETRY_AFTER));
    }

    #[test]
    fn a_date_that_was_written_is_read_back(seconds in -5_000_000i64..5_000_000) {
        let time = noon() + TimeDelta::seconds(seconds);
        let expected = Duration::from_secs(seconds.clamp(0, 3600).unsigned_abs());
        for form in ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
            let header = time.format(form).to_string();
            prop_assert_eq!(parse_retry_after(&header, noon(), MOST_RETRY_AFTER), Some(expected), "{}", header);
        }
    }
}
