//! Keeps a usable producer until the destination is closed: reaches the cluster, checks the topics, replaces the producer
//! after a fatal error, when it has stopped trying to connect, and when its TLS files have changed.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::producer::Producer as _;
use tokio::runtime::Handle as Runtime;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::blocking;
use super::cluster::{Cluster, Step};
use super::connection::{Producer, admin_config, create_producer, oversize, producer_config};
use super::context::{Context, Oversize};
use super::in_flight::{ProducerSlot, discard, drain};
use super::reach::reach;
use super::tls_files::tls_files;
use super::topology::admin::TopicAdmin;
use super::topology::{CheckedTopics, Wanted};
use crate::backoff::Backoff;
use crate::destination::status::Status;
use crate::destination::{Health, Opening};
use crate::reason::{Failure, Reason};
use crate::watched_files::WatchedFiles;

/// How long the cluster may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a failed producer may take to report its messages before it is replaced: messages of the next producer must
/// not overtake them.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// How long a check waits for the producer to be refused.
const PRODUCER_ID: Duration = Duration::from_millis(500);
/// How long a producer in the place of a refused one is waited for, likewise.
const PROOF: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// Shortest time between two checks of the topics.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the checks whether TLS files have changed.
const FILES_INTERVAL: Duration = Duration::from_secs(2);
/// A producer that reached no broker for so long may have stopped trying.
const STRANDED: Duration = Duration::from_secs(30);
/// A producer that failed only after this time was usable before.
const USABLE: Duration = Duration::from_secs(60);

const REACH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
const CHECK_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
const REPLACE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// The producer of one destination, and what is needed to keep it usable.
pub(super) struct ProducerSupervisor {
    pub(super) cluster: Arc<Cluster>,
    pub(super) slot: ProducerSlot,
    /// Producers that were replaced and have not reported all their messages.
    pub(super) ending: TaskTracker,
    wanted: Wanted,
    producer_config: ClientConfig,
    admin_config: ClientConfig,
    pub(super) oversize: Oversize,
    files: WatchedFiles,
    publish_timeout: Duration,
}

impl ProducerSupervisor {
    /// Creates the first producer. Fails if librdkafka does not accept a property or a file.
    pub(super) fn new(opening: &Opening) -> Result<ProducerSupervisor, Failure> {
        let (settings, wanted) = (&opening.settings, Wanted::new(opening));
        let cluster = Arc::new(Cluster::new(Status::new(&settings.name, &opening.metrics), &wanted.topics));
        let (producer_config, oversize) = (producer_config(opening), oversize(&settings.properties));
        let files = tls_files(&producer_config);
        files.changed();
        let producer = create_producer(&producer_config, Context::new(Arc::clone(&cluster), oversize))?;
        Ok(ProducerSupervisor {
            cluster,
            slot: ProducerSlot::new(producer),
            ending: TaskTracker::new(),
            wanted,
            producer_config,
            admin_config: admin_config(settings),
            oversize,
            files,
            publish_timeout: opening.publish_timeout,
        })
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let (mut failures, mut last_check) = (0_u32, None);
        let mut replacement = Replacement { last: None, backoff: REPLACE_BACKOFF };
        let (mut files_checked, mut unreached) = (Instant::now(), None);
        loop {
            if !self.files.is_empty() && files_checked.elapsed() >= FILES_INTERVAL {
                self.renew_producer().await;
                files_checked = Instant::now();
            }
            let (done, backoff) = match self.cluster.next_step() {
                Step::InspectProducer => {
                    self.cluster.producer_inspected(self.slot.fatal_error());
                    continue;
                }
                Step::WaitForChange => {
                    tokio::select! {
                        () = self.cluster.changed() => {}
                        () = tokio::time::sleep(FILES_INTERVAL), if !self.files.is_empty() => {}
                    }
                    continue;
                }
                Step::ReplaceProducer => (self.replace_producer(&mut replacement).await, REACH_BACKOFF),
                Step::ReachCluster => (self.reach_or_fail(&mut unreached).await, REACH_BACKOFF),
                Step::CheckTopics => {
                    // Every message to a missing topic requests a check.
                    let elapsed = last_check.map_or(CHECK_INTERVAL, |last: Instant| last.elapsed());
                    tokio::time::sleep(CHECK_INTERVAL.saturating_sub(elapsed)).await;
                    last_check = Some(Instant::now());
                    (self.check_topics().await.is_ok(), CHECK_BACKOFF)
                }
            };
            failures = if done { 0 } else { failures.saturating_add(1) };
            tokio::time::sleep(backoff.after(failures)).await;
        }
    }

