//! A bucket behind S3's protocol: versitygw, whose conditional puts are atomic, in front of a folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::instance::{Launch, Private};
use crate::missing::{self, Missing};
use crate::{go, http};

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw@v1.8.0";

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
        go::built("versitygw-1.8.0", MODULE, "versitygw").await.map(Self)
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
        http::ask(port, "GET", "/health", "").await
    }
}
