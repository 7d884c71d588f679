//! Times as others write them: cron expressions, the dates of the ATS, the header `Retry-After`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pipeline::retry::parse_retry_after;
use pipeline::schedule::Schedule;
use producers::ats::{AtsFeed, decode_body};
use serde_json::json;

use crate::choose;

/// Zones with odd clocks: half hours, a day that was skipped, changes at midnight, changes of thirty minutes.
const ZONES: &[Tz] = &[
    Tz::UTC,
    Tz::America__Vancouver,
    Tz::Asia__Kathmandu,
    Tz::Pacific__Apia,
    Tz::America__Havana,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
];

/// Eight bytes of a moment, in the years that people schedule in, and the rest.
fn moment(data: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    const YEARS_200: u64 = 200 * 366 * 86_400;
    let (seconds, rest) = data.split_first_chunk::<8>()?;
    let seconds = i64::try_from(u64::from_le_bytes(*seconds) % YEARS_200).ok()?;
    Some((DateTime::from_timestamp(seconds, 0)?, rest))
}

/// A cron expression: its next time lies ahead, and the time it has missed lies between.
pub fn cron(data: &[u8]) {
    let Some((zone, rest)) = choose(ZONES, data) else { return };
    let Some((now, rest)) = moment(rest) else { return };
    let Some(Ok(expression)) = rest.get(..rest.len().min(200)).map(str::from_utf8) else { return };
    let Ok(schedule) = Schedule::cron(expression, *zone) else { return };
    let Some(next) = schedule.next_after(now) else { return };
    assert!(next > now, "{next} isn't after {now}");
    let later = next + Duration::from_secs(3 * 86_400);
    let missed = schedule.missed(now, later).expect("one run was due since");
    assert!(missed >= next && missed <= later, "{missed} isn't between {next} and {later}");
}

/// A date of the ATS: read in any zone, or rejected.
pub fn dates(data: &[u8]) {
    let Some((zone, rest)) = choose(ZONES, data) else { return };
    let Ok(written) = str::from_utf8(rest) else { return };
    let applicant = json!([{
        "applicant_id": "3f2b8a0e-0000-4000-8000-000000000001", "ats1_id": 1, "first_name": "Wren", "last_name": "Sample",
        "registration_date": written, "created_date": written, "updated_date": written,
        "milestones": [{ "id": "e68f902c-8440-4a9c-a05f-2765301de800", "name": "Applied to NNAS",
            "start_date": written, "created_date": written, "effective_date": written }],
    }]);
    let records = decode_body(AtsFeed::Applicants, *zone, applicant.to_string().as_bytes()).expect("it is a list");
    assert_eq!(records.len(), 1, "one record stays one");
}

/// The header `Retry-After`: never longer than the most that was allowed.
pub fn retry_after(data: &[u8]) {
    let Some((now, rest)) = moment(data) else { return };
    let Ok(header) = str::from_utf8(rest) else { return };
    let most = Duration::from_secs(3_600);
    if let Some(wait) = parse_retry_after(header, now, most) {
        assert!(wait <= most, "{wait:?} is more than {most:?}");
    }
}
