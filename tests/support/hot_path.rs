//! The steps of a delivery that need no network, one by one, for a fixed input: for `benches/hot_path.rs` and
//! `tests/instructions.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hookbridge::config::{Flags, environment_of, load};
use hookbridge::delivery::{Delivery, DeliveryKey};
use hookbridge::destination::encoded_size;
use hookbridge::destination::settings::DestinationSettings;
use hookbridge::event::Event;
use hookbridge::ledger::{Claim, Ledger, Record, memory};
use hookbridge::message::Message;
use hookbridge::normalize::normalize;
use hookbridge::protocol::{End, Fact, Ticket};
use hookbridge::route::{Plan, Planned, Routes};
use hookbridge::secret::Secret;
use hookbridge::signature;
use hookbridge::source::Source;
use hookbridge::trace_context::trace_context;
use http::{HeaderMap, HeaderValue};

use super::program::SECRET;

/// When all deliveries are sent and received.
const NOW: i64 = 1_795_435_200;

/// A signed delivery as it arrives.
pub struct Request {
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    /// A sample of an event. The number distinguishes the ids.
    pub fn new(event: &str, number: u64) -> Request {
        let (id, body) = (format!("msg_{number:024}"), hookbridge::samples::sample(event, number % 50, NOW).body);
        let signature = super::sender::signature(&id, NOW, body.as_bytes());
        let length = body.len().to_string();
        let lines = [
            ("host", "127.0.0.1:8080"),
            ("content-type", "application/json"),
            ("content-length", &length),
            ("user-agent", "sender/1.0"),
            ("webhook-id", &id),
            ("webhook-timestamp", &NOW.to_string()),
            ("webhook-signature", &signature),
            ("x-request-id", "0123456789abcdef00000001"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers
                .insert(name.parse::<http::HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("text"));
        }
        Request { headers, body: body.into() }
    }
}

/// What the steps need: a source, routes, a ledger in memory, and the settings of a destination of each kind.
pub struct HotPath {
    source: Source,
    routes: Routes,
    destinations: Vec<DestinationSettings>,
    ledger: Arc<dyn Ledger>,
}

impl HotPath {
    /// With the settings that `serve --secret … --to …` has.
    pub fn new() -> HotPath {
        let urls = ["nats://127.0.0.1", "kafka://127.0.0.1:9092", "amqp://127.0.0.1", "file:/events"];
        let settings = urls.map(|url| {
            let (to, secret) = (Some(Secret::new(url)), vec![Secret::new(SECRET)]);
            load(&Flags { to, secret, ..Flags::default() }, &environment_of([])).expect("good settings").settings
        });
        let source = settings[0].sources[0].clone();
        let routes = settings[0].routes.clone();
        let destinations = settings.into_iter().flat_map(|settings| settings.destinations).collect();
        HotPath { source, routes, destinations, ledger: memory::open(Duration::from_secs(86_400)) }
    }

    /// The settings of one destination of each kind.
    pub fn destinations(&self) -> &[DestinationSettings] {
        &self.destinations
    }

    /// Reads the headers and checks the signature.
    pub fn verify(&self, request: &Request) -> Delivery {
        let head = signature::head(&request.headers, false).expect("well-formed");
        head.timely(NOW, self.source.tolerance.as_secs()).expect("now");
        head.signed(&self.source.keys, &request.body).expect("signed");
        let headers = request.headers.clone();
        let (traceparent, tracestate) = trace_context(&headers);
        Delivery {
            key: DeliveryKey { source: Arc::clone(&self.source.name), id: head.id.into() },
            timestamp: head.timestamp,
            signature: head.signature,
            traceparent,
            tracestate,
            headers,
            body: request.body.clone(),
        }
    }

    /// Claims a new delivery. Returns the ticket, and the hash of the body.
    pub fn claim(&self, delivery: &Delivery) -> (Ticket, u32) {
        let body_hash = hookbridge::pipeline::hash(&delivery.body);
        let claim = self.ledger.claim(&delivery.key, body_hash).now_or_never();
        match claim.expect("the memory answers at once").expect("claimed") {
            Claim::Mine(ticket, _) => (ticket, body_hash),
            Claim::Busy(_) | Claim::Closed { .. } => panic!("{} is not new", delivery.key),
        }
    }

    /// Makes an event of it.
    pub fn normalize(&self, delivery: &Delivery) -> Arc<Event> {
        Arc::new(normalize(&self.source, delivery).expect("an event"))
    }

    /// Its targets.
    pub fn route(&self, event: &Arc<Event>) -> Vec<Planned> {
        match self.routes.plan(event) {
            Plan::To(planned) => planned,
            Plan::Ignore | Plan::DeadLetter(_) => panic!("{} has no target", event.name),
        }
    }

    /// A message in the form that a broker's client takes. Returns its size.
    pub fn encode(&self, settings: &DestinationSettings, message: &Message) -> usize {
        encoded_size(settings, message).expect("encoded")
    }

    /// All steps, with the forms of all brokers, as if they had confirmed. Returns how it ended.
    pub fn deliver(&self, request: &Request) -> Option<End> {
        let delivery = self.verify(request);
        let (ticket, body_hash) = self.claim(&delivery);
        let event = self.normalize(&delivery);
        let mut record = Record { body_hash, ..Record::default() };
        for Planned { target, message, .. } in self.route(&event) {
            let message = message.expect("a legal name");
            for settings in &self.destinations {
                assert!(self.encode(settings, &message) > delivery.body.len());
            }
            record.facts.push(Fact::Confirmed(target.clone()));
            record.targets.push(target);
        }
        let recorded = self.ledger.record(&delivery.key, ticket, record).now_or_never();
        recorded.expect("the memory answers at once").expect("recorded")
    }
}
