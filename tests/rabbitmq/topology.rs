//! What is made, and what exists already.

use std::time::Duration;

use hookbridge::destination::Health;
use hookbridge::destination::settings::Topology;
use hookbridge::reason::Reason;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::types::AMQPValue;

use crate::rig::{
    Admin, confirmed, connects, counts, down, open, opening, publish, publish_all, shared, shown, text, up,
};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

/// `rabbitmqctl list_queues` for queues of this scope: name, type, arguments.
fn queues(scope: &str) -> String {
    let all = shared().tool(&["--quiet", "list_queues", "--no-table-headers", "name", "durable", "type", "arguments"]);
    let mut lines: Vec<_> = all.lines().filter(|line| line.starts_with(scope)).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Durable quorum queues that refuse when they are full, and dead letters that are kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["a", "b"]));
    up(&*destination).await;
    let made = queues(&scope);
    assert_eq!(made.lines().count(), 3, "{made}");
    for line in made.lines() {
        assert!(line.contains("true\tquorum\t"), "{line}");
        let dead = line.starts_with(&format!("{scope}.dead\t"));
        for argument in ["\"x-max-length-bytes\",1073741824", "\"reject-publish\"", &format!("\"{scope}.dead\"")] {
            assert_eq!(line.contains(argument), !dead, "{argument} in {line}");
        }
    }
    // What a worker rejects can be found again.
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    let admin = Admin::of(shared()).await;
    let options = lapin::options::BasicGetOptions { no_ack: false };
    let got = admin.channel.basic_get(format!("{scope}.a").as_str().into(), options).await.expect("a queue");
    let reject = lapin::options::BasicRejectOptions { requeue: false };
    got.expect("a message").acker.reject(reject).await.expect("rejected");
    until("a dead letter", SOON, async || (admin.depth(&format!("{scope}.dead")).await == 1).then_some(())).await;
    let bindings = shared().tool(&["--quiet", "list_bindings", "source_name", "destination_name", "routing_key"]);
    for binding in [format!("{scope}\t{scope}.a\t{scope}.a"), format!("{scope}.dead\t{scope}.dead\t#")] {
        assert!(bindings.contains(&binding), "{bindings}");
    }
}

/// A part that varies is any one word.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_varies() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["*"]));
    up(&*destination).await;
    let messages = ["x", "y", "x.y"].map(|part| message(&format!("{scope}.{part}"), event(part)));
    let told: Vec<_> = publish_all(&*destination, messages).await.iter().map(shown).collect();
    assert_eq!(told, ["confirmed", "confirmed", "again unroutable"]);
    assert_eq!(Admin::of(shared()).await.depth(&format!("{scope}.*")).await, 2);
}

/// A classic queue, a stream, and a quorum queue with other limits are published to, and stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_taken_as_it_is() {
    let scope = scope();
    let admin = Admin::of(shared()).await;
    let name = |queue: &str| format!("{scope}.{queue}");
    admin.queue(&name("classic"), &[("x-max-priority", AMQPValue::LongInt(3))]).await;
    admin.queue(&name("stream"), &[("x-queue-type", text("stream"))]).await;
    admin.queue(&name("limits"), &[("x-queue-type", text("quorum")), ("x-max-length", AMQPValue::LongInt(7))]).await;
    let before = queues(&scope);
    let destination = open(opening(&[shared().url()], &scope, &["classic", "stream", "limits"]));
    up(&*destination).await;
    for queue in ["classic", "stream", "limits"] {
        let outcomes = publish_all(&*destination, (0..5).map(|id| message(&name(queue), event(&id.to_string())))).await;
        assert_eq!(counts(&outcomes), [("confirmed".to_owned(), 5)].into(), "{queue}");
    }
    let after = queues(&scope);
    let after: Vec<_> = after.lines().filter(|line| !line.starts_with(&name("dead"))).collect();
    assert_eq!(after.join("\n"), before);
    // And it is said.
    let found = destination.probe().await.expect("it is well").join("\n");
    assert!(found.contains("RabbitMQ "), "{found}");
    assert!(found.contains("quorum queues need three"), "{found}");
    for queue in ["classic", "stream", "limits"] {
        let warning = |line: &str| line.contains(&name(queue)) && line.contains("taken as it is");
        assert!(found.lines().any(warning), "{queue}: {found}");
    }
}

/// The exchange exists in another way.
#[tokio::test(flavor = "multi_thread")]
async fn another_kind_of_exchange() {
    let scope = scope();
    let admin = Admin::of(shared()).await;
    let options = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = lapin::ExchangeKind::Direct;
    admin.channel.exchange_declare(scope.as_str().into(), kind, options, Default::default()).await.expect("declared");
    let destination = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
}

