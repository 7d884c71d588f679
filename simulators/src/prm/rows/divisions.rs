//! `divisions`: clinics, health posts and drugstores of legal entities.

use serde_json::{Map, Value, json};

use super::super::history::{Times, YEAR};
use super::super::names;
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::json;
use super::legal_entities::{self, Kind};
use crate::ats::random::per_mille;

/// Whose it is.
pub(in super::super) fn legal_entity(prm: &Prm, division: u64) -> u64 {
    division % prm.legal_entities
}

/// Whether drugs are sold here.
pub(in super::super) fn is_drugstore(prm: &Prm, division: u64) -> bool {
    match legal_entities::kind(legal_entity(prm, division)) {
        Kind::Pharmacy => true,
        // The first is a clinic, then they take turns.
        Kind::Both => division / prm.legal_entities % 2 == 1,
        Kind::Clinic(_) | Kind::Office(_) => false,
    }
}

/// Whether patients are seen here. Division 0 is such a one.
pub(in super::super) fn is_clinic(prm: &Prm, division: u64) -> bool {
    let of_office = matches!(legal_entities::kind(legal_entity(prm, division)), Kind::Office(_));
    !of_office && !is_drugstore(prm, division)
}

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::Divisions, number);
    let rng = &mut rng;
    let Times { inserted_at, updated_at } = prm.history.times(rng, 7 * YEAR, 8 * YEAR);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    let owner = legal_entity(prm, number);
    let types: &[&'static str] = match is_drugstore(prm, number) {
        true => &["DRUGSTORE", "DRUGSTORE_POINT"],
        false => &["CLINIC", "AMBULANT_CLINIC", "FAP"],
    };
    let r#type = types[rng.usize(..types.len())];
    let is_active = !legal_entities::has_ended(owner) && per_mille(rng, 960);
    let phones = names::phones(rng);
    // Within a square that holds no more than the country's middle.
    let location = per_mille(rng, 700).then(|| {
        let (latitude, longitude) = (rng.u32(48_000_000..50_000_000), rng.u32(28_000_000..34_000_000));
        json(&json!({ "latitude": f64::from(latitude) / 1e6, "longitude": f64::from(longitude) / 1e6 }))
    });
    let working_hours = per_mille(rng, 800).then(|| {
        let lunch = per_mille(rng, 600);
        let day = if lunch { json!([["08.00", "12.00"], ["13.00", "18.00"]]) } else { json!([["08.00", "18.00"]]) };
        let days = ["mon", "tue", "wed", "thu", "fri"].map(|name| (name.to_owned(), day.clone()));
        let mut week: Map<String, Value> = days.into_iter().collect();
        if per_mille(rng, 300) {
            week.insert("sat".to_owned(), json!([["09.00", "14.00"]]));
        }
        json(&week)
    });
    let drugstore = is_drugstore(prm, number);
    let phones = if edit > 0 { names::phones(&mut prm.edit(Table::Divisions, number, edit)) } else { phones };
    vec![
        prm.id(Table::Divisions, number).into(),
        Cell::of(per_mille(rng, 300).then(|| rng.u32(1_000_000..10_000_000).to_string())),
        format!("{} відділення № {}", names::place(rng, &["ське", "цьке"]), number / prm.legal_entities + 1).into(),
        r#type.into(),
        per_mille(rng, 40).into(),
        json(&phones),
        names::email("division", number).into(),
        prm.id(Table::LegalEntities, owner).into(),
        location.unwrap_or(Cell::Null),
        (if is_active { "ACTIVE" } else { "INACTIVE" }).into(),
        is_active.into(),
        working_hours.unwrap_or(Cell::Null),
        Cell::of(drugstore.then(|| rng.u32(1_000_000..10_000_000).to_string())),
        Cell::of(drugstore.then(|| per_mille(rng, 800))),
        json(&[names::address(rng, "RESIDENCE")]),
        inserted_by.into(),
        updated_by.into(),
        inserted_at.into(),
        updated_at.into(),
    ]
}
