//! Against a small registry that answers as Confluent's API reference says.

#![allow(clippy::unwrap_used, reason = "tests")]

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, Response},
    middleware::{self, Next},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::Value;

use super::*;

/// What the registry does to the next requests, and what it has seen.
#[derive(Default)]
struct Fake {
    schemas: Mutex<Vec<(String, String)>>,
    faults: Mutex<VecDeque<Fault>>,
    requests: Mutex<Vec<String>>,
}

#[derive(Clone)]
enum Fault {
    Status(u16, &'static str),
    RetryAfter(u16, &'static str),
    Body(u16, String),
    Hang,
}

type Shared = Arc<Fake>;

fn error(status: u16, code: u32, message: &str) -> axum::response::Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({"error_code": code, "message": message}))).into_response()
}

async fn register(
    State(fake): State<Shared>,
    Path(subject): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    body: String,
) -> axum::response::Response {
    assert_eq!(query["normalize"], "true");
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = body["schema"].as_str().unwrap().to_owned();
    let mut schemas = lock(&fake.schemas);
    let new = (subject.clone(), text);
    let incompatible = schemas.iter().any(|(other, text)| *other == subject && required(text) != required(&new.1));
    if incompatible {
        return error(409, 409, "Schema being registered is incompatible with an earlier schema");
    }
    let at = schemas.iter().position(|known| *known == new).unwrap_or_else(|| {
        schemas.push(new);
        schemas.len() - 1
    });
    Json(json!({"id": at + 1})).into_response()
}

async fn by_id(State(fake): State<Shared>, Path(id): Path<usize>) -> axum::response::Response {
    match lock(&fake.schemas).get(id.wrapping_sub(1)) {
        Some((_, text)) => Json(json!({"schema": text})).into_response(),
        None => error(404, 40403, "Schema not found"),
    }
}

async fn compatible(State(fake): State<Shared>, Path(subject): Path<String>, body: String) -> axum::response::Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let schemas = lock(&fake.schemas);
    let Some((_, latest)) = schemas.iter().rfind(|(other, _)| *other == subject) else {
        return error(404, 40401, "Subject not found");
    };
    let yes = required(latest) == required(body["schema"].as_str().unwrap());
    let messages = if yes { vec![] } else { vec!["READER_FIELD_MISSING_DEFAULT_VALUE"] };
    Json(json!({"is_compatible": yes, "messages": messages})).into_response()
}

async fn level() -> axum::response::Response {
    Json(json!({"compatibilityLevel": "FULL_TRANSITIVE"})).into_response()
}

/// Number of fields without default: enough of a compatibility rule for these tests.
fn required(text: &str) -> usize {
    let schema = Schema::parse(text).unwrap();
    schema.fields().iter().filter(|field| field.default.is_none()).count()
}

async fn faults(State(fake): State<Shared>, headers: HeaderMap, request: Request, next: Next) -> Response<Body> {
    let auth = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    lock(&fake.requests).push(format!("{} {} {auth}", request.method(), request.uri().path()).trim_end().to_owned());
    let fault = lock(&fake.faults).pop_front();
    let plain = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(status, body)) => plain(status, Body::from(body)),
        Some(Fault::Body(status, body)) => plain(status, Body::from(body)),
        Some(Fault::RetryAfter(status, seconds)) => {
            Response::builder().status(status).header("retry-after", seconds).body(Body::empty()).unwrap()
        }
        Some(Fault::Hang) => std::future::pending().await,
    }
}

/// A registry under a base path, and a client for it.
async fn start() -> (Shared, Registry) {
    start_with(|config| config).await
}

async fn start_with(adapt: impl Fn(RegistryConfig) -> RegistryConfig) -> (Shared, Registry) {
    let fake = Shared::default();
    let api = Router::new()
        .route("/subjects/{subject}/versions", post(register))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/compatibility/subjects/{subject}/versions/latest", post(compatible))
        .route("/config/{subject}", get(level).put(level))
        .layer(middleware::from_fn_with_state(Arc::clone(&fake), faults))
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
    let app = Router::new().nest("/apis/ccompat/v7", api);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (fake, client(adapt(quick(&url))))
}

