//! What is compared.

use super::support::brokers::Kind;

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Nowhere: the floor, and routes that ignore every event.
    Nothing,
    File,
    Nats,
    Kafka,
    Rabbitmq,
}

/// When the bridge answers, and where it keeps ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Memory,
    Embedded,
    /// `--ack stored`.
    Stored,
    /// The same, while the broker is down.
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
    pub const ALL: [To; 5] = [To::Nothing, To::File, To::Nats, To::Kafka, To::Rabbitmq];

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
        for to in To::ALL {
            if to.broker().is_some() {
                all.push(Case { name: format!("native-{}", to.name()), to, server: Server::Native });
            }
            // An event that goes nowhere is not stored either.
            let modes = [Some(Mode::Memory), Some(Mode::Embedded), (to != To::Nothing).then_some(Mode::Stored)];
            let down = to.broker().map(|_| Mode::Down);
            for mode in modes.into_iter().chain([down]).flatten() {
                all.push(Case { name: format!("{}-{}", to.name(), mode.name()), to, server: Server::Bridge(mode) });
            }
        }
        all
    }

    /// The cases that these names or parts of names select, and the floor.
    ///
    /// # Panics
    /// A name selects none.
    pub fn select(names: &[String]) -> Vec<Case> {
        let selects = |name: &String, case: &Case| *name == case.name || case.name.split('-').any(|part| part == name);
        for name in names {
            assert!(Case::all().iter().any(|case| selects(name, case)), "no case is called {name}");
        }
        let mut cases = Case::all();
        cases.retain(|case| {
            names.is_empty() || case.server == Server::Floor || names.iter().any(|name| selects(name, case))
        });
        cases
    }
}
