//! Client for a schema registry with the Confluent REST API: schemas' ids for writing, schemas by id for reading.
//!
//! Works with Confluent's registry and with Apicurio's `/apis/ccompat/v7`; a base path is kept. Ids once seen go on
//! working while the registry is down. How requests are sent and tried again: `registry/http.rs`.

mod http;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use self::http::Http;
use crate::schema::{Schema, SchemaId};

/// How to reach a registry.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// As in `https://registry.example.org` or `http://localhost:8080/apis/ccompat/v7`, without credentials.
    pub url: String,
    /// Credentials, when the registry wants some.
    pub auth: Option<RegistryAuth>,
    /// For one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// How often a request is sent at most, while the registry is unreachable, busy or broken.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
}

/// Credentials. Never printed.
#[derive(Clone)]
pub enum RegistryAuth {
    /// User name and password, or API key and secret.
    Basic {
        /// Also the API key.
        user: String,
        /// Also the secret.
        password: String,
    },
    /// A bearer token.
    Bearer(String),
}

/// Why a registry didn't do what was asked. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Unreachable, busy or broken: wait, then ask again.
    #[error("schema registry {url} is unavailable: {reason}")]
    Unavailable {
        /// Where it was looked for.
        url: String,
        /// What happened at the last attempt.
        reason: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
        /// The failed exchange, when it failed below HTTP.
        #[source]
        cause: Option<reqwest::Error>,
    },
    /// It won't, and won't later either: a person must act.
    #[error("schema registry {url} refused: {reason}")]
    Refused {
        /// Where it is.
        url: String,
        /// What it said.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// It has no schema with this id.
    #[error("schema registry {url} has no schema with id {id}")]
    NotFound {
        /// Where it is.
        url: String,
        /// The id that was asked for.
        id: SchemaId,
    },
}

/// What a registry says about a schema that isn't registered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It could be registered.
    Compatible,
    /// It couldn't, for these reasons (none on registries that don't give any).
    Incompatible(Vec<String>),
}

/// A client. Share it: the caches are inside.
pub struct Registry {
    http: Http,
    by_id: Mutex<Bounded<SchemaId, Arc<Schema>>>,
    registered: Mutex<Bounded<(String, String), SchemaId>>,
}

/// A program meets a few versions of a few dozen schemas; more is somebody else's traffic.
const CACHED: usize = 1_000;

impl RegistryConfig {
    /// A registry without credentials, 10 s for an attempt, 4 attempts within less than a second of waiting.
    pub fn new(url: impl Into<String>) -> RegistryConfig {
        RegistryConfig {
            url: url.into(),
            auth: None,
            timeout: Duration::from_secs(10),
            attempts: 4,
            backoff: Duration::from_millis(100),
        }
    }
}

impl Registry {
    /// Prepares a client; sends nothing. Refuses a URL it can't use. A rustls provider must have been installed.
    pub fn new(config: RegistryConfig) -> Result<Registry, RegistryError> {
        Ok(Registry {
            http: Http::new(config)?,
            by_id: Mutex::new(Bounded::new(CACHED)),
            registered: Mutex::new(Bounded::new(CACHED)),
        })
    }

