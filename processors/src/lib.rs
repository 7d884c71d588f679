//! Processors: pure functions from inputs to target entities.
