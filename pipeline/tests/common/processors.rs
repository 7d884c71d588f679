//! Small processors: reasons, one by one, applicants, which are looked up in a table, and standings, which are made of two
//! topics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use pipeline::processor::{Group, Input, Outputs, Processor, Row};
use pipeline::reject::{Reason as Why, Reject};
use schemas::records::{ats, register};

fn decode<E: schemas::Entity>(row: &Row) -> Result<E, Reject> {
    schemas::from_avro(&row.payload.schema, &row.payload.body).map_err(|malformed| {
        let why = Why::new("malformed", malformed.to_string());
        Reject::new(Some(row.key.clone()), why, row.payload.body.clone())
    })
}

/// `ats.reason` -> `register.reason`. One called `bad` can't be used.
#[derive(Default)]
pub struct Reasons {
    pub version: AtomicU32,
    pub derived: AtomicU32,
}

impl Reasons {
    pub fn raise(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub fn derived(&self) -> u32 {
        self.derived.load(Ordering::SeqCst)
    }
}

impl Processor for Reasons {
    type In = ats::Reason;
    type Tables = ();

    fn name(&self) -> &'static str {
        "reasons"
    }
    fn version(&self) -> u32 {
        self.version.load(Ordering::SeqCst)
    }
    fn inputs(&self) -> &'static [&'static str] {
        &["ats.reason"]
    }
    fn tables(&self) -> &'static [&'static str] {
        &[]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["register.reason"]
    }
    fn decode(&self, row: &Row) -> Result<ats::Reason, Reject> {
        decode(row)
    }
    fn arrange(&self, _: &[Row], _: &mut Vec<Reject>) {}
    fn derive(&self, group: &Group<ats::Reason>, (): &(), out: &mut Outputs) -> Result<(), Reject> {
        self.derived.fetch_add(1, Ordering::SeqCst);
        for input in &group.inputs {
            let reason = &input.value;
            // Its parts can't be used, and the rest goes on.
            for part in reason.name.split(' ').filter(|part| part.starts_with("part-")) {
                let why = Why::new("bad_part", "part: it can't be used");
                out.reject(Reject::new(Some(schemas::Key::of(&[Some(&reason.id), Some(part)])), why, Bytes::new()));
            }
            if reason.name == "bad" {
                let why = Why::new("bad_name", "name: anything but bad was expected");
                return Err(Reject::new(Some(group.key.clone()), why, Bytes::new()));
            }
            out.put(&register::Reason {
                id: reason.id.clone(),
                name: reason.name.to_uppercase(),
                i_e_n_program: reason.i_e_n_program,
                recruitment: reason.recruitment,
            })?;
        }
        Ok(())
    }
}

/// [`Reasons`] as one group: a bad one is left out, the others go on.
#[derive(Default)]
pub struct AllReasons;

impl Processor for AllReasons {
    type In = ats::Reason;
    type Tables = ();

    fn name(&self) -> &'static str {
        "reasons"
    }
    fn version(&self) -> u32 {
        1
    }
    fn inputs(&self) -> &'static [&'static str] {
        &["ats.reason"]
    }
    fn tables(&self) -> &'static [&'static str] {
        &[]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["register.reason"]
    }
    fn one_group(&self) -> bool {
        true
    }
    fn decode(&self, row: &Row) -> Result<ats::Reason, Reject> {
        decode(row)
    }
    fn arrange(&self, _: &[Row], _: &mut Vec<Reject>) {}
    fn derive(&self, group: &Group<ats::Reason>, (): &(), out: &mut Outputs) -> Result<(), Reject> {
        for Input { key, value, .. } in &group.inputs {
            if value.name == "bad" {
                let why = Why::new("bad_name", "name: anything but bad was expected");
                out.reject(Reject::new(Some(key.clone()), why, Bytes::new()));
                continue;
            }
            let (id, name) = (value.id.clone(), value.name.to_uppercase());
            out.put(&register::Reason { id, name, i_e_n_program: true, recruitment: false })?;
        }
        Ok(())
    }
}

/// `ats.applicant` with the names of milestones from the table `ats.milestone` -> `register.applicant` and
/// `register.milestone`. A milestone that the table doesn't have is left out; one called `bad` can't be used.
#[derive(Default)]
pub struct Applicants;

impl Processor for Applicants {
    type In = ats::Applicant;
    type Tables = BTreeMap<String, String>;

    fn name(&self) -> &'static str {
        "applicants"
    }
    fn version(&self) -> u32 {
        1
    }
    fn inputs(&self) -> &'static [&'static str] {
        &["ats.applicant"]
    }
    fn tables(&self) -> &'static [&'static str] {
        &["ats.reason", "ats.milestone"]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["register.applicant", "register.milestone"]
    }
    fn decode(&self, row: &Row) -> Result<ats::Applicant, Reject> {
        decode(row)
    }
    fn arrange(&self, rows: &[Row], rejects: &mut Vec<Reject>) -> Self::Tables {
        let mut table = BTreeMap::new();
        for row in rows.iter().filter(|row| &*row.topic == "ats.milestone") {
            match decode::<ats::Milestone>(row) {
                Ok(milestone) if milestone.name == "bad" => {
                    let why = Why::new("bad_name", "name: anything but bad was expected");
                    rejects.push(Reject::new(Some(row.key.clone()), why, row.payload.body.clone()));
                }
                Ok(milestone) => drop(table.insert(milestone.id, milestone.name)),
                Err(reject) => rejects.push(reject),
            }
        }
        table
    }
    fn derive(&self, group: &Group<ats::Applicant>, names: &Self::Tables, out: &mut Outputs) -> Result<(), Reject> {
        for input in &group.inputs {
            let applicant = &input.value;
            out.put(&register_applicant(applicant))?;
            for reached in &applicant.milestones {
                match names.get(&reached.id) {
                    Some(name) => out.put(&register_milestone(&applicant.applicant_id, &reached.id, name))?,
                    None => out.leave_out("unknown milestone"),
                }
            }
        }
        Ok(())
    }
}

