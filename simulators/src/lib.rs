//! Servers that behave like the systems Muster talks to, with seeded data and switchable faults.
//!
//! Each is written from the contract of the system it stands for and shares no code with Muster's clients, so that
//! a misreading of the contract shows up as a difference. [`ats`] is the applicant tracking system, [`prm`] the provider
//! registry (a database, not a server); [`server`] is what the servers run on.

pub mod ats;
pub mod prm;
pub mod server;
