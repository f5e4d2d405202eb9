//! Checks destinations: addresses, and settings that apply only to some kinds.

use std::sync::Arc;
use std::time::Duration;

use super::checker::Checker;
use crate::config::mistake::{Place, hint, quoted, quoted_name};
use crate::config::raw::{Leaf, Named, OneOrMany, RawAuth, RawDestination, RawTls};
use crate::config::url;
use crate::destination::precheck::faults;
use crate::destination::settings::{
    Auth, BrokerUrl, DestinationSettings, Mode, OversizePolicy, SettingFault, SettingPart, Tls, Topology,
};
use crate::naming::Kind;
use crate::secret::Secret;

/// A destination of the configuration. `settings` is `None` if they contain a mistake.
#[derive(Clone)]
pub(super) struct NamedDestination {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    /// The place of `oversize`.
    pub(super) oversize: Option<Place>,
    pub(super) settings: Option<DestinationSettings>,
}

impl Checker<'_, '_> {
    /// `body` is the limit for bodies, in bytes.
    pub(super) fn destinations(
        &mut self,
        raw: Option<Named<RawDestination>>,
        body: usize,
        publish_timeout: Duration,
    ) -> Vec<NamedDestination> {
        let named = raw.map(|named| named.0).unwrap_or_default();
        let checked = named.into_iter().map(|(leaf, raw)| {
            let name = self.name(&leaf, "destination");
            let before = self.report.count();
            let settings = self.destination(&leaf, &name, &raw, body);
            if let Some(settings) = &settings {
                // A client of Kafka is judged as a whole.
                let whole = settings.url.kind() != Kind::Kafka || self.report.count() == before;
                let faults = if whole { faults(settings, body, publish_timeout) } else { Vec::new() };
                faults.into_iter().for_each(|fault| self.fault(&leaf, &raw, fault));
            }
            {
                let oversize = raw.oversize.map(|leaf| leaf.place);
                NamedDestination { settings, name, place: leaf.place, oversize }
            }
        });
        checked.collect()
    }

    /// The destination that a value names.
    pub(super) fn find_destination(&mut self, leaf: &Leaf, all: &[NamedDestination]) -> Option<NamedDestination> {
        let name = self.text(leaf)?;
        let found = all.iter().find(|named| *named.name == *name).cloned();
        if found.is_none() {
            let unknown = quoted_name(&leaf.text).map_or_else(String::new, |name| format!(" {name}"));
            let nearest = hint(&name, all.iter().map(|named| &*named.name));
            let names: Vec<_> = all.iter().map(|named| format!("`{}`", named.name)).collect();
            let message = match names.is_empty() {
                true => format!("unknown destination{unknown}: no destination is configured"),
                false => format!("unknown destination{unknown}: expected {}{nearest}", names.join(" or ")),
            };
            self.mistake(Some(leaf), message);
        }
        found
    }

    fn destination(
        &mut self,
        leaf: &Leaf,
        name: &Arc<str>,
        raw: &RawDestination,
        body: usize,
    ) -> Option<DestinationSettings> {
        let url = self.addresses(leaf, raw.url.as_ref());
        let kind = url.as_ref().map(BrokerUrl::kind);
        if let Some(kind) = kind {
            self.report_inapplicable(kind, raw);
        }
        if let Some(BrokerUrl::Amqp(all)) = &url
            && all.iter().any(|url| url.expose().starts_with("amqp:"))
        {
            let tls = raw.tls.ca.as_ref().or(raw.tls.cert.as_ref()).or(raw.tls.key.as_ref());
            if tls.is_some() {
                self.mistake(tls, "`tls` has no effect on amqp://: write amqps:// in `url`");
            }
        }
        if kind == Some(Kind::Kafka) {
            self.security(&raw.properties, &raw.tls);
        }
        let modes = [("binary", Mode::Binary), ("structured", Mode::Structured)];
        let default_mode = if kind == Some(Kind::File) { Mode::Structured } else { Mode::Binary };
        let mode = self.choice(&raw.mode, &modes, default_mode);
        if kind == Some(Kind::File) && mode == Mode::Binary {
            self.mistake(raw.mode.as_ref(), "a file destination writes only structured events");
        }
        let topologies = [("ensure", Topology::Ensure), ("verify", Topology::Verify)];
        let in_flight_bytes =
            self.size(&raw.in_flight_bytes, body.saturating_add(1 << 10).max(64 << 20), 1 << 10..=64 << 30);
        // A publish counts 1 KiB in addition to its body.
        if in_flight_bytes < body.saturating_add(1 << 10) {
            let message =
                "in_flight_bytes must be at least 1 KiB more than limits.body, or the largest event never fits";
            self.mistake(raw.in_flight_bytes.as_ref(), message);
        }
        let partitions = self.count(&raw.partitions, 6, 1..=10_000);
        let settings = DestinationSettings {
            name: name.clone(),
            stream: self.value(&raw.stream, "EVENTS".into(), stream),
            exchange: self.value(&raw.exchange, "events".into(), exchange),
            partitions: i32::try_from(partitions).unwrap_or(6),
            mode,
            topology: self.choice(&raw.topology, &topologies, Topology::Ensure),
            forward_signature: self.flag(&raw.forward_signature),
            in_flight: self.count(&raw.in_flight, 10_000, 1..=1_000_000),
            in_flight_bytes,
            tls: self.tls(&raw.tls),
            roots_from_environment: ["SSL_CERT_FILE", "SSL_CERT_DIR"]
                .iter()
                .any(|name| (self.environment)(name).is_some()),
            auth: self.auth(&raw.auth),
            oversize: self.choice(
                &raw.oversize,
                &OversizePolicy::ALL.map(|policy| (policy.word(), policy)),
                OversizePolicy::DeadLetter,
            ),
            properties: self.properties(&raw.properties, kind == Some(Kind::Kafka)),
            url: url?,
        };
        Some(settings)
    }

