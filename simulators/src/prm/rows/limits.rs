//! `declarations_limit`: how many patients a doctor may have, and has.

use super::super::papers::Papers;
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::{employees, parties};

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::DeclarationsLimit, number);
    let rng = &mut rng;
    let party = Prm::doctor_of(number);
    let job = employees::times(prm, prm.first_job(party));
    let times = prm.history.soon_after(rng, job.inserted_at);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    let papers = parties::papers_of(prm, party);
    let limit = match papers.as_ref().and_then(Papers::officio).map(|main| main.speciality) {
        Some("THERAPIST") => 2_000,
        Some("PEDIATRICIAN") => 900,
        _ => 1_800,
    };
    let count = rng.i64(..=limit);
    // A patient more each time; round the corner there are none.
    let count = (count + i64::from(edit)) % (limit + 1);
    vec![
        prm.id(Table::Parties, party).into(),
        Cell::Int(limit),
        Cell::Int(count),
        inserted_by.into(),
        updated_by.into(),
        times.inserted_at.into(),
        times.updated_at.into(),
    ]
}
