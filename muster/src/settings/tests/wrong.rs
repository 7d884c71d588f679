//! Small mistakes in `docker/muster.toml`, and all that is said about them. The snapshots are without the comments, so that
//! explaining a key better doesn't move their lines.

use super::{EXAMPLE, Settings, read};

/// A mistake: what is replaced in the example by what.
struct Wrong {
    name: &'static str,
    patch: &'static [(&'static str, &'static str)],
}

const fn wrong(name: &'static str, patch: &'static [(&'static str, &'static str)]) -> Wrong {
    Wrong { name, patch }
}

const ALL: &[Wrong] = &[
    // Names.
    wrong("unknown key at the top", &[("folder = ", "foldr = ")]),
    wrong("unknown section at the top", &[("[http]", "[htpp]")]),
    wrong("unknown key of the log", &[("replication = 1", "replicas = 1")]),
    wrong("unknown key that resembles nothing", &[("replication = 1", "colour = 'blue'")]),
    wrong("unknown key of a source", &[("page_size = 50", "pagesize = 50")]),
    wrong("unknown key of a table", &[("initial = { is_open = true }", "inital = { is_open = true }")]),
    wrong("unknown kind of log", &[("[log.kafka]", "[log.kafak]")]),
    wrong("unknown kind of source", &[("[sources.ats.from.ats]", "[sources.ats.from.atz]")]),
    wrong("unknown kind of sink", &[("[sinks.register.to.sql]", "[sinks.register.to.sq1]")]),
    wrong("unknown feed", &[("feeds.applicants", "feeds.applicant")]),
    wrong("unknown processor", &[("[http]", "processors = ['statuses', 'user']\n[http]")]),
    wrong("unknown topic", &[("table = \"ien_users\"", "topic = \"register.usr\"\ntable = \"ien_users\"")]),
    wrong("unknown entity", &[("tables.user]", "tables.users]")]),
    wrong("unknown choice", &[("[sources.ats.reconcile]", "vanished = \"remove\"\n[sources.ats.reconcile]")]),
    wrong(
        "unknown zone",
        &[("cron = \"0 7 * * *\"\nzone = \"UTC\"", "cron = \"0 7 * * *\"\nzone = \"America/Vancuver\"")],
    ),
    // Types, units and ranges.
    wrong("a number instead of an address", &[("listen = \"0.0.0.0:8080\"", "listen = 8080")]),
    wrong("a port too high", &[("listen = \"0.0.0.0:8080\"", "listen = \"0.0.0.0:80800\"")]),
    wrong("a host without a port", &[("\"kafka:9092\"", "\"kafka\", \"kafka-2:0\"")]),
    wrong("a text instead of a list", &[("[\"kafka:9092\"]", "\"kafka:9092\"")]),
    wrong("a text instead of a number", &[("replication = 1", "replication = \"three\"")]),
    wrong("a negative number", &[("replication = 1", "replication = -1")]),
    wrong("a number too large", &[("page_size = 50", "page_size = 5000")]),
    wrong("a time without a unit", &[("[retry]", "[retry]\nfirst = 500")]),
    wrong("a time with a blank", &[("[retry]", "[retry]\nfirst = \"500 ms\"")]),
    wrong("a time with an unknown unit", &[("[retry]", "[retry]\nmost = \"2 weeks\"")]),
    wrong("a negative time", &[("[retry]", "[retry]\nmost = \"-5s\"")]),
    wrong("a size in other units", &[("[sinks.register]", "[sinks.register]\nbatch_bytes = \"16MB\"")]),
    wrong("a size that is too small", &[("page_size = 50", "max_body = \"1KiB\"")]),
    wrong("a share above the whole", &[("[rejects]", "[rejects]\nshare = 20")]),
    wrong("a negative count", &[("[rejects]", "[rejects]\ncount = -1")]),
    wrong("a date that is none", &[("page_size = 50", "from = \"2022-13-01\"")]),
    wrong("a path without a slash", &[("page_size = 50", "staff_path = \"staff\"")]),
    wrong("a yes instead of true", &[("[sinks.register.to.sql]", "[sinks.register.to.sql]\nalter = \"yes\"")]),
    wrong("too few passes", &[("page_size = 50", "max_passes = 1")]),
    wrong(
        "deleted rows forgotten too soon",
        &[("[sinks.register.to.sql]", "[sinks.register.to.sql]\nkeep_deleted = \"30d\"")],
    ),
    // Times.
    wrong("a cron of four fields", &[("\"0 7 * * *\"", "\"0 7 * *\"")]),
    wrong("a cron beyond the hour", &[("\"0 7 * * *\"", "\"61 7 * * *\"")]),
    wrong("a cron for no day", &[("\"0 7 * * *\"", "\"0 7 31 2 *\"")]),
    wrong("both cron and every", &[("cron = \"0 7 * * *\"", "every = \"1h\"\ncron = \"0 7 * * *\"")]),
    wrong("a zone without cron", &[("cron = \"0 7 * * *\"", "every = \"1h\"")]),
    wrong("without pause", &[("cron = \"0 7 * * *\"\nzone = \"UTC\"", "every = \"0s\"")]),
    // Secrets.
    wrong("a secret in the file", &[("{ env = \"ATS_API_KEY\" }", "\"hunter2\"")]),
    wrong("a secret that isn't named", &[("api_key = { env = \"ATS_API_KEY\" }\n", "")]),
    wrong("a secret from an unknown place", &[("{ env = \"ATS_API_KEY\" }", "{ evn = \"ATS_API_KEY\" }")]),
    wrong("a secret in two places", &[("{ env = \"ATS_API_KEY\" }", "{ env = \"A\", file = \"/a\" }")]),
    wrong("a database URL with a password", &[("postgres://muster@", "postgres://muster:hunter2@")]),
    wrong("a registry URL with a password", &[("http://registry", "http://muster:hunter2@registry")]),
    wrong("a user without a password", &[("[registry]", "[registry]\nusername = \"muster\"")]),
    wrong(
        "a token beside a password",
        &[("[registry]", "[registry]\nusername = \"muster\"\npassword = { env = \"A\" }\ntoken = { env = \"B\" }")],
    ),
    wrong("a registry on an unknown scheme", &[("http://registry", "htttp://registry")]),
    wrong("a database of another kind", &[("postgres://muster@", "mysql://muster@")]),
    wrong(
        "keys that a file has no use for",
        &[("postgres://muster@postgres:5432/register", "sqlite:///register.sqlite")],
    ),
    // The export.
    wrong("an export without snapshots", &[("[http]", "[export]\npepper = { env = 'A' }\n[http]")]),
    wrong(
        "an export without a secret and with resources that can't be",
        &[(
            "[http]",
            "[snapshots.store.local]\npath = '/snapshots'\n[export]\nlisten = 'here'\nmin_rate_over = '0s'\n\
             without_snapshot = 'empty'\n[export.resources.'a/b']\n[export.resources.employees]\nscope = 'a b'\n[http]",
        )],
    ),
    wrong(
        "snapshots in two places",
        &[("[http]", "[snapshots.store.local]\npath = '/a'\n[snapshots.store.s3]\n[http]")],
    ),
    // The mapping.
    wrong("a table without a name", &[("table = \"ien_users\"\n", "")]),
    wrong("the same table twice", &[("table = \"ien_ha_pcn\"", "table = \"ien_users\"")]),
    wrong("the same topic twice", &[("table = \"ien_ha_pcn\"", "topic = \"register.user\"\ntable = \"ien_ha_pcn\"")]),
    wrong("a field that isn't there", &[("email_address = \"email_address\"", "email_adress = \"email_address\"")]),
    wrong("a column filled twice", &[("pr_status = \"pr_status\"", "pr_status = \"name\"")]),
    wrong("an initial column that a field fills", &[("{ is_open = true }", "{ name = \"unknown\" }")]),
    wrong("an initial value that is a list", &[("{ is_open = true }", "{ is_open = [true] }")]),
    wrong("a match by an unknown column", &[("match = [\"email\"]", "match = [\"e_mail\"]")]),
    wrong("unique over an unknown column", &[("unique = [[\"ats1_id\"]]", "unique = [[\"ats_id\"]]")]),
    wrong("unique as one list", &[("unique = [[\"ats1_id\"]]", "unique = [\"ats1_id\"]")]),
    wrong(
        "a reference to an unknown entity",
        &[("status_id = \"status\" }\nunique", "status_id = \"statuses\" }\nunique")],
    ),
    wrong("a reference from an unknown column", &[("added_by_id = \"user\"", "added_by = \"user\"")]),
    wrong(
        "a reference to a table without a key",
        &[("table = \"ien_status_reasons\"\nkey = \"id\"", "table = \"ien_status_reasons\"")],
    ),
    wrong("an owned identity", &[("match = [\"email\"]", "owned = [\"id\", \"email\"]")]),
    wrong(
        "a deleted column that a field fills",
        &[("table = \"ien_ha_pcn\"", "table = \"ien_ha_pcn\"\non_delete = \"soft\"\ndeleted_column = \"title\"")],
    ),
    wrong("a deleted column without soft deletes", &[("match = [\"email\"]", "deleted_column = \"gone\"")]),
    // Components together.
    wrong(
        "two writers of one topic",
        &[(
            "[sources.ats.reconcile]",
            "[sources.other.from.ats]\nurl = \"https://other.example\"\napi_key = { env = \"A\" }\n[sources.ats.reconcile]",
        )],
    ),
    wrong("a processor named twice", &[("[http]", "processors = ['users', 'users']\n[http]")]),
    wrong("a sink named as a processor", &[("sinks.register", "sinks.users")]),
    wrong("a sink named as a feed", &[("sinks.register", "sinks.\"ats.applicant\"")]),
    wrong("a sink named as a source", &[("sinks.register", "sinks.ats")]),
    wrong("two kinds of log", &[("[http]", "[log.sqlite]\n[http]")]),
    // The file.
    wrong("a quote that doesn't end", &[("folder = \"/var/lib/muster\"", "folder = \"/var/lib/muster")]),
    wrong("a key without a value", &[("replication = 1", "replication =")]),
    wrong("the same key twice", &[("replication = 1", "replication = 1\nreplication = 3")]),
    wrong("a section inside the wrong one", &[("[sinks.register.to.sql]", "[sinks.register.sql]")]),
    wrong("a value where a section belongs", &[("[http]", "retry = \"1s\"\n[http]"), ("[retry]\n", "")]),
    wrong(
        "much at once",
        &[
            ("listen = \"0.0.0.0:8080\"", "listen = \"everywhere\""),
            ("\"0 7 * * *\"", "\"daily\""),
            ("{ env = \"ATS_API_KEY\" }", "\"hunter2\""),
            ("unique = [[\"email\"]]", "unique = [[\"mail\"]]"),
            ("added_by_id = \"user\"", "added_by_id = \"staff\""),
            ("table = \"ien_ha_pcn\"", "tabel = \"ien_ha_pcn\""),
        ],
    ),
];

