//! Every rule of meaning. Nothing stops at the first mistake: what is wrong is reported and stands for its default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::mistake::{Place, Report, hint, shown, shown_name};
use super::raw::{self, Leaf};
use super::substitute::{Environment, substitute, substitute_url};
use super::{Settings, StoreKind, units};
use crate::admission::Limits;
use crate::destination::settings::DestinationSettings;
use crate::source::Source;

pub(super) use route::takes_everything;
pub(super) use source::keys_in;

pub(super) mod destination;
mod route;
mod source;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Checks everything. `None` where a mistake left nothing to go on with; the report knows it.
pub(super) fn check(file: raw::File, environment: &Environment<'_>, report: &mut Report) -> Option<Settings> {
    let mut checker = Checker { environment, report, filled: false };
    let limits = checker.limits(&file.limits);
    let sources = checker.sources(file.sources);
    let destinations = checker.destinations(file.destinations, limits.body);
    let routes = checker.routes(file.routes, file.unrouted, &sources, &destinations);
    let dead_letters_to = file.dead_letters.to.and_then(|to| checker.known(&to, &destinations)).map(|found| found.name);
    let dedup_window = checker.window(file.dedup.window, &sources);
    let listen = checker.address(&file.listen, SocketAddr::from(([0, 0, 0, 0], 8080)));
    let admin = checker.admin_address(&file.admin);
    let place = file.admin.listen.as_ref().or(file.listen.as_ref()).map_or(Place::Nowhere, |leaf| leaf.place.clone());
    checker.apart(listen, admin, &place);
    let store = checker.store(file.store.as_ref());
    checker.ack(file.ack.as_ref());
    let data = checker.value(&file.data, PathBuf::from("hookbridge-data"), |text| match text {
        "" => Err("expected a directory".into()),
        text => Ok(PathBuf::from(text)),
    });
    let publish_timeout = checker.duration(&file.publish.timeout, 120 * SECOND, SECOND..=HOUR);
    let shutdown_timeout = checker.duration(&file.shutdown.timeout, 25 * SECOND, SECOND..=HOUR);
    if publish_timeout < limits.request_timeout {
        let given = file.publish.timeout.as_ref().or(file.limits.request_timeout.as_ref());
        checker.mistake(given, "publish.timeout must not be shorter than limits.request_timeout");
    }
    Some(Settings {
        sources,
        destinations: destinations.into_iter().filter_map(|known| known.settings).collect(),
        routes: routes?,
        store,
        data,
        dedup_window,
        dead_letters_to,
        listen,
        admin,
        limits,
        publish_timeout,
        shutdown_timeout,
    })
}

/// The admin listener's address, whatever else is wrong.
pub(super) fn admin_address(file: &raw::File, environment: &Environment<'_>, report: &mut Report) -> SocketAddr {
    Checker { environment, report, filled: false }.admin_address(&file.admin)
}

struct Checker<'a, 'e> {
    environment: &'a Environment<'e>,
    report: &'a mut Report,
    /// Whether anything was put into a topic: then messages show no topics.
    filled: bool,
}

/// A destination that was named; without settings where these are mistaken.
#[derive(Clone)]
struct Known {
    name: Arc<str>,
    place: Place,
    settings: Option<DestinationSettings>,
}

impl Checker<'_, '_> {
    fn mistake(&mut self, leaf: Option<&Leaf>, message: impl Into<String>) {
        let place = leaf.map_or(Place::Nowhere, |leaf| leaf.place.clone());
        self.report.mistake(&place, message);
    }

    /// The text with variables and files put in. Flags and variables are taken as they are.
    fn text(&mut self, leaf: &Leaf) -> Option<String> {
        self.filled(leaf, substitute)
    }

    fn url(&mut self, leaf: &Leaf) -> Option<String> {
        self.filled(leaf, substitute_url)
    }

