//! Sinks: one folder per system written to.
