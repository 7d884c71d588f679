//! Makes applicants from a seed. Any one can be made without the others, so the state keeps only what it sorts by.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use fastrand::Rng;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::catalogue::{self, Kind};
use super::dates::{self, DAY_MS, LocalMs, day};
use super::masters::Masters;
use super::random::{odd_case, per_mille, pick, stream, uuid};
use super::{AtsOptions, names};

const STREAM: u64 = 0xa991;
const HISTORY_DAYS: i64 = 5 * 365;
/// A prime: multiplying modulo it gives every index an `ats1_id` of its own.
const ATS1_IDS: u64 = 99_999_989;
const ATS1_STRIDE: u64 = 38_641_307;

/// Among so many applicants in a row, one has the `ats1_id` of the one before it.
const ATS1_ODDITY: (u32, u32) = (500, 37);
/// Among so many, one has a milestone twice under the same date.
const SUPERSEDED_ODDITY: (u32, u32) = (400, 61);

/// What a row is found and sorted by.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: Uuid,
    pub(crate) ats1_id: i64,
    pub(crate) created: LocalMs,
    pub(crate) updated: LocalMs,
}

/// Everything an applicant follows from, besides its index.
#[derive(Debug)]
pub(crate) struct Recipe {
    seed: u64,
    zone: Tz,
    now: DateTime<Utc>,
    oddities: bool,
    /// Indices from here on were added later: nothing is planted in them.
    generated: u32,
    masters: Masters,
}

impl Recipe {
    pub(crate) fn new(options: &AtsOptions, generated: u32, masters: Masters) -> Recipe {
        Recipe {
            seed: options.seed,
            zone: options.zone,
            now: options.now,
            oddities: options.oddities,
            generated,
            masters,
        }
    }

    pub(crate) fn head(&self, index: u32) -> Head {
        self.head_and_rest(index).0
    }

    /// The applicant as it was generated.
    pub(crate) fn applicant(&self, index: u32) -> Value {
        let (head, mut rng) = self.head_and_rest(index);
        self.body(index, &head, &mut rng)
    }

    /// A new applicant, who was entered at `now`.
    pub(crate) fn newcomer(&self, index: u32, now: LocalMs) -> Value {
        let (generated, mut rng) = self.head_and_rest(index);
        let head = Head { created: now, updated: now, ..generated };
        self.body(index, &head, &mut rng)
    }

    /// Whether this one got the `ats1_id` of the one before it.
    pub(crate) fn repeats_ats1_id(&self, index: u32) -> bool {
        self.oddities && index < self.generated && index % ATS1_ODDITY.0 == ATS1_ODDITY.1
    }

    /// Whether this one has a milestone twice under the same date.
    pub(crate) fn repeats_milestone(&self, index: u32) -> bool {
        self.oddities && index < self.generated && index % SUPERSEDED_ODDITY.0 == SUPERSEDED_ODDITY.1
    }

    fn head_and_rest(&self, index: u32) -> (Head, Rng) {
        let mut rng = stream(self.seed, STREAM, u64::from(index));
        let id = uuid(&mut rng);
        let age = rng.i64(DAY_MS..HISTORY_DAYS * DAY_MS);
        let untouched = per_mille(&mut rng, 300);
        // The register's daily poll should find something.
        let touched_lately = per_mille(&mut rng, 30);
        let created = self.local_before_now(round(&mut rng, age));
        let updated = match (touched_lately, untouched) {
            (true, _) => self.local_before_now(rng.i64(0..age.min(2 * DAY_MS))),
            (false, true) => created,
            (false, false) => {
                let since = rng.i64(0..age);
                self.local_before_now(round(&mut rng, since))
            }
        };
        // Rounding, or an hour that autumn shows twice, may have turned them round.
        let updated = updated.max(created);
        let numbered = if self.repeats_ats1_id(index) { index - 1 } else { index };
        let ats1_id = 100_000 + (u64::from(numbered) * ATS1_STRIDE % ATS1_IDS).cast_signed();
        (Head { id, ats1_id, created, updated }, rng)
    }

    fn local_before_now(&self, ms: i64) -> LocalMs {
        dates::local(self.now - TimeDelta::milliseconds(ms), self.zone)
    }

