//! The whole system, as its users have it: the real binary as a process, a simulated recruiting system before it, a
//! register behind it. What the register must hold is worked out by [`scenarios::support::oracle`], from the contract alone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod scenarios {
    mod broker_and_database_restarts;
    mod embedded;
    mod employees;
    mod existing_register;
    mod exports;
    mod kill_rounds;
    mod no_personal_data;
    mod real_services;
    mod recorded_feed;
    mod resize;
    mod snapshots;
    mod spreadsheets;
    pub mod support;
    mod two_processes;
    mod verify;
}
