//! Whether a container engine answers on this machine. Asked before anything of testcontainers is touched, so that
//! tests lose no time where there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::{missing, program};

/// An engine on the same machine answers in milliseconds; a socket that somebody left behind may never.
const QUICKLY: Duration = Duration::from_secs(1);

/// Nobody's answer to a ping is longer.
const PING_BYTES: u64 = 4096;

/// A container engine that answered.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine that testcontainers would talk to, if it is on this machine and answers quickly. Looked for once;
    /// what is there but can't be used is said.
    pub(crate) async fn find() -> Option<Self> {
        static ONCE: OnceCell<Option<Engine>> = OnceCell::const_new();
        ONCE.get_or_init(|| async {
            let socket = socket(|name| std::env::var(name).ok(), Path::exists);
            match Self::usable(socket).await {
                Ok(engine) => engine,
                Err(err) => {
                    missing::say(&format!("no containers, trying packages: {err:#}"));
                    None
                }
            }
        })
        .await
        .clone()
    }

    async fn usable(socket: Result<Option<PathBuf>>) -> Result<Option<Self>> {
        let Some(socket) = socket? else { return Ok(None) };
        let engine = Self { socket };
        let pinged = timeout(QUICKLY, engine.ping()).await.context("no answer in 1 s").flatten();
        pinged.with_context(|| format!("no container engine behind {}", engine.socket.display()))?;
        if program::on_path("curl").is_none() {
            bail!("curl, which removes containers when the tests have ended, not found (Debian: apt-get install curl)");
        }
        Ok(Some(engine))
    }

    async fn ping(&self) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(PING_BYTES).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        // Docker and Podman both say it; another server's 200 isn't an engine.
        let is_engine = answer.starts_with("http/1.1 200") && answer.contains("\r\napi-version:");
        if !is_engine {
            bail!("it answers, but not as one");
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// The socket that testcontainers would choose: it can only be told by these variables, so we look where it does.
fn socket(variable: impl Fn(&str) -> Option<String>, exists: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    if let Some(host) = variable("DOCKER_HOST") {
        // What runs elsewhere doesn't listen on our loopback. The value isn't repeated: it may hold a password.
        let path = host.strip_prefix("unix://").context("DOCKER_HOST isn't a socket on this machine (unix://…)")?;
        return Ok(Some(path.into()));
    }
    let below = |name: &str, path: &str| variable(name).map(|folder| Path::new(&folder).join(path));
    let usual = [
        Some("/var/run/docker.sock".into()),
        below("XDG_RUNTIME_DIR", ".docker/run/docker.sock"),
        below("HOME", ".docker/run/docker.sock"),
        below("HOME", ".docker/desktop/docker.sock"),
    ];
    Ok(usual.into_iter().flatten().find(|path| exists(path)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    fn choose(variables: &[(&str, &str)], there: &[&str]) -> Result<Option<PathBuf>> {
        let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        socket(value, |path| there.iter().any(|there| Path::new(there) == path))
    }

    /// The error for a socket on which somebody says this to everyone.
    async fn with_answer(answer: &'static [u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer).unwrap();
        });
        let err = Engine::usable(Ok(Some(path.clone()))).await.unwrap_err();
        format!("{err:#}").replace(&path.display().to_string(), "SOCKET")
    }

    #[test]
    fn the_variable_goes_before_the_usual_places_and_these_in_their_order() {
        let home = [("HOME", "/home/asha")];
        let desktop = "/home/asha/.docker/desktop/docker.sock";
        assert_eq!(choose(&home, &[]).unwrap(), None);
        assert_eq!(choose(&home, &[desktop]).unwrap(), Some(desktop.into()));
        let system = "/var/run/docker.sock";
        assert_eq!(choose(&home, &[desktop, system]).unwrap(), Some(system.into()));
        let named = [("DOCKER_HOST", "unix:///run/podman/podman.sock")];
        assert_eq!(choose(&named, &[system]).unwrap(), Some("/run/podman/podman.sock".into()));
    }

    #[test]
    fn an_engine_elsewhere_is_not_used_and_not_repeated() {
        let said = choose(&[("DOCKER_HOST", "tcp://asha:secret@builds:2375")], &[]).unwrap_err().to_string();
        assert_eq!(said, "DOCKER_HOST isn't a socket on this machine (unix://…)");
    }

    #[tokio::test]
    async fn without_an_engine_no_time_is_lost() {
        let began = Instant::now();
        assert!(Engine::usable(choose(&[("HOME", "/home/asha")], &[])).await.unwrap().is_none());
        let left_behind = tempfile::NamedTempFile::new().unwrap();
        assert!(Engine::usable(Ok(Some(left_behind.path().into()))).await.is_err());
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_socket_that_talks_nonsense_is_no_engine() {
        let not_one = "no container engine behind SOCKET: it answers, but not as one";
        assert_eq!(with_answer(b"\xff\0 220 mail.example ESMTP\r\n").await, not_one);
        assert_eq!(with_answer(b"").await, not_one);
        assert_eq!(with_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await, not_one);
        let broken = b"HTTP/1.1 500 Internal Server Error\r\nApi-Version: 1.47\r\n\r\n";
        assert_eq!(with_answer(broken).await, not_one);
    }

    #[tokio::test]
    async fn a_silent_socket_is_given_up_after_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let said = format!("{:#}", Engine::usable(Ok(Some(path))).await.unwrap_err());
        assert!(said.ends_with("no answer in 1 s: deadline has elapsed"), "{said}");
    }
}
