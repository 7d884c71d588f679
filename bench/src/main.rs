//! Measures Muster: each benchmark beside the machine's own limit, or beside another program, in the same run.
//!
//! `cargo xtask bench [NAME …] [--quick]` builds everything as it is released and runs this. A benchmark is a file with
//! a [`Bench`] that stands in [`ALL`].

mod avro;
mod depths;
mod instructions;
mod kafka_log;
mod latency;
mod load;
mod machine;
mod nginx;
mod people;
mod plain_log;
mod prm;
mod pyarrow;
mod readers;
mod resident;
mod restart;
mod rounds;
mod rows;
mod serving;
mod site;
mod snapshots;
mod snapshots_big;
mod sqlite_log;
mod table;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use futures::future::LocalBoxFuture;

use self::machine::Machine;
use self::table::{Finding, Report};

/// Every benchmark, in the order of the table.
const ALL: &[Bench] = &[
    avro::BENCH,
    sqlite_log::BENCH,
    kafka_log::BENCH,
    latency::BENCH,
    resident::BENCH,
    load::BENCH,
    restart::BENCH,
    rows::BENCH,
    tables::BENCH,
    snapshots::BENCH,
    depths::BENCH,
    snapshots_big::BENCH,
    serving::BENCH,
    instructions::BENCH,
];

/// A benchmark.
pub struct Bench {
    /// How it is asked for; also the name of its results.
    pub name: &'static str,
    /// What it measures, in a phrase.
    pub about: &'static str,
    /// Measures. What it starts, it ends.
    pub run: fn(Setting) -> LocalBoxFuture<'static, Result<Vec<Finding>>>,
}

/// What a benchmark is told.
#[derive(Debug, Clone)]
pub struct Setting {
    /// A fraction of the work, to see that it runs: the figures mean nothing.
    pub quick: bool,
    /// The released binary of Muster.
    pub program: PathBuf,
    /// For files, on the disk that is to be measured. Removed afterwards.
    pub scratch: PathBuf,
}

impl Setting {
    /// The whole amount, or the fraction.
    pub fn amount(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }
}

const USAGE: &str = "\
usage: cargo xtask bench [NAME …] [--quick]

  NAME      which; default: all
  --quick   a fraction of the work, to see that they run; nothing is kept
  --list    what there is
  --table   the table again, from what is kept

Results are kept in bench/results and in the table of bench/README.md.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [hidden, part, records] = &arguments[..]
        && hidden == instructions::HIDDEN
    {
        return ended(under_valgrind(part, records));
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(told(&arguments)));
    ended(outcome)
}

/// One thread, so that every run takes the same way.
fn under_valgrind(part: &str, records: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scratch = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
    runtime.block_on(instructions::under_valgrind(part, records.parse()?, scratch.path()))
}

fn ended(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

async fn told(arguments: &[String]) -> Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let mut quick = false;
    for option in options {
        match option {
            "--quick" => quick = true,
            "--list" => {
                ALL.iter().for_each(|bench| println!("{:14} {}", bench.name, bench.about));
                return Ok(());
            }
            "--table" => return keep_table(),
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            _ => bail!("{option}?\n{USAGE}"),
        }
    }
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|bench| bench.name == **name)) {
        bail!("there is no benchmark {unknown}\n{USAGE}");
    }
    let chosen = ALL.iter().filter(|bench| names.is_empty() || names.contains(&bench.name));
    run(chosen, quick).await
}

async fn run(chosen: impl Iterator<Item = &Bench>, quick: bool) -> Result<()> {
    // The registry is spoken to over HTTP; a second time changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = std::env::current_exe()?.with_file_name("muster");
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for Bench { name, about, run } in chosen {
        eprintln!("==> {name}: {about}");
        let machine = Machine::now();
        let scratch = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
        let setting = Setting { quick, program: program.clone(), scratch: scratch.path().to_owned() };
        match run(setting).await {
            Ok(findings) => {
                let day = chrono::Utc::now().format("%Y-%m-%d").to_string();
                let report = Report { name: (*name).to_owned(), machine, day, findings };
                if !quick {
                    report.keep(&folder().join("results"))?;
                }
                reports.push(report);
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed.push(*name);
            }
        }
    }
    println!("{}", table::markdown(&reports));
    if !quick {
        keep_table()?;
    }
    if !failed.is_empty() {
        bail!("{} could not be measured", failed.join(", "));
    }
    Ok(())
}

fn keep_table() -> Result<()> {
    let names: Vec<&str> = ALL.iter().map(|bench| bench.name).collect();
    let kept = Report::kept(&folder().join("results"), &names)?;
    table::into_page(&folder().join("README.md"), &table::markdown(&kept))
}

/// Of this package.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
