//! Every rule of meaning. Checking continues after a mistake: the mistake is recorded, and the default takes the value's
//! place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::{Place, Report, hint, quoted};
use super::raw::{Leaf, RawAdmin, RawFile, RawLimits, RawTimeout};
use super::substitute::Environment;
use super::units::{DAY, HOUR, SECOND};
use super::{Ack, BridgeAccess, Settings, StoreKind};
use crate::admission::Limits;
use crate::secret::Secret;
use crate::source::Source;
use checker::Checker;

pub(super) use source::{encoded_once, keys_in};

mod checker;
mod claim_check;
mod coverage;
mod destination;
pub(super) mod properties;
mod route;
mod source;

/// Checks everything. Returns `None` only after it has recorded a mistake that leaves the settings incomplete.
pub(super) fn check(file: RawFile, environment: &Environment<'_>, report: &mut Report) -> Option<Settings> {
    let mut checker = Checker::new(environment, report);
    let limits = checker.limits(&file.limits);
    let sources = checker.sources(file.sources);
    let publish_timeout = checker.publish_timeout(&file.publish);
    let destinations = checker.destinations(file.destinations, limits.body, publish_timeout);
    let routes = checker.routes(file.routes, file.unrouted, &sources, &destinations);
    let claim_check = checker.claim_check(&file.claim_check, &destinations);
    let dead_letters_max_bytes = checker.size(&file.dead_letters.max_bytes, 1 << 30, 1 << 20..=1 << 50) as u64;
    let dead_letters_max_age = checker.age(&file.dead_letters.max_age);
    let dead_letters_to = file.dead_letters.to.and_then(|to| checker.find_destination(&to, &destinations));
    let dedup_window = checker.window(file.dedup.window, &sources);
    let listen = checker.address(&file.listen, SocketAddr::from(([0, 0, 0, 0], 8080)));
    let admin = checker.admin_address(&file.admin);
    let admin_token = checker.admin_token(&file.admin);
    let place = file.admin.listen.as_ref().or(file.listen.as_ref()).map_or(Place::Nowhere, |leaf| leaf.place.clone());
    checker.distinct(listen, admin, &place);
    let store = checker.store(file.store.as_ref());
    let ack = checker.ack(file.ack.as_ref(), &store);
    let spool_max_bytes = checker.size(&file.spool.max_bytes, 8 << 30, 1 << 20..=1 << 50) as u64;
    let data = checker.data(&file.data);
    let shutdown_timeout = checker.duration(&file.shutdown.timeout, 25 * SECOND, SECOND..=HOUR);
    let optional = routes.iter().flat_map(|routes| &routes.rules).flat_map(|rule| &rule.to).any(|to| !to.required);
    if optional && store == StoreKind::Memory && dead_letters_to.is_none() {
        let place = file.store.as_ref().map_or(Place::Nowhere, |leaf| leaf.place.clone());
        let message = "the store `memory` keeps no dead letters, so an outage of a target with `required: false` is answered 503 \
                       nevertheless: use `store: embedded` or `dead_letters.to`";
        checker.report.warning(&place, message);
    }
    if publish_timeout < limits.request_timeout {
        let given = file.publish.timeout.as_ref().or(file.limits.request_timeout.as_ref());
        checker.mistake(given, "publish.timeout must not be shorter than limits.request_timeout");
    }
    Some(Settings {
        sources,
        destinations: destinations.into_iter().filter_map(|named| named.settings).collect(),
        routes: routes?,
        claim_check,
        ack,
        store,
        data,
        spool_max_bytes,
        dedup_window,
        dead_letters_to: dead_letters_to.map(|named| named.name),
        dead_letters_max_bytes,
        dead_letters_max_age,
        listen,
        admin,
        admin_token,
        limits,
        publish_timeout,
        shutdown_timeout,
    })
}

/// The admin listener's address, regardless of mistakes elsewhere.
pub(super) fn admin_address(file: &RawFile, environment: &Environment<'_>, report: &mut Report) -> SocketAddr {
    Checker::new(environment, report).admin_address(&file.admin)
}

/// How a command reaches a bridge or its store, regardless of mistakes elsewhere.
pub(super) fn bridge_access(file: &RawFile, environment: &Environment<'_>, report: &mut Report) -> BridgeAccess {
    let mut checker = Checker::new(environment, report);
    BridgeAccess {
        admin: checker.admin_address(&file.admin),
        admin_token: checker.admin_token(&file.admin),
        store: checker.store(file.store.as_ref()),
        data: checker.data(&file.data),
        dedup_window: checker.duration(&file.dedup.window, 7 * DAY, SECOND..=3650 * DAY),
        publish_timeout: checker.publish_timeout(&file.publish),
    }
}

impl Checker<'_, '_> {
    fn publish_timeout(&mut self, publish: &RawTimeout) -> Duration {
        self.duration(&publish.timeout, 120 * SECOND, SECOND..=HOUR)
    }

    fn data(&mut self, leaf: &Option<Leaf>) -> PathBuf {
        self.value(leaf, PathBuf::from("hookbridge-data"), |text| match text {
            "" => Err("expected a directory".into()),
            text => Ok(PathBuf::from(text)),
        })
    }

