//! RabbitMQ, beyond what every destination must do: whose outcome is whose, what the broker refuses and when it blocks,
//! what exists already, and how one gets in.

mod support;

#[path = "rabbitmq/rig.rs"]
mod rig;

#[path = "rabbitmq/access.rs"]
mod access;
#[path = "rabbitmq/exactness.rs"]
mod exactness;
#[path = "rabbitmq/faults.rs"]
mod faults;
#[path = "rabbitmq/topology.rs"]
mod topology;
