//! A real feed, scrambled by its owner: generated data is never as odd as this. Every applicant and every milestone of
//! the file must be accounted for in the register.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use chrono::Utc;
use serde_json::Value;
use simulators::ats::{Ats, AtsOptions};

use super::support::site::{API_KEY, Site};

const FEED: &str = include_str!("../../recorded/ats/applicants.json");

#[tokio::test(flavor = "multi_thread")]
async fn every_applicant_and_milestone_of_the_file_is_in_the_register() -> Result<()> {
    let feed: Vec<Value> = serde_json::from_str(FEED)?;
    let options = AtsOptions { api_key: API_KEY.into(), now: Utc::now(), ticking: true, ..AtsOptions::default() };
    let ats = Ats::from_feed(feed.clone(), options);
    let server = ats.serve(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let site = Site::embedded(&server.url()).await?;

    let counts = site.ask(&["run", "--once"]).await?;

    // Column by column, with what the masters say.
    site.agrees_with(&ats).await?;
    // And by the file alone: nobody is missing, and nobody else is there.
    let register = site.register().await?;
    let people: BTreeSet<String> =
        feed.iter().filter_map(|one| one["applicant_id"].as_str()).map(str::to_lowercase).collect();
    ensure!(register.table("ien_applicants").keys().eq(people.iter()), "other applicants than in the file");
    ensure!(counts["components"]["ats.applicant"]["read"] == feed.len(), "{counts:#}");
    ensure!(counts["components"]["ats.applicant"]["rejected"] == 0, "{counts:#}");
    let (mut kept, mut left_out) = (0, 0);
    for applicant in &feed {
        let id = applicant["applicant_id"].as_str().unwrap_or_default().to_lowercase();
        for milestone in applicant["milestones"].as_array().into_iter().flatten() {
            let status = milestone["id"].as_str().unwrap_or_default().to_lowercase();
            let day: String = milestone["start_date"].as_str().unwrap_or_default().chars().take(10).collect();
            let row = register.table("ien_applicant_status_audit").get(&format!("{id}|{status}|{day}"));
            let category = &register.table("ien_applicant_status")[&status]["category"];
            if category == "IEN Recruitment Process" {
                ensure!(row.is_none(), "a recruitment milestone of {id} is in the register");
                left_out += 1;
            } else {
                ensure!(row.is_some(), "{id} lost a milestone: {status} {day}");
                kept += 1;
            }
        }
    }
    ensure!(
        kept == register.table("ien_applicant_status_audit").len(),
        "{kept} milestones in the file, left out {left_out}"
    );
    ensure!(register.waiting.is_empty(), "{:?}", register.waiting);
    site.ledger_balances().await?;
    Ok(())
}
