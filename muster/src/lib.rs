//! What of the binary others drive: the settings, for fuzzing. Everything else belongs to `main.rs`.

pub mod settings;
