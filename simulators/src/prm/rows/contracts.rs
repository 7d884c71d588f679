//! `contract_divisions`: which divisions a legal entity's contracts cover.

use chrono::{Datelike, NaiveDate};

use super::super::history::{Times, YEAR};
use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::divisions;
use crate::ats::random::per_mille;

pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::ContractDivisions, number);
    let rng = &mut rng;
    let Times { inserted_at, updated_at } = prm.history.times(rng, YEAR, 3 * YEAR);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    // Every legal entity has one contract for all its divisions; then some have a second one.
    let (division, round) = (number % prm.divisions, number / prm.divisions);
    let contract = divisions::legal_entity(prm, division) + round * prm.legal_entities;
    let year = prm.today().year();
    let ended = round > 0;
    let (from, to) = if ended { (year - 3, year - 1) } else { (year - 1, year + 1) };
    let covered = per_mille(rng, 900);
    // Each edit takes the division out of the contract, or in again.
    let covered = covered == edit.is_multiple_of(2);
    vec![
        // Real contracts have numbers from 1100000000.
        format!("99{contract:08}").into(),
        prm.id(Table::Divisions, division).into(),
        (if ended { "expired" } else { "active" }).into(),
        NaiveDate::from_ymd_opt(from, 1, 1).unwrap_or_default().into(),
        NaiveDate::from_ymd_opt(to, 12, 31).unwrap_or_default().into(),
        (if covered { "active" } else { "inactive" }).into(),
        Cell::Instant(updated_at),
        inserted_by.into(),
        updated_by.into(),
        inserted_at.into(),
        updated_at.into(),
    ]
}
