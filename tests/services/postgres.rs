//! PostgreSQL, from the system's binaries.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Url;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use testcontainers::ImageExt;
use testcontainers_modules::postgres::Postgres as PostgresImage;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::container::{Container, Probe};
use crate::engine::Engine;
use crate::find::{self, Found};
use crate::given::Variable;
use crate::instance::{Launch, Private};
use crate::missing::{self, Missing};
use crate::program;

/// A real PostgreSQL that all tests share, each in databases of its own.
#[derive(Clone, Debug)]
pub struct Postgres {
    found: Arc<Found>,
}

/// The PostgreSQL for tests, found or started as the [crate] says. One that we start doesn't sync to disk: it is for
/// tests in which our processes die, not the database's machine.
pub async fn postgres() -> Result<Option<Postgres>> {
    static ONCE: OnceCell<Result<Option<Postgres>, String>> = OnceCell::const_new();
    find::once(&ONCE, async {
        let packages = async { Binaries::find() };
        let found = find::find("PostgreSQL", Variable::Postgres, container, packages).await?;
        Ok(found.map(|found| Postgres { found: Arc::new(found) }))
    })
    .await
}

impl Postgres {
    /// The address of a maintenance database, as a user who may do anything.
    pub fn maintenance_url(&self) -> String {
        match &*self.found {
            Found::Given(url) => url.clone(),
            Found::Started(lease) => local_url(lease.port),
        }
    }

    /// A server for one test alone, to be killed and started at will. Always started from packages, also where the
    /// shared one is given: somebody else's server isn't ours to kill.
    pub async fn own() -> Result<Option<OwnPostgres>> {
        match Binaries::find() {
            Ok(binaries) => Ok(Some(OwnPostgres { server: Private::start(binaries.with(RESTARTED)).await? })),
            Err(missing) => missing::without("PostgreSQL that may be restarted", &missing, None),
        }
    }

    /// As [`Postgres::own`], for measuring: it syncs to the disk as one in production does.
    pub async fn measured() -> Result<Option<OwnPostgres>> {
        match Binaries::find() {
            Ok(binaries) => Ok(Some(OwnPostgres { server: Private::start(binaries.with(MEASURED)).await? })),
            Err(missing) => missing::without("PostgreSQL to measure with", &missing, None),
        }
    }

    /// A new, empty database. The hint becomes part of its name, for people who look into the server.
    pub async fn database(&self, name_hint: &str) -> Result<TestDatabase> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let hint: String =
            name_hint.to_lowercase().chars().map(|c| if allowed(c) { c } else { '_' }).take(30).collect();
        let name = format!("muster_test_{hint}_{:016x}", fastrand::u64(..));

        let maintenance = self.maintenance_url();
        execute(&maintenance, &format!("create database {name}")).await.context("creating a database for a test")?;
        let mut url = Url::parse(&maintenance).context("reading the maintenance database's URL")?;
        url.set_path(&name);
        let is_ours = matches!(&*self.found, Found::Started(_));
        Ok(TestDatabase { url: url.into(), name, drop_at: (!is_ours).then_some(maintenance) })
    }
}

/// A PostgreSQL of one test alone, whose acknowledged transactions outlive its processes. Ends within seconds of being
/// dropped.
pub struct OwnPostgres {
    server: Private<Binaries>,
}

impl OwnPostgres {
    /// The address of its one database, as a user who may do anything; the same after a restart.
    pub fn url(&self) -> String {
        local_url(self.server.port())
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// What the server has printed.
    pub fn log(&self) -> PathBuf {
        self.server.log()
    }

    /// Ends all its processes at once, in the middle of what they do.
    pub async fn kill(&self) -> Result<()> {
        self.server.signal("QUIT").await
    }

    /// Starts the killed server again, with the same port and data.
    pub async fn restart(&self) -> Result<()> {
        self.server.restart().await
    }
}

/// A database of one test. Keep it for as long as the test runs: on a server that isn't ours, which stays, it is
/// dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its address, as a user who may do anything.
    pub url: String,
    name: String,
    drop_at: Option<String>,
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(maintenance) = self.drop_at.take() else { return };
        let statement = format!("drop database if exists {} with (force)", self.name);
        // A thread, because the test's runtime can't wait here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute(&maintenance, &statement))
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            Ok(Err(err)) => missing::say(&format!("database {} stays behind: {err:#}", self.name)),
            Err(_) => missing::say(&format!("database {} stays behind", self.name)),
        }
    }
}

async fn execute(url: &str, statement: &str) -> Result<()> {
    let working = async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        connection.close().await
    };
    timeout(Duration::from_secs(30), working).await.context("no answer in 30 s")??;
    Ok(())
}

fn local_url(port: u16) -> String {
    format!("postgres://muster@127.0.0.1:{port}/postgres")
}

pub(crate) async fn answers(port: u16) -> Result<()> {
    execute(&local_url(port), "select 1").await
}

/// The server's programs, and whom to run them as.
#[derive(Debug)]
pub(crate) struct Binaries {
    folder: PathBuf,
    user: Option<User>,
    settings: &'static [&'static str],
}

