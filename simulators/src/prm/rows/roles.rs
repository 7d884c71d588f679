//! `employee_roles`: who provides which service. A role ends when its employee is dismissed.

use chrono::NaiveTime;

use super::super::recipe::{Prm, Purpose};
use super::super::row::Cell;
use super::super::tables::Table;
use super::{employees, services};

/// `edit` counts the employee's edits.
pub(in super::super) fn cells(prm: &Prm, number: u64, edit: u32) -> Vec<Cell> {
    let mut rng = prm.chance(Purpose::Row, Table::EmployeeRoles, number);
    let rng = &mut rng;
    let employee = Prm::employee_of(number);
    let job = employees::times(prm, employee);
    let times = prm.history.soon_after(rng, job.inserted_at);
    let (inserted_by, updated_by) = (prm.user(rng), prm.user(rng));
    // Whoever has a role works in a division; division 0 stands for a mistake of ours, and the tests would see it.
    let division = employees::place(prm, employee).1.unwrap_or_default();
    let service = services::of_division(prm, division, rng);
    let started = if employees::is_newcomer(prm, employee) { prm.history.now() } else { times.inserted_at };
    let ended = employees::dismissed(prm, employee, edit).map(|day| day.and_time(NaiveTime::MIN).max(started));
    vec![
        prm.id(Table::EmployeeRoles, number).into(),
        prm.id(Table::HealthcareServices, service).into(),
        prm.id(Table::Employees, employee).into(),
        started.into(),
        Cell::of(ended),
        (if ended.is_some() { "INACTIVE" } else { "ACTIVE" }).into(),
        inserted_by.into(),
        updated_by.into(),
        times.inserted_at.into(),
        times.updated_at.max(ended.unwrap_or(times.updated_at).min(prm.history.now())).into(),
    ]
}
