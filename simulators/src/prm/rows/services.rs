//! `healthcare_services`: what divisions offer.

use serde_json::json;

use super::super::history::{Times, YEAR};
use super::super::names;
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::{divisions, json, one_of};
use crate::ats::random::{per_mille, uuid};

/// Where it is offered.
fn division(prm: &Prm, service: u64) -> u64 {
    service % prm.divisions
}

/// One of the services of a division: each has one.
pub(in super::super) fn of_division(prm: &Prm, division: u64, rng: &mut fastrand::Rng) -> u64 {
    division + rng.u64(..(prm.services - division).div_ceil(prm.divisions)) * prm.divisions
}

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::HealthcareServices, number);
    let rng = &mut rng;
    let Times { inserted_at, updated_at } = prm.history.times(rng, 6 * YEAR, 7 * YEAR);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    let division = division(prm, number);
    let legal_entity = divisions::legal_entity(prm, division);
    let drugs = divisions::is_drugstore(prm, division);
    let coded = |system: &str, code: &str| json(&json!({ "coding": [{ "system": system, "code": code }] }));
    let is_active = per_mille(rng, 950);
    let comment = per_mille(rng, 60).then(|| names::sentence(rng));
    let comment = match edit {
        0 => comment,
        _ => Some(names::sentence(&mut prm.edit(Table::HealthcareServices, number, edit))),
    };
    let category = if drugs { "PHARMACY_DRUGS" } else { "MSP" };
    let available = per_mille(rng, 600).then(|| {
        json(&json!([{
            "days_of_week": ["mon", "tue", "wed", "thu", "fri"],
            "all_day": false,
            "available_start_time": "08:30:00",
            "available_end_time": format!("{}:00:00", 16 + rng.u32(..4)),
        }]))
    });
    let closed = per_mille(rng, 60).then(|| {
        let day = updated_at.date();
        json(&json!([{
            "description": "Санітарний день",
            "during": { "start": format!("{day}T08:00:00.000Z"), "end": format!("{day}T18:00:00.000Z") },
        }]))
    });
    vec![
        prm.id(Table::HealthcareServices, number).into(),
        prm.id(Table::LegalEntities, legal_entity).into(),
        prm.id(Table::Divisions, division).into(),
        Cell::of((!drugs).then(|| one_of(rng, &["THERAPIST", "PEDIATRICIAN", "FAMILY_DOCTOR"]))),
        Cell::of((!drugs).then(|| one_of(rng, &["OUTPATIENT", "INPATIENT", "FIELD"]))),
        coded("HEALTHCARE_SERVICE_CATEGORIES", category),
        if drugs { coded("HEALTHCARE_SERVICE_PHARMACY_DRUGS_TYPES", "SALE") } else { Cell::Null },
        (if is_active { "ACTIVE" } else { "INACTIVE" }).into(),
        Cell::of(comment),
        if per_mille(rng, 100) { json(&[uuid(rng)]) } else { Cell::Null },
        is_active.into(),
        available.unwrap_or(Cell::Null),
        closed.unwrap_or(Cell::Null),
        Cell::of(drugs.then(|| uuid(rng))),
        inserted_by.into(),
        updated_by.into(),
        inserted_at.into(),
        updated_at.into(),
    ]
}
