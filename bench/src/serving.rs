//! `muster serve`: the full file of a snapshot beside nginx on the same file, how soon answers begin, and the memory of many
//! slow readers. Everything over loopback; clients take their share of the same cores, the same one on either side.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::nginx::Nginx;
use crate::prm::{Registry, snapshots};
use crate::readers::{Request, at_rate, load};
use crate::rounds::{Rounds, Spread, rate};
use crate::site::{Process, Site, free_port};
use crate::snapshots::one;
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "serving", about: "the export beside nginx", run: |setting| Box::pin(run(setting)) };

const CLIENTS: usize = 8;
const MANY: usize = 64;
const SLOW: usize = 1_000;

/// A round is so long: long enough that its begin and end don't matter.
const ROUND: Duration = Duration::from_secs(4);

/// Slow readers take so much at a time, so often: a bit more than what gets them cut off.
const SIP: usize = 16 << 10;
const EVERY: Duration = Duration::from_secs(1);

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let rows = setting.amount(300_000, 5_000);
    let served = Served::prepare(&setting, rows).await?;
    let mut findings = throughput(&setting, &served).await?;
    findings.extend(first_bytes(&setting, &served).await?);
    findings.push(slow_readers(&setting, &served).await?);
    Ok(findings)
}

/// A store with a snapshot, and who may read it.
struct Served {
    site: Site,
    address: SocketAddr,
    key: String,
    store: PathBuf,
}

impl Served {
    async fn prepare(setting: &Setting, rows: usize) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let store = setting.scratch.join("store");
        let pepper = setting.scratch.join("pepper");
        std::fs::write(&pepper, "a secret of this site alone")?;
        let export = format!(
            "[export]\nlisten = \"{address}\"\npepper = {{ file = \"{}\" }}\nrequests_per_minute = 1000000\n\
             answers_per_key = 10000\n",
            pepper.display()
        );
        let registry = Registry::filled(setting, rows).await?;
        let source = registry.source(&["employee"], "").replace("processors = []\n", "");
        let text = snapshots(&store, "prm.employee", "", "") + &export + &source;
        let site = Site::new(setting, "serving", &text)?;
        site.give(&["run", "--once"]).await?;
        site.give(&["snapshot", "run", "--here"]).await?;
        let token = site.ask(&["token", "create", "--label", "reader", "--resource", "employees"]).await?;
        let key = token["key"].as_str().context("a key")?.to_owned();
        Ok(Self { site, address, key, store })
    }

    /// Starts the server and waits until it answers.
    async fn start(&self) -> Result<Process> {
        let mut process = self.site.start(&["serve"])?;
        let address = self.address;
        let answers = async || Ok(tokio::net::TcpStream::connect(address).await.is_ok().then_some(()));
        process.until(Duration::from_secs(30), Duration::from_millis(50), answers).await?;
        Ok(process)
    }

    fn request(&self, query: &str, coding: &str) -> Request {
        let headers = format!("api-key: {}\r\naccept-encoding: {coding}\r\n", self.key);
        Request::get(self.address, &format!("/api/pis/bulk/employees{query}"), &headers)
    }
}

async fn throughput(setting: &Setting, served: &Served) -> Result<Vec<Finding>> {
    let process = served.start().await?;
    let nginx = Nginx::start(&setting.scratch.join("nginx"), &served.store)?;
    let within = if setting.quick { ROUND / 20 } else { ROUND };
    let mut findings = Vec::new();
    for (coding, name) in [("identity", "full.json"), ("gzip", "full.json.gz")] {
        let what = format!("the full file, {coding}, on loopback, {CLIENTS} clients");
        let file = one(&served.store, name)?;
        let size = std::fs::metadata(&file)?.len() as f64 / 1e6;
        let Some(nginx) = &nginx else {
            findings.push(Finding::missing(what, "nginx isn't here"));
            continue;
        };
        let ours = served.request("", coding);
        let path = file.strip_prefix(&served.store)?;
        let theirs = Request::get(nginx.address, &format!("/{}", path.display()), "");
        // Seconds for a GB.
        let measured = |request: &Request| -> Result<f64> {
            let load = tokio::task::block_in_place(|| load(request, CLIENTS, within))?;
            ensure!(load.bytes > 0.0, "nothing was read");
            Ok(load.seconds / load.bytes * 1e9)
        };
        let times = Rounds::in_turn(setting.amount(5, 1), async || measured(&ours), async || measured(&theirs)).await?;
        let figures = (rate(1_000, &times.ours), rate(1_000, &times.theirs));
        let against = format!("nginx {}, the same file", nginx.version);
        let beside = Finding::beside(what, against, figures, "MB/s", times.ratio());
        findings.push(beside.wants(Goal::RatioAtLeast(0.5)).noting(format!("{size:.0} MB")));
    }
    process.kill().await?;
    Ok(findings)
}