/// PostgreSQL refuses to run as root.
#[derive(Debug)]
struct User {
    id: u32,
    group: u32,
}

impl Binaries {
    pub(crate) fn find() -> Result<Self, Missing> {
        let install = "Debian: apt-get install postgresql, or only its server binaries: postgresql-15";
        let Some(folder) = binaries() else {
            return Err(Missing(format!("initdb and postgres not found ({install})")));
        };
        for name in ["flock", "setpriv"] {
            if program::on_path(name).is_none() {
                return Err(Missing(format!("{name} not found (Debian: apt-get install util-linux)")));
            }
        }
        let user = unprivileged_user().map_err(|err| Missing(format!("{err:#}")))?;
        Ok(Self { folder, user, settings: SETTINGS })
    }

    fn with(self, settings: &'static [&'static str]) -> Self {
        Self { settings, ..self }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// On the search path, where Debian puts each version (the newest first), or where `pg_config` says.
fn binaries() -> Option<PathBuf> {
    let on_path = program::on_path("initdb").and_then(|file| file.parent().map(Path::to_path_buf));
    let mut folders: Vec<PathBuf> = on_path.into_iter().collect();

    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        if let Ok(version) = entry.file_name().to_string_lossy().parse() {
            versions.push((version, entry.path().join("bin")));
        }
    }
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));

    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    folders.into_iter().find(|folder| ["initdb", "postgres"].iter().all(|name| program::is_program(&folder.join(name))))
}

/// `None` when we aren't root; else `postgres`, else `nobody`.
fn unprivileged_user() -> Result<Option<User>> {
    // A file that we make is ours.
    let mine = tempfile::tempfile().context("creating a temporary file")?;
    if mine.metadata().context("asking who we are")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").context("reading the system's users")?;
    for wanted in ["postgres", "nobody"] {
        for line in users.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, id, group, ..] = fields[..] else { continue };
            if name == wanted {
                let user = User { id: id.parse().context("reading a user id")?, group: group.parse()? };
                return Ok(Some(user));
            }
        }
    }
    anyhow::bail!("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

impl Launch for Binaries {
    fn name(&self) -> &'static str {
        "postgres"
    }

    // Stops at once, without writing what would be thrown away.
    fn signal(&self) -> &'static str {
        "QUIT"
    }

    async fn command(&self, folder: &Path, ports: &[u16]) -> Result<Vec<OsString>> {
        let mut command: Vec<OsString> = Vec::new();
        if let Some(user) = &self.user {
            chown(folder, Some(user.id), Some(user.group)).context("handing the data folder to the database's user")?;
            command.push("setpriv".into());
            command.push(format!("--reuid={}", user.id).into());
            command.push(format!("--regid={}", user.group).into());
            command.extend(["--clear-groups", "--"].map(OsString::from));
        }
        let data = folder.join("data");
        let is_restart = data.exists();
        if !is_restart {
            self.initialise(&command, folder, &data).await?;
        }
        // setpriv's death signal is lost when the user changes, so this one is set after that.
        command.extend(["setpriv", "--pdeathsig", self.signal(), "--"].map(OsString::from));
        command.extend([self.folder.join("postgres").into(), "-D".into(), data.into()]);
        command.extend(["-p".into(), ports[0].to_string().into()]);
        for setting in self.settings.iter().chain(&["listen_addresses=127.0.0.1", "unix_socket_directories="]) {
            command.extend(["-c", setting].map(OsString::from));
        }
        Ok(command)
    }

    async fn answers(&self, _folder: &Path, port: u16) -> Result<()> {
        answers(port).await
    }
}

impl Binaries {
    async fn initialise(&self, as_user: &[OsString], folder: &Path, data: &Path) -> Result<()> {
        let mut line = as_user.to_vec();
        line.extend([self.folder.join("initdb").into(), "-D".into(), data.into()]);
        let options = ["--auth=trust", "--username=muster", "--no-sync", "--encoding=UTF8", "--locale=C"];
        line.extend(options.map(OsString::from));
        let mut initdb = tokio::process::Command::new(&line[0]);
        initdb.args(&line[1..]).current_dir(folder);
        program::run(initdb, Duration::from_secs(60)).await.context("creating the database's data folder")?;
        Ok(())
    }
}

/// Fast rather than durable; enough connections for many tests at once.
const SETTINGS: &[&str] = &["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"];

/// What it has acknowledged outlives its processes.
const RESTARTED: &[&str] = &["fsync=off", "synchronous_commit=on", "full_page_writes=off", "max_connections=200"];

/// Durable, with memory as on a small server.
const MEASURED: &[&str] = &["max_connections=200", "shared_buffers=512MB", "max_wal_size=4GB"];

fn container(engine: Engine) -> Container<PostgresImage> {
    Container {
        engine,
        service: "postgres-15-container",
        image: "postgres:15-alpine",
        request: |name, version| {
            let image = PostgresImage::default().with_user("muster").with_host_auth();
            let command = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
            image.with_name(name).with_tag(version).with_cmd(command)
        },
        inside: 5432,
        probe: Probe::Postgres,
    }
}