    /// Sends a small request through the producer's own client, because its connections carry the messages.
    async fn reach_cluster(self: &Arc<Self>) -> bool {
        let this = Arc::clone(self);
        let answer = blocking::spawn(move || {
            let producer = this.slot.get()?;
            Some(reach(producer.client(), &this.cluster, &this.wanted.topics, ANSWER))
        });
        // `None`: the producer is being replaced, or the destination was closed.
        let answer = answer.await.ok().flatten();
        match &answer {
            Some(Ok(server)) => self.cluster.reached(server),
            Some(Err(failure)) => self.cluster.not_reached(failure.clone()),
            None => {}
        }
        matches!(answer, Some(Ok(_)))
    }

    /// Reaches the cluster. A producer that does not for a while, although a new client does, never will: librdkafka may
    /// drop all brokers and stop its timer for another bootstrap (its issue 5301). Such a producer has failed.
    async fn reach_or_fail(self: &Arc<Self>, unreached: &mut Option<Instant>) -> bool {
        if self.reach_cluster().await {
            *unreached = None;
            return true;
        }
        let since = *unreached.get_or_insert_with(Instant::now);
        // A producer with a connection may only be busy.
        if since.elapsed() < STRANDED || self.cluster.linked() || !self.new_client_reaches().await {
            return false;
        }
        // The cluster may have been unreachable until a moment ago.
        let reached = self.reach_cluster().await;
        if !reached {
            self.cluster.producer_stranded();
        }
        *unreached = None;
        reached
    }

    async fn new_client_reaches(self: &Arc<Self>) -> bool {
        let (this, runtime) = (Arc::clone(self), Runtime::current());
        let reaches = blocking::spawn(move || {
            let client = TopicAdmin::new(&this.admin_config, &this.cluster, runtime);
            client.is_ok_and(|client| client.reaches(&this.wanted, ANSWER))
        });
        reaches.await.unwrap_or(false)
    }

    /// Creates or checks the topics. Fails if any of them cannot be published to.
    pub(super) async fn check_topics(self: &Arc<Self>) -> Result<(), Failure> {
        self.cluster.checking_topics();
        let (this, runtime) = (Arc::clone(self), Runtime::current());
        let checked = blocking::spawn(move || {
            let admin = TopicAdmin::new(&this.admin_config, &this.cluster, runtime)?;
            let apply = |checked: CheckedTopics| {
                let fits = checked.found.fits();
                this.cluster.set_topics(checked.limits, checked.found.warnings);
                fits
            };
            apply(admin.ensure(&this.wanted, |before| drop(apply(before)))?)
        });
        // Without an answer, what was known of the topics stays.
        let fits = checked.await.unwrap_or_else(|_| Err(Reason::Failed.into()));
        // Before the destination is up: the producer may have been refused in the meantime.
        if let Some(fatal) = self.slot.fatal_error() {
            self.cluster.producer_inspected(Some(fatal));
        }
        self.cluster.topics_checked(fits.clone());
        fits
    }

    /// Describes the cluster and the topics. Fails if any of them cannot be published to.
    pub(super) async fn probe(self: &Arc<Self>) -> Result<Vec<String>, Failure> {
        let (this, runtime) = (Arc::clone(self), Runtime::current());
        let checked =
            blocking::spawn(move || TopicAdmin::new(&this.admin_config, &this.cluster, runtime)?.check(&this.wanted));
        let mut found = checked.await.unwrap_or_else(|_| Err(Reason::Failed.into()))?.found;
        found.problems.extend(self.refused_producer().await);
        found.report()
    }

