//! The export as its clients see it. A site's snapshots are written by hand (`fixture`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod answers;
mod away;
mod clients;
mod contract;
mod description;
mod fixture;
mod keys;
mod matrix;
mod parquet;
mod readers;
