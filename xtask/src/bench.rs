//! The benchmarks, and the binary they start, as they are released.

use anyhow::Result;

use crate::run;

/// Builds both, then runs the named benchmarks.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    // Not at once: features that only the benchmarks want must not get into the binary.
    run::cargo(&["build", "--release", "--quiet", "--package", "muster"])?;
    run::cargo(&[&["run", "--release", "--quiet", "--package", "bench", "--"], arguments].concat())
}
