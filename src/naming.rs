//! The rules of each broker for the names of topics. Names are checked at start, for every name that the configuration can
//! yield, and again after templating: no payload may put a wildcard, an empty part or a path into a name.

/// The kinds of destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// NATS JetStream.
    Nats,
    /// Apache Kafka.
    Kafka,
    /// RabbitMQ.
    Rabbitmq,
    /// Files.
    File,
}

impl Kind {
    /// The word for it: also the name of a destination that is given by `--to`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Nats => "nats",
            Kind::Kafka => "kafka",
            Kind::Rabbitmq => "rabbitmq",
            Kind::File => "file",
        }
    }
}

/// Checks a subject, topic or routing key.
///
/// # Errors
/// The rule that the name breaks. Quotes at most one character of the name.
pub fn check(kind: Kind, name: &str) -> Result<(), String> {
    let most = match kind {
        Kind::Nats | Kind::Rabbitmq => 255,
        Kind::Kafka => 249,
        Kind::File => 200,
    };
    if name.is_empty() || name.len() > most {
        return Err(format!("it must be 1 to {most} bytes long, not {}", name.len()));
    }
    if let Some(bad) = name.chars().find(|c| !allowed(kind, *c)) {
        return Err(format!("it must not contain {bad:?}"));
    }
    let dotted = matches!(kind, Kind::Nats | Kind::Rabbitmq);
    if dotted && name.split('.').any(str::is_empty) {
        return Err("a part between dots is empty".into());
    }
    let reserved = match kind {
        Kind::Nats => name.starts_with('$') || name.starts_with("_INBOX."),
        Kind::Rabbitmq => name.starts_with("amq."),
        Kind::Kafka => name == "." || name == "..",
        Kind::File => name.starts_with('.'),
    };
    if reserved { Err("names with this beginning are reserved".into()) } else { Ok(()) }
}

fn allowed(kind: Kind, c: char) -> bool {
    match kind {
        Kind::Nats | Kind::Rabbitmq => c.is_ascii_graphic() && !matches!(c, '*' | '>' | '#'),
        Kind::Kafka | Kind::File => c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
    }
}

/// Whether a value from a payload can be one part of a name.
pub fn is_part(kind: Kind, value: &str) -> bool {
    !value.contains('.') && check(kind, value).is_ok()
}

/// Pairs of names that collide. Kafka refuses a topic whose name equals that of another once `.` is replaced by `_`,
/// because the names of their metrics would be equal.
pub fn collisions<'a>(kind: Kind, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    if kind != Kind::Kafka {
        return Vec::new();
    }
    let mut seen = std::collections::HashMap::new();
    let mut pairs = Vec::new();
    for name in names {
        match seen.insert(name.replace('.', "_"), *name) {
            Some(other) if other != *name => pairs.push((other, *name)),
            _ => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_names_are_refused() {
        for name in ["a.*", "a.>", "a..b", ".a", "a.", "a b", "a\nb", "", "$JS.API", "é"] {
            assert!(check(Kind::Nats, name).is_err(), "{name:?}");
        }
        for name in ["a b", "a/b", "..", "", "é", &"x".repeat(250)] {
            assert!(check(Kind::Kafka, name).is_err(), "{name:?}");
        }
        for name in ["../a", "a/b", ".hidden", "", "a\0b"] {
            assert!(check(Kind::File, name).is_err(), "{name:?}");
        }
        for name in ["a.#", "a.*", "amq.direct", "a..b", &"x".repeat(256)] {
            assert!(check(Kind::Rabbitmq, name).is_err(), "{name:?}");
        }
        for kind in [Kind::Nats, Kind::Kafka, Kind::File, Kind::Rabbitmq] {
            assert_eq!(check(kind, "file.analysis_completed"), Ok(()));
        }
    }

    #[test]
    fn kafka_names_collide() {
        assert_eq!(collisions(Kind::Kafka, &["a.b", "c", "a_b"]), [("a.b", "a_b")]);
        assert_eq!(collisions(Kind::Nats, &["a.b", "a_b"]), []);
    }
}
