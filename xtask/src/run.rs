//! Runs cargo and says what failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The cargo that runs us, at the workspace's root.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

/// Runs cargo to the end; an error when it fails.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    check(command(arguments), arguments)
}

/// Runs the command to the end; an error when it fails.
pub(crate) fn check(mut command: Command, arguments: &[&str]) -> Result<()> {
    let status = command.status().with_context(|| described(arguments))?;
    if !status.success() {
        bail!("{} failed ({status})", described(arguments));
    }
    Ok(())
}

/// As [`cargo`], but prints only those lines of its output that are wanted.
pub(crate) fn cargo_filtered(arguments: &[&str], wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut child = command(arguments).stdout(Stdio::piped()).spawn().with_context(|| described(arguments))?;
    let output = child.stdout.take().context("reading cargo's output")?;
    for line in BufReader::new(output).split(b'\n') {
        // Tests may print anything.
        let line = line.context("reading cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        if wanted(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| described(arguments))?;
    if !status.success() {
        bail!("{} failed ({status})", described(arguments));
    }
    Ok(())
}

fn described(arguments: &[&str]) -> String {
    format!("cargo {}", arguments.join(" "))
}
