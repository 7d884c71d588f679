//! The applicant register: somebody's tables, with rows of theirs, as the ATS contract describes them.

use pipeline::change::{Epoch, Incarnation, Version};
use pipeline::config;
use pipeline::log::Offset;
use pipeline::processor::Payload;
use pipeline::sink::{Assigned, Batch, Delivery, Part, Sink};
use schemas::{Profile, catalogue, content_hash, from_json};
use serde_json::{Value as Json, json};

use super::rota::{Target, ours};
use crate::sql::{SqlConfig, SqlSettings, SqlSink};

const TABLES: &str = "
    create table ien_users (id uuid primary key, name varchar, email varchar unique, user_id varchar,
        created_date timestamptz not null default now());
    create table ien_status_reasons (id uuid primary key, name varchar, i_e_n_program boolean, recruitment boolean);
    create table ien_applicant_status (id uuid primary key, status varchar, category varchar(256),
        version varchar(4) not null default '2');
    create type journey as enum ('journey_complete', 'journey_incomplete');
    create table ien_applicants (id uuid primary key, name varchar not null, ats1_id varchar unique,
        email_address varchar, phone_number varchar, registration_date date, assigned_to jsonb,
        country_of_citizenship jsonb, country_of_residence varchar, pr_status varchar, nursing_educations jsonb,
        bccnm_license_number varchar, notes jsonb, status_id uuid references ien_applicant_status (id),
        is_open boolean not null default true, new_bccnm_process boolean, pathway_id uuid, end_of_journey journey,
        created_date timestamptz, updated_date timestamptz);
    create table ien_applicant_status_audit (id uuid primary key,
        status_id uuid not null references ien_applicant_status (id),
        applicant_id uuid not null references ien_applicants (id), job_id bigint, start_date date, notes varchar,
        added_by_id uuid references ien_users (id), reason_id uuid references ien_status_reasons (id),
        reason_other varchar, effective_date date, created_date timestamptz, updated_date timestamptz,
        unique (applicant_id, status_id, start_date));
    create unique index undated on ien_applicant_status_audit (applicant_id, status_id) where start_date is null;";

pub(super) const SETTINGS: &str = r#"
    [tables.user]
    table = "ien_users"
    key = "id"
    match = ["email"]
    unique = [["email"]]
    [tables.reason]
    table = "ien_status_reasons"
    key = "id"
    [tables.status]
    table = "ien_applicant_status"
    key = "id"
    initial = { version = "2" }
    [tables.applicant]
    table = "ien_applicants"
    key = "id"
    unique = [["ats1_id"]]
    initial = { is_open = true }
    keeps = { end_of_journey = "journey_complete" }
    refers = { status_id = "status" }
    [tables.applicant.columns]
    applicant_id = "id"
    name = "name"
    ats1_id = "ats1_id"
    registration_date = "registration_date"
    assigned_to = "assigned_to"
    nursing_educations = "nursing_educations"
    notes = "notes"
    status_id = "status_id"
    end_of_journey = "end_of_journey"
    updated_date = "updated_date"
    [tables.milestone]
    table = "ien_applicant_status_audit"
    key = "id"
    refers = { applicant_id = "applicant", status_id = "status", reason_id = "reason", added_by_id = "user" }
"#;

struct Register {
    sink: SqlSink,
    offsets: std::collections::BTreeMap<String, i64>,
}

impl Register {
    async fn start(target: &dyn Target) -> Self {
        let file = format!("url = {:?}\n{SETTINGS}", target.url());
        let settings = config::read("muster.toml", &file, SqlSettings::read).unwrap();
        let config = SqlConfig { versions: target.versions(), ..settings.resolve(&|_| None).unwrap() };
        let sink =
            SqlSink::new("register", &config, catalogue(), &|topic| topic.partitions(Profile::Embedded)).unwrap();
        let topics: Vec<_> = settings.topics().map(of).collect();
        sink.assigned(&topics).await.unwrap();
        Self { sink, offsets: std::collections::BTreeMap::new() }
    }

