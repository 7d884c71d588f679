//! Toxiproxy: faults on the network between a process and what it talks to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::instance::{Launch, Private};
use crate::missing::{self, Missing};
use crate::{cache, ports, program};

const MODULE: &str = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0";

/// A first build with all modules over a slow line; usually 40 s.
const BUILD_DEADLINE: Duration = Duration::from_secs(600);

/// A toxiproxy of one test alone. Ends, and with it every proxy, within seconds of being dropped.
pub struct Toxiproxy {
    server: Private<Program>,
}

impl Toxiproxy {
    /// Builds it with Go, once, and starts it; `None`, and a loud line, where it can't be had.
    pub async fn own() -> Result<Option<Self>> {
        match Program::fetch().await {
            Ok(program) => Ok(Some(Self { server: Private::start(program).await? })),
            Err(missing) => missing::without("network that fails (toxiproxy)", &missing, None),
        }
    }

    /// Forwards what comes to `listen` to `to`, both on loopback.
    pub async fn proxy(&self, name: &str, listen: u16, to: u16) -> Result<Proxy> {
        let body =
            format!(r#"{{"name":"{name}","listen":"127.0.0.1:{listen}","upstream":"127.0.0.1:{to}","enabled":true}}"#);
        ask(self.server.port(), "POST", "/proxies", &body).await.with_context(|| format!("a proxy before {name}"))?;
        Ok(Proxy { api: self.server.port(), name: name.to_owned(), port: listen })
    }
}

/// What a proxy does to the connections through it, those there are and those to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toxic {
    /// Answers come so many milliseconds late, give or take the jitter.
    Latency {
        /// How late, in milliseconds.
        ms: u32,
        /// Give or take, in milliseconds.
        jitter: u32,
    },
    /// Connections are reset so many milliseconds after something was sent.
    Reset {
        /// In milliseconds.
        after_ms: u32,
    },
    /// Each connection is closed when so many bytes of answers have come: in the middle of an answer, as a rule.
    Cut {
        /// How many.
        bytes: u32,
    },
    /// What is sent arrives, the answer doesn't: the connection is closed so many milliseconds later; 0: never.
    Mute {
        /// In milliseconds.
        ms: u32,
    },
    /// Nobody listens.
    Down,
}

/// One way through [`Toxiproxy`].
pub struct Proxy {
    api: u16,
    name: String,
    port: u16,
}

impl Proxy {
    /// Where to connect to, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the network does this, besides what it does already.
    pub async fn poison(&self, toxic: Toxic) -> Result<()> {
        let (kind, attributes) = match toxic {
            Toxic::Latency { ms, jitter } => ("latency", format!(r#""latency":{ms},"jitter":{jitter}"#)),
            Toxic::Reset { after_ms } => ("reset_peer", format!(r#""timeout":{after_ms}"#)),
            Toxic::Cut { bytes } => ("limit_data", format!(r#""bytes":{bytes}"#)),
            Toxic::Mute { ms } => ("timeout", format!(r#""timeout":{ms}"#)),
            Toxic::Down => return self.enable(false).await,
        };
        let body = format!(r#"{{"type":"{kind}","stream":"downstream","attributes":{{{attributes}}}}}"#);
        let path = format!("/proxies/{}/toxics", self.name);
        ask(self.api, "POST", &path, &body).await.with_context(|| format!("a fault before {}", self.name))
    }

    /// The network is as it should be again. Connections that were poisoned to the end are gone.
    pub async fn heal(&self) -> Result<()> {
        for kind in ["latency", "reset_peer", "limit_data", "timeout"] {
            let path = format!("/proxies/{}/toxics/{kind}_downstream", self.name);
            // Most aren't there.
            if let Err(failure) = ask(self.api, "DELETE", &path, "").await
                && !failure.to_string().contains("404")
            {
                return Err(failure.context(format!("healing the way to {}", self.name)));
            }
        }
        self.enable(true).await
    }

    async fn enable(&self, enabled: bool) -> Result<()> {
        let path = format!("/proxies/{}", self.name);
        let body = format!(r#"{{"enabled":{enabled}}}"#);
        ask(self.api, "POST", &path, &body).await.with_context(|| format!("switching the way to {}", self.name))
    }
}

/// One request to the API; anything but a success is an error.
async fn ask(api: u16, method: &str, path: &str, body: &str) -> Result<()> {
    let asking = async {
        let mut stream = ports::open(api).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(Duration::from_secs(10), asking).await.context("no answer in 10 s")??;
    let status = answer.lines().next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 2") {
        bail!("toxiproxy answered {status}");
    }
    Ok(())
}

/// The server's program.
#[derive(Debug)]
struct Program(PathBuf);

impl Program {
    async fn fetch() -> Result<Self, Missing> {
        let Some(go) = program::on_path("go") else {
            return Err(Missing("go not found (Debian: apt-get install golang)".to_owned()));
        };
        let fill = |staging: PathBuf| async move {
            let mut install = Command::new(go);
            install.args(["install", MODULE]).env("GOBIN", &staging);
            program::run(install, BUILD_DEADLINE).await.context("building it with Go").map(drop)
        };
        match cache::filled("toxiproxy-2.12.0", fill).await {
            // The binary is called after its folder.
            Ok(folder) => Ok(Self(folder.join("server"))),
            Err(err) => Err(Missing(format!("fetching it failed: {err:#}"))),
        }
    }
}

impl Launch for Program {
    fn name(&self) -> &'static str {
        "toxiproxy-2.12.0"
    }

    fn signal(&self) -> &'static str {
        "KILL"
    }

    async fn command(&self, _folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let mut command = vec![OsString::from(&self.0)];
        command.extend(["-host", "127.0.0.1", "-port"].map(OsString::from));
        command.push(ports[0].to_string().into());
        Ok(command)
    }

    async fn answers(&self, _folder: &Path, port: u16) -> Result<()> {
        ask(port, "GET", "/version", "").await
    }
}
