//! Requests about topics: describes those that exist, creates those that are missing, changes none. All of it blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{CheckedTopics, ExistingTopic, ExistingTopics, Wanted};
use crate::destination::kafka::cluster::Cluster;
use crate::destination::kafka::reach::{self, Leader};
use crate::destination::kafka::{connection, context, outcome};
use crate::reason::{Failure, Reason};

/// How long a request may take. Less than `check --connect` waits, so that it can print the failure.
const REQUEST: Duration = Duration::from_secs(5);
/// How long to wait for the leaders of new partitions.
const LEADERS: Duration = Duration::from_secs(10);
/// Pause between two requests to a leader.
const PAUSE: Duration = Duration::from_millis(20);

struct AdminContext(Arc<str>);

impl ClientContext for AdminContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(&self.0, level, facility, line);
    }
    fn error(&self, _: KafkaError, _: &str) {}
}

/// An admin client. It lives for one check, since it would otherwise keep idle connections.
pub(in super::super) struct TopicAdmin {
    client: AdminClient<AdminContext>,
    cluster: Arc<Cluster>,
    runtime: tokio::runtime::Handle,
}

impl TopicAdmin {
    pub(in super::super) fn new(
        config: &ClientConfig,
        cluster: &Arc<Cluster>,
        runtime: tokio::runtime::Handle,
    ) -> Result<TopicAdmin, Failure> {
        let context = AdminContext(Arc::clone(cluster.status().name()));
        let client =
            AdminClient::from_config_and_context(config, context).map_err(|error| connection::not_created(&error))?;
        Ok(TopicAdmin { client, cluster: Arc::clone(cluster), runtime })
    }

    /// Whether this client reaches the cluster.
    pub(in super::super) fn reaches(&self, wanted: &Wanted, at_most: Duration) -> bool {
        reach::reach(self.client.inner(), &self.cluster, &wanted.topics, at_most).is_ok()
    }

    /// Checks the topics, and changes nothing.
    pub(in super::super) fn check(&self, wanted: &Wanted) -> Result<CheckedTopics, Failure> {
        Ok(wanted.compare(&self.existing(wanted)?))
    }

    /// Checks the topics, and creates those that are missing if the settings say so. Creation may take long, so `before`
    /// receives the result of the check first.
    pub(in super::super) fn ensure(
        &self,
        wanted: &Wanted,
        before: impl FnOnce(CheckedTopics),
    ) -> Result<CheckedTopics, Failure> {
        let existing = self.existing(wanted)?;
        let missing = wanted.creatable(&existing);
        let checked = wanted.compare(&existing);
        if missing.is_empty() {
            return Ok(checked);
        }
        before(checked);
        let (created, mut refused) = self.create(wanted, &missing);
        let mut existing = match self.existing(wanted) {
            Ok(existing) => existing,
            Err(failure) => return Err(refused.into_iter().next().unwrap_or(failure)),
        };
        // The broker that answered may not know the new topics yet.
        for name in created {
            let new = || ExistingTopic { limit: Some(wanted.largest), ..ExistingTopic::default() };
            existing.wanted.entry(name).or_insert_with(new);
        }
        let mut checked = wanted.compare(&existing);
        checked.found.problems.append(&mut refused);
        Ok(checked)
    }

    fn existing(&self, wanted: &Wanted) -> Result<ExistingTopics, Failure> {
        // All topics, because a name may collide with any.
        let client = self.client.inner();
        let metadata = reach::metadata(client, &self.cluster, REQUEST)?;
        let leaders = Leader::of(&metadata, &wanted.topics);
        let all = metadata.topics().iter();
        let existing = all.clone().filter(|topic| wanted.topics.iter().any(|name| name == topic.name())).map(|topic| {
            let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            let partitions = topic.partitions().len();
            (topic.name().to_owned(), ExistingTopic { partitions, replicas, ..ExistingTopic::default() })
        });
        let mut existing = ExistingTopics {
            brokers: metadata.brokers().len(),
            names: all.clone().map(|topic| topic.name().to_owned()).collect(),
            wanted: existing.collect(),
            unreached: reach::unreached(client, &self.cluster, &leaders, REQUEST),
        };
        self.read_settings(&mut existing.wanted);
        Ok(existing)
    }

