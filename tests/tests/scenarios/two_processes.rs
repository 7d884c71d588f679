//! More processes are more hands, and one that dies is no loss: on a real Kafka, with a register in PostgreSQL.

use anyhow::{Result, ensure};
use simulators::ats::{Endpoint, Fault};

use super::support::kafka::{Cluster, has_members};
use super::support::register::Register;
use super::support::site::Site;
use super::support::{recruiters, until};

/// Groups whose partitions are shared out.
const GROUPS: [&str; 2] = ["muster.applicants", "muster.register"];

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_killed_in_the_middle_and_a_third_joins() -> Result<()> {
    let Some(cluster) = Cluster::find("two processes").await? else { return Ok(()) };
    let bootstrap = cluster.kafka.bootstrap();
    let (ats, server) = recruiters(3_000)?;
    // Nobody gets ahead before both are there.
    ats.set_fault(Endpoint::Applicants, Fault::Slow { ms: 1_000 }, None);
    let parts = cluster.parts(&server.url());
    let [first, second, third] =
        [Site::new(parts.clone()).await?, Site::new(parts.clone()).await?, Site::new(parts).await?];

    let mut one = first.start()?;
    // Topics and tables are made once.
    one.during(until("the first has begun", || async { has_members(&bootstrap, GROUPS[1], 1) })).await?;
    let mut two = second.start()?;
    for group in GROUPS {
        two.during(until("both share the partitions", || async { has_members(&bootstrap, group, 2) })).await?;
    }
    ats.clear_faults();
    one.during(until("the load is under way", || async {
        let rows = Register::count(&first.database(), "ien_applicants").await;
        ensure!(rows >= 500, "{rows}");
        Ok(())
    }))
    .await?;
    one.is_alive()?;
    one.kill().await?;
    ats.change_some(150);

    // The other takes over everything, the system included.
    second.settles(&mut two, &ats).await?;
    let mut three = third.start()?;
    for group in GROUPS {
        three.during(until("the third takes its share", || async { has_members(&bootstrap, group, 2) })).await?;
    }
    ats.change_some(100);
    ats.add_applicant();
    second.settles(&mut two, &ats).await?;
    third.settles(&mut three, &ats).await?;

    for site in [&first, &second, &third] {
        site.ledger_balances().await?;
    }
    for running in [two, three] {
        let (code, took) = running.terminate().await?;
        ensure!(code == 0 && took.as_secs() <= 10, "exit code {code} after {took:?}");
    }
    Ok(())
}
