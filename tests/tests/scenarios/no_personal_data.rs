//! Keys and counts, never contents: every personal value is marked, everything that is printed is searched for the mark.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use simulators::ats::{Ats, AtsOptions, Endpoint};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use super::support::site::{API_KEY, Parts, Site};
use super::support::until;

const MARK: &str = "ZQXPRIVATE";

/// The register's owner allows no such number: what the database says about it quotes the whole row.
const FORBIDDEN: &str = "ZQXPRIVATE-604";

fn marked(value: &mut Value, fields: &[&str]) {
    for field in fields {
        if value[*field].is_string() {
            value[*field] = json!(format!("{MARK} {}", value[*field].as_str().unwrap_or_default()));
        }
    }
}

/// A recruiting system in which every name, address, number and note is marked.
fn recruiters() -> Result<Ats> {
    let options = AtsOptions {
        applicants: 150,
        api_key: API_KEY.into(),
        now: Utc::now(),
        ticking: true,
        ..AtsOptions::default()
    };
    let generated = Ats::generate(options.clone());
    let mut people = generated.applicants();
    for person in &mut people {
        marked(person, &["first_name", "last_name", "email_address", "phone_number"]);
        person["notes"] = json!([{ "text": format!("{MARK} called") }]);
        for milestone in person["milestones"].as_array_mut().into_iter().flatten() {
            marked(milestone, &["reason_other"]);
            milestone["notes"] = json!(format!("{MARK} was late"));
        }
        if let Some(assigned) = person["assigned_to"].as_array_mut() {
            assigned.iter_mut().for_each(|one| marked(one, &["name"]));
        }
    }
    let mut staff = generated.masters().staff;
    staff.iter_mut().for_each(|member| marked(member, &["name", "email"]));
    staff.push(json!({ "id": "5d3f3a52-9f5e-4b4b-8a44-2f1b7a5f7c11", "name": { "text": MARK }, "email": MARK }));
    let ats = Ats::from_feed(people, options);
    ats.set_master(Endpoint::Staff, staff);
    for (endpoint, rows) in
        [(Endpoint::Milestones, generated.masters().milestones), (Endpoint::Reasons, generated.masters().reasons)]
    {
        ats.set_master(endpoint, rows);
    }
    Ok(ats)
}

