//! One topic's trouble is its own: the others are confirmed, and the destination stays connected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hookbridge::destination::{Destination, Handle, Health};
use hookbridge::message::{Message, Outcome};
use hookbridge::reason::Reason;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::url;
use crate::rig::{
    Admin, confirmed, connects, counts, down, open, opening, publish, publish_all, shared, shown, text, up,
};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message, scope};
use crate::support::wait::{SOON, until};

/// Publishes to one topic without a pause until it is stopped.
struct Stream {
    over: CancellationToken,
    publishers: Vec<JoinHandle<Vec<Outcome>>>,
}

impl Stream {
    fn start(destination: &Arc<dyn Destination>, topic: &str) -> Stream {
        let over = CancellationToken::new();
        let publisher = |publisher: usize| {
            let (destination, over, topic) = (Arc::clone(destination), over.clone(), topic.to_owned());
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                while !over.is_cancelled() {
                    let id = format!("good_{publisher}_{}", outcomes.len());
                    outcomes.push(publish(&*destination, message(&topic, event(&id))).await);
                }
                outcomes
            })
        };
        Stream { publishers: (0..4).map(publisher).collect(), over }
    }

    /// Stops it. Every publish must be confirmed, and stored once.
    async fn all_confirmed(self, admin: &Admin, topic: &str) {
        self.over.cancel();
        let outcomes: Vec<_> =
            join_all(self.publishers).await.into_iter().flat_map(|ended| ended.expect("it ends")).collect();
        let total = outcomes.len();
        assert_eq!(counts(&outcomes), [("confirmed".to_owned(), total)].into());
        let stored = admin.ids(topic).await;
        assert_eq!((stored.len(), stored.values().sum::<usize>()), (total, total), "none is lost or doubled");
    }
}

/// Waits until the destination's warnings name exactly these topics as refused.
async fn refused(destination: &dyn Destination, topics: &[&str]) {
    until("the refused topics are shown", SOON, async || {
        let warnings = destination.warnings();
        let lines: Vec<_> = warnings.iter().filter(|line| line.contains("is refused: ")).collect();
        let named =
            |topic: &&str| lines.iter().any(|line| line.starts_with(&format!("topic \"{topic}\" is refused: ")));
        (lines.len() == topics.len() && topics.iter().all(named)).then_some(())
    })
    .await;
}

/// Suspends the process of a queue, or lets it continue. A suspended queue takes messages and confirms none.
fn suspend(broker: &Broker, queue: &str, suspended: bool) {
    let call = if suspended { "suspend" } else { "resume" };
    let lookup = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>))");
    broker.tool(&["eval", &format!("{{ok, Q}} = {lookup}, sys:{call}(amqqueue:get_pid(Q)).")]);
}

/// A user that may not write to one topic. Its events are refused, at once after the first, until the permission is
/// granted. No other event is refused, lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_topic_is_refused_alone() {
    let scope = scope();
    let user = format!("{scope}-user");
    up(&*open(opening(&[shared().url()], &scope, &["good", "denied"]))).await;
    shared().tool(&["add_user", &user, "secret"]);
    shared().tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    shared().tool(&["set_topic_permissions", &user, &scope, "good$", ".*"]);
    let opening = opening(&[&url(shared(), &user, "secret", "%2f")], &scope, &["good", "denied"]);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    down(&*destination, Reason::NotAuthorized).await;
    let (good, denied) = (format!("{scope}.good"), format!("{scope}.denied"));
    let stream = Stream::start(&destination, &good);
    // The first is sent alone, so the others are surely not sent.
    let burst = publish_all(&*destination, (0..50).map(|id| message(&denied, event(&format!("burst_{id}"))))).await;
    assert_eq!(counts(&burst), [("again not_authorized".to_owned(), 50)].into());
    for number in 0..50 {
        let outcome = publish(&*destination, message(&denied, event(&format!("msg_{number}")))).await;
        assert_eq!(shown(&outcome), "again not_authorized");
    }
    refused(&*destination, &[&denied]).await;
    down(&*destination, Reason::NotAuthorized).await;
    shared().tool(&["set_topic_permissions", &user, &scope, ".*", ".*"]);
    up(&*destination).await;
    confirmed(&*destination, &message(&denied, event("msg_granted"))).await;
    refused(&*destination, &[]).await;
    let all = publish_all(&*destination, (0..50).map(|id| message(&denied, event(&format!("after_{id}"))))).await;
    assert_eq!(counts(&all), [("confirmed".to_owned(), 50)].into());
    let admin = Admin::of(shared()).await;
    stream.all_confirmed(&admin, &good).await;
    assert_eq!(admin.depth(&denied).await, 51, "only what was confirmed is stored");
    assert_eq!(connects(&metrics), 1);
}

