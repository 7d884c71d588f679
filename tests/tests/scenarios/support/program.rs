//! The binary, built once, and its processes.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// The binary that `MUSTER_TEST_PROGRAM` names, else as cargo builds it now; a copy, so that a build that goes on beside
/// the tests doesn't swap it between two starts.
pub async fn program() -> Result<&'static Path> {
    static BUILT: OnceCell<(tempfile::TempDir, PathBuf)> = OnceCell::const_new();
    let (_, path) = BUILT
        .get_or_try_init(|| async {
            // Whoever asks the process over HTTP needs one; a second time changes nothing.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("muster");
            std::fs::copy(built().await?, &path)?;
            anyhow::Ok((folder, path))
        })
        .await?;
    Ok(path)
}

async fn built() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("MUSTER_TEST_PROGRAM") {
        return Ok(given.into());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "muster", "--bin", "muster", "--message-format", "json", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let done = cargo.output().await.context("cargo can't be started")?;
    ensure!(done.status.success(), "muster can't be built");
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let said: Value = serde_json::from_str(line).context("what cargo says")?;
        if let Some(path) = said["executable"].as_str()
            && said["target"]["name"] == "muster"
        {
            return Ok(path.into());
        }
    }
    bail!("cargo built no muster")
}

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    /// Its exit code.
    pub code: i32,
    /// Its result.
    pub stdout: String,
    /// Its log.
    pub stderr: String,
}

impl Done {
    /// It ended well.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}\n{}\n{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }

    /// The one JSON object it printed.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {}\n{}", self.stdout, self.stderr))
    }
}

/// Runs a command to its end.
pub async fn finish(command: &mut Command) -> Result<Done> {
    let ended = tokio::time::timeout(Duration::from_secs(150), command.kill_on_drop(true).output()).await;
    let output = ended.with_context(|| format!("{:?} doesn't end", command.as_std()))??;
    Ok(Done {
        code: code(output.status),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// The exit code; 128 and the number of the signal for a process that was killed, as shells have it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A process that goes on. Killed when dropped.
pub struct Running {
    child: Child,
    printed: PathBuf,
}

impl Running {
    /// Starts it; what it prints goes into a file.
    pub fn start(command: &mut Command, printed: PathBuf) -> Result<Self> {
        let file = std::fs::File::create(&printed)?;
        command.stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        Ok(Self { child: command.spawn()?, printed })
    }

    /// Everything it has printed.
    pub fn printed(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.printed)?).into_owned())
    }

    /// It still runs.
    pub fn is_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the process ended ({status}):\n{}", self.printed()?),
        }
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(code))
    }

    /// Waits for something that the process must bring about; its death ends the waiting, and an error tells its log.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.map_err(|error| error.context(self.printed().unwrap_or_default())),
                () = tokio::time::sleep(Duration::from_millis(500)) => self.is_alive()?,
            }
        }
    }

    /// SIGKILL.
    pub async fn kill(mut self) -> Result<()> {
        self.is_alive()?;
        Ok(self.child.kill().await?)
    }

    /// Sends a signal by its name.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().context("the process has ended already")?;
        let done = Command::new("kill").args([&format!("-{signal}"), &id.to_string()]).status().await?;
        ensure!(done.success(), "kill -{signal}");
        Ok(())
    }

    /// SIGTERM; answers the exit code and how long the process took to end.
    pub async fn terminate(mut self) -> Result<(i32, Duration)> {
        let began = std::time::Instant::now();
        self.signal("TERM").await?;
        let status = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        let status =
            status.with_context(|| format!("still there after 30 s:\n{}", self.printed().unwrap_or_default()))??;
        Ok((code(status), began.elapsed()))
    }
}
