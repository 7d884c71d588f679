//! The vocabulary, the three traits, the log, the run loops and what they own.
