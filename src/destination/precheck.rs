//! What can be said of a destination's settings without a connection, so that the configuration reports it at its place
//! before anything starts.

use std::time::Duration;

use super::settings::{BrokerUrl, DestinationSettings, SettingFault};
use super::{kafka, nats};
use crate::secret::Secret;
use crate::tls;

/// Everything that [`open`](super::open) would refuse. Reads the files that the settings name.
pub fn faults(settings: &DestinationSettings, body_limit: usize, publish_timeout: Duration) -> Vec<SettingFault> {
    match settings.url {
        BrokerUrl::Nats(_) => [tls::faults(&settings.tls), nats::faults(settings)].concat(),
        BrokerUrl::Amqp(_) => tls::faults(&settings.tls),
        // librdkafka reads the files with OpenSSL.
        BrokerUrl::Kafka(_) => kafka::fault(settings, body_limit, publish_timeout).into_iter().collect(),
        BrokerUrl::File(_) => Vec::new(),
    }
}

/// What is wrong with a librdkafka property, by itself. Shows neither name nor value.
pub fn property_fault(name: &str, value: &Secret) -> Option<&'static str> {
    kafka::property_fault(name, value)
}