/// `ats.applicant` and the applicant's `register.milestone`s, together -> `register.user`: the name, and what was reached.
/// Milestones without an applicant are nobody's; one noted as `bad` can't be used, and one noted as `part` costs itself.
pub struct Standings {
    pub inputs: &'static [&'static str],
    pub derived: AtomicU32,
}

impl Default for Standings {
    fn default() -> Self {
        Self { inputs: &["ats.applicant", "register.milestone"], derived: AtomicU32::new(0) }
    }
}

impl Standings {
    pub fn derived(&self) -> u32 {
        self.derived.load(Ordering::SeqCst)
    }
}

pub enum Standing {
    Applicant(String),
    Reached(String),
}

impl Processor for Standings {
    type In = Standing;
    type Tables = ();

    fn name(&self) -> &'static str {
        "standings"
    }
    fn version(&self) -> u32 {
        1
    }
    fn inputs(&self) -> &'static [&'static str] {
        self.inputs
    }
    fn tables(&self) -> &'static [&'static str] {
        &[]
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["register.user"]
    }
    fn decode(&self, row: &Row) -> Result<Standing, Reject> {
        if &*row.topic == "ats.applicant" {
            return Ok(Standing::Applicant(decode::<ats::Applicant>(row)?.first_name));
        }
        let notes = decode::<register::Milestone>(row)?.notes.unwrap_or_default();
        if notes == "bad" {
            let why = Why::new("bad_notes", "notes: anything but bad was expected");
            return Err(Reject::new(Some(row.key.clone()), why, row.payload.body.clone()));
        }
        Ok(Standing::Reached(notes))
    }
    fn arrange(&self, _: &[Row], _: &mut Vec<Reject>) {}
    fn derive(&self, group: &Group<Standing>, (): &(), out: &mut Outputs) -> Result<(), Reject> {
        self.derived.fetch_add(1, Ordering::SeqCst);
        let (mut name, mut reached) = (None, Vec::new());
        for input in &group.inputs {
            match &input.value {
                Standing::Applicant(first_name) => name = Some(first_name),
                Standing::Reached(notes) if notes == "part" => {
                    let why = Why::new("bad_part", "notes: it can't be used");
                    out.reject(Reject::new(Some(input.key.clone()), why, Bytes::new()));
                }
                Standing::Reached(notes) => reached.push(notes.as_str()),
            }
        }
        let Some(name) = name else { return Ok(()) };
        let name = format!("{name}: {}", reached.join(", "));
        out.put(&register::User { id: group.key.as_str().to_owned(), name, email: None, user_id: None })
    }
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

pub fn applicant_id(n: u32) -> String {
    uuid(n)
}

pub fn milestone_id(n: u32) -> String {
    uuid(0x1000 + n)
}

/// An applicant who has reached these milestones.
pub fn applicant(n: u32, first_name: &str, milestones: &[u32]) -> ats::Applicant {
    let milestones = milestones.iter().map(|m| serde_json::json!({ "id": milestone_id(*m) }));
    let empty = catalogue_default("ats.applicant");
    let mut json = empty;
    json["applicant_id"] = applicant_id(n).into();
    json["ats1_id"] = n.into();
    json["first_name"] = first_name.into();
    json["milestones"] = milestones.collect();
    serde_json::from_value(json).unwrap()
}

fn catalogue_default(_: &str) -> serde_json::Value {
    serde_json::json!({
        "applicant_id": "", "ats1_id": 0, "first_name": "", "last_name": "Doe", "email_address": "", "phone_number": "",
        "countries_of_citizenship": [], "pr_status": "", "nursing_educations": [], "milestones": []
    })
}

pub fn milestone(n: u32, name: &str) -> ats::Milestone {
    ats::Milestone { id: milestone_id(n), name: name.into(), category: None, process_related: None }
}

fn register_applicant(applicant: &ats::Applicant) -> register::Applicant {
    serde_json::from_value(serde_json::json!({
        "applicant_id": applicant.applicant_id, "name": applicant.first_name, "first_name": applicant.first_name,
        "last_name": applicant.last_name, "email_address": "", "phone_number": "", "country_of_citizenship": [],
        "pr_status": "", "nursing_educations": [], "new_bccnm_process": false
    }))
    .unwrap()
}

pub fn register_milestone(applicant: &str, status: &str, name: &str) -> register::Milestone {
    serde_json::from_value(serde_json::json!({
        "id": status, "applicant_id": applicant, "status_id": status, "notes": name
    }))
    .unwrap()
}
