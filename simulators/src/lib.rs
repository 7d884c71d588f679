//! Servers that behave like the systems Muster talks to, with seeded data and switchable faults.
//!
//! Each is written from the contract of the system it stands for and shares no code with Muster's clients, so that
//! a misreading of the contract shows up as a difference. [`ats`] is the applicant tracking system; [`server`] is
//! what all of them run on.

pub mod ats;
pub mod server;
