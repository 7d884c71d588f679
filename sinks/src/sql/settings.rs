//! The settings of a database target as the file has them.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline::config::{self, Place, Problem, Scalar, SecretRef, Section, Url, kinds};

use schemas::Catalogue;

use super::config::{CONNECT_TIMEOUT, CONNECTIONS, KEEP_DELETED, LOCK_TIMEOUT, PARK_LIMIT, STATEMENT_TIMEOUT};
use super::config::{DatabaseUrl, OnDelete, SqlConfig, TableMapping, Versions};
use super::table::{Subject, Tables};

/// As the file has them: the password is only named.
#[derive(Debug, Clone)]
pub struct SqlSettings {
    config: SqlConfig,
    url: Url,
    password: Option<SecretRef>,
    /// Where each entity's keys stand; those whose section has a problem already are left out.
    places: BTreeMap<String, BTreeMap<&'static str, Place>>,
}

/// The keys that the schemas can contradict.
const COMPARED: [&str; 15] = [
    "topic",
    "table",
    "key",
    "match",
    "fold",
    "theirs",
    "columns",
    "json",
    "owned",
    "initial",
    "keeps",
    "refers",
    "unique",
    "deleted_column",
    "versions",
];

/// Where rows are deleted softly, and nothing else is said.
const DELETED_COLUMN: &str = "deleted_date";

impl SqlSettings {
    /// Reads all keys of a target, its tables' included.
    pub fn read(s: &Section<'_>) -> Self {
        let url = s.url("url", config::DATABASE).required();
        let mut config = SqlConfig::new(DatabaseUrl::new(String::new()), Vec::new());
        config.schema = s.string("schema").optional();
        config.on_delete = on_delete(s).unwrap_or(OnDelete::Hard);
        config.versions = versions(s).unwrap_or(Versions::Column);
        config.alter = s.bool("alter").or(true);
        config.park_limit = s.duration("park_limit").or(PARK_LIMIT);
        config.connections = s.integer("connections", 1..=100).or(CONNECTIONS);
        config.statement_timeout = s.duration("statement_timeout").or(STATEMENT_TIMEOUT);
        config.connect_timeout = s.duration("connect_timeout").or(CONNECT_TIMEOUT);
        config.lock_timeout = s.duration("lock_timeout").or(LOCK_TIMEOUT);
        // Shorter than tombstones live, a replay could bring back what was deleted.
        let long_enough = |kept: &Duration| match *kept < KEEP_DELETED {
            true => Err("shorter than topics keep tombstones (90d)".to_owned()),
            false => Ok(()),
        };
        config.keep_deleted = s.duration("keep_deleted").check(long_enough).or(KEEP_DELETED);
        let mut places = BTreeMap::new();
        for (entity, section) in s.sections("tables") {
            let told = s.told();
            let of_keys = COMPARED.map(|key| (key, section.place(key))).into();
            config.tables.push(table(entity.clone(), &section));
            drop(section);
            if s.told() == told {
                places.insert(entity, of_keys);
            }
        }
        if config.tables.is_empty() && !s.has("tables") {
            s.report(s.place("tables").problem("missing").expected("a section [….tables.NAME] for each entity"));
        }
        let is_sqlite = url.scheme() == "sqlite";
        for key in ["schema", "password", "statement_timeout"] {
            if is_sqlite && s.has(key) {
                s.report(s.place(key).problem("has no effect on a SQLite file"));
            }
        }
        Self { config, url, password: s.secret("password").optional(), places }
    }

    /// What is wrong with the mapping, seen against the topics' schemas: what [`super::SqlSink::new`] would say, with
    /// the places. A table whose own keys are wrong isn't compared: what is said about stand-ins would only confuse.
    pub fn problems(&self, catalogue: &Catalogue) -> Vec<Problem> {
        let misfits = Tables::new(&self.config, &Subject::all(catalogue, &|_| 1)).err().unwrap_or_default();
        let located = misfits.into_iter().filter_map(|misfit| {
            let place = self.places.get(&misfit.entity)?.get(misfit.key)?;
            Some(Problem { nearest: misfit.nearest, ..place.problem(misfit.message) })
        });
        located.collect()
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.password.iter()
    }

    /// The topics that are mapped.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.config.tables.iter().map(|table| table.topic.as_str())
    }

    /// Fetches the password. `env` looks up a variable: only the binary reads the environment.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<SqlConfig, Problem> {
        let mut url = self.url.clone();
        if let Some(password) = &self.password {
            let secret = password.resolve(env)?;
            let set = url.set_password(Some(secret.expose()));
            set.map_err(|()| password.place().problem("the URL names no host, so there is nobody to tell a password"))?;
        }
        Ok(SqlConfig { url: DatabaseUrl::new(url), ..self.config.clone() })
    }
}