#[test]
fn every_mistake_is_named_with_its_line_and_what_was_expected() {
    for Wrong { name, patch } in ALL {
        let problems = read(&patched(patch)).err().unwrap_or_else(|| panic!("{name}: nothing was found"));
        let patch: String = patch.iter().map(|(from, to)| lines('-', from) + &lines('+', to)).collect();
        let told = problems.to_string();
        assert!(!told.contains("hunter2"), "a secret is repeated: {name}");
        insta::assert_snapshot!(name.replace([' ', '\''], "_"), format!("{patch}\n{told}"));
    }
}

#[test]
fn missing_secrets_are_named_all_at_once() {
    let settings: Settings = read(&patched(&[])).unwrap();
    let given = |name: &str| (name == "ATS_API_KEY").then(String::new);
    insta::assert_snapshot!("missing_secrets", settings.check_secrets(&given).unwrap_err().to_string());
    settings.check_secrets(&|_| Some("hunter2".into())).unwrap();
}

#[test]
fn what_nothing_uses_is_worth_a_warning() {
    let text = patched(&[("[http]", "processors = ['statuses', 'applicants']\n[http]")]);
    // Without the last tables: those of statuses, applicants and milestones.
    let text = text.split("[sinks.register.to.sql.tables.status]").next().unwrap();
    let settings = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings: Vec<String> = settings.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("warnings", warnings.join("\n"));
}