fn quick(url: &str) -> RegistryConfig {
    let (timeout, backoff) = (Duration::from_secs(20), Duration::from_millis(1));
    RegistryConfig { timeout, backoff, ..RegistryConfig::new(url) }
}

fn client(config: RegistryConfig) -> Registry {
    // Other tests of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Registry::new(config).unwrap()
}

fn nurse(more: &str) -> Arc<Schema> {
    let text = format!(r#"{{"type": "record", "name": "nurse", "fields": [{{"name": "id", "type": "long"}}{more}]}}"#);
    Arc::new(Schema::parse(&text).unwrap())
}

#[tokio::test]
async fn a_schema_is_registered_once_and_found_by_its_id() {
    let (fake, registry) = start().await;
    let id = registry.register("nurses-value", &nurse("")).await.unwrap();
    assert_eq!(registry.register("nurses-value", &nurse("")).await.unwrap(), id);
    assert_eq!(registry.schema(id).await.unwrap().text(), nurse("").text());
    assert_eq!(*lock(&fake.requests), ["POST /subjects/nurses-value/versions"]);

    let other = client(quick(&registry.http.url()));
    assert_eq!(other.schema(id).await.unwrap().text(), nurse("").text());
    assert_eq!(other.schema(id).await.unwrap().text(), nurse("").text());
    assert_eq!(lock(&fake.requests)[1..], ["GET /schemas/ids/1"]);
}

#[tokio::test]
async fn subjects_are_escaped() {
    let (fake, registry) = start().await;
    registry.register("a/b?c-value", &nurse("")).await.unwrap();
    assert_eq!(lock(&fake.schemas)[0].0, "a/b?c-value");
}

#[tokio::test]
async fn incompatible_schemas_are_refused_with_a_hint() {
    let (_, registry) = start().await;
    let grown = nurse(r#", {"name": "ward", "type": "string"}"#);
    assert_eq!(registry.compatible("nurses-value", &grown).await.unwrap(), Verdict::Compatible);
    registry.register("nurses-value", &nurse("")).await.unwrap();
    let verdict = registry.compatible("nurses-value", &grown).await.unwrap();
    assert_eq!(verdict, Verdict::Incompatible(vec!["READER_FIELD_MISSING_DEFAULT_VALUE".to_owned()]));
    let refused = registry.register("nurses-value", &grown).await.unwrap_err();
    assert!(refused.to_string().ends_with("is incompatible with an earlier schema (409)"), "{refused}");
    assert!(refused.hint().unwrap().contains("or use a new topic"));
    assert_eq!(registry.level("nurses-value").await.unwrap().as_deref(), Some("FULL_TRANSITIVE"));
    registry.require_full_transitive("nurses-value").await.unwrap();
}

#[tokio::test]
async fn an_unknown_id_is_not_a_wrong_address() {
    let (fake, registry) = start().await;
    let unknown = registry.schema(SchemaId(9)).await.unwrap_err();
    assert!(matches!(unknown, RegistryError::NotFound { id: SchemaId(9), .. }));
    lock(&fake.faults).push_back(Fault::Status(404, "<html>not here</html>"));
    let wrong = registry.schema(SchemaId(9)).await.unwrap_err();
    assert!(matches!(&wrong, RegistryError::Refused { hint, .. } if hint.contains("/apis/ccompat/v7")), "{wrong}");
}

#[tokio::test]
async fn busy_and_broken_registries_are_asked_again() {
    let (fake, registry) = start().await;
    lock(&fake.faults).extend([Fault::Status(503, ""), Fault::RetryAfter(429, "0"), Fault::Status(500, "<html>")]);
    registry.register("nurses-value", &nurse("")).await.unwrap();
    assert_eq!(lock(&fake.requests).len(), 4);

    lock(&fake.faults).extend(vec![Fault::Status(502, ""); 4]);
    let down = registry.schema(SchemaId(9)).await.unwrap_err();
    assert!(down.to_string().ends_with("is unavailable: it answered 502 Bad Gateway"), "{down}");
    // Ids seen before go on working.
    registry.schema(SchemaId(1)).await.unwrap();
}

#[tokio::test]
async fn a_long_wait_is_left_to_the_caller() {
    let (fake, registry) = start().await;
    lock(&fake.faults).push_back(Fault::RetryAfter(429, "3600"));
    let busy = registry.schema(SchemaId(1)).await.unwrap_err();
    let asked = Some(Duration::from_secs(3600));
    assert!(matches!(busy, RegistryError::Unavailable { retry_after, .. } if retry_after == asked));
    assert_eq!(lock(&fake.requests).len(), 1);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let down = client(quick(&url)).schema(SchemaId(1)).await.unwrap_err();
    assert_eq!(down.to_string(), format!("schema registry {url} is unavailable: no connection"));
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up() {
    let hurried = |config| RegistryConfig { timeout: Duration::from_millis(50), attempts: 2, ..config };
    let (fake, registry) = start_with(hurried).await;
    lock(&fake.faults).extend([Fault::Hang, Fault::Hang]);
    let slow = registry.schema(SchemaId(1)).await.unwrap_err();
    assert!(slow.to_string().ends_with("is unavailable: it didn't answer in time"), "{slow}");
}

#[tokio::test]
async fn answers_that_are_not_a_registrys_are_refused() {
    let (fake, registry) = start().await;
    let cases = [
        (Fault::Status(200, "<html>please log in</html>"), "with something that isn't a registry's JSON"),
        (Fault::Body(200, "x".repeat(5 << 20)), "its answer is longer than 4194304 bytes"),
        (Fault::Status(302, ""), "it answered 302 Found"),
        (Fault::Status(401, r#"{"error_code": 401, "message": "Unauthorized"}"#), "Unauthorized (401)"),
        (Fault::Status(200, r#"{"schema": "syntax = 3", "schemaType": "PROTOBUF"}"#), "schema 1 is PROTOBUF, not Avro"),
        (
            Fault::Status(200, r#"{"schema": "\"int\""}"#),
            "schema 1 can't be used: schema: is a int, where a record is expected",
        ),
        (Fault::Body(403, format!(r#"{{"error_code": 403, "message": "{}"}}"#, "no ".repeat(1000))), "… (403)"),
    ];
    for (fault, expected) in cases {
        lock(&fake.faults).push_back(fault);
        let refused = registry.schema(SchemaId(1)).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().ends_with(expected), "{refused}");
        assert!(refused.hint().is_some());
    }
    assert_eq!(lock(&fake.requests).len(), 7);
}

#[tokio::test]
async fn credentials_are_sent_and_never_printed() {
    let basic = RegistryAuth::Basic { user: "muster".into(), password: "hush".into() };
    for (auth, sent) in [(basic, "Basic bXVzdGVyOmh1c2g="), (RegistryAuth::Bearer("hush".into()), "Bearer hush")] {
        let (fake, registry) = start_with(|config| RegistryConfig { auth: Some(auth.clone()), ..config }).await;
        registry.register("nurses-value", &nurse("")).await.unwrap();
        assert_eq!(lock(&fake.requests)[0], format!("POST /subjects/nurses-value/versions {sent}"));
        let shown =
            format!("{registry:?} {auth:?} {:?}", RegistryConfig { auth: Some(auth.clone()), ..quick("http://x") });
        assert!(!shown.contains("hush"), "{shown}");
    }
    let refused = Registry::new(RegistryConfig::new("http://muster:hush@localhost")).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hush"));
    assert_eq!(refused.hint(), Some("give user and password as settings of their own"));
}

#[test]
fn the_cache_is_bounded() {
    let mut cache = Bounded::new(2);
    for n in [1, 2, 2, 3] {
        cache.put(n, n);
    }
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (None, Some(&2), Some(&3)));
    assert_eq!(cache.order.len(), 2);
}
