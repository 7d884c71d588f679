//! Licences, origins and known vulnerabilities of the dependencies, by cargo-deny and `deny.toml`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

/// Licences and origins: works without a network.
pub(crate) fn licences() -> Result<()> {
    must_be_installed()?;
    run::cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

/// Known vulnerabilities. Their database may be out of reach: that is said, and isn't a failure of the change.
pub(crate) fn advisories() -> Result<()> {
    must_be_installed()?;
    let fetched = run::command(&["deny", "fetch", "db"]).output().context("cargo deny fetch db")?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr);
        let reason = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        println!("    SKIPPED: the database of advisories can't be fetched ({})", reason.trim());
        return Ok(());
    }
    run::cargo(&["deny", "--log-level", "error", "check", "--disable-fetch", "advisories"])
}

fn must_be_installed() -> Result<()> {
    let asked = Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !asked.is_ok_and(|status| status.success()) {
        bail!("cargo-deny is not installed: cargo install cargo-deny --locked");
    }
    Ok(())
}
