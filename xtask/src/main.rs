//! What developers run that is more than one cargo command: `cargo xtask …`.

mod bench;
mod ci;
mod deny;
mod docker;
mod fuzz;
mod run;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  bench          measures, released: `cargo xtask bench --help` says more
  ci             format, lints, documents, licences and advisories, docker, tests; stops at the first that fails
  ci --all       the same, and the tests that take long: three brokers, rounds of chaos
  chaos          processes killed, stalled and cut off on real services, at length; --help shows its options
  check-docker   what can be known of docker/ without a container engine
  fuzz [TARGET ...] [--minutes N]
                 looks for input that breaks what reads foreign bytes: N minutes for each target, 10 without
  test-services  shows which real services the tests would use, and what is missing";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome: Result<()> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bench", ref rest @ ..] => bench::run(rest),
        ["ci"] => ci::run(false),
        ["ci", "--all"] => ci::run(true),
        ["chaos", ..] => chaos(&arguments[1..]),
        ["check-docker"] => docker::check(),
        ["fuzz", ref names @ .., "--minutes", minutes] => match minutes.parse() {
            Ok(minutes) => fuzz::fuzz(names, minutes),
            Err(_) => Err(anyhow::anyhow!("--minutes takes a whole number")),
        },
        ["fuzz", ref names @ ..] => fuzz::fuzz(names, 10),
        ["test-services"] => run::cargo(&["run", "--quiet", "--package", "e2e", "--bin", "test-services"]),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// An example, because it needs what only tests need.
fn chaos(options: &[String]) -> Result<()> {
    let mut arguments = vec!["run", "--quiet", "--package", "e2e", "--example", "chaos", "--"];
    arguments.extend(options.iter().map(String::as_str));
    run::cargo(&arguments)
}
