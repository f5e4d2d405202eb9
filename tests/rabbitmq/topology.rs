//! Topology that is created, and topology that exists already.

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

/// `rabbitmqctl list_queues` for the queues of this scope: name, durability, type, arguments.
fn queues(scope: &str) -> String {
    let all = shared().tool(&["--quiet", "list_queues", "--no-table-headers", "name", "durable", "type", "arguments"]);
    let mut lines: Vec<_> = all.lines().filter(|line| line.starts_with(scope)).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// `rabbitmqctl list_exchanges`: the names of all exchanges.
fn exchanges() -> String {
    shared().tool(&["--quiet", "list_exchanges", "name"])
}

/// Queues are durable quorum queues that refuse when they are full, and rejected messages become dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn durable_quorum_queues_and_dead_letters_are_created() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["a", "b"]));
    up(&*destination).await;
    let created = queues(&scope);
    assert_eq!(created.lines().count(), 3, "{created}");
    for line in created.lines() {
        assert!(line.contains("true\tquorum\t"), "{line}");
        let dead = line.starts_with(&format!("{scope}.dead\t"));
        for argument in ["\"x-max-length-bytes\",1073741824", "\"reject-publish\"", &format!("\"{scope}.dead\"")] {
            assert_eq!(line.contains(argument), !dead, "{argument} in {line}");
        }
    }
    // A message that a consumer rejects is kept.
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

/// A part of a topic that varies matches exactly one word.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_varies_matches_one_word() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["*"]));
    up(&*destination).await;
    let messages = ["x", "y", "x.y"].map(|part| message(&format!("{scope}.{part}"), event(part)));
    let outcomes: Vec<_> = publish_all(&*destination, messages).await.iter().map(shown).collect();
    assert_eq!(outcomes, ["confirmed", "confirmed", "again unroutable"]);
    assert_eq!(Admin::of(shared()).await.depth(&format!("{scope}.*")).await, 2);
}

/// A classic queue, a stream, and a quorum queue with other limits are published to and not changed.
#[tokio::test(flavor = "multi_thread")]
async fn existing_queues_are_used_unchanged() {
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
    // A probe warns of the differences.
    let found = destination.probe().await.expect("the destination is up").join("\n");
    assert!(found.contains("RabbitMQ "), "{found}");
    assert!(found.contains("quorum queues need three"), "{found}");
    for queue in ["classic", "stream", "limits"] {
        let warning = |line: &str| {
            line.starts_with(&format!("warning: queue {}", name(queue))) && line.contains("it is used unchanged")
        };
        assert!(found.lines().any(warning), "{queue}: {found}");
    }
}

/// Such queues confirm events and throw some of them away. The broker names only the first difference.
#[tokio::test(flavor = "multi_thread")]
async fn queues_that_throw_events_away_are_reported() {
    let scope = scope();
    let admin = Admin::of(shared()).await;
    let name = |queue: &str| format!("{scope}.{queue}");
    let quorum = ("x-queue-type", text("quorum"));
    let dead = ("x-dead-letter-exchange", text(&name("dead")));
    let bytes = ("x-max-length-bytes", AMQPValue::LongLongInt(1 << 30));
    let number = ("x-max-length", AMQPValue::LongInt(5));
    let drop_head = ("x-overflow", text("drop-head"));
    let reject = ("x-overflow", text("reject-publish"));
    let ttl = ("x-message-ttl", AMQPValue::LongInt(1000));
    admin.queue(&name("overflow"), &[quorum.clone(), dead.clone(), bytes.clone(), drop_head.clone()]).await;
    admin.queue(&name("length"), &[quorum.clone(), dead.clone(), bytes.clone(), number.clone(), reject.clone()]).await;
    admin.queue(&name("ttl"), &[quorum.clone(), dead.clone(), bytes.clone(), reject.clone(), ttl]).await;
    admin
        .queue(&name("bytes"), &[quorum.clone(), dead, reject, ("x-max-length-bytes", AMQPValue::LongInt(9999))])
        .await;
    admin.queue(&name("classic"), &[number.clone(), drop_head.clone()]).await;
    admin.queue(&name("several"), &[quorum, number, drop_head]).await;
    let expected = [
        ("overflow", "a full queue throws away its oldest events"),
        ("length", "beyond that, it throws away its oldest events"),
        ("ttl", "events that are older are thrown away"),
        ("bytes", "beyond that, it throws away its oldest events"),
        ("classic", "throws away"),
        ("several", "throws away"),
    ];
    let destination = open(opening(&[shared().url()], &scope, &expected.map(|(queue, _)| queue)));
    up(&*destination).await;
    let found = destination.probe().await.expect("the destination is up").join("\n");
    for (queue, loss) in expected {
        let start = format!("warning: queue {}: ", name(queue));
        assert!(found.lines().any(|line| line.starts_with(&start) && line.contains(loss)), "{queue}: {found}");
    }
}

