//! The simulated provider registry: that its rows hold together, that both kinds of database hold exactly these rows, and that
//! changes keep it so.

#![allow(clippy::unwrap_used, reason = "tests")]

mod changes;
mod coherence;
mod databases;
mod rows;