/// `verify`: one queue is missing; the others are published to, and the missing one is told when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn verify_with_one_queue_missing() {
    let scope = scope();
    let maker = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*maker).await;
    let mut checked = opening(&[shared().url()], &scope, &["a", "b"]);
    checked.settings.topology = Topology::Verify;
    let destination = open(checked);
    down(&*destination, Reason::Topology).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    let missing = publish(&*destination, message(&format!("{scope}.b"), event("msg_1"))).await;
    assert_eq!(shown(&missing), "again unroutable");
    assert_eq!(destination.ensure().await.expect_err("missing").reason, Reason::Topology);
    let both = open(opening(&[shared().url()], &scope, &["a", "b"]));
    up(&*both).await;
    up(&*destination).await;
}

/// A queue that goes away while we are connected is made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_comes_back() {
    let scope = scope();
    let opening = opening(&[shared().url()], &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let admin = Admin::of(shared()).await;
    admin.channel.queue_delete(topic.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let told = publish(&*destination, message(&topic, event("msg_1"))).await;
    assert_eq!(shown(&told), "again unroutable");
    confirmed(&*destination, &message(&topic, event("msg_1"))).await;
    assert_eq!(connects(&metrics), 1);
}

/// The exchange goes away under load: each publish has an outcome that is true, and all get through in the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_is_deleted_under_load() {
    let scope = scope();
    let opening = opening(&[shared().url()], &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let admin = Admin::of(shared()).await;
    let (mut sure, mut perhaps) =
        (std::collections::BTreeMap::<String, usize>::new(), std::collections::BTreeMap::new());
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..5 {
        let ids: Vec<_> = (0..400).map(|number| format!("msg_{round}_{number}")).collect();
        let publishing = publish_all(&*destination, ids.iter().map(|id| message(&topic, event(id))));
        let deleting = admin.channel.exchange_delete(scope.as_str().into(), ExchangeDeleteOptions::default());
        let (mut outcomes, deleted) = tokio::join!(publishing, deleting);
        deleted.expect("deleted");
        for (kind, count) in counts(&outcomes) {
            *kinds.entry(kind).or_default() += count;
        }
        for (id, outcome) in ids.iter().zip(&mut outcomes) {
            until("confirmed", 2 * SOON, async || match shown(outcome).split_once(' ').map(|kind| kind.0) {
                None => Some(()),
                Some(kind) => {
                    assert_ne!(kind, "never");
                    if kind == "unknown" {
                        *perhaps.entry(id.clone()).or_default() += 1;
                    }
                    *outcome = publish(&*destination, message(&topic, event(id))).await;
                    None
                }
            })
            .await;
            *sure.entry(id.clone()).or_default() += 1;
        }
    }
    assert!(connects(&metrics) > 1, "the exchange was away: {kinds:?}");
    let stored = admin.ids(&topic).await;
    for (id, sure) in &sure {
        let most = sure + perhaps.get(id).copied().unwrap_or(0);
        assert!((*sure..=most).contains(&stored[id]), "{id}: stored {} times", stored[id]);
    }
}

/// Larger than the broker takes: never, for that one only; from then on it is not even sent.
#[tokio::test(flavor = "multi_thread")]
async fn over_the_brokers_limit() {
    const LIMIT: usize = 100_000;
    let conf = format!("max_message_size = {LIMIT}\n");
    let broker = Broker::start_with(Kind::Rabbitmq, With { conf: &conf, ..With::default() });
    let scope = scope();
    let opening = opening(&[broker.url()], &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let of = |id: &str, bytes: usize| message(&topic, crate::support::event::event_of(id, bytes));
    assert_eq!(shown(&publish(&*destination, of("msg_fits", LIMIT)).await), "confirmed");
    let mut messages: Vec<_> = (0..40).map(|number| of(&format!("msg_{number}"), 100)).collect();
    messages[20] = of("msg_large", LIMIT + 1);
    for message in &mut messages {
        message.key = Some("one".into());
    }
    let outcomes = publish_all(&*destination, messages.clone()).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let told = shown(outcome);
        let expected: &[&str] = match number {
            20 => &["never too_large"],
            _ => &["confirmed", "unknown connection_lost", "again unreachable", "again topology"],
        };
        assert!(expected.contains(&told.as_str()), "{number}: {told}");
    }
    for message in messages.iter().filter(|message| message.event.data.len() <= LIMIT) {
        confirmed(&*destination, message).await;
    }
    let connected = connects(&metrics);
    assert_eq!(shown(&publish(&*destination, of("msg_larger", LIMIT + 2)).await), "never too_large");
    assert_eq!(destination.health(), Health::Up);
    assert_eq!(connects(&metrics), connected, "it was not sent");
    let stored = Admin::of(&broker).await.ids(&topic).await;
    assert!(!stored.contains_key("msg_large") && !stored.contains_key("msg_larger"));
    // A broker that takes more after a restart is asked again.
    broker.restart();
    until("another connection", SOON, async || (connects(&metrics) > connected).then_some(())).await;
    up(&*destination).await;
    assert_eq!(shown(&publish(&*destination, of("msg_larger", LIMIT + 2)).await), "never too_large");
    assert!(tokio::time::timeout(Duration::from_secs(5), destination.close(Duration::from_secs(3))).await.is_ok());
}