/// An existing exchange of another type is used unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_of_another_type_is_used_unchanged() {
    let scope = scope();
    let admin = Admin::of(shared()).await;
    let options = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = lapin::ExchangeKind::Direct;
    admin.channel.exchange_declare(scope.as_str().into(), kind, options, Default::default()).await.expect("declared");
    let destination = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*destination).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
}

/// `topology: verify` with one queue missing: the other is published to, and the missing one is detected once it exists.
#[tokio::test(flavor = "multi_thread")]
async fn verify_reports_a_missing_queue_until_it_exists() {
    let scope = scope();
    let creator = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*creator).await;
    let mut checked = opening(&[shared().url()], &scope, &["a", "b"]);
    checked.settings.topology = Topology::Verify;
    let destination = open(checked);
    down(&*destination, Reason::Topology).await;
    confirmed(&*destination, &message(&format!("{scope}.a"), event("msg_1"))).await;
    let missing = publish(&*destination, message(&format!("{scope}.b"), event("msg_1"))).await;
    assert_eq!(shown(&missing), "again unroutable");
    assert_eq!(destination.ensure().await.expect_err("missing").reason, Reason::Topology);
    assert_eq!(destination.probe().await.expect_err("missing").reason, Reason::Topology);
    let both = open(opening(&[shared().url()], &scope, &["a", "b"]));
    up(&*both).await;
    up(&*destination).await;
}

/// `topology: verify` without the exchange: the broker was reached, so the destination is down and not starting.
#[tokio::test(flavor = "multi_thread")]
async fn verify_without_the_exchange_is_down_and_creates_nothing() {
    let scope = scope();
    let mut checked = opening(&[shared().url()], &scope, &["a"]);
    checked.settings.topology = Topology::Verify;
    let destination = open(checked);
    down(&*destination, Reason::Topology).await;
    assert_eq!(destination.ensure().await.expect_err("no exchange").reason, Reason::Topology);
    assert_eq!(destination.probe().await.expect_err("no exchange").reason, Reason::Topology);
    let outcome = publish(&*destination, message(&format!("{scope}.a"), event("msg_1"))).await;
    assert_eq!(shown(&outcome), "again topology");
    assert!(!exchanges().contains(&scope) && queues(&scope).is_empty(), "nothing is created");
}

