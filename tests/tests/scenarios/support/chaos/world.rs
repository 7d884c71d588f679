//! The processes, the services they run on, and the recruiting system.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use services::{OwnPostgres, OwnRegistry, Postgres, Registry, Toxiproxy};
use simulators::ats::Ats;
use simulators::server::Server;

use super::super::kafka::registry;
use super::super::program::Running;
use super::super::register::{Database, Register};
use super::super::site::{Parts, Site};
use super::super::{recruiters, until};
use super::brokers::Cluster;
use super::clerk::Clerk;
use super::network::Network;
use super::plan::{Kind, Plan, SESSION};

/// What `muster` ends with when something outside can't be reached.
const UNREACHABLE: i32 = 3;

/// The registry: our own where it is to be killed, else the one that all tests share, which is there sooner.
enum Schemas {
    Own(OwnRegistry),
    Shared(Registry),
}

impl Schemas {
    async fn find(plan: &Plan) -> Result<Option<Self>> {
        Ok(match plan.kinds.contains(&Kind::Registry) {
            true => Registry::own().await?.map(Self::Own),
            false => services::registry().await?.map(Self::Shared),
        })
    }

    fn url(&self) -> String {
        match self {
            Self::Own(registry) => registry.url(),
            Self::Shared(registry) => registry.url(),
        }
    }
}

/// Everything that can be broken, and what must come out.
pub struct World {
    pub(super) ats: Ats,
    server: Server,
    pub(super) clerk: Clerk,
    pub(super) brokers: Cluster,
    registry: Schemas,
    pub(super) database: OwnPostgres,
    pub(super) network: Option<Network>,
    pub(super) sites: Vec<Site>,
    /// `None` while it is killed.
    running: Vec<Option<Running>>,
}

impl World {
    /// Starts everything; returns when the register has begun to fill. `None` where a service is missing.
    pub async fn found(plan: &Plan) -> Result<Option<Self>> {
        let toxiproxy = match plan.kinds.contains(&Kind::Network) {
            true => Toxiproxy::own().await?,
            false => None,
        };
        let mut before_brokers = Vec::new();
        for _ in 0..plan.brokers {
            before_brokers.push(services::free_port()?);
        }
        let proxies = toxiproxy.is_some().then_some(&before_brokers[..]);
        let services = tokio::try_join!(Cluster::own(plan.brokers, proxies), Schemas::find(plan), Postgres::own())?;
        let (Some(brokers), Some(registry), Some(database)) = services else { return Ok(None) };
        let (ats, server) = recruiters(plan.applicants)?;
        let network = match toxiproxy {
            None => None,
            Some(toxiproxy) => {
                let system = server.addr.port();
                Some(Network::between(toxiproxy, &before_brokers, &brokers, database.port(), system).await?)
            }
        };
        let clerk = Clerk::new(ats.clone(), plan.seed);
        let mut world =
            Self { ats, server, clerk, brokers, registry, database, network, sites: vec![], running: vec![] };
        for number in 0..plan.processes {
            let site = Site::new(world.parts(number, plan)).await?;
            world.sites.push(site);
            world.running.push(None);
        }
        // Topics and tables are made once.
        world.start(0)?;
        let register = world.register();
        until("the register begins to fill", || async {
            ensure!(Register::count(&register, "ien_applicants").await > 0, "it is empty");
            Ok(())
        })
        .await
        .with_context(|| world.printed(0))?;
        for number in 1..plan.processes {
            world.start(number)?;
        }
        Ok(Some(world))
    }

    fn parts(&self, number: usize, plan: &Plan) -> Parts {
        let is_last = number + 1 == plan.processes;
        let proxied = self.network.as_ref().filter(|_| !is_last);
        let bootstrap = proxied.map_or_else(|| self.brokers.bootstrap(), Network::bootstrap);
        let bootstrap = bootstrap.replace(',', "\", \"");
        let replication = self.brokers.size();
        let session = SESSION.as_secs();
        let log = format!(
            "[log.kafka]\nbootstrap = [\"{bootstrap}\"]\nreplication = {replication}\nsession = \"{session}s\""
        );
        let url = self.database.url();
        let url = proxied.map_or_else(
            || url.clone(),
            |network| url.replace(&format!(":{}/", self.database.port()), &format!(":{}/", network.database())),
        );
        let system = self.network.as_ref().map_or(self.server.addr.port(), Network::system);
        // A few planted records in a small batch don't mean that the configuration is wrong.
        let more = format!("{}\n[rejects]\ncount = 100000\nshare = 1.0", registry(&self.registry.url()));
        Parts { ats: format!("http://127.0.0.1:{system}"), log, database: Some(url), more }
    }

