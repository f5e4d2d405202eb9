//! Destinations: addresses, and settings that only some kinds take.

use std::sync::Arc;

use super::{Checker, Known};
use crate::config::raw::{self, Leaf, Named};
use crate::config::url;
use crate::destination::settings::{Auth, BrokerUrl, DestinationSettings, Mode, Tls, Topology};
use crate::naming::Kind;
use crate::secret::Secret;

/// librdkafka properties that our guarantees rest on, and why they are not to be set. The only such list: what gets past
/// it is the operator's to choose.
pub(in super::super) const OURS: [(&str, &str); 27] = [
    ("enable.idempotence", "it keeps a retry inside the client from doubling or reordering events, and stays on"),
    ("enable.gapless.guarantee", "it would stop the producer at the first message that fails"),
    ("acks", "an event is confirmed only by all in-sync replicas"),
    ("request.required.acks", "an event is confirmed only by all in-sync replicas"),
    ("partitioner", "keys must fall on the partitions that Java clients expect"),
    ("message.timeout.ms", "the life of a publish is `publish: {timeout: …}`"),
    ("delivery.timeout.ms", "the life of a publish is `publish: {timeout: …}`"),
    ("bootstrap.servers", "addresses are in `url`"),
    ("metadata.broker.list", "addresses are in `url`"),
    ("max.in.flight", "the order of a key's events rests on it"),
    ("max.in.flight.requests.per.connection", "the order of a key's events rests on it"),
    ("queue.buffering.max.messages", "what is in flight is bounded by `in_flight`"),
    ("queue.buffering.max.ms", "it is another name of `linger.ms`: set that"),
    ("queue.buffering.max.kbytes", "what is in flight is bounded by `in_flight_bytes`"),
    ("queuing.strategy", "the order of a key's events rests on it"),
    ("allow.auto.create.topics", "topics are made by `topology`, with the partitions it says"),
    ("transactional.id", "publishes are not part of transactions"),
    ("message.send.max.retries", "a publish is tried for as long as its life lasts"),
    ("retries", "a publish is tried for as long as its life lasts"),
    ("message.max.bytes", "it follows from `limits: {body: …}`"),
    ("delivery.report.only.error", "a confirm is a delivery report"),
    ("log.queue", "librdkafka's log lines go to this program's log"),
    ("enabled_events", "a confirm is a delivery report"),
    ("api.version.request", "the broker's version must be known"),
    ("batch.size", "it tells which event of a batch is too large"),
    ("socket.max.fails", "a connection with a request that had no answer is given up"),
    ("log.connection.close", "what is certain of a publish rests on knowing of lost connections"),
];

impl Checker<'_, '_> {
    pub(super) fn destinations(&mut self, raw: Option<Named<raw::Destination>>, body: usize) -> Vec<Known> {
        let named = raw.map(|named| named.0).unwrap_or_default();
        let known = named.into_iter().map(|(leaf, raw)| {
            let name = self.name(&leaf, "destination");
            Known { settings: self.destination(&leaf, &name, raw, body), name, place: leaf.place }
        });
        known.collect()
    }

    fn destination(
        &mut self,
        leaf: &Leaf,
        name: &Arc<str>,
        raw: raw::Destination,
        body: usize,
    ) -> Option<DestinationSettings> {
        let url = self.addresses(leaf, raw.url.as_ref());
        let kind = url.as_ref().map(BrokerUrl::kind);
        if let Some(kind) = kind {
            self.only_for(kind, &raw);
        }
        let modes = [("binary", Mode::Binary), ("structured", Mode::Structured)];
        let usual = if kind == Some(Kind::File) { Mode::Structured } else { Mode::Binary };
        let mode = self.word(&raw.mode, &modes, usual);
        if kind == Some(Kind::File) && mode == Mode::Binary {
            self.mistake(raw.mode.as_ref(), "a file destination writes structured events only");
        }
        let topologies = [("ensure", Topology::Ensure), ("verify", Topology::Verify)];
        let in_flight_bytes =
            self.size(&raw.in_flight_bytes, body.saturating_add(1 << 10).max(64 << 20), 1 << 10..=64 << 30);
        // What a message costs beside its body is counted too.
        if in_flight_bytes < body.saturating_add(1 << 10) {
            let message =
                "in_flight_bytes must be at least 1 KiB more than limits.body: such an event could never be published";
            self.mistake(raw.in_flight_bytes.as_ref(), message);
        }
        let partitions = self.count(&raw.partitions, 12, 1..=10_000);
        let settings = DestinationSettings {
            name: name.clone(),
            stream: self.value(&raw.stream, "EVENTS".into(), stream),
            exchange: self.value(&raw.exchange, "events".into(), exchange),
            partitions: i32::try_from(partitions).unwrap_or(12),
            mode,
            topology: self.word(&raw.topology, &topologies, Topology::Ensure),
            forward_signature: self.flag(&raw.forward_signature),
            in_flight: self.count(&raw.in_flight, 10_000, 1..=1_000_000),
            in_flight_bytes,
            tls: self.tls(&raw.tls),
            roots_from_environment: ["SSL_CERT_FILE", "SSL_CERT_DIR"]
                .iter()
                .any(|name| (self.environment)(name).is_some()),
            auth: self.auth(&raw.auth),
            properties: self.properties(&raw.properties),
            url: url?,
        };
        Some(settings)
    }

