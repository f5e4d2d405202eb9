//! NATS. Messages are read with the library's consumer. A topic refuses publishes when its stream is limited to one
//! message per subject.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt as _;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::secret::Secret;
use parking_lot::Mutex;

use super::{Differences, Ending, Stored, Subject, subject};
use crate::support::brokers::{Broker, Kind, With};

/// A server for this test only, because it starts fast; or the server that `NATS_URL` names, whose `max_payload` must
/// be at least 9 MB. The test deletes its streams there, because each reserves 10 GiB.
pub enum Nats {
    Own(Broker),
    Shared(&'static Broker, Mutex<BTreeSet<String>>),
}

impl Drop for Nats {
    fn drop(&mut self) {
        let Nats::Shared(broker, streams) = self else { return };
        let (url, streams) = (broker.url().to_owned(), std::mem::take(&mut *streams.lock()));
        let delete = async move {
            let context = jetstream::new(async_nats::connect(url).await.ok()?);
            for stream in streams {
                context.delete_stream(stream).await.ok()?;
            }
            Some(())
        };
        let deleted = std::thread::spawn(|| tokio::runtime::Runtime::new().ok()?.block_on(delete)).join();
        if !matches!(deleted, Ok(Some(()))) {
            eprintln!("not every stream of this test was deleted");
        }
    }
}

impl Nats {
    fn broker(&self) -> &Broker {
        match self {
            Nats::Own(broker) => broker,
            Nats::Shared(broker, _) => broker,
        }
    }

    async fn stream(&self, scope: &str) -> Option<stream::Stream> {
        let client = async_nats::connect(self.broker().url()).await.expect("a connection");
        jetstream::new(client).get_stream(scope).await.ok()
    }

    async fn limit_per_subject(&self, scope: &str, most: i64) {
        let mut stream = self.stream(scope).await.expect("the stream");
        let mut config = stream.info().await.expect("its configuration").config.clone();
        config.max_messages_per_subject = most;
        config.discard_new_per_subject = most > 0;
        let client = async_nats::connect(self.broker().url()).await.expect("a connection");
        jetstream::new(client).update_stream(&config).await.expect("updated");
    }
}

impl Subject for Nats {
    const DIFFERENCES: Differences = Differences {
        always_structured: false,
        keeps_key: false,
        dedups: true,
        largest: None,
        unknown_topic: Ending::Again,
        refused: Ending::Again,
        can_pause: true,
        has_topology: true,
    };

    async fn own() -> Self {
        // The default of 1 MiB is less than the bridge's body limit.
        Nats::Own(Broker::start_with(Kind::Nats, With { conf: "max_payload: 16MB\n", ..With::default() }))
    }

    async fn limited() -> Self {
        Nats::Own(Broker::start(Kind::Nats)) // the default is 1 MiB
    }

    async fn shared() -> Self {
        if Broker::is_given(Kind::Nats) {
            Nats::Shared(Broker::shared(Kind::Nats), Mutex::default())
        } else {
            Nats::own().await
        }
    }

    fn settings(&self, scope: &str) -> DestinationSettings {
        if let Nats::Shared(_, streams) = self {
            streams.lock().insert(scope.to_owned());
        }
        subject::settings(scope, BrokerUrl::Nats(vec![Secret::new(self.broker().url())]))
    }

    async fn stored(&self, scope: &str, topic: &str) -> Vec<Stored> {
        let Some(stream) = self.stream(scope).await else { return Vec::new() };
        let all = consumer::pull::Config {
            filter_subject: topic.to_owned(),
            ack_policy: consumer::AckPolicy::None,
            ..Default::default()
        };
        let consumer = stream.create_consumer(all).await.expect("a consumer");
        let count = consumer.cached_info().num_pending as usize;
        let messages = consumer.messages().await.expect("messages");
        messages.take(count).map(|message| stored(message.expect("a message").message)).collect().await
    }

    async fn kill(&self) {
        self.broker().kill();
    }

    async fn start_again(&self) {
        self.broker().start_again();
    }

    async fn pause(&self) {
        self.broker().pause();
    }

    async fn resume(&self) {
        self.broker().resume();
    }

    async fn refuse(&self, scope: &str, _topic: &str) {
        self.limit_per_subject(scope, 1).await;
    }

    async fn delete(&self, scope: &str, _topic: &str) {
        let client = async_nats::connect(self.broker().url()).await.expect("a connection");
        jetstream::new(client).delete_stream(scope).await.expect("deleted");
    }

    async fn accept(&self, scope: &str, _topic: &str) {
        self.limit_per_subject(scope, -1).await;
    }
}

fn stored(message: async_nats::Message) -> Stored {
    let mut stored = Stored { body: message.payload, ..Stored::default() };
    for (name, value) in header_values(&message.headers.unwrap_or_default()) {
        match name.strip_prefix("ce-") {
            Some("datacontenttype") => stored.content_type = value,
            Some(attribute) => drop(stored.attributes.insert(attribute.to_owned(), decode(&value))),
            None if name == "content-type" => stored.content_type = value,
            None => drop(stored.headers.insert(name, value)),
        }
    }
    stored
}

fn header_values(headers: &HeaderMap) -> BTreeMap<String, String> {
    let join = |values: &[async_nats::HeaderValue]| values.iter().map(|value| value.as_str()).collect::<String>();
    headers.iter().map(|(name, values)| (name.to_string(), join(values))).collect()
}

/// Percent-decodes a header value.
fn decode(value: &str) -> String {
    assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value:?}");
    let mut parts = value.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(out).expect("UTF-8")
}
