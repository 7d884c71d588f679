//! Fetches package artefacts with Maven, as it is configured on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::missing::Missing;
use crate::{cache, lock, program};

const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";
const INSTALL: &str = "org.apache.maven.plugins:maven-install-plugin:3.1.1";

/// 54 MB over a slow line; usually 10 s.
const DEADLINE: Duration = Duration::from_secs(600);

/// What starting a Java service from packages takes, found on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Maven {
    program: PathBuf,
    pub(crate) java: PathBuf,
}

impl Maven {
    pub(crate) fn find() -> Result<Self, Missing> {
        let java = program::java();
        let maven = program::on_path("mvn");
        let supervisor = program::on_path("flock");
        match (maven, java, supervisor) {
            (Some(program), Some(java), Some(_)) => Ok(Self { program, java }),
            (maven, java, supervisor) => {
                let absent = [("mvn", maven), ("java", java), ("flock", supervisor)];
                let absent: Vec<&str> =
                    absent.iter().filter(|(_, path)| path.is_none()).map(|(name, _)| *name).collect();
                Err(Missing(format!(
                    "{} not found (Debian: apt-get install maven default-jre-headless util-linux)",
                    absent.join(" and ")
                )))
            }
        }
    }

    /// Copies what the POM depends on, with what that depends on, to the folder.
    pub(crate) async fn copy_dependencies(&self, pom: &Path, to: &Path) -> Result<()> {
        let output = format!("-DoutputDirectory={}", to.display());
        self.run(&["-f", &pom.display().to_string(), &format!("{COPY}:copy-dependencies"), &output]).await
    }

    /// Copies one artefact, `group:name:version:type:classifier`, to the folder.
    pub(crate) async fn copy(&self, artefact: &str, to: &Path) -> Result<()> {
        let output = format!("-DoutputDirectory={}", to.display());
        self.run(&[&format!("{COPY}:copy"), &format!("-Dartifact={artefact}"), &output]).await
    }

    /// Puts a POM into our local repository, in place of one that can't be fetched.
    pub(crate) async fn install_pom(&self, pom: &Path) -> Result<()> {
        let pom = pom.display();
        let file = [format!("-Dfile={pom}"), format!("-DpomFile={pom}")];
        self.run(&[&format!("{INSTALL}:install-file"), &file[0], &file[1], "-Dpackaging=pom"]).await
    }

    /// In a local repository of our own: Maven doesn't share one between processes safely, and our stand-ins for
    /// missing POMs have no place in the user's.
    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let cache = cache::folder()?;
        let _alone = lock::exclusive(&cache.join("maven.lock")).await?;
        let mut maven = Command::new(&self.program);
        maven.args(["-q", "-B", &format!("-Dmaven.repo.local={}", cache.join("maven").display())]);
        maven.args(arguments).current_dir(&cache);
        program::run(maven, DEADLINE).await.context("fetching with Maven")?;
        Ok(())
    }
}
