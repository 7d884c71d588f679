//! Somebody's register, 5,000 rows from another hand: the first start takes over what is the recruiting system's and
//! leaves all else as it is, byte for byte. With the example configuration as it is shipped, and with versions at both
//! places.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::support::another_hand::{Filled, fill};
use super::support::recruiters;
use super::support::site::{Parts, Site};

const EXAMPLE: &str = include_str!("../../../docker/muster.toml");
const ROWS: usize = 5_000;

/// What Muster may write in rows that it has taken over. Everything else is theirs.
const OWNED: [(&str, &[&str]); 7] = [
    ("ien_users", &["name", "email", "user_id"]),
    ("ien_ha_pcn", &["title", "abbreviation"]),
    ("ien_status_reasons", &["name", "i_e_n_program", "recruitment"]),
    ("ien_applicant_status", &["status", "category"]),
    (
        "ien_applicants",
        &[
            "name",
            "ats1_id",
            "email_address",
            "phone_number",
            "registration_date",
            "assigned_to",
            "country_of_citizenship",
            "country_of_residence",
            "pr_status",
            "nursing_educations",
            "bccnm_license_number",
            "notes",
            "status_id",
            "new_bccnm_process",
            "pathway_id",
            "end_of_journey",
            "created_date",
            "updated_date",
        ],
    ),
    (
        "ien_applicant_status_audit",
        &[
            "status_id",
            "applicant_id",
            "start_date",
            "notes",
            "added_by_id",
            "reason_id",
            "reason_other",
            "effective_date",
            "created_date",
            "updated_date",
        ],
    ),
    ("sync_applicants_audit", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_register_is_taken_over_and_what_is_theirs_stays_with_versions_in_columns() -> Result<()> {
    a_register_is_taken_over("column").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_is_taken_over_and_what_is_theirs_stays_with_versions_beside() -> Result<()> {
    a_register_is_taken_over("side").await
}

async fn a_register_is_taken_over(versions: &str) -> Result<()> {
    let Some(postgres) = services::postgres().await? else { return Ok(()) };
    let database = postgres.database(&format!("register_{versions}")).await?;
    let (ats, server) = recruiters(600)?;
    let mut theirs = PgConnection::connect(&database.url).await?;
    let filled = fill(&mut theirs, &ats, ROWS, 7).await?;
    let before = everything(&mut theirs).await?;

    let url = database.url.clone();
    let parts = Parts { ats: server.url(), database: Some(url.clone()), ..Parts::default() };
    let site = Site::new(parts).await?;
    site.configure(|text| with_the_example(&text, &url, versions))?;

    // The plan says beforehand whose is what.
    let plan = site.ask(&["plan"]).await?;
    let survey = |table: &str| surveyed(&plan, table);
    let milestones = survey("ien_applicant_status_audit")?;
    ensure!(milestones["ours"] == 0 && milestones["theirs"].as_u64() >= Some(filled.held as u64), "{milestones:#}");
    ensure!(milestones["ambiguous_values"] == 0, "{milestones:#}");
    let applicants = survey("ien_applicants")?;
    ensure!(applicants["rows"] == before["ien_applicants"].len(), "{applicants:#}");
    let names = |list: &str| -> BTreeSet<&str> {
        applicants[list].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    ensure!(names("never_written").contains("backup"), "{applicants:#}");
    ensure!(names("set_on_insert").contains("is_open"), "{applicants:#}");
    ensure!(names("kept_up_to_date").contains("additional_data (first_name, last_name)"), "{applicants:#}");

    site.give(&["run", "--once"]).await?.ok()?;
    let first = everything(&mut theirs).await?;
    theirs_are_untouched(&before, &first, &filled, false)?;
    ensure!(waiting(&mut theirs, "held_by_others").await? == filled.held as u64, "spreadsheets' milestones");
    holds_the_systems(&first, &ats.applicants())?;
    ensure!(columns_of_ours(&mut theirs).await? == if versions == "column" { 18 } else { 0 }, "columns of ours");
    let plan = site.ask(&["plan"]).await?;
    let milestones = surveyed(&plan, "ien_applicant_status_audit")?;
    ensure!(milestones["waiting"]["held_by_others"] == filled.held, "{milestones:#}");
    ensure!(plan["sinks"]["register"]["statements"].as_array().is_some_and(Vec::is_empty), "{plan:#}");

    // A second pass has nothing to say, and what changes afterwards changes the same rows.
    site.give(&["run", "--once"]).await?.ok()?;
    ensure!(everything(&mut theirs).await? == first, "the second pass wrote rows that hadn't changed");
    ats.change_some(40);
    ats.add_applicant();
    site.give(&["run", "--once"]).await?.ok()?;
    let second = everything(&mut theirs).await?;
    // Milestones that the system no longer has go, even those that were taken over.
    theirs_are_untouched(&before, &second, &filled, true)?;
    holds_the_systems(&second, &ats.applicants())?;

    // The spreadsheet gives one up: the system's own comes in its place.
    let given_up = "delete from ien_applicant_status_audit where id = (select a.id from ien_applicant_status_audit a
        join muster.parked p on p.code = 'held_by_others' and p.key like a.applicant_id || '|' || a.status_id || '|%'
        and a.notes like '%BCCNM/NCAS%' and coalesce(a.start_date::text, '') = split_part(p.key, '|', 3) limit 1)";
    ensure!(sqlx::query(given_up).execute(&mut theirs).await?.rows_affected() == 1, "one goes");
    let held = waiting(&mut theirs, "held_by_others").await?;
    let mut running = site.start()?;
    let comes = super::support::until("the milestone comes in", || async {
        let mut looking = PgConnection::connect(&database.url).await?;
        let left = waiting(&mut looking, "held_by_others").await?;
        ensure!(left == held - 1, "{left} wait");
        Ok(())
    });
    running.during(comes).await?;
    running.terminate().await?;
    site.ledger_balances().await?;
    Ok(())
}

/// The example's target instead of the scenarios' own.
fn with_the_example(text: &str, url: &str, versions: &str) -> String {
    let own = text.find("# The register's tables").unwrap_or(text.len());
    let example = EXAMPLE.find("[sinks.register.to.sql]").map_or("", |at| &EXAMPLE[at..]);
    let example = example.find("[operations]").map_or(example, |end| &example[..end]);
    let example: String =
        example.lines().filter(|line| !line.starts_with("password = ")).fold(String::new(), |mut all, line| {
            let line =
                if line.starts_with("url = ") { &format!("url = {url:?}\nversions = {versions:?}") } else { line };
            all.push_str(line);
            all.push('\n');
            all
        });
    format!("{}{example}", &text[..own])
}

type Rows = BTreeMap<String, Map<String, Value>>;

/// All rows of all of the register's tables, by their ids, without columns of ours.
async fn everything(connection: &mut PgConnection) -> Result<BTreeMap<&'static str, Rows>> {
    let mut all = BTreeMap::new();
    for (table, _) in OWNED {
        let sql = format!("select id::text, to_jsonb(t)::text from {table} t");
        let mut rows = Rows::new();
        for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *connection).await? {
            let mut contents: Map<String, Value> = serde_json::from_str(row.try_get(1)?)?;
            contents.retain(|column, _| !column.starts_with("muster_"));
            rows.insert(row.try_get(0)?, contents);
        }
        all.insert(table, rows);
    }
    Ok(all)
}

/// Every row that was there is there; what isn't the system's is as it was, and of the others the columns that aren't.
fn theirs_are_untouched(
    before: &BTreeMap<&'static str, Rows>,
    after: &BTreeMap<&'static str, Rows>,
    filled: &Filled,
    adopted_may_go: bool,
) -> Result<()> {
    let mut seen = 0;
    for (table, owned) in OWNED {
        let adopted = filled.adopted.get(table);
        for (id, was) in &before[table] {
            let is_adopted = adopted.is_some_and(|ids| ids.contains(id));
            seen += 1;
            let is = after[table].get(id);
            if is.is_none() && is_adopted && adopted_may_go {
                continue;
            }
            let is = is.with_context(|| format!("{table} {id} is gone"))?;
            let theirs = |row: &Map<String, Value>| {
                let mut row = row.clone();
                if is_adopted {
                    row.retain(|column, _| !owned.contains(&column.as_str()));
                    if let Some(Value::Object(data)) = row.get_mut("additional_data") {
                        data.retain(|name, _| !["first_name", "last_name"].contains(&name.as_str()));
                    }
                }
                row
            };
            ensure!(theirs(was) == theirs(is), "{table} {id} (adopted: {is_adopted}) has changed");
        }
    }
    ensure!(seen >= ROWS, "{seen} rows were there");
    Ok(())
}

/// Applicants of the system are in the register, under their own ids; of two with one number, one is.
fn holds_the_systems(rows: &BTreeMap<&'static str, Rows>, applicants: &[Value]) -> Result<()> {
    let mut numbers = BTreeSet::new();
    for applicant in applicants {
        let id = applicant["applicant_id"].as_str().unwrap_or_default().to_lowercase();
        let Some(row) = rows["ien_applicants"].get(&id) else {
            ensure!(
                applicants.iter().filter(|other| other["ats1_id"] == applicant["ats1_id"]).count() > 1,
                "{id} is missing"
            );
            continue;
        };
        numbers.insert(row["ats1_id"].as_str().unwrap_or_default());
        for name in ["first_name", "last_name"] {
            ensure!(row["additional_data"][name] == applicant[name], "{id}: {name}");
        }
    }
    let wanted: BTreeSet<String> = applicants.iter().map(|applicant| applicant["ats1_id"].to_string()).collect();
    ensure!(numbers.len() == wanted.len(), "{} of {} numbers", numbers.len(), wanted.len());
    Ok(())
}

fn surveyed<'p>(plan: &'p Value, table: &str) -> Result<&'p Value> {
    let tables = plan["sinks"]["register"]["tables"].as_array().context("a survey")?;
    tables.iter().find(|survey| survey["table"] == table).with_context(|| format!("{table} isn't surveyed"))
}

async fn waiting(connection: &mut PgConnection, code: &str) -> Result<u64> {
    let sql = "select count(*) from muster.parked where code = $1";
    let count: i64 = sqlx::query_scalar(sql).bind(code).fetch_one(connection).await?;
    Ok(count.unsigned_abs())
}

async fn columns_of_ours(connection: &mut PgConnection) -> Result<i64> {
    let sql = "select count(*) from information_schema.columns where table_schema = 'public' and column_name like 'muster\\_%'";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
