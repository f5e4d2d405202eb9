//! RabbitMQ, beyond the conformance suite: exact outcomes, what the broker refuses, alarms and outages, existing topology,
//! and access.

mod support;

#[path = "rabbitmq/rig.rs"]
mod rig;

#[path = "rabbitmq/access.rs"]
mod access;
#[path = "rabbitmq/exactness.rs"]
mod exactness;
#[path = "rabbitmq/faults.rs"]
mod faults;
#[path = "rabbitmq/isolation.rs"]
mod isolation;
#[path = "rabbitmq/topology.rs"]
mod topology;