    /// Delivers all in one batch; answers how many were delivered and parked.
    async fn tell(&mut self, version: i64, all: &[(&str, Json)]) -> (u64, u64) {
        let mut parts = Vec::new();
        for topic in ["user", "reason", "status", "applicant", "milestone"].map(|entity| format!("register.{entity}")) {
            let entity = catalogue().entity(&topic).unwrap();
            let mut deliveries = Vec::new();
            for (_, value) in all.iter().filter(|(name, _)| topic.ends_with(&format!(".{name}"))) {
                let body = from_json(&entity.schema, value).unwrap();
                deliveries.push(Delivery {
                    key: entity.key_of(&body).unwrap(),
                    version: Version(version),
                    hash: Some(content_hash(&entity.schema, &body).unwrap()),
                    offset: Offset(version),
                    payload: Some(Payload { schema: entity.schema.clone(), body: body.into() }),
                });
            }
            let expected = self.offsets.entry(topic.clone()).or_insert(0);
            let next = *expected + deliveries.len() as i64;
            let part = Part {
                of: of(&topic),
                deliveries,
                expected: Offset(*expected),
                next: Offset(next),
                landmark: None,
                sweeping: false,
            };
            *expected = next;
            parts.push(part);
        }
        let counts = self.sink.apply(&Batch { parts }).await.unwrap().counts;
        counts.balanced().unwrap();
        (counts.delivered, counts.parked)
    }
}

fn of(topic: &str) -> Assigned {
    let topic = catalogue().topic(topic).unwrap().clone();
    Assigned { topic, partition: 0, incarnation: Incarnation("one".to_owned()), epoch: Epoch(1) }
}

fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn applicant(n: u32, ats1_id: &str, status: u32) -> (&'static str, Json) {
    let educations = json!([{"id": id(70), "name": "Bachelor of Science in Nursing", "country": "ph"}]);
    let value = json!({
        "applicant_id": id(n), "name": "Ann Invented", "first_name": "Ann", "last_name": "Invented",
        "ats1_id": ats1_id, "email_address": "", "phone_number": "", "registration_date": "2024-02-29",
        "pr_status": "No status", "nursing_educations": educations, "notes": "{\"seen\": true}",
        "status_id": id(status), "new_bccnm_process": true, "end_of_journey": "journey_incomplete",
        "updated_date": "2024-03-01T08:00:00.600000Z",
    });
    ("applicant", value)
}

fn milestone(n: u32, applicant: u32, day: Option<&str>, added_by: u32) -> (&'static str, Json) {
    let value = json!({
        "id": id(n), "applicant_id": id(applicant), "status_id": id(30), "start_date": day, "added_by_id": id(added_by),
        "notes": "from the ATS",
    });
    ("milestone", value)
}

