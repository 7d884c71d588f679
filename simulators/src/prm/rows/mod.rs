//! One file for each table: the cells of a row, in the order of the table's columns.

pub(super) mod contracts;
pub(super) mod divisions;
pub(super) mod employees;
pub(super) mod legal_entities;
pub(super) mod limits;
pub(super) mod parties;
pub(super) mod roles;
pub(super) mod services;

use fastrand::Rng;
use serde::Serialize;

use super::row::Cell;

/// JSON of our own plain structs, whose names are all text: it can't fail.
fn json(value: &impl Serialize) -> Cell {
    Cell::Json(serde_json::to_string(value).unwrap_or_default())
}

/// One of them.
fn one_of(rng: &mut Rng, items: &'static [&'static str]) -> &'static str {
    items[rng.usize(..items.len())]
}
