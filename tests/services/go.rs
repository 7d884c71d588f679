//! Builds programs with Go, as their makers publish them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use crate::missing::Missing;
use crate::{cache, program};

/// A first build with all modules over a slow line; usually a minute.
const DEADLINE: Duration = Duration::from_secs(900);

/// The program of a module and version (`host/path@v1.2.3`), built once. Go calls it after its folder, `binary`; `name` is
/// what it is kept as.
pub(crate) async fn built(name: &str, module: &str, binary: &str) -> Result<PathBuf, Missing> {
    let Some(go) = program::on_path("go") else {
        return Err(Missing("go not found (Debian: apt-get install golang)".to_owned()));
    };
    let fill = |staging: PathBuf| async move {
        let mut install = Command::new(go);
        install.args(["install", module]).env("GOBIN", &staging);
        program::run(install, DEADLINE).await.context("building it with Go").map(drop)
    };
    match cache::filled(name, fill).await {
        Ok(folder) => Ok(folder.join(binary)),
        Err(err) => Err(Missing(format!("fetching it failed: {err:#}"))),
    }
}
