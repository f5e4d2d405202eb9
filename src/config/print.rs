//! The effective settings in the form of a configuration file, without secrets, for `check --print`.

use serde_json::{Map, Value, json};

use super::{Settings, StoreKind, units};
use crate::destination::settings::{BrokerUrl, DestinationSettings, Mode, Topology};
use crate::oversize::settings::ObjectStoreSettings;
use crate::route::{Rule, Unrouted};
use crate::secret::Secret;
use crate::signature::Key;
use crate::source::Source;

impl Settings {
    /// All settings as YAML, with keys and passwords masked.
    pub fn print(&self) -> String {
        let mut text = String::new();
        write(&mut text, &self.tree(), 0);
        text
    }

    fn tree(&self) -> Value {
        let duration = units::write_duration;
        let named = |all: Vec<(String, Value)>| Value::Object(all.into_iter().collect::<Map<_, _>>());
        let (fallback, _) = &self.routes.fallback;
        json!({
            "sources": named(self.sources.iter().map(|source| (source.name.to_string(), source_tree(source))).collect()),
            "destinations": named(self.destinations.iter().map(|to| (to.name.to_string(), destination_tree(to))).collect()),
            "routes": self.routes.rules.iter().map(rule_tree).collect::<Vec<_>>(),
            "unrouted": match &self.routes.unrouted {
                Unrouted::Topic(topic) if self.routes.only_fallback => {
                    json!({"destination": &**fallback, "topic": &**topic})
                }
                Unrouted::Topic(topic) => json!(&**topic),
                Unrouted::Ignore => json!("ignore"),
                Unrouted::DeadLetter => json!("dead-letter"),
            },
            "ack": self.ack.word(),
            "store": match self.store { StoreKind::Memory => "memory", StoreKind::Embedded => "embedded" },
            "data": self.data.display().to_string(),
            "spool": {"max_bytes": units::write_size(usize::try_from(self.spool_max_bytes).unwrap_or(usize::MAX))},
            "dedup": {"window": duration(self.dedup_window)},
            "claim_check": self.claim_check_tree(),
            "dead_letters": self.dead_letters_tree(),
            "listen": self.listen.to_string(),
            "admin": match &self.admin_token {
                Some(token) => json!({"listen": self.admin.to_string(), "token": token.to_string()}),
                None => json!({"listen": self.admin.to_string()}),
            },
            "limits": {
                "body": units::write_size(self.limits.body),
                "header_bytes": units::write_size(self.limits.header_bytes),
                "headers": self.limits.headers,
                "read_timeout": duration(self.limits.read_timeout),
                "request_timeout": duration(self.limits.request_timeout),
                "connections": self.limits.connections,
                "requests": self.limits.requests,
                "bytes": units::write_size(self.limits.bytes),
            },
            "publish": {"timeout": duration(self.publish_timeout)},
            "shutdown": {"timeout": duration(self.shutdown_timeout)},
        })
    }
}

impl Settings {
    fn claim_check_tree(&self) -> Value {
        let Some(store) = &self.claim_check else { return json!({}) };
        let mut tree = json!({"url": store.url()});
        if let ObjectStoreSettings::S3(settings) = store {
            for (name, value) in [("endpoint", &settings.endpoint), ("region", &settings.region)] {
                if let Some(value) = value {
                    tree[name] = value.as_str().into();
                }
            }
            if let Some((id, secret)) = &settings.keys {
                tree["access_key_id"] = id.to_string().into();
                tree["secret_access_key"] = secret.to_string().into();
            }
        }
        tree
    }

    fn dead_letters_tree(&self) -> Value {
        let bytes = usize::try_from(self.dead_letters_max_bytes).unwrap_or(usize::MAX);
        let mut tree = json!({"max_bytes": units::write_size(bytes)});
        if let Some(age) = self.dead_letters_max_age {
            tree["max_age"] = units::write_duration(age).into();
        }
        if let Some(to) = &self.dead_letters_to {
            tree["to"] = (**to).into();
        }
        tree
    }
}

