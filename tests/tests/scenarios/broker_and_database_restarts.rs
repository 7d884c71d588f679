//! What the process rests on goes away in the middle of its work, and comes back.

use anyhow::{Result, ensure};

use super::support::kafka::{Cluster, log, registry};
use super::support::register::Register;
use super::support::site::{Parts, Site};
use super::support::{recruiters, until};

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_database_are_killed_in_the_middle_of_a_load() -> Result<()> {
    let Some(cluster) = Cluster::find("restarts").await? else { return Ok(()) };
    let Some(postgres) = services::Postgres::own().await? else { return Ok(()) };
    let (ats, server) = recruiters(1_500)?;
    let parts = Parts { database: Some(postgres.url()), ..cluster.parts(&server.url()) };
    let site = Site::new(parts).await?;
    let mut running = site.start()?;
    let filling = until("the register fills", || async {
        let rows = Register::count(&site.database(), "ien_applicants").await;
        ensure!(rows >= 100, "{rows}");
        Ok(())
    });
    running.during(filling).await?;
    cluster.kafka.kill().await?;
    ats.change_some(50);
    cluster.kafka.restart().await?;
    site.settles(&mut running, &ats).await?;

    ats.change_some(600);
    postgres.kill().await?;
    let told = until("it says what it waits for", || async {
        let (code, why) = site.get("/health/ready").await?;
        ensure!(code == 503 && why.contains("register"), "{code} {why}");
        Ok(())
    });
    running.during(told).await?;
    postgres.restart().await?;
    site.settles(&mut running, &ats).await?;
    site.ledger_balances().await?;
    let (code, took) = running.terminate().await?;
    ensure!(code == 0 && took.as_secs() <= 10, "exit code {code} after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_registry_known_schemas_go_on_and_unknown_ones_wait() -> Result<()> {
    let Some(cluster) = Cluster::find("no registry").await? else { return Ok(()) };
    let (ats, server) = recruiters(150)?;
    let nowhere = registry("http://127.0.0.1:9/apis/ccompat/v7");
    let parts = Parts { log: log(&cluster.kafka), more: nowhere.clone(), ..cluster.parts(&server.url()) };
    let site = Site::new(parts).await?;

    // Nothing is known yet: it waits, and says for what.
    let mut running = site.start()?;
    let told = until("it says what it waits for", || async {
        let (code, why) = site.get("/health/ready").await?;
        ensure!(code == 503 && why.contains("registry"), "{code} {why}");
        Ok(())
    });
    running.during(told).await?;
    running.terminate().await?;

    site.configure(|text| text.replace(&nowhere, &registry(&cluster.registry)))?;
    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await?;

    site.configure(|text| text)?;
    ats.change_some(20);
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    running.terminate().await?;
    Ok(())
}