    fn filled(&mut self, leaf: &Leaf, fill: fn(&str, &Environment<'_>) -> Result<String, String>) -> Option<String> {
        match leaf.place {
            Place::File { .. } => self.report.ok(&leaf.place, fill(&leaf.text, self.environment)),
            _ => Some(leaf.text.clone()),
        }
    }

    /// Reads a value that is no secret: its mistake shows it as it is written, before anything was put in.
    fn read<T>(&mut self, leaf: &Leaf, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(leaf)?;
        let value = read(&text).map_err(|message| format!("{}: {message}", shown(&leaf.text)));
        self.report.ok(&leaf.place, value)
    }

    /// Reads a pattern or a template. What its parser says shows parts of it, so only what stands in the file is parsed
    /// for a message.
    fn parsed<T>(&mut self, leaf: &Leaf, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let filled = leaf.text.contains("${") && matches!(leaf.place, Place::File { .. });
        self.filled |= filled;
        let hidden = filled || shown(&leaf.text) != format!("`{}`", leaf.text.escape_debug());
        self.read(leaf, |text| match parse(text) {
            Err(_) if hidden && !text.is_empty() => Err("it is not well-formed".into()),
            result => result,
        })
    }

    fn topic_shown(&self, topic: &str) -> String {
        if self.filled { "made here".into() } else { shown(topic) }
    }

    fn value<T>(&mut self, leaf: &Option<Leaf>, default: T, read: impl FnOnce(&str) -> Result<T, String>) -> T {
        leaf.as_ref().and_then(|leaf| self.read(leaf, read)).unwrap_or(default)
    }

    fn flag(&mut self, leaf: &Option<Leaf>) -> bool {
        self.value(leaf, false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".into()),
        })
    }

