//! A bucket behind S3's protocol: versitygw, whose conditional puts are atomic, in front of a folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::instance::{Launch, Private};
use crate::missing::{self, Missing};
use crate::{cache, ports, program};

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

/// A first build with all modules over a slow line; usually a minute.
const BUILD_DEADLINE: Duration = Duration::from_secs(900);

/// A server of one test alone, with one bucket. Ends within seconds of being dropped.
pub struct S3 {
    server: Private<Program>,
}

impl S3 {
    /// The bucket.
    pub const BUCKET: &str = "muster";
    /// Who may do everything.
    pub const ACCESS_KEY: &str = "anchor";
    /// How that is proven.
    pub const SECRET_KEY: &str = "harbour-lights";

    /// Builds it with Go, once, and starts it; `None`, and a loud line, where it can't be had.
    pub async fn own() -> Result<Option<Self>> {
        match Program::fetch().await {
            Ok(program) => Ok(Some(Self { server: Private::start(program).await? })),
            Err(missing) => missing::without("object store (versitygw)", &missing, None),
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }
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
        match cache::filled("versitygw-1.8.0", fill).await {
            Ok(folder) => Ok(Self(folder.join("versitygw"))),
            Err(err) => Err(Missing(format!("fetching it failed: {err:#}"))),
        }
    }
}

impl Launch for Program {
    fn name(&self) -> &'static str {
        "versitygw-1.8.0"
    }

    fn signal(&self) -> &'static str {
        "KILL"
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let buckets = folder.join("buckets");
        std::fs::create_dir_all(buckets.join(S3::BUCKET))?;
        let mut command = vec![OsString::from(&self.0)];
        command.extend(["--access", S3::ACCESS_KEY, "--secret", S3::SECRET_KEY].map(OsString::from));
        command.extend(["--quiet", "--health", "/health", "--port"].map(OsString::from));
        command.extend([format!("127.0.0.1:{}", ports[0]).into(), "posix".into(), buckets.into()]);
        Ok(command)
    }

    async fn answers(&self, _folder: &Path, port: u16) -> Result<()> {
        let asking = async {
            let mut stream = ports::open(port).await?;
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = timeout(Duration::from_secs(10), asking).await.context("no answer in 10 s")??;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "it isn't well yet");
        Ok(())
    }
}
