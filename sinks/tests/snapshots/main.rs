//! Snapshots of a table, from its topic in memory into a store of objects, and what readers see of them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod crashes;
mod daily;
mod faulty;
mod first;
mod lives;
mod memory;
mod readers;
mod s3;
mod site;
