//! A schema registry with the Confluent API: Apicurio Registry, which serves it under a base path.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testcontainers::core::IntoContainerPort;
use testcontainers::{ContainerRequest, GenericImage};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::container::{Container, Probe};
use crate::engine::Engine;
use crate::find::{self, Found};
use crate::given::Variable;
use crate::instance::{Launch, Private};
use crate::maven::Maven;
use crate::missing::{self, Missing};
use crate::{cache, http, program};

const PARENT_POM: &str = include_str!("registry-parent-pom.xml");

/// Where Apicurio serves the Confluent API.
const BASE_PATH: &str = "/apis/ccompat/v7";

/// A real schema registry that all tests share: name subjects so that nobody else uses them.
#[derive(Clone, Debug)]
pub struct Registry {
    found: Arc<Found>,
}

/// The registry for tests, found or started as the [crate] says.
pub async fn registry() -> Result<Option<Registry>> {
    static ONCE: OnceCell<Result<Option<Registry>, String>> = OnceCell::const_new();
    find::once(&ONCE, async {
        let found = find::find("schema registry", Variable::Registry, container, Jar::fetch()).await?;
        Ok(found.map(|found| Registry { found: Arc::new(found) }))
    })
    .await
}

impl Registry {
    /// The address of the Confluent API, base path included, without a slash at the end.
    pub fn url(&self) -> String {
        match &*self.found {
            Found::Given(url) => url.trim_end_matches('/').to_owned(),
            Found::Started(lease) => format!("http://127.0.0.1:{}{BASE_PATH}", lease.port),
        }
    }

    /// A registry for one test alone, to be killed and started at will, which keeps what it was given.
    pub async fn own() -> Result<Option<OwnRegistry>> {
        match Jar::fetch().await {
            Ok(jar) => Ok(Some(OwnRegistry { server: Private::start(Jar { keeps: true, ..jar }).await? })),
            Err(missing) => missing::without("schema registry that may be restarted", &missing, None),
        }
    }
}

/// A registry of one test alone. Ends within seconds of being dropped.
pub struct OwnRegistry {
    server: Private<Jar>,
}

impl OwnRegistry {
    /// As [`Registry::url`]; the same after a restart.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{BASE_PATH}", self.server.port())
    }

    /// What the registry has printed.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Kills the registry outright.
    pub async fn kill(&self) -> Result<()> {
        self.server.signal("KILL").await
    }

    /// Starts the killed registry again, with the same port and data.
    pub async fn restart(&self) -> Result<()> {
        self.server.restart().await
    }
}

/// The registry as a program of many jars.
#[derive(Debug)]
pub(crate) struct Jar {
    java: PathBuf,
    jar: PathBuf,
    /// Its data is in its folder; else in memory.
    keeps: bool,
}

impl Jar {
    pub(crate) async fn fetch() -> Result<Self, Missing> {
        let maven = Maven::find()?;
        let fill = |staging: PathBuf| {
            let maven = maven.clone();
            async move { fill(&maven, &staging).await }
        };
        let found = match cache::filled("apicurio-3.0.9", fill).await {
            Ok(folder) => runner(&folder),
            Err(err) => Err(err),
        };
        match found {
            Ok(jar) => Ok(Self { java: maven.java, jar, keeps: false }),
            Err(err) => Err(Missing(format!("fetching it failed: {err:#}"))),
        }
    }
}

async fn fill(maven: &Maven, staging: &Path) -> Result<()> {
    let parent = staging.join("parent.xml");
    std::fs::write(&parent, PARENT_POM).context("writing the registry's parent POM")?;
    maven.install_pom(&parent).await?;
    maven.copy("io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all", staging).await?;
    let archive = staging.join("apicurio-registry-app-3.0.9-all.tar.gz");
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(&archive).arg("-C").arg(staging);
    program::run(unpack, Duration::from_secs(60)).await?;
    std::fs::remove_file(&archive).context("removing the registry's archive")
}

/// The jar that starts it, in the folder or one below.
fn runner(folder: &Path) -> Result<PathBuf> {
    let mut folders = vec![folder.to_path_buf()];
    let below = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    folders.extend(below.filter(|path| path.is_dir()));
    for folder in folders {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.contains("run") && name.ends_with(".jar") {
                return Ok(path);
            }
        }
    }
    bail!("no runner jar in {}", folder.display())
}

impl Launch for Jar {
    fn name(&self) -> &'static str {
        "apicurio-3.0.9"
    }

    fn signal(&self) -> &'static str {
        "KILL"
    }

    fn ports(&self) -> usize {
        2
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let &[port, management] = ports else { bail!("a registry needs two ports") };
        let mut command = vec![OsString::from(&self.java)];
        let options = [
            "-Xms64m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            "-Dquarkus.management.host=127.0.0.1",
            "-Dapicurio.storage.kind=sql",
            "-Dapicurio.storage.sql.kind=h2",
            // Twenty by default, all opened at the start: on a busy machine it then gives up.
            "-Dapicurio.datasource.jdbc.initial-size=1",
            "-Dapicurio.datasource.jdbc.min-size=1",
        ];
        command.extend(options.map(OsString::from));
        // Without a delay, what was acknowledged outlives the process.
        let data = match self.keeps {
            true => format!("file:{};WRITE_DELAY=0", folder.join("registry").display()),
            false => "mem:registry_db".to_owned(),
        };
        command.push(format!("-Dapicurio.datasource.url=jdbc:h2:{data}").into());
        command.push(format!("-Dquarkus.http.port={port}").into());
        command.push(format!("-Dquarkus.management.port={management}").into());
        command.extend(["-jar".into(), self.jar.clone().into()]);
        Ok(command)
    }

    async fn answers(&self, _folder: &Path, port: u16) -> Result<()> {
        answers(port).await
    }
}

pub(crate) async fn answers(port: u16) -> Result<()> {
    http::ask(port, "GET", &format!("{BASE_PATH}/subjects"), "").await
}

/// Where the image listens.
const INSIDE: u16 = 8080;

pub(crate) fn container(engine: Engine) -> Container<GenericImage> {
    Container {
        engine,
        service: "apicurio-3.0.9-container",
        image: "apicurio/apicurio-registry:3.0.9",
        // Its log doesn't say when it is ready: `answers` asks it.
        request: |name, version| {
            ContainerRequest::from(GenericImage::new(name, version).with_exposed_port(INSIDE.tcp()))
        },
        inside: INSIDE,
        probe: Probe::Registry,
    }
}
