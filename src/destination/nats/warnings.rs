//! What makes a stream, or its server, less safe than it could be.

use std::time::Duration;

use async_nats::ServerInfo;
use serde_json::Value;

use super::Shared;
use super::stream::WINDOW;

/// What headers may add to a body.
const HEADERS: u64 = 8 << 10;

pub(super) fn of_server(shared: &Shared, server: &ServerInfo) -> Vec<String> {
    let (most, limit) = (server.max_payload, shared.body_limit);
    let mut found = Vec::new();
    if (most as u64) < limit as u64 + HEADERS {
        found.push(format!(
            "the server's max_payload is {most} bytes, but bodies of up to {limit} are accepted: larger ones become dead letters"
        ));
    }
    found
}

/// Without a cluster there can be no replicas, so whether they are missed depends on who asks.
pub(super) fn of_stream(shared: &Shared, config: &Value, replicas: bool) -> Vec<String> {
    let name = &shared.settings.stream;
    let found = of_config(config, shared.body_limit as u64 + HEADERS, replicas);
    found.into_iter().map(|warning| format!("stream {name}: {warning}")).collect()
}

fn of_config(config: &Value, largest: u64, replicas: bool) -> Vec<String> {
    let mut found = Vec::new();
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| config[key].as_i64().unwrap_or(-1);
    if text("storage") == "memory" {
        found.push("memory storage: a restart of the server loses it".into());
    }
    if text("discard") != "new" {
        found.push("discard old: when it is full, events that were acknowledged are deleted".into());
    } else if number("max_msgs_per_subject") > 0 && config["discard_new_per_subject"] != true {
        let most = number("max_msgs_per_subject");
        found.push(format!("max_msgs_per_subject is {most}: events that were acknowledged are deleted"));
    }
    if text("retention") != "limits" {
        found.push(format!("retention {}: ids of events that were consumed are forgotten", text("retention")));
    }
    if replicas && config["num_replicas"].as_u64().unwrap_or(1) < 2 {
        found.push("one replica: what a server had not yet synced is lost with it".into());
    }
    let window = Duration::from_nanos(config["duplicate_window"].as_u64().unwrap_or(0));
    if window < WINDOW {
        found.push(format!("duplicate_window is {} s: retries after it are stored again", window.as_secs()));
    }
    let age = Duration::from_nanos(config["max_age"].as_u64().unwrap_or(0));
    if !age.is_zero() && age < WINDOW {
        found.push(format!("max_age is {} s: slow workers lose events", age.as_secs()));
    }
    let size = number("max_msg_size");
    if size >= 0 && (size as u64) < largest {
        found.push(format!("max_msg_size is {size}: larger events become dead letters"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_less_safe_is_told() {
        let window = WINDOW.as_nanos() as u64;
        let good = json!({
            "storage": "file", "discard": "new", "retention": "limits", "num_replicas": 3, "max_msg_size": -1,
            "max_msgs_per_subject": -1, "duplicate_window": window, "max_age": 12 * window,
        });
        assert_eq!(of_config(&good, 1000, true), Vec::<String>::new());
        for (key, value, word) in [
            ("storage", json!("memory"), "memory"),
            ("discard", json!("old"), "discard"),
            ("retention", json!("workqueue"), "workqueue"),
            ("num_replicas", json!(1), "replica"),
            ("duplicate_window", json!(120_000_000_000_u64), "120 s"),
            ("max_age", json!(3_600_000_000_000_u64), "max_age"),
            ("max_msg_size", json!(999), "max_msg_size"),
            ("max_msgs_per_subject", json!(5), "max_msgs_per_subject"),
        ] {
            let mut config = good.clone();
            config[key] = value;
            let found = of_config(&config, 1000, true);
            assert!(found.len() == 1 && found[0].contains(word), "{key}: {found:?}");
        }
        let mut config = good.clone();
        (config["max_msgs_per_subject"], config["discard_new_per_subject"]) = (json!(5), json!(true));
        assert_eq!(of_config(&config, 1000, true), Vec::<String>::new());
        config["num_replicas"] = json!(1);
        assert_eq!(of_config(&config, 1000, false), Vec::<String>::new());
    }
}
