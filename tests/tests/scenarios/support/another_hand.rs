//! A register that somebody else has filled: the tables as the ATS contract describes them, and rows of an earlier sync, of
//! spreadsheets, of recruiters and of people, made from the recruiting system's lists and a seed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use simulators::ats::Ats;
use sqlx::{AssertSqlSafe, PgConnection};

/// The register's own tables: types, defaults, foreign keys and unique constraints are theirs.
pub const TABLES: &str = "
    create table ien_users (id uuid primary key default gen_random_uuid(), name varchar, email varchar unique,
        user_id varchar, created_date timestamptz not null default now());
    create table ien_ha_pcn (id uuid primary key default gen_random_uuid(), title varchar, abbreviation varchar,
        description varchar);
    create table ien_status_reasons (id uuid primary key, name varchar, i_e_n_program boolean, recruitment boolean);
    create table ien_applicant_status (id uuid primary key, status varchar, category varchar(256),
        version varchar(4) not null default '2');
    create type end_of_journey as enum ('journey_complete', 'journey_incomplete');
    create table ien_applicants (id uuid primary key, name varchar not null, ats1_id varchar unique,
        email_address varchar, phone_number varchar, registration_date date, assigned_to jsonb,
        country_of_citizenship jsonb, country_of_residence varchar, pr_status varchar, nursing_educations jsonb,
        bccnm_license_number varchar, notes jsonb, status_id uuid references ien_applicant_status (id),
        additional_data jsonb, is_open boolean not null default true, new_bccnm_process boolean not null default false,
        pathway_id uuid, end_of_journey end_of_journey, added_by_id uuid references ien_users (id),
        updated_by_id uuid references ien_users (id), deleted_date timestamptz, created_date timestamptz default now(),
        updated_date timestamptz default now(), backup json);
    create table ien_applicant_status_audit (id uuid primary key default gen_random_uuid(),
        status_id uuid not null references ien_applicant_status (id),
        applicant_id uuid not null references ien_applicants (id), job_id bigint, start_date date, notes varchar,
        added_by_id uuid references ien_users (id), updated_by_id uuid references ien_users (id),
        reason_id uuid references ien_status_reasons (id), reason_other varchar, effective_date date, type varchar,
        created_date timestamptz default now(), updated_date timestamptz default now(),
        unique (applicant_id, status_id, start_date), unique (applicant_id, status_id, start_date, job_id));
    create unique index undated_once on ien_applicant_status_audit (applicant_id, status_id) where start_date is null;
    create table sync_applicants_audit (id serial primary key, is_success boolean not null default false,
        additional_data jsonb, created_date timestamptz default now(), updated_date timestamptz default now());";

/// What spreadsheets leave in the notes of a milestone.
pub const SPREADSHEET: &str = "Updated by BCCNM/NCAS 2024";

/// What was put in, as far as what becomes of it is foretold.
#[derive(Default)]
pub struct Filled {
    /// All rows, of all tables.
    pub rows: usize,
    /// Table -> ids of rows that the recruiting system's entities are: their ids stay, their contents follow.
    pub adopted: BTreeMap<&'static str, BTreeSet<String>>,
    /// Milestones of the recruiting system that a spreadsheet has written down.
    pub held: usize,
}

struct Hand<'c> {
    connection: &'c mut PgConnection,
    random: fastrand::Rng,
    filled: Filled,
}

impl Hand<'_> {
    /// Puts a row in. `adopted`: it is one of the recruiting system's.
    async fn row(&mut self, table: &'static str, row: Value, adopted: bool) -> Result<()> {
        let columns: Vec<&String> = row.as_object().context("a row")?.keys().collect();
        let columns = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "insert into {table} ({columns}) select {columns} from json_populate_record(null::{table}, $1::json)"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(row.to_string()).execute(&mut *self.connection).await?;
        self.filled.rows += 1;
        if adopted {
            let id = row["id"].as_str().context("an id")?.to_owned();
            self.filled.adopted.entry(table).or_default().insert(id);
        }
        Ok(())
    }

    fn id(&mut self) -> String {
        let n = self.random.u128(..);
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            n as u32,
            (n >> 32) as u16,
            (n >> 48) & 0xfff,
            (n >> 60) & 0xfff,
            (n >> 72) & 0xffff_ffff_ffff
        )
    }

    fn day(&mut self) -> String {
        format!("{}-{:02}-{:02}", self.random.u32(2019..2024), self.random.u32(1..13), self.random.u32(1..29))
    }
}

fn low(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_lowercase()
}

