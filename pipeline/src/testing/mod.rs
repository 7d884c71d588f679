//! What tests of components share: the conformance suites that every implementation of a trait must pass.

pub mod log_suite;
