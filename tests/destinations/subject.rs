//! What the conformance suite needs of a destination.

use std::collections::BTreeMap;

use bytes::Bytes;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::event::{DATA_CONTENT_TYPE, STRUCTURED_CONTENT_TYPE};
use hookbridge::message::Outcome;

/// A destination under test: how to start it, disturb it, and read it with code other than the code under test.
///
/// A `scope` is a name that no other test uses. Every topic of a test begins with the scope and a dot. Streams and exchanges
/// are named after it too, so that tests can share a broker.
pub trait Subject: Sized + 'static {
    /// How it differs from other destinations.
    const DIFFERENCES: Differences;

    /// Starts one that only this test uses, which can be killed and frozen.
    async fn own() -> Self;

    /// Starts one that only this test uses, and that takes at most about 1 MiB in `file.analysis_completed`.
    async fn limited() -> Self {
        unimplemented!("only brokers have a limit")
    }

    /// Returns one that tests share.
    async fn shared() -> Self {
        Self::own().await
    }

    /// Its settings, based on [`settings`].
    fn settings(&self, scope: &str) -> DestinationSettings;

    /// Everything that is stored in a topic, oldest first; empty if there is no such topic. A repeated call returns the same
    /// and what was added since (a reader that consumes messages keeps those it has read).
    async fn stored(&self, scope: &str, topic: &str) -> Vec<Stored>;

    /// Kills it, as in a crash. Only for an [`own`](Subject::own) subject.
    async fn kill(&self);

    /// Starts it again with its data, at the same address.
    async fn start_again(&self);

    /// Freezes it with its connections open. Called only if it [can](Differences::can_pause).
    async fn pause(&self) {
        unimplemented!("declared with can_pause");
    }

    /// Resumes it after [`pause`](Subject::pause).
    async fn resume(&self) {
        unimplemented!("declared with can_pause");
    }

    /// Makes it refuse every publish to this topic (a full queue, a full stream …), while it is up.
    async fn refuse(&self, scope: &str, topic: &str);

    /// Deletes what the topic's messages are in (the stream, the topic, the queue), while it is up.
    async fn delete(&self, _scope: &str, _topic: &str) {
        unimplemented!("only for destinations with topology");
    }

    /// Blocks publishers, if it can, until it is called with `false`. Returns whether it can.
    async fn block(&self, _blocked: bool) -> bool {
        false
    }

    /// Accepts publishes again after [`refuse`](Subject::refuse). What the topic contained may be lost.
    async fn accept(&self, scope: &str, topic: &str);
}

/// How a destination differs from others. Declared as data, so that no case needs to be skipped.
#[derive(Clone, Copy, Debug)]
pub struct Differences {
    /// Whether it writes structured events regardless of its mode.
    pub always_structured: bool,
    /// Whether the record key is stored ([`Stored::key`]).
    pub keeps_key: bool,
    /// Whether the same event, published twice to one topic, is stored once.
    pub dedups: bool,
    /// The largest body that it accepts with [`Subject::settings`], in bytes; `None` if it accepts any that the bridge accepts.
    pub largest: Option<usize>,
    /// The ending of a publish to a topic without topology.
    pub unknown_topic: Ending,
    /// The ending of a publish while the topic [refuses](Subject::refuse). For RabbitMQ unknown, because after a nack
    /// another queue may have the message.
    pub refused: Ending,
    /// Whether it can be [paused](Subject::pause).
    pub can_pause: bool,
    /// Whether `topology: verify` checks anything that `ensure` would create.
    pub has_topology: bool,
}

/// An [`Outcome`] without its failure.
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

/// A stored message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Binary mode: the CloudEvents attributes from the headers, decoded, without prefix and without `datacontenttype`.
    /// Empty in structured mode.
    pub attributes: BTreeMap<String, String>,
    /// The content type header or property; [`STRUCTURED_CONTENT_TYPE`] for a line of a file.
    pub content_type: String,
    /// Headers that are not CloudEvents attributes, such as `webhook-signature`.
    pub headers: BTreeMap<String, String>,
    /// The record key.
    pub key: Option<String>,
    /// The stored body.
    pub body: Bytes,
}

impl Stored {
    /// Attributes (without `datacontenttype`) and data, in either mode.
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

/// Default settings for a URL, with stream and exchange named after the scope.
pub fn settings(scope: &str, url: BrokerUrl) -> DestinationSettings {
    DestinationSettings {
        stream: scope.to_owned(),
        exchange: scope.to_owned(),
        partitions: 3,
        ..DestinationSettings::new("under-test", url)
    }
}
