//! Whether a client reaches the cluster: a broker answers, and so do the leaders of the topics, at the addresses that the
//! cluster advertises. All of it blocks.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;

use super::cluster::Cluster;
use super::{outcome, trouble};
use crate::reason::{Failure, Reason};

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);

/// A broker that leads partitions, and one of these.
pub(super) struct Leader {
    topic: String,
    partition: i32,
    /// The host and port that the cluster advertises for it.
    address: String,
}

/// The name of the broker that answers. Fails if there is none, or if none of the leaders of these topics answers.
pub(super) fn reach<C: ClientContext>(
    client: &Client<C>,
    cluster: &Cluster,
    topics: &[String],
    at_most: Duration,
) -> Result<String, Failure> {
    let metadata = metadata(client, cluster, at_most)?;
    let leaders = Leader::of(&metadata, topics);
    let mut failures = unreached(client, cluster, &leaders, at_most);
    if !leaders.is_empty() && failures.len() == leaders.len() {
        return Err(failures.swap_remove(0));
    }
    Ok(metadata.orig_broker_name().to_owned())
}

/// The brokers and topics of the cluster. The request is about all topics, since this creates none.
pub(super) fn metadata<C: ClientContext>(
    client: &Client<C>,
    cluster: &Cluster,
    at_most: Duration,
) -> Result<Metadata, Failure> {
    let end = Instant::now() + at_most;
    let metadata = loop {
        match client.fetch_metadata(None, end.saturating_duration_since(Instant::now())) {
            Ok(metadata) => break metadata,
            // librdkafka replaces the connection to a bootstrap address by one to an advertised address, and fails the
            // request if that is out of reach.
            Err(error) if outcome::is_unanswered(&error) && Instant::now() + PAUSE < end => thread::sleep(PAUSE),
            Err(error) => return Err(failure(&error, cluster)),
        }
    };
    // A single broker that was frozen answers before it is registered again.
    if metadata.brokers().is_empty() {
        return Err(Failure::new(Reason::Unreachable, "Kafka: the cluster reports no broker"));
    }
    Ok(metadata)
}

/// The failure of a request. Without an answer, librdkafka only reports a time-out; the producer's callbacks know the cause.
pub(super) fn failure(error: &KafkaError, cluster: &Cluster) -> Failure {
    let trouble = outcome::is_unanswered(error).then(|| cluster.trouble()).flatten();
    let Some(Failure { reason, detail }) = trouble else { return outcome::of_request(error) };
    if trouble::is_advertised(&detail) {
        return Failure::new(reason, format!("{detail} (this address is from the cluster's `advertised.listeners`)"));
    }
    Failure { reason, detail }
}

/// Asks all these leaders at the same time. Returns a failure for each that does not answer.
pub(super) fn unreached<C: ClientContext>(
    client: &Client<C>,
    cluster: &Cluster,
    leaders: &[Leader],
    at_most: Duration,
) -> Vec<Failure> {
    let answers = |leader: &Leader| match client.fetch_watermarks(&leader.topic, leader.partition, at_most) {
        Ok(_) => true,
        // The leader has answered, for example that this user may not ask.
        Err(error) => !outcome::is_unanswered(&error),
    };
    let silent: Vec<_> = thread::scope(|scope| {
        let spawn = |leader| {
            let ask = move || (!answers(leader)).then_some(leader);
            thread::Builder::new().name("kafka-blocking".into()).spawn_scoped(scope, ask)
        };
        let threads: Vec<_> = leaders.iter().map(spawn).collect();
        threads.into_iter().filter_map(|thread| thread.ok()?.join().ok()?).collect()
    });
    let trouble = cluster.trouble();
    silent.into_iter().map(|leader| leader.failure(trouble.as_ref())).collect()
}

impl Leader {
    /// The leaders of these topics.
    pub(super) fn of(metadata: &Metadata, topics: &[String]) -> Vec<Leader> {
        let address = |broker| {
            let broker = metadata.brokers().iter().find(|other| other.id() == broker)?;
            Some(format!("{}:{}", broker.host(), broker.port()))
        };
        let mut leaders = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name())) {
            for partition in topic.partitions() {
                let (broker, topic, partition) = (partition.leader(), topic.name(), partition.id());
                leaders.entry(broker).or_insert((topic, partition));
            }
        }
        let leader = |(broker, (topic, partition)): (i32, (&str, i32))| {
            // None while a leader is being elected.
            Some(Leader { topic: topic.to_owned(), partition, address: address(broker)? })
        };
        leaders.into_iter().filter_map(leader).collect()
    }

    /// Why the leader cannot be published to. `trouble`: the last failure of a connection, which may be another broker's.
    fn failure(&self, trouble: Option<&Failure>) -> Failure {
        let Leader { topic, address, .. } = self;
        let trouble = trouble.filter(|trouble| trouble.detail.contains(address.as_str()));
        let cause = trouble.map_or(String::new(), |trouble| format!(". {}", trouble.detail));
        let text = format!(
            "Kafka: the leader of topic {topic} does not answer at {address}, the address that the cluster advertises for \
             it: check `advertised.listeners`{cause}"
        );
        Failure::new(trouble.map_or(Reason::Unreachable, |trouble| trouble.reason), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_address_and_what_is_known_of_its_connection() {
        let leader = Leader { topic: "a".into(), partition: 0, address: "broker:9092".into() };
        let other = Failure::new(Reason::NotAuthorized, "other:9092/2: no");
        for trouble in [None, Some(&other)] {
            let failure = leader.failure(trouble);
            assert_eq!(failure.reason, Reason::Unreachable);
            assert!(failure.detail.contains(" broker:9092,") && !failure.detail.contains("other"), "{failure}");
        }
        let trouble = Failure::new(Reason::NotAuthorized, "broker:9092/1: wrong password");
        let failure = leader.failure(Some(&trouble));
        assert_eq!(failure.reason, Reason::NotAuthorized);
        assert!(failure.detail.ends_with("`advertised.listeners`. broker:9092/1: wrong password"), "{failure}");
    }
}
