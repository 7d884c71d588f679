//! The sink, run: a small hospital's rota (wards, nurses, shifts) on each database.

#![allow(clippy::unwrap_used, reason = "tests")]

mod beside;
mod compared;
mod contested;
mod lives;
mod mapping;
mod postgres;
mod proxy;
mod register;
mod rota;
mod round_trip;
mod sqlite;
mod suite;
mod theirs;
