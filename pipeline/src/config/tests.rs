//! A small invented component, a good file, and what is said when the file is changed for the worse.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use chrono_tz::Tz;
use proptest::prelude::*;

use super::{DATABASE, HTTP, Problems, SecretRef, Section, Url, kinds, load, read};
use crate::schedule::Schedule;

const GOOD: &str = r#"
[log]
brokers = ["kafka-1:9092", "kafka-2:9092"]
memory = "4MiB"
compression = "zstd"

[sources.bakery]
every = "5m"
overlap = "90s"
max_vanished = "20%"
from.http = { url = "https://bakery.example/api", api_key = { env = "BAKERY_KEY" }, page_size = 50, zone = "America/Vancouver" }

[sinks.pantry]
to.sql = { url = "postgres://muster@db.example/pantry", password = { file = "/run/secrets/pantry" } }
columns = { flour = "flour_kg", "rye bread" = "rye" }

[[sinks.pantry.tables]]
name = "loaf"
keep = true

[sinks.pantry.nightly]
cron = "30 2 * * *"
zone = "Europe/London"
"#;

struct Kitchen {
    log: Option<Log>,
    sources: Vec<(String, Option<Source>)>,
    sinks: Vec<(String, Option<Sink>)>,
}

struct Log {
    brokers: Vec<String>,
    memory: u64,
    compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compression {
    None,
    Zstd,
}

struct Source {
    schedule: Option<Schedule>,
    overlap: Duration,
    max_vanished: f64,
    from: From,
}

enum From {
    Http { url: Url, api_key: SecretRef, page_size: u32, zone: Tz },
    File { folder: std::path::PathBuf },
}

struct Sink {
    to: Sql,
    columns: BTreeMap<String, String>,
    tables: Vec<(String, bool)>,
    nightly: Option<Schedule>,
}

struct Sql {
    url: Url,
    password: Option<SecretRef>,
}

fn kitchen(root: &Section) -> Kitchen {
    Kitchen {
        log: root.required_section("log").map(|s| Log {
            brokers: s.list("brokers", kinds::host_port()).required(),
            memory: s.bytes("memory").or(1 << 20),
            compression: s
                .one_of("compression", &[("none", Compression::None), ("zstd", Compression::Zstd)])
                .or(Compression::Zstd),
        }),
        sources: root.sections("sources").into_iter().map(|(name, s)| (name, source(&s))).collect(),
        sinks: root.sections("sinks").into_iter().map(|(name, s)| (name, sink(&s))).collect(),
    }
}

fn source(s: &Section) -> Option<Source> {
    let from = s.tagged("from", &["http", "file"]).map(|(tag, s)| match tag {
        "http" => From::Http {
            url: s.url("url", HTTP).required(),
            api_key: s.secret("api_key").required(),
            page_size: s.integer("page_size", 1..=50).or(50),
            zone: s.zone("zone").or(Tz::UTC),
        },
        _ => From::File { folder: s.path("folder").required() },
    });
    Some(Source {
        schedule: s.schedule(Tz::UTC),
        overlap: s.duration("overlap").or(Duration::from_secs(60)),
        max_vanished: s.share("max_vanished").or(0.1),
        from: from?,
    })
}

fn sink(s: &Section) -> Option<Sink> {
    let to = s
        .tagged("to", &["sql"])
        .map(|(_, s)| Sql { url: s.url("url", DATABASE).required(), password: s.secret("password").optional() });
    let sink = Sink {
        columns: s.string_map("columns").or_default(),
        tables: s.tables("tables").iter().map(|s| (s.string("name").required(), s.bool("keep").or(false))).collect(),
        nightly: s.section("nightly").and_then(|s| s.schedule(Tz::UTC)),
        to: to?,
    };
    Some(sink)
}

/// The problems of the good file after replacing `from` with `to`.
fn problems_after(from: &str, to: &str) -> Problems {
    assert!(GOOD.contains(from), "{from:?} isn't in the good file");
    problems_of(&GOOD.replacen(from, to, 1))
}

fn problems_of(text: &str) -> Problems {
    match read("muster.toml", text, kitchen) {
        Ok(_) => panic!("no problem in {text}"),
        Err(problems) => problems,
    }
}

#[test]
fn a_good_file_gives_its_values() {
    let kitchen = read("muster.toml", GOOD, kitchen).unwrap();
    let (name, source) = &kitchen.sources[0];
    assert_eq!(name, "bakery");
    let source = source.as_ref().unwrap();
    assert_eq!(source.schedule, Some(Schedule::Every(Duration::from_secs(300))));
    assert_eq!(source.overlap, Duration::from_secs(90));
    assert_eq!(source.max_vanished, 0.2);
    let From::Http { url, api_key, page_size, zone } = &source.from else { panic!("another kind") };
    assert_eq!(url.as_str(), "https://bakery.example/api");
    assert_eq!(api_key.place().line, 11);
    assert_eq!((*page_size, *zone), (50, Tz::America__Vancouver));
    let log = kitchen.log.unwrap();
    assert_eq!(log.brokers, ["kafka-1:9092", "kafka-2:9092"]);
    assert_eq!(log.memory, 4 << 20);
    assert_eq!(log.compression, Compression::Zstd);
    let sink = kitchen.sinks[0].1.as_ref().unwrap();
    assert_eq!(sink.to.url.username(), "muster");
    assert!(sink.to.password.is_some());
    assert_eq!(sink.columns["rye bread"], "rye");
    assert_eq!(sink.tables, [("loaf".to_owned(), true)]);
    assert_eq!(sink.nightly.as_ref().unwrap().to_string(), "30 2 * * * (Europe/London)");
}

#[test]
fn every_mistake_is_told_with_its_place_and_remedy() {
    let url = r#"url = "https://bakery.example/api""#;
    let key = r#"api_key = { env = "BAKERY_KEY" }"#;
    let from_http = r#"from.http = { url = "https://bakery.example/api", api_key = { env = "BAKERY_KEY" }, page_size = 50, zone = "America/Vancouver" }"#;
    for (name, from, to) in [
        ("unknown key", "overlap =", "overlpa ="),
        ("unknown key like none", "overlap =", "colour ="),
        ("unknown section", "[sources.bakery]", "[source.bakery]"),
        ("unknown section elsewhere", "[sinks.pantry.nightly]", "[sinks.pantry.weekly]"),
        ("mistyped required key", "brokers =", "borkers ="),
        ("missing required key", r#"api_key = { env = "BAKERY_KEY" }, "#, ""),
        ("missing section", "[log]", "[sinks.log]"),
        ("duration without unit", r#"every = "5m""#, "every = 30"),
        ("duration with wrong unit", r#"every = "5m""#, r#"every = "30 secs""#),
        ("duration longer than a life", r#"every = "5m""#, r#"every = "99999999999999999d""#),
        ("no pause", r#"every = "5m""#, r#"every = "0s""#),
        ("size with decimal unit", "4MiB", "4MB"),
        ("number out of range", "page_size = 50", "page_size = 51"),
        ("number as text", "page_size = 50", r#"page_size = "50""#),
        ("number too large for anything", "page_size = 50", "page_size = 99999999999999999999"),
        ("share above one", r#""20%""#, r#""120%""#),
        ("truth as text", "keep = true", r#"keep = "yes""#),
        ("zone mistyped", "America/Vancouver", "America/Vancuver"),
        ("zone by its city", "America/Vancouver", "vancouver"),
        ("choice mistyped", r#""zstd""#, r#""zsdt""#),
        ("cron with six fields", "30 2 * * *", "0 30 2 * * *"),
        ("cron out of range", "30 2 * * *", "30 25 * * *"),
        ("cron on a day that never comes", "30 2 * * *", "0 0 30 2 *"),
        ("cron and interval", r#"cron = "30 2"#, "every = \"1h\"\ncron = \"30 2"),
        ("zone without cron", "cron = \"30 2 * * *\"\n", "every = \"1h\"\n"),
        ("url of another kind", "https://bakery", "htp://bakery"),
        ("url that is none", "https://bakery.example/api", "bakery"),
        ("url with credentials", "https://bakery", "https://anna:hunter2@bakery"),
        ("url with a token", "example/api", "example/api?access_token=hunter2"),
        ("database url with password", "muster@db", "muster:hunter2@db"),
        ("secret in the file", key, r#"api_key = "hunter2""#),
        ("secret from nowhere", key, r#"api_key = { vault = "hunter2" }"#),
        ("secret from two places", key, r#"api_key = { env = "A", file = "/b" }"#),
        ("secret from an empty place", key, r#"api_key = { env = "" }"#),
        ("wrong items of a list", "\"kafka-2:9092\"]", "\n  \"kafka-2\",\n  3]"),
        ("value for a list", r#"["kafka-1:9092", "kafka-2:9092"]"#, r#""kafka-1:9092""#),
        ("value for a section", "[sinks.pantry.nightly]\n", "[sinks]\nlarder = 3\n[sinks.pantry.nightly]\n"),
        ("kind unknown", "from.http", "from.htp"),
        ("kind missing", from_http, ""),
        ("two kinds", "from.http", "from.file = { folder = \"/in\" }\nfrom.http"),
        ("text map with a number", r#""flour_kg""#, "3"),
        ("key in a list of tables", "keep = true", "kept = true"),
        ("value without quotes", r#"every = "5m""#, "every = 5m"),
        ("secret in a broken line", key, r#"api_key = "hunter2"#),
        ("line left open", url, r#"url = "https://bakery"#),
        ("key twice", "overlap = \"90s\"", "overlap = \"90s\"\noverlap = \"80s\""),
        ("broken line and another mistake", "every = \"5m\"\noverlap", "every = hunter2\noverlpa"),
    ] {
        let problems = problems_after(from, to);
        assert!(!problems.to_string().contains("hunter2"), "{name} tells a secret");
        insta::with_settings!({ description => format!("{from}\n=> {to}"), omit_expression => true }, {
            insta::assert_snapshot!(name.replace(' ', "_"), problems.to_string());
        });
    }
}

#[test]
fn another_kind_brings_its_own_keys() {
    let text = "[log]\nbrokers = []\n[sources.mill]\nfrom.file = { folder = '/in' }";
    let kitchen = read("muster.toml", text, kitchen).unwrap();
    let source = kitchen.sources[0].1.as_ref().unwrap();
    assert!(matches!(&source.from, From::File { folder } if folder.as_os_str() == "/in"));
    assert_eq!(source.schedule, None);
}

#[test]
fn kinds_are_read_in_all_their_forms() {
    fn given<T>(value: &str, get: impl FnOnce(&Section) -> T) -> Option<T> {
        read("muster.toml", &format!("key = {value}"), get).ok()
    }
    let milliseconds = |text| given(text, |s| s.duration("key").required().as_millis());
    assert_eq!(
        ["'250ms'", "'30s'", "'5m'", "'2h'", "'1d'", "'0s'"].map(milliseconds),
        [Some(250), Some(30_000), Some(300_000), Some(7_200_000), Some(86_400_000), Some(0)]
    );
    for wrong in
        ["''", "'s'", "'30'", "'-5s'", "'1.5h'", "' 5s'", "'5 s'", "'1h30m'", "'99999999999999999999s'", "30", "true"]
    {
        assert_eq!(milliseconds(wrong), None, "{wrong}");
    }

    let bytes = |text| given(text, |s| s.bytes("key").required());
    assert_eq!(["'10B'", "'1KiB'", "'2GiB'"].map(bytes), [Some(10), Some(1024), Some(2 << 30)]);
    assert_eq!(["'99999999999999GiB'", "'1TB'", "7"].map(bytes), [None; 3]);

    let share = |text| given(text, |s| s.share("key").required());
    assert_eq!(["0.25", "1", "0", "'5%'"].map(share), [Some(0.25), Some(1.0), Some(0.0), Some(0.05)]);
    assert_eq!(["1.5", "-0.1", "nan", "'-5%'", "'NaN%'", "'5'"].map(share), [None; 6]);

    let integer = |text| given(text, |s| s.integer::<i16>("key", -5..=500).required());
    assert_eq!(["-5", "5_0", "0x1F"].map(integer), [Some(-5), Some(50), Some(31)]);
    assert_eq!(["-6", "70000", "5.0", "'5'"].map(integer), [None; 4]);

    let host_port = |text| given(text, |s| s.get("key", kinds::host_port(), String::new()).required()).is_some();
    assert_eq!(["'a.example:1'", "'[::1]:9092'", "'10.0.0.1:65535'"].map(host_port), [true; 3]);
    assert_eq!(["'a'", "':1'", "'a:0'", "'::1:9'", "'http://a:1'", "'anna@a:1'"].map(host_port), [false; 6]);

    let date = |text| given(text, |s| s.date("key").required().to_string());
    assert_eq!(
        ["2026-02-28", "'2026-02-28'"].map(date),
        [Some("2026-02-28".to_owned()), Some("2026-02-28".to_owned())]
    );
    assert_eq!(["2026-02-28T10:00:00Z", "'28.2.2026'", "20260228"].map(date), [None, None, None]);

    let listen = |text| given(text, |s| s.socket_address("key").required().port());
    assert_eq!(["'127.0.0.1:80'", "'[::]:0'", "'localhost:80'"].map(listen), [Some(80), Some(0), None]);

    let database = |text: &str| given(text, |s| s.url("key", DATABASE).required().to_string());
    for url in ["sqlite::memory:", "sqlite:data/pantry.db?mode=rwc", "postgres://db-1,db-2/pantry?sslmode=require"] {
        assert_eq!(database(&format!("'{url}'")).as_deref(), Some(url));
    }
    assert_eq!(["'mysql://db/pantry'", "'postgres://db/pantry?password=x'", "''"].map(database), [None, None, None]);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_not_shift_lines() {
    let text = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert!(read("muster.toml", &text, kitchen).is_ok());
    let problems = problems_of(&text.replace("overlap", "overlpa"));
    assert_eq!(problems.iter().map(|problem| (problem.line, problem.column)).collect::<Vec<_>>(), [(9, 1)]);
}

proptest! {
    /// Whatever people do to the file, it is read to its end, and problems point into it.
    #[test]
    fn damage_is_survived(at in 0..GOOD.len(), length in 0usize..60, put in "[a-z\"'=\\[\\]{}.,#\n é0-9\\\\-]{0,20}") {
        let end = (at + length).min(GOOD.len());
        let text = [&GOOD[..at], &put, &GOOD[end..]].concat();
        if let Err(problems) = read("muster.toml", &text, kitchen) {
            prop_assert!(!problems.is_empty());
            for problem in problems.iter() {
                let lines = u32::try_from(text.matches('\n').count() + 1).unwrap();
                prop_assert!((1..=lines).contains(&problem.line), "{problem}");
                prop_assert!(!problem.to_string().contains('\n'), "{problem}");
            }
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = GOOD.replace("5m", "5").replace("50", "0").replace("zstd", "gzip").replace("keep", "sell");
    let problems = problems_of(&text);
    let lines: Vec<u32> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [5, 8, 11, 19]);
}

#[test]
fn a_section_for_somebody_else_is_left_alone() {
    let read = read("muster.toml", "[theirs]\nanything = 3", |root| {
        if let Some(theirs) = root.section("theirs") {
            theirs.ignore_rest();
        }
    });
    assert_eq!(read, Ok(()));
}

#[test]
fn columns_are_counted_in_characters() {
    let problems =
        read("muster.toml", "name = { 'crème brûlée' = 1, x = 2 }", |root| root.string_map("name").optional());
    insta::assert_snapshot!(problems.unwrap_err(), @r#"
    muster.toml:1:10: name."crème brûlée": found 1; expected text in quotes, not empty
    muster.toml:1:30: name.x: found 2; expected text in quotes, not empty
    "#);
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let problems = load(std::path::Path::new("/nowhere/muster.toml"), |_| ()).unwrap_err();
    assert_eq!(problems.to_string(), "/nowhere/muster.toml: can't be read: No such file or directory (os error 2)");
}

#[test]
fn secrets_come_from_where_they_are_said_to_be() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"hunter2\r\n").unwrap();
    let text = format!("a = {{ env = 'A' }}\nb = {{ file = '{}' }}", file.path().display());
    let (a, b) = read("muster.toml", &text, |s| (s.secret("a").required(), s.secret("b").required())).unwrap();
    let environment = |name: &str| (name == "A").then(|| "swordfish".to_owned());

    assert_eq!(a.resolve(&environment).unwrap().expose(), "swordfish");
    let from_file = b.resolve(&environment).unwrap();
    assert_eq!(from_file.expose(), "hunter2");
    assert_eq!(format!("{from_file:?}"), "Secret(…)");
}

#[test]
fn secrets_that_are_not_there_are_problems_of_their_lines() {
    let mut long = tempfile::NamedTempFile::new().unwrap();
    long.write_all(&[b'x'; 70_000]).unwrap();
    let mut binary = tempfile::NamedTempFile::new().unwrap();
    binary.write_all(&[0xff, 0xfe]).unwrap();
    let text = format!(
        "a = {{ env = 'A' }}\nb = {{ file = '/nowhere' }}\nc = {{ file = '{}' }}\nd = {{ file = '{}' }}\ne = {{ env = 'E' }}",
        long.path().display(),
        binary.path().display()
    );
    let refs = read("muster.toml", &text, |s| ["a", "b", "c", "d", "e"].map(|key| s.secret(key).required())).unwrap();

    let mut problems = Problems::new();
    for secret in &refs {
        problems.keep(secret.resolve(&|name| (name == "E").then(String::new)));
    }

    let text = problems.to_string().replace(&long.path().display().to_string(), "LONG");
    let text = text.replace(&binary.path().display().to_string(), "BINARY");
    insta::assert_snapshot!(text, @r"
    muster.toml:1:1: a: the environment variable A isn't set; expected it to hold the secret
    muster.toml:2:1: b: the file /nowhere: No such file or directory (os error 2)
    muster.toml:3:1: c: the file LONG: longer than 65536 bytes, so it can't be a secret
    muster.toml:4:1: d: the file BINARY: isn't UTF-8 text
    muster.toml:5:1: e: the environment variable E is empty; expected it to hold the secret
    ");
}
