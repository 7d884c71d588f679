//! What the register must hold, worked out from the recruiting system's lists as the ATS contract says, in the
//! plainest way: all rows at once, no history, none of the program's own code.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::America::Vancouver;
use serde_json::{Map, Value, json};
use simulators::ats::Masters;

use super::register::{Register, Table, moment};

/// What must be in the register, and which rows contend for a place in it.
pub struct Expected {
    tables: BTreeMap<String, Table>,
    /// Applicants with the same number in the old system: one is in the register, the others wait.
    contenders: Vec<BTreeSet<String>>,
}

/// What the register must hold for these lists. Every applicant must be readable: leave bad records out, or put in
/// what was last readable in their place.
pub fn expected(applicants: &[Value], masters: &Masters) -> Result<Expected> {
    let user_of = users_by_staff(&masters.staff);
    let mut tables = BTreeMap::new();
    tables.insert("ien_users".into(), users(&masters.staff, &user_of));
    tables.insert(
        "ien_ha_pcn".into(),
        each(
            &masters.health_authorities,
            |authority, id| json!({ "id": id, "title": authority["name"], "abbreviation": authority["abbreviation"] }),
        ),
    );
    tables.insert("ien_status_reasons".into(), each(&masters.reasons, |reason, id| {
        json!({ "id": id, "name": reason["name"], "i_e_n_program": reason["i_e_n_program"], "recruitment": reason["recruitment"] })
    }));
    // "Milestone names containing "NCAS" are renamed to "Inspire"."
    tables.insert(
        "ien_applicant_status".into(),
        each(&masters.milestones, |status, id| {
            let name = status["name"].as_str().unwrap_or_default().replace("NCAS", "Inspire");
            json!({ "id": id, "status": name, "category": status["category"], "version": "2" })
        }),
    );

    let statuses: BTreeMap<String, &Value> =
        masters.milestones.iter().map(|status| (low(&status["id"]), status)).collect();
    let mut people = Table::new();
    let mut audit = Table::new();
    let mut by_number: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for applicant in applicants {
        let id = low(&applicant["applicant_id"]);
        let kept = milestones(applicant, &statuses, &user_of)?;
        let row = person(applicant, &id, &kept, &statuses).with_context(|| format!("applicant {id}"))?;
        by_number.entry(row["ats1_id"].as_str().unwrap_or_default().to_owned()).or_default().insert(id.clone());
        ensure!(people.insert(id.clone(), row).is_none(), "the feed has {id} twice");
        audit.extend(kept);
    }
    tables.insert("ien_applicants".into(), people);
    tables.insert("ien_applicant_status_audit".into(), audit);
    let contenders = by_number.into_values().filter(|holders| holders.len() > 1).collect();
    Ok(Expected { tables, contenders })
}

impl Expected {
    /// The register holds exactly this.
    pub fn compare(&self, register: &Register) -> Result<()> {
        let mut tables = self.tables.clone();
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        for holders in &self.contenders {
            let there: Vec<&String> =
                holders.iter().filter(|id| register.table("ien_applicants").contains_key(*id)).collect();
            ensure!(there.len() == 1, "of {holders:?}, who have one number, {there:?} are there");
            for id in holders.iter().filter(|id| **id != *there[0]) {
                tables.get_mut("ien_applicants").context("applicants")?.remove(id);
                waiting.insert(format!("register.applicant/{id}"));
                let audit = tables.get_mut("ien_applicant_status_audit").context("milestones")?;
                let prefix = format!("{id}|");
                waiting.extend(
                    audit.keys().filter(|key| key.starts_with(&prefix)).map(|key| format!("register.milestone/{key}")),
                );
                audit.retain(|key, _| !key.starts_with(&prefix));
            }
        }
        for (name, wanted) in &tables {
            same(name, wanted, register.table(name))?;
        }
        let parked: BTreeSet<String> = register.waiting.keys().cloned().collect();
        ensure!(waiting == parked, "waiting: {parked:?}, not {waiting:?}");
        Ok(())
    }
}

