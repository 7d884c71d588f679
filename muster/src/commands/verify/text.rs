//! How a verification is shown. Keys, columns, versions and counts: never contents.

use pipeline::state::Answer;
use pipeline::verify::{Difference, Differing, EntityReport, Tally};
use serde_json::{Value, json};

use super::ComponentReport;
use crate::output::table;

/// What is shown.
pub struct Shown<'a> {
    /// What was compared last.
    pub reports: &'a [ComponentReport],
    /// So many keys of each entity.
    pub keys: usize,
    /// What was done about what was found first.
    pub mended: Option<Mended<'a>>,
}

/// What was done about differences.
pub struct Mended<'a> {
    /// How many keys differed.
    pub found: u64,
    /// What the owners answered.
    pub answers: &'a [Answer],
}

impl Shown<'_> {
    /// For programs.
    pub fn object(&self) -> Value {
        let mut object = object(self.reports, self.keys);
        if let Some(Mended { found, answers }) = &self.mended {
            object["repair"] = json!({ "found": found, "answers": answers });
        }
        object
    }

    /// For people.
    pub fn text(&self) -> String {
        let text = text(self.reports, self.keys);
        let Some(Mended { found, answers }) = &self.mended else { return text };
        let said = answers.iter().map(|answer| format!("{}\n", answer.text)).collect::<String>();
        format!("{found} keys differed\n{said}and now:\n{text}")
    }
}

/// How many keys differ in all.
pub fn differing(reports: &[ComponentReport]) -> u64 {
    reports.iter().flat_map(|report| &report.entities).map(|entity| entity.tally.differing()).sum()
}

fn object(reports: &[ComponentReport], keys: usize) -> Value {
    let same = reports.iter().all(ComponentReport::same);
    let reports: Vec<Value> = reports
        .iter()
        .map(|report| {
            let entities: Vec<Value> = report.entities.iter().map(|entity| entity_object(entity, keys)).collect();
            let error = report.error.as_ref().map(|error| error.text.as_str());
            json!({ "component": report.component, "same": report.same(), "entities": entities, "error": error })
        })
        .collect();
    json!({ "same": same, "components": reports })
}

fn entity_object(entity: &EntityReport, keys: usize) -> Value {
    let shown: Vec<&Differing> = entity.keys.iter().take(keys).collect();
    json!({
        "topic": entity.topic, "same": entity.same(), "counts": entity.tally, "behind": entity.behind, "keys": shown,
    })
}

fn text(reports: &[ComponentReport], keys: usize) -> String {
    let mut rows = Vec::new();
    for report in reports {
        rows.extend(report.entities.iter().map(|entity| row(&report.component, entity)));
    }
    let head = [
        "component",
        "topic",
        "compared",
        "missing",
        "extra",
        "stale",
        "newer",
        "different",
        "waiting",
        "set aside",
        "undelivered",
    ];
    let mut lines = Vec::new();
    if !rows.is_empty() {
        lines.push(table(&head, &rows));
    }
    for report in reports {
        for entity in &report.entities {
            remarks(&mut lines, &report.component, entity, keys);
        }
        if let Some(error) = &report.error {
            lines.push(format!("{}: {}", report.component, error.text));
        }
    }
    lines.push(String::new());
    lines.push(match (differing(reports), reports.iter().all(ComponentReport::same)) {
        (0, true) => "nothing differs".to_owned(),
        (0, false) => "nothing differs as far as could be compared".to_owned(),
        (1, _) => "1 key differs".to_owned(),
        (n, _) => format!("{n} keys differ"),
    });
    lines.join("\n")
}

fn row(component: &str, entity: &EntityReport) -> Vec<String> {
    let Tally { compared, missing, extra, stale, newer, different, waiting, set_aside, undelivered, .. } = entity.tally;
    let counts = [compared, missing, extra, stale, newer, different, waiting, set_aside, undelivered];
    let names = [component.to_owned(), entity.topic.clone()];
    names.into_iter().chain(counts.map(|count| count.to_string())).collect()
}

fn remarks(lines: &mut Vec<String>, component: &str, entity: &EntityReport, keys: usize) {
    let topic = &entity.topic;
    if entity.behind {
        let left = entity.tally.undelivered;
        lines.push(format!(
            "{component} has not delivered all of {topic} yet: {left} records are still to come (is it running?)"
        ));
    }
    if entity.tally.edited > 0 {
        lines.push(format!(
            "{topic}: {} keys were repaired by hand and say something else on purpose",
            entity.tally.edited
        ));
    }
    if entity.tally.kept > 0 {
        lines.push(format!(
            "{topic}: {} keys have gone from the system and are kept, as the configuration says",
            entity.tally.kept
        ));
    }
    if entity.tally.in_flight > 0 {
        lines.push(format!("{topic}: {} keys changed all the while", entity.tally.in_flight));
    }
    if entity.tally.seen_once > 0 {
        lines.push(format!(
            "{topic}: {} of the differing keys were looked at once only; some may have been on their way",
            entity.tally.seen_once
        ));
    }
    lines.extend(entity.keys.iter().take(keys).map(|differing| format!("    {topic} {}", one(differing))));
    let more = entity.tally.differing().saturating_sub(entity.keys.len().min(keys) as u64);
    if more > 0 && keys > 0 {
        lines.push(format!("    {topic}: {more} more (`--keys N` shows more)"));
    }
}

fn one(differing: &Differing) -> String {
    let key = &differing.key;
    match &differing.difference {
        Difference::Missing => format!("{key}: missing"),
        Difference::Extra { held } => format!("{key}: extra (version {held})"),
        Difference::Stale { held: Some(held) } => format!("{key}: stale (version {held})"),
        Difference::Stale { held: None } => format!("{key}: stale (no version)"),
        Difference::Newer { held } => format!("{key}: version {held} is above the topic's"),
        Difference::Columns { columns } if columns.is_empty() => format!("{key}: different"),
        Difference::Columns { columns } => format!("{key}: differs in {}", columns.join(", ")),
        Difference::Waiting => format!("{key}: waiting"),
    }
}
