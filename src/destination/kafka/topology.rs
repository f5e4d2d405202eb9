//! Topics: made where they are missing, looked at where they exist, never changed. All of it blocks.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{client, context};
use crate::destination::settings::Topology;
use crate::reason::{Failure, Reason};

/// What the topics should be.
#[derive(Clone)]
pub(super) struct Plan {
    pub destination: String,
    pub topics: Vec<String>,
    pub topology: Topology,
    pub partitions: i32,
    /// Bytes that each topic must take.
    pub largest: usize,
}

/// A topic that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub partitions: usize,
    pub replicas: usize,
    /// `None`: the broker does not let us look.
    pub limit: Option<usize>,
    pub min_insync: Option<usize>,
    pub unclean: Option<bool>,
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub brokers: usize,
    pub topics: HashMap<String, Found>,
}

/// Less than what `check --connect` waits for: it is to tell what went wrong.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the leaders of new partitions are waited for.
const LEADING: Duration = Duration::from_secs(10);
/// Between two questions to a leader.
const PAUSE: Duration = Duration::from_millis(20);

struct Quiet(String);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(&self.0, level, facility, line);
    }
    fn error(&self, _: KafkaError, _: &str) {}
}

/// An admin client that lives for one look: it would otherwise keep connections for nothing.
pub(super) struct Admin {
    client: AdminClient<Quiet>,
    runtime: tokio::runtime::Handle,
}

impl Admin {
    pub fn new(config: &ClientConfig, destination: &str, runtime: tokio::runtime::Handle) -> Result<Admin, Failure> {
        let client = AdminClient::from_config_and_context(config, Quiet(destination.into()))
            .map_err(|error| client::unusable(&error))?;
        Ok(Admin { client, runtime })
    }

    /// Looks at the topics, and makes those that are missing if the plan says so. What was found is returned also where
    /// something does not fit. To make topics may take its time: what there is already is told before.
    pub fn apply(&self, plan: &Plan, early: impl FnOnce(Findings)) -> (Findings, Result<(), Failure>) {
        let mut all = match self.metadata() {
            Ok(all) => all,
            Err(failure) => return (Findings::default(), Err(failure)),
        };
        let missing = missing(plan, &all);
        let fits = if missing.is_empty() {
            Ok(())
        } else if let Some((name, other)) = collision(&missing, &all) {
            let text =
                format!("topic {name} cannot be made beside {other}: '.' and '_' are the same in Kafka's metrics");
            Err(Failure::new(Reason::Topology, text))
        } else if plan.topology == Topology::Verify {
            Err(Failure::new(Reason::Topology, format!("no topic {}", list(&missing))))
        } else {
            early(self.findings(plan, &all));
            let made = self.create(plan, &missing);
            all = match self.metadata() {
                Ok(all) => all,
                Err(failure) => return (Findings::default(), made.and(Err(failure))),
            };
            made
        };
        let mut found = self.findings(plan, &all);
        if fits.is_ok() {
            // The broker that was asked may not have heard yet of what was made.
            let made = || Found { limit: Some(plan.largest), ..Found::default() };
            for name in missing {
                found.topics.entry(name.to_string()).or_insert_with(made);
            }
        }
        (found, fits)
    }

    /// Looks, and changes nothing.
    pub fn look(&self, plan: &Plan) -> Result<Findings, Failure> {
        Ok(self.findings(plan, &self.metadata()?))
    }

    fn metadata(&self) -> Result<Metadata, Failure> {
        // All topics, because a name may collide with any; this does not make topics.
        self.client.inner().fetch_metadata(None, ANSWER).map_err(|error| unanswered(&error))
    }

