//! `employees`: jobs, and what happens to them one edit after the other.

use chrono::{Datelike, NaiveDate};
use serde_json::json;

use super::super::history::{HOUR, Times, YEAR};
use super::super::papers::{Papers, Trade, speciality};
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::legal_entities::{self, Kind};
use super::{divisions, json, one_of, parties};
use crate::ats::random::per_mille;

/// Positions are P1 to this.
const POSITIONS: u32 = 60;

/// Why somebody was dismissed.
const REASONS: [&str; 2] = ["manual_employee", "auto_employee_dismiss"];

/// What edits can change.
#[derive(Clone, Debug)]
struct Job {
    status: &'static str,
    end: Option<NaiveDate>,
    reason: Option<usize>,
    position: u32,
    papers: Option<Papers>,
}

/// Whether the employee is dismissed after so many edits, and when.
pub(in super::super) fn dismissed(prm: &Prm, number: u64, edit: u32) -> Option<NaiveDate> {
    // Papers have no say in it.
    after(prm, number, edit, &times(prm, number), None).end
}

/// When it was filled in and last changed.
pub(in super::super) fn times(prm: &Prm, number: u64) -> Times {
    prm.history.times(&mut prm.chance(Purpose::Times, Table::Employees, number), 2 * HOUR, 6 * YEAR)
}

/// Where the job is: legal entity and division.
pub(in super::super) fn place(prm: &Prm, number: u64) -> (u64, Option<u64>) {
    let mut rng = prm.chance(Purpose::Place, Table::Employees, number);
    // Nobody is taken on where all are dismissed; division 0 is a clinic that goes on.
    let newcomer = is_newcomer(prm, number);
    let is_closed = |division| newcomer && legal_entities::has_ended(divisions::legal_entity(prm, division));
    match prm.trade(prm.party_of(number)) {
        Some(Trade::Pharmacist) => {
            // Every fifth legal entity sells drugs.
            let owner = rng.u64(..prm.legal_entities.div_ceil(5)) * 5;
            let turns = (prm.divisions - owner).div_ceil(prm.legal_entities);
            let mut division = owner + rng.u64(..turns) * prm.legal_entities;
            if !divisions::is_drugstore(prm, division) && division + prm.legal_entities < prm.divisions {
                division += prm.legal_entities;
            }
            (owner, Some(division))
        }
        Some(_) => {
            let mut division = rng.u64(..prm.divisions);
            while !divisions::is_clinic(prm, division) || is_closed(division) {
                division = (division + 1) % prm.divisions;
            }
            (divisions::legal_entity(prm, division), Some(division))
        }
        None => {
            let mut division = rng.u64(..prm.divisions);
            while is_closed(division) {
                division = (division + 1) % prm.divisions;
            }
            (divisions::legal_entity(prm, division), per_mille(&mut rng, 300).then_some(division))
        }
    }
}

/// Whether somebody was added after the fill; such a job begins on the last day of the invented history.
pub(in super::super) fn is_newcomer(prm: &Prm, number: u64) -> bool {
    number >= prm.options().employees
}

fn after(prm: &Prm, number: u64, edit: u32, times: &Times, papers: Option<Papers>) -> Job {
    let mut rng = prm.chance(Purpose::Row, Table::Employees, number);
    let left = rng.u32(..1_000);
    let newcomer = is_newcomer(prm, number);
    let has_ended = legal_entities::has_ended(place(prm, number).0);
    let position = 1 + rng.u32(..POSITIONS);
    let status = match left {
        _ if newcomer => "NEW",
        _ if has_ended => "DISMISSED",
        0..120 => "DISMISSED",
        120..150 => "NEW",
        _ => "APPROVED",
    };
    let is_dismissed = status == "DISMISSED";
    let mut job = Job {
        status,
        end: is_dismissed.then(|| times.updated_at.date()),
        reason: is_dismissed.then(|| usize::from(has_ended)),
        position,
        papers,
    };
    for nth in 1..=edit {
        change(prm, number, nth, &mut job);
    }
    job
}

/// Every edit changes something.
fn change(prm: &Prm, number: u64, nth: u32, job: &mut Job) {
    let mut rng = prm.edit(Table::Employees, number, nth);
    if let Some(reason) = job.reason {
        job.reason = Some((reason + 1) % REASONS.len());
        return;
    }
    if job.status == "NEW" {
        job.status = "APPROVED";
        return;
    }
    let trade = prm.trade(prm.party_of(number));
    match (rng.u32(..100), &mut job.papers, trade) {
        (0..15, ..) => {
            job.status = "DISMISSED";
            job.end = Some(prm.today());
            job.reason = Some(0);
        }
        (15..65, Some(papers), Some(trade)) => {
            let year = prm.today().year() - 8;
            let main = rng.bool();
            papers.add(speciality(&mut rng, trade, year), main);
        }
        _ => job.position = 1 + (job.position + rng.u32(..POSITIONS - 1)) % POSITIONS,
    }
}

fn employee_type(prm: &Prm, number: u64) -> &'static str {
    let mut rng = prm.chance(Purpose::Trade, Table::Employees, number);
    match prm.trade(prm.party_of(number)) {
        Some(Trade::Doctor) => "DOCTOR",
        Some(Trade::Specialist) if per_mille(&mut rng, 80) => "SURGEON",
        Some(Trade::Specialist) => "SPECIALIST",
        Some(Trade::Assistant) => "ASSISTANT",
        Some(Trade::Pharmacist) if per_mille(&mut rng, 50) => "PHARMACY_OWNER",
        Some(Trade::Pharmacist) => "PHARMACIST",
        None => match legal_entities::kind(place(prm, number).0) {
            Kind::Office("NHS") => one_of(&mut rng, &["NHS ADMIN", "NHS ADMIN SIGNER", "NHS LE VERIFIER"]),
            _ => one_of(&mut rng, &["ADMIN", "HR", "HR", "ACCOUNTANT", "ACCOUNTANT", "OWNER"]),
        },
    }
}

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let times = times(prm, number);
    let papers = parties::papers_of(prm, prm.party_of(number));
    let job = after(prm, number, edit, &times, papers);
    let mut rng = prm.chance(Purpose::User, Table::Employees, number);
    let inserted_by = prm.user(&mut rng);
    let updated_by =
        if edit > 0 { prm.user(&mut prm.edit(Table::Employees, number, edit)) } else { prm.user(&mut rng) };
    let (legal_entity, division) = place(prm, number);
    let start = match is_newcomer(prm, number) {
        true => prm.today(),
        false => times.inserted_at.date() - chrono::Days::new(rng.u64(..60)),
    };
    let officio = job.papers.as_ref().and_then(Papers::officio).map(json);
    vec![
        prm.id(Table::Employees, number).into(),
        format!("P{}", job.position).into(),
        job.status.into(),
        employee_type(prm, number).into(),
        (job.status != "DISMISSED").into(),
        inserted_by.into(),
        updated_by.into(),
        start.into(),
        Cell::of(job.end),
        prm.id(Table::LegalEntities, legal_entity).into(),
        Cell::of(division.map(|division| prm.id(Table::Divisions, division))),
        prm.id(Table::Parties, prm.party_of(number)).into(),
        Cell::of(job.reason.map(|reason| REASONS[reason])),
        job.papers.as_ref().map_or_else(|| json(&json!({})), json),
        officio.unwrap_or(Cell::Null),
        times.inserted_at.into(),
        times.updated_at.into(),
    ]
}