/// A queue that does not confirm. Its topic is refused after the first timeout, the others are confirmed all the time, and
/// it recovers by itself when the queue does, without another publish.
async fn stuck_queue_refuses_its_topic_alone(kind: &str) {
    let scope = scope();
    let (good, bad) = (format!("{scope}.good"), format!("{scope}.bad"));
    let admin = Admin::of(shared()).await;
    admin.queue(&bad, &[("x-queue-type", text(kind))]).await;
    let mut opening = opening(&[shared().url()], &scope, &["good", "bad"]);
    opening.publish_timeout = Duration::from_secs(3);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    up(&*destination).await;
    confirmed(&*destination, &message(&bad, event("before"))).await;
    let stream = Stream::start(&destination, &good);
    suspend(shared(), &bad, true);
    let sent = publish_all(&*destination, (0..3000).map(|id| message(&bad, event(&format!("msg_{id}"))))).await;
    let outcomes = counts(&sent);
    assert!(outcomes.keys().all(|kind| ["unknown timeout", "again timeout"].contains(&kind.as_str())), "{outcomes:?}");
    // More would make the broker stop reading the whole connection.
    assert!((1..=200).contains(&outcomes["unknown timeout"]), "{outcomes:?}");
    refused(&*destination, &[&bad]).await;
    for number in 0..50 {
        let outcome = publish(&*destination, message(&bad, event(&format!("again_{number}")))).await;
        assert_eq!(shown(&outcome), "again timeout");
    }
    assert_eq!(destination.health(), Health::Up);
    suspend(shared(), &bad, false);
    refused(&*destination, &[]).await;
    assert_eq!(publish(&*destination, message(&bad, event("after"))).await, Outcome::Confirmed);
    stream.all_confirmed(&admin, &good).await;
    assert_eq!(connects(&metrics), 1);
    let stored = admin.ids(&bad).await;
    assert_eq!(stored.len(), 2 + outcomes["unknown timeout"]);
    assert!(stored.values().all(|copies| *copies == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_queue_that_does_not_confirm_refuses_its_topic_alone() {
    stuck_queue_refuses_its_topic_alone("classic").await;
}

/// As a quorum queue without a majority.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_that_does_not_confirm_refuses_its_topic_alone() {
    stuck_queue_refuses_its_topic_alone("quorum").await;
}

/// What a queue that does not confirm may hold of the destination's places is bounded: long before its publishes time out,
/// other topics find a place.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_confirm_leaves_places_for_others() {
    let scope = scope();
    let (good, bad) = (format!("{scope}.good"), format!("{scope}.bad"));
    let admin = Admin::of(shared()).await;
    admin.queue(&bad, &[]).await;
    let mut opening = opening(&[shared().url()], &scope, &["good", "bad"]);
    opening.settings.in_flight = 1000;
    let (settings, publish_timeout, metrics) =
        (opening.settings.clone(), opening.publish_timeout, Arc::clone(&opening.metrics));
    let destination = open(opening);
    up(&*destination).await;
    let handle = Handle::new(destination, &settings, publish_timeout, metrics);
    suspend(shared(), &bad, true);
    let bad_one = |id: usize| handle.publish(message(&bad, event(&format!("msg_{id}"))));
    let mut waiting = join_all((0..settings.in_flight).map(|id| tokio::spawn(bad_one(id))));
    let good_one = async || handle.publish(message(&good, event("msg_good"))).await;
    until("a place for the other topic", SOON / 2, async || (good_one().await == Outcome::Confirmed).then_some(()))
        .await;
    assert_eq!(shown(&bad_one(settings.in_flight).await), "again busy");
    assert_eq!(good_one().await, Outcome::Confirmed);
    suspend(shared(), &bad, false);
    let ended = tokio::time::timeout(SOON, &mut waiting).await.expect("outcomes");
    let outcomes = counts(&ended.into_iter().map(|outcome| outcome.expect("no panic")).collect::<Vec<_>>());
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["again busy", "confirmed"], "{outcomes:?}");
    assert_eq!(outcomes["again busy"], 500);
}