fn same(name: &str, wanted: &Table, found: &Table) -> Result<()> {
    let missing: Vec<&String> = wanted.keys().filter(|key| !found.contains_key(*key)).collect();
    ensure!(
        missing.is_empty(),
        "{name}: {} of {} rows are missing, {:?} …",
        missing.len(),
        wanted.len(),
        missing.first()
    );
    let extra: Vec<&String> = found.keys().filter(|key| !wanted.contains_key(*key)).collect();
    ensure!(extra.is_empty(), "{name}: {} rows too many, {:?} …", extra.len(), extra.first());
    for (key, row) in wanted {
        for (column, value) in &found[key] {
            ensure!(row.get(column) == Some(value), "{name} {key}: {column} is {value}, not {:?}", row.get(column));
        }
        ensure!(row.len() == found[key].len(), "{name} {key}: not the same columns");
    }
    Ok(())
}

fn low(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Text that may be missing: blank is none.
fn optional(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::Number(number) => json!(number.to_string()),
        value => value.clone(),
    }
}

fn reference(value: &Value) -> Value {
    Some(low(value)).filter(|id| !id.is_empty()).map_or(Value::Null, Value::String)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn each(list: &[Value], row: impl Fn(&Value, &str) -> Value) -> Table {
    list.iter().map(|item| (low(&item["id"]), object(row(item, &low(&item["id"]))))).collect()
}

/// "Staff with the same e-mail are one user; its id is the smallest staff id; without e-mail keyed by id."
fn users_by_staff(staff: &[Value]) -> BTreeMap<String, String> {
    let mut smallest: BTreeMap<String, String> = BTreeMap::new();
    let identity = |member: &Value| match optional(&member["email"]) {
        Value::String(email) => format!("@{}", email.trim().to_lowercase()),
        _ => low(&member["id"]),
    };
    for member in staff {
        let id = low(&member["id"]);
        let first = smallest.entry(identity(member)).or_insert_with(|| id.clone());
        *first = id.min(first.clone());
    }
    staff.iter().map(|member| (low(&member["id"]), smallest[&identity(member)].clone())).collect()
}

fn users(staff: &[Value], user_of: &BTreeMap<String, String>) -> Table {
    let mut users = each(
        staff,
        |member, id| json!({ "id": id, "name": member["name"], "email": optional(&member["email"]), "user_id": id }),
    );
    users.retain(|id, _| user_of[id] == *id);
    users
}

/// "Local datetime without zone, 0–3 fraction digits."
fn local(value: &Value) -> Result<Option<NaiveDateTime>> {
    let Value::String(text) = optional(value) else { return Ok(None) };
    let read = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f");
    Ok(Some(read.with_context(|| "a date of the feed")?))
}

fn day(value: &Value) -> Result<Value> {
    Ok(local(value)?.map_or(Value::Null, |at| json!(at.date().to_string())))
}

fn utc(value: &Value) -> Result<Option<DateTime<Utc>>> {
    let Some(at) = local(value)? else { return Ok(None) };
    let moment = Vancouver.from_local_datetime(&at).earliest();
    Ok(Some(moment.context("a time that the clocks skipped")?.to_utc()))
}

fn time(value: &Value) -> Result<Value> {
    Ok(utc(value)?.map_or(Value::Null, moment))
}

/// The milestones the register keeps, by applicant, status and day.
fn milestones(
    applicant: &Value,
    statuses: &BTreeMap<String, &Value>,
    user_of: &BTreeMap<String, String>,
) -> Result<Table> {
    let id = low(&applicant["applicant_id"]);
    let mut kept = Table::new();
    let Some(list) = applicant["milestones"].as_array() else { bail!("applicant {id} has no milestones") };
    for milestone in list {
        let status = low(&milestone["id"]);
        // "Kept only if their id is a known status whose category is not the recruitment one."
        let Some(known) = statuses.get(&status) else { continue };
        if ["IEN Recruitment Process", "Recruitment"].contains(&known["category"].as_str().unwrap_or_default()) {
            continue;
        }
        let created = time(&milestone["created_date"])?;
        let start = day(&milestone["start_date"])?;
        let key = format!("{id}|{status}|{}", start.as_str().unwrap_or_default());
        // "Same applicant, status and date twice in one feed: newest `created_date`."
        if kept.get(&key).is_some_and(|other| other["created_date"].as_str() >= created.as_str()) {
            continue;
        }
        let added_by = user_of.get(&low(&milestone["added_by"])).map_or(Value::Null, |user| json!(user));
        kept.insert(
            key,
            object(json!({
                "applicant_id": id, "status_id": status, "start_date": start, "notes": optional(&milestone["notes"]),
                "reason_id": reference(&milestone["reason_id"]), "reason_other": optional(&milestone["reason_other"]),
                "effective_date": day(&milestone["effective_date"])?, "added_by_id": added_by,
                "created_date": created, "updated_date": created,
            })),
        );
    }
    Ok(kept)
}

fn person(
    applicant: &Value,
    id: &str,
    kept: &Table,
    statuses: &BTreeMap<String, &Value>,
) -> Result<Map<String, Value>> {
    let text = |key: &str| applicant[key].as_str().unwrap_or_default().to_owned();
    let (first, last) = (text("first_name"), text("last_name"));
    let registered = local(&applicant["registration_date"])?.map(|at| at.date());
    // "True when registration_date is after 2023-01-30."
    let changed = NaiveDate::from_ymd_opt(2023, 1, 30).context("the day of the new process")?;
    let listed = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let assigned: Vec<Value> = listed(&applicant["assigned_to"])
        .iter()
        .map(|person| match person {
            Value::Object(_) => json!({ "id": low(&person["id"]), "name": optional(&person["name"]) }),
            id => json!({ "id": low(id), "name": null }),
        })
        .collect();
    let educations: Vec<Value> = listed(&applicant["nursing_educations"])
        .iter()
        .map(|education| {
            json!({ "id": low(&education["id"]), "name": education["name"], "country": optional(&education["country"]),
                "num_years": education["num_years"], "year": education["year"] })
        })
        .collect();
    Ok(object(json!({
        "id": id, "name": format!("{first} {last}").trim(), "first_name": first, "last_name": last,
        "ats1_id": low(&applicant["ats1_id"]), "email_address": text("email_address"), "phone_number": text("phone_number"),
        "registration_date": registered.map(|day| day.to_string()),
        "assigned_to": if applicant["assigned_to"].is_null() { Value::Null } else { json!(assigned) },
        "country_of_citizenship": listed(&applicant["countries_of_citizenship"]),
        "country_of_residence": optional(&applicant["country_of_residence"]), "pr_status": text("pr_status"),
        "nursing_educations": educations, "bccnm_license_number": optional(&applicant["bccnm_license_number"]),
        "notes": applicant["notes"], "status_id": status(kept), "new_bccnm_process": registered.is_some_and(|day| day > changed),
        "pathway_id": reference(&applicant["pathway_id"]), "end_of_journey": end_of_journey(kept, statuses), "is_open": true,
        "created_date": time(&applicant["created_date"])?, "updated_date": time(&applicant["updated_date"])?,
    })))
}

/// "Status of the audit row with the greatest start_date, then greatest updated_date"; an undated one never counts.
fn status(kept: &Table) -> Value {
    let order = |row: &&Map<String, Value>| {
        ["start_date", "updated_date", "status_id"].map(|column| row[column].as_str().unwrap_or_default().to_owned())
    };
    let dated = kept.values().filter(|row| !row["start_date"].is_null());
    dated.max_by_key(order).map_or(Value::Null, |row| row["status_id"].clone())
}

/// ""Not proceeding" milestone → end_of_journey=journey_incomplete unless a later "Re-engaged" milestone exists": later
/// by day, or, on the same day or where a day is missing, by when it was entered.
fn end_of_journey(kept: &Table, statuses: &BTreeMap<String, &Value>) -> Value {
    let called = |name: &str| -> Vec<&Map<String, Value>> {
        let is_called = |row: &&Map<String, Value>| {
            let status = statuses.get(row["status_id"].as_str().unwrap_or_default());
            status.is_some_and(|status| status["name"].as_str().unwrap_or_default().eq_ignore_ascii_case(name))
        };
        kept.values().filter(is_called).collect()
    };
    let later = |start: &Map<String, Value>, stop: &Map<String, Value>| {
        let text = |row: &Map<String, Value>, column: &str| row[column].as_str().map(str::to_owned);
        match (text(start, "start_date"), text(stop, "start_date")) {
            (Some(start), Some(stop)) if start != stop => start > stop,
            _ => text(stop, "created_date").is_some_and(|stop| text(start, "created_date") > Some(stop)),
        }
    };
    let starts = called("Re-engaged");
    let stopped = called("Not proceeding").into_iter().any(|stop| !starts.iter().any(|start| later(start, stop)));
    if stopped { json!("journey_incomplete") } else { Value::Null }
}