    fn age(&mut self, leaf: &Option<Leaf>) -> Option<Duration> {
        leaf.as_ref()?;
        Some(self.duration(leaf, DAY, SECOND..=36_500 * DAY))
    }

    fn admin_token(&mut self, admin: &RawAdmin) -> Option<Secret> {
        let leaf = admin.token.as_ref()?;
        let token = self.text(leaf)?.trim().to_owned();
        let why = match token.as_str() {
            "" => "the admin token is empty: anyone could use it",
            token if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                "the admin token must be visible ASCII without spaces, as a header carries it"
            }
            token => {
                if token.len() < 16 {
                    self.report.warning(&leaf.place, "the admin token is short: use 16 random characters or more");
                }
                return Some(Secret::new(token));
            }
        };
        self.mistake(Some(leaf), why);
        None
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        const GIB: usize = 1 << 30;
        let limits = Limits {
            body: self.size(&raw.body, 8 * MIB, KIB..=GIB / 2), // SQLite stores at most 10^9 bytes in a dead letter
            header_bytes: self.size(&raw.header_bytes, 32 * KIB, KIB..=MIB),
            headers: self.count(&raw.headers, 80, 10..=10_000),
            read_timeout: self.duration(&raw.read_timeout, 5 * SECOND, SECOND / 10..=60 * SECOND),
            request_timeout: self.duration(&raw.request_timeout, 10 * SECOND, SECOND / 10..=120 * SECOND),
            connections: self.count(&raw.connections, 4096, 1..=1_000_000),
            requests: self.count(&raw.requests, 8192, 1..=1_000_000),
            bytes: self.size(&raw.bytes, 256 * MIB, KIB..=64 * GIB),
        };
        if limits.bytes < limits.body {
            let given = raw.bytes.as_ref().or(raw.body.as_ref());
            self.mistake(given, "limits.bytes must not be smaller than limits.body, or the largest body never fits");
        }
        if limits.request_timeout >= 15 * SECOND {
            let place = raw.request_timeout.as_ref().map_or(Place::Nowhere, |leaf| leaf.place.clone());
            self.report.warning(&place, "VideoGen times out after 15 s and does not see a later answer");
        }
        limits
    }

    fn window(&mut self, leaf: Option<Leaf>, sources: &[Source]) -> Duration {
        let window = self.duration(&leaf, 7 * DAY, SECOND..=3650 * DAY);
        let tolerance = sources.iter().map(|source| source.tolerance).max().unwrap_or_default();
        if window < 2 * tolerance {
            let message = "dedup.window must be at least twice the tolerance, or a captured delivery could be replayed";
            self.mistake(leaf.as_ref(), message);
        }
        window
    }

    fn admin_address(&mut self, admin: &RawAdmin) -> SocketAddr {
        self.address(&admin.listen, SocketAddr::from(([127, 0, 0, 1], 9464)))
    }

    fn distinct(&mut self, listen: SocketAddr, admin: SocketAddr, place: &Place) {
        let overlap = listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified();
        if listen.port() != 0 && listen.port() == admin.port() && overlap {
            self.report.mistake(place, "listen and admin.listen are the same address: give them different ports");
        }
    }

    fn store(&mut self, leaf: Option<&Leaf>) -> StoreKind {
        let Some((leaf, text)) = leaf.and_then(|leaf| Some((leaf, self.url(leaf)?))) else {
            return StoreKind::Embedded;
        };
        match text.as_str() {
            "memory" => return StoreKind::Memory,
            "embedded" => return StoreKind::Embedded,
            _ => {}
        }
        // A URL may contain a password.
        let scheme = text.split_once("://").and_then(|(scheme, _)| Some(format!("{}://", word(scheme)?)));
        let kind = scheme.or_else(|| word(&text).map(str::to_owned));
        let quoted = kind.as_ref().map_or_else(String::new, |kind| format!(" `{kind}`"));
        let message = match kind.as_deref() {
            Some("redis://" | "rediss://" | "nats://" | "tls://") => {
                format!("the store{quoted} is not available yet in this version: use `embedded` or `memory`")
            }
            _ => {
                format!("unknown store{quoted}: expected `embedded` or `memory`{}", hint(&text, ["embedded", "memory"]))
            }
        };
        self.mistake(Some(leaf), message);
        StoreKind::Embedded
    }

    fn ack(&mut self, leaf: Option<&Leaf>, store: &StoreKind) -> Ack {
        let Some((leaf, text)) = leaf.and_then(|leaf| Some((leaf, self.text(leaf)?))) else { return Ack::Published };
        let modes = [Ack::Published, Ack::Stored];
        let Some(ack) = modes.into_iter().find(|ack| ack.word() == text) else {
            let near = hint(&text, modes.map(Ack::word));
            self.mistake(Some(leaf), format!("{}: expected `published` or `stored`{near}", quoted(&leaf.text)));
            return Ack::Published;
        };
        if ack == Ack::Stored && *store == StoreKind::Memory {
            self.mistake(Some(leaf), "`stored` needs a store on disk: use `store: embedded`");
        }
        ack
    }
}

/// A plain word, which is no secret.
fn word(text: &str) -> Option<&str> {
    let plain = (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_lowercase());
    plain.then_some(text)
}
