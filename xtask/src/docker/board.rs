//! Prometheus and Grafana read from where something is.

use std::path::Path;

use serde_json::Value;

use super::compose;

/// Prometheus asks services that compose starts, and its rules are there. `folder`: where its file is.
pub(super) fn prometheus(prometheus: &Value, compose: &Value, folder: &Path) -> Vec<String> {
    let services = compose::services(compose);
    let mut problems = Vec::new();
    for rules in texts(prometheus.pointer("/rule_files")) {
        if !folder.join(rules).is_file() {
            problems.push(format!("prometheus.yml: the rules {rules} aren't there"));
        }
    }
    let jobs = prometheus.get("scrape_configs").and_then(Value::as_array).into_iter().flatten();
    let asked = jobs.filter_map(|job| job.get("dns_sd_configs")?.as_array()).flatten();
    for name in asked.flat_map(|discovery| texts(discovery.get("names"))) {
        if !services.contains_key(name) {
            problems.push(format!("prometheus.yml: compose.yaml has no service {name}"));
        }
    }
    problems
}

/// Every panel of the board reads from a data source that is provisioned.
pub(super) fn sources(board: &Value, provisioned: &Value) -> Vec<String> {
    let known = provisioned.get("datasources").and_then(Value::as_array).into_iter().flatten();
    let known: Vec<&str> = known.filter_map(|source| source.get("uid")?.as_str()).collect();
    let mut problems = Vec::new();
    let panels = board.get("panels").and_then(Value::as_array).into_iter().flatten();
    for panel in panels.filter(|panel| panel.get("type").is_none_or(|kind| kind != "row")) {
        let uid = panel.pointer("/datasource/uid").and_then(Value::as_str).unwrap_or("none");
        if !known.contains(&uid) {
            let title = panel.get("title").and_then(Value::as_str).unwrap_or("without a title");
            problems
                .push(format!("muster.json: panel {title} reads from the data source {uid}, which isn't provisioned"));
        }
    }
    problems
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_panel_without_a_source_and_a_service_that_is_not_there_are_found() {
        let board = json!({ "panels": [
            { "type": "row" },
            { "title": "Beds", "datasource": { "uid": "beds" } },
            { "title": "Shifts", "datasource": { "uid": "prometheus" } },
        ] });
        let provisioned = json!({ "datasources": [{ "uid": "prometheus" }] });
        assert_eq!(
            sources(&board, &provisioned),
            ["muster.json: panel Beds reads from the data source beds, which isn't provisioned"]
        );
        let asks =
            json!({ "rule_files": ["none.yml"], "scrape_configs": [{ "dns_sd_configs": [{ "names": ["rota"] }] }] });
        let found = prometheus(&asks, &json!({ "services": { "ward": {} } }), Path::new(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
