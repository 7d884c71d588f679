//! Services in containers, where a container engine answers.
//!
//! The engine's own client runs under our supervisor like any other server. A container that a library keeps in a static
//! would never be dropped, could not be shared by test processes, and would stay when they are killed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::instance::Launch;
use crate::program;

/// A first pull of an image over a slow line.
const PULL_DEADLINE: Duration = Duration::from_secs(300);

/// The client of a container engine that answered.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    client: PathBuf,
}

impl Engine {
    /// Docker or Podman, if its engine answers quickly.
    pub(crate) async fn find() -> Option<Self> {
        for name in ["docker", "podman"] {
            let Some(client) = program::on_path(name) else { continue };
            let mut list = Command::new(&client);
            list.args(["ps", "--quiet"]);
            if program::run(list, Duration::from_secs(3)).await.is_ok() {
                return Some(Self { client });
            }
        }
        None
    }

    pub(crate) fn client(&self) -> &Path {
        &self.client
    }
}

/// A service as an image.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) engine: Engine,
    pub(crate) name: &'static str,
    pub(crate) image: &'static str,
    /// The port it listens on inside.
    pub(crate) inside: u16,
    /// Its environment, given the port it has outside.
    pub(crate) environment: fn(u16) -> Vec<(String, String)>,
    /// Arguments to its entry point.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) probe: Probe,
}

/// How a container shows that it is ready.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Kafka,
    Registry,
    Postgres,
}

impl Container {
    fn container_name(folder: &Path) -> String {
        folder.file_name().unwrap_or_default().to_string_lossy().replace('.', "")
    }

    fn run_arguments(&self, folder: &Path, port: u16) -> Vec<OsString> {
        let mut arguments: Vec<String> = ["run", "--rm", "--name"].map(str::to_owned).to_vec();
        arguments.push(Self::container_name(folder));
        arguments.extend(["--publish".to_owned(), format!("127.0.0.1:{port}:{}", self.inside)]);
        for (key, value) in (self.environment)(port) {
            arguments.extend(["--env".to_owned(), format!("{key}={value}")]);
        }
        arguments.push(self.image.to_owned());
        arguments.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
        arguments.into_iter().map(OsString::from).collect()
    }
}

impl Launch for Container {
    fn name(&self) -> &'static str {
        self.name
    }

    // The client passes it on to the container; a killed client would leave it running.
    fn signal(&self) -> &'static str {
        "TERM"
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let mut inspect = Command::new(self.engine.client());
        inspect.args(["image", "inspect", self.image]);
        let is_here = program::run(inspect, Duration::from_secs(10)).await.is_ok();
        if !is_here {
            let mut pull = Command::new(self.engine.client());
            pull.args(["pull", "--quiet", self.image]);
            program::run(pull, PULL_DEADLINE).await?;
        }
        let mut command = vec![self.engine.client().into()];
        command.extend(self.run_arguments(folder, ports[0]));
        Ok(command)
    }

    fn after(&self, folder: &Path) -> Option<String> {
        Some(format!("{} rm --force {}", self.engine.client().display(), Self::container_name(folder)))
    }

    async fn answers(&self, folder: &Path, port: u16) -> Result<()> {
        match self.probe {
            Probe::Kafka => crate::kafka::answers(folder, port).await,
            Probe::Registry => crate::registry::answers(port).await,
            Probe::Postgres => crate::postgres::answers(port).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_reached_on_loopback_only_and_goes_when_it_stops() {
        let container = crate::kafka::container(Engine { client: "/usr/bin/docker".into() });
        let arguments = container.run_arguments(Path::new("/tmp/muster-tests-a1b2"), 20_000);
        let line = arguments.join(" ".as_ref()).to_string_lossy().into_owned();
        assert!(line.starts_with("run --rm --name muster-tests-a1b2 --publish 127.0.0.1:20000:9092 "), "{line}");
        assert!(line.contains("--env KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:20000"), "{line}");
        assert!(line.ends_with("apache/kafka:4.3.1"), "{line}");
    }
}
