//! Finds and runs the programs of the system that services are fetched and started with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The program's path, when the search path has it.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// Whether the file exists and may be executed by somebody.
pub(crate) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Java's launcher: of `JAVA_HOME` where that is set, else on the search path.
pub(crate) fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.filter(|java| is_program(java)).or_else(|| on_path("java"))
}

/// Runs to the end and returns what was printed. An error tells the program's last words.
pub(crate) async fn run(mut command: Command, deadline: Duration) -> Result<String> {
    let name = Path::new(command.as_std().get_program()).file_name().map(OsStr::to_owned).unwrap_or_default();
    let name = name.display();
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(deadline, done).await {
        Ok(output) => output.with_context(|| format!("running {name}"))?,
        Err(_) => bail!("{name} took more than {} s", deadline.as_secs()),
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let said = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
    bail!("{name} failed ({}): {}", output.status, last_lines(&said, 15));
}

/// The end of a log, which is where programs say why they gave up.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
