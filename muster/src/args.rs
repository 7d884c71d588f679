//! The command line.

use std::io::IsTerminal;
use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Parser, Subcommand, ValueEnum};
use simulators::prm::MOST_EMPLOYEES;

use crate::logging::LogFormat;
use crate::output::Output;

/// Keeps every register of the health workforce saying the same thing.
#[derive(Debug, Parser)]
#[command(name = "muster", version, propagate_version = true)]
pub struct Args {
    /// The configuration.
    #[arg(long, short, global = true, env = "MUSTER_CONFIG", default_value = "muster.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Results as one JSON object.
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines look (standard error).
    #[arg(long, global = true, env = "MUSTER_LOG_FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// How results are shown.
    pub fn output(&self) -> Output {
        if self.json { Output::Json } else { Output::Text }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job with a simulated recruiting system, start to end, in some seconds.
    Demo {
        /// Keep everything running afterwards, to play with.
        #[arg(long)]
        stay: bool,
        /// How many applicants the simulated system has.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
        applicants: u32,
    },
    /// Run sources, processors and sinks until told to stop.
    Run {
        /// Run every source once, drain processors and sinks, do every job once, and exit.
        #[arg(long)]
        once: bool,
    },
    /// Serve exports of snapshots, and nothing else. Any number of processes may.
    Serve,
    /// Who may export.
    Token {
        /// What to do with tokens.
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Check the configuration, and try every system it names.
    Check,
    /// Show what would be created or altered in databases and topics.
    Plan {
        /// Do it.
        #[arg(long)]
        apply: bool,
    },
    /// Show the topics, and how they differ from the catalogue.
    Topics {
        /// What to do with them.
        #[command(subcommand)]
        action: Option<TopicsAction>,
    },
    /// Read a system or one of its feeds now.
    Sync {
        /// As in `ats` or `ats.applicant`.
        target: String,
        /// First day of a window, instead of everything since the last success.
        #[arg(long, requires = "to")]
        from: Option<NaiveDate>,
        /// Last day of the window.
        #[arg(long, requires = "from")]
        to: Option<NaiveDate>,
        /// The page of the window to begin with, in pages of the source's own size; 1 is the first.
        #[arg(long, requires = "from")]
        page: Option<std::num::NonZeroU32>,
        /// Everything, to find what was missed and what has gone.
        #[arg(long, conflicts_with = "from")]
        full: bool,
    },
    /// Pause a source, a processor or a sink, in every process.
    Pause {
        /// As the configuration and `status` name it.
        component: String,
    },
    /// Let a paused component go on where it was.
    Resume {
        /// As the configuration and `status` name it.
        component: String,
    },
    /// The records that were set aside.
    DeadLetters {
        /// What to do with them.
        #[command(subcommand)]
        action: LettersAction,
    },
    /// Compare what systems say with their topics, and topics with what targets hold; name what differs. Exit code 1:
    /// something does.
    Verify {
        /// A source, a feed or a sink, as in `ats`, `ats.applicant` or `register`; all of them without.
        component: Option<String>,
        /// Have what differs emitted again, with a new version, by whoever writes its topic; then compare again.
        #[arg(long)]
        repair: bool,
        /// So many differing keys are shown of each entity.
        #[arg(long, default_value_t = 20)]
        keys: usize,
        /// So many seconds are waited for changes that are on their way.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        wait: u64,
    },
    /// What every component has done and is doing.
    Status {
        /// Only ask the running process whether it is ready: exit code 0 or 1.
        #[arg(long)]
        health: bool,
    },
    /// The snapshots of datasets in an object store.
    Snapshot {
        /// What to do with them.
        #[command(subcommand)]
        action: SnapshotAction,
    },
    /// A server that behaves like a system Muster reads, with invented data and switchable faults.
    Simulate {
        /// Which.
        #[command(subcommand)]
        system: Simulated,
    },
    /// Completions for a shell.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// What is logged unless `MUSTER_LOG` says otherwise: commands whose output is their result log less.
    pub fn logs(&self) -> &'static str {
        match self {
            // On a terminal one pass shows its progress instead.
            Self::Run { once: true } if std::io::stderr().is_terminal() => "warn",
            Self::Run { .. } | Self::Serve | Self::Simulate { .. } => "info",
            // The story tells itself what is set aside.
            Self::Demo { .. } => "error",
            _ => "warn",
        }
    }
}

/// What to do with snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SnapshotAction {
    /// Make one now.
    Run {
        /// In this process, instead of asking the one that runs; not beside one that holds the embedded log.
        #[arg(long)]
        here: bool,
    },
    /// List the generations, newest first.
    List,
    /// Show one: datasets, dates, windows, objects.
    Show {
        /// Its number; the newest without.
        generation: Option<u64>,
    },
    /// Read all files of one and check them: digests, counts, checksums, order, windows. Exit code 1: something is wrong.
    Verify {
        /// Its number; the newest without.
        generation: Option<u64>,
        /// Compare every key with the topics, too.
        #[arg(long)]
        topic: bool,
        /// So many differing keys are shown of each dataset.
        #[arg(long, default_value_t = 20)]
        keys: usize,
    },
    /// Delete old generations, and files that none names.
    Prune {
        /// So many are kept, instead of `keep`.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
    },
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make one, and show its key: this once.
    Create {
        /// What people and the audit call it. No two tokens have the same, not even revoked ones.
        #[arg(long)]
        label: String,
        /// A scope that it allows, as in `employee_bulk:read_pis`; may be given several times.
        #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "resources")]
        scopes: Vec<String>,
        /// A resource that it allows, as in `employees`; may be given several times.
        #[arg(long = "resource", value_name = "RESOURCE")]
        resources: Vec<String>,
        /// It expires after so many days; without, never.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
    },
    /// List them, the newest first. Keys are never shown.
    List {
        /// Revoked ones, too.
        #[arg(long)]
        all: bool,
    },
    /// Show one, and what was exported with it.
    Show {
        /// Its label or id.
        label: String,
        /// So many of the latest exports.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Take one back: within five seconds no instance that reaches the operations database accepts it any more.
    Revoke {
        /// Its label or id.
        label: String,
    },
}

/// What to do with topics.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TopicsAction {
    /// Show them (the default).
    Show,
    /// Create those that are missing.
    Create,
    /// Give topics another number of partitions, while nothing runs: they are copied, and the old ones stay.
    Resize(Resize),
}

