//! What is special to a broker: the bindings of channels, operations and messages.

use serde_json::{Value, json};

use super::channels::Channel;
use super::servers::virtual_host;
use crate::destination::settings::{DestinationSettings, Topology};
use crate::naming::Kind;

/// The versions of the bindings.
const AMQP: &str = "0.3.0";
const KAFKA: &str = "0.5.0";
const NATS: &str = "0.1.0";

/// Adds the bindings of a channel. JetStream's streams and the queues of an exchange have no place in the bindings: they
/// are extensions.
pub(super) fn add_to_channel(described: &mut Value, channel: &Channel<'_>, address: &str) {
    let destination = channel.destination;
    match destination.url.kind() {
        Kind::Nats => described["x-jetstream"] = json!({"stream": destination.stream}),
        Kind::Kafka => {
            let mut kafka = json!({"topic": address, "bindingVersion": KAFKA});
            if destination.topology == Topology::Ensure {
                kafka["partitions"] = destination.partitions.into();
            }
            described["bindings"] = json!({"kafka": kafka});
        }
        Kind::Rabbitmq => {
            let exchange = json!({
                "name": destination.exchange,
                "type": "topic",
                "durable": true,
                "autoDelete": false,
                "vhost": virtual_host(destination),
            });
            let amqp = json!({"is": "routingKey", "exchange": exchange, "bindingVersion": AMQP});
            described["bindings"] = json!({"amqp": amqp});
            let queue = address.replace("{subject}", "*");
            described["x-queue"] = json!({"name": queue, "type": "quorum", "durable": true});
        }
        Kind::File => {}
    }
}

/// The operation that publishes to the channel of that name.
pub(super) fn operation(destination: &DestinationSettings, channel: &str) -> Value {
    let mut operation = json!({"action": "send", "channel": {"$ref": format!("#/channels/{channel}")}});
    match destination.url.kind() {
        Kind::Nats => operation["bindings"] = json!({"nats": {"bindingVersion": NATS}}),
        Kind::Rabbitmq => {
            let amqp = json!({"deliveryMode": 2, "mandatory": true, "timestamp": true, "bindingVersion": AMQP});
            operation["bindings"] = json!({"amqp": amqp});
        }
        Kind::Kafka | Kind::File => {}
    }
    operation
}

/// The bindings of a message; `kind`: the CloudEvents `type`, if it is fixed.
pub(super) fn message(destination: &DestinationSettings, kind: Option<&str>) -> Option<Value> {
    match destination.url.kind() {
        Kind::Kafka => {
            let key = json!({"type": "string", "description": "The `partitionkey`, or what the route sets as `key`."});
            Some(json!({"kafka": {"key": key, "bindingVersion": KAFKA}}))
        }
        Kind::Rabbitmq => {
            let mut amqp = json!({"bindingVersion": AMQP});
            if let Some(kind) = kind {
                amqp["messageType"] = kind.into();
            }
            Some(json!({"amqp": amqp}))
        }
        Kind::Nats | Kind::File => None,
    }
}
