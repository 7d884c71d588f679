//! The same rows in Parquet and in JSON, by readers that aren't ours.

use std::collections::BTreeMap;
use std::process::Command;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use pipeline::snapshot::{Coding, Form, Set};
use serde_json::Value;

use super::site::{Site, bytes, records};

/// By Parquet's own row reader, which knows nothing of Arrow.
async fn rows(site: &Site, set: &Set) -> BTreeMap<String, Value> {
    let object = set.object(Form::Parquet, Coding::Identity).unwrap();
    let file = bytes::Bytes::from(bytes(&site.store, &object.path).await);
    let reader = SerializedFileReader::new(file).unwrap();
    let mut rows = BTreeMap::new();
    for row in reader.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let fields = row.get_column_iter().map(|(name, field)| (name.clone(), shown(field)));
        let fields: serde_json::Map<String, Value> = fields.collect();
        rows.insert(fields["_key"].as_str().unwrap().to_owned(), Value::Object(fields));
    }
    rows
}

fn shown(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Str(value) => value.as_str().into(),
        other => other.to_string().into(),
    }
}

async fn filled() -> Site {
    fill(Site::new().await).await
}

async fn fill(mut site: Site) -> Site {
    for day in 0..4 {
        for n in 0..50 {
            if (n + day) % 3 == 0 {
                let updated = (n % 2 == 0).then(|| site.now() - chrono::TimeDelta::microseconds(123_456));
                site.put(n, &format!("P{day}"), updated).await;
            }
        }
        site.snapshot().await;
        site.pass(24).await;
    }
    site
}

#[tokio::test]
async fn parquet_and_json_agree_row_by_row() {
    let site = filled().await;
    let dataset = site.employees().await;
    let sets = dataset.windows.iter().flat_map(|window| std::iter::once(&window.part).chain(&window.whole));
    for set in std::iter::once(&dataset.full).chain(sets) {
        let table = rows(&site, set).await;
        let list = records(&site.store, set).await;
        assert_eq!(table.len(), list.len());
        for record in list {
            let row = &table[record["id"].as_str().unwrap()];
            for field in ["id", "position", "is_active"] {
                assert_eq!(row[field], record[field], "{field}");
            }
            assert_eq!(row["updated_at"].is_null(), record.get("updated_at").is_none());
            let info: Value = serde_json::from_str(row["additional_info"].as_str().unwrap()).unwrap();
            assert_eq!(info, record["additional_info"]);
        }
    }
}

/// Says where a value isn't as the schema has it, or has fields that the schema doesn't know.
fn against(value: &Value, schema: &Value, whole: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let found = whole.pointer(name.trim_start_matches('#')).unwrap();
        return against(value, found, whole, at, wrong);
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other} isn't known here"),
    };
    if schema.get("type").is_some_and(|kind| !is(kind.as_str().unwrap())) {
        wrong.push(format!("{at}: of another type"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrong.push(format!("{at}: another value"));
    }
    if schema.get("enum").is_some_and(|of| !of.as_array().unwrap().contains(value)) {
        wrong.push(format!("{at}: none of the values"));
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let fits = choices.iter().filter(|choice| {
            let mut found = Vec::new();
            against(value, choice, whole, at, &mut found);
            found.is_empty()
        });
        if fits.count() != 1 {
            wrong.push(format!("{at}: not exactly one of the choices"));
        }
    }
    for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
        against(item, &schema["items"], whole, &format!("{at}[{nth}]"), wrong);
    }
    let Some(fields) = value
        .as_object()
        .filter(|_| schema.get("properties").is_some() || schema.get("additionalProperties").is_some())
    else {
        return;
    };
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, field) in fields {
        let known = schema.get("properties").and_then(|known| known.get(name)).or(schema.get("additionalProperties"));
        match known {
            Some(known) => against(field, known, whole, &format!("{at}.{name}"), wrong),
            None => wrong.push(format!("{at}: {name} isn't in the schema")),
        }
    }
}

