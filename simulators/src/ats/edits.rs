//! Seeded edits of one applicant, as a clerk would make them. Pure; [`super::state`] picks whom.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};

use super::dates::{self, DAY_MS, LocalMs, day};
use super::masters::Masters;
use super::{catalogue, names};

/// Changes something real and moves `updated_date` to `now`. False, and nothing changed, when the value isn't an
/// applicant.
pub(crate) fn edit(applicant: &mut Value, masters: &Masters, now: LocalMs, serial: u64, rng: &mut Rng) -> bool {
    if !applicant.is_object() {
        return false;
    }
    let done = match rng.u32(0..6) {
        0 => rename(applicant, rng),
        1 => note(applicant, serial, rng),
        2 => reason(applicant, masters, rng),
        3 => add_milestone(applicant, masters, now, rng),
        4 => move_start_date(applicant, rng),
        _ => false,
    };
    if !done {
        // Always possible, always different.
        applicant["phone_number"] = json!(format!("1604555{:04}{serial}", rng.u16(0..10_000)));
    }
    touch(applicant, now);
    true
}

/// Moves `updated_date`, as any edit does.
pub(crate) fn touch(applicant: &mut Value, now: LocalMs) {
    if applicant.is_object() {
        applicant["updated_date"] = json!(dates::text(now));
    }
}

fn rename(applicant: &mut Value, rng: &mut Rng) -> bool {
    let name = names::last(rng);
    let differs = applicant["last_name"] != json!(name);
    applicant["last_name"] = json!(name);
    differs
}

fn note(applicant: &mut Value, serial: u64, rng: &mut Rng) -> bool {
    let Some(milestone) = some_milestone(applicant, rng) else { return false };
    let text = catalogue::NOTES[rng.usize(..catalogue::NOTES.len())];
    milestone["notes"] = json!(format!("{text} ({serial})"));
    true
}

fn reason(applicant: &mut Value, masters: &Masters, rng: &mut Rng) -> bool {
    if masters.reasons.is_empty() {
        return false;
    }
    let Some(milestone) = some_milestone(applicant, rng) else { return false };
    let id = masters.reasons[rng.usize(..masters.reasons.len())]["id"].clone();
    let differs = milestone["reason_id"] != id;
    milestone["reason_id"] = id;
    differs
}

/// A milestone of the list that the applicant doesn't have yet, from today.
fn add_milestone(applicant: &mut Value, masters: &Masters, now: LocalMs, rng: &mut Rng) -> bool {
    let Some(list) = applicant.get_mut("milestones").and_then(Value::as_array_mut) else { return false };
    let had: BTreeSet<String> = list.iter().filter_map(|milestone| Some(key(milestone)?.0)).collect();
    let is_new = |kind: &&Value| kind["id"].as_str().is_some_and(|id| !had.contains(&id.to_ascii_lowercase()));
    let new: Vec<&Value> = masters.milestones.iter().filter(is_new).collect();
    if new.is_empty() {
        return false;
    }
    let kind = new[rng.usize(..new.len())];
    list.push(json!({
        "id": kind["id"],
        "name": kind["name"],
        "start_date": dates::text(day(now) * DAY_MS),
        "created_date": dates::text(now),
    }));
    true
}

/// Moves a start date by some days, unless the same status already has that date.
fn move_start_date(applicant: &mut Value, rng: &mut Rng) -> bool {
    let Some(list) = applicant.get_mut("milestones").and_then(Value::as_array_mut) else { return false };
    let taken: BTreeSet<_> = list.iter().filter_map(key).collect();
    let dated: Vec<usize> = (0..list.len()).filter(|at| matches!(key(&list[*at]), Some((_, Some(_))))).collect();
    if dated.is_empty() {
        return false;
    }
    let milestone = &mut list[dated[rng.usize(..dated.len())]];
    let Some((id, Some(on))) = key(milestone) else { return false };
    let moved = on - rng.i64(1..=30);
    if taken.contains(&(id, Some(moved))) {
        return false;
    }
    milestone["start_date"] = json!(dates::text(moved * DAY_MS));
    true
}

fn some_milestone<'a>(applicant: &'a mut Value, rng: &mut Rng) -> Option<&'a mut Value> {
    let list = applicant.get_mut("milestones")?.as_array_mut()?;
    if list.is_empty() {
        return None;
    }
    let at = rng.usize(..list.len());
    list.get_mut(at).filter(|milestone| milestone.is_object())
}

/// Status and day: what no applicant should have twice. `None` for what isn't a milestone.
pub(crate) fn key(milestone: &Value) -> Option<(String, Option<i64>)> {
    let id = milestone["id"].as_str()?.to_ascii_lowercase();
    let on = milestone["start_date"].as_str().and_then(dates::parse).map(day);
    Some((id, on))
}
