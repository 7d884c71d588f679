//! The configuration file.

use muster::settings::Settings;
use pipeline::config;

/// Longer than any real one; what the parser does with more is more of the same.
const MOST: usize = 64 << 10;

/// A configuration file: settings, or problems that each name a place in it.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data.get(..MOST).unwrap_or(data)) else { return };
    match config::read("muster.toml", text, Settings::read) {
        Ok(settings) => assert!(settings.is_some(), "settings are missing, and nobody said why"),
        Err(problems) => {
            let lines = text.lines().count() + 1;
            for problem in problems.iter() {
                assert!(!problem.to_string().is_empty());
                assert!(
                    usize::try_from(problem.line).is_ok_and(|line| line <= lines),
                    "a problem behind the end of the file"
                );
            }
        }
    }
}
