//! Values and names that only a real database holds.

use super::*;

#[tokio::test]
async fn every_type_has_its_place() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            r#"create type mood as enum ('calm', 'busy');
            create domain grade as numeric(4, 1);
            create table nurses (
                id uuid primary key, "select" int2, "Given ""name""" varchar(20), pay numeric(12, 2), odds numeric, share float4,
                is_open bool, born date, seen timestamp, updated_at timestamptz, about jsonb, raw json, moods mood[], "numbers" int4[],
                photo bytea, address inet, span interval, level grade, days date[], letter char(3), label text
            );
            insert into nurses values (
                '0D6BCFE1-fb00-45cb-a9c6-c6a53da12e62', 7, 'Ann ''x''', -12.5, 1.2345678901234567890123, 0.5,
                true, '1912-06-23', '2024-02-29 12:30:00.000001', '2024-02-29 12:30:00+02', '{"b": [1, {"c": null}], "a": "ü"}',
                '{"b":1}', '{calm,NULL,busy}', '{}', '\x00ff', '10.0.0.1/8', '1 year 2 days', 99.5, '{2024-01-01}', 'ab', 'tab	'
            );
            insert into nurses (id) values ('0d6bcfe1-fb00-45cb-a9c6-c6a53da12e63')"#,
        )
        .await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert!(follower.rejects.is_empty(), "{:?}", follower.rejects);
    let kinds = follower.announced[0].fields().iter().map(|field| format!("{}: {}", field.name, field.kind));
    let full = &follower.topic["0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62"];
    let empty = &follower.topic["0d6bcfe1-fb00-45cb-a9c6-c6a53da12e63"];
    let values =
        follower.announced[0].fields().iter().map(|field| format!("{} | {}", full[&field.name], empty[&field.name]));
    let shown: Vec<String> = kinds.zip(values).map(|(kind, values)| format!("{kind} = {values}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    id: uuid = "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62" | "0d6bcfe1-fb00-45cb-a9c6-c6a53da12e63"
    select: long = 7 | null
    Given__name_: string = "Ann 'x'" | null
    pay: decimal(12,2) = "-12.50" | null
    odds: string = "1.2345678901234567890123" | null
    share: double = 0.5 | null
    is_open: boolean = true | null
    born: date = "1912-06-23" | null
    seen: timestamp-micros = "2024-02-29T12:30:00.000001Z" | null
    updated_at: timestamp-micros = "2024-02-29T10:30:00.000000Z" | null
    about: json = "{\"a\": \"ü\", \"b\": [1, {\"c\": null}]}" | null
    raw: json = "{\"b\":1}" | null
    moods: array of string = ["calm",null,"busy"] | null
    numbers: array of long = [] | null
    photo: bytes = "00ff" | null
    address: string = "10.0.0.1/8" | null
    span: string = "P1Y2D" | null
    level: decimal(4,1) = "99.5" | null
    days: array of date = ["2024-01-01"] | null
    letter: string = "ab" | null
    label: string = "tab\t" | null
    "#);
}

#[tokio::test]
async fn what_no_topic_can_hold_is_set_aside_by_column_and_never_shown_in_the_reason() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table nurses (id int primary key, born date, updated_at timestamptz, pay numeric(6, 2), numbers int[]);
            insert into nurses values (1, 'infinity', now(), 1, null), (2, '10000-01-01', now(), 1, null), (3, null, '-infinity', 1, null),
                (4, null, 'infinity', 1, null), (5, '0044-03-15 BC', now(), 1, null), (6, null, now(), 'NaN', null),
                (7, null, now(), 1, '{{1,2},{3,4}}'), (8, 'infinity', now(), 'NaN', '{}'), (9, '2024-01-01', now(), 1, '{1}')",
        )
        .await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.keys(), ["9"]);
    let told = follower.rejects.iter().map(|reject| {
        let shown: Json = serde_json::from_slice(&reject.raw).unwrap();
        let shown = ["born", "updated_at", "pay"].map(|field| shown[field].as_str().unwrap_or("-").to_owned());
        let shown = shown.map(|text| if text.starts_with("20") { "now".to_owned() } else { text });
        format!("{} {} {}", reject.key.as_ref().unwrap(), reject.reason.text, shown.join(" "))
    });
    let told: Vec<String> = told.collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    1 born: expected a day within the years 1 to 9999 infinity now 1.00
    2 born: expected a day within the years 1 to 9999 10000-01-01 now 1.00
    3 updated_at: expected a time within the years 1 to 9999 - -infinity 1.00
    4 updated_at: expected a time within the years 1 to 9999 - infinity 1.00
    5 born: expected a day within the years 1 to 9999 0044-03-15 BC now 1.00
    6 pay: expected a number - now NaN
    7 numbers: expected a list of values, not of lists - now 1.00
    8 born: expected a day within the years 1 to 9999; pay: expected a number infinity now NaN
    ");
    // Nothing gets stuck behind infinity, and a letter can be repaired.
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.read, 8);
    let repaired = r#"{"id": 1, "born": "1912-06-23", "updated_at": null, "pay": null, "numbers": null}"#;
    assert_eq!(follower.source.decode(repaired.as_bytes()).unwrap().key().as_str(), "1");
    let still = follower.source.decode(&follower.rejects[0].raw).unwrap_err();
    assert!(still.reason.text.starts_with("born: expected a date"), "{}", still.reason);
}

