//! Somebody else writes milestones into the register, and they are fed back: where a spreadsheet's word counts, it takes the
//! place of the recruiting system's; when it is given up, that one's own is there again; and nothing goes on changing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use simulators::ats::Ats;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::support::another_hand::{SPREADSHEET, TABLES};
use super::support::kafka::Cluster;
use super::support::site::{Parts, Site};
use super::support::{recruiters, until};

/// Applied to BCCNM: of this, the spreadsheet's word counts.
const BCCNM: &str = "8a9b0d13-f5d7-4be3-8d38-11e5459f9e9a";
const PATTERN: &str = "%Updated by BCCNM/NCAS%";
const FEED: &str = "register.foreign_milestone";

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheets_milestone_wins_until_it_is_given_up_and_nothing_oscillates() -> Result<()> {
    let Some(cluster) = Cluster::find("spreadsheets").await? else { return Ok(()) };
    let (ats, server) = recruiters(60)?;
    let mut hand = PgConnection::connect(&cluster.database.url).await?;
    sqlx::raw_sql(TABLES).execute(&mut hand).await?;
    let parts = cluster.parts(&server.url());
    let more = format!("{}\n{}", parts.more, sheets(&cluster.database.url));
    let site = Site::new(Parts { more, ..parts }).await?;
    let milestones = "[sinks.register.to.sql.tables.milestone]";
    let theirs = format!("{milestones}\ntheirs = {{ notes = \"{PATTERN}\" }}");
    site.configure(|text| text.replace(milestones, &theirs))?;
    let mut running = site.start()?;
    site.settles(&mut running, &ats).await?;

    // One of another day, and one of the very day of the system's own, which goes for it.
    let people = applied(&ats)?;
    let [(ann, _), (ben, bens_day)] = &people[..2] else { unreachable!("there are two") };
    let own = format!("delete from ien_applicant_status_audit where applicant_id = '{ben}' and status_id = '{BCCNM}'");
    sqlx::query(AssertSqlSafe(own)).execute(&mut hand).await?;
    for (applicant, day) in [(ann, "2031-05-01"), (ben, bens_day.as_str())] {
        let row = format!(
            "insert into ien_applicant_status_audit (applicant_id, status_id, start_date, notes)
             values ('{applicant}', '{BCCNM}', '{day}', '{SPREADSHEET}')"
        );
        sqlx::query(AssertSqlSafe(row)).execute(&mut hand).await?;
    }
    let wins = until("the spreadsheet's is the only one, and the status follows", || async {
        let mut looking = PgConnection::connect(&cluster.database.url).await?;
        for (applicant, day) in [(ann, "2031-05-01"), (ben, bens_day.as_str())] {
            let held = days(&mut looking, applicant).await?;
            ensure!(held == [day.to_owned()], "{held:?}");
        }
        let status = "select status_id::text from ien_applicants where id = $1::uuid";
        let status: Option<String> = sqlx::query_scalar(status).bind(ann).fetch_one(&mut looking).await?;
        ensure!(status.as_deref() == Some(BCCNM), "{status:?}");
        let in_topic = super::support::kafka::latest(&cluster.kafka.bootstrap(), "register.milestone")?;
        let bens = format!("{ben}|{BCCNM}|");
        ensure!(!in_topic.keys().any(|key| key.starts_with(bens.as_bytes())), "the system's own is still there");
        Ok(())
    });
    running.during(wins).await?;
    stands_still(&site, &cluster).await?;

    let gives_up = format!("delete from ien_applicant_status_audit where notes = '{SPREADSHEET}'");
    ensure!(
        sqlx::query(AssertSqlSafe(gives_up)).execute(&mut hand).await?.rows_affected() == 2,
        "both are theirs still"
    );
    site.settles(&mut running, &ats).await?;
    stands_still(&site, &cluster).await?;
    site.agrees_with(&ats).await?;
    site.ledger_balances().await?;
    running.terminate().await?;
    Ok(())
}

/// The register's table, as a source.
fn sheets(url: &str) -> String {
    format!(
        "[sources.sheets]\nevery = \"500ms\"\nvanished = \"delete\"\nvanished_max_share = \"100%\"\n\
         reconcile = {{ every = \"500ms\" }}\n\
         [sources.sheets.from.tables]\nurl = \"{url}\"\nsystem = \"register\"\ntimestamp_zone = \"UTC\"\n\
         [sources.sheets.from.tables.tables.foreign_milestone]\ntable = \"ien_applicant_status_audit\"\n\
         key = [\"applicant_id\", \"id\"]\npartition_key = [\"applicant_id\"]\n\
         columns = [\"status_id\", \"start_date\", \"updated_date\"]\n\
         like = {{ notes = \"{PATTERN}\" }}\nnull = [\"muster_key\"]\n"
    )
}

/// Applicants who have applied once, with the day.
fn applied(ats: &Ats) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for applicant in ats.applicants() {
        let own = applicant["milestones"].as_array().context("milestones")?.iter();
        let own: Vec<&Value> =
            own.filter(|one| one["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(BCCNM))).collect();
        if let ([one], Some(id)) = (&own[..], applicant["applicant_id"].as_str())
            && let Some(day) = one["start_date"].as_str().and_then(|day| day.get(..10))
        {
            found.push((id.to_lowercase(), day.to_owned()));
        }
    }
    ensure!(found.len() >= 2, "{} have applied", found.len());
    Ok(found)
}

async fn days(connection: &mut PgConnection, applicant: &str) -> Result<Vec<String>> {
    let sql = "select start_date::text from ien_applicant_status_audit where applicant_id = $1::uuid and status_id = $2::uuid";
    Ok(sqlx::query_scalar(sql).bind(applicant).bind(BCCNM).fetch_all(connection).await?)
}

/// While the table is compared three times more, nothing is appended anywhere between the two.
async fn stands_still(site: &Site, cluster: &Cluster) -> Result<()> {
    // A vanished row is told of by the second comparison: what is under way now has ended by the third.
    runs_again(site, 3).await?;
    let before = ends(cluster)?;
    runs_again(site, 3).await?;
    let after = ends(cluster)?;
    ensure!(before == after, "{before:?}, then {after:?}");
    Ok(())
}

async fn runs_again(site: &Site, times: usize) -> Result<()> {
    let newest = || async {
        let (_, runs) = site.get(&format!("/api/v1/sources/{FEED}/runs?limit=1000")).await?;
        let runs: Value = serde_json::from_str(&runs)?;
        let runs = runs.as_array().or(runs["runs"].as_array()).map_or(0, Vec::len);
        anyhow::Ok(runs)
    };
    let first = newest().await?;
    until("the table is compared again", || async {
        let now = newest().await?;
        ensure!(now >= first + times, "{} times", now - first);
        Ok(())
    })
    .await
}

fn ends(cluster: &Cluster) -> Result<BTreeMap<(&'static str, i32), i64>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.kafka.bootstrap())
        .set("group.id", "somebody-else")
        .create()?;
    tokio::task::block_in_place(|| {
        let mut ends = BTreeMap::new();
        for topic in [FEED, "register.milestone", "register.applicant"] {
            for partition in 0..12 {
                let (_, end) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(10))?;
                ends.insert((topic, partition), end);
            }
        }
        Ok(ends)
    })
}
