//! The processors of the ATS together, as a runner drives them: from its topics to those of the register.

#![allow(clippy::unwrap_used, reason = "tests")]

mod driver;
mod foreign;
mod golden;
mod journey;
mod masters;
mod people;
mod permutations;
mod recorded;
mod traps;
