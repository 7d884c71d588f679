//! Exports as a site has them: two processes that serve, one database, tokens by the command. The snapshot is written by hand.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use pipeline::snapshot::list::ListWriter;
use pipeline::snapshot::{Coding, Dataset, Days, Form, Generation, Manifest, Object, Set, Store, StoreSettings};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use super::support::program::{Done, Running, finish, program};
use super::support::until;

const PEPPER: &str = "a secret of this site alone";

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// Two configurations that differ in where they listen.
    fn new() -> Result<(Self, [u16; 2])> {
        let folder = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?];
        for (number, port) in ports.iter().enumerate() {
            let text = format!(
                "folder = '{root}'\n[snapshots.store.local]\npath = '{root}/snapshots'\n[export]\nlisten = '127.0.0.1:{port}'\n\
                 pepper = {{ env = 'EXPORT_PEPPER' }}\nrequests_per_minute = 100000\n",
                root = folder.path().display()
            );
            std::fs::write(folder.path().join(format!("{number}.toml")), text)?;
        }
        Ok((Self { folder }, ports))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn command(&self, instance: usize, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program().await?);
        command
            .arg("--config")
            .arg(self.path(&format!("{instance}.toml")))
            .args(arguments)
            .env("EXPORT_PEPPER", PEPPER);
        Ok(command)
    }

    async fn token(&self, arguments: &[&str]) -> Result<Done> {
        finish(&mut self.command(0, &[&["--json", "token"], arguments].concat()).await?).await
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Employees, and nothing else.
async fn publish(folder: &Path, records: u32) -> Result<()> {
    let store = Store::open(&StoreSettings::Local { path: folder.to_owned() }, &|_| None)?;
    let mut objects = Vec::new();
    for coding in [Coding::Identity, Coding::Gzip] {
        let mut list = ListWriter::new(coding, 6, Vec::new())?;
        for id in 0..records {
            list.push(format!("{{\"id\":{id},\"status\":\"APPROVED\"}}").as_bytes())?;
        }
        let (bytes, listed) = list.finish()?;
        let path = format!("data/00000001/employees/full.json{}", coding.ending());
        let file = folder.join(&path);
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        std::fs::write(file, &bytes)?;
        let (form, items) = (Form::Json, Some(listed.items));
        objects.push(Object { form, coding, path, bytes: listed.bytes, sha256: coding.name().into(), items });
    }
    let date: DateTime<Utc> = "2026-03-04T08:00:00Z".parse()?;
    let employees = Dataset {
        topic: "prm.employees".into(),
        date,
        offsets: Vec::new(),
        schema: Value::Null,
        full: Set { records: records.into(), objects, ..Set::default() },
        windows: Vec::new(),
        deleted: Set::default(),
        deletions_since: date,
    };
    let manifest = Manifest {
        format: 1,
        generation: Generation(1),
        nominal: date,
        published: date,
        days: Days::Rolling,
        max_depth: 0,
        datasets: [("employees".to_owned(), employees)].into(),
        history: Vec::new(),
    };
    store.publish(&manifest).await?;
    Ok(())
}

async fn status(port: u16, key: &str) -> Result<u16> {
    let url = format!("http://127.0.0.1:{port}/api/pis/bulk/employees");
    Ok(reqwest::Client::new().head(url).header("api-key", key).send().await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_serve_one_snapshot_and_a_revoked_key_is_refused_by_both_within_five_seconds() -> Result<()> {
    let (site, ports) = Site::new()?;
    publish(&site.path("snapshots"), 5_000).await?;
    let created = site.token(&["create", "--label", "lviv", "--resource", "employees", "--days", "30"]).await?.ok()?;
    let key = created.json()?["key"].as_str().context("a key")?.to_owned();
    let again = site.token(&["create", "--label", "lviv", "--resource", "parties"]).await?;
    ensure!(again.code == 1 && again.stderr.contains("lviv"), "{again:?}");
    let unknown = site.token(&["create", "--label", "odesa", "--resource", "nurses"]).await?;
    ensure!(unknown.code == 1 && unknown.stderr.contains("employees"), "{unknown:?}");

    let mut running = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        let log = site.path(&format!("{number}.log"));
        let mut process = Running::start(&mut site.command(number, &["serve"]).await?, log)?;
        let serves = until("it serves", || async {
            let status = status(*port, &key).await?;
            ensure!(status == 200, "{status}");
            Ok(())
        });
        process.during(serves).await?;
        running.push(process);
    }
    for port in ports {
        let url = format!("http://127.0.0.1:{port}/api/pis/bulk/employees");
        let request =
            reqwest::Client::new().get(url).header("api-key", &key).header("x-request-id", format!("from-{port}"));
        let answer = request.send().await?.error_for_status()?;
        let body: Value = serde_json::from_slice(&answer.bytes().await?)?;
        ensure!(body["data"].as_array().context("records")?.len() == 5_000, "all of them");
        ensure!(body["meta"]["date"] == "2026-03-04T08:00:00.000Z", "{}", body["meta"]);
    }

    site.token(&["revoke", "lviv"]).await?.ok()?;
    let revoked = Instant::now();
    for port in ports {
        while status(port, &key).await? != 401 {
            ensure!(revoked.elapsed() < Duration::from_secs(5), "still valid after {:?}", revoked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut printed = String::new();
    for process in running {
        printed += &process.printed()?;
        let (code, took) = process.terminate().await?;
        ensure!(code == 0 && took < Duration::from_secs(5), "exit code {code} after {took:?}");
    }
    ensure!(printed.contains("export ended") && printed.contains("lviv"), "{printed}");
    ensure!(!printed.contains(&key) && !printed.contains(PEPPER), "a secret is in the log");
    for file in std::fs::read_dir(site.folder.path())? {
        let path = file?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
            ensure!(!found, "the key is in {}", path.display());
        }
    }

    let shown = site.token(&["show", "lviv"]).await?.ok()?.json()?;
    let exports = shown["exports"].as_array().context("exports")?;
    let mut requests: Vec<_> =
        exports.iter().map(|export| (export["request"].as_str(), export["status"].as_str())).collect();
    requests.sort_unstable();
    let from = ports.map(|port| format!("from-{port}"));
    let mut expected: Vec<_> = from.iter().map(|request| (Some(request.as_str()), Some("complete"))).collect();
    expected.sort_unstable();
    ensure!(requests == expected, "{requests:?}");
    ensure!(shown["token"]["revoked"].is_string() && !shown.to_string().contains("hash"), "{shown}");
    Ok(())
}
