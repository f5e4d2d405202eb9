//! `helm upgrade` while deliveries come: none is lost and none is doubled by a sender that retries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

use parking_lot::Mutex;

use crate::rig::{self, Namespace, SOON, inside, values};
use crate::suite::Subject;
use crate::support::sender::{answer, body, request};
use crate::support::wait::until;

const TOPIC: &str = "file.playback_ready";

/// Senders that repeat each delivery until it is answered 200.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<Instant>>>,
    senders: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(url: &str) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let senders = (0..8).map(|sender| {
            let (stop, answered, url) = (Arc::clone(&stop), Arc::clone(&answered), url.to_owned());
            tokio::spawn(async move {
                let client = rig::client();
                let mut sent = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("u_{sender}_{}", sent.len());
                    while !is_ok(&client, &url, &id).await {
                        tokio::time::sleep(Duration::from_millis(50)).await; // only paces the attempts
                    }
                    answered.lock().push(Instant::now());
                    sent.push(id);
                }
                sent
            })
        });
        Load { senders: senders.collect(), stop, answered }
    }

    fn count(&self) -> usize {
        self.answered.lock().len()
    }

    /// Waits for this many more answers.
    async fn more(&self, count: usize) {
        let enough = self.count() + count;
        until("answers", SOON, async || (self.count() >= enough).then_some(())).await;
    }

    /// All ids that were answered, and the longest time without any answer.
    async fn end(self) -> (Vec<String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.extend(sender.await.expect("no panic"));
        }
        let mut times = std::mem::take(&mut *self.answered.lock());
        times.sort_unstable();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        (sent, gap)
    }
}

async fn is_ok(client: &reqwest::Client, url: &str, id: &str) -> bool {
    let body = body(TOPIC, "f1");
    answer(request(client, url, id, body.as_bytes())).await.is_ok_and(|answer| answer.status == 200)
}

async fn assert_each_once<S: Subject>(subject: &S, sent: &[String]) {
    let mut counts = BTreeMap::<String, usize>::new();
    for stored in subject.stored("EVENTS", TOPIC).await {
        *counts.entry(stored.id()).or_default() += 1;
    }
    let lost = sent.iter().filter(|id| !counts.contains_key(*id)).count();
    let doubled = counts.values().filter(|count| **count > 1).count();
    assert_eq!((lost, doubled), (0, 0), "of {}", sent.len());
}

/// RabbitMQ keeps what is published twice, so that a second copy would be seen.
#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_is_lost_or_doubled() {
    if !inside() {
        return;
    }
    let (namespace, rabbitmq) = (Namespace::new("upgrade"), rig::rabbitmq());
    namespace.secret("rabbitmq-default-user", &[("username", "guest"), ("password", "guest")]);
    namespace.broker("rabbitmq", 5672);
    let file = values("rabbitmq");
    namespace.install(&file, &[]);
    let url = namespace.url();
    let mut all = Vec::new();
    for (round, sleep) in ["5", "0"].into_iter().enumerate() {
        // The pod that ends has the settings of before.
        namespace
            .upgrade(&file, &["--set", &format!("preStopSleepSeconds={sleep}")])
            .unwrap_or_else(|out| panic!("{out}"));
        let before = namespace.ready_pod(None).await;
        let load = Load::start(&url);
        load.more(200).await;
        let since = Instant::now();
        let settings =
            [format!("preStopSleepSeconds={sleep}"), format!("config.sources.videogen.rate={}", 5000 + round)];
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        namespace.upgrade(&file, &settings).unwrap_or_else(|out| panic!("{out}"));
        let took = since.elapsed();
        load.more(200).await;
        let (sent, gap) = load.end().await;
        println!(
            "helm upgrade with a preStop sleep of {sleep} s: {:.1} s, {} deliveries, none answered for {:.1} s",
            took.as_secs_f64(),
            sent.len(),
            gap.as_secs_f64()
        );
        let memory = namespace.metric("process_resident_memory_bytes").await;
        println!("resident memory after it: {:.0} MiB", memory / f64::from(1 << 20));
        assert_ne!(namespace.pod().uid, before.uid, "the pod was not replaced");
        // The ids of the next round begin anew, and are duplicates.
        all.extend(sent);
    }
    all.sort_unstable();
    all.dedup();
    assert_each_once(&rabbitmq, &all).await;
}

/// A version that does not become ready fails the upgrade, and a roll-back repairs it without a pod deleted by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_roll_back_repairs_a_release_that_does_not_become_ready() {
    if !inside() {
        return;
    }
    let (namespace, _nats) = (Namespace::new("rollback"), rig::nats());
    namespace.broker("nats", 4222);
    let file = values("minimal");
    namespace.install(&file, &[]);
    assert_eq!(namespace.post("kept", &body(TOPIC, "f1")).await.word(), "200 accepted");
    let wrong = [
        "--set",
        "preflight.enabled=false",
        "--set",
        "config.destinations.events.topology=nope",
        "--timeout",
        "20s",
        "--skip-schema-validation",
    ];
    namespace.upgrade(&file, &wrong).expect_err("it fails");
    namespace.helm(&["rollback", "hb"], &["--wait", "--timeout", "120s"]).unwrap_or_else(|out| panic!("{out}"));
    namespace.ready_pod(None).await;
    assert_eq!(namespace.post("kept", &body(TOPIC, "f1")).await.word(), "200 duplicate");
}
