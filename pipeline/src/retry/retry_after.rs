//! Reads the HTTP header `Retry-After` (RFC 9110, 10.2.3), in all forms that servers send.

use std::time::Duration;

use chrono::{DateTime, Datelike, Months, NaiveDateTime, Utc};

/// The longest wait a server can ask of us: longer ones are mistakes more often than not, and asking again is cheap.
pub const MOST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long the header asks to wait, counted from `now`; `None` when it says nothing that can be understood.
///
/// Seconds, or a date in one of the three forms of HTTP (RFC 9110, 5.6.7; weekday not checked). A negative number or a past
/// date is zero; what is longer than `most` is `most`.
pub fn parse_retry_after(header: &str, now: DateTime<Utc>, most: Duration) -> Option<Duration> {
    let header = header.trim();
    match seconds(header) {
        Some(seconds) => Some(seconds.min(most)),
        None => {
            let wait = http_date(header, now)? - now;
            Some(wait.to_std().unwrap_or_default().min(most))
        }
    }
}

fn seconds(header: &str) -> Option<Duration> {
    let (is_negative, digits) = match header.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, header),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if is_negative {
        return Some(Duration::ZERO);
    }
    // Digits that don't fit are very many seconds.
    Some(digits.parse().map_or(Duration::MAX, Duration::from_secs))
}

fn http_date(header: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    // A wrong weekday is no reason not to wait, so it isn't looked at.
    if let Some((_weekday, date)) = header.split_once(", ") {
        let date = date.strip_suffix(" GMT").or_else(|| date.strip_suffix(" UTC"))?;
        // `06 Nov 1994 08:49:37`; `+` and spaces that the parser would take are none of HTTP's.
        if let Ok(time) = NaiveDateTime::parse_from_str(date, "%d %b %Y %H:%M:%S") {
            return Some(time.and_utc());
        }
        // `06-Nov-94 08:49:37`
        let time = NaiveDateTime::parse_from_str(date, "%d-%b-%y %H:%M:%S").ok()?;
        return in_nearest_century(time, now);
    }
    // `Sun Nov  6 08:49:37 1994`
    let (_weekday, date) = header.split_once(' ')?;
    NaiveDateTime::parse_from_str(date, "%b %e %H:%M:%S %Y").ok().map(|time| time.and_utc())
}

/// A year of two digits that seems more than 50 years ahead is one of the past.
fn in_nearest_century(time: NaiveDateTime, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    const CENTURY: Months = Months::new(1200);

    let years_ahead = time.year() - now.year();
    let time = match years_ahead {
        51.. => time.checked_sub_months(CENTURY)?,
        ..=-50 => time.checked_add_months(CENTURY)?,
        _ => time,
    };
    Some(time.and_utc())
}

#[cfg(test)]
mod tests;
