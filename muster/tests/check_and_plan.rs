//! `muster check` and `muster plan` from outside: what they say, how they exit, and that they leave nothing behind.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use chrono::Utc;
use serde_json::Value;
use simulators::ats::{Ats, AtsOptions};
use simulators::server::Server;
use tempfile::TempDir;
use tokio::process::Command;

/// A simulated ATS, and a configuration that reads it into a SQLite file.
struct Site {
    folder: TempDir,
    _server: Server,
}

impl Site {
    fn start() -> Self {
        let options = AtsOptions {
            applicants: 20,
            api_key: "open sesame".into(),
            now: Utc::now(),
            ticking: true,
            ..AtsOptions::default()
        };
        let server = Ats::generate(options).serve("127.0.0.1:0".parse().unwrap()).unwrap();
        let folder = TempDir::new().unwrap();
        let site = Self { folder, _server: server };
        site.configure(&site._server.url());
        site
    }

    fn configure(&self, ats: &str) {
        let folder = self.folder.path().display();
        let text = format!(
            r#"
            folder = "{folder}/data"
            [sources.ats.from.ats]
            url = "{ats}"
            api_key = {{ env = "ATS_KEY" }}
            [sinks.register.to.sql]
            url = "sqlite://{folder}/register.sqlite"
            tables.user = {{ table = "ien_users", key = "id" }}
            "#
        );
        std::fs::write(self.folder.path().join("muster.toml"), text).unwrap();
    }

    /// Runs a command; answers with its exit code and the object it printed.
    async fn muster(&self, key: Option<&str>, arguments: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.arg("--config").arg(self.folder.path().join("muster.toml")).arg("--json").args(arguments);
        command.env_remove("ATS_KEY").envs(key.map(|key| ("ATS_KEY", key)));
        let output = command.output().await.unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(!told.contains("sesame"), "{told}");
        (output.status.code().unwrap(), serde_json::from_str(&told).unwrap())
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// How the checks whose names begin so stand.
fn standing<'v>(told: &'v Value, check: &str) -> Vec<&'v str> {
    let checks = told["checks"].as_array().unwrap().iter();
    let mine = checks.filter(|found| found["check"].as_str().unwrap().starts_with(check));
    mine.map(|found| found["standing"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_and_nothing_is_made() {
    let site = Site::start();
    let (code, told) = site.muster(Some("open sesame"), &["check"]).await;
    assert_eq!(standing(&told, "source ats"), ["ok"; 5], "{told:#}");
    for check in ["folder", "secrets", "schemas", "log", "sink register"] {
        assert_eq!(standing(&told, check), ["ok"], "{told:#}");
    }
    // Nobody delivers applicants in this file.
    assert_eq!(told["standing"], "ok", "{told:#}");
    assert_eq!(code, 0);
    assert_eq!(site.files(), ["muster.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_taken_is_wrong_and_has_a_remedy() {
    let site = Site::start();
    let (code, told) = site.muster(Some("open barley"), &["check"]).await;
    assert_eq!((code, &told["standing"]), (1, &Value::from("wrong")));
    let checks = told["checks"].as_array().unwrap();
    let staff = checks.iter().find(|found| found["check"] == "source ats, staff").unwrap();
    assert!(staff["remedy"].as_str().unwrap().contains("api_key"), "{staff:#}");
    assert_eq!(standing(&told, "source ats, reasons"), ["ok"], "needs no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_away_is_unreachable() {
    let site = Site::start();
    // Reserved, and nobody listens there.
    site.configure("http://127.0.0.1:1");
    let (code, told) = site.muster(Some("open sesame"), &["check"]).await;
    assert_eq!((code, &told["standing"]), (3, &Value::from("unreachable")), "{told:#}");
    assert_eq!(standing(&told, "sink register"), ["ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_and_a_wrong_file_are_configuration() {
    let site = Site::start();
    let (code, told) = site.muster(None, &["check"]).await;
    assert_eq!((code, standing(&told, "secrets")), (2, vec!["config"]), "{told:#}");

    std::fs::write(site.folder.path().join("muster.toml"), "[sink.register]\nfoldr = 1").unwrap();
    let (code, told) = site.muster(None, &["check"]).await;
    assert_eq!((code, &told["problems"][0]["nearest"]), (2, &Value::from("sinks")));
    assert_eq!(told["problems"][0]["line"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_carried_out_only_when_told_to() {
    let site = Site::start();
    let (code, told) = site.muster(None, &["plan"]).await;
    assert_eq!((code, &told["applied"]), (0, &Value::from(false)));
    let creates = |told: &Value| told["sinks"]["register"]["statements"].as_array().unwrap().len();
    assert!(creates(&told) > 3 && told["topics"]["create"].as_array().unwrap().len() > 10, "{told:#}");
    assert_eq!(site.files(), ["muster.toml"]);

    let (code, done) = site.muster(None, &["plan", "--apply"]).await;
    assert_eq!((code, creates(&done)), (0, creates(&told)));
    assert!(site.folder.path().join("register.sqlite").exists() && log(site.folder.path()).exists());

    let (code, told) = site.muster(None, &["plan"]).await;
    assert_eq!((code, creates(&told)), (0, 0), "{told:#}");
    assert_eq!(told["topics"]["create"], Value::Array(Vec::new()));
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("data/log.sqlite")
}
