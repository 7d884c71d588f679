//! Snapshots of what was read, by the program as it is: made by a pass, on request, beside a running process; looked at,
//! verified, and wrong when their files are.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::support::recruiters;
use super::support::site::{Parts, Site};

async fn site(ats: &str) -> Result<Site> {
    let site = Site::new(Parts { ats: ats.to_owned(), ..Parts::default() }).await?;
    let store = site.path("snapshots");
    site.configure(|text| {
        format!(
            "{text}\n[snapshots]\nmax_depth = 3\nstore.local.path = \"{}\"\n\
             [snapshots.datasets.applicants]\ntopic = \"ats.applicant\"\nchanged_by = [\"updated_date\"]\n",
            store.display()
        )
    })?;
    Ok(site)
}

/// The records of the newest generation, as its manifest leads to them.
fn applicants(site: &Site) -> Result<Vec<Value>> {
    let mut manifests: Vec<PathBuf> =
        std::fs::read_dir(site.path("snapshots/generations"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    manifests.sort();
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifests.last().context("no generation")?)?)?;
    let objects = manifest["datasets"]["applicants"]["full"]["objects"].as_array().context("objects")?;
    let plain = objects.iter().find(|object| object["form"] == "json" && object["coding"] == "identity");
    let path = plain.and_then(|plain| plain["path"].as_str()).context("a plain list")?;
    Ok(serde_json::from_slice(&std::fs::read(site.path("snapshots").join(path))?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_what_was_read_and_is_verified_against_its_topic() -> Result<()> {
    let (ats, server) = recruiters(300)?;
    let site = site(&server.url()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    ensure!(applicants(&site)?.len() == ats.len(), "{} of {}", applicants(&site)?.len(), ats.len());

    // Nobody runs: the command does it itself.
    ats.add_applicant();
    site.ask(&["sync", "ats.applicant"]).await?;
    let made = site.ask(&["snapshot", "run"]).await?;
    ensure!(made["done"] == true, "{made:#}");
    ensure!(applicants(&site)?.len() == ats.len());

    // Somebody runs: it is asked.
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    let asked = site.ask(&["snapshot", "run"]).await?;
    ensure!(asked["details"]["datasets"]["applicants"]["reading"] == "since", "{asked:#}");
    running.terminate().await?;

    let verified = site.ask(&["snapshot", "verify", "--topic"]).await?;
    ensure!(verified["right"] == true, "{verified:#}");
    ensure!(verified["topics"]["applicants"]["same"] == ats.len(), "{verified:#}");
    let listed = site.ask(&["snapshot", "list"]).await?;
    ensure!(listed.as_array().is_some_and(|list| list.len() >= 3), "{listed:#}");
    let shown = site.give(&["snapshot", "show"]).await?.ok()?;
    ensure!(shown.stdout.contains("applicants, from ats.applicant"), "{shown:?}");

    let path = listed[0]["generation"].as_u64().context("a number")?;
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(site.path(&format!("snapshots/generations/{path:08}.json")))?)?;
    let rotten = manifest["datasets"]["applicants"]["full"]["objects"][0]["path"].as_str().context("a path")?;
    let rotten = site.path("snapshots").join(rotten);
    let mut bytes = std::fs::read(&rotten)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&rotten, bytes)?;
    let found = site.give(&["snapshot", "verify"]).await?;
    ensure!(found.code == 1 && found.stdout.contains("digest"), "{found:?}");
    Ok(())
}