    /// Why the producer is refused: without the right to write to any topic, the cluster gives it no id. It asks for one as
    /// soon as it is connected, so the answer is there soon.
    pub(super) async fn refused_producer(&self) -> Option<Failure> {
        // The supervisor may be replacing it.
        let fatal = || self.cluster.fatal().or_else(|| self.slot.fatal_error());
        within(PRODUCER_ID, || fatal().filter(|failure| failure.reason == Reason::NotAuthorized)).await
    }

    /// Waits for the messages of a failed producer, and puts a new one in its place.
    async fn replace_producer(self: &Arc<Self>, replacement: &mut Replacement) -> bool {
        if let Some(old) = self.slot.take() {
            let left = self.retire(old, LAST_REPORTS).await.unwrap_or_default();
            let Failure { reason, detail } = self.cluster.fatal().unwrap_or_else(|| Reason::ConnectionLost.into());
            let destination = self.cluster.status().name();
            tracing::warn!(%destination, %reason, %detail, left, "producer failed and is replaced");
            replacement.pause().await;
        }
        let this = Arc::clone(self);
        let created = blocking::spawn(move || {
            this.files.changed();
            this.create_producer()
        });
        let created = created.await.unwrap_or_else(|_| Err(Reason::Failed.into()));
        let mut replaced = created.map(|new| discard(self.slot.put(new)));
        // It has proved nothing yet: the next one of a user without rights would be up for a moment.
        let was_refused = self.cluster.fatal().is_some_and(|failure| failure.reason == Reason::NotAuthorized);
        if replaced.is_ok() && was_refused {
            replaced = within(PROOF, || self.slot.fatal_error()).await.map_or(Ok(()), Err);
        }
        let done = replaced.is_ok();
        self.cluster.producer_replaced(replaced);
        done
    }

    /// Replaces the producer if its TLS files have changed. While the new files cannot be used, for example because only
    /// one of certificate and key is written, the producer stays.
    async fn renew_producer(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let created = blocking::spawn(move || this.files.changed().then(|| this.create_producer()));
        let destination = self.cluster.status().name();
        match created.await.ok().flatten() {
            None => {}
            Some(Err(Failure { reason, detail })) => {
                tracing::warn!(%destination, %reason, %detail, "TLS files have changed and cannot be used");
            }
            Some(Ok(new)) => {
                // While the old producer is connected, its messages need no other. What was confirmed before precedes what
                // the new one sends (G6).
                let is_up = self.cluster.status().health() == Health::Up;
                let at_most = if is_up { self.publish_timeout } else { LAST_REPORTS };
                if let Some(old) = self.slot.put(new) {
                    drop(self.retire(old, at_most));
                }
                tracing::info!(%destination, "TLS files have changed: the producer is replaced");
            }
        }
    }

    /// Reads TLS files, so it blocks.
    fn create_producer(&self) -> Result<Producer, Failure> {
        create_producer(&self.producer_config, Context::new(Arc::clone(&self.cluster), self.oversize))
    }

    /// Waits for the reports of a producer that was replaced, on a thread of its own. The receiver gets the number of
    /// messages without one.
    fn retire(&self, old: Producer, at_most: Duration) -> oneshot::Receiver<usize> {
        let (metrics, label) = self.cluster.status().metrics();
        metrics.kafka_replaced.get_or_create(label).inc();
        let ending = self.ending.token();
        blocking::spawn(move || {
            let left = drain(&old, at_most, false);
            drop(ending);
            // All its messages have outcomes. Its threads may take longer to end.
            discard(Some(old));
            left
        })
    }
}

/// The failure, if there is one by then.
async fn within(at_most: Duration, failure: impl Fn() -> Option<Failure>) -> Option<Failure> {
    let end = Instant::now() + at_most;
    loop {
        let found = failure();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// When the producer was last replaced, and how long the next replacement waits if that was recently: without the right
/// to write, for example, each producer fails as soon as it is connected.
struct Replacement {
    last: Option<Instant>,
    backoff: Backoff,
}

impl Replacement {
    async fn pause(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() < USABLE) {
            tokio::time::sleep(self.backoff.next()).await;
        } else {
            self.backoff.reset();
        }
        self.last = Some(Instant::now());
    }
}