    /// The registry that may be killed.
    pub(super) fn registry(&self) -> Result<&OwnRegistry> {
        match &self.registry {
            Schemas::Own(registry) => Ok(registry),
            Schemas::Shared(_) => bail!("the registry is others', too"),
        }
    }

    /// The kinds of fault that can be had here.
    pub fn possible(&self, wanted: &[Kind]) -> Vec<Kind> {
        let can = |kind: &Kind| match kind {
            Kind::Network => self.network.is_some(),
            Kind::Leader => self.brokers.size() > 1,
            _ => true,
        };
        wanted.iter().copied().filter(can).collect()
    }

    /// The recruiting system is changed from now on.
    pub fn work(&mut self) -> Result<()> {
        self.clerk.work();
        Ok(())
    }

    /// Where the register is, without a proxy.
    pub fn register(&self) -> Database {
        Database::Postgres(self.database.url())
    }

    /// Starts a process that isn't there.
    pub fn start(&mut self, process: usize) -> Result<()> {
        ensure!(self.running[process].is_none(), "process {process} runs already");
        self.running[process] = Some(self.sites[process].start()?);
        Ok(())
    }

    /// SIGKILL; the process must have been alive.
    pub async fn kill(&mut self, process: usize) -> Result<()> {
        self.is_alive(process)?;
        let running = self.running[process].take().with_context(|| format!("process {process} doesn't run"))?;
        running.kill().await.with_context(|| format!("process {process}"))
    }

    /// Sends a signal.
    pub async fn signal(&mut self, process: usize, signal: &str) -> Result<()> {
        let running = self.running[process].as_ref().with_context(|| format!("process {process} doesn't run"))?;
        running.signal(signal).await
    }

    /// No process has ended by itself, but for those that found no log when they were started: these say so and end, for
    /// their supervisor to start them again. It is done here.
    pub fn all_are_alive(&mut self) -> Result<()> {
        (0..self.running.len()).try_for_each(|process| self.is_alive(process))
    }

    fn is_alive(&mut self, process: usize) -> Result<()> {
        let Some(running) = &mut self.running[process] else { return Ok(()) };
        if running.ended()? == Some(UNREACHABLE) {
            println!("            process {process} found no log when it was started, and is started again");
            self.running[process] = None;
            return self.start(process);
        }
        running.is_alive().with_context(|| format!("process {process} ended by itself"))
    }

    fn printed(&self, process: usize) -> String {
        let printed = self.running[process].as_ref().map(Running::printed);
        printed.and_then(Result::ok).unwrap_or_default()
    }

    /// Ends every process in good order.
    pub async fn end(self) -> Result<()> {
        for (number, running) in self.running.into_iter().enumerate() {
            let Some(running) = running else { continue };
            let (code, took) = running.terminate().await.with_context(|| format!("process {number}"))?;
            ensure!(code == 0 && took.as_secs() <= 10, "process {number}: exit code {code} after {took:?}");
        }
        Ok(())
    }

    /// Copies what processes and services have printed to a folder; returns the files.
    pub async fn keep_logs(&mut self, to: Option<&Path>) -> Result<Vec<String>> {
        let folder = match to {
            Some(folder) => folder.to_path_buf(),
            None => tempfile::Builder::new().prefix("muster-chaos-").tempdir()?.keep(),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for (number, site) in self.sites.iter().enumerate() {
            files.extend(site.logs().into_iter().map(|log| (format!("process-{number}-{}", name(&log)), log)));
        }
        files.extend(self.brokers.logs().into_iter().enumerate().map(|(n, log)| (format!("broker-{n}.log"), log)));
        if let Schemas::Own(registry) = &self.registry {
            files.push(("registry.log".into(), registry.log()));
        }
        files.push(("database.log".into(), self.database.log()));
        let mut kept = Vec::new();
        for (name, from) in files {
            let to = folder.join(name);
            // A service that is down has none.
            if std::fs::copy(&from, &to).is_ok() {
                kept.push(to.display().to_string());
            }
        }
        Ok(kept)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
