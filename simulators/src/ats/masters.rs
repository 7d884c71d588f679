//! The master lists: made from a seed, or read off a recorded feed. No I/O.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue::{self, HEALTH_AUTHORITIES, LICENSING, REASONS};
use super::random::{odd_case, per_mille, stream, uuid, uuid_of};
use super::{Endpoint, names};

const STREAM: u64 = 0x57af;

/// The master lists as they are served (ATS contract, "Endpoints of the ATS").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Masters {
    /// `{id, name, email}`: ids in any case; some share an e-mail address, some have none.
    pub staff: Vec<Value>,
    /// `{id, name, abbreviation}`.
    pub health_authorities: Vec<Value>,
    /// `{id, name, i_e_n_program, recruitment}`.
    pub reasons: Vec<Value>,
    /// `{id, name, category?, "process-related"?}`.
    pub milestones: Vec<Value>,
}

impl Masters {
    /// The lists of a generated ATS with so many applicants.
    pub(crate) fn generate(seed: u64, applicants: usize) -> Masters {
        Masters {
            staff: staff(seed, (applicants / 50).clamp(12, 400)),
            health_authorities: health_authorities(),
            reasons: REASONS
                .iter()
                .map(|(name, ien, recruitment)| reason(&uuid_of(name).to_string(), name, *ien, *recruitment))
                .collect(),
            milestones: milestones(seed),
        }
    }

    /// What must have been in the lists when this feed was recorded: every milestone, reason and member of staff
    /// that it names.
    pub(crate) fn from_feed(applicants: &[Value]) -> Masters {
        let mut milestones = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        let mut staff = BTreeMap::new();
        for applicant in applicants {
            for person in one_or_many(&applicant["assigned_to"]) {
                if let (Some(id), name) = (person["id"].as_str(), &person["name"]) {
                    let entry = json!({ "id": id, "name": name, "email": null });
                    staff.insert(id.to_ascii_lowercase(), entry);
                }
            }
            for milestone in one_or_many(&applicant["milestones"]) {
                if let (Some(id), Some(name)) = (milestone["id"].as_str(), milestone["name"].as_str()) {
                    milestones.entry(id.to_ascii_lowercase()).or_insert_with(|| listed_milestone(id, name));
                }
                if let Some(id) = milestone["reason_id"].as_str() {
                    let name = format!("Reason {}", reasons.len() + 1);
                    reasons.entry(id.to_ascii_lowercase()).or_insert_with(|| reason(id, &name, true, true));
                }
                if let Some(id) = milestone["added_by"].as_str() {
                    let entry = || json!({ "id": id, "name": "Unnamed", "email": null });
                    staff.entry(id.to_ascii_lowercase()).or_insert_with(entry);
                }
            }
        }
        Masters {
            staff: staff.into_values().collect(),
            health_authorities: health_authorities(),
            reasons: reasons.into_values().collect(),
            milestones: milestones.into_values().collect(),
        }
    }

    /// The list behind an endpoint; `None` for those that serve no master list.
    pub(crate) fn list(&self, endpoint: Endpoint) -> Option<&Vec<Value>> {
        match endpoint {
            Endpoint::Staff => Some(&self.staff),
            Endpoint::HealthAuthorities => Some(&self.health_authorities),
            Endpoint::Reasons => Some(&self.reasons),
            Endpoint::Milestones => Some(&self.milestones),
            Endpoint::Departments | Endpoint::Applicants => None,
        }
    }

    pub(crate) fn list_mut(&mut self, endpoint: Endpoint) -> Option<&mut Vec<Value>> {
        match endpoint {
            Endpoint::Staff => Some(&mut self.staff),
            Endpoint::HealthAuthorities => Some(&mut self.health_authorities),
            Endpoint::Reasons => Some(&mut self.reasons),
            Endpoint::Milestones => Some(&mut self.milestones),
            Endpoint::Departments | Endpoint::Applicants => None,
        }
    }
}

/// The elements of a list, or the value itself: some fields hold either.
pub(crate) fn one_or_many(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        other => std::slice::from_ref(other),
    }
}

fn staff(seed: u64, count: usize) -> Vec<Value> {
    let mut rng = stream(seed, STREAM, 0);
    let mut staff: Vec<Value> = Vec::with_capacity(count);
    for number in 0..count {
        let (first, last) = (names::first(&mut rng), names::last(&mut rng));
        let id = uuid(&mut rng).to_string();
        let id = if per_mille(&mut rng, 500) { odd_case(&mut rng, &id) } else { id };
        let email = match number % 20 {
            // One person, entered twice.
            3 => staff[number - 1]["email"].clone(),
            7 => Value::Null,
            11 => json!(""),
            _ => json!(format!("staff{number}.{}", names::email(&mut rng, &first, &last))),
        };
        let mut entry = json!({ "id": id, "name": format!("{first} {last}"), "email": email });
        if number % 20 == 17
            && let Some(fields) = entry.as_object_mut()
        {
            fields.remove("email");
        }
        staff.push(entry);
    }
    staff
}

fn health_authorities() -> Vec<Value> {
    let entry = |(name, abbreviation): &(&str, &str)| json!({ "id": uuid_of(name).to_string(), "name": name, "abbreviation": abbreviation });
    HEALTH_AUTHORITIES.iter().map(entry).collect()
}

fn reason(id: &str, name: &str, ien_program: bool, recruitment: bool) -> Value {
    json!({ "id": id, "name": name, "i_e_n_program": ien_program, "recruitment": recruitment })
}

fn milestones(seed: u64) -> Vec<Value> {
    let mut rng = stream(seed, STREAM, 1);
    let mut list = Vec::new();
    for kind in catalogue::listed() {
        let id = kind.id();
        let id = if per_mille(&mut rng, 100) { odd_case(&mut rng, &id) } else { id };
        let mut entry = json!({ "id": id, "name": kind.name });
        if !kind.category.is_empty() {
            entry["category"] = json!(kind.category);
        }
        if per_mille(&mut rng, 600) {
            entry["process-related"] = json!(kind.category != catalogue::SYSTEM);
        }
        list.push(entry);
    }
    list
}

fn listed_milestone(id: &str, name: &str) -> Value {
    let known = catalogue::listed().find(|kind| kind.id().eq_ignore_ascii_case(id));
    let category = known.map_or(LICENSING, |kind| kind.category);
    json!({ "id": id, "name": name, "category": category })
}
