//! The cases that are compared, and how they are selected.

use clap::ValueEnum;

use super::support::brokers::Kind;

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Routes that ignore every event
    Nothing,
    File,
    Nats,
    Kafka,
    Rabbitmq,
}

/// When the bridge answers, and where it stores ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Answers once the broker has confirmed; ids in memory
    Memory,
    /// The same, with the embedded store
    Embedded,
    /// Answers once the event is stored (`--ack stored`)
    Stored,
    /// The same, while the broker is down
    Down,
}

/// The process that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Floor,
    Native,
    Bridge(Mode),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub to: To,
    pub server: Server,
}

impl To {
    pub fn name(self) -> &'static str {
        ["nothing", "file", "nats", "kafka", "rabbitmq"][self as usize]
    }

    pub fn broker(self) -> Option<Kind> {
        match self {
            To::Nothing | To::File => None,
            To::Nats => Some(Kind::Nats),
            To::Kafka => Some(Kind::Kafka),
            To::Rabbitmq => Some(Kind::Rabbitmq),
        }
    }
}

impl Mode {
    pub fn name(self) -> &'static str {
        ["memory", "embedded", "stored", "down"][self as usize]
    }
}

impl Case {
    fn all() -> Vec<Case> {
        let mut all = vec![Case { name: "floor".into(), to: To::Nothing, server: Server::Floor }];
        for &to in To::value_variants() {
            if to.broker().is_some() {
                all.push(Case { name: format!("native-{}", to.name()), to, server: Server::Native });
            }
            // An event without a target is never stored.
            let modes = [Some(Mode::Memory), Some(Mode::Embedded), (to != To::Nothing).then_some(Mode::Stored)];
            let down = to.broker().map(|_| Mode::Down);
            for mode in modes.into_iter().chain([down]).flatten() {
                all.push(Case { name: format!("{}-{}", to.name(), mode.name()), to, server: Server::Bridge(mode) });
            }
        }
        all
    }

    /// The case with this name.
    pub fn named(name: &str) -> Option<Case> {
        Case::all().into_iter().find(|case| case.name == name)
    }

    /// The cases of these destinations and modes (none: all), with what they are compared to: the floor, and the clients of
    /// the brokers.
    pub fn select(to: &[To], modes: &[Mode]) -> Vec<Case> {
        let has_mode = |case: &Case| match case.server {
            Server::Floor | Server::Native => true,
            Server::Bridge(mode) => modes.is_empty() || modes.contains(&mode),
        };
        let has_destination = |case: &Case| to.is_empty() || to.contains(&case.to) || case.server == Server::Floor;
        Case::all().into_iter().filter(|case| has_mode(case) && has_destination(case)).collect()
    }
}