/// Records that can't be right, each with marked contents where something else belongs.
fn bad_records(like: &Value) -> Vec<Value> {
    let with = |number: u32, field: &str, value: Value| {
        let mut record = like.clone();
        record["applicant_id"] = json!(format!("0d9d3c52-6a1f-4f7e-9a55-0f6a4c1d2e{number:02x}"));
        record["ats1_id"] = json!(9_000_000 + number);
        record["updated_date"] = json!((Utc::now() - TimeDelta::hours(10)).format("%Y-%m-%dT%H:%M:%S").to_string());
        record[field] = value;
        record
    };
    vec![
        with(1, "registration_date", json!(format!("{MARK} on the first of May"))),
        with(2, "ats1_id", json!(MARK)),
        with(3, "first_name", json!({ "text": MARK })),
        with(4, "milestones", json!([{ "id": MARK, "start_date": MARK }])),
        with(5, "milestones", json!(MARK)),
        with(6, "nursing_educations", json!([MARK])),
        with(7, "assigned_to", json!([{ "id": null, "name": MARK }])),
        // The database takes no such text.
        with(8, "last_name", json!(format!("{MARK}\u{0}"))),
        with(9, "phone_number", json!(FORBIDDEN)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_is_printed_anywhere() -> Result<()> {
    let Some(postgres) = services::postgres().await? else { return Ok(()) };
    let database = postgres.database("no personal data").await?;
    let ats = recruiters()?;
    let server = ats.serve(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // So many bad ones at once would mean a wrong configuration.
    let more = "[rejects]\ncount = 1000\nshare = 1.0".to_owned();
    let parts = Parts { ats: server.url(), database: Some(database.url.clone()), more, ..Parts::default() };
    let site = Site::new(parts).await?;
    let mut printed: Vec<(String, String)> = Vec::new();
    let mut give = async |args: &[&str]| -> Result<i32> {
        let mut command = site.command(args);
        command.env("MUSTER_LOG", "debug");
        let done = super::support::program::finish(&mut command).await?;
        let code = done.code;
        printed.push((args.join(" "), done.stdout + &done.stderr));
        Ok(code)
    };

    ensure!(give(&["run", "--once"]).await? == 0, "the first load");
    let mut owner = PgConnection::connect(&database.url).await?;
    owner.execute("alter table ien_applicants add check (phone_number <> 'ZQXPRIVATE-604')").await?;
    owner.close().await?;
    let like = ats.applicants().into_iter().next().context("an applicant")?;
    for record in bad_records(&like) {
        ats.add_raw(record);
    }
    give(&["run", "--once"]).await?;
    give(&["--log-format", "json", "run", "--once"]).await?;
    for args in [
        &["status"][..],
        &["--json", "status"],
        &["dead-letters", "list"],
        &["--json", "dead-letters", "list"],
        &["check"],
        &["topics"],
        &["verify"],
        &["--json", "verify"],
    ] {
        give(args).await?;
    }
    let letters = site.ask(&["dead-letters", "list"]).await?;
    ensure!(letters["all"].as_u64() >= Some(10), "{letters:#}");
    let of_the_sink =
        letters["letters"].as_array().context("letters")?.iter().filter(|one| one["component"] == "register");
    ensure!(of_the_sink.count() >= 2, "the database refused nothing: {letters:#}");

    let mut command = site.command(&["run"]);
    command.env("MUSTER_LOG", "debug");
    let running = super::support::program::Running::start(&mut command, site.path("debug.log"))?;
    until("the process answers", || async {
        ensure!(site.get("/health/live").await?.0 == 200);
        Ok(())
    })
    .await?;
    // Spoilt rows are named, what is in them isn't, wherever it was put.
    let mut owner = PgConnection::connect(&database.url).await?;
    owner.execute("update ien_applicants set pr_status = 'ZQXPRIVATE by hand' where first_name > 'M'").await?;
    owner.close().await?;
    ensure!(give(&["verify", "--keys", "500"]).await? == 1, "the rows were spoilt");
    give(&["--json", "verify", "--repair"]).await?;
    ats.change_some(30);
    give(&["sync", "ats", "--full"]).await?;
    give(&["dead-letters", "replay", "--component", "register"]).await?;
    give(&["dead-letters", "replay", "--component", "ats.applicant"]).await?;
    for path in [
        "/metrics",
        "/health/ready",
        "/api/v1/sources",
        "/api/v1/sources/ats.applicant/runs",
        "/api/v1/sources/ats.applicant/runs/last-success",
    ] {
        printed.push((path.to_owned(), site.get(path).await?.1));
    }
    let everything = site.path("debug.log");
    running.terminate().await?;
    printed.push(("run".into(), std::fs::read_to_string(everything)?));

    for (what, text) in &printed {
        let line = text.lines().find(|line| line.contains(MARK));
        ensure!(line.is_none(), "{what} printed {line:?}");
    }
    // Keys and headers are read by everybody, too.
    let options = SqliteConnectOptions::new().filename(site.path("data/log.sqlite")).read_only(true);
    let mut log = options.connect().await?;
    let query = "select count(*) from records where instr(key, ?1) > 0 or instr(coalesce(headers, x''), ?1) > 0";
    let keys: i64 = sqlx::query_scalar(query).bind(MARK.as_bytes()).fetch_one(&mut log).await?;
    ensure!(keys == 0, "{keys} keys or headers hold contents");
    // The one place that shows contents, to whoever may: the test would find them.
    let letter = letters["letters"][0]["id"].as_str().context("a letter")?;
    ensure!(site.give(&["dead-letters", "show", letter]).await?.ok()?.stdout.contains(MARK), "show hides the record");
    Ok(())
}
