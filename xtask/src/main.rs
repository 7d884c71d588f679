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
  check-docker   what can be known of docker/ without a container engine
  fuzz [TARGET ...] [--minutes N]
                 looks for input that breaks what reads foreign bytes: N minutes for each target, 10 without
  test-services  shows which real services the tests would use, and what is missing";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome: Result<()> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bench", ref rest @ ..] => bench::run(rest),
        ["ci"] => ci::all(),
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