#[tokio::test]
async fn a_large_value_comes_whole_and_large_rows_in_small_pages() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table nurses (id int primary key, about jsonb, updated_at timestamptz default now());
            insert into nurses select n, jsonb_build_object('notes', repeat('x', 1048576)) from generate_series(1, 12) n",
        )
        .await;
    let config = TablesConfig { page_rows: 1_000, page_bytes: 1 << 20, ..server.config(vec![nurses()]) };
    let mut follower = Follower::of(config).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len()), (12, 12));
    assert_eq!(follower.field("12", "about").as_str().unwrap().len(), 1_048_576 + 13);
}

#[tokio::test]
async fn names_of_any_kind_are_quoted() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            r#"create schema "Ward; drop table x";
            create table "Ward; drop table x"."Nurses ""on"" call" ("order" text, "a|b" text, "user" text, "Updated" timestamptz default now(),
                primary key ("order", "a|b"));
            insert into "Ward; drop table x"."Nurses ""on"" call" values ('O''Hara', 'x|y', 'u'), ('\', '', 'v'), (' ', 'ü', null),
                ('a', 'b', 'c'), ('b', 'c', 'd'), ('c', 'd', 'e'), ('d', 'e', 'f')"#,
        )
        .await;
    let table = TableConfig {
        schema: Some("Ward; drop table x".into()),
        change: Some("Updated".into()),
        ..TableConfig::new("rota", "nurse", r#"Nurses "on" call"#, &["order", "a|b"])
    };
    let mut follower = Follower::of(server.config(vec![table])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.topic.len(), 7);
    assert_eq!(follower.field(r"O'Hara|x\|y", "user"), "u");
    assert_eq!(follower.field(r"\\|", "user"), "v");
    follower.pass(&Ask::Changes).await;
    assert_eq!((follower.read, follower.changed), (7, 0));
}

#[tokio::test]
async fn a_speciality_is_found_where_the_register_keeps_it() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            r#"create table employees (id uuid primary key, additional_info jsonb, speciality jsonb, inserted_by uuid, updated_at timestamp);
            insert into employees values ('0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62',
                '{"specialities": [{"speciality": "PEDIATRICIAN", "speciality_officio": false}, {"speciality": "THERAPIST", "speciality_officio": true}]}'),
                ('0d6bcfe1-fb00-45cb-a9c6-c6a53da12e63', '{}')"#,
        )
        .await;
    let derived = crate::tables::Derived {
        name: "speciality".into(),
        from: "additional_info".into(),
        path: vec!["specialities".into()],
        conditions: [("speciality_officio".to_owned(), pipeline::config::Scalar::Bool(true))].into(),
    };
    let employees = TableConfig {
        derived: vec![derived],
        leave_out: vec!["inserted_by".into()],
        ..TableConfig::new("prm", "employee", "employees", &["id"])
    };
    let mut follower = Follower::of(server.config(vec![employees])).await;
    follower.pass(&Ask::Everything).await;
    let speciality = follower.field("0d6bcfe1-fb00-45cb-a9c6-c6a53da12e62", "speciality");
    assert_eq!(speciality, r#"{"speciality": "THERAPIST", "speciality_officio": true}"#);
    assert_eq!(follower.field("0d6bcfe1-fb00-45cb-a9c6-c6a53da12e63", "speciality"), &Json::Null);
    assert!(follower.announced[0].field("inserted_by").is_none());
}

#[tokio::test]
async fn text_that_is_said_to_hold_json_is_looked_at() {
    let Some(server) = Server::new().await else { return };
    server.execute("create table nurses (id int primary key, about text, updated_at timestamptz default now())").await;
    server.execute("insert into nurses values (1, '{\"a\": 1}'), (2, 'about'), (3, null)").await;
    let told =
        |column: &str| TableConfig { types: [(column.to_owned(), crate::tables::ColumnKind::Json)].into(), ..nurses() };
    let mut follower = Follower::of(server.config(vec![told("about")])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.announced[0].field("about").unwrap().1.kind.to_string(), "json");
    assert_eq!((follower.keys(), follower.rejects.len()), (vec!["1", "3"], 1));
    assert_eq!(follower.rejects[0].reason.text, "about: expected JSON");
    let wrong = Follower::begin(server.config(vec![told("updated_at")]), Path::new("")).await;
    assert!(matches!(wrong, Err(SourceError::Refused { .. })));
}