/// Which topics, and how many partitions.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Resize {
    /// As in `register.applicant`, or a component: every topic goes along that shares partitions with it.
    #[arg(required_unless_present_any = ["drop_old", "abandon"], requires = "partitions")]
    pub target: Option<String>,
    /// How many each is to have.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), requires = "target")]
    pub partitions: Option<u32>,
    /// Do it without asking.
    #[arg(long)]
    pub yes: bool,
    /// Delete the topics that were in use before earlier resizes.
    #[arg(long, conflicts_with_all = ["target", "partitions", "abandon"])]
    pub drop_old: bool,
    /// Give up a resize that was broken off: its copies are deleted, and the topics stay as they are.
    #[arg(long, conflicts_with_all = ["target", "partitions"])]
    pub abandon: bool,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum LettersAction {
    /// List them, newest first, without their contents.
    List(LettersFilter),
    /// Show one, contents and all.
    Show {
        /// Its id.
        id: String,
    },
    /// Try again, by the component that owns it.
    Replay {
        /// Its id; without one, all that the filter lets through.
        id: Option<String>,
        /// What to deliver instead: JSON, in the form `show` prints.
        #[arg(long, requires = "id", value_name = "FILE")]
        with: Option<PathBuf>,
        /// Which.
        #[command(flatten)]
        filter: LettersFilter,
    },
    /// Settle one without delivering it.
    Drop {
        /// Its id; without one, all that the filter lets through.
        id: Option<String>,
        /// Which.
        #[command(flatten)]
        filter: LettersFilter,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LettersFilter {
    /// In this state (open unless told otherwise).
    #[arg(long, value_enum)]
    pub state: Option<LettersState>,
    /// Of this component.
    #[arg(long)]
    pub component: Option<String>,
    /// Of this topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// With this reason code.
    #[arg(long)]
    pub code: Option<String>,
    /// With this key.
    #[arg(long)]
    pub key: Option<String>,
    /// Set aside on this day (UTC) or later.
    #[arg(long)]
    pub since: Option<NaiveDate>,
    /// Set aside on this day (UTC) or before.
    #[arg(long)]
    pub until: Option<NaiveDate>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LettersState {
    /// Nobody has settled it.
    Open,
    /// Replayed and delivered.
    Replayed,
    /// A newer version was delivered.
    Superseded,
    /// Dropped by a person.
    Dropped,
    /// Any.
    All,
}

/// What can be simulated.
#[derive(Debug, Subcommand)]
pub enum Simulated {
    /// The recruiters' applicant tracking system.
    Ats(SimulatedAts),
    /// The provider registry: fills a database with invented employees and all that belongs to them.
    Prm(SimulatedPrm),
}

/// What the applicant tracking system serves.
#[derive(Debug, clap::Args)]
pub struct SimulatedAts {
    /// On loopback.
    #[arg(long, default_value_t = 8090)]
    pub port: u16,
    /// How many applicants.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub applicants: u32,
    /// The same seed gives the same data.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What the header `ApiKey` must hold.
    #[arg(long, env = "MUSTER_SIMULATED_ATS_KEY", default_value = "simulated-key")]
    pub api_key: String,
    /// Serve these applicants instead: a JSON array, as the real system gives it.
    #[arg(long, value_name = "FILE")]
    pub feed: Option<PathBuf>,
    /// Change so many applicants every second.
    #[arg(long, default_value_t = 0)]
    pub changes: u32,
    /// Serve so many applicants a second at most, to everybody together.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub pace: Option<u32>,
}

/// What the provider registry is filled with, and where.
#[derive(Debug, clap::Args)]
pub struct SimulatedPrm {
    /// How many employees.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=MOST_EMPLOYEES))]
    pub rows: u64,
    /// The database: `postgres://user@host/database` or `sqlite:///path`. The password comes from MUSTER_SIMULATED_PRM_PASSWORD or
    /// PGPASSWORD.
    #[arg(long, value_name = "URL")]
    pub into: String,
    /// The schema of the tables (PostgreSQL), created if it isn't there.
    #[arg(long, value_name = "NAME")]
    pub schema: Option<String>,
    /// The same seed gives the same data on the same day (UTC).
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// When filled, make so many changes a second until stopped.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub changes: u32,
    /// Delete what the eight tables hold, if they hold anything.
    #[arg(long)]
    pub replace: bool,
}