fn table(entity: String, s: &Section<'_>) -> TableMapping {
    TableMapping {
        topic: s.string("topic").or(format!("register.{entity}")),
        table: s.string("table").required(),
        key: s.string("key").optional(),
        matching: s.strings("match").optional(),
        fold: s.strings("fold").or(Vec::new()),
        theirs: s.string_map("theirs").or(BTreeMap::new()),
        columns: s.string_map("columns").optional(),
        json: s.string_maps("json").or(BTreeMap::new()),
        owned: s.strings("owned").optional(),
        initial: s.scalar_map("initial").or(BTreeMap::new()),
        keeps: s.string_map("keeps").or(BTreeMap::new()),
        refers: s.string_map("refers").or(BTreeMap::new()),
        on_delete: on_delete(s),
        versions: versions(s),
        unique: s.list("unique", kinds::strings()).or(Vec::new()),
        entity,
    }
}

fn versions(s: &Section<'_>) -> Option<Versions> {
    s.one_of("versions", &[("column", Versions::Column), ("side", Versions::Side)]).optional()
}

/// `on_delete`, and for soft deletes `deleted_column` and `deleted_value`.
fn on_delete(s: &Section<'_>) -> Option<OnDelete> {
    let soft = s.one_of("on_delete", &[("hard", false), ("soft", true)]).optional();
    let column = s.string("deleted_column").optional();
    let value: Option<Scalar> = s.get("deleted_value", kinds::scalar(), Scalar::Bool(true)).optional();
    if soft != Some(true) {
        for key in ["deleted_column", "deleted_value"] {
            if s.has(key) {
                s.report(s.place(key).problem("has no effect without `on_delete = \"soft\"`"));
            }
        }
    }
    soft.map(|soft| match soft {
        false => OnDelete::Hard,
        true => OnDelete::Soft { column: column.unwrap_or_else(|| DELETED_COLUMN.to_owned()), value },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn read(text: &str) -> Result<SqlSettings, String> {
        config::read("muster.toml", text, SqlSettings::read).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_target_is_read_key_by_key() {
        let settings = read(
            r#"
            url = "postgres://muster@db/register"
            password = { env = "REGISTER" }
            schema = "ien"
            on_delete = "soft"
            park_limit = "2d"
            [tables.milestone]
            table = "ien_applicant_status_audit"
            key = "id"
            match = ["applicant_id", "status_id", "start_date"]
            columns = { id = "id", applicant_id = "applicant_id", status_id = "status_id", start_date = "start_date" }
            fold = ["start_date"]
            theirs = { notes = "%by hand%" }
            json = { additional_data = { given = "first_name" } }
            initial = { is_open = true, version = "2" }
            refers = { applicant_id = "applicant" }
            on_delete = "hard"
            versions = "side"
            unique = [["applicant_id", "status_id"], ["id"]]
            "#,
        );
        let config = settings.unwrap().resolve(&|name| (name == "REGISTER").then(|| "p@ss".to_owned())).unwrap();
        assert_eq!(config.url.expose(), "postgres://muster:p%40ss@db/register");
        assert!(!format!("{config:?}").contains("p%40ss"));
        assert_eq!(config.on_delete, OnDelete::Soft { column: "deleted_date".to_owned(), value: None });
        let [milestone] = &config.tables[..] else { panic!("one table") };
        assert_eq!((milestone.topic.as_str(), &milestone.on_delete), ("register.milestone", &Some(OnDelete::Hard)));
        assert_eq!((config.versions, milestone.versions), (Versions::Column, Some(Versions::Side)));
        assert_eq!(milestone.initial["version"], Scalar::Text("2".to_owned()));
        assert_eq!((&milestone.fold[0][..], &milestone.theirs["notes"][..]), ("start_date", "%by hand%"));
        assert_eq!(milestone.json["additional_data"]["given"], "first_name");
        assert_eq!(milestone.unique, [vec!["applicant_id", "status_id"], vec!["id"]]);
    }

    #[test]
    fn every_mistake_is_named() {
        let problems = read(
            r#"
            url = "sqlite:///rota.db"
            schema = "public"
            keep_deleted = "1d"
            deleted_column = "gone"
            [tables.ward]
            tabel = "wards"
            unique = ["id"]
            initial = { beds = [1] }
            "#,
        );
        assert_eq!(
            problems.unwrap_err(),
            "muster.toml:3:13: schema: has no effect on a SQLite file\n\
             muster.toml:4:13: keep_deleted: shorter than topics keep tombstones (90d)\n\
             muster.toml:5:13: deleted_column: has no effect without `on_delete = \"soft\"`\n\
             muster.toml:7:13: tables.ward.tabel: unknown key; did you mean `table`?\n\
             muster.toml:8:23: tables.ward.unique[0]: found \"id\"; expected a list of texts, not empty\n\
             muster.toml:9:25: tables.ward.initial.beds: found a list; expected true, false, a number or a text in quotes"
        );
    }
}
