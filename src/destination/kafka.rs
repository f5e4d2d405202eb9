//! Kafka, through librdkafka.
//!
//! ```text
//! publish ─▶ cluster ─▶ message ─▶ in_flight ─▶ librdkafka's queue ─▶ broker
//!    ▲          │ refusal                                               │
//!    └──────────┴── outcome ◀── context ◀── delivery report ◀───────────┘
//! ```
//! - [`connection`]: librdkafka's configuration; librdkafka connects by itself.
//! - [`supervisor`]: keeps the producer usable: reaches the cluster, checks the topics, replaces a failed producer.
//! - [`reach`]: whether a broker answers, and the leaders of the topics at the addresses that the cluster advertises.
//! - [`tls_files`]: the files that a producer reads only at its start.
//! - [`cluster`]: what is known of the cluster. The callbacks and the supervisor write it, each publish reads it.
//! - [`topology`]: which topics are needed, compared to those that exist; the requests that read and create them.
//! - [`message`]: event → record. [`outcome`]: error code → outcome.
//! - [`trouble`]: error of a connection → failure.
//! - [`in_flight`]: the messages without an outcome, and the producer that carries them.
//! - [`context`]: librdkafka's callbacks. [`blocking`]: calls that block, on threads of their own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use self::in_flight::{discard, drain};
use self::message::EncodedRecord;
use self::supervisor::ProducerSupervisor;
use super::{Confirm, Destination, Health, Opening, keeper};
use crate::destination::settings::Mode;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};

pub(super) use connection::{fault, property_fault};

mod blocking;
mod cluster;
mod connection;
mod context;
mod in_flight;
pub(super) mod message;
mod outcome;
mod reach;
mod supervisor;
mod tls_files;
mod topology;
mod trouble;

/// A record whose body is smaller than the limit by this many bytes is not measured.
const SMALL: usize = 64 << 10;
/// How long the threads of a closed producer may take to end.
const THREADS: Duration = Duration::from_secs(1);

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let kafka = Kafka::new(&opening)?;
    kafka.keep(Arc::clone(&kafka.supervisor).run());
    Ok(Arc::new(kafka))
}

struct Kafka {
    supervisor: Arc<ProducerSupervisor>,
    mode: Mode,
    forward_signature: bool,
    closed: CancellationToken,
}

impl Kafka {
    fn new(opening: &Opening) -> Result<Kafka, Failure> {
        Ok(Kafka {
            supervisor: Arc::new(ProducerSupervisor::new(opening)?),
            mode: opening.settings.mode,
            forward_signature: opening.settings.forward_signature,
            closed: CancellationToken::new(),
        })
    }

    /// Runs the supervisor. If it ends by itself, nothing more is published, and the messages in flight get their outcomes
    /// from the producer, which stays until the destination is closed.
    fn keep(&self, supervisor: impl Future<Output = ()> + Send + 'static) {
        let cluster = Arc::clone(&self.supervisor.cluster);
        keeper::task("kafka-supervisor", &self.closed, supervisor, move |failure| cluster.end(failure));
    }
}

impl Destination for Kafka {
    fn publish(&self, message: Message) -> Confirm {
        let ProducerSupervisor { cluster, slot, .. } = &*self.supervisor;
        if let Some(failure) = cluster.refusal(&message.topic) {
            return std::future::ready(Outcome::Again(failure)).boxed();
        }
        let record = EncodedRecord::new(&message, self.mode, self.forward_signature);
        match slot.produce(&message, record) {
            // Without a report, the producer ended first.
            Ok(report) => report
                .map(|outcome| outcome.unwrap_or_else(|_| Outcome::Unknown(Reason::ConnectionLost.into())))
                .boxed(),
            Err(outcome) => std::future::ready(outcome).boxed(),
        }
    }

    fn refuses_size(&self, message: &Message) -> Option<Failure> {
        let ProducerSupervisor { cluster, oversize, .. } = &*self.supervisor;
        let limit = cluster.limit(&message.topic)?;
        if oversize.compressed || message.event.data.len() + SMALL <= limit {
            return None;
        }
        let size = EncodedRecord::new(message, self.mode, self.forward_signature).size;
        let detail =
            || format!("the record has {size} bytes, and max.message.bytes of topic {} is {limit}", message.topic);
        (size > limit).then(|| Failure::new(Reason::TooLarge, detail()))
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async {
            self.supervisor.check_topics().await?;
            self.supervisor.refused_producer().await.map_or(Ok(()), Err)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        self.supervisor.probe().boxed()
    }

    fn health(&self) -> Health {
        self.supervisor.cluster.status().health()
    }

    fn warnings(&self) -> Vec<String> {
        self.supervisor.cluster.status().warnings()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.supervisor.cluster.status().ended().boxed()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            let ProducerSupervisor { cluster, slot, ending, .. } = &*self.supervisor;
            self.closed.cancel();
            cluster.end(Reason::Closing.into());
            ending.close();
            let Some(producer) = slot.close() else {
                // It is being replaced. The messages of the failed producer have their outcomes soon.
                let _ = tokio::time::timeout(at_most, ending.wait()).await;
                return;
            };
            let destination = Arc::clone(cluster.status().name());
            let drained = blocking::spawn(move || {
                let left = drain(&producer, at_most, true);
                if left > 0 {
                    tracing::warn!(%destination, left, "closed with publishes that are not confirmed");
                }
                drop(producer);
            });
            // Together with those that were replaced.
            let _ = tokio::time::timeout(at_most + THREADS, async { tokio::join!(drained, ending.wait()) }).await;
        }
        .boxed()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.closed.cancel();
        discard(self.supervisor.slot.close());
    }
}

#[cfg(test)]
mod tests;
