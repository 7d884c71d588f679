//! Sinks: one folder per system written to.

pub mod sql;
