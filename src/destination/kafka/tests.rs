//! The destination when its supervisor fails.

use rdkafka::mocking::MockCluster;
use tokio::sync::oneshot;

use super::*;
use crate::destination::settings::{BrokerUrl, DestinationSettings, Topology};
use crate::event::fixture::event;

fn message() -> Message {
    Message::new(Arc::new(event()), "a")
}

async fn wait_for(kafka: &Kafka, health: impl Fn(&Health) -> bool) {
    let mut state = kafka.supervisor.cluster.status().subscribe();
    let changed = state.wait_for(|state| health(&state.health));
    tokio::time::timeout(Duration::from_secs(20), changed).await.expect("in time").expect("not closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn supervisor_that_panics_takes_the_destination_down_and_loses_no_outcome() {
    let mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("a", 1, 1).expect("a topic");
    let url = BrokerUrl::Kafka(vec![mock.bootstrap_servers()]);
    let kafka = Kafka::new(&Opening {
        settings: DestinationSettings { topology: Topology::Verify, ..DestinationSettings::new("kafka", url) },
        topics: vec!["a".into()],
        publish_timeout: Duration::from_secs(20),
        body_limit: 1 << 20,
        metrics: Arc::default(),
    })
    .expect("settings that can be opened");
    let (panic, panicking) = oneshot::channel::<()>();
    let supervisor = Arc::clone(&kafka.supervisor).run();
    kafka.keep(async move {
        tokio::select! {
            () = supervisor => {}
            _ = panicking => panic!("on purpose"),
        }
    });
    wait_for(&kafka, |health| *health == Health::Up).await;
    mock.broker_round_trip_time(1, Duration::from_millis(500)).expect("a slow broker");
    let in_flight = kafka.publish(message());
    drop(panic);

    wait_for(&kafka, |health| matches!(health, Health::Down(_))).await;
    let failure = Failure::new(Reason::Failed, "the background task `kafka-supervisor` panicked");
    assert_eq!(kafka.health(), Health::Down(failure.clone()));
    let (metrics, label) = kafka.supervisor.cluster.status().metrics();
    assert_eq!(metrics.up.get_or_create(label).get(), 0);
    assert_eq!(kafka.publish(message()).await, Outcome::Again(failure.clone()));
    assert_eq!(in_flight.await, Outcome::Confirmed);
    kafka.close(Duration::from_secs(5)).await;
    assert_eq!(kafka.health(), Health::Down(failure), "the first cause is kept");
}
