//! What an invented registry is made with.

use chrono::{DateTime, Utc};

/// How many employees an invented registry can have: past this, contract numbers and the like would repeat.
pub const MOST_EMPLOYEES: u64 = 100_000_000;

/// The same options give the same rows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// How many employees, at most [`MOST_EMPLOYEES`]; the other tables follow in proportion.
    pub employees: u64,
    /// The end of the invented history: no row that was filled in is newer.
    pub now: DateTime<Utc>,
    /// How many of 1,000 rows have changed within a day, so that about so many rows are in each day's changes.
    pub changed_daily: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 1,
            employees: 10_000,
            // Fixed, so that default data is the same everywhere.
            now: DateTime::from_timestamp(1_780_000_000, 0).unwrap_or_default(),
            changed_daily: 20,
        }
    }
}
