//! `compose.yaml`: what it names is there, nothing is open to other machines, and no version is left to chance.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::pinned;

/// Services whose version is the one the tests run against.
const TESTED: [&str; 2] = ["kafka", "registry"];

/// What Muster is told. It is a site's own, and the annotated one has a test that loads it.
const CONFIGURATION: &str = "./muster.toml";

/// What is wrong in itself. `folder`: where the file is.
pub(super) fn problems(compose: &Value, folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let services = services(compose);
    let built: BTreeSet<&str> =
        services.values().filter(|service| service.get("build").is_some()).filter_map(image).collect();
    let volumes: BTreeSet<&str> = keys(compose.get("volumes")).collect();
    let mut mounted: BTreeSet<&str> = BTreeSet::new();

    for (name, service) in &services {
        match image(service) {
            None => problems.push(format!("compose.yaml: {name} has no image")),
            Some(image) if !built.contains(image) && !pinned(image) => {
                problems.push(format!("compose.yaml: {name}'s image {image} isn't pinned to a version"));
            }
            Some(_) => {}
        }
        for port in texts(service.get("ports")) {
            if !port.starts_with("127.0.0.1:") {
                problems.push(format!("compose.yaml: {name}'s port {port} is open to other machines"));
            }
        }
        for needed in keys(service.get("depends_on")) {
            let Some(other) = services.get(needed) else {
                problems.push(format!("compose.yaml: {name} depends on {needed}, which isn't there"));
                continue;
            };
            if other.get("healthcheck").is_none() && !image(other).is_some_and(|image| built.contains(image)) {
                problems.push(format!("compose.yaml: {name} waits for {needed}, which has no health check"));
            }
        }
        for volume in texts(service.get("volumes")) {
            let source = volume.split(':').next().unwrap_or_default();
            if source.starts_with('.') {
                if source != CONFIGURATION && !folder.join(source).exists() {
                    problems.push(format!("compose.yaml: {name} mounts {source}, which isn't there"));
                }
            } else if volumes.contains(source) {
                mounted.insert(source);
            } else {
                problems.push(format!("compose.yaml: {name}'s volume {source} isn't declared"));
            }
        }
    }
    for unused in volumes.difference(&mounted) {
        problems.push(format!("compose.yaml: nobody mounts the volume {unused}"));
    }
    problems
}

/// The variables a person must fill in are those of `.env.example`.
pub(super) fn variables(compose: &str, example: &str) -> Vec<String> {
    let used: BTreeSet<&str> = compose.split("${").skip(1).map(word).collect();
    let offered: BTreeSet<&str> = names(example).collect();
    let missing = used.difference(&offered).map(|name| format!(".env.example: {name} is missing"));
    let unused = offered.difference(&used).map(|name| format!(".env.example: compose.yaml doesn't use {name}"));
    missing.chain(unused).collect()
}

/// The variables that `.env.example` sets.
pub(super) fn names(example: &str) -> impl Iterator<Item = &str> {
    example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.split_once('=')?.0.trim()))
}

/// What is run here is what the tests have tried.
pub(super) fn same_as_tests(compose: &Value, tests: &str) -> Vec<String> {
    let services = services(compose);
    let images = TESTED.iter().filter_map(|name| image(services.get(*name)?));
    images
        .filter(|image| !tests.contains(&format!("\"{image}\"")))
        .map(|image| format!("compose.yaml: {image} isn't the version that tests/services starts"))
        .collect()
}

/// Every secret that the configuration takes from the environment is given to all processes of Muster.
pub(super) fn secrets(compose: &Value, configuration: &str) -> Vec<String> {
    let in_use = configuration.lines().filter(|line| !line.trim_start().starts_with('#'));
    let wanted: BTreeSet<&str> = in_use.flat_map(|line| line.split("env = \"").skip(1)).map(word).collect();
    let mut problems = Vec::new();
    for (name, service) in services(compose).iter().filter(|(name, _)| name.starts_with("muster")) {
        let given: BTreeSet<&str> = keys(service.get("environment")).collect();
        for secret in wanted.difference(&given) {
            problems.push(format!(
                "compose.yaml: {name} isn't given {secret}, which muster.toml takes from the environment"
            ));
        }
    }
    problems
}

/// All services, with what they take over by `<<`.
pub(super) fn services(compose: &Value) -> Map<String, Value> {
    compose.get("services").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn image(service: &Value) -> Option<&str> {
    service.get("image")?.as_str()
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn keys(map: Option<&Value>) -> impl Iterator<Item = &str> {
    map.and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ROTA: &str = r#"
x-rota: &rota
  image: rota:local
  depends_on: { clock: { condition: service_healthy } }
services:
  rota:
    <<: *rota
    build: .
    environment: { PIN: "${PIN:?}" }
    volumes: ["./nowhere.toml:/etc/rota.toml:ro", "beds:/beds"]
    ports: ["8080:8080"]
  clock:
    image: clock:latest
volumes: { beds: , linen: }
"#;

    #[test]
    fn what_is_missing_open_or_left_to_chance_is_named() {
        let compose = super::super::yaml(ROTA).unwrap();
        let found = problems(&compose, Path::new(env!("CARGO_MANIFEST_DIR")));
        let expected = [
            "compose.yaml: clock's image clock:latest isn't pinned to a version",
            "compose.yaml: rota's port 8080:8080 is open to other machines",
            "compose.yaml: rota waits for clock, which has no health check",
            "compose.yaml: rota mounts ./nowhere.toml, which isn't there",
            "compose.yaml: nobody mounts the volume linen",
        ];
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    }

    #[test]
    fn variables_and_their_example_say_the_same() {
        let found = variables(ROTA, "# PIN=\nKEY=\n");
        assert_eq!(found, [".env.example: PIN is missing", ".env.example: compose.yaml doesn't use KEY"]);
    }

    #[test]
    fn a_secret_that_no_process_is_given_is_named() {
        let compose = super::super::yaml("services: { muster: { environment: { PIN: x } } }").unwrap();
        let found = secrets(&compose, "pin = { env = \"PIN\" }\n# old = { env = \"OLD\" }\nkey = { env = \"KEY\" }\n");
        assert_eq!(found, ["compose.yaml: muster isn't given KEY, which muster.toml takes from the environment"]);
    }
}