/// On PostgreSQL: the types are its own.
pub(super) async fn the_register_takes_in_what_is_there(target: &dyn Target) {
    target.execute(TABLES).await;
    let theirs = format!(
        "insert into ien_users (id, name, email) values ('{}', 'Una', 'una@clinic.example'), ('{}', 'Nobody', null), ('{}', 'By hand', null);
        insert into ien_applicant_status values ('{}', 'Recruited', null, '1'), ('{}', 'Old name', null, '1');
        insert into ien_applicants (id, name) values ('{}', 'By hand');
        insert into ien_applicant_status_audit (id, status_id, applicant_id, start_date, notes)
            values ('{}', '{}', '{}', '2024-01-01', 'Updated by BCCNM')",
        id(900),
        id(901),
        id(3),
        id(31),
        id(30),
        id(902),
        id(903),
        id(31),
        id(902),
    );
    target.execute(&theirs).await;
    let mut register = Register::start(target).await;
    let all = [
        ("user", json!({"id": id(1), "name": "Una Invented", "email": "una@clinic.example", "user_id": id(1)})),
        ("user", json!({"id": id(2), "name": "No Mail"})),
        ("user", json!({"id": id(3), "name": "No Mail Either"})),
        ("status", json!({"id": id(30), "status": "Applied", "category": "IEN Licensing/Registration Process"})),
        applicant(10, "7001", 30),
        applicant(11, "7001", 30),
        milestone(50, 10, Some("2024-03-05"), 1),
        milestone(51, 10, None, 2),
        milestone(52, 11, None, 1),
    ];
    // 11 claims a number that 10 has: it waits, and its milestone with it.
    assert_eq!(register.tell(1, &all).await, (7, 2));

    let users = "select id, name, email from ien_users order by id";
    let expected = [
        format!("{} No Mail -", id(2)),
        // Without an address, staff are known by their id.
        format!("{} No Mail Either -", id(3)),
        format!("{} Una Invented una@clinic.example", id(900)),
        format!("{} Nobody -", id(901)),
    ];
    assert_eq!(target.rows(users).await, expected);
    // Una's milestone points to the row that was hers before.
    let milestones =
        "select id, added_by_id, start_date from ien_applicant_status_audit where notes = 'from the ATS' order by id";
    let expected = [format!("{} {} 2024-03-05", id(50), id(900)), format!("{} {} -", id(51), id(2))];
    assert_eq!(target.rows(milestones).await, expected);
    assert_eq!(
        target.rows("select version, status from ien_applicant_status order by id").await,
        ["1 Applied", "1 Recruited"]
    );
    let row =
        "select registration_date, end_of_journey, is_open, notes ->> 'seen', nursing_educations -> 0 ->> 'country',
        updated_date at time zone 'UTC' from ien_applicants where ats1_id = '7001'";
    assert_eq!(target.rows(row).await, ["2024-02-29 journey_incomplete t true ph 2024-03-01 08:00:00.6"]);

    // The first gives the number up: who waited comes in, its milestone too.
    assert_eq!(register.tell(2, &[applicant(10, "7002", 30)]).await, (1, 0));
    assert_eq!(target.rows("select ats1_id from ien_applicants order by id").await, ["7002", "7001", "-"]);
    assert_eq!(target.rows("select count(*) from ien_applicant_status_audit").await, ["4"]);
    // The journey's end is the register's own to say, until the ATS says something else.
    target.execute("update ien_applicants set end_of_journey = 'journey_complete'").await;
    let (entity, mut on_the_way) = applicant(10, "7003", 30);
    on_the_way["end_of_journey"] = Json::Null;
    register.tell(3, &[(entity, on_the_way), applicant(11, "7001", 30)]).await;
    let is_ours = |entity: &str, table: &str| {
        format!("id::text in (select id from {} o)", ours(target, &format!("register.{entity}"), table))
    };
    let applicants = is_ours("applicant", "ien_applicants");
    let journeys = format!("select end_of_journey from ien_applicants where {applicants} order by id");
    assert_eq!(target.rows(&journeys).await, ["journey_complete", "journey_incomplete"]);
    // What is theirs is as it was.
    let milestones = is_ours("milestone", "ien_applicant_status_audit");
    let theirs = format!(
        "select name from ien_applicants where not {applicants}
        union all select notes from ien_applicant_status_audit where not {milestones}"
    );
    assert_eq!(target.rows(&theirs).await, ["By hand", "Updated by BCCNM"]);
}

/// Into an empty database, tables included.
pub(super) async fn the_register_makes_its_own_tables(target: &dyn Target) {
    let mut register = Register::start(target).await;
    let status = ("status", json!({"id": id(30), "status": "Applied"}));
    let user = ("user", json!({"id": id(1), "name": "Una Invented", "email": "una@clinic.example"}));
    let all = [status, user, applicant(10, "7001", 30), milestone(50, 10, Some("2024-03-05"), 1)];
    assert_eq!(register.tell(1, &all).await, (4, 0));
    let joined = "select a.ats1_id, s.status, u.email from ien_applicant_status_audit m
        join ien_applicants a on a.id = m.applicant_id join ien_applicant_status s on s.id = m.status_id
        join ien_users u on u.id = m.added_by_id";
    assert_eq!(target.rows(joined).await, ["7001 Applied una@clinic.example"]);
}