/// One of them stopped the whole table.
#[tokio::test]
async fn rows_that_the_database_cant_send_are_set_aside_and_the_others_come() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table shifts (id int primary key, wards int, updated_at timestamptz default now());
            insert into shifts select n, case when n in (7, 8, 21) then 0 else n end from generate_series(1, 23) n;
            create view nurses as select id, 100 / wards as share, updated_at from shifts",
        )
        .await;
    let folder = tempfile::TempDir::new().unwrap();
    let mut follower = Follower::begin(server.config(vec![nurses()]), folder.path()).await.unwrap();
    // The load, one that would remember, one that changes brought.
    for ask in [Ask::Everything, Ask::Everything, Ask::Changes] {
        follower.rejects.clear();
        follower.pass(&ask).await;
        assert_eq!(follower.topic.len(), 20, "{ask:?}");
        let told = follower.rejects.iter().map(|reject| (reject.key.as_ref().unwrap().as_str(), &*reject.reason.text));
        let why = "a value can't be sent as its column's type (22012)";
        assert_eq!(told.collect::<Vec<_>>(), [("7", why), ("8", why), ("21", why)], "{ask:?}");
        assert!(follower.source.decode(&follower.rejects[0].raw).is_err());
    }
    server.execute("update shifts set wards = 1").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.topic.len(), 23);

    // A view that is wrong altogether stops, after so many.
    server.execute("update shifts set wards = 0; insert into shifts select n, 0 from generate_series(24, 150) n").await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    let error = follower.try_pass(&Ask::Everything).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused { reason, .. } if reason.contains("22012")), "{error}");
    assert_eq!(follower.rejects.len(), 100);
}

/// The place of the last one was kept, although it hadn't been read for the one that came before it.
#[tokio::test]
async fn a_row_that_comes_while_others_cant_be_sent_hides_none_of_them() {
    let Some(server) = Server::new().await else { return };
    // Two isn't there yet when the keys are looked for, which don't ask for shares.
    server
        .execute(
            "create table shifts (id int primary key, wards int, updated_at timestamptz default now());
            insert into shifts select n, n % 4 from generate_series(1, 6) n;
            create view nurses as select id, 100 / wards as share, updated_at from shifts
                where id <> 2 or current_query() like '%share%'",
        )
        .await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.keys(), ["1", "2", "3", "5", "6"]);
    assert_eq!(follower.rejects.iter().map(|reject| reject.key.as_ref().unwrap().as_str()).collect::<Vec<_>>(), ["4"]);
}

/// All that were asked for were set aside for it.
#[tokio::test]
async fn a_refusal_that_isnt_about_a_value_stops_the_table_and_sets_nothing_aside() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table shifts (id int primary key, updated_at timestamptz default now());
            insert into shifts select n from generate_series(1, 23) n;
            create function share(id int) returns int stable language plpgsql as $$ begin
                if current_query() like '%<=%' then raise exception 'not up to there' using errcode = 'P0001'; end if;
                return 100 / (id - 4);
            end $$;
            create view nurses as select id, share(id) as share, updated_at from shifts",
        )
        .await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    let error = follower.try_pass(&Ask::Everything).await.unwrap_err();
    assert!(matches!(&error, SourceError::Refused { reason, .. } if reason.contains("P0001")), "{error}");
    assert!(follower.rejects.is_empty(), "{:?}", follower.rejects);
}

/// Sorted as citext and compared as text, Faye came before eve: she was never read.
#[tokio::test]
async fn a_key_whose_own_order_isnt_on_the_search_path_is_refused() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create schema extensions;
            create extension citext schema extensions;
            create type extensions.mood as enum ('calm', 'busy');
            create domain badge as extensions.citext;
            create table nurses (id badge primary key, updated_at timestamptz default now());
            insert into nurses values ('Ada'), ('Bea'), ('Cleo'), ('Dora'), ('eve'), ('Faye'), ('Grace'), ('Ida');
            create table moods (mood extensions.mood primary key);
            insert into moods values ('calm'), ('busy')",
        )
        .await;
    let refused = Follower::begin(server.config(vec![nurses()]), Path::new("")).await;
    let Err(SourceError::Refused { reason, hint, .. }) = refused else { panic!("its order isn't to be found") };
    assert!(reason.contains("is badge") && hint.contains("search_path = public, extensions"), "{reason} ({hint})");
    // The order of an enum is PostgreSQL's own, wherever its type is.
    let moods = TableConfig::new("rota", "mood", "moods", &["mood"]);
    let mut follower = Follower::of(server.config(vec![moods])).await;
    assert_eq!(follower.pass(&Ask::Everything).await.keys(), ["busy", "calm"]);

    let (_, database) = server.database.url.rsplit_once('/').unwrap();
    server.execute(&format!("alter database \"{database}\" set search_path = public, extensions")).await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.topic.len()), (8, 8));
}
