//! The benchmarks, and the binary they start, as they are released.

use anyhow::Result;

use crate::run;

/// Builds both, then runs the named benchmarks.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    // Not at once: features that only the benchmarks want must not get into the binary.
    run::cargo(&["build", "--release", "--quiet", "--package", "muster"])?;
    run::cargo(&[&["run", "--release", "--quiet", "--package", "bench", "--"], arguments].concat())
}

/// A fraction of those that need no services, as developers build them: only that they run is shown.
pub(crate) fn smoke() -> Result<()> {
    run::cargo(&["run", "--quiet", "--package", "bench", "--", "--quick", "avro", "sqlite-log"])
}
