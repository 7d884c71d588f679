//! `parties`: people. What they can show is also what their jobs begin with.

use chrono::Datelike;

use super::super::names;
use super::super::papers::{Papers, papers};
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::{employees, json, one_of};
use crate::ats::random::per_mille;

/// When somebody was born: 24 to 68 years ago.
pub(in super::super) fn year_of_birth(prm: &Prm, party: u64) -> i32 {
    prm.today().year() - prm.chance(Purpose::Born, Table::Parties, party).i32(24..69)
}

/// The papers of somebody with a trade.
pub(in super::super) fn papers_of(prm: &Prm, party: u64) -> Option<Papers> {
    let trade = prm.trade(party)?;
    let mut rng = prm.chance(Purpose::Papers, Table::Parties, party);
    Some(papers(&mut rng, trade, year_of_birth(prm, party)))
}

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::Parties, number);
    let rng = &mut rng;
    // Entered together with the first job.
    let job = employees::times(prm, prm.first_job(number)).inserted_at;
    let updated_at = prm.history.soon_after(rng, job).updated_at;
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    let named = names::person(rng);
    let born = year_of_birth(prm, number);
    let shown = if per_mille(rng, 250) { papers_of(prm, number) } else { None };
    let about = per_mille(rng, 60).then(|| names::sentence(rng));
    let about = if edit > 0 { Some(names::sentence(&mut prm.edit(Table::Parties, number, edit))) } else { about };
    let (educations, qualifications, specialities, science_degree) = match shown {
        Some(papers) => (
            json(&papers.educations),
            if papers.qualifications.is_empty() { Cell::Null } else { json(&papers.qualifications) },
            json(&papers.specialities),
            papers.science_degree.map_or(Cell::Null, |degree| json(&degree)),
        ),
        None => (Cell::Null, Cell::Null, Cell::Null, Cell::Null),
    };
    vec![
        prm.id(Table::Parties, number).into(),
        named.first.into(),
        named.last.into(),
        Cell::of(named.second),
        born.to_string().into(),
        one_of(rng, &["MALE", "FEMALE"]).into(),
        // A number that begins with 9 would mean a birth after the year 2146.
        Cell::of(per_mille(rng, 980).then(|| format!("9{number:09}"))),
        educations,
        qualifications,
        specialities,
        science_degree,
        Cell::of(about),
        if per_mille(rng, 800) { Cell::Int(i64::from(prm.today().year() - born - 22)) } else { Cell::Null },
        one_of(rng, &["VERIFIED", "VERIFIED", "VERIFIED", "VERIFICATION_NEEDED", "NOT_VERIFIED"]).into(),
        inserted_by.into(),
        updated_by.into(),
        job.into(),
        updated_at.into(),
    ]
}
