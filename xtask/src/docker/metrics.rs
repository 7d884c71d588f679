//! Boards and rules name only metrics, and labels of theirs, that `pipeline/src/telemetry.rs` has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What begins like this is ours.
const PREFIX: &str = "muster_";
/// Labels that every series gets from Prometheus.
const PROMETHEUS: [&str; 2] = ["instance", "job"];

/// A metric's kind and labels, as its comment says.
pub(super) struct Metric {
    histogram: bool,
    labels: BTreeSet<String>,
}

/// Reads the constants and their comments: ``/// Counter, labels `component`, `outcome` (…): …``.
pub(super) fn known(telemetry: &str) -> BTreeMap<String, Metric> {
    let mut known = BTreeMap::new();
    let mut comment = String::new();
    for line in telemetry.lines() {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            continue;
        }
        if let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split('"').nth(1)) {
            let heading = comment.split(':').next().unwrap_or_default();
            let labels = heading.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            known.insert(name.to_owned(), Metric { histogram: heading.trim().starts_with("Histogram"), labels });
        }
        comment.clear();
    }
    known
}

/// What is wrong with the expressions in a document.
pub(super) fn problems(document: &Value, known: &BTreeMap<String, Metric>) -> Vec<String> {
    let mut expressions = Vec::new();
    collect(document, &mut expressions);
    let mut problems = BTreeSet::new();
    for expression in expressions {
        let mut labels: BTreeSet<&str> = PROMETHEUS.into();
        for name in words(expression).filter(|word| word.starts_with(PREFIX)) {
            match metric(name, known) {
                Some(metric) => labels.extend(metric.labels.iter().map(String::as_str)),
                None => _ = problems.insert(format!("{name} isn't a metric of pipeline/src/telemetry.rs")),
            }
        }
        for label in labels_of(expression).filter(|label| !labels.contains(label)) {
            problems.insert(format!("no metric of `{}` has the label {label}", expression.trim()));
        }
    }
    problems.into_iter().collect()
}

/// A histogram is read through its count and sum, the others under their own names.
fn metric<'k>(name: &str, known: &'k BTreeMap<String, Metric>) -> Option<&'k Metric> {
    let base = name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count"));
    match base.and_then(|base| known.get(base)) {
        Some(metric) if metric.histogram => Some(metric),
        _ => known.get(name).filter(|metric| !metric.histogram),
    }
}

fn collect<'d>(document: &'d Value, expressions: &mut Vec<&'d str>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "definition", "series"].contains(&name.as_str()) => expressions.push(text),
                    _ => collect(value, expressions),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, expressions)),
        _ => {}
    }
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Labels to match (`{outcome="rejected"}`) and to group by (`by (component)`).
fn labels_of(expression: &str) -> impl Iterator<Item = &str> {
    let matched = between(expression, "{", '}').flat_map(|matchers| {
        // What stands in quotes is a value.
        let outside = matchers.split('"').step_by(2);
        outside.flat_map(words)
    });
    let grouped = between(expression, "by (", ')').flat_map(words);
    matched.chain(grouped)
}

fn between<'e>(expression: &'e str, open: &'e str, close: char) -> impl Iterator<Item = &'e str> {
    expression.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    const TELEMETRY: &str = r#"
/// Counter, labels `component`, `outcome` (delivered, rejected): records.
pub const RECORDS: &str = "muster_records_total";
/// Histogram, label `component`: seconds.
pub const SECONDS: &str = "muster_batch_seconds";
"#;

    fn found(expression: &str) -> Vec<String> {
        problems(&json!({ "panels": [{ "targets": [{ "expr": expression }] }] }), &known(TELEMETRY))
    }

    #[test]
    fn metrics_and_labels_that_are_there() {
        let fine = [
            r#"sum by (component) (rate(muster_records_total{outcome="rejected", instance=~"a.*"}[5m]))"#,
            "rate(muster_batch_seconds_sum[5m]) / rate(muster_batch_seconds_count[5m])",
            r#"up{job="muster"}"#,
        ];
        for expression in fine {
            assert!(found(expression).is_empty(), "{expression}");
        }
    }

    #[test]
    fn names_and_labels_that_nobody_writes_are_found() {
        assert_eq!(found("muster_record_total"), ["muster_record_total isn't a metric of pipeline/src/telemetry.rs"]);
        assert_eq!(found("muster_batch_seconds"), ["muster_batch_seconds isn't a metric of pipeline/src/telemetry.rs"]);
        assert_eq!(found("muster_records_total_sum").len(), 1);
        assert_eq!(
            found(r#"sum by (topic) (muster_records_total)"#),
            ["no metric of `sum by (topic) (muster_records_total)` has the label topic"]
        );
        assert_eq!(found(r#"muster_batch_seconds_sum{outcome="stale"}"#).len(), 1);
    }
}
