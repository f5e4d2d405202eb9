//! Parses `--to` and `url` into kind and addresses. Messages never quote them, because they may contain a password.

use std::path::PathBuf;
use std::str::FromStr;

use amq_protocol_uri::{AMQPUri, SASLMechanism};

use super::mistake::{hint, quoted_name};
use crate::destination::settings::BrokerUrl;
use crate::secret::Secret;

const EXPECTED: &str = "expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR";
const ENCODING_HINT: &str = "(in a password, write `,` as %2C, `@` as %40, `/` as %2F, `#` as %23)";

type IsValid = fn(&str) -> bool;

/// The parameters of an AMQP URL: name, valid values, and a description of them.
const AMQP_PARAMETERS: [(&str, IsValid, &str); 5] = [
    // Less is not allowed (AMQP 0-9-1, section 4.2.3), and the client sizes its buffers by it: 0 is not "no limit".
    ("frame_max", |value| is_number::<u32>(value, 4096), "a number of bytes, at least 4096"),
    ("channel_max", |value| is_number::<u16>(value, 0), "a number from 0 to 65535"),
    ("heartbeat", |value| is_number::<u16>(value, 0), "a number of seconds from 0 to 65535"),
    ("connection_timeout", |value| is_number::<u64>(value, 1), "a number of milliseconds, at least 1"),
    ("auth_mechanism", |value| value.parse::<SASLMechanism>().is_ok(), "plain, amqplain, external or anonymous"),
];

fn is_number<T: FromStr + Into<u64>>(value: &str, least: u64) -> bool {
    value.parse::<T>().is_ok_and(|number| number.into() >= least)
}

/// Parses one or more addresses of one kind. `a://u:p@h1,h2/path` is two addresses with the same user and path.
///
/// # Errors
/// What is wrong; never quotes the text.
pub(super) fn parse(texts: &[String]) -> Result<BrokerUrl, String> {
    let [first, ..] = texts else { return Err(EXPECTED.into()) };
    if let Some(path) = first.trim().strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return match (path.is_empty(), texts.len()) {
            (true, _) => Err("expected `file:` and a directory, such as file:events".into()),
            (false, 1) => Ok(BrokerUrl::File(PathBuf::from(path))),
            _ => Err("a file destination has exactly one directory".into()),
        };
    }
    let mut addresses: Vec<ParsedAddress> = Vec::new();
    for text in texts {
        split_addresses(text, &mut addresses)?;
    }
    let scheme = addresses.first().map(|address| address.scheme.clone()).unwrap_or_default();
    let kind = |scheme: &str| match scheme {
        "nats" | "tls" => "nats",
        "amqp" | "amqps" => "amqp",
        "kafka" => "kafka",
        _ => "",
    };
    if kind(&scheme).is_empty() {
        return Err(unknown_scheme(&scheme));
    }
    if addresses.iter().any(|address| kind(&address.scheme) != kind(&scheme)) {
        return Err("all addresses of a destination must be of the same kind".into());
    }
    match kind(&scheme) {
        "kafka" => addresses.iter().map(ParsedAddress::kafka).collect::<Result<_, _>>().map(BrokerUrl::Kafka),
        "amqp" => addresses.iter().map(ParsedAddress::amqp).collect::<Result<_, _>>().map(BrokerUrl::Amqp),
        _ if addresses.iter().any(|address| !address.path.is_empty()) => {
            Err("a NATS address cannot have a path".into())
        }
        _ => Ok(BrokerUrl::Nats(addresses.iter().map(ParsedAddress::url).collect())),
    }
}

/// Quotes the scheme, which is no secret if it is a plain word.
fn unknown_scheme(scheme: &str) -> String {
    let near = hint(scheme, ["nats", "tls", "kafka", "amqp", "amqps"]).replace("`?", "://`?");
    let plain = scheme.len() <= 20 && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if plain { format!("`{scheme}://`: {EXPECTED}{near}") } else { EXPECTED.into() }
}

struct ParsedAddress {
    scheme: String,
    user: String,
    host: String,
    path: String,
}

impl ParsedAddress {
    fn url(&self) -> Secret {
        let at = if self.user.is_empty() { "" } else { "@" };
        Secret::new(format!("{}://{}{at}{}{}", self.scheme, self.user, self.host, self.path))
    }

    fn amqp(&self) -> Result<Secret, String> {
        let query = self.path.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let mut seen: Vec<&str> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let Some((known, is_valid, expected)) = AMQP_PARAMETERS.iter().find(|(known, ..)| *known == name) else {
                let names = AMQP_PARAMETERS.map(|(name, ..)| name);
                let quoted = quoted_name(name).map_or_else(String::new, |name| format!(" {name}"));
                let list = names.map(|name| format!("`{name}`")).join(", ");
                return Err(format!(
                    "unknown parameter{quoted} in an AMQP URL: expected one of {list}{}",
                    hint(name, names)
                ));
            };
            if !is_valid(value) {
                return Err(format!("the parameter `{known}` of an AMQP URL: expected {expected}"));
            }
            if seen.contains(known) {
                return Err(format!("the parameter `{known}` of an AMQP URL is given twice"));
            }
            seen.push(known);
        }
        let url = self.url();
        // The parser's message could repeat a part of the URL, and with it the password.
        let parsed = url.expose().parse::<AMQPUri>();
        parsed.map(|_| url).map_err(|_| "it is not a well-formed AMQP URL".into())
    }

    fn kafka(&self) -> Result<String, String> {
        if !self.user.is_empty() {
            return Err(
                "a kafka:// address cannot contain a user: set sasl.username and sasl.password in `properties`".into(),
            );
        }
        if !self.path.is_empty() {
            return Err("a kafka:// address cannot have a path".into());
        }
        let has_port = self.host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        Ok(if has_port { self.host.clone() } else { format!("{}:9092", self.host) })
    }
}

