//! Toxiproxy: faults on the network between a process and what it talks to.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::instance::{Launch, Private};
use crate::missing::{self, Missing};
use crate::{go, http};

const MODULE: &str = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0";

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
        http::ask(self.server.port(), "POST", "/proxies", &body)
            .await
            .with_context(|| format!("a proxy before {name}"))?;
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
        http::ask(self.api, "POST", &path, &body).await.with_context(|| format!("a fault before {}", self.name))
    }

    /// The network is as it should be again. Connections that were poisoned to the end are gone.
    pub async fn heal(&self) -> Result<()> {
        for kind in ["latency", "reset_peer", "limit_data", "timeout"] {
            let path = format!("/proxies/{}/toxics/{kind}_downstream", self.name);
            // Most aren't there.
            if let Err(failure) = http::ask(self.api, "DELETE", &path, "").await
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
        http::ask(self.api, "POST", &path, &body).await.with_context(|| format!("switching the way to {}", self.name))
    }
}

/// The server's program.
#[derive(Debug)]
struct Program(PathBuf);

impl Program {
    async fn fetch() -> Result<Self, Missing> {
        go::built("toxiproxy-2.12.0", MODULE, "server").await.map(Self)
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
        http::ask(port, "GET", "/version", "").await
    }
}
