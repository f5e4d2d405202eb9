//! What a broker brings to be put through the suite.

use std::collections::BTreeMap;

use bytes::Bytes;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::event::{DATA_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE};
use hookbridge::message::Outcome;

/// A destination under test: how to have one, break it, and read it by other means than the code under test.
///
/// A `scope` is a name that no other test has. Every topic of a test begins with it and a dot; what a destination needs
/// beside topics (a stream, an exchange) is to be named after it too, so that tests can share a broker.
pub trait Subject: Sized + 'static {
    /// How it differs from the others.
    const DIFFERENCES: Differences;

    /// One that only this test uses: it can be killed and frozen.
    async fn own() -> Self;

    /// One that tests share.
    async fn shared() -> Self {
        Self::own().await
    }

    /// Settings for it; begin with [`settings`].
    fn settings(&self, scope: &str) -> DestinationSettings;

    /// Everything that was stored under a topic so far, oldest first; empty where there is no such topic. May be called
    /// again, and then tells the same and what came since (a reader that consumes keeps what it has read).
    async fn stored(&self, scope: &str, topic: &str) -> Vec<Stored>;

    /// Ends it as a crash does. Only on an [`own`](Subject::own) one.
    async fn kill(&self);

    /// Brings it back with its data, at the same address.
    async fn start_again(&self);

    /// Stops it from answering, with its connections open. Called only if it [can](Differences::can_pause).
    async fn pause(&self) {
        unimplemented!("declared with can_pause");
    }

    /// Ends [`pause`](Subject::pause).
    async fn resume(&self) {
        unimplemented!("declared with can_pause");
    }

    /// Makes it refuse everything that is published to this topic (a full queue, a full stream …), while it is up.
    async fn refuse(&self, scope: &str, topic: &str);

    /// Ends [`refuse`](Subject::refuse). What the topic held may be gone then.
    async fn accept(&self, scope: &str, topic: &str);
}

/// How a destination differs from the others: declared here, so that a case need not be skipped.
#[derive(Clone, Copy, Debug)]
pub struct Differences {
    /// Whether it writes structured events whatever its mode.
    pub always_structured: bool,
    /// Whether the record key can be read back ([`Stored::key`]).
    pub keeps_key: bool,
    /// Whether the same event, published twice to one topic, is stored once.
    pub dedups: bool,
    /// The largest body that [`Subject::settings`] lets through; `None`: it takes any that the bridge takes.
    pub largest: Option<usize>,
    /// How a publish ends to a topic that nothing was made for.
    pub unknown_topic: Ending,
    /// How a publish ends while the topic [refuses](Subject::refuse). RabbitMQ's nack may mean that another queue has
    /// it: unknown.
    pub refused: Ending,
    /// Whether it can be [paused](Subject::pause).
    pub can_pause: bool,
    /// Whether `topology: verify` asks for anything that `ensure` would make.
    pub has_topology: bool,
}

/// The four ways of [`Outcome`], without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Confirmed,
    Again,
    Unknown,
    Never,
}

impl From<&Outcome> for Ending {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Confirmed => Ending::Confirmed,
            Outcome::Again(_) => Ending::Again,
            Outcome::Unknown(_) => Ending::Unknown,
            Outcome::Never(_) => Ending::Never,
        }
    }
}

/// What an independent reader found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Binary mode: the CloudEvents attributes that came as headers, without prefix and decoded, except
    /// `datacontenttype`. Empty in structured mode.
    pub attributes: BTreeMap<String, String>,
    /// The content type header or property; of a file's line, [`STRUCTURED_CONTENT_TYPE`].
    pub content_type: String,
    /// Headers that are no CloudEvents attributes, such as `webhook-signature`.
    pub headers: BTreeMap<String, String>,
    /// The record key.
    pub key: Option<String>,
    /// The body as stored.
    pub body: Bytes,
}

impl Stored {
    /// Attributes (all but `datacontenttype`) and data, whatever the mode.
    pub fn event(&self) -> (BTreeMap<String, String>, Bytes) {
        if self.content_type == DATA_CONTENT_TYPE {
            return (self.attributes.clone(), self.body.clone());
        }
        assert_eq!(self.content_type, STRUCTURED_CONTENT_TYPE);
        let members: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(&self.body).expect("a structured event is an object");
        let mut data = None;
        let mut attributes = BTreeMap::new();
        for (name, value) in members {
            if name == "data" {
                data = Some(Bytes::copy_from_slice(value.get().as_bytes()));
            } else {
                attributes.insert(name, serde_json::from_str(value.get()).expect("attributes are strings"));
            }
        }
        assert_eq!(attributes.remove("datacontenttype").as_deref(), Some(DATA_CONTENT_TYPE));
        (attributes, data.expect("data"))
    }

    /// The event's id.
    pub fn id(&self) -> String {
        self.event().0.remove("id").expect("an id")
    }
}

/// The defaults, for this address, with stream and exchange named after the scope.
pub fn settings(scope: &str, url: BrokerUrl) -> DestinationSettings {
    DestinationSettings {
        stream: scope.to_owned(),
        exchange: scope.to_owned(),
        partitions: 3,
        ..DestinationSettings::new("under-test", url)
    }
}
