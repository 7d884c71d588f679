//! Draws what a transaction does.

use chrono::NaiveDateTime;
use fastrand::Rng;

use super::super::recipe::Prm;
use super::super::tables::Table;
use super::Action;
use super::ledger::Ledger;
use crate::ats::random::stream;

/// What happens to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) table: Table,
    pub(super) number: u64,
    pub(super) edit: u32,
    pub(super) action: Action,
    /// `None`: the transaction's time.
    pub(super) inserted_at: Option<NaiveDateTime>,
}

/// A stream of its own, apart from those of the rows.
const TURNS: u64 = 0x7421;

/// Where nearly all rows are in open transactions, a change is left out after so many tries.
const TRIES: usize = 20;

/// Of the tables besides the employees, those whose rows are edited on their own.
const OTHERS: [Table; 6] = [
    Table::LegalEntities,
    Table::Divisions,
    Table::Parties,
    Table::HealthcareServices,
    Table::ContractDivisions,
    Table::DeclarationsLimit,
];

/// The rows of the `turn`-th transaction. They are held until they are booked or released.
pub(super) fn draw(prm: &Prm, turn: u64, changes: usize, ledger: &mut Ledger) -> Vec<Touch> {
    let mut rng = stream(prm.options().seed, TURNS, turn);
    let mut touches = Vec::with_capacity(changes + changes / 4);
    for _ in 0..changes {
        let from = touches.len();
        match rng.u32(..100) {
            0..86 => edit_employee(prm, &mut rng, ledger, &mut touches),
            86..92 => hire(ledger, &mut touches, prm),
            92..99 => {
                let table = OTHERS[rng.usize(..OTHERS.len())];
                edit_other(prm, &mut rng, ledger, &mut touches, table);
            }
            _ if ledger.may_go() => take_from_contract(prm, &mut rng, ledger, &mut touches),
            _ => edit_other(prm, &mut rng, ledger, &mut touches, Table::ContractDivisions),
        }
        for touch in &touches[from..] {
            ledger.hold(touch);
        }
    }
    touches
}

fn free(rng: &mut Rng, ledger: &Ledger, table: Table, rows: u64) -> Option<u64> {
    (0..TRIES).map(|_| rng.u64(..rows)).find(|number| ledger.is_free(table, *number))
}

fn edit_employee(prm: &Prm, rng: &mut Rng, ledger: &Ledger, touches: &mut Vec<Touch>) {
    let Some(number) = free(rng, ledger, Table::Employees, ledger.everybody()) else { return };
    let before = ledger.edits(Table::Employees, number);
    touches.push(update(prm, ledger, Table::Employees, number, before + 1));
    // The role follows its employee: it ends when the job does.
    if let Some(role) = Prm::role_of(number)
        && prm.row(Table::EmployeeRoles, role, before) != prm.row(Table::EmployeeRoles, role, before + 1)
    {
        touches.push(update(prm, ledger, Table::EmployeeRoles, role, before + 1));
    }
}

fn edit_other(prm: &Prm, rng: &mut Rng, ledger: &Ledger, touches: &mut Vec<Touch>, table: Table) {
    let rows = prm.rows(table);
    // A registry of a handful of employees may have no doctors.
    let Some(number) = (rows > 0).then(|| free(rng, ledger, table, rows)).flatten() else { return };
    touches.push(update(prm, ledger, table, number, ledger.edits(table, number) + 1));
}

fn take_from_contract(prm: &Prm, rng: &mut Rng, ledger: &Ledger, touches: &mut Vec<Touch>) {
    let table = Table::ContractDivisions;
    let Some(number) = free(rng, ledger, table, prm.rows(table)) else { return };
    let edit = ledger.edits(table, number);
    touches.push(Touch { action: Action::Delete, ..update(prm, ledger, table, number, edit) });
}

/// A person, the job, and what goes with the trade.
fn hire(ledger: &mut Ledger, touches: &mut Vec<Touch>, prm: &Prm) {
    let employee = ledger.newcomer();
    let party = prm.party_of(employee);
    let insert = |table, number| Touch { table, number, edit: 0, action: Action::Insert, inserted_at: None };
    touches.push(insert(Table::Parties, party));
    touches.push(insert(Table::Employees, employee));
    touches.extend(Prm::role_of(employee).map(|role| insert(Table::EmployeeRoles, role)));
    touches.extend(Prm::limit_of(party).map(|limit| insert(Table::DeclarationsLimit, limit)));
}

fn update(prm: &Prm, ledger: &Ledger, table: Table, number: u64, edit: u32) -> Touch {
    let inserted_at = Some(ledger.inserted_at(prm, table, number));
    Touch { table, number, edit, action: Action::Update, inserted_at }
}
