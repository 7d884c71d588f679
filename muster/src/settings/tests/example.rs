//! `docker/muster.toml` can be read, and so can everything it offers in comments; together they name every key there is.

use std::collections::BTreeSet;

use pipeline::config;

use super::{EXAMPLE, read};
use crate::settings::{HistorySettings, LogSettings, Settings};

#[test]
fn the_example_is_right() {
    let settings = read(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    assert_eq!(settings.processors.len(), 5);
    assert_eq!(settings.sinks[0].to.topics().len(), 6);
    let LogSettings::Kafka(kafka) = settings.log else { panic!("compose.yaml has Kafka") };
    assert_eq!((kafka.bootstrap.as_str(), kafka.replication), ("kafka:9092", 1));
}

#[test]
fn what_it_offers_in_comments_is_right() {
    for text in variants() {
        if let Err(problems) = read(&text) {
            panic!("{problems}\n\nin\n\n{text}");
        }
    }
}

#[test]
fn it_names_every_key() {
    let (mut asked, mut named) = (BTreeSet::new(), BTreeSet::new());
    for text in variants() {
        asked.extend(config::keys(&text, Settings::read).iter().map(|key| in_general(key)));
        let table: toml::Table = text.parse().unwrap();
        names(&table, "", &mut named);
    }
    let missing: Vec<_> = asked.difference(&named).collect();
    assert!(missing.is_empty(), "docker/muster.toml doesn't name {missing:?}");
}

#[test]
fn defaults_are_what_the_comments_say() {
    let said = read(&offers(EXAMPLE)).unwrap();
    let silent = read(EXAMPLE).unwrap();
    assert_eq!(format!("{:?}", said.retry), format!("{:?}", silent.retry));
    assert_eq!(said.rejects, silent.rejects);
    assert_eq!(said.processors, silent.processors);
    assert_eq!(said.sinks[0].limits, silent.sinks[0].limits);
    let export = said.export.as_ref().unwrap();
    assert_eq!(export.listen, "127.0.0.1:8081".parse().unwrap());
    let default = api::export::ExportOptions { url: export.options.url.clone(), ..Default::default() };
    assert_eq!(format!("{:?}", export.options), format!("{default:?}"));
    assert!(silent.export.is_none() && silent.snapshots.is_none());
    let history = |settings: &Settings| match &settings.operations.history {
        HistorySettings::Postgres { options, .. } => {
            (settings.operations.keep, options.schema.clone(), options.connect_timeout, options.statement_timeout)
        }
        HistorySettings::Sqlite { .. } => panic!("compose.yaml has PostgreSQL"),
    };
    assert_eq!(history(&said), history(&silent));
    let (LogSettings::Kafka(said), LogSettings::Kafka(silent)) = (said.log, silent.log) else { panic!("Kafka") };
    assert_eq!((said.partitions, said.session), (silent.partitions, silent.session));
}

/// The example with all that is offered beside what is set, and then once more for each offer that stands instead of
/// something.
fn variants() -> Vec<String> {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut variants = vec![offers(EXAMPLE)];
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with(INSTEAD)) {
        let end = end_of_offer(&lines, at);
        let sentence = line.split_once(':').map_or(*line, |(sentence, _)| sentence);
        let replaced: Vec<&str> = sentence.split('`').skip(1).step_by(2).collect();
        let before = without(&offers(&lines[..at].join("\n")), &replaced);
        let offer: Vec<&str> = lines[at..end].iter().filter_map(|line| offered(line)).collect();
        variants.push([before, offer.join("\n"), offers(&lines[end..].join("\n"))].join("\n"));
    }
    variants
}

/// What stands instead of something begins like this, names what, and ends its sentence with a colon.
const INSTEAD: &str = "# Instead of ";

/// With the offers that stand beside what is set; those that stand instead of it stay comments.
fn offers(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if line.starts_with(INSTEAD) {
            at = end_of_offer(&lines, at);
            continue;
        }
        kept.push(offered(line).unwrap_or(line));
        at += 1;
    }
    kept.join("\n")
}

/// The place behind the keys of the offer whose text begins here.
fn end_of_offer(lines: &[&str], at: usize) -> usize {
    let is_key = |at: &usize| lines.get(*at).is_some_and(|line| offered(line).is_some());
    let first = (at..lines.len()).find(is_key).unwrap_or(lines.len());
    (first..lines.len()).find(|at| !is_key(at)).unwrap_or(lines.len())
}

/// `#key = value`: an offer. Text has a blank behind the mark.
fn offered(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

/// Without the last setting of each of these keys, or the sections whose names begin so.
fn without(text: &str, names: &[&str]) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    for name in names {
        if let Some(section) = name.strip_suffix(']') {
            let mut inside = false;
            lines.retain(|line| {
                if line.starts_with('[') {
                    inside = line.starts_with(section);
                }
                !inside
            });
        } else if let Some(at) = lines.iter().rposition(|line| line.starts_with(&format!("{name} = "))) {
            lines.remove(at);
        } else {
            panic!("nothing sets {name}");
        }
    }
    lines.join("\n")
}

/// Names of the user's own don't count, and one feed stands for all: `sinks.register.to` is `sinks.NAME.to`.
fn in_general(path: &str) -> String {
    let mut parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    for at in 1..parts.len() {
        // A kind of source is called so, too.
        let is_kind = at > 1 && parts[at - 2] == "from";
        let names = ["sources", "sinks", "feeds", "tables", "derived", "datasets", "resources"];
        if !is_kind && names.contains(&parts[at - 1].as_str()) {
            parts[at] = "NAME".into();
        }
    }
    parts.join(".")
}

/// All keys of a file.
fn names(table: &toml::Table, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some(table) = value.as_table() {
            names(table, &path, found);
        }
        found.insert(in_general(&path));
    }
}
