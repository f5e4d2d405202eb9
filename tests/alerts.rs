//! Alerts and dashboard against the metrics that the program has, and the runbook against the alerts.

mod promql;
mod support;

use std::collections::BTreeSet;
use std::process::Command;

use promql::{Known, labels_listed, selectors};
use serde_json::Value;
use support::bridge::Bridge;
use support::sender;

const ALERTS: &str = "deploy/helm/hookbridge/files/alerts.yaml";
const DASHBOARD: &str = "deploy/helm/hookbridge/files/dashboard.json";
/// What Prometheus adds when it scrapes.
const OF_THE_SCRAPE: [&str; 3] = ["namespace", "job", "pod"];

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("tests/tools").arg("promtool").args(arguments).output().expect("tests/tools runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
}

struct Alert {
    group: String,
    name: String,
    expression: String,
    annotations: Value,
}

fn alerts() -> Vec<Alert> {
    let file: Value = serde_saphyr::from_str(&read(ALERTS)).expect("YAML");
    let groups = file["groups"].as_array().expect("groups").iter();
    let rules =
        groups.flat_map(|group| group["rules"].as_array().expect("rules").iter().map(move |rule| (group, rule)));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    rules
        .map(|(group, rule)| Alert {
            group: text(&group["name"]),
            name: text(&rule["alert"]),
            expression: text(&rule["expr"]),
            annotations: rule["annotations"].clone(),
        })
        .collect()
}

/// Each value of `key` at any depth.
fn values_of<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value.as_str() {
                Some(text) if name == key => vec![text],
                _ => values_of(value, key),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| values_of(item, key)).collect(),
        _ => Vec::new(),
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).expect("JSON")
}

/// The expressions of the panels and of the annotation, with Grafana's variables replaced.
fn dashboard_expressions() -> Vec<String> {
    let dashboard = dashboard();
    let expressions: Vec<String> = values_of(&dashboard, "expr").into_iter().map(without_variables).collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    expressions
}

fn without_variables(expression: &str) -> String {
    let text = expression.replace("$__rate_interval", "5m");
    let names = ["namespace", "job", "source", "destination"];
    names.iter().fold(text, |text, name| text.replace(&format!("\"${name}\""), "\".*\""))
}

/// What a running program exports after a delivery; only Kafka's metrics come from README, whose table a unit test of
/// `src/telemetry/metrics.rs` holds to the code.
async fn known() -> Known {
    let bridge = Bridge::serve("");
    bridge.program.ready().await;
    let answer = sender::post(&bridge.url("videogen"), "msg_1", &sender::body("file.analysis_completed", "f")).await;
    assert_eq!(answer.word(), "200 accepted");
    let (_, page) = bridge.program.get("/metrics").await;
    let mut known = Known::from_page(&page);
    known.add_readme(&read("README.md"), "hookbridge_kafka_");
    known
}

fn check(known: &Known, place: &str, expression: &str) {
    let mut labels: BTreeSet<String> = OF_THE_SCRAPE.iter().map(ToString::to_string).collect();
    for selector in selectors(expression).iter().filter(|it| it.is_ours()) {
        let found = known.labels(&selector.metric);
        let found = found.unwrap_or_else(|| panic!("{place}: {} does not exist: {expression}", selector.metric));
        labels.extend(found);
        for (label, value) in &selector.matchers {
            if OF_THE_SCRAPE.contains(&label.as_str()) {
                continue;
            }
            assert!(labels.contains(label), "{place}: {} has no label {label}: {expression}", selector.metric);
            let possible = known.has_value(&selector.metric, label, value);
            assert!(possible, "{place}: {}: {label} is never {value}: {expression}", selector.metric);
        }
    }
    if selectors(expression).iter().all(promql::Selector::is_ours) {
        for label in labels_listed(expression) {
            assert!(labels.contains(&label), "{place}: no metric has the label {label}: {expression}");
        }
    }
}

#[tokio::test]
async fn each_metric_label_and_value_in_an_alert_exists() {
    let known = known().await;
    for alert in alerts() {
        assert!(!selectors(&alert.expression).is_empty(), "{}", alert.name);
        check(&known, &alert.name, &alert.expression);
    }
}

