//! The servers: one for each destination, without users and passwords.

use amq_protocol_uri::AMQPUri;
use serde_json::{Map, Value, json};

use crate::destination::settings::{BrokerUrl, DestinationSettings};

pub(super) fn servers(destinations: &[DestinationSettings]) -> Map<String, Value> {
    destinations.iter().map(|destination| (destination.name.to_string(), server(destination))).collect()
}

fn server(destination: &DestinationSettings) -> Value {
    let shown = destination.url.shown();
    let addresses: Vec<&str> = match &destination.url {
        BrokerUrl::Kafka(all) => all.iter().map(String::as_str).collect(),
        BrokerUrl::Nats(_) | BrokerUrl::Amqp(_) => shown.iter().map(|url| authority(url)).collect(),
        BrokerUrl::File(_) => vec!["localhost"],
    };
    let mut server = json!({"host": addresses.first(), "protocol": protocol(destination)});
    if let [_, others @ ..] = &addresses[..]
        && !others.is_empty()
    {
        server["description"] = format!("Also at {}.", others.join(", ")).into();
    }
    match &destination.url {
        BrokerUrl::File(directory) => server["pathname"] = directory.display().to_string().into(),
        BrokerUrl::Amqp(_) => server["pathname"] = format!("/{}", virtual_host(destination)).into(),
        BrokerUrl::Nats(_) | BrokerUrl::Kafka(_) => {}
    }
    server
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host)
}

fn protocol(destination: &DestinationSettings) -> &'static str {
    match &destination.url {
        BrokerUrl::Nats(_) => "nats",
        BrokerUrl::Amqp(all) if all.iter().any(|url| url.expose().starts_with("amqps:")) => "amqps",
        BrokerUrl::Amqp(_) => "amqp",
        BrokerUrl::Kafka(_) if uses_tls(destination) => "kafka-secure",
        BrokerUrl::Kafka(_) => "kafka",
        BrokerUrl::File(_) => "file",
    }
}

fn uses_tls(destination: &DestinationSettings) -> bool {
    let tls = &destination.tls;
    let protocol = destination.properties.iter().find(|(name, _)| name == "security.protocol");
    tls.ca.is_some() || tls.cert.is_some() || protocol.is_some_and(|(_, it)| it.expose().to_lowercase().contains("ssl"))
}

/// The virtual host of a RabbitMQ destination.
pub(super) fn virtual_host(destination: &DestinationSettings) -> String {
    let BrokerUrl::Amqp(all) = &destination.url else { return "/".into() };
    let first = all.first().and_then(|url| url.expose().parse::<AMQPUri>().ok());
    first.map_or_else(|| "/".into(), |url| url.vhost)
}
