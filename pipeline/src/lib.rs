//! The vocabulary, the traits, the log, the run loops and what they own.
//!
//! Read [`source`], [`processor`], [`sink`] and [`job`] for what a component is, [`log`] for what lies between
//! them, and [`run`] for the loops that drive them. A component holds no loop, no retry and no metric.

mod bell;
mod blocking;
pub mod change;
pub mod clock;
pub mod config;
pub mod dead_letters;
pub mod emitter;
pub mod job;
pub mod ledger;
pub mod log;
pub mod operations;
pub mod processor;
pub mod reject;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verify;