    fn create(&self, plan: &Plan, missing: &[&str]) -> Result<(), Failure> {
        let largest = plan.largest.to_string();
        // Replication -1: the broker's `default.replication.factor`.
        let topics: Vec<_> = missing
            .iter()
            .map(|name| {
                NewTopic::new(name, plan.partitions, TopicReplication::Fixed(-1)).set("max.message.bytes", &largest)
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
        let results = self.wait(self.client.create_topics(&topics, &options)).map_err(|error| unanswered(&error))?;
        let (mut made, mut refused) = (Vec::new(), Ok(()));
        for result in results {
            match result {
                Ok(name) => {
                    let partitions = plan.partitions;
                    tracing::info!(destination = %plan.destination, topic = %name, partitions, "topic made");
                    made.push(name);
                }
                // Another replica was first.
                Err((name, Code::TopicAlreadyExists)) => made.push(name),
                Err((name, code)) => refused = refused.and(Err(not_made(&name, code))),
            }
        }
        self.wait_for_leaders(plan, &made);
        refused
    }

    /// A broker tells of a topic before its partitions' leaders lead them. What they refuse until then costs certainty
    /// (see [`super::outcome::of_success`]), so the leaders themselves are asked. Past the time it goes on without them.
    fn wait_for_leaders(&self, plan: &Plan, topics: &[String]) {
        let end = Instant::now() + LEADING;
        for (topic, partition) in topics.iter().flat_map(|topic| (0..plan.partitions).map(move |part| (topic, part))) {
            loop {
                let left = end.saturating_duration_since(Instant::now());
                match self.client.inner().fetch_watermarks(topic, partition, left) {
                    Ok(_) => break,
                    // Another replica made it, with fewer partitions.
                    Err(error) if error.rdkafka_error_code() == Some(Code::UnknownPartition) => break,
                    Err(error) if left.is_zero() || unanswered(&error).reason == Reason::NotAuthorized => return,
                    Err(_) => std::thread::sleep(PAUSE.min(left)),
                }
            }
        }
    }

    fn findings(&self, plan: &Plan, all: &Metadata) -> Findings {
        let mut topics: HashMap<_, _> = plan
            .topics
            .iter()
            .filter_map(|name| all.topics().iter().find(|topic| topic.name() == name))
            .map(|topic| {
                let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
                let found =
                    Found { partitions: topic.partitions().len(), replicas: replicas.unwrap_or(0), ..Found::default() };
                (topic.name().to_string(), found)
            })
            .collect();
        self.describe(&mut topics);
        Findings { brokers: all.brokers().len(), topics }
    }

    /// Reads the topics' settings. Not to be allowed to is no failure: they stay unknown.
    fn describe(&self, topics: &mut HashMap<String, Found>) {
        let names: Vec<String> = topics.keys().cloned().collect();
        let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if resources.is_empty() {
            return;
        }
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let Ok(results) = self.wait(self.client.describe_configs(&resources, &options)) else { return };
        // In the order of the request.
        for (name, result) in names.iter().zip(results) {
            let (Ok(resource), Some(found)) = (result, topics.get_mut(name)) else { continue };
            let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
            found.limit = value("max.message.bytes").and_then(|value| value.parse().ok());
            found.min_insync = value("min.insync.replicas").and_then(|value| value.parse().ok());
            found.unclean = value("unclean.leader.election.enable").and_then(|value| value.parse().ok());
        }
    }

    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}

impl Findings {
    /// One line for the cluster, one for each topic.
    pub fn lines(&self, plan: &Plan) -> Vec<String> {
        let mut lines = vec![format!("{} broker(s)", self.brokers)];
        for name in &plan.topics {
            lines.push(match self.topics.get(name) {
                None => format!("topic {name}: not there"),
                Some(found) => format!(
                    "topic {name}: {} partition(s), {} replica(s), min.insync.replicas {}",
                    found.partitions,
                    found.replicas,
                    found.min_insync.map_or("unknown".to_string(), |count| count.to_string()),
                ),
            });
        }
        lines
    }

    /// What a user of these topics should know.
    pub fn warnings(&self, plan: &Plan) -> Vec<String> {
        let mut warnings = Vec::new();
        for name in &plan.topics {
            let Some(found) = self.topics.get(name) else { continue };
            let mut warn = |text: String| warnings.push(format!("warning: topic {name}: {text}"));
            if found.replicas == 1 {
                warn("one replica: what is confirmed is lost with one broker's disk".into());
            } else if found.min_insync == Some(1) {
                warn(format!(
                    "min.insync.replicas is 1 with {} replicas: what is confirmed may be on one broker only",
                    found.replicas
                ));
            }
            if found.limit.is_some_and(|limit| limit < plan.largest) {
                warn(format!(
                    "max.message.bytes is {}, less than body limit and headers ({}): larger events become dead letters",
                    found.limit.unwrap_or_default(),
                    plan.largest
                ));
            }
            if found.unclean == Some(true) {
                warn("unclean.leader.election.enable: what is confirmed may be lost with a leader".into());
            }
            if found.partitions > 0 && usize::try_from(plan.partitions) != Ok(found.partitions) {
                let (there, wanted) = (found.partitions, plan.partitions);
                warn(format!("it has {there} partition(s), the settings say {wanted}; it is left as it is"));
            }
        }
        warnings
    }
}

fn missing<'a>(plan: &'a Plan, all: &Metadata) -> Vec<&'a str> {
    let exists = |name: &str| all.topics().iter().any(|topic| topic.name() == name);
    plan.topics.iter().map(String::as_str).filter(|name| !exists(name)).collect()
}