fn source_tree(source: &Source) -> Value {
    let keys = source.keys.iter().map(|key| match key {
        Key::Shared(_) => "[secret]",
        Key::Public(_) => "[public key]",
    });
    let mut tree = json!({
        "secrets": keys.collect::<Vec<_>>(),
        "path": source.path,
        "uri": &*source.uri,
        "type_prefix": source.type_prefix,
        "tolerance": units::write_duration(source.tolerance),
        "legacy_headers": source.legacy_headers,
        "attributes": source.attributes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "events": source.events,
        "fields": {"event": source.fields.event, "time": source.fields.time, "subject": source.fields.subject},
        "in_flight": source.in_flight,
    });
    if let Some(rate) = source.rate {
        tree["rate"] = json!(rate);
    }
    tree
}

fn destination_tree(destination: &DestinationSettings) -> Value {
    let mut tree = json!({
        "url": destination.url.shown(),
        "mode": match destination.mode { Mode::Binary => "binary", Mode::Structured => "structured" },
        "forward_signature": destination.forward_signature,
        "in_flight": destination.in_flight,
        "in_flight_bytes": units::write_size(destination.in_flight_bytes),
    });
    let path = |path: &std::path::PathBuf| json!(path.display().to_string());
    let (tls, auth) = (&destination.tls, &destination.auth);
    let group = |all: Vec<(&str, Option<Value>)>| {
        let given: Map<_, _> = all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        (!given.is_empty()).then_some(Value::Object(given))
    };
    let secret = |secret: &Secret| json!(secret.to_string());
    let broker = !matches!(destination.url, BrokerUrl::File(_));
    let topology = match destination.topology {
        Topology::Ensure => "ensure",
        Topology::Verify => "verify",
    };
    let more = [
        ("stream", matches!(destination.url, BrokerUrl::Nats(_)).then(|| json!(destination.stream))),
        ("exchange", matches!(destination.url, BrokerUrl::Amqp(_)).then(|| json!(destination.exchange))),
        ("partitions", matches!(destination.url, BrokerUrl::Kafka(_)).then(|| json!(destination.partitions))),
        ("topology", broker.then(|| json!(topology))),
        ("oversize", broker.then(|| json!(destination.oversize.word()))),
        (
            "tls",
            group(vec![
                ("ca", tls.ca.as_ref().map(path)),
                ("cert", tls.cert.as_ref().map(path)),
                ("key", tls.key.as_ref().map(path)),
            ]),
        ),
        (
            "auth",
            group(vec![
                ("token", auth.token.as_ref().map(secret)),
                ("nkey", auth.nkey.as_ref().map(secret)),
                ("creds", auth.creds.as_ref().map(path)),
            ]),
        ),
        (
            "properties",
            group(destination.properties.iter().map(|(name, value)| (name.as_str(), Some(secret(value)))).collect()),
        ),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            tree[name] = value;
        }
    }
    tree
}

fn rule_tree(rule: &Rule) -> Value {
    let to = rule.to.iter().map(|to| {
        let mut target = json!({"destination": &*to.destination, "topic": to.topic.to_string()});
        if let Some(key) = &to.key {
            target["key"] = json!(key.to_string());
        }
        if !to.required {
            target["required"] = json!(false);
        }
        target
    });
    let mut tree = json!({"match": rule.pattern.to_string(), "to": to.collect::<Vec<_>>()});
    if let Some(sources) = &rule.sources {
        tree["source"] = sources.iter().map(|name| &**name).collect();
    }
    if let Some(when) = &rule.when {
        tree["when"] = json!({"pointer": when.pointer, "in": when.values});
    }
    tree
}

/// Writes mappings in block style, and lists and scalars in flow style (as JSON, a subset of YAML). Escapes `${`, so that
/// the output can be loaded again.
fn write(text: &mut String, value: &Value, indent: usize) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        text.push_str(&" ".repeat(indent));
        text.push_str(name);
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write(text, value, indent + 2);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text.push('\n');
                for item in items {
                    text.push_str(&format!("{}- {}\n", " ".repeat(indent + 2), flow(item)));
                }
            }
            other => text.push_str(&format!(" {}\n", flow(other))),
        }
    }
}

fn flow(value: &Value) -> String {
    value.to_string().replace("${", "$${")
}