#[tokio::test]
async fn each_metric_label_and_value_in_the_dashboard_exists() {
    let known = known().await;
    for expression in dashboard_expressions() {
        assert!(!selectors(&expression).is_empty(), "{expression}");
        check(&known, "dashboard", &expression);
    }
    let dashboard = dashboard();
    for query in values_of(&dashboard["templating"], "query").into_iter().filter(|query| query.contains('(')) {
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect("label_values(SERIES, LABEL)");
        check(&known, "variable", &without_variables(&format!("count by ({label}) ({series})")));
    }
}

#[tokio::test]
async fn the_dashboard_shows_every_metric() {
    let known = known().await;
    let shown: BTreeSet<String> =
        dashboard_expressions().iter().flat_map(|text| selectors(text)).map(|it| it.metric).collect();
    let left_out = ["process_virtual_memory_bytes"];
    for metric in known.families().filter(|metric| !left_out.contains(&metric.as_str())) {
        let forms = [metric.clone(), format!("{metric}_bucket")];
        assert!(forms.iter().any(|form| shown.contains(form)), "{metric} is in no panel");
    }
}

#[test]
fn annotations_use_labels_of_the_result() {
    for alert in alerts() {
        let labels = labels_listed(&alert.expression);
        for text in alert.annotations.as_object().expect("annotations").values().filter_map(Value::as_str) {
            for rest in text.split("$labels.").skip(1) {
                let label: String = rest.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
                assert!(labels.contains(&label), "{}: $labels.{label} is empty: {text}", alert.name);
            }
        }
    }
}

#[test]
fn each_alert_has_a_section_in_the_runbook_and_each_section_an_alert() {
    let runbook = read("deploy/runbook.md");
    let sections: Vec<(&str, &str)> =
        runbook.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a title")).collect();
    let alerts = alerts();
    for alert in &alerts {
        let url = alert.annotations["runbook_url"].as_str().expect("runbook_url");
        assert_eq!(url, format!("deploy/runbook.md#{}", alert.name.to_lowercase()));
        let (_, text) = sections.iter().find(|(title, _)| *title == alert.name).expect(&alert.name);
        for part in ["**Means:**", "**Lost:**", "**Do:**"] {
            assert!(text.contains(part), "{} has no {part}", alert.name);
        }
        // What comes from an exporter is silent without it, so its section names it.
        let foreign = selectors(&alert.expression).iter().any(|it| !it.is_ours() && !it.metric.starts_with("kubelet_"));
        assert!(!foreign || text.trim_start().starts_with("Needs "), "{}: which exporter?", alert.name);
        assert_eq!(foreign, foreign && alert.group == "hookbridge-brokers", "{}", alert.name);
    }
    for (title, _) in sections.iter().filter(|(title, _)| *title != "After a long outage") {
        assert!(alerts.iter().any(|alert| alert.name == *title), "no alert has the name {title}");
    }
    assert_eq!(sections.len(), alerts.len() + 1);
}

#[test]
fn promtool_accepts_the_rules_and_the_dashboard() {
    promtool(&["check", "rules", ALERTS]);
    // As recording rules, since promtool reads no dashboards.
    let rules = dashboard_expressions().into_iter().enumerate();
    let rules: Vec<Value> = rules
        .map(|(at, expression)| serde_json::json!({"record": format!("panel:{at}"), "expr": expression}))
        .collect();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).expect("written");
    promtool(&["check", "rules", file.path().to_str().expect("UTF-8")]);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let files = ["tests/alerts/fires.yaml", "tests/alerts/quiet.yaml", "tests/alerts/silence.yaml"];
    promtool(&[&["test", "rules"], &files[..]].concat());
    let tests: String = files.iter().map(|file| read(file)).collect();
    for alert in alerts() {
        let fires = format!("labels: 'ALERTS{{alertname=\"{}\", alertstate=\"firing\"", alert.name);
        assert!(tests.contains(&fires), "no test shows that {} fires", alert.name);
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} overlaps", panel["title"]);
        }
        let has_text = |name: &str| panel[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(has_text("title") && (panel["type"] == "row" || has_text("description")), "{panel}");
    }
    let sources = values_of(&dashboard, "uid").into_iter().filter(|uid| *uid != "hookbridge");
    assert!(sources.into_iter().all(|uid| uid == "${datasource}"));
}