    /// The id of a schema under a subject (`<topic>-value`), registering it when it is new. Refused when it isn't
    /// compatible with the versions the subject has.
    pub async fn register(&self, subject: &str, schema: &Arc<Schema>) -> Result<SchemaId, RegistryError> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let known = (subject.to_owned(), schema.text().to_owned());
        if let Some(id) = lock(&self.registered).get(&known) {
            return Ok(*id);
        }
        // Without normalize, Apicurio gives the same schema a new id for every way of writing it.
        let path = ["subjects", subject, "versions"];
        let body = json!({ "schema": schema.text() });
        let answer = self.http.send(Method::POST, &path, &[("normalize", "true")], Some(&body)).await?;
        let Registered { id } = match answer.status {
            StatusCode::OK | StatusCode::CREATED => self.http.json(&answer)?,
            StatusCode::CONFLICT => {
                let hint =
                    format!("make {} compatible with the versions of {subject}, or use a new topic", schema.name());
                return Err(self.http.refused(&answer, hint));
            }
            _ => return Err(self.http.unexpected(&answer)),
        };
        let id = SchemaId(id);
        lock(&self.registered).put(known, id);
        lock(&self.by_id).put(id, Arc::clone(schema));
        Ok(id)
    }

    /// The schema with an id, from the cache or from the registry.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Found {
            schema: String,
            /// Left out for Avro.
            schema_type: Option<String>,
            #[serde(default)]
            references: Vec<serde_json::Value>,
        }
        if let Some(schema) = lock(&self.by_id).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let answer = self.http.send(Method::GET, &["schemas", "ids", &id.to_string()], &[], None).await?;
        let found: Found = match answer.status {
            StatusCode::OK => self.http.json(&answer)?,
            // Only the registry's own code says that the id is unknown; any server answers 404 for a wrong path.
            StatusCode::NOT_FOUND if answer.error_code() == Some(40403) => {
                return Err(RegistryError::NotFound { url: self.http.url(), id });
            }
            _ => return Err(self.http.unexpected(&answer)),
        };
        let unusable = |reason: String| RegistryError::Refused {
            url: self.http.url(),
            reason,
            hint: "the topic holds messages that weren't written by muster: look who else writes it".to_owned(),
        };
        if let Some(other) = found.schema_type.filter(|kind| kind != "AVRO") {
            return Err(unusable(format!("schema {id} is {other}, not Avro")));
        }
        if !found.references.is_empty() {
            return Err(unusable(format!("schema {id} refers to other schemas, which isn't supported")));
        }
        let parsed =
            Schema::parse(&found.schema).map_err(|err| unusable(format!("schema {id} can't be used: {err}")))?;
        let schema = Arc::new(parsed);
        lock(&self.by_id).put(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The id of a schema under a subject, if it is registered there. Registers nothing.
    pub async fn registered(&self, subject: &str, schema: &Schema) -> Result<Option<SchemaId>, RegistryError> {
        #[derive(Deserialize)]
        struct Found {
            id: u32,
        }
        let body = json!({ "schema": schema.text() });
        let answer =
            self.http.send(Method::POST, &["subjects", subject], &[("normalize", "true")], Some(&body)).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(SchemaId(self.http.json::<Found>(&answer)?.id))),
            StatusCode::NOT_FOUND if matches!(answer.error_code(), Some(40401..=40403)) => Ok(None),
            _ => Err(self.http.unexpected(&answer)),
        }
    }

    /// Whether a schema could be registered under a subject, by the rules and versions the subject has there. A subject
    /// without versions takes any.
    pub async fn compatible(&self, subject: &str, schema: &Schema) -> Result<Verdict, RegistryError> {
        #[derive(Deserialize)]
        struct Judged {
            is_compatible: bool,
            #[serde(default)]
            messages: Vec<String>,
        }
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        let body = json!({ "schema": schema.text() });
        let answer = self.http.send(Method::POST, &path, &[("verbose", "true")], Some(&body)).await?;
        match answer.status {
            StatusCode::OK => {
                let judged: Judged = self.http.json(&answer)?;
                let yes = judged.is_compatible;
                Ok(if yes { Verdict::Compatible } else { Verdict::Incompatible(judged.messages) })
            }
            StatusCode::NOT_FOUND if matches!(answer.error_code(), Some(40401 | 40402)) => Ok(Verdict::Compatible),
            _ => Err(self.http.unexpected(&answer)),
        }
    }

    /// The compatibility level in force for a subject, as in `FULL_TRANSITIVE`; `None` when the registry keeps none for
    /// the subject and doesn't say its general one.
    pub async fn level(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Level {
            compatibility_level: String,
        }
        let answer = self.http.send(Method::GET, &["config", subject], &[("defaultToGlobal", "true")], None).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(self.http.json::<Level>(&answer)?.compatibility_level)),
            StatusCode::NOT_FOUND if matches!(answer.error_code(), Some(40401 | 40408)) => Ok(None),
            _ => Err(self.http.unexpected(&answer)),
        }
    }

    /// Makes the registry hold a subject to full compatibility with all its versions. Apicurio checks nothing until told.
    pub async fn require_full_transitive(&self, subject: &str) -> Result<(), RegistryError> {
        let body = json!({ "compatibility": "FULL_TRANSITIVE" });
        let answer = self.http.send(Method::PUT, &["config", subject], &[], Some(&body)).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.http.unexpected(&answer)) }
    }
}

impl RegistryError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            RegistryError::Refused { hint, .. } => Some(hint),
            RegistryError::Unavailable { .. } | RegistryError::NotFound { .. } => None,
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.http.url()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegistryAuth::Basic { .. } => "Basic(…)",
            RegistryAuth::Bearer(_) => "Bearer(…)",
        })
    }
}

/// A map that forgets what came first.
struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    fn new(capacity: usize) -> Bounded<K, V> {
        Bounded { entries: HashMap::new(), order: VecDeque::new(), capacity }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.capacity
            && let Some(first) = self.order.pop_front()
        {
            self.entries.remove(&first);
        }
    }
}

/// The caches hold whole entries only, so one left behind by a panic is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
