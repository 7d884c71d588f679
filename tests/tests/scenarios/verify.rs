//! `muster verify`: a healthy register differs in nothing, also while changes flow; everything that is spoilt by hand is
//! named.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use simulators::ats::Ats;

use super::support::kafka::Cluster;
use super::support::register::Register;
use super::support::site::Site;
use super::support::{recruiters, until};

/// The counts of a topic.
fn counts<'a>(report: &'a Value, topic: &str) -> Result<&'a Value> {
    let components = report["components"].as_array().context("components")?;
    let entities = components.iter().filter_map(|component| component["entities"].as_array()).flatten();
    let entity = entities.into_iter().find(|entity| entity["topic"] == topic);
    Ok(&entity.with_context(|| format!("nothing on {topic}: {report:#}"))?["counts"])
}

/// How each named key differs.
fn named(report: &Value) -> Vec<String> {
    let components = report["components"].as_array().into_iter().flatten();
    let entities = components.filter_map(|component| component["entities"].as_array()).flatten();
    let keys = entities.filter_map(|entity| entity["keys"].as_array()).flatten();
    keys.map(|key| format!("{} {}", key["key"].as_str().unwrap_or_default(), key["kind"].as_str().unwrap_or_default()))
        .collect()
}

async fn verified(site: &Site, args: &[&str]) -> Result<(i32, Value)> {
    let args: Vec<&str> = ["--json", "verify"].into_iter().chain(args.iter().copied()).collect();
    let done = site.give(&args).await?;
    let report = done.json()?;
    Ok((done.code, report))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spoilt_in_a_file_is_found() -> Result<()> {
    let (ats, server) = recruiters(200)?;
    let site = Site::embedded(&server.url()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    let (code, healthy) = verified(&site, &[]).await?;
    ensure!(code == 0 && healthy["same"] == true, "{healthy:#}");
    ensure!(counts(&healthy, "register.applicant")?["compared"] == 200, "{healthy:#}");

    let spoilt = spoil(&site, &ats).await?;
    let (code, report) = verified(&site, &[]).await?;
    ensure!(code == 1 && report["same"] == false, "{report:#}");
    ensure!(sorted(named(&report)) == spoilt, "{report:#}\n{spoilt:?}");
    let text = site.give(&["verify", "register", "--keys", "2"]).await?;
    ensure!(text.code == 1 && text.stdout.contains("6 keys differ"), "{text:?}");
    Ok(())
}

/// One row of each kind of harm; answers what must be found, in key order.
async fn spoil(site: &Site, ats: &Ats) -> Result<Vec<String>> {
    let id_of = |one: &Value| Some(one["applicant_id"].as_str()?.to_lowercase());
    let mut ids: Vec<String> = ats.applicants().iter().filter_map(id_of).collect();
    ids.sort();
    let [edited, old, other, newer, ..] = &ids[..] else { anyhow::bail!("too few applicants") };
    let gone = a_milestone(site).await?;
    let database = site.database();
    for sql in [
        format!("delete from ien_applicant_status_audit where muster_key = '{gone}'"),
        format!("update ien_applicants set first_name = 'By hand' where id = '{edited}'"),
        format!("update ien_applicants set muster_version = 5 where id = '{old}'"),
        format!("update ien_applicants set muster_hash = 'other' where id = '{other}'"),
        format!("update ien_applicants set muster_version = 9000000000000 where id = '{newer}'"),
    ] {
        database.execute(sql).await?;
    }
    let extra = "insert into ien_status_reasons (id, name, muster_key, muster_version, muster_hash) \
                 values ('00000000-0000-0000-0000-00000000000a', 'By hand', '00000000-0000-0000-0000-00000000000a', 1, 'x')";
    database.execute(extra.to_owned()).await?;
    let mut expected = vec!["00000000-0000-0000-0000-00000000000a extra".to_owned(), format!("{gone} missing")];
    for (id, kind) in [(edited, "columns"), (old, "stale"), (other, "columns"), (newer, "newer")] {
        expected.push(format!("{id} {kind}"));
    }
    expected.sort();
    Ok(expected)
}

/// The key of a milestone that nothing refers to.
async fn a_milestone(site: &Site) -> Result<String> {
    let table = "ien_applicant_status_audit|";
    let lines = Register::versions(&site.database()).await?;
    let line = lines.iter().find_map(|line| line.strip_prefix(table)).context("no milestone")?;
    // Key, version, hash; a key has bars of its own.
    Ok(line.rsplitn(3, '|').last().context("no key")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_while_changes_flow() -> Result<()> {
    let (ats, server) = recruiters(300)?;
    let site = Site::embedded(&server.url()).await?;
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    for _ in 0..4 {
        ats.change_some(60);
        // The changes are read, derived and delivered meanwhile.
        let (code, report) = verified(&site, &[]).await?;
        ensure!(code == 0 && report["same"] == true, "{report:#}");
    }
    until("a change is found delivered", || async {
        let (_, report) = verified(&site, &[]).await?;
        ensure!(counts(&report, "register.applicant")?["undelivered"] == 0, "{report:#}");
        Ok(())
    })
    .await?;
    running.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spoilt_is_repaired() -> Result<()> {
    let (ats, server) = recruiters(120)?;
    let site = Site::embedded(&server.url()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    // While nothing runs, the command is the owner for a moment.
    spoil(&site, &ats).await?;
    let (code, report) = verified(&site, &["--repair"]).await?;
    ensure!(code == 0 && report["repair"]["found"] == 6, "{report:#}");
    site.agrees_with(&ats).await?;

    // Beside a running process, which then is.
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    spoil(&site, &ats).await?;
    let (code, report) = running.during(verified(&site, &["register", "--repair"])).await?;
    ensure!(code == 0 && report["repair"]["found"] == 6, "{report:#}");
    site.settles(&mut running, &ats).await?;
    site.ledger_balances().await?;
    running.terminate().await?;
    Ok(())
}

/// The same on the services of a production site.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_spoilt_on_a_server_is_found_and_repaired() -> Result<()> {
    let Some(cluster) = Cluster::find("verify").await? else { return Ok(()) };
    let (ats, server) = recruiters(150)?;
    let site = Site::new(cluster.parts(&server.url())).await?;
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    let (code, healthy) = running.during(verified(&site, &[])).await?;
    ensure!(code == 0 && healthy["same"] == true, "{healthy:#}");
    let spoilt = spoil(&site, &ats).await?;
    let (code, report) = running.during(verified(&site, &["register"])).await?;
    ensure!(code == 1 && sorted(named(&report)) == spoilt, "{report:#}");
    let (code, report) = running.during(verified(&site, &["register", "--repair"])).await?;
    ensure!(code == 0 && report["repair"]["found"] == 6, "{report:#}");
    site.settles(&mut running, &ats).await?;
    running.terminate().await?;
    Ok(())
}

/// A system whose records changed without saying so: no reading of changes finds that, comparing does.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_system_says_is_compared_with_its_topic() -> Result<()> {
    let (ats, server) = recruiters(80)?;
    let site = Site::embedded(&server.url()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    let (code, healthy) = verified(&site, &["ats"]).await?;
    ensure!(code == 0 && healthy["same"] == true, "{healthy:#}");
    ensure!(counts(&healthy, "ats.applicant")?["compared"] == 80, "{healthy:#}");

    // Long before the last success: a reading of changes doesn't ask for it.
    let people = ats.applicants();
    let oldest = people.iter().min_by_key(|one| one["updated_date"].as_str().map(str::to_owned)).context("nobody")?;
    let id = |one: &Value| one["applicant_id"].as_str().unwrap_or_default().to_owned();
    let mut silent = oldest.clone();
    silent["first_name"] = json!("Changed silently");
    ats.replace_raw(&id(&silent), silent.clone());
    let mut late = oldest.clone();
    late["applicant_id"] = json!("ffffffff-6a1f-4f7e-9a55-0f6a4c1d2e3b");
    late["ats1_id"] = json!(9_000_001);
    ats.add_raw(late.clone());
    let key = |one: &Value| id(one).to_lowercase();
    let expected = [format!("{} columns", key(&silent)), format!("{} missing", key(&late))];
    let (code, report) = verified(&site, &["ats.applicant"]).await?;
    ensure!(code == 1 && sorted(named(&report)) == sorted(expected.to_vec()), "{report:#}");
    let (code, report) = verified(&site, &["ats.applicant", "--repair"]).await?;
    ensure!(code == 0 && report["repair"]["found"] == 2, "{report:#}");
    Ok(())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}
