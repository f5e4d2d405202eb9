//! Every metric, once. Labels come from closed sets: the configuration's names, and the words of [`Reason`] and
//! [`Refusal`](crate::signature::Refusal).

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::process::ProcessCollector;
use crate::message::Outcome;
use crate::reason::Reason;

type Labelled<L> = Family<L, Counter>;

/// A source.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SourceLabel {
    /// Its name.
    pub source: String,
}

/// A source and how its delivery was answered.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AnswerLabel {
    /// The source's name.
    pub source: String,
    /// `accepted`, `duplicate`, `dead-lettered`, `ignored`, `refused` or `unavailable`.
    pub outcome: &'static str,
}

/// A source and why its delivery was not accepted.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RefusalLabel {
    /// The source's name.
    pub source: String,
    /// The HTTP status.
    pub status: u16,
    /// A closed set of words.
    pub reason: &'static str,
}

/// A source and one of its keys.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KeyLabel {
    /// The source's name.
    pub source: String,
    /// The position of the key in `secrets`, counted from 1.
    pub key: u64,
}

/// A key of a source.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct KeyInfoLabel {
    /// The source's name.
    pub source: String,
    /// The position of the key in `secrets`, counted from 1.
    pub key: u64,
    /// Tells keys apart without giving them away.
    pub fingerprint: String,
}

/// How a reload ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReloadLabel {
    /// `done` or `refused`.
    pub result: &'static str,
}

impl ReloadLabel {
    /// The new secrets are in force.
    pub const DONE: ReloadLabel = ReloadLabel { result: "done" };
    /// The new configuration has mistakes; the secrets before stay in force.
    pub const REFUSED: ReloadLabel = ReloadLabel { result: "refused" };
}

/// A source and why a dead letter could not be published.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LetterLabel {
    /// The source's name.
    pub source: String,
    /// A word of [`Reason`].
    pub reason: &'static str,
}

/// A destination and how a publish to it ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PublishLabel {
    /// The destination's name.
    pub destination: String,
    /// `confirmed`, `again`, `unknown` or `never`.
    pub outcome: &'static str,
    /// A word of [`Reason`]; empty for `confirmed`.
    pub reason: &'static str,
}

/// A destination and what became of an event that was too large for it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OversizeLabel {
    /// The destination's name.
    pub destination: String,
    /// `gzip`, `claim-check`, or `failed`.
    pub result: &'static str,
}

/// A destination.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct DestinationLabel {
    /// Its name.
    pub destination: String,
}

