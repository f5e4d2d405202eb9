use std::io::Read as _;
use std::time::Duration;

use futures_util::future::{pending, ready};
use parking_lot::Mutex;

use super::settings::ObjectStoreSettings;
use super::*;
use crate::destination::settings::BrokerUrl;
use crate::destination::{Confirm, Destination, Handle, Health};
use crate::event::fixture::event;

/// A broker that takes bodies of at most this many bytes.
struct Limited {
    limit: usize,
    /// Whether it says so in advance.
    known: bool,
    sent: Mutex<Vec<Message>>,
}

fn bytes(message: &Message) -> usize {
    message.gzip.as_ref().unwrap_or(&message.event.data).len()
}

impl Destination for Limited {
    fn publish(&self, message: Message) -> Confirm {
        let fits = bytes(&message) <= self.limit;
        self.sent.lock().push(message);
        ready(if fits { Outcome::Confirmed } else { Outcome::Never(Reason::TooLarge.into()) }).boxed()
    }
    fn refuses_size(&self, message: &Message) -> Option<Failure> {
        (self.known && bytes(message) > self.limit).then(|| Reason::TooLarge.into())
    }
    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        pending().boxed()
    }
    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        pending().boxed()
    }
    fn health(&self) -> Health {
        Health::Up
    }
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A handle with a policy, the broker below it, its metrics, and the directory of objects.
struct Fixture {
    handle: Handle,
    broker: Arc<Limited>,
    metrics: Arc<Metrics>,
    objects: tempfile::TempDir,
}

impl Fixture {
    fn new(policy: OversizePolicy, limit: usize, known: bool) -> Fixture {
        let settings = DestinationSettings {
            oversize: policy,
            ..DestinationSettings::new("limited", BrokerUrl::Nats(Vec::new()))
        };
        let (directory, metrics) = (tempfile::tempdir().unwrap(), Arc::<Metrics>::default());
        let objects = ObjectStorage::open(&ObjectStoreSettings::Directory(directory.path().join("objects"))).unwrap();
        let broker = Arc::new(Limited { limit, known, sent: Mutex::default() });
        let destination: Arc<dyn Destination> = Arc::clone(&broker) as _;
        let handle = Handle::new(destination, &settings, Duration::from_secs(10), Arc::clone(&metrics));
        let handle = handle.with_reduction(reduction(&settings, Some(&Arc::new(objects)), &metrics));
        Fixture { handle, broker, metrics, objects: directory }
    }

    async fn publish(&self, bytes: usize) -> Outcome {
        let event = Event { data: vec![b' '; bytes].into(), ..event() };
        self.handle.publish(Message::new(Arc::new(event), "a.b")).await
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.page().lines().any(|other| other == line)
    }
}

#[tokio::test]
async fn only_what_is_too_large_is_compressed() {
    for known in [false, true] {
        let fixture = Fixture::new(OversizePolicy::Gzip, 1000, known);
        assert_eq!(fixture.publish(1000).await, Outcome::Confirmed);
        assert_eq!(fixture.publish(1001).await, Outcome::Confirmed);
        let sent = fixture.broker.sent.lock();
        assert_eq!(sent.len(), if known { 2 } else { 3 });
        assert!(sent[0].gzip.is_none());
        let compressed = sent.last().and_then(|message| message.gzip.clone()).unwrap();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*compressed).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, vec![b' '; 1001]);
        for line in [
            "hookbridge_oversize_total{destination=\"limited\",result=\"gzip\"} 1",
            "hookbridge_publishes_total{destination=\"limited\",outcome=\"confirmed\",reason=\"\"} 2",
            "hookbridge_publishes_total{destination=\"limited\",outcome=\"never\",reason=\"too_large\"} 0",
        ] {
            assert!(fixture.counted(line), "{line}\n{}", fixture.metrics.page());
        }
    }
}

#[tokio::test]
async fn what_is_too_large_when_compressed_is_never() {
    let fixture = Fixture::new(OversizePolicy::Gzip, 10, false);
    let Outcome::Never(failure) = fixture.publish(1000).await else { panic!("it is too large") };
    assert_eq!(failure.reason, Reason::TooLarge);
    assert!(failure.detail.starts_with("still too large after `oversize: gzip`"), "{failure}");
    assert!(
        fixture.counted("hookbridge_publishes_total{destination=\"limited\",outcome=\"never\",reason=\"too_large\"} 1")
    );
}

#[tokio::test]
async fn without_a_policy_it_is_never() {
    let fixture = Fixture::new(OversizePolicy::DeadLetter, 10, true);
    assert_eq!(fixture.publish(11).await, Outcome::Never(Reason::TooLarge.into()));
    assert_eq!(fixture.broker.sent.lock().len(), 1, "the broker decides");
}

#[tokio::test]
async fn an_object_store_that_fails_is_an_outage() {
    let fixture = Fixture::new(OversizePolicy::ClaimCheck, 1000, false);
    let (root, moved) = (fixture.objects.path().join("objects"), fixture.objects.path().join("moved"));
    std::fs::rename(&root, &moved).unwrap();
    let Outcome::Again(failure) = fixture.publish(1001).await else { panic!("it can be tried again") };
    assert_eq!(failure.reason, Reason::ObjectStore);
    assert!(fixture.counted("hookbridge_oversize_total{destination=\"limited\",result=\"failed\"} 1"));
    std::fs::rename(&moved, &root).unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.publish(1001).await, Outcome::Confirmed);
    }
    let sent = fixture.broker.sent.lock();
    let reference = &sent.last().unwrap().event;
    let attribute = |name| reference.attributes().find(|(own, _)| *own == name).map(|(_, value)| value.to_owned());
    let uri = attribute("dataref").unwrap();
    let object = std::fs::read(uri.strip_prefix("file://").unwrap()).unwrap();
    assert_eq!((object.len(), attribute("datasize").as_deref()), (1001, Some("1001")));
    assert_eq!((&*reference.id, &*reference.data), ("msg_1", &b"null"[..]));
    let names = std::fs::read_dir(root.join("videogen/msg_1")).unwrap().count();
    assert_eq!(names, 1, "the same object is not written under another name");
}
