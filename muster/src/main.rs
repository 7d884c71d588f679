//! The one binary: arguments, wiring, exit codes. Only here is the environment read and an exit decided.

mod args;
mod commands;
mod contact;
mod exit;
mod files;
mod logging;
mod output;
mod process;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use muster::settings;

use crate::args::Args;

/// Of librdkafka and SQLite, too. How it is set: `.cargo/config.toml`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    logging::start(args.log_format, args.command.logs());
    // All TLS of the process goes through ring; a second provider would be an error of ours.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("muster: another TLS provider is installed already");
        return ExitCode::from(exit::FAILED);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("muster: the runtime can't start: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let ended = runtime.block_on(commands::run(args));
    // Blocking calls into the broker's library may still be under way: they aren't waited for.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("muster: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
