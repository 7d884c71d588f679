//! Rounds of chaos: real processes on real services, one seeded fault after the other, while the recruiting system
//! changes all the while. Now and then the changes stop, everything drains, and the register is compared with the oracle.
//!
//! [`plan`] chooses (pure: the same seed, the same choices), [`world`] has the processes and services, [`clerk`] changes
//! the recruiting system, [`act`] does what was chosen, [`drain`] compares.

mod act;
pub mod brokers;
mod clerk;
mod drain;
mod network;
pub mod plan;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;

use self::plan::{Choice, Kind, Plan, Round};
use self::world::World;

/// What came of a plan that held.
#[derive(Debug)]
pub struct Summary {
    rounds: u32,
    kinds: BTreeMap<Kind, u32>,
    killed: u32,
    compared: u32,
    edits: u64,
    letters: usize,
    rows: usize,
    took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
        write!(
            f,
            "{} rounds in {:.0} s ({}): {} processes killed; {} edits; compared with the oracle {} times, {} rows at the \
             end, {} letters as planned; no finding",
            self.rounds,
            self.took.as_secs_f64(),
            kinds.join(", "),
            self.killed,
            self.edits,
            self.compared,
            self.rows,
            self.letters,
        )
    }
}

/// Carries the plan out. `None` where a service is missing. An error says which round it was, how to repeat it and where
/// the logs are.
pub async fn run(plan: &Plan) -> Result<Option<Summary>> {
    let began = Instant::now();
    let Some(mut world) = World::found(plan).await? else { return Ok(None) };
    println!("{}: ready after {:.1} s", plan, began.elapsed().as_secs_f64());
    let outcome = rounds(plan, &mut world).await;
    match outcome {
        Ok(mut summary) => {
            world.end().await?;
            summary.took = began.elapsed();
            println!("{summary}");
            Ok(Some(summary))
        }
        Err(failure) => {
            let kept = world.keep_logs(plan.logs.as_deref()).await;
            let kept = kept.map_or_else(|err| format!("the logs are lost: {err:#}"), |kept| kept.join("\n  "));
            Err(failure.context(format!("FINDING; repeat it: cargo xtask chaos {}\nlogs:\n  {kept}", plan.arguments())))
        }
    }
}

async fn rounds(plan: &Plan, world: &mut World) -> Result<Summary> {
    let mut rng = Rng::with_seed(plan.seed);
    let choice = Choice { kinds: world.possible(&plan.kinds), processes: plan.processes, brokers: plan.brokers };
    let mut summary = Summary {
        rounds: 0,
        kinds: BTreeMap::new(),
        killed: 0,
        compared: 0,
        edits: 0,
        letters: 0,
        rows: 0,
        took: Duration::ZERO,
    };
    let began = Instant::now();
    for number in 1..=plan.rounds {
        let drawn = rng.u64(..);
        let round = Round::choose(plan.again.unwrap_or(drawn), &choice);
        let here = Instant::now();
        world.work()?;
        let outcome = world.play(&round).await;
        let took = here.elapsed().as_secs_f64();
        let said = if outcome.is_ok() { "" } else { "FAILED" };
        println!("round {number:>4}  seed {:016x}  {round}; {took:.1} s {said}", round.seed);
        summary.killed += outcome.with_context(|| format!("round {number}, {round}, seed {:016x}", round.seed))?;
        *summary.kinds.entry(round.fault.kind()).or_default() += 1;
        summary.rounds = number;
        if number.is_multiple_of(plan.compare_every) || number == plan.rounds {
            let here = Instant::now();
            let drained = world.drain().await.with_context(|| format!("after round {number}, {round}"))?;
            summary.compared += 1;
            (summary.rows, summary.letters, summary.edits) = (drained.rows, drained.letters, drained.edits);
            println!(
                "            drained in {:.1} s: {} rows equal the oracle, {} wait, {} letters, {} edits so far, {:.0} s",
                here.elapsed().as_secs_f64(),
                drained.rows,
                drained.waiting,
                drained.letters,
                drained.edits,
                began.elapsed().as_secs_f64(),
            );
        }
    }
    Ok(summary)
}
