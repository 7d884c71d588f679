//! The machine a figure was measured on. From `/proc`; what isn't there is said to be unknown.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Processor, memory, system, and how busy it was with other things.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The system's kernel.
    pub kernel: String,
    /// The compiler.
    pub rustc: String,
    /// Processes that wanted a core in the minute before, on average: more than 0 is somebody else.
    pub load_before: f64,
}

impl Machine {
    /// As it is now.
    pub fn now() -> Self {
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib("/proc/meminfo", "MemTotal").unwrap_or_default() / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |s| s.trim().split('-').next().unwrap_or_default().to_owned()),
            rustc: rustc().unwrap_or_else(unknown),
            load_before: load().unwrap_or_default(),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { processor, cores, memory_gib, kernel, rustc, .. } = self;
        format!("{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {rustc}")
    }
}

/// What this thread has computed so far, in seconds, without what others took of the core. The system brings it up to
/// date a few hundred times a second: measure tenths of seconds and longer.
pub fn thread_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

fn kib(file: &str, name: &str) -> Option<f64> {
    field(file, name)?.split_whitespace().next()?.parse().ok()
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
/// Memory of a process in MB (millions of bytes), by the name of its line in `/proc/<pid>/status`: `VmRSS` now, `VmHWM` at most so far.
pub fn memory_mb(process: u32, line: &str) -> Option<f64> {
    Some(kib(&format!("/proc/{process}/status"), line)? * 1024.0 / 1e6)
}
