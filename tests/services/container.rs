//! Services in containers, where a container engine answers: testcontainers starts them, our supervisor removes them.
//!
//! A container that the library keeps in a static is never dropped, can't be shared by test processes, and stays when
//! they are killed. So the supervisor watches over the container's name before there is a container.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use testcontainers::bollard::models::HostConfig;
use testcontainers::core::IntoContainerPort;
use testcontainers::core::logs::LogFrame;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, Image, ImageExt};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::instance::{Launch, START_DEADLINE};
use crate::ports;

/// With a first pull of the image over a slow line.
const DEADLINE: Duration = Duration::from_secs(300);

/// Stands for the container among supervised processes: when told to end, or when the supervisor is killed, it removes
/// the container.
const REMOVE_AT_THE_END: &str = r#"trap : TERM
sleep infinity &
wait
kill $!
exec curl --silent --show-error --fail --request DELETE --unix-socket "$1" "http://engine/containers/$2?force=true&v=true""#;

/// A service as an image.
#[derive(Debug)]
pub(crate) struct Container<I: Image> {
    pub(crate) engine: Engine,
    /// As servers are shared under it.
    pub(crate) service: &'static str,
    /// `name:version`
    pub(crate) image: &'static str,
    /// The image of this name and version, with its settings and with what shows that it is ready.
    pub(crate) request: fn(&str, &str) -> ContainerRequest<I>,
    /// The port it listens on inside.
    pub(crate) inside: u16,
    pub(crate) probe: Probe,
}

/// How a running service shows that it is still there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Kafka,
    Registry,
    Postgres,
}

impl<I: Image> Launch for Container<I> {
    fn name(&self) -> &'static str {
        self.service
    }

    fn signal(&self) -> &'static str {
        "TERM"
    }

    async fn command(&self, folder: &Path, _ports: &[u16]) -> Result<Vec<OsString>> {
        let mut command = ["sh", "-c", REMOVE_AT_THE_END, "container"].map(OsString::from).to_vec();
        command.extend([self.engine.socket().into(), container_name(folder).into()]);
        Ok(command)
    }

    async fn begin(&self, folder: &Path, ports: &[u16]) -> Result<()> {
        let image = self.image;
        let (name, version) = image.rsplit_once(':').with_context(|| format!("{image} has no version"))?;
        let log = File::options().append(true).open(folder.join("log")).context("opening a service's log")?;
        let request = (self.request)(name, version)
            .with_container_name(container_name(folder))
            .with_mapped_port(ports[0], self.inside.tcp())
            .with_host_config_modifier(on_loopback)
            .with_log_consumer(move |line: &LogFrame| {
                // For errors only, which do without when it fails.
                let _ = (&log).write_all(line.bytes());
            })
            .with_startup_timeout(START_DEADLINE);
        let starting = timeout(DEADLINE, request.start()).await;
        let in_time = starting.with_context(|| format!("not ready in {} s: {image}", DEADLINE.as_secs()))?;
        let container = in_time.with_context(|| format!("did not start in {image}"))?;
        // Dropped, it would be removed with this process, under the others that use it.
        std::mem::forget(container);
        ports::open(ports[0]).await.context("ready in its container, but not reachable on our loopback")?;
        Ok(())
    }

    async fn answers(&self, _folder: &Path, port: u16) -> Result<()> {
        match self.probe {
            // Begun is ready: its log said so.
            Probe::Kafka => ports::open(port).await.map(drop),
            Probe::Registry => crate::registry::answers(port).await,
            Probe::Postgres => crate::postgres::answers(port).await,
        }
    }
}

fn container_name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The library publishes ports to the whole network.
fn on_loopback(config: &mut HostConfig) {
    for bindings in config.port_bindings.iter_mut().flat_map(|ports| ports.values_mut()).flatten() {
        for binding in bindings {
            binding.host_ip = Some("127.0.0.1".to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
