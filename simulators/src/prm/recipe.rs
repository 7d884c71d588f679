//! [`Prm`]: every row of the registry, each without the others.
//!
//! Rows are numbered from 0 in each table, and whose row is whose follows from the numbers alone:
//! - Division `d` belongs to legal entity `d % legal entities`; healthcare service `h` to division `h % divisions`.
//! - The first job of party `p` is employee `p`; the employees after the last party are second jobs of some of them. Whoever is
//!   added later is a new party with one job.
//! - The trade of a party follows from `p % 5`, and so from `employee % 5`. Employees of three trades out of five have a role,
//!   parties of two out of five a limit of declarations.

use std::sync::Arc;

use chrono::NaiveDate;
use fastrand::Rng;
use uuid::Uuid;

use super::history::{History, Times};
use super::options::{MOST_EMPLOYEES, Options};
use super::papers::Trade;
use super::row::{Cell, Row};
use super::rows;
use super::tables::Table;
use crate::ats::random::{self, stream};

/// What a stream of chance is for. Edits have streams of their own: the purpose and the edit's number.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Id,
    Row,
    Edit,
    Times,
    Place,
    Trade,
    Born,
    Papers,
    SecondJob,
    User,
}

/// Apart from the streams of other simulators.
const STREAMS: u64 = 0x9127_0000;

/// The people who write into the registry.
const USERS: u64 = 60;

/// An invented registry: makes any of its rows, in any order. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Prm {
    options: Arc<Options>,
    pub(super) history: History,
    parties: u64,
    pub(super) divisions: u64,
    pub(super) legal_entities: u64,
    pub(super) services: u64,
    contract_divisions: u64,
}

impl Prm {
    /// The registry that follows from these options.
    pub fn new(options: Options) -> Prm {
        let employees = options.employees.clamp(1, MOST_EMPLOYEES);
        let legal_entities = (employees / 100).max(1);
        let divisions = (employees / 20).max(legal_entities);
        Prm {
            history: History::new(&options),
            // A multiple of five fewer, so that party and employee of one newcomer have the same trade.
            parties: employees - employees / 50 * 5,
            divisions,
            legal_entities,
            services: (employees * 8 / 100).max(divisions),
            contract_divisions: (employees * 6 / 100).max(1),
            options: Arc::new(Options { employees, ..options }),
        }
    }

    /// What it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How many rows a table is filled with: those numbered from 0 to one less.
    pub fn rows(&self, table: Table) -> u64 {
        match table {
            Table::LegalEntities => self.legal_entities,
            Table::Divisions => self.divisions,
            Table::Parties => self.parties,
            Table::Employees => self.options.employees,
            Table::HealthcareServices => self.services,
            Table::EmployeeRoles => self.options.employees / 5 * 3 + (self.options.employees % 5).min(3),
            Table::ContractDivisions => self.contract_divisions,
            Table::DeclarationsLimit => self.parties / 5 * 2 + (self.parties % 5).min(2),
        }
    }

    /// A row as it stands after so many edits; 0 is as it was filled in. Its times are those of the fill: what is edited or added
    /// later bears the times of the database's transaction. Numbers past [`Prm::rows`] are newcomers, in `employees`, `parties`,
    /// `employee_roles` and `declarations_limit` alone; elsewhere such rows refer to nothing.
    ///
    /// A role changes when its employee is dismissed, so its edits are counted as the employee's.
    pub fn row(&self, table: Table, number: u64, edit: u32) -> Row {
        let cells = match table {
            Table::LegalEntities => rows::legal_entities::cells(self, number, edit),
            Table::Divisions => rows::divisions::cells(self, number, edit),
            Table::Parties => rows::parties::cells(self, number, edit),
            Table::Employees => rows::employees::cells(self, number, edit),
            Table::HealthcareServices => rows::services::cells(self, number, edit),
            Table::EmployeeRoles => rows::roles::cells(self, number, edit),
            Table::ContractDivisions => rows::contracts::cells(self, number, edit),
            Table::DeclarationsLimit => rows::limits::cells(self, number, edit),
        };
        Row { table, cells }
    }

    /// The same, as it stands in a database that edited or inserted it at these times.
    pub fn row_at(&self, table: Table, number: u64, edit: u32, times: Times) -> Row {
        let mut row = self.row(table, number, edit);
        let mut put = |column, cell| {
            if let Some(at) = table.position(column) {
                row.cells[at] = cell;
            }
        };
        put("inserted_at", times.inserted_at.into());
        put("updated_at", times.updated_at.into());
        put("changed_at", Cell::Instant(times.updated_at));
        row
    }

    /// The identity of a row, where the table has one of its own.
    pub fn id(&self, table: Table, number: u64) -> Uuid {
        random::uuid(&mut self.chance(Purpose::Id, table, number))
    }

    /// The last day of the invented history; whoever joins or leaves later does it on this day.
    pub(super) fn today(&self) -> NaiveDate {
        self.history.now().date()
    }

    pub(super) fn chance(&self, purpose: Purpose, table: Table, number: u64) -> Rng {
        stream(self.options.seed, STREAMS + (table as u64) * 0x100 + purpose as u64, number)
    }

    /// What the `edit`-th edit of a row draws from.
    pub(super) fn edit(&self, table: Table, number: u64, edit: u32) -> Rng {
        let purpose = STREAMS + (table as u64) * 0x100 + Purpose::Edit as u64;
        stream(self.options.seed, purpose + (u64::from(edit) << 32), number)
    }

    /// Whoever wrote a row.
    pub(super) fn user(&self, rng: &mut Rng) -> Uuid {
        random::uuid(&mut self.chance(Purpose::User, Table::Parties, rng.u64(..USERS)))
    }

    /// Whose job it is.
    pub(super) fn party_of(&self, employee: u64) -> u64 {
        let newcomers = self.options.employees;
        if employee < self.parties {
            employee
        } else if employee >= newcomers {
            self.parties + (employee - newcomers)
        } else {
            let mut rng = self.chance(Purpose::SecondJob, Table::Employees, employee);
            rng.u64(..self.parties / 5) * 5 + employee % 5
        }
    }

    /// The first job of a party.
    pub(super) fn first_job(&self, party: u64) -> u64 {
        if party < self.parties { party } else { self.options.employees + (party - self.parties) }
    }

    /// The role of an employee, if of a trade with roles.
    pub(super) fn role_of(employee: u64) -> Option<u64> {
        (employee % 5 < 3).then_some(employee / 5 * 3 + employee % 5)
    }

    /// The employee of a role.
    pub(super) fn employee_of(role: u64) -> u64 {
        role / 3 * 5 + role % 3
    }

    /// The limit of a party, if a doctor's.
    pub(super) fn limit_of(party: u64) -> Option<u64> {
        (party % 5 < 2).then_some(party / 5 * 2 + party % 5)
    }

    /// The party of a limit.
    pub(super) fn doctor_of(limit: u64) -> u64 {
        limit / 2 * 5 + limit % 2
    }

    /// The trade of a party; `None` in an office.
    pub(super) fn trade(&self, party: u64) -> Option<Trade> {
        match party % 5 {
            0 | 1 => Some(Trade::Doctor),
            2 => {
                let assists = random::per_mille(&mut self.chance(Purpose::Trade, Table::Parties, party), 350);
                Some(if assists { Trade::Assistant } else { Trade::Specialist })
            }
            3 => Some(Trade::Pharmacist),
            _ => None,
        }
    }
}