    fn body(&self, index: u32, head: &Head, rng: &mut Rng) -> Value {
        let (first, last) = (names::first(rng), names::last(rng));
        let id = head.id.to_string();
        let registered = dates::existing(head.created - rng.i64(0..120 * DAY_MS), self.zone).min(head.created);
        let mut applicant = json!({
            "applicant_id": if per_mille(rng, 30) { odd_case(rng, &id) } else { id },
            "ats1_id": head.ats1_id,
            "email_address": names::email(rng, &first, &last),
            "phone_number": names::phone(rng),
            "first_name": first,
            "last_name": last,
            "country_of_residence": country_of_residence(rng),
            "countries_of_citizenship": citizenship(rng),
            "pr_status": if per_mille(rng, 880) { "No status" } else { pick(rng, catalogue::PR_STATUSES) },
            "assigned_to": self.assigned_to(rng),
            "pathway_id": pathway(rng),
            "registration_date": dates::text(registered),
            "created_date": dates::text(head.created),
            "updated_date": dates::text(head.updated),
            "nursing_educations": educations(rng),
            "milestones": Milestones::of(self, index, head, registered, rng),
        });
        if per_mille(rng, 40) {
            applicant["bccnm_license_number"] = json!(format!("LR{:06}", rng.u32(0..1_000_000)));
        }
        if per_mille(rng, 30) {
            applicant["notes"] = json!([{ "date": dates::text(head.updated), "text": pick(rng, catalogue::NOTES) }]);
        }
        applicant
    }

    fn assigned_to(&self, rng: &mut Rng) -> Value {
        let staff = &self.masters.staff;
        if staff.is_empty() || per_mille(rng, 700) {
            return Value::Null;
        }
        let mut person = || {
            let member = &staff[rng.usize(..staff.len())];
            json!({ "id": member["id"], "name": member["name"] })
        };
        let (one, two) = (person(), person());
        match rng.u32(0..100) {
            // Two older ways of writing it.
            0..=2 => json!([{ "id": rng.u32(1..500), "name": one["name"] }]),
            3..=6 => one,
            7..=12 if one != two => json!([one, two]),
            _ => json!([one]),
        }
    }

    fn staff_id(&self, rng: &mut Rng) -> Option<String> {
        let staff = &self.masters.staff;
        if staff.is_empty() {
            return None;
        }
        let id = staff[rng.usize(..staff.len())]["id"].as_str()?;
        Some(if rng.bool() { id.to_ascii_lowercase() } else { id.to_owned() })
    }

    fn reason_id(&self, rng: &mut Rng) -> Option<String> {
        let reasons = &self.masters.reasons;
        if reasons.is_empty() {
            return None;
        }
        let id = reasons[rng.usize(..reasons.len())]["id"].as_str()?;
        Some(if per_mille(rng, 150) { odd_case(rng, id) } else { id.to_owned() })
    }
}

/// Times have 3, 2, 1 or no fraction digits: the ATS never pads.
fn round(rng: &mut Rng, ms: i64) -> i64 {
    let step = [1, 1, 1, 10, 10, 100, 100, 1_000][rng.usize(..8)];
    ms / step * step
}

fn country(rng: &mut Rng) -> &'static str {
    if per_mille(rng, 40) {
        return pick(rng, catalogue::ODD_COUNTRIES);
    }
    // The smaller of two draws: the front of the list is the common part.
    let countries = catalogue::COUNTRIES;
    let at = rng.usize(..countries.len()).min(rng.usize(..countries.len()));
    countries[at]
}

fn country_of_residence(rng: &mut Rng) -> Value {
    if per_mille(rng, 770) { Value::Null } else { json!(country(rng)) }
}

fn citizenship(rng: &mut Rng) -> Value {
    match rng.u32(0..1_000) {
        0..700 => json!([]),
        700..715 => json!(country(rng)),
        715..760 => json!([country(rng), country(rng)]),
        _ => json!([country(rng)]),
    }
}

fn pathway(rng: &mut Rng) -> Value {
    if !per_mille(rng, 80) {
        return Value::Null;
    }
    let name = pick(rng, &["pathway one", "pathway two", "pathway three"]);
    json!(super::random::uuid_of(name).to_string())
}

fn educations(rng: &mut Rng) -> Value {
    let count = if per_mille(rng, 720) { 0 } else { rng.usize(1..=3) };
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(json!({
            "id": uuid(rng).to_string(),
            "name": pick(rng, catalogue::EDUCATIONS),
            "country": if per_mille(rng, 800) { Value::Null } else { json!(country(rng)) },
            "num_years": rng.u32(0..=5),
            "year": if per_mille(rng, 600) { 0 } else { rng.u32(1985..=2025) },
        }));
    }
    Value::Array(list)
}

/// Builds one applicant's milestones; nothing gets in twice under the same status and date by accident.
struct Milestones<'a> {
    recipe: &'a Recipe,
    head: &'a Head,
    first_day: i64,
    days: i64,
    taken: BTreeSet<(String, Option<i64>)>,
    list: Vec<Value>,
}

