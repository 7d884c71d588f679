//! What the transactions so far have made of the rows. Some dozen bytes for each row that was ever touched.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDateTime;

use super::super::history::Times;
use super::super::recipe::Prm;
use super::super::row::{Cell, Row};
use super::super::tables::Table;
use super::Action;
use super::plan::Touch;

/// A row that isn't as it was filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Edited { edit: u32, times: Times },
    Gone,
}

#[derive(Debug)]
pub(super) struct Ledger {
    touched: BTreeMap<(Table, u64), Standing>,
    /// Rows of transactions that aren't committed.
    held: BTreeSet<(Table, u64)>,
    /// The next newcomer. Numbers of rolled-back ones aren't given again.
    newcomer: u64,
    employees: u64,
    contract_divisions: u64,
    gone: u64,
}

impl Ledger {
    pub(super) fn new(prm: &Prm) -> Ledger {
        let employees = prm.rows(Table::Employees);
        Ledger {
            touched: BTreeMap::new(),
            held: BTreeSet::new(),
            newcomer: employees,
            employees,
            contract_divisions: prm.rows(Table::ContractDivisions),
            gone: 0,
        }
    }

    /// The number of the next newcomer.
    pub(super) fn newcomer(&mut self) -> u64 {
        self.newcomer += 1;
        self.newcomer - 1
    }

    /// Numbers of employees end here.
    pub(super) fn everybody(&self) -> u64 {
        self.newcomer
    }

    /// Whether a row may go without the table becoming empty in the long run.
    pub(super) fn may_go(&self) -> bool {
        self.gone < self.contract_divisions / 2
    }

    /// Whether it is there, and in no open transaction.
    pub(super) fn is_free(&self, table: Table, number: u64) -> bool {
        let standing = self.touched.get(&(table, number));
        let is_there = match standing {
            Some(Standing::Edited { .. }) => true,
            Some(Standing::Gone) => false,
            None => table != Table::Employees || number < self.employees,
        };
        is_there && !self.held.contains(&(table, number))
    }

    /// How often it was edited.
    pub(super) fn edits(&self, table: Table, number: u64) -> u32 {
        match self.touched.get(&(table, number)) {
            Some(Standing::Edited { edit, .. }) => *edit,
            _ => 0,
        }
    }

    /// When it was inserted, as the database has it.
    pub(super) fn inserted_at(&self, prm: &Prm, table: Table, number: u64) -> NaiveDateTime {
        match self.touched.get(&(table, number)) {
            Some(Standing::Edited { times, .. }) => times.inserted_at,
            _ => times_of(&prm.row(table, number, 0)).inserted_at,
        }
    }

    pub(super) fn hold(&mut self, touch: &Touch) {
        self.held.insert((touch.table, touch.number));
    }

    pub(super) fn release(&mut self, touches: &[Touch]) {
        for touch in touches {
            self.held.remove(&(touch.table, touch.number));
        }
    }

    /// These were committed.
    pub(super) fn book(&mut self, touches: &[Touch], at: NaiveDateTime) {
        self.release(touches);
        for touch in touches {
            let standing = match touch.action {
                Action::Delete => Standing::Gone,
                Action::Insert | Action::Update => {
                    let inserted_at = touch.inserted_at.unwrap_or(at);
                    Standing::Edited { edit: touch.edit, times: Times { inserted_at, updated_at: at } }
                }
            };
            self.gone += u64::from(standing == Standing::Gone);
            self.touched.insert((touch.table, touch.number), standing);
        }
    }

    pub(super) fn expected<'a>(&'a self, prm: &'a Prm, table: Table) -> impl Iterator<Item = Row> + 'a {
        let filled = prm.rows(table);
        let newcomers = self.touched.range((table, filled)..=(table, u64::MAX)).map(|((_, number), _)| *number);
        (0..filled).chain(newcomers).filter_map(move |number| match self.touched.get(&(table, number)) {
            None => Some(prm.row(table, number, 0)),
            Some(Standing::Gone) => None,
            Some(Standing::Edited { edit, times }) => Some(prm.row_at(table, number, *edit, *times)),
        })
    }
}

fn times_of(row: &Row) -> Times {
    let time = |column| match row.get(column) {
        Some(Cell::Time(time)) => *time,
        _ => NaiveDateTime::default(),
    };
    Times { inserted_at: time("inserted_at"), updated_at: time("updated_at") }
}
