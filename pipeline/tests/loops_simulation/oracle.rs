//! What must hold in the end, worked out from the script alone.

use std::collections::{BTreeMap, BTreeSet};

use schemas::Entity;
use schemas::records::register;

use crate::common::{key_of, version_of};
use crate::machine::Sim;
use crate::outside::{APPLICANTS, Held, MILESTONES, REASONS};

/// A table as a person would write it down: what is there, and what it says.
type Table = BTreeMap<String, String>;

/// What a person did to single records.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Reasons that the target won't take.
    pub refused: BTreeSet<String>,
    /// Replayed with an edit: the topic has this name for them, whatever the system says.
    pub edited: BTreeMap<String, String>,
    /// Letters that may be there: who set aside, and which key. Those marked must be there.
    pub letters: BTreeMap<(String, Option<String>), bool>,
}

impl Plan {
    pub fn letter(&mut self, component: &str, key: Option<&str>, must: bool) {
        let there = self.letters.entry((component.to_owned(), key.map(str::to_owned))).or_default();
        *there |= must;
    }
}

/// The register as the system's rows and the plan make it.
pub fn wanted(sim: &Sim, plan: &Plan) -> BTreeMap<&'static str, Table> {
    let mut reasons = Table::new();
    for row in sim.outside.rows(REASONS) {
        if let Held::Reason(reason) = &row.held
            && reason.name != "bad"
        {
            reasons.insert(row.id.clone(), reason.name.to_uppercase());
        }
    }
    for (id, name) in &plan.edited {
        reasons.insert(id.clone(), name.to_uppercase());
    }
    let mut names = BTreeMap::new();
    for row in sim.outside.rows(MILESTONES) {
        if let Held::Milestone(milestone) = row.held
            && milestone.name != "bad"
        {
            names.insert(row.id, milestone.name);
        }
    }
    let (mut applicants, mut reached, mut standings) = (Table::new(), Table::new(), Table::new());
    for row in sim.outside.rows(APPLICANTS) {
        let Held::Applicant(applicant) = row.held else { continue };
        let mut own = Table::new();
        for milestone in &applicant.milestones {
            if let Some(name) = names.get(&milestone.id) {
                own.insert(format!("{} {}", row.id, milestone.id), name.clone());
            }
        }
        let said = own.values().map(String::as_str).collect::<Vec<_>>().join(", ");
        if sim.standings {
            standings.insert(row.id.clone(), format!("{}: {said}", applicant.first_name));
        }
        reached.extend(own);
        applicants.insert(row.id, applicant.first_name);
    }
    BTreeMap::from([
        ("register.reason", reasons),
        ("register.applicant", applicants),
        ("register.milestone", reached),
        ("register.user", standings),
    ])
}

/// What the target holds.
pub fn held(sim: &Sim) -> BTreeMap<&'static str, Table> {
    let reasons = rows::<register::Reason>(sim).into_iter().map(|row| (row.id, row.name));
    let applicants = rows::<register::Applicant>(sim).into_iter().map(|row| (row.applicant_id, row.first_name));
    let milestones = rows::<register::Milestone>(sim).into_iter();
    let milestones =
        milestones.map(|row| (format!("{} {}", row.applicant_id, row.status_id), row.notes.unwrap_or_default()));
    BTreeMap::from([
        ("register.reason", reasons.collect()),
        ("register.applicant", applicants.collect()),
        ("register.milestone", milestones.collect()),
        ("register.user", rows::<register::User>(sim).into_iter().map(|row| (row.id, row.name)).collect()),
    ])
}

fn rows<E: Entity>(sim: &Sim) -> Vec<E> {
    let schema = &schemas::catalogue().entity(E::TOPIC).unwrap().schema;
    let rows = sim.target.rows(E::TOPIC).into_values();
    rows.map(|row| schemas::from_avro(schema, &row.body.unwrap()).unwrap()).collect()
}

/// Compares everything that must agree in the end. `Err` names the first thing that doesn't.
pub async fn check(sim: &Sim, plan: &Plan) -> Result<(), String> {
    let wanted = wanted(sim, plan);
    let held = held(sim);
    for (topic, wanted) in &wanted {
        let mut in_target = wanted.clone();
        in_target.retain(|id, _| *topic != "register.reason" || !plan.refused.contains(id));
        if held[topic] != in_target {
            return Err(format!("the target holds of {topic}: {}", difference(&held[topic], &in_target)));
        }
    }
    for topic in wanted.keys() {
        check_topic(sim, topic, &wanted[topic]).await?;
    }
    check_letters(sim, plan).await?;
    check_ledger(sim).await
}

/// The topic says as many things as the oracle, and for each key the last record is the newest: readers and compaction
/// agree on it. The target's row is that record.
async fn check_topic(sim: &Sim, topic: &str, wanted: &Table) -> Result<(), String> {
    let mut latest = BTreeMap::new();
    let mut highest: BTreeMap<String, i64> = BTreeMap::new();
    for record in sim.world.records(topic).await {
        let (key, version) = (key_of(&record), version_of(&record));
        let most = highest.entry(key.clone()).or_default();
        *most = (*most).max(version);
        latest.insert(key, (version, record.value.is_some()));
    }
    for (key, (version, _)) in &latest {
        if highest[key] != *version {
            return Err(format!("the last record of {key} in {topic} isn't its newest"));
        }
    }
    latest.retain(|_, (_, there)| *there);
    if latest.len() != wanted.len() {
        let keys: Vec<&String> = latest.keys().collect();
        return Err(format!("{topic} holds {keys:?}, wanted {wanted:?}"));
    }
    for (key, row) in sim.target.rows(topic) {
        if latest.get(&key).is_some_and(|(version, _)| *version != row.version.0) {
            return Err(format!("the target holds another version of {key} than {topic}"));
        }
    }
    Ok(())
}

async fn check_letters(sim: &Sim, plan: &Plan) -> Result<(), String> {
    let mut must: BTreeSet<(String, Option<String>)> =
        plan.letters.iter().filter(|(_, must)| **must).map(|(letter, _)| letter.clone()).collect();
    for letter in sim.world.letters().await {
        let found = (letter.component.clone(), letter.key.clone());
        if !plan.letters.contains_key(&found) {
            return Err(format!("{found:?} was set aside, {}: nobody planned that", letter.reason));
        }
        must.remove(&found);
    }
    if must.is_empty() { Ok(()) } else { Err(format!("{must:?} must be in the dead letters")) }
}

async fn check_ledger(sim: &Sim) -> Result<(), String> {
    for row in sim.world.operations().ledger().await.map_err(|error| error.to_string())? {
        row.counts.balanced().map_err(|breach| format!("{} of {}: {breach}", row.component, row.process))?;
    }
    Ok(())
}

fn difference(held: &Table, wanted: &Table) -> String {
    let mut lines = Vec::new();
    for (id, says) in held.iter().filter(|(id, says)| wanted.get(*id) != Some(*says)) {
        let should = wanted.get(id).map_or("nothing".to_owned(), |should| format!("{should:?}"));
        lines.push(format!("{id} is {says:?}, should be {should}"));
    }
    lines.extend(wanted.keys().filter(|id| !held.contains_key(*id)).map(|id| format!("{id} is missing")));
    lines.join("; ")
}