macro_rules! metrics {
    ($($name:ident: $kind:ty = $make:expr, $registered:literal $(($unit:expr))?, $help:literal;)*) => {
        /// Every metric; names begin with `hookbridge_`, or with `process_` where Prometheus has a convention.
        pub struct Metrics { registry: Registry, $(#[doc = $help] pub $name: $kind,)* }

        /// Name, kind, unit and help of each, as written here.
        #[cfg(test)]
        const DESCRIBED: &[(&str, &str, &str, &str)] =
            &[$(($registered, stringify!($kind), concat!($(stringify!($unit))?), $help)),*];

        impl Default for Metrics {
            fn default() -> Self {
                let mut all = Registry::default();
                all.register_collector(Box::new(ProcessCollector));
                let registry = all.sub_registry_with_prefix("hookbridge");
                registry.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
                $(let $name: $kind = $make; metrics!(@register registry $name $registered $help $($unit)?);)*
                Metrics { registry: all, $($name,)* }
            }
        }
    };
    (@register $registry:ident $name:ident $registered:literal $help:literal) => {
        $registry.register($registered, $help, $name.clone());
    };
    (@register $registry:ident $name:ident $registered:literal $help:literal $unit:expr) => {
        $registry.register_with_unit($registered, $help, $unit, $name.clone());
    };
}

metrics! {
    deliveries: Labelled<AnswerLabel> = Family::default(), "deliveries", "Deliveries by source and answer";
    refusals: Labelled<RefusalLabel> = Family::default(), "refusals", "Requests that were refused, by status and reason";
    verified: Labelled<KeyLabel> = Family::default(), "verified", "Deliveries with a good signature, by the position of the key in the source's secrets";
    keys: Family<KeyInfoLabel, Gauge> = Family::default(), "key_in_force", "1 for each key that verifies deliveries now, by position and fingerprint";
    reloads: Labelled<ReloadLabel> = Family::default(), "reloads", "Times that the configuration was read again, on SIGHUP or after a change of a file";
    clock_refusals: Labelled<SourceLabel> = Family::default(), "clock_refusals", "Good signatures outside the tolerance: check the clock";
    body_differs: Labelled<SourceLabel> = Family::default(), "body_differs", "Duplicates whose body differs from the first";
    publishes: Labelled<PublishLabel> = Family::default(), "publishes", "Publishes by destination and outcome";
    oversize: Labelled<OversizeLabel> = Family::default(), "oversize", "Events that were too large for their broker, and were compressed, put into the object store, or could not be (`failed`)";
    late: Labelled<SourceLabel> = Family::default(), "late_outcomes", "Deliveries whose work ended after their request was answered";
    request_seconds: Histogram = seconds(), "request" (Unit::Seconds), "Time from a request's head to its answer";
    publish_seconds: Family<DestinationLabel, Histogram, fn() -> Histogram> = Family::new_with_constructor(seconds), "publish" (Unit::Seconds), "Time from publish to outcome";
    settle_seconds: Histogram = seconds(), "settle" (Unit::Seconds), "Time to make an outcome durable";
    in_flight: Gauge = Gauge::default(), "in_flight", "Deliveries being worked on";
    in_flight_bytes: Gauge = Gauge::default(), "in_flight" (Unit::Bytes), "Bytes of bodies in memory";
    publishing: Family<DestinationLabel, Gauge> = Family::default(), "publishes_in_flight", "Publishes without an outcome";
    up: Family<DestinationLabel, Gauge> = Family::default(), "destination_up", "Whether the destination is connected and fits";
    refusing: Family<DestinationLabel, Gauge> = Family::default(), "destination_refusing", "Whether the destination confirmed none of its last publishes while it was connected";
    connects: Labelled<DestinationLabel> = Family::default(), "destination_connects", "Times a destination was connected";
    kafka_queue: Family<DestinationLabel, Gauge> = Family::default(), "kafka_queue_messages", "Messages in the Kafka producer's queues and in flight";
    kafka_queue_bytes: Family<DestinationLabel, Gauge> = Family::default(), "kafka_queue" (Unit::Bytes), "Bytes of messages in the Kafka producer's queues and in flight";
    kafka_brokers: Family<DestinationLabel, Gauge> = Family::default(), "kafka_brokers_connected", "Kafka brokers that the producer is connected to";
    kafka_round_trip: Family<DestinationLabel, Gauge<f64, AtomicU64>> = Family::default(), "kafka_round_trip_p99" (Unit::Seconds), "99th percentile of the slowest Kafka broker's round trip";
    kafka_replaced: Labelled<DestinationLabel> = Family::default(), "kafka_producers_replaced", "Kafka producers replaced after a fatal error, a lasting loss of all connections, or a change of TLS files";
    spool_events: Family<DestinationLabel, Gauge> = Family::default(), "spool_events", "Events that wait in the spool";
    spool_bytes: Family<DestinationLabel, Gauge> = Family::default(), "spool" (Unit::Bytes), "Bytes of events that wait in the spool";
    spool_oldest: Family<DestinationLabel, Gauge> = Family::default(), "spool_oldest" (Unit::Seconds), "Age of the oldest event that waits in the spool, 0 without one";
    ledger_ids: Gauge = Gauge::default(), "ledger_ids", "Ids the ledger remembers, roughly";
    dead_letters: Family<LetterLabel, Gauge> = Family::default(), "dead_letters", "Dead letters that the store keeps, by source and reason";
    dead_letter_bytes: Gauge = Gauge::default(), "dead_letters" (Unit::Bytes), "Bytes of dead letters that the store keeps";
    ledger_forgotten: Counter = Counter::default(), "ledger_forgotten", "Ids that the memory store forgot before the end of their window";
    last_delivery: Family<SourceLabel, Gauge<f64, AtomicU64>> = Family::default(), "last_delivery_timestamp" (Unit::Seconds), "Unix time of the last verified delivery";
    log_lines_lost: Counter = Counter::default(), "log_lines_lost", "Log lines that standard error did not take in time";
    clock_offset: Family<SourceLabel, Gauge> = Family::default(), "sender_clock_offset" (Unit::Seconds), "Our clock minus the sender's at the last verified delivery";
}

/// 0.1 ms to 210 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 22))
}

impl Metrics {
    /// The page that Prometheus reads (OpenMetrics text).
    pub fn page(&self) -> String {
        let mut page = String::new();
        match encode(&mut page, &self.registry) {
            Ok(()) => page,
            Err(_) => String::new(), // writing to a String does not fail
        }
    }

    /// The count of a source's deliveries that were answered so.
    pub fn answered(&self, source: &str, outcome: &'static str) -> Counter {
        self.deliveries.get_or_create_owned(&AnswerLabel { source: source.into(), outcome })
    }

    /// Creates every series of a destination, so that the first count of each is a change that alerts can see.
    pub fn expect_destination(&self, name: &str) {
        let label = DestinationLabel { destination: name.into() };
        let spool = [&self.spool_events, &self.spool_bytes, &self.spool_oldest];
        for family in [&self.publishing, &self.up, &self.refusing].into_iter().chain(spool) {
            drop(family.get_or_create(&label));
        }
        drop(self.connects.get_or_create(&label));
        drop(self.publish_seconds.get_or_create(&label));
        drop(self.confirmed(name));
        for reason in Reason::ALL {
            let outcomes: &[_] = if reason.is_about_event() { &["never"] } else { &["again", "unknown"] };
            for outcome in outcomes {
                let (destination, reason) = (name.into(), reason.word());
                drop(self.publishes.get_or_create(&PublishLabel { destination, outcome, reason }));
            }
        }
    }

    /// The count of a destination's confirmed publishes.
    pub fn confirmed(&self, destination: &str) -> Counter {
        let label = PublishLabel { destination: destination.into(), outcome: "confirmed", reason: "" };
        self.publishes.get_or_create_owned(&label)
    }

    /// Counts a publish's end.
    pub fn published(&self, destination: &str, outcome: &Outcome) {
        let reason = outcome.failure().map_or("", |failure| failure.reason.word());
        let label = PublishLabel { destination: destination.into(), outcome: outcome.word(), reason };
        self.publishes.get_or_create(&label).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of README's table.
    fn row((name, kind, unit, help): &(&str, &str, &str, &str)) -> String {
        let unit = unit.strip_prefix("Unit::").map(|unit| format!("_{}", unit.to_lowercase())).unwrap_or_default();
        let total = if kind.contains("Labelled") || *kind == "Counter" { "_total" } else { "" };
        let labels = match kind.split_once("Label").map(|_| kind) {
            Some(kind) if kind.contains("SourceLabel") => "source",
            Some(kind) if kind.contains("AnswerLabel") => "source, outcome",
            Some(kind) if kind.contains("RefusalLabel") => "source, status, reason",
            Some(kind) if kind.contains("KeyLabel") => "source, key",
            Some(kind) if kind.contains("KeyInfoLabel") => "source, key, fingerprint",
            Some(kind) if kind.contains("ReloadLabel") => "result",
            Some(kind) if kind.contains("LetterLabel") => "source, reason",
            Some(kind) if kind.contains("PublishLabel") => "destination, outcome, reason",
            Some(kind) if kind.contains("OversizeLabel") => "destination, result",
            Some(kind) if kind.contains("DestinationLabel") => "destination",
            _ => "",
        };
        format!("| `hookbridge_{name}{unit}{total}` | {labels} | {help} |")
    }

    #[test]
    fn readme_has_every_metric_and_no_other() {
        let readme = include_str!("../../README.md");
        let expected: Vec<String> = DESCRIBED.iter().map(row).collect();
        let is_row = |line: &&str| line.starts_with("| `hookbridge_") && !line.starts_with("| `hookbridge_build_info`");
        let rows: Vec<&str> = readme.lines().filter(is_row).collect();
        assert_eq!(rows, expected, "README's table should be:\n{}", expected.join("\n"));
    }
}
