//! The example configuration and everything that can be wrong with it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod example;
mod wrong;

use pipeline::config::{self, Problems};

use super::Settings;

/// The annotated configuration.
const EXAMPLE: &str = include_str!("../../../../docker/muster.toml");

fn read(text: &str) -> Result<Settings, Problems> {
    config::read("muster.toml", text, Settings::read).map(Option::unwrap)
}
