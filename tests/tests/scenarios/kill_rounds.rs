//! Processes are killed again and again at any moment, on real services, while the recruiting system changes; then
//! everything else that `cargo xtask chaos` does, for a few rounds.

use anyhow::Result;

use super::support::chaos;
use super::support::chaos::plan::{Kind, Plan};

fn plan(rounds: u32, kinds: &[Kind]) -> Plan {
    // Another seed each time; a failure prints it.
    let seed = fastrand::u64(..);
    Plan {
        rounds,
        seed,
        processes: 2,
        brokers: 1,
        applicants: 600,
        kinds: kinds.to_vec(),
        compare_every: rounds,
        again: None,
        logs: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_the_register_equals_the_oracle() -> Result<()> {
    chaos::run(&plan(20, &[Kind::Kill])).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo xtask ci --all"]
async fn ten_rounds_of_everything_on_three_brokers() -> Result<()> {
    chaos::run(&Plan { processes: 3, brokers: 3, compare_every: 5, ..plan(10, &Kind::ALL) }).await.map(drop)
}
