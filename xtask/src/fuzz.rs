//! Fuzzing by hand: libFuzzer through cargo-fuzz, one target after the other. What it learns stays in `fuzz/corpus`, which
//! every run of the tests goes through.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// Without a name, each target in its turn. No sanitizer: nothing of ours is unsafe, and panics, hangs (25 s for one input)
/// and memory (2 GiB) are found without.
pub(crate) fn fuzz(names: &[&str], minutes: u64) -> Result<()> {
    let all: Vec<String> = targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|target| target == *name)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    for target in all.iter().filter(|target| names.is_empty() || names.contains(&target.as_str())) {
        println!("==> {target}, {minutes} min");
        let time = format!("-max_total_time={}", minutes * 60);
        let arguments = [
            "run",
            "--fuzz-dir",
            "fuzz",
            "-O",
            "-s",
            "none",
            "--features",
            "libfuzzer",
            target,
            "--",
            &time,
            "-timeout=25",
        ];
        run::check(cargo_fuzz(&arguments), &arguments)?;
        // Of inputs that reach the same code, the smallest is kept.
        let arguments = ["cmin", "--fuzz-dir", "fuzz", "-O", "-s", "none", "--features", "libfuzzer", target];
        run::check(cargo_fuzz(&arguments), &arguments)?;
    }
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let said = cargo_fuzz(&["list", "--fuzz-dir", "fuzz"]).output().context("cargo fuzz list")?;
    if !said.status.success() {
        bail!(
            "cargo-fuzz or a nightly compiler is missing: cargo install cargo-fuzz; rustup toolchain install nightly"
        );
    }
    Ok(String::from_utf8(said.stdout)?.lines().map(str::to_owned).collect())
}

/// libFuzzer's flags are for nightly compilers only.
fn cargo_fuzz(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // Cargo tells its children which compiler it is itself.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    // Nine programs that nobody ships: each would be put through the release's link-time optimisation.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off");
    command
}
