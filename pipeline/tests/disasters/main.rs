//! Disasters with names: what can go wrong around Muster, end to end through source, processor and sink where the harm
//! would show. Each test says which guard it rests on, and how it failed with that guard taken out.
//!
//! | disaster | here | also |
//! |---|---|---|
//! | a stalled former owner appends late | `owners::a_stalled_former_owner_that_appends_late_*` | `emitter_healing.rs`: seven ways of it |
//! | a recreated topic | `topics::a_recreated_topic` | `emitter_healing.rs`, `sink_loop.rs`, `processor_loop.rs`, `source_loop.rs`: each side alone |
//! | … refilled past its old end | `topics::a_topic_recreated_and_refilled_past_its_old_end`, `topics::a_topic_recreated_under_its_owner_*` | |
//! | … made anew before its owner could note anything | `topics::an_*_after_its_owner_died_behind_the_first_append`, `topics::a_topic_recreated_after_an_owner_that_only_read_it` | |
//! | a log that lost its tail, and what was noted of it | `topics::a_log_that_lost_its_tail_and_what_was_noted_of_it` | |
//! | a life that somebody else has found over | `topics::an_owner_hears_that_its_life_is_over` | |
//! | tombstones expired meanwhile | `absences::tombstones_expired_while_a_*_was_away` | `emitter_memory.rs`: a local memory |
//! | a lost COMMIT answer | `targets::a_lost_commit_answer` | `sinks/src/sql/tests/`: suite and proxy; `emitter.rs`: an append half-way |
//! | a restored target | `targets::a_target_restored_*` | `sinks/src/sql/tests/suite.rs` |
//! | clock steps | `clocks::clocks_*` | `emitter.rs`: versions alone |
//! | reference tables arriving last | `clocks::reference_tables_arriving_last` | `processor_loop.rs`: in any order |
//! | two that both own a partition | `owners::two_processes_that_both_own_a_partition_at_the_*` | `sinks/src/sql/tests/suite.rs`: `a_former_owner_is_fenced` |
//! | a former owner with a fast clock | `owners::a_former_owner_with_a_fast_clock*` | |
//! | equal versions from two writers | `owners::equal_versions_from_two_writers` | |
//! | all processes stopped for a night | `absences::all_processes_stopped_for_a_night` | `tests/tests/kafka_log/groups.rs` |
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod absences;
mod clocks;
mod owners;
mod site;
mod targets;
mod topics;