/// Splits a text at commas. A part without a scheme takes the scheme, user and path of the address before it.
fn split_addresses(text: &str, addresses: &mut Vec<ParsedAddress>) -> Result<(), String> {
    let start = addresses.len();
    let mut group = start;
    for part in text.split(',') {
        let part = part.trim();
        let (scheme, rest) = match part.split_once("://") {
            Some((scheme, rest)) => {
                group = addresses.len();
                (scheme.to_ascii_lowercase(), rest)
            }
            None if addresses.len() > start => (addresses[group].scheme.clone(), part),
            None => return Err(EXPECTED.into()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        check_host(host)?;
        let legal = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !legal(user) || user.contains('@') || !legal(path) {
            return Err(format!("it contains a character that must be percent-encoded {ENCODING_HINT}"));
        }
        let path = if path == "/" && scheme != "amqp" && scheme != "amqps" { "" } else { path };
        let inherited = |own: &str, of: fn(&ParsedAddress) -> &String| match addresses.get(group) {
            Some(first) if own.is_empty() => of(first).clone(),
            _ => own.to_owned(),
        };
        let user = inherited(user, |address| &address.user);
        let inherited_path = inherited(path, |address| &address.path);
        if !path.is_empty() {
            // The path follows the last address of the list, and applies to all of them.
            for earlier in addresses[group..].iter_mut().filter(|earlier| earlier.path.is_empty()) {
                earlier.path = path.into();
            }
        }
        addresses.push(ParsedAddress { scheme, user, host: host.into(), path: inherited_path });
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "an address in brackets must be IPv6")?;
            ("v6", port.strip_prefix(':').or((!port.is_empty()).then_some("?")))
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return Err("a host is missing".into());
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return Err(format!("a host contains an invalid character {ENCODING_HINT}"));
    }
    match port {
        Some(port) if port.parse::<u16>().map_or(true, |port| port == 0) => {
            Err(format!("a port is not a number from 1 to 65535 {ENCODING_HINT}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        Ok(match parse(&[text.to_owned()])? {
            BrokerUrl::Nats(all) | BrokerUrl::Amqp(all) => all.iter().map(|url| url.expose().to_owned()).collect(),
            BrokerUrl::Kafka(all) => all,
            BrokerUrl::File(path) => vec![path.display().to_string()],
        })
    }

    #[test]
    fn addresses_are_split() {
        for (text, all) in [
            ("nats://a:4222,b:4222", &["nats://a:4222", "nats://b:4222"][..]),
            ("nats://a,nats://b", &["nats://a", "nats://b"]),
            ("nats://u:p@a,b", &["nats://u:p@a", "nats://u:p@b"]),
            ("tls://t@[::1]:4222/", &["tls://t@[::1]:4222"]),
            ("kafka://k1:9093,k2", &["k1:9093", "k2:9092"]),
            ("kafka://[::1]", &["[::1]:9092"]),
            ("amqps://u:p@a:1,b:2/v?heartbeat=5", &["amqps://u:p@a:1/v?heartbeat=5", "amqps://u:p@b:2/v?heartbeat=5"]),
            ("amqp://a/x, amqp://b/y", &["amqp://a/x", "amqp://b/y"]),
            ("amqp://a/%2f", &["amqp://a/%2f"]),
            ("file:a/b", &["a/b"]),
            ("file:///a/b", &["/a/b"]),
        ] {
            assert_eq!(read(text).unwrap(), all, "{text}");
        }
    }

    #[test]
    fn messages_quote_nothing() {
        for text in [
            "",
            "nats://",
            "http://hunter2",
            "hunter2",
            "nats://a:hunter2",
            "amqp://u:hun,ter2@h",
            "amqp://u:hunter2@h:0",
            "kafka://u:hunter2@h",
            "nats://a,kafka://b",
            "nats://a/hunter2",
            "file:",
            "amqp://u:hun ter2@h",
            "nats://hun/ter2@h",
            "amqp://u:hun@ter2@h",
            "nats://[hunter2]",
            "kafka://a/hunter2",
            "nats://[::1]4222",
            "amqp://h?Hunter2=1",
            "amqp://h?heartbeat=hunter2",
            "amqp://u:hunter2%ff@h",
        ] {
            let message = read(text).unwrap_err();
            assert!(!message.contains("hun") && !message.contains("ter2"), "{text}: {message}");
        }
    }
}
