//! The `Dockerfile`: what it copies and builds is there, with a compiler that is new enough.

use std::collections::BTreeSet;
use std::path::Path;

use super::pinned;

/// What is wrong. `root` is the build's context, `workspace` the text of its `Cargo.toml`.
pub(super) fn problems(dockerfile: &str, root: &Path, workspace: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut stages: BTreeSet<String> = BTreeSet::new();
    let mut user = None;
    for line in instructions(dockerfile) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", image, rest @ ..] => {
                user = None;
                if !stages.contains(*image) && !pinned(image) {
                    problems.push(format!("Dockerfile: the image {image} isn't pinned to a version"));
                }
                problems.extend(too_old(image, workspace));
                if let ["AS" | "as", name] = rest {
                    stages.insert((*name).to_owned());
                }
            }
            ["COPY", from, ..] if from.starts_with("--from=") => {
                let stage = &from["--from=".len()..];
                if !stages.contains(stage) {
                    problems.push(format!("Dockerfile: nothing before it builds the stage {stage}"));
                }
            }
            ["COPY", arguments @ ..] => {
                let mut paths: Vec<&str> = arguments.iter().filter(|word| !word.starts_with("--")).copied().collect();
                paths.pop();
                let missing = paths.into_iter().filter(|path| !root.join(path).exists());
                problems.extend(missing.map(|path| format!("Dockerfile: {path} is copied, and isn't there")));
            }
            ["USER", name] => user = Some((*name).to_owned()),
            _ => {}
        }
    }
    if user.is_none_or(|user| user == "root" || user == "0" || user.starts_with("0:")) {
        problems.push("Dockerfile: the image would run as root".to_owned());
    }
    problems
}

/// The compiler must be the one the workspace asks for, or newer.
fn too_old(image: &str, workspace: &str) -> Option<String> {
    let version = version(image.strip_prefix("rust:")?);
    let wanted = workspace.lines().find_map(|line| line.strip_prefix("rust-version = "))?.trim_matches('"');
    (version < self::version(wanted)).then(|| format!("Dockerfile: {image} is older than Rust {wanted}"))
}

fn version(text: &str) -> Vec<u32> {
    text.split('-').next().unwrap_or_default().split('.').filter_map(|part| part.parse().ok()).collect()
}

/// Lines joined where they end with a backslash, without comments.
fn instructions(dockerfile: &str) -> Vec<String> {
    let lines = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "[workspace.package]\nrust-version = \"1.94\"\n";

    fn found(dockerfile: &str) -> Vec<String> {
        problems(dockerfile, Path::new(env!("CARGO_MANIFEST_DIR")), WORKSPACE)
    }

    #[test]
    fn what_is_missing_or_too_old_is_named() {
        let dockerfile = "FROM rust:1.93-slim AS build\n# COPY old .\nCOPY Cargo.toml \\\n  beds ./\nFROM debian:slim\nCOPY --from=built /a /b\n";
        let expected = [
            "Dockerfile: rust:1.93-slim is older than Rust 1.94",
            "Dockerfile: beds is copied, and isn't there",
            "Dockerfile: the image debian:slim isn't pinned to a version",
            "Dockerfile: nothing before it builds the stage built",
            "Dockerfile: the image would run as root",
        ];
        assert_eq!(found(dockerfile), expected);
    }

    #[test]
    fn a_newer_compiler_and_a_user_are_fine() {
        let dockerfile = "FROM rust:1.100.2-slim AS build\nUSER root\nFROM debian:13.2-slim\nCOPY --from=build /a /b\nUSER 10001:10001\n";
        assert!(found(dockerfile).is_empty());
    }
}
