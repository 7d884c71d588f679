//! What can be known of `docker/` without a container engine: its files parse, and what they name is there.
//!
//! Each part finds problems in texts, without I/O of its own where it can; here the files are read, and everything found
//! is shown at once.

mod board;
mod compose;
mod dockerfile;
mod metrics;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Checks every file of `docker/`; an error when one has a problem.
pub(crate) fn check() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().context("finding the workspace")?;
    let mut problems = Vec::new();
    let documents = documents(&root.join("docker"), &mut problems)?;
    let document = |name: &str| -> Result<&Value> {
        let found = documents.iter().find(|(path, _)| path.ends_with(name));
        found.map(|(_, document)| document).with_context(|| format!("docker/{name} is missing or can't be parsed"))
    };
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"));
    if problems.is_empty() {
        let compose = document("compose.yaml")?;
        problems.extend(compose::problems(compose, &root.join("docker")));
        problems.extend(compose::variables(&read("docker/compose.yaml")?, &read("docker/.env.example")?));
        problems.extend(compose::same_as_tests(compose, &tests(&root)?));
        if let Ok(configuration) = read("docker/muster.toml") {
            problems.extend(compose::secrets(compose, &configuration));
        }
        problems.extend(dockerfile::problems(&read("docker/Dockerfile")?, &root, &read("Cargo.toml")?));

        let known = metrics::known(&read("pipeline/src/telemetry.rs")?);
        for (path, document) in &documents {
            let named = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            problems
                .extend(metrics::problems(document, &known).into_iter().map(|problem| format!("{named}: {problem}")));
        }
        let prometheus = document("prometheus.yml")?;
        problems.extend(board::prometheus(prometheus, compose, &root.join("docker")));
        let source = document("grafana/provisioning/datasources/prometheus.yml")?;
        problems.extend(board::sources(document("grafana/dashboards/muster.json")?, source));
    }
    if !problems.is_empty() {
        for problem in &problems {
            eprintln!("    {problem}");
        }
        bail!("docker/ has {} problem(s)", problems.len());
    }
    tools::promtool(&root)?;
    tools::compose(&root, &read("docker/.env.example")?)
}

/// Every YAML and JSON file, parsed.
fn documents(folder: &Path, problems: &mut Vec<String>) -> Result<Vec<(PathBuf, Value)>> {
    let mut documents = Vec::new();
    for path in files(folder)? {
        let parsed = match path.extension().and_then(|ending| ending.to_str()) {
            Some("yml" | "yaml") => yaml(&text(&path)?).map_err(|err| err.to_string()),
            Some("json") => serde_json::from_str(&text(&path)?).map_err(|err| err.to_string()),
            _ => continue,
        };
        match parsed {
            Ok(document) => documents.push((path, document)),
            Err(problem) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    Ok(documents)
}

fn yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

/// The code that starts services for tests.
fn tests(root: &Path) -> Result<String> {
    let mut all = String::new();
    for path in files(&root.join("tests/services"))? {
        if path.extension().is_some_and(|ending| ending == "rs") {
            all.push_str(&text(&path)?);
        }
    }
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Whether an image's name says which version it is.
fn pinned(image: &str) -> bool {
    if image.contains("@sha256:") {
        return true;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    // `debian:13` moves with every point release.
    name.split_once(':').is_some_and(|(_, tag)| {
        let version = tag.trim_start_matches('v').split('-').next().unwrap_or_default();
        version.contains('.') && version.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_a_version_with_a_point() {
        for image in ["postgres:16.11-trixie", "ghcr.io:443/ward/rota:v1.8.0", "rota@sha256:0123"] {
            assert!(pinned(image), "{image}");
        }
        for image in ["postgres", "postgres:latest", "postgres:16", "ghcr.io:443/ward/rota", "debian:trixie-slim"] {
            assert!(!pinned(image), "{image}");
        }
    }
}
