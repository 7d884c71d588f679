//! Long runs of chaos by hand: `cargo xtask chaos`, described in `docs/chaos.md`. The rounds are those of the test
//! `killed_twenty_times_the_register_equals_the_oracle`.

#[allow(dead_code, reason = "the scenarios use the rest")]
#[path = "../tests/scenarios/support/mod.rs"]
mod support;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use support::chaos;
use support::chaos::plan::{Kind, Plan};

const USAGE: &str = "\
usage: cargo xtask chaos [OPTION VALUE]…

  --rounds N         how many rounds (default: 200)
  --seed S           what every choice follows from (default: drawn, and printed)
  --brokers 1|3      how many Kafka brokers (default: 1)
  --processes N      how many `muster run` share the work (default: 3)
  --applicants N     how many applicants there are at first (default: 400)
  --kinds A,B,…      what may happen: kill, stall, broker, leader, database, registry, network (default: all)
  --compare-every N  the changes stop and the register is compared after so many rounds (default: 10)
  --again SEED       every round is the one of this seed, as a round's line shows it
  --logs FOLDER      where the logs of a run that fails are kept (default: a temporary folder)";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let plan = match read(&arguments) {
        Ok(plan) => plan,
        Err(err) => {
            eprintln!("error: {err:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match chaos::run(&plan).await {
        Ok(Some(_)) => ExitCode::SUCCESS,
        Ok(None) => {
            eprintln!("error: nothing was run: a service is missing (cargo xtask test-services)");
            ExitCode::FAILURE
        }
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<Plan> {
    let mut plan = Plan {
        rounds: 200,
        seed: fastrand::u64(..),
        processes: 3,
        brokers: 1,
        applicants: 400,
        kinds: Kind::ALL.to_vec(),
        compare_every: 10,
        again: None,
        logs: None,
    };
    for pair in arguments.chunks(2) {
        let [option, value] = pair else { bail!("{} has no value", pair[0]) };
        let number = || value.parse::<u32>().with_context(|| format!("{option} {value}: expected a number"));
        let at_least_one =
            || number().and_then(|n| if n == 0 { bail!("{option} 0: expected 1 or more") } else { Ok(n) });
        match option.as_str() {
            "--rounds" => plan.rounds = at_least_one()?,
            "--seed" => plan.seed = value.parse().with_context(|| format!("--seed {value}: expected a number"))?,
            "--brokers" => plan.brokers = number()? as usize,
            "--processes" => plan.processes = at_least_one()? as usize,
            "--applicants" => plan.applicants = at_least_one()? as usize,
            "--kinds" => plan.kinds = value.split(',').map(kind).collect::<Result<_>>()?,
            "--compare-every" => plan.compare_every = at_least_one()?,
            "--again" => {
                let seed = u64::from_str_radix(value, 16);
                plan.again = Some(seed.with_context(|| format!("--again {value}: expected sixteen hex digits"))?);
            }
            "--logs" => plan.logs = Some(value.into()),
            _ => bail!("there is no option {option}"),
        }
    }
    if ![1, 3].contains(&plan.brokers) {
        bail!("--brokers {}: expected 1 or 3", plan.brokers);
    }
    Ok(plan)
}

fn kind(name: &str) -> Result<Kind> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.with_context(|| format!("no fault is called {name}; there are {}", Kind::ALL.map(Kind::name).join(", ")))
}
