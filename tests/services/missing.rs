//! What is said and done when a service can't be had.

use std::io::Write;

use anyhow::{Result, bail};

use crate::given::Variable;

/// Why a service can't be had here, and how to get it. Not an error by itself: outside CI its tests are left out.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

/// Nothing, with one loud line; in CI, where nothing may be left out, an error.
/// The variable is the one that would give the service, where one can.
pub(crate) fn without<T>(service: &str, missing: &Missing, variable: Option<Variable>) -> Result<Option<T>> {
    let or_set = variable.map(|variable| format!("; or set {}", variable.name())).unwrap_or_default();
    let Missing(why) = missing;
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    if in_ci {
        bail!("no {service} for the tests: {why}{or_set}");
    }
    say(&format!("NOT TESTED with a real {service}: {why}{or_set}"));
    Ok(None)
}

/// Past the test runner, which hides what passing tests print.
pub(crate) fn say(line: &str) {
    // Nobody to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "\n>>> {line}");
}
