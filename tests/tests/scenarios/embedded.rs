//! One machine, nothing but the program: the embedded log and a SQLite register.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use serde_json::json;
use simulators::ats::{Endpoint, Fault};

use super::support::register::Register;
use super::support::site::{API_KEY, Site};
use super::support::{recruiters, until};

#[tokio::test(flavor = "multi_thread")]
async fn one_pass_fills_the_register_and_a_second_changes_nothing() -> Result<()> {
    let (ats, server) = recruiters(600)?;
    let site = Site::embedded(&server.url()).await?;

    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await?;
    let (rows, written) = (site.register().await?, Register::versions(&site.database()).await?);
    let again = site.ask(&["run", "--once"]).await?;

    ensure!(site.register().await? == rows, "the second pass changed rows");
    ensure!(Register::versions(&site.database()).await? == written, "the second pass wrote rows that hadn't changed");
    ensure!(again["components"]["ats.applicant"]["delivered"] == 0, "{again:#}");
    site.ledger_balances().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_flow_and_nothing_else_is_written() -> Result<()> {
    let (ats, server) = recruiters(300)?;
    let site = Site::embedded(&server.url()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    let before = Register::versions(&site.database()).await?;

    let mut touched = ats.change_some(12);
    touched.push(ats.add_applicant());
    let loses =
        ats.applicants().into_iter().find(|one| one["milestones"].as_array().is_some_and(|list| list.len() > 2));
    let loses = loses.context("nobody has milestones")?["applicant_id"].as_str().context("an id")?.to_lowercase();
    ats.remove_milestone(&loses, 0).context("a milestone")?;
    touched.push(loses);
    site.give(&["run", "--once"]).await?.ok()?;

    site.agrees_with(&ats).await?;
    let after = Register::versions(&site.database()).await?;
    for row in after.iter().filter(|row| !before.contains(row)) {
        ensure!(touched.iter().any(|id| row.contains(id.as_str())), "{row} was written for nothing");
    }
    site.ledger_balances().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_five_times_it_loses_nothing_and_has_nothing_twice() -> Result<()> {
    let (ats, server) = recruiters(1_500)?;
    let site = Site::embedded(&server.url()).await?;
    for kill in 0..5 {
        let mut running = site.start()?;
        // Each time a little further: while rows are read, derived, delivered, and while changes come in.
        let wanted = ats.len() as u64 * kill / 5;
        let filling = until("the register fills", || async {
            let rows = Register::count(&site.database(), "ien_applicants").await;
            ensure!(rows >= wanted, "{rows} of {wanted}");
            let log = std::fs::metadata(site.path("data/log.sqlite-wal"));
            ensure!(log.is_ok_and(|log| log.len() > 100_000 * kill), "nothing is in the log yet");
            Ok(())
        });
        running.during(filling).await?;
        running.kill().await?;
        ats.change_some(20);
    }
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;
    site.ledger_balances().await?;
    running.terminate().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_act_beside_the_running_process() -> Result<()> {
    let (ats, server) = recruiters(120)?;
    let site = Site::embedded(&server.url()).await?;
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;

    // A second process is refused, and is told who is first.
    let second = site.give(&["run", "--once"]).await?;
    ensure!(second.code != 0 && second.stderr.contains("process"), "{second:?}");

    let status = site.ledger_balances().await?;
    ensure!(status["running"]["components"].is_object(), "{status:#}");

    // A bad record: set aside, listed, shown, repaired, delivered.
    let id = "0d9d3c52-6a1f-4f7e-9a55-0f6a4c1d2e3b";
    let mut record = json!({
        "applicant_id": id, "ats1_id": 9_000_001, "first_name": "Odalys", "last_name": "Ferncastle",
        "email_address": "odalys@example.org", "phone_number": "", "country_of_residence": null,
        "countries_of_citizenship": ["PH"], "pr_status": "No status", "assigned_to": null, "pathway_id": null,
        "registration_date": "the first of May", "created_date": "2026-05-01T09:00:00", "updated_date": "2026-05-01T09:00:00",
        "nursing_educations": [], "milestones": []
    });
    ats.add_raw(record.clone());
    site.ask(&["sync", "ats.applicant", "--full"]).await?;
    let letters = site.ask(&["dead-letters", "list"]).await?;
    let letter = letters["letters"][0]["id"].as_str().with_context(|| format!("no letter: {letters:#}"))?.to_owned();
    ensure!(letters["all"] == 1 && letters["letters"][0]["key"] == id, "{letters:#}");
    let shown = site.ask(&["dead-letters", "show", &letter]).await?;
    ensure!(shown["record"] == record, "{shown:#}");

    let refused = site.give(&["dead-letters", "replay", &letter]).await?;
    ensure!(refused.code == 1, "a bad record doesn't get better: {refused:?}");
    record["registration_date"] = json!("2026-05-01T09:00:00");
    let file = site.path("repaired.json");
    std::fs::write(&file, record.to_string())?;
    site.ask(&["dead-letters", "replay", &letter, "--with", &file.display().to_string()]).await?;
    let repaired = record.clone();
    until("the repaired record is in the register", || async {
        let register = site.register().await?;
        ensure!(register.table("ien_applicants").contains_key(id), "not yet");
        Ok(())
    })
    .await?;
    // The system still has the bad one: reading it again doesn't undo the repair.
    site.ask(&["sync", "ats", "--full"]).await?;
    ensure!(site.ask(&["dead-letters", "list"]).await?["all"] == 0, "the letter is still open");
    ats.replace_raw(id, repaired);
    site.settles(&mut running, &ats).await?;

    let today = Utc::now().date_naive();
    let (from, to) = ((today - chrono::Days::new(30)).to_string(), today.to_string());
    let answer = site.ask(&["sync", "ats.applicant", "--from", &from, "--to", &to]).await?;
    ensure!(answer["done"] == true, "{answer:#}");
    let wrong = site.give(&["sync", "ats.applicants"]).await?;
    ensure!(wrong.code == 1 && wrong.stderr.contains("ats.applicant"), "{wrong:?}");

    // What others look at.
    ensure!(site.get("/health/live").await?.0 == 200);
    until("the process is ready", || async {
        let (code, why) = site.get("/health/ready").await?;
        ensure!(code == 200, "{why}");
        Ok(())
    })
    .await?;
    let (_, metrics) = site.get("/metrics").await?;
    for name in ["muster_lag_records", "muster_source_runs_total", "muster_dead_letters_total"] {
        ensure!(metrics.contains(name), "{name} isn't in the metrics:\n{metrics}");
    }
    let (code, runs) = site.get("/api/v1/sources/ats.applicant/runs").await?;
    ensure!(code == 200 && runs.contains("counts"), "{runs}");
    ensure!(site.get("/api/v1/sources/ats.applicant/runs/last-success").await?.0 == 200);
    ensure!(site.get("/api/v1/sources/nobody/runs/last-success").await?.0 == 404);

    let (code, took) = running.terminate().await?;
    ensure!(code == 0 && took.as_secs() < 10, "exit code {code} after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_stops_the_feeds_that_need_it_and_no_others() -> Result<()> {
    let (ats, server) = recruiters(100)?;
    let site = Site::embedded(&server.url()).await?;
    site.set_key("yesterday's")?;

    let refused = site.give(&["run", "--once"]).await?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(refused.stdout.contains("ApiKey") || refused.stderr.contains("api_key"), "no hint: {refused:?}");
    ensure!(!refused.stdout.contains("yesterday's") && !refused.stderr.contains("yesterday's"), "the key is printed");
    let register = site.register().await?;
    ensure!(register.table("ien_applicant_status").len() == ats.masters().milestones.len(), "the others didn't go on");
    ensure!(register.table("ien_applicants").is_empty());

    site.set_key(API_KEY)?;
    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_away_is_waited_for() -> Result<()> {
    let (ats, server) = recruiters(100)?;
    let site = Site::embedded(&server.url()).await?;
    let address: SocketAddr = server.url().trim_start_matches("http://").parse()?;
    server.stop().await;

    // Once: it says so and ends.
    let once = site.give(&["run", "--once"]).await?;
    ensure!(once.code == 3 || once.code == 1, "{once:?}");
    // Running: it waits, says so, and goes on by itself.
    let mut running = site.start()?;
    until("the process isn't ready", || async {
        let (code, why) = site.get("/health/ready").await?;
        ensure!(code == 503 && why.contains("ats"), "{code} {why}");
        Ok(())
    })
    .await?;
    let _server = ats.serve(address)?;
    ats.set_fault(Endpoint::Applicants, Fault::status(503), Some(3));
    site.settles(&mut running, &ats).await?;
    running.terminate().await?;
    Ok(())
}