/// Fills the register with so many rows.
pub async fn fill(connection: &mut PgConnection, ats: &Ats, rows: usize, seed: u64) -> Result<Filled> {
    sqlx::raw_sql(TABLES).execute(&mut *connection).await?;
    sqlx::raw_sql("begin").execute(&mut *connection).await?;
    let mut hand = Hand { connection, random: fastrand::Rng::with_seed(seed), filled: Filled::default() };
    let masters = ats.masters();

    // Statuses of an earlier sync, by the same ids; and those of recruiters.
    let mut known = BTreeSet::new();
    for status in &masters.milestones {
        let (id, category) = (low(&status["id"]), &status["category"]);
        if !["IEN Recruitment Process", "Recruitment"].contains(&category.as_str().unwrap_or_default()) {
            known.insert(id.clone());
        }
        hand.row(
            "ien_applicant_status",
            json!({ "id": id, "status": "as it was called", "category": category, "version": "1" }),
            true,
        )
        .await?;
    }
    let recruiting = hand.id();
    hand.row("ien_applicant_status", json!({ "id": recruiting, "status": "Interviewed", "version": "2" }), false)
        .await?;

    // Users by their addresses, in whatever case; one whose address was another one then; and people of the register.
    let mut addresses = BTreeSet::new();
    let once = |address: &String| masters.staff.iter().filter(|member| low(&member["email"]) == *address).count() == 1;
    let moved = masters.staff.iter().find(|member| once(&low(&member["email"]))).context("somebody with an address")?;
    addresses.insert(low(&moved["email"]));
    let row = json!({ "id": low(&moved["id"]), "name": "moved", "email": "former@register.example", "created_date": "2020-02-29T00:00:00Z" });
    hand.row("ien_users", row, true).await?;
    for member in &masters.staff {
        let address = low(&member["email"]);
        if address.is_empty() || !addresses.insert(address.clone()) || hand.random.u8(..) < 80 {
            continue;
        }
        let id = hand.id();
        hand.row("ien_users", json!({ "id": id, "name": "as on the badge", "email": address.to_uppercase(), "created_date": "2020-02-29T00:00:00Z" }), true).await?;
    }
    for n in 0..40 {
        let id = hand.id();
        hand.row("ien_users", json!({ "id": id, "name": format!("Clerk {n}"), "email": format!("clerk{n}@register.example"), "created_date": "2020-02-29T00:00:00Z" }), false).await?;
    }

    let mut numbers = BTreeSet::new();
    for applicant in ats.applicants() {
        let id = low(&applicant["applicant_id"]);
        let number = applicant["ats1_id"].to_string();
        if hand.random.bool() || !numbers.insert(number.clone()) {
            continue;
        }
        let row = json!({ "id": id, "name": "as it was", "ats1_id": number, "is_open": hand.random.bool(), "new_bccnm_process": false,
            "additional_data": { "first_name": "as", "nickname": format!("N{}", hand.random.u8(..)) },
            "backup": { "phone": hand.random.u32(..) }, "created_date": "2020-02-29T00:00:00Z", "updated_date": "2020-02-29T00:00:00Z" });
        hand.row("ien_applicants", row, true).await?;
        hand.milestones(&id, &applicant, &known).await?;
        let job = json!({ "id": hand.id(), "applicant_id": id, "status_id": recruiting, "job_id": hand.random.u32(..), "start_date": hand.day(), "notes": "interview" });
        hand.row("ien_applicant_status_audit", job, false).await?;
    }

    // Applicants whom the recruiting system doesn't know, with milestones of the same kinds.
    let known: Vec<&String> = known.iter().collect();
    while hand.filled.rows < rows {
        let id = hand.id();
        let row = json!({ "id": id, "name": "On paper", "ats1_id": format!("paper-{}", hand.filled.rows), "is_open": true, "new_bccnm_process": false,
            "additional_data": { "drawer": hand.random.u8(..) }, "created_date": "2020-02-29T00:00:00Z" });
        hand.row("ien_applicants", row, false).await?;
        for status in known.iter().take(4) {
            let notes = if hand.random.bool() { SPREADSHEET } else { "by hand" };
            let row = json!({ "id": hand.id(), "applicant_id": id, "status_id": status, "start_date": hand.day(), "notes": notes });
            hand.row("ien_applicant_status_audit", row, false).await?;
        }
    }
    for _ in 0..20 {
        let audit = "insert into sync_applicants_audit (is_success) values (true)";
        sqlx::query(audit).execute(&mut *hand.connection).await?;
    }
    let Hand { connection, filled, .. } = hand;
    sqlx::raw_sql("commit; analyze").execute(connection).await?;
    Ok(filled)
}

impl Hand<'_> {
    /// Some of an applicant's milestones as an earlier sync left them, some as a spreadsheet did.
    async fn milestones(&mut self, id: &str, applicant: &Value, known: &BTreeSet<String>) -> Result<()> {
        let mut written = BTreeSet::new();
        for milestone in applicant["milestones"].as_array().context("milestones")? {
            let status = low(&milestone["id"]);
            let day = milestone["start_date"].as_str().and_then(|at| at.get(..10));
            if !known.contains(&status) || !written.insert((status.clone(), day.map(str::to_owned))) {
                continue;
            }
            let (notes, adopted) = match self.random.u8(..4) {
                0 => (SPREADSHEET, false),
                1 | 2 => ("of an earlier sync", true),
                _ => continue,
            };
            self.filled.held += usize::from(!adopted);
            let row = json!({ "id": self.id(), "applicant_id": id, "status_id": status, "start_date": day, "notes": notes,
                "type": "imported", "created_date": "2020-02-29T00:00:00Z" });
            self.row("ien_applicant_status_audit", row, adopted).await?;
        }
        Ok(())
    }
}