#[tokio::test]
async fn manifests_are_as_their_schema_says() {
    let mut site = filled().await;
    site.settings.days = sinks::snapshot::DayRule::Calendar(chrono_tz::Europe::Kyiv);
    let rolling = site.latest().await;
    site.snapshot().await;
    let schema: Value = serde_json::from_str(include_str!("../../../schemas/snapshots/manifest.schema.json")).unwrap();
    for manifest in [rolling, site.latest().await] {
        let mut wrong = Vec::new();
        against(&serde_json::to_value(&manifest).unwrap(), &schema, &schema, "manifest", &mut wrong);
        assert_eq!(wrong, Vec::<String>::new());
        let mut other = serde_json::to_value(&manifest).unwrap();
        other["datasets"]["employees"]["full"]["objects"][0]["colour"] = "blue".into();
        against(&other, &schema, &schema, "manifest", &mut wrong);
        assert_eq!(wrong.len(), 1, "what isn't in the schema is found: {wrong:?}");
    }
}

/// With `MUSTER_PYTHON` naming a Python that has pyarrow and duckdb.
#[tokio::test]
#[ignore = "needs MUSTER_PYTHON: a python3 with pyarrow and duckdb"]
async fn pyarrow_and_duckdb_read_what_the_export_says() {
    let python = std::env::var("MUSTER_PYTHON").expect("MUSTER_PYTHON names a python3 with pyarrow and duckdb");
    let site = filled().await;
    let dataset = site.employees().await;
    let deepest = dataset.windows.iter().rfind(|window| window.whole.is_some()).unwrap();
    for set in [&dataset.full, deepest.whole.as_ref().unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        for object in &set.objects {
            let form = if object.form == Form::Json { "json" } else { "parquet" };
            let name = format!("set.{form}{}", object.coding.ending());
            std::fs::write(folder.path().join(name), bytes(&site.store, &object.path).await).unwrap();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/read_back.py");
        let output = Command::new(&python).arg(script).arg(folder.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), set.records.to_string());
    }
}

/// The program that docs/snapshots.md shows. Without its comparison of digests, the second half fails.
#[tokio::test]
#[ignore = "needs MUSTER_PYTHON: a python3 with pyarrow and duckdb"]
async fn the_program_on_the_page_fetches_what_is_whole_and_nothing_else() {
    let python = std::env::var("MUSTER_PYTHON").expect("MUSTER_PYTHON names a python3 with pyarrow and duckdb");
    let mut blocks = include_str!("../../../docs/snapshots.md").split("```python\n# fetch.py\n").skip(1);
    let program = blocks.next().and_then(|block| block.split("```").next()).unwrap();
    let store = tempfile::tempdir().unwrap();
    let objects = object_store::local::LocalFileSystem::new_with_prefix(store.path()).unwrap();
    let site = fill(Site::over(std::sync::Arc::new(objects)).await).await;
    let full = site.employees().await.full;
    let run = || {
        let here = tempfile::tempdir().unwrap();
        let output = Command::new(&python)
            .args(["-c", program, "employees", "full"])
            .env("SNAPSHOTS", format!("file://{}", store.path().display()))
            .current_dir(here.path())
            .output()
            .unwrap();
        let fetched = std::fs::read(here.path().join("00000004/employees-full-1.parquet"));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned(), fetched)
    };
    let object = full.object(Form::Parquet, Coding::Identity).unwrap();
    let (done, told, fetched) = run();
    assert!(done, "{told}");
    assert_eq!(fetched.unwrap(), bytes(&site.store, &object.path).await);

    let path = store.path().join(&object.path);
    let mut spoilt = std::fs::read(&path).unwrap();
    spoilt[100] ^= 1;
    std::fs::write(&path, spoilt).unwrap();
    let (done, told, fetched) = run();
    assert!(!done && told.contains("isn't what the manifest says"), "{told}");
    assert!(fetched.is_err(), "a spoilt file has got its name");
}