    /// Reports a fault at the place of its setting.
    fn fault(&mut self, name: &Leaf, raw: &RawDestination, fault: SettingFault) {
        let quotes = |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| (leaf.place.clone(), quoted(&leaf.text)));
        let file = match fault.part {
            SettingPart::Ca => quotes(&raw.tls.ca),
            SettingPart::Cert => quotes(&raw.tls.cert),
            SettingPart::Key => quotes(&raw.tls.key),
            SettingPart::Creds => quotes(&raw.auth.creds),
            SettingPart::Token | SettingPart::Nkey | SettingPart::Url | SettingPart::Properties => None,
        };
        if let Some((place, path)) = file {
            self.report.mistake(&place, format!("{path}: {}", fault.message));
            return;
        }
        let place = match fault.part {
            SettingPart::Token => raw.auth.token.as_ref().map(|leaf| &leaf.place),
            SettingPart::Nkey => raw.auth.nkey.as_ref().map(|leaf| &leaf.place),
            SettingPart::Properties => raw.properties.0.first().map(|(name, _)| &name.place),
            _ => raw.url.as_ref().map(|url| &url.place),
        };
        self.report.mistake(place.unwrap_or(&name.place), fault.message);
    }

    fn addresses(&mut self, name: &Leaf, raw: Option<&OneOrMany>) -> Option<BrokerUrl> {
        let Some(raw) = raw.filter(|raw| !raw.all.is_empty()) else {
            self.mistake(Some(name), "`url` is missing");
            return None;
        };
        let texts: Vec<_> = raw.all.iter().map(|leaf| self.url(leaf)).collect();
        let texts: Vec<String> = texts.into_iter().collect::<Option<_>>()?;
        self.report.ok(&raw.place, url::parse(&texts))
    }

    /// Reports settings that do not apply to a kind: they would be ignored silently.
    fn report_inapplicable(&mut self, kind: Kind, raw: &RawDestination) {
        let (tls, auth) = (&raw.tls, &raw.auth);
        let property = raw.properties.0.first().map(|(name, _)| name);
        let of_brokers = [
            (tls.ca.as_ref(), "tls.ca"),
            (tls.cert.as_ref(), "tls.cert"),
            (tls.key.as_ref(), "tls.key"),
            (raw.topology.as_ref(), "topology"),
            (raw.oversize.as_ref(), "oversize"),
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
                let (of, kind) = (of.word(), kind.word());
                let message = format!("`{name}` applies only to destinations of kind {of}; this one is of kind {kind}");
                self.mistake(leaf, message);
            }
        }
        for (leaf, name) in of_brokers {
            if kind == Kind::File && leaf.is_some() {
                self.mistake(
                    leaf,
                    format!("`{name}` applies only to brokers; this destination is of kind {}", kind.word()),
                );
            }
        }
    }

    fn tls(&mut self, raw: &RawTls) -> Tls {
        match (&raw.cert, &raw.key) {
            (Some(cert), None) => self.mistake(Some(cert), "`tls.cert` requires `tls.key`"),
            (None, Some(key)) => self.mistake(Some(key), "`tls.key` requires `tls.cert`"),
            _ => {}
        }
        Tls { ca: self.readable_file(&raw.ca), cert: self.readable_file(&raw.cert), key: self.readable_file(&raw.key) }
    }

    fn auth(&mut self, raw: &RawAuth) -> Auth {
        let given = [&raw.token, &raw.nkey, &raw.creds].into_iter().flatten();
        if let Some(second) = given.clone().nth(1) {
            self.mistake(Some(second), "give only one of `auth.token`, `auth.nkey` and `auth.creds`");
        }
        let mut secret = |leaf: &Option<Leaf>| {
            let leaf = leaf.as_ref()?;
            let text = self.text(leaf)?;
            if text.trim().is_empty() {
                self.mistake(Some(leaf), "the value is empty");
            }
            Some(Secret::new(text.trim()))
        };
        let (token, nkey) = (secret(&raw.token), secret(&raw.nkey));
        Auth { token, nkey, creds: self.readable_file(&raw.creds) }
    }
}

/// The NATS server's rules for names of streams.
fn stream(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    let fits = (1..=255).contains(&text.len()) && text.chars().all(legal);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "the name of a stream must not contain a space, `.`, `*`, `>`, `/` or `\\`".into())
}

fn exchange(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match text {
        _ if text.starts_with("amq.") => Err("names that begin with `amq.` are reserved for the broker".into()),
        _ if (1..=127).contains(&text.len()) && text.chars().all(legal) => Ok(text.into()),
        _ => Err("the name of an exchange is 1 to 127 letters, digits, `-`, `_`, `.` and `:`".into()),
    }
}