async fn first_bytes(setting: &Setting, served: &Served) -> Result<Vec<Finding>> {
    let process = served.start().await?;
    let (probe, within) = match setting.quick {
        true => (ROUND / 10, ROUND / 10),
        false => (ROUND, ROUND * 4),
    };
    let mut findings = Vec::new();
    for (name, query) in [("depth 1", "?depth=1"), ("the full file", "")] {
        let request = served.request(query, "gzip");
        let (mut middle, mut late, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..setting.amount(3, 1) {
            let capacity = tokio::task::block_in_place(|| load(&request, MANY, probe))?;
            let half = capacity.answers.max(1.0) / capacity.seconds / 2.0;
            let mut times = tokio::task::block_in_place(|| at_rate(&request, MANY, half, within))?;
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().context("no answers");
            middle.push(at(0.5)?);
            late.push(at(0.99)?);
            rates.push(half);
        }
        let what =
            format!("time to the first byte, p99, {MANY} clients at half of what they get at most: {name}, gzip");
        let note = format!("{:.0} answers/s; p50 {:.1} ms", Spread::of(&rates).median, Spread::of(&middle).median);
        findings.push(Finding::alone(what, Spread::of(&late), "ms").wants(Goal::AtMost(10.0)).noting(note));
    }
    process.kill().await?;
    Ok(findings)
}

async fn slow_readers(setting: &Setting, served: &Served) -> Result<Finding> {
    let mut process = served.start().await?;
    let (idle, _) = process.memory()?;
    let (readers, within) = (setting.amount(SLOW, 50), if setting.quick { EVERY * 2 } else { EVERY * 20 });
    let request = served.request("", "identity");
    let until = Instant::now() + within;
    let mut all = JoinSet::new();
    for _ in 0..readers {
        let request = request.clone();
        all.spawn(async move { sip(&request, until).await });
    }
    let mut most: f64 = 0.0;
    while Instant::now() < until {
        most = most.max(process.memory()?.0);
        tokio::time::sleep(EVERY / 4).await;
    }
    let mut bytes = 0;
    while let Some(done) = all.join_next().await {
        bytes += done??;
    }
    let (_, peak) = process.memory()?;
    process.kill().await?;
    let note = format!(
        "plain, {} KiB/s each, for {} s; {:.0} MB read by all; {idle:.0} MB before",
        SIP >> 10,
        within.as_secs(),
        bytes as f64 / 1e6
    );
    let what = format!("resident memory of `muster serve` with {readers} slow readers of the full file, at most");
    Ok(Finding::alone(what, Spread::exactly(most.max(peak)), "MB").wants(Goal::AtMost(100.0)).noting(note))
}

/// Reads a bit every now and then. Little is kept in the system's buffers, so that the server notices.
async fn sip(request: &Request, until: Instant) -> Result<usize> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(u32::try_from(SIP)?)?;
    let mut stream = socket.connect(request.address).await?;
    stream.write_all(request.head.as_bytes()).await?;
    let mut buffer = vec![0; SIP];
    let mut bytes = 0;
    while Instant::now() < until {
        let mut taken = 0;
        while taken < SIP {
            let read = stream.read(&mut buffer[taken..]).await?;
            ensure!(read > 0, "a slow reader was cut off after {} bytes", bytes + taken);
            taken += read;
        }
        if bytes == 0 {
            ensure!(buffer.starts_with(b"HTTP/1.1 200"), "a slow reader was refused");
        }
        bytes += taken;
        tokio::time::sleep(EVERY).await;
    }
    Ok(bytes)
}
