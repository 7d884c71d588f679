//! The tools' own checks, where they are installed: they know more than we do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::compose;

/// Prometheus's configuration and rules, and the rules' tests.
pub(super) fn promtool(root: &Path) -> Result<()> {
    if !answers(Command::new("promtool").arg("--version")) {
        println!("    SKIPPED: promtool isn't installed: the alerts' own tests aren't run");
        return Ok(());
    }
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "prometheus.rules.test.yml"]] {
        quietly(Command::new("promtool").args(arguments).current_dir(root.join("docker")))?;
    }
    Ok(())
}

/// What compose itself makes of the file, with every variable filled in. Needs its plug-in, but no engine.
pub(super) fn compose(root: &Path, example: &str) -> Result<()> {
    if !answers(Command::new("docker").args(["compose", "version"])) {
        println!("    SKIPPED: docker compose isn't installed");
        return Ok(());
    }
    let mut command = Command::new("docker");
    command.args(["compose", "--file", "docker/compose.yaml", "--profile", "*", "config", "--quiet"]);
    command.envs(compose::names(example).map(|name| (name, "filled")));
    quietly(command.current_dir(root))
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Shows what a command said only when it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} failed ({})", output.status);
    }
    Ok(())
}
