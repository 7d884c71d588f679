//! A provider registry, as its contract describes it: eight tables of employees, people, clinics and pharmacies, in PostgreSQL or in
//! a SQLite file, filled with invented data that holds together, and changed while somebody reads.
//!
//! [`Prm`] makes any row from the seed and its number; [`fill()`] puts all of them into a [`Database`]; [`Changer`] changes them, one
//! transaction at a time, and knows what must be there afterwards.
//!
//! ```no_run
//! # async fn example() -> Result<(), simulators::prm::PrmError> {
//! use simulators::prm::{Changer, Database, Existing, Options, Prm, Table, fill};
//!
//! let prm = Prm::new(Options { employees: 1_000, ..Options::default() });
//! let database = Database::connect("postgres://localhost/prm", None, None).await?;
//! fill(&prm, &database, Existing::Refuse, &mut |_| {}).await?;
//! let mut changer = Changer::new(prm, database);
//! let late = changer.begin(10, None).await?;
//! changer.change(10, None).await?;
//! changer.commit(late).await?;
//! let oracle = changer.expected(Table::Employees);
//! # drop(oracle);
//! # Ok(())
//! # }
//! ```
//!
//! `rows` holds the rows, table by table; `recipe` whose row is whose; `papers`, `names` and `history` what they are made of; `tables`
//! and `ddl` the tables; `fill`, `postgres` and `sqlite` the writing; `change` the changes.

mod change;
mod database;
mod ddl;
mod error;
mod fill;
mod history;
mod names;
mod options;
mod papers;
mod postgres;
mod recipe;
mod row;
mod rows;
mod sqlite;
mod tables;

pub use change::{Action, Changed, Changer, Late, Write};
pub use database::Database;
pub use error::PrmError;
pub use fill::{Existing, OnProgress, Progress, fill};
pub use history::Times;
pub use options::{MOST_EMPLOYEES, Options};
pub use recipe::Prm;
pub use row::{Cell, Row};
pub use tables::{Column, Kind, Reference, Table};