    fn addresses(&mut self, name: &Leaf, raw: Option<&raw::OneOrMany>) -> Option<BrokerUrl> {
        let Some(raw) = raw.filter(|raw| !raw.all.is_empty()) else {
            self.mistake(Some(name), "`url` is missing");
            return None;
        };
        let texts: Vec<_> = raw.all.iter().map(|leaf| self.url(leaf)).collect();
        let texts: Vec<String> = texts.into_iter().collect::<Option<_>>()?;
        self.report.ok(&raw.place, url::parse(&texts))
    }

    /// A setting that a kind does not know would be lost without a word.
    fn only_for(&mut self, kind: Kind, raw: &raw::Destination) {
        let (tls, auth) = (&raw.tls, &raw.auth);
        let property = raw.properties.0.first().map(|(name, _)| name);
        let for_broker = [
            (tls.ca.as_ref(), "tls.ca"),
            (tls.cert.as_ref(), "tls.cert"),
            (tls.key.as_ref(), "tls.key"),
            (raw.topology.as_ref(), "topology"),
        ];
        let settings = [
            (Kind::Nats, raw.stream.as_ref(), "stream"),
            (Kind::Nats, auth.token.as_ref(), "auth.token"),
            (Kind::Nats, auth.nkey.as_ref(), "auth.nkey"),
            (Kind::Nats, auth.creds.as_ref(), "auth.creds"),
            (Kind::Rabbitmq, raw.exchange.as_ref(), "exchange"),
            (Kind::Kafka, raw.partitions.as_ref(), "partitions"),
            (Kind::Kafka, property, "properties"),
        ];
        for (of, leaf, name) in settings {
            if of != kind && leaf.is_some() {
                let message =
                    format!("`{name}` is for destinations of the kind {}, this is {}", of.word(), kind.word());
                self.mistake(leaf, message);
            }
        }
        for (leaf, name) in for_broker {
            if kind == Kind::File && leaf.is_some() {
                self.mistake(leaf, format!("`{name}` is for brokers, this is {}", kind.word()));
            }
        }
    }

    fn tls(&mut self, raw: &raw::Tls) -> Tls {
        match (&raw.cert, &raw.key) {
            (Some(cert), None) => self.mistake(Some(cert), "`tls.cert` needs `tls.key`"),
            (None, Some(key)) => self.mistake(Some(key), "`tls.key` needs `tls.cert`"),
            _ => {}
        }
        Tls { ca: self.readable(&raw.ca), cert: self.readable(&raw.cert), key: self.readable(&raw.key) }
    }

    fn auth(&mut self, raw: &raw::Auth) -> Auth {
        let given = [&raw.token, &raw.nkey, &raw.creds].into_iter().flatten();
        if let Some(second) = given.clone().nth(1) {
            self.mistake(Some(second), "give one of `auth.token`, `auth.nkey` and `auth.creds`");
        }
        let mut secret = |leaf: &Option<Leaf>| {
            let leaf = leaf.as_ref()?;
            let text = self.text(leaf)?;
            if text.trim().is_empty() {
                self.mistake(Some(leaf), "it is empty");
            }
            Some(Secret::new(text.trim()))
        };
        let (token, nkey) = (secret(&raw.token), secret(&raw.nkey));
        Auth { token, nkey, creds: self.readable(&raw.creds) }
    }

    fn properties(&mut self, raw: &Named<Leaf>) -> Vec<(String, Secret)> {
        let mut properties = Vec::new();
        for (name, value) in &raw.0 {
            // librdkafka takes `topic.` before properties of topics.
            let bare = name.text.trim().to_ascii_lowercase();
            let bare = bare.strip_prefix("topic.").unwrap_or(&bare);
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| bare == *ours) {
                self.mistake(Some(name), format!("the property `{bare}` is not to be set: {why}"));
                continue;
            }
            if name.text.is_empty()
                || !name.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            {
                self.mistake(Some(name), "the name of a librdkafka property holds letters, digits, `.`, `_` and `-`");
                continue;
            }
            let value = self.text(value);
            properties.extend(value.map(|value| (name.text.clone(), Secret::new(value))));
        }
        properties
    }
}

/// The rules of the NATS server for names of streams.
fn stream(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    let fits = (1..=255).contains(&text.len()) && text.chars().all(legal);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "the name of a stream holds no space, `.`, `*`, `>`, `/` or `\\`".into())
}

fn exchange(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match text {
        _ if text.starts_with("amq.") => Err("exchanges that begin with `amq.` are the broker's own".into()),
        _ if (1..=127).contains(&text.len()) && text.chars().all(legal) => Ok(text.into()),
        _ => Err("the name of an exchange is 1 to 127 of letters, digits, `-`, `_`, `.` and `:`".into()),
    }
}
