//! Topics get another number of partitions on a real Kafka: killed in the middle, given again, and the register doesn't
//! notice.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::{Connection, PgConnection};

use super::support::kafka::{Cluster, has_members};
use super::support::program::Running;
use super::support::site::Site;
use super::support::{recruiters, until};

const RESIZE: [&str; 6] = ["topics", "resize", "applicants", "--partitions", "24", "--yes"];

#[tokio::test(flavor = "multi_thread")]
async fn topics_get_more_partitions_and_the_register_stays_as_it_is() -> Result<()> {
    let Some(cluster) = Cluster::find("resize").await? else { return Ok(()) };
    let bootstrap = cluster.kafka.bootstrap();
    let (ats, server) = recruiters(150)?;
    let site = Site::new(cluster.parts(&server.url())).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await?;
    let written = written(&cluster.database.url).await?;

    // Refused while anything works, and unless somebody says yes.
    let mut running = site.start()?;
    running.during(until("the sink works", || async { has_members(&bootstrap, "muster.register", 1) })).await?;
    let refused = site.give(&RESIZE).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("components are at work"), "{refused:?}");
    let (code, _) = running.terminate().await?;
    ensure!(code == 0, "exit code {code}");
    let unsaid = site.give(&RESIZE[..5]).await?;
    ensure!(unsaid.code == 1 && unsaid.stdout.contains("ats.applicant.v2 (24 partitions)"), "{unsaid:?}");
    ensure!(topics(&bootstrap)?.keys().all(|topic| !topic.contains(".v")), "nobody has said yes");

    // What the register hasn't heard of yet must survive: a milestone that is gone, an applicant who changed.
    site.give(&["pause", "register"]).await?.ok()?;
    let loses =
        ats.applicants().into_iter().find(|one| one["milestones"].as_array().is_some_and(|list| list.len() > 2));
    let loses = loses.context("nobody has milestones")?["applicant_id"].as_str().context("an id")?.to_lowercase();
    ats.remove_milestone(&loses, 0).context("a milestone")?;
    ats.change_some(5);
    site.give(&["run", "--once"]).await?.ok()?;
    ensure!(self::written(&cluster.database.url).await? == written, "the sink was paused");

    // Killed in the middle: nothing starts until it is given again, and then it begins anew.
    let dying = Running::start(&mut site.command(&RESIZE), site.path("resize.log"))?;
    until("the copies are begun", || async {
        ensure!(topics(&bootstrap)?.contains_key("ats.applicant.v2"), "not yet");
        Ok(())
    })
    .await?;
    dying.kill().await.context("it was done before it could be killed")?;
    let refused = site.give(&["run", "--once"]).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("--abandon"), "{refused:?}");
    site.give(&["topics", "resize", "--abandon"]).await?.ok()?;
    site.give(&["run", "--once"]).await?.ok()?;
    let dying = Running::start(&mut site.command(&RESIZE), site.path("resize.log"))?;
    until("the copies are begun again", || async {
        ensure!(topics(&bootstrap)?.contains_key("ats.applicant.v3"), "not yet");
        Ok(())
    })
    .await?;
    dying.kill().await.context("it was done before it could be killed")?;
    let done = site.give(&RESIZE).await?.ok()?;
    ensure!(done.stdout.contains("`log.kafka.partitions = 24`"), "{done:?}");
    let there = topics(&bootstrap)?;
    ensure!(there["ats.applicant"] == 12, "the old topics stay");
    let copies: Vec<_> = there.iter().filter(|(topic, _)| topic.contains(".v")).collect();
    ensure!(copies.len() == 3 && copies.iter().all(|(_, partitions)| **partitions == 24), "{copies:?}");
    ensure!(there["muster.tasks"] == 12, "claims keep their partitions");

    // The configuration must say so, too; the message tells how.
    let refused = site.give(&["run", "--once"]).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("muster topics resize ats.applicant"), "{refused:?}");
    let wider = |text: String| text.replace("session = \"6s\"", "session = \"6s\"\npartitions = 24");
    site.configure(wider)?;
    let again = site.give(&["topics", "resize", "register.milestone", "--partitions", "24", "--yes"]).await?.ok()?;
    ensure!(again.stdout.contains("nothing to do"), "{again:?}");

    // What hadn't changed isn't written again; what had is delivered, deletes included; and changes flow.
    site.give(&["resume", "register"]).await?.ok()?;
    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await?;
    let now = self::written(&cluster.database.url).await?;
    let kept = written.iter().filter(|(row, by)| now.get(*row) == Some(by)).count();
    ensure!(kept + 60 > written.len(), "of {} rows only {kept} weren't written again", written.len());
    let mut running = site.start()?;
    ats.change_some(20);
    site.settles(&mut running, &ats).await?;

    // The old topics go when somebody says so.
    site.give(&["topics", "resize", "--drop-old", "--yes"]).await?.ok()?;
    until("the old topics are gone", || async {
        ensure!(!topics(&bootstrap)?.contains_key("ats.applicant"), "not yet");
        Ok(())
    })
    .await?;
    let listed = site.ask(&["topics"]).await?;
    ensure!(listed.to_string().contains("ats.applicant.v"), "{listed}");
    ats.change_some(20);
    site.settles(&mut running, &ats).await?;
    site.ledger_balances().await?;
    let (code, _) = running.terminate().await?;
    ensure!(code == 0, "exit code {code}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_log_has_nothing_to_resize() -> Result<()> {
    let (_, server) = recruiters(1)?;
    let site = Site::embedded(&server.url()).await?;
    let done = site.give(&RESIZE).await?.ok()?;
    ensure!(done.stdout.starts_with("nothing to resize"), "{done:?}");
    Ok(())
}

/// The topics there are, with their partitions.
fn topics(bootstrap: &str) -> Result<BTreeMap<String, usize>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let all = tokio::task::block_in_place(|| consumer.fetch_metadata(None, Duration::from_secs(10)))?;
    Ok(all.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
}

/// The transaction that last wrote each row.
async fn written(url: &str) -> Result<BTreeMap<String, String>> {
    let mut connection = PgConnection::connect(url).await?;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "select 'applicant ' || muster_key, xmin::text from ien_applicants
         union all select 'milestone ' || muster_key, xmin::text from ien_applicant_status_audit",
    )
    .fetch_all(&mut connection)
    .await?;
    Ok(rows.into_iter().collect())
}