    /// Reads the settings of topics. They stay unknown where the broker does not let us read them.
    fn read_settings(&self, topics: &mut BTreeMap<String, ExistingTopic>) {
        let names: Vec<String> = topics.keys().cloned().collect();
        let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if resources.is_empty() {
            return;
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let Ok(results) = self.runtime.block_on(self.client.describe_configs(&resources, &options)) else { return };
        // The results have the order of the request.
        for (topic, result) in topics.values_mut().zip(results) {
            let Ok(resource) = result else { continue };
            topic.read_settings(|name| resource.get(name).and_then(|entry| entry.value.as_deref()));
        }
    }

    /// Returns the topics that exist now, and a failure for each of the others.
    fn create(&self, wanted: &Wanted, missing: &[&str]) -> (Vec<String>, Vec<Failure>) {
        let (partitions, largest) = (wanted.partitions, wanted.largest.to_string());
        // Replication -1 stands for the broker's `default.replication.factor`.
        let new =
            |name| NewTopic::new(name, partitions, TopicReplication::Fixed(-1)).set("max.message.bytes", &largest);
        let topics: Vec<_> = missing.iter().copied().map(new).collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let results = match self.runtime.block_on(self.client.create_topics(&topics, &options)) {
            Ok(results) => results,
            Err(error) => return (Vec::new(), vec![reach::failure(&error, &self.cluster)]),
        };
        let (mut created, mut refused) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(name) => {
                    let destination = self.cluster.status().name();
                    tracing::info!(%destination, topic = %name, partitions, "topic created");
                    created.push(name);
                }
                // Another replica created it.
                Err((name, Code::TopicAlreadyExists)) => created.push(name),
                Err((name, code)) => refused.push(not_created(&name, code)),
            }
        }
        self.wait_for_leaders(wanted.partitions, &created);
        (created, refused)
    }

    /// Waits until new partitions have leaders that accept requests; a broker reports the topic earlier. Messages that a
    /// leader refuses until then may end as unknown (see `outcome::of_success`). Gives up after [`LEADERS`].
    fn wait_for_leaders(&self, partitions: i32, topics: &[String]) {
        let end = Instant::now() + LEADERS;
        for (topic, partition) in topics.iter().flat_map(|topic| (0..partitions).map(move |part| (topic, part))) {
            loop {
                let left = end.saturating_duration_since(Instant::now());
                match self.client.inner().fetch_watermarks(topic, partition, left) {
                    Ok(_) => break,
                    // Another replica created the topic, with fewer partitions.
                    Err(error) if error.rdkafka_error_code() == Some(Code::UnknownPartition) => break,
                    Err(error) if left.is_zero() || outcome::of_request(&error).reason == Reason::NotAuthorized => {
                        return;
                    }
                    Err(_) => std::thread::sleep(PAUSE.min(left)),
                }
            }
        }
    }
}

fn not_created(name: &str, code: Code) -> Failure {
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Failure::new(
            Reason::NotAuthorized,
            format!(
                "topic {name} does not exist, or this user may not see it, and this user may not create it: {code}"
            ),
        ),
        _ => Failure::new(Reason::Topology, format!("topic {name} does not exist and cannot be created: {code}")),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::destination::status::Status;

    #[tokio::test]
    async fn partitions_that_do_not_exist_are_skipped() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("a", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        let cluster = Arc::new(Cluster::new(Status::new(&"kafka".into(), &Arc::default()), &[]));
        let admin = TopicAdmin::new(&config, &cluster, tokio::runtime::Handle::current()).unwrap();
        let started = Instant::now();
        admin.wait_for_leaders(12, &["a".into()]);
        assert!(started.elapsed() < LEADERS / 2, "{:?}", started.elapsed());
    }
}