/// A queue that is deleted while the destination is connected is created again.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_created_again() {
    let scope = scope();
    let opening = opening(&[shared().url()], &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let admin = Admin::of(shared()).await;
    admin.channel.queue_delete(topic.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let outcome = publish(&*destination, message(&topic, event("msg_1"))).await;
    assert_eq!(shown(&outcome), "again unroutable");
    confirmed(&*destination, &message(&topic, event("msg_1"))).await;
    assert_eq!(connects(&metrics), 1);
}

/// A probe only checks: it reports what is missing and creates nothing. `ensure` creates it.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_creates_nothing() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["a"]));
    up(&*destination).await;
    let (topic, dead) = (format!("{scope}.a"), format!("{scope}.dead"));
    let admin = Admin::of(shared()).await;
    // The supervisor checks only once a minute while every message has a queue.
    for queue in [&topic, &dead] {
        admin.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    }
    for exchange in [&scope, &dead] {
        let options = ExchangeDeleteOptions::default();
        admin.channel.exchange_delete(exchange.as_str().into(), options).await.expect("deleted");
    }
    for _ in 0..2 {
        let found = destination.probe().await.expect("what is missing can be created");
        for missing in
            [format!("exchange {scope}"), format!("exchange {dead}"), format!("queue {topic}"), format!("queue {dead}")]
        {
            assert!(found.contains(&format!("{missing} does not exist yet")), "{missing}: {found:?}");
        }
        assert_eq!(queues(&scope), "", "the probe creates no queue");
        assert!(!exchanges().contains(&scope), "the probe creates no exchange");
    }
    assert_eq!(destination.ensure().await, Ok(()));
    assert_eq!(queues(&scope).lines().count(), 2);
    let found = destination.probe().await.expect("all of it exists").join("\n");
    assert!(found.contains(&format!("queue {topic}: 0 messages")), "{found}");
    assert!(!found.contains("does not exist yet"), "{found}");
    confirmed(&*destination, &message(&topic, event("msg_1"))).await;
}

/// The exchange is deleted under load: each outcome is true, and every event is confirmed in the end.
#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_exchange_under_load_loses_nothing() {
    let scope = scope();
    let opening = opening(&[shared().url()], &scope, &["a"]);
    let metrics = opening.metrics.clone();
    let destination = open(opening);
    up(&*destination).await;
    let topic = format!("{scope}.a");
    let admin = Admin::of(shared()).await;
    let (mut confirmed, mut unknown) =
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
                        *unknown.entry(id.clone()).or_default() += 1;
                    }
                    *outcome = publish(&*destination, message(&topic, event(id))).await;
                    None
                }
            })
            .await;
            *confirmed.entry(id.clone()).or_default() += 1;
        }
    }
    assert!(connects(&metrics) > 1, "the missing exchange ended a connection: {kinds:?}");
    let stored = admin.ids(&topic).await;
    for (id, confirmed) in &confirmed {
        let most = confirmed + unknown.get(id).copied().unwrap_or(0);
        assert!((*confirmed..=most).contains(&stored[id]), "{id}: stored {} times", stored[id]);
    }
}

/// A message over the broker's limit is never published, and only that message. Later ones over the limit are not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_brokers_limit_is_refused_alone() {
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
        let outcome = shown(outcome);
        let expected: &[&str] = match number {
            20 => &["never too_large"],
            _ => &["confirmed", "unknown connection_lost", "again unreachable", "again topology"],
        };
        assert!(expected.contains(&outcome.as_str()), "{number}: {outcome}");
    }
    for message in messages.iter().filter(|message| message.event.data.len() <= LIMIT) {
        confirmed(&*destination, message).await;
    }
    let connected = connects(&metrics);
    assert_eq!(shown(&publish(&*destination, of("msg_larger", LIMIT + 2)).await), "never too_large");
    assert_eq!(destination.health(), Health::Up);
    assert_eq!(connects(&metrics), connected, "the message was not sent");
    let stored = Admin::of(&broker).await.ids(&topic).await;
    assert!(!stored.contains_key("msg_large") && !stored.contains_key("msg_larger"));
    // After a restart the limit may be another: it is not remembered.
    broker.restart();
    until("another connection", SOON, async || (connects(&metrics) > connected).then_some(())).await;
    up(&*destination).await;
    assert_eq!(shown(&publish(&*destination, of("msg_larger", LIMIT + 2)).await), "never too_large");
    assert!(tokio::time::timeout(Duration::from_secs(5), destination.close(Duration::from_secs(3))).await.is_ok());
}