    /// One of some words.
    fn word<T: Copy>(&mut self, leaf: &Option<Leaf>, words: &[(&str, T)], default: T) -> T {
        self.value(leaf, default, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                let near = hint(text, words.iter().map(|(word, _)| *word));
                format!("expected {}{near}", names.join(" or "))
            })
        })
    }

    fn duration(
        &mut self,
        leaf: &Option<Leaf>,
        default: Duration,
        within: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        self.value(leaf, default, |text| {
            let duration = units::duration(text)?;
            let write = units::write_duration;
            let bounds = || format!("it must be from {} to {}", write(*within.start()), write(*within.end()));
            if within.contains(&duration) { Ok(duration) } else { Err(bounds()) }
        })
    }

    fn size(&mut self, leaf: &Option<Leaf>, default: usize, within: std::ops::RangeInclusive<usize>) -> usize {
        self.value(leaf, default, |text| bounded(units::size(text)?, &within, units::write_size))
    }

    fn count(&mut self, leaf: &Option<Leaf>, default: usize, within: std::ops::RangeInclusive<usize>) -> usize {
        self.value(leaf, default, |text| bounded(units::count(text)?, &within, |count| count.to_string()))
    }

    fn limits(&mut self, raw: &raw::Limits) -> Limits {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        const GIB: usize = 1 << 30;
        let limits = Limits {
            body: self.size(&raw.body, 8 * MIB, KIB..=GIB / 2), // SQLite keeps up to 10^9 bytes in one dead letter
            header_bytes: self.size(&raw.header_bytes, 32 * KIB, KIB..=MIB),
            headers: self.count(&raw.headers, 80, 10..=10_000),
            read_timeout: self.duration(&raw.read_timeout, 5 * SECOND, SECOND / 10..=60 * SECOND),
            request_timeout: self.duration(&raw.request_timeout, 10 * SECOND, SECOND / 10..=120 * SECOND),
            connections: self.count(&raw.connections, 4096, 1..=1_000_000),
            requests: self.count(&raw.requests, 8192, 1..=1_000_000),
            bytes: self.size(&raw.bytes, 256 * MIB, KIB..=64 * GIB),
        };
        if limits.bytes < limits.body {
            let place = raw.bytes.as_ref().or(raw.body.as_ref());
            self.mistake(place, "limits.bytes must not be smaller than limits.body: such a body could never be taken");
        }
        if limits.request_timeout >= 15 * SECOND {
            let place = raw.request_timeout.as_ref().map_or(Place::Nowhere, |leaf| leaf.place.clone());
            self.report.warning(&place, "VideoGen gives up after 15 s: a later answer is not seen");
        }
        limits
    }

    fn window(&mut self, leaf: Option<Leaf>, sources: &[Source]) -> Duration {
        let window = self.duration(&leaf, 7 * DAY, SECOND..=3650 * DAY);
        let tolerance = sources.iter().map(|source| source.tolerance).max().unwrap_or_default();
        if window < 2 * tolerance {
            let message = "dedup.window is shorter than twice the tolerance: a captured delivery could be replayed";
            self.mistake(leaf.as_ref(), message);
        }
        window
    }

    fn address(&mut self, leaf: &Option<Leaf>, default: SocketAddr) -> SocketAddr {
        self.value(leaf, default, |text| {
            let local = |port: &str| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?));
            let address = text.strip_prefix("localhost:").map_or_else(|| text.parse().ok(), local);
            address.ok_or_else(|| "expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
        })
    }

    fn admin_address(&mut self, admin: &raw::Admin) -> SocketAddr {
        self.address(&admin.listen, SocketAddr::from(([127, 0, 0, 1], 9464)))
    }

    fn apart(&mut self, listen: SocketAddr, admin: SocketAddr, place: &Place) {
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
        let kind = ["redis", "rediss", "nats", "tls"].into_iter().find(|kind| text.starts_with(&format!("{kind}://")));
        let message = match kind {
            Some(kind) => {
                format!("the store {kind}:// is not available yet in this version: use `embedded` or `memory`")
            }
            None => format!("unknown store: expected `embedded` or `memory`{}", hint(&text, ["embedded", "memory"])),
        };
        self.mistake(Some(leaf), message);
        StoreKind::Embedded
    }

    fn ack(&mut self, leaf: Option<&Leaf>) {
        let text = leaf.and_then(|leaf| self.text(leaf));
        match text.as_deref() {
            None | Some("published") => {}
            Some("stored") => {
                self.mistake(leaf, "`stored` is not available yet in this version: use `published`");
            }
            Some(_) => {
                let near = leaf.map(|leaf| hint(&leaf.text, ["published"])).unwrap_or_default();
                self.mistake(leaf, format!("expected `published`{near}"));
            }
        }
    }

    /// The destination of that name.
    fn known(&mut self, leaf: &Leaf, destinations: &[Known]) -> Option<Known> {
        let name = self.text(leaf)?;
        let found = destinations.iter().find(|known| *known.name == *name).cloned();
        if found.is_none() {
            let named = shown_name(&leaf.text).map_or_else(String::new, |name| format!(" {name}"));
            let near = hint(&name, destinations.iter().map(|known| &*known.name));
            let all: Vec<_> = destinations.iter().map(|known| format!("`{}`", known.name)).collect();
            let message = match all.is_empty() {
                true => format!("unknown destination{named}: there are none"),
                false => format!("unknown destination{named}: there is {}{near}", all.join(", ")),
            };
            self.mistake(Some(leaf), message);
        }
        found
    }

    /// Names of sources and destinations stand in paths, topics, metrics and the ledger.
    fn name(&mut self, leaf: &Leaf, what: &str) -> Arc<str> {
        let legal = (1..=64).contains(&leaf.text.len())
            && leaf.text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !legal {
            self.mistake(Some(leaf), format!("the name of a {what} must be 1 to 64 of A-Z, a-z, 0-9, `_` and `-`"));
        }
        leaf.text.as_str().into()
    }

    /// A file that must be readable; its name as text.
    fn readable(&mut self, leaf: &Option<Leaf>) -> Option<PathBuf> {
        let leaf = leaf.as_ref()?;
        self.read(leaf, |path| match std::fs::File::open(path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => Ok(PathBuf::from(path)),
            Ok(_) => Err("it is not a file".into()),
            Err(error) => Err(format!("the file cannot be read: {}", error.kind())),
        })
    }
}

fn bounded(
    value: u64,
    within: &std::ops::RangeInclusive<usize>,
    write: impl Fn(usize) -> String,
) -> Result<usize, String> {
    let bounds = || format!("it must be from {} to {}", write(*within.start()), write(*within.end()));
    usize::try_from(value).ok().filter(|value| within.contains(value)).ok_or_else(bounds)
}
