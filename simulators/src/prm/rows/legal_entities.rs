//! `legal_entities`: which kind each one is follows from its number, so that divisions and employees can know it.

use serde_json::json;

use super::super::history::{Times, YEAR};
use super::super::names;
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::{json, one_of};
use crate::ats::random::per_mille;

/// What a legal entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Clinic(&'static str),
    /// Clinics and pharmacies. The first legal entity is one.
    Both,
    Pharmacy,
    /// The health service, or who makes its software: offices alone.
    Office(&'static str),
}

pub(in super::super) fn kind(number: u64) -> Kind {
    match (number % 10, number % 50) {
        (0, _) => Kind::Both,
        (5, _) => Kind::Pharmacy,
        (_, 7) => Kind::Office("NHS"),
        (_, 13) => Kind::Office("MIS"),
        _ => Kind::Clinic(["PRIMARY_CARE", "OUTPATIENT", "MSP"][(number % 3) as usize]),
    }
}

/// Whether it has ended; all its employees are dismissed.
pub(in super::super) fn has_ended(number: u64) -> bool {
    number % 20 == 19
}

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::LegalEntities, number);
    let rng = &mut rng;
    let Times { inserted_at, updated_at } = prm.history.times(rng, 8 * YEAR, 9 * YEAR);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    let name = names::place(rng, &["ський", "цький"]);
    let r#type = match kind(number) {
        Kind::Clinic(code) | Kind::Office(code) => code,
        Kind::Both => "MSP_PHARMACY",
        Kind::Pharmacy => "PHARMACY",
    };
    let noun = match kind(number) {
        Kind::Clinic(_) | Kind::Both => "медичний центр",
        Kind::Pharmacy => "аптечний дім",
        Kind::Office(_) => "відділ охорони здоровʼя",
    };
    let suspended = per_mille(rng, 30);
    let status = match (has_ended(number), suspended) {
        (true, _) => one_of(rng, &["CLOSED", "REORGANIZED"]),
        (false, true) => "SUSPENDED",
        (false, false) => "ACTIVE",
    };
    let residence = names::address(rng, "RESIDENCE");
    let phones = names::phones(rng);
    let accreditation = per_mille(rng, 400).then(|| {
        let year = 2016 + rng.i32(0..6);
        json(&json!({
            "category": one_of(rng, &["SECOND", "FIRST", "HIGHEST"]),
            "order_no": format!("fd{:06}", rng.u32(..1_000_000)),
            "order_date": format!("{year}-02-28"),
            "issued_date": format!("{year}-03-01"),
            "expiry_date": format!("{}-03-01", year + 5),
        }))
    });
    // Edits put up another telephone.
    let phones = if edit > 0 { names::phones(&mut prm.edit(Table::LegalEntities, number, edit)) } else { phones };
    vec![
        prm.id(Table::LegalEntities, number).into(),
        format!("{name} {noun} № {}", number + 1).into(),
        Cell::of(per_mille(rng, 700).then(|| name.clone())),
        format!("{name} {noun}").into(),
        status.into(),
        r#type.into(),
        Cell::of(per_mille(rng, 900).then(|| one_of(rng, &["STATE", "PRIVATE", "COMMUNAL"]))),
        Cell::of(per_mille(rng, 900).then(|| one_of(rng, &["110", "140", "150", "240"]))),
        // Numbers from 99000000 on aren't given to anybody.
        format!("{}", 99_000_000 + number % 1_000_000).into(),
        Cell::of(per_mille(rng, 900).then(|| json(&[one_of(rng, &["86.10", "86.21", "86.22", "47.73"])]))),
        json(&[&residence]),
        json(&phones),
        names::email("legal-entity", number).into(),
        (!has_ended(number)).into(),
        Cell::of(per_mille(rng, 500).then(|| format!("https://entity-{number}.example.org"))),
        Cell::of((status == "SUSPENDED").then_some("AUTO_SUSPEND")),
        json(&residence),
        accreditation.unwrap_or(Cell::Null),
        inserted_by.into(),
        updated_by.into(),
        inserted_at.into(),
        updated_at.into(),
    ]
}
