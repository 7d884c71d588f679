//! Everything a change must pass, in the order in which it fails fastest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{bench, deny, docker, run};

/// A step's name and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", || run::cargo(&["fmt", "--all", "--check"])),
    ("docker", docker::check),
    ("lints", lints),
    ("documents", documents),
    ("licences", deny::licences),
    ("advisories", deny::advisories),
    ("build tests", || run::cargo(&["test", "--workspace", "--no-run", "--quiet"])),
    ("benchmarks run", bench::smoke),
    ("tests", tests),
];

/// What takes long, in `ci --all`.
const LONG: &[Step] = &[("long tests", long_tests)];

/// Runs every step, or with `all` also those that take long; the first that fails ends it.
pub(crate) fn run(all: bool) -> Result<()> {
    let mut took: Vec<String> = Vec::new();
    let long = if all { LONG } else { &[] };
    for (name, step) in STEPS.iter().chain(long) {
        println!("==> {name}");
        let started = Instant::now();
        step().with_context(|| format!("{name}, after {}", seconds(started.elapsed())))?;
        let elapsed = seconds(started.elapsed());
        println!("    {name}: {elapsed}");
        took.push(format!("{name} {elapsed}"));
    }
    println!("==> all passed: {}", took.join(", "));
    Ok(())
}

fn lints() -> Result<()> {
    run::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn documents() -> Result<()> {
    let arguments = ["doc", "--quiet", "--workspace", "--no-deps"];
    let mut command = run::command(&arguments);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run::check(command, &arguments)
}

/// The README's test command.
fn tests() -> Result<()> {
    run::cargo_filtered(&["test", "--workspace"], is_telling)
}

/// The tests that are left out otherwise, one after the other: several clusters at once would be slower than they are patient.
fn long_tests() -> Result<()> {
    let tests = ["--test", "scenarios", "--test", "kafka_log"];
    let arguments = [&["test", "--package", "e2e"], &tests[..], &["--", "--ignored", "--test-threads", "1"]].concat();
    run::cargo_filtered(&arguments, is_telling)?;
    run::cargo_filtered(&["test", "--package", "sinks", "--test", "snapshots", "--", "--ignored", "s3"], is_telling)
}

/// Hundreds of tests that passed are counted in their binary's last line; what failed is shown whole.
fn is_telling(line: &str) -> bool {
    let is_a_pass = line.starts_with("test ") && line.ends_with("... ok");
    let is_a_header = line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test"));
    !line.trim().is_empty() && !is_a_pass && !is_a_header
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_left_to_the_summary_and_failures_are_shown() {
        let hidden = ["", "running 12 tests", "running 1 test", "test rota::starts_on_monday ... ok"];
        let shown = [
            "test rota::starts_on_monday ... FAILED",
            "test rota::starts_on_monday ... ignored",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "thread 'rota' panicked at rota.rs:1:1:",
        ];
        assert!(!hidden.iter().any(|line| is_telling(line)));
        assert!(shown.iter().all(|line| is_telling(line)));
    }
}