/// A missing topic and an existing one that it cannot be made beside.
fn collision<'a>(missing: &[&'a str], all: &'a Metadata) -> Option<(&'a str, &'a str)> {
    missing.iter().find_map(|name| {
        let plain = name.replace('.', "_");
        let other = all.topics().iter().map(|topic| topic.name()).find(|other| other.replace('.', "_") == plain)?;
        Some((*name, other))
    })
}

fn list(names: &[&str]) -> String {
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown} and {} more", names.len() - 5) } else { shown }
}

fn not_made(name: &str, code: Code) -> Failure {
    let reason = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Reason::NotAuthorized,
        _ => Reason::Topology,
    };
    Failure::new(reason, format!("topic {name} is not there and cannot be made: {code}"))
}

/// The cluster did not answer a question.
pub(super) fn unanswered(error: &KafkaError) -> Failure {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    let reason = match code {
        Some(
            Code::ClusterAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication,
        ) => Reason::NotAuthorized,
        _ => Reason::Unreachable,
    };
    Failure::new(reason, format!("Kafka: {error}"))
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[tokio::test]
    async fn partitions_that_do_not_exist_are_not_waited_for() {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("a", 1, 1).unwrap();
        let plan = Plan {
            destination: "kafka".into(),
            topics: vec!["a".into()],
            topology: Topology::Ensure,
            partitions: 12,
            largest: 1000,
        };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers());
        let admin = Admin::new(&config, "kafka", tokio::runtime::Handle::current()).unwrap();
        let started = Instant::now();
        admin.wait_for_leaders(&plan, &["a".into()]);
        assert!(started.elapsed() < LEADING / 2, "{:?}", started.elapsed());
    }

    #[test]
    fn warnings_say_what_can_be_lost() {
        let plan = Plan {
            destination: "kafka".into(),
            topics: vec!["a".into(), "b".into(), "missing".into()],
            topology: Topology::Verify,
            partitions: 12,
            largest: 1000,
        };
        let a = Found { partitions: 12, replicas: 1, limit: Some(1000), min_insync: Some(1), unclean: Some(false) };
        let b = Found { partitions: 3, replicas: 3, limit: Some(999), min_insync: Some(1), unclean: Some(true) };
        let topics = [("a".to_string(), a), ("b".to_string(), b)].into();
        let found = Findings { brokers: 3, topics };
        assert_eq!(found.lines(&plan)[1], "topic a: 12 partition(s), 1 replica(s), min.insync.replicas 1");
        assert_eq!(found.lines(&plan)[3], "topic missing: not there");
        let warnings = found.warnings(&plan);
        let words = [
            "a: one replica",
            "b: min.insync.replicas is 1",
            "b: max.message.bytes is 999",
            "b: unclean",
            "b: it has 3",
        ];
        assert_eq!(warnings.len(), words.len(), "{warnings:?}");
        for (warning, word) in warnings.iter().zip(words) {
            assert!(warning.contains(word), "{warning} holds no {word}");
        }
    }
}