/// lapin gives the number of a closed channel to a later channel, which then fails with the error of the first.
#[tokio::test(flavor = "multi_thread")]
async fn denied_topics_use_up_no_channels_of_others() {
    let broker = Broker::start_with(Kind::Rabbitmq, With { conf: "channel_max = 14\n", ..With::default() });
    let scope = scope();
    let names: Vec<_> = (0..6).map(|number| format!("denied{number}")).collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).chain(["good1", "good2"]).collect();
    up(&*open(opening(&[broker.url()], &scope, &topics))).await;
    broker.tool(&["add_user", "limited", "secret"]);
    broker.tool(&["set_permissions", "limited", ".*", ".*", ".*"]);
    broker.tool(&["set_topic_permissions", "limited", &scope, "good.$", ".*"]);
    let opening = opening(&[&url(&broker, "limited", "secret", "%2f")], &scope, &topics);
    let metrics = Arc::clone(&opening.metrics);
    let destination = open(opening);
    down(&*destination, Reason::NotAuthorized).await;
    // Each check opens a channel for each denied topic.
    for _ in 0..10 {
        assert_eq!(destination.probe().await.expect_err("topics are denied").reason, Reason::NotAuthorized);
    }
    for name in &names {
        let outcome = publish(&*destination, message(&format!("{scope}.{name}"), event("msg_1"))).await;
        assert_eq!(shown(&outcome), "again not_authorized");
    }
    for good in ["good1", "good2"] {
        let outcome = publish(&*destination, message(&format!("{scope}.{good}"), event("msg_1"))).await;
        assert_eq!(outcome, Outcome::Confirmed);
    }
    broker.tool(&["set_topic_permissions", "limited", &scope, ".*", ".*"]);
    for name in &names {
        confirmed(&*destination, &message(&format!("{scope}.{name}"), event("msg_2"))).await;
    }
    refused(&*destination, &[]).await;
    assert_eq!(connects(&metrics), 1);
}

/// While a queue does not answer, a new connection still gets the other topics up, and names the queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_answer_stops_no_other_topic_at_the_start() {
    let scope = scope();
    let (good, bad) = (format!("{scope}.good"), format!("{scope}.bad"));
    let admin = Admin::of(shared()).await;
    admin.queue(&bad, &[]).await;
    suspend(shared(), &bad, true);
    let destination = open(opening(&[shared().url()], &scope, &["bad", "good"]));
    confirmed(&*destination, &message(&good, event("msg_1"))).await;
    down(&*destination, Reason::Timeout).await;
    let Health::Down(failure) = destination.health() else { panic!("it came up") };
    assert!(failure.detail.contains(&format!("queue {bad}")), "{failure}");
    let refused = destination.probe().await.expect_err("the queue does not answer");
    assert!(refused.detail.contains(&format!("queue {bad}")), "{refused}");
    suspend(shared(), &bad, false);
    up(&*destination).await;
    confirmed(&*destination, &message(&bad, event("msg_1"))).await;
}

/// Topics that the routes do not name share channels; what they publish is exact and in order all the same.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_vary_share_channels() {
    let scope = scope();
    let destination = open(opening(&[shared().url()], &scope, &["*"]));
    up(&*destination).await;
    let of = |number: usize| -> Message {
        message(&format!("{scope}.t{}", number % 50), event(&format!("msg_{number:04}")))
    };
    let outcomes = publish_all(&*destination, (0..2000).map(of)).await;
    assert_eq!(counts(&outcomes), [("confirmed".to_owned(), 2000)].into());
    let admin = Admin::of(shared()).await;
    let mut last = std::collections::BTreeMap::<String, String>::new();
    while let Some(got) = admin.get(&format!("{scope}.*")).await {
        let id = got.properties.message_id().as_ref().expect("an id").to_string();
        let before = last.insert(got.routing_key.to_string(), id.clone());
        assert!(before.as_ref().is_none_or(|before| *before < id), "{before:?} before {id}");
    }
    assert_eq!(last.len(), 50);
}