impl Milestones<'_> {
    fn of(recipe: &Recipe, index: u32, head: &Head, registered: LocalMs, rng: &mut Rng) -> Value {
        let first_day = day(registered);
        let days = day(head.updated) - first_day;
        let mut all = Milestones { recipe, head, first_day, days, taken: BTreeSet::new(), list: Vec::new() };
        for steps in [catalogue::STEPS, catalogue::RECRUITMENT_STEPS, catalogue::IMMIGRATION_STEPS] {
            all.go(steps, rng);
        }
        all.stop_and_resume(rng);
        if per_mille(rng, catalogue::ARCHIVED.share) {
            let on = all.some_day(rng);
            all.push(&catalogue::ARCHIVED, on, rng);
        }
        if recipe.repeats_milestone(index) {
            all.repeat_first();
        }
        Value::Array(all.list)
    }

    /// The steps somebody has taken, in order, a few of them twice.
    fn go(&mut self, steps: &[Kind], rng: &mut Rng) {
        let gone: Vec<&Kind> = steps.iter().filter(|kind| per_mille(rng, kind.share)).collect();
        let mut days: Vec<i64> = gone.iter().map(|_| self.some_day_known(rng)).collect();
        days.sort_unstable();
        for (kind, on) in gone.into_iter().zip(days) {
            let undated = per_mille(rng, 150);
            self.push(kind, if undated { None } else { Some(on) }, rng);
            if !undated && per_mille(rng, 15) {
                let again = self.some_day_known(rng);
                self.push(kind, Some(again), rng);
            }
        }
    }

    fn stop_and_resume(&mut self, rng: &mut Rng) {
        for kind in [&catalogue::NOT_PROCEEDING, &catalogue::WITHDREW] {
            if !per_mille(rng, kind.share) {
                continue;
            }
            let stopped = self.first_day + self.days / 2;
            self.push(kind, Some(stopped), rng);
            let resumed = stopped + 1 + rng.i64(0..=(self.days / 3).max(0));
            if per_mille(rng, catalogue::RE_ENGAGED.share) && resumed <= self.first_day + self.days {
                self.push(&catalogue::RE_ENGAGED, Some(resumed), rng);
            }
        }
    }

    fn some_day(&self, rng: &mut Rng) -> Option<i64> {
        if per_mille(rng, 150) { None } else { Some(self.some_day_known(rng)) }
    }

    fn some_day_known(&self, rng: &mut Rng) -> i64 {
        self.first_day + rng.i64(0..=self.days)
    }

    fn push(&mut self, kind: &Kind, on: Option<i64>, rng: &mut Rng) {
        let id = kind.id();
        if !self.taken.insert((id.clone(), on)) {
            return;
        }
        let Head { created, updated, .. } = *self.head;
        let entered = dates::existing(rng.i64(created..=updated), self.recipe.zone).min(updated);
        let mut milestone = Map::new();
        let id = if per_mille(rng, 30) { odd_case(rng, &id) } else { id };
        milestone.insert("id".to_owned(), json!(id));
        milestone.insert("name".to_owned(), json!(kind.name));
        milestone.insert("start_date".to_owned(), on.map_or(Value::Null, |on| json!(dates::text(on * DAY_MS))));
        milestone.insert("created_date".to_owned(), json!(dates::text(entered)));
        let stops = [catalogue::NOT_PROCEEDING.name, catalogue::WITHDREW.name].contains(&kind.name);
        if per_mille(rng, if stops { 600 } else { 80 }) {
            milestone.insert("notes".to_owned(), json!(pick(rng, catalogue::NOTES)));
        }
        if per_mille(rng, 250)
            && let Some(id) = self.recipe.staff_id(rng)
        {
            milestone.insert("added_by".to_owned(), json!(id));
        }
        if stops
            && per_mille(rng, 850)
            && let Some(id) = self.recipe.reason_id(rng)
        {
            milestone.insert("reason_id".to_owned(), json!(id));
            if per_mille(rng, 250) {
                milestone.insert("reason_other".to_owned(), json!(pick(rng, catalogue::NOTES)));
            }
        }
        if let Some(on) = on
            && (kind.category == catalogue::RECRUITMENT || stops)
            && per_mille(rng, 500)
        {
            milestone.insert("effective_date".to_owned(), json!(dates::text((on + rng.i64(0..60)) * DAY_MS)));
        }
        self.list.push(Value::Object(milestone));
    }

    /// The planted oddity: the first milestone once more, entered earlier and with other words.
    fn repeat_first(&mut self) {
        let Some(mut earlier) = self.list.first().cloned() else { return };
        let entered = earlier["created_date"].as_str().and_then(dates::parse).unwrap_or(self.head.created);
        earlier["created_date"] = json!(dates::text(dates::existing(entered - DAY_MS, self.recipe.zone)));
        earlier["notes"] = json!("Entered by mistake.");
        self.list.push(earlier);
    }
}