/// The example without its comments, with one key of the source that stands there only as a comment, and patched.
fn patched(patch: &[(&str, &str)]) -> String {
    let kept = EXAMPLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty() || *line == "#page_size = 50");
    let mut text: String = kept.map(|line| line.trim_start_matches('#').to_owned() + "\n").collect();
    for (from, to) in patch {
        assert!(text.contains(from), "the example has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

fn lines(mark: char, text: &str) -> String {
    text.lines().map(|line| format!("{mark} {line}\n")).collect()
}

/// Else the applicants' processor would be refused, or an applicant's rows lie in other partitions than the applicant.
#[test]
fn milestones_of_others_are_keyed_and_spread_as_applicants_are() {
    let with = |table: &str| {
        let sheets = "[sources.sheets.from.tables]\nurl = \"postgres://db/register\"\nsystem = \"register\"\n\
                      [sources.sheets.from.tables.tables.foreign_milestone]\ntable = \"audit\"\n";
        read(&format!("{EXAMPLE}\n{sheets}{table}")).map_err(|problems| problems.to_string())
    };
    let settings = with("key = [\"applicant_id\", \"id\"]\npartition_key = [\"applicant_id\"]").unwrap();
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    for table in [
        "key = [\"id\"]",
        "key = [\"applicant_id\", \"id\"]",
        "key = [\"id\", \"applicant_id\"]\npartition_key = [\"id\"]",
    ] {
        let problems = with(table).unwrap_err();
        assert!(problems.contains("isn't keyed by the applicant"), "{table}: {problems}");
    }
    let problems =
        with("key = [\"applicant_id\", \"id\"]\npartition_key = [\"applicant_id\"]\nspread = \"one\"").unwrap_err();
    assert!(problems.contains("has one partition"), "{problems}");
}
