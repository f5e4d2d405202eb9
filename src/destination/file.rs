//! Files: `DIR/<topic>.ndjson`, one structured CloudEvent a line, on disk before it is confirmed.
//!
//! One thread writes. It takes what waits, appends it to the files it is for, syncs each of them once, and then resolves
//! the confirms: the more publishers, the more lines share a sync.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Confirm, Destination, Health, Opening};
use crate::destination::settings::BrokerUrl;
use crate::message::{Message, Outcome};
use crate::naming;
use crate::naming::Kind;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::OfDestination;
use writer::{Command, Publish, Writer};

mod directory;
mod log;
mod writer;

/// What publishers and the writer share.
struct Shared {
    health: Mutex<Health>,
    /// Why it could not be used yet, to tell that once.
    starting: Mutex<Option<Failure>>,
    report: Box<dyn Fn(bool) + Send + Sync>,
}

impl Shared {
    /// Notes a change, once.
    fn now(&self, health: Health) {
        let mut held = self.health.lock();
        if *held == health {
            return;
        }
        if let (Health::Starting, Health::Down(failure)) = (&*held, &health) {
            // It stays so until it could be used once.
            let mut told = self.starting.lock();
            if told.as_ref() != Some(failure) {
                tracing::warn!(%failure, "file destination cannot be used yet");
                *told = Some(failure.clone());
            }
            return;
        }
        match &health {
            Health::Down(failure) => tracing::warn!(%failure, "file destination is down"),
            _ => tracing::info!("file destination is up"),
        }
        (self.report)(health == Health::Up);
        *held = health;
    }
}

struct Files {
    writer: Mutex<Option<Sender<Command>>>,
    shared: Arc<Shared>,
    publish_timeout: Duration,
}

pub(super) fn open(opening: Opening) -> Result<Arc<dyn Destination>, Failure> {
    let BrokerUrl::File(dir) = opening.settings.url else {
        return Err(Failure::new(Reason::Failed, "not a file: URL"));
    };
    let (metrics, label) = (opening.metrics, OfDestination { destination: opening.settings.name.to_string() });
    let report = move |up: bool| {
        metrics.up.get_or_create(&label).set(i64::from(up));
        if up {
            metrics.connects.get_or_create(&label).inc();
        }
    };
    let shared =
        Arc::new(Shared { health: Mutex::new(Health::Starting), starting: Mutex::default(), report: Box::new(report) });
    let (commands, inbox) = channel();
    let writer = Writer::new(dir, inbox, Arc::clone(&shared));
    std::thread::Builder::new()
        .name(format!("file:{}", opening.settings.name))
        .spawn(move || writer.run())
        .map_err(|error| Failure::new(Reason::Failed, format!("no thread to write with: {error}")))?;
    let publish_timeout = opening.publish_timeout;
    Ok(Arc::new(Files { writer: Mutex::new(Some(commands)), shared, publish_timeout }))
}

impl Files {
    /// Hands the writer a command; gives it back when the destination is closed.
    fn tell(&self, command: Command) -> Result<(), Command> {
        match &*self.writer.lock() {
            Some(writer) => writer.send(command).map_err(|unsent| unsent.0),
            None => Err(command),
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.tell(question(answer)).map_err(|_| Failure::from(Reason::Closing))?;
        answered.await.map_err(|_| Failure::from(Reason::Closing))
    }
}

impl Destination for Files {
    fn publish(&self, message: Message) -> Confirm {
        if let Err(fault) = naming::check(Kind::File, &message.topic) {
            return ready(Outcome::Never(Failure::new(Reason::IllegalName, fault))).boxed();
        }
        let (told, outcome) = oneshot::channel();
        let message = Arc::new(Mutex::new(Some(message)));
        if self.tell(Command::Publish(Publish { message: Arc::clone(&message), told })).is_err() {
            return ready(Outcome::Again(Reason::Closing.into())).boxed();
        }
        let timeout = self.publish_timeout;
        async move {
            match tokio::time::timeout(timeout, outcome).await {
                Ok(Ok(outcome)) => outcome,
                // The writer ended without a word.
                Ok(Err(_)) => Outcome::Unknown(Reason::Failed.into()),
                // Nobody has begun to write it, and now nobody can.
                Err(_) if message.lock().take().is_some() => Outcome::Again(Reason::Timeout.into()),
                Err(_) => Outcome::Unknown(Reason::Timeout.into()),
            }
        }
        .boxed()
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async { self.ask(Command::Prepare).await?.map(|_| ()) }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async { self.ask(Command::Prepare).await?.map(|found| vec![found]) }.boxed()
    }

    fn health(&self) -> Health {
        self.shared.health.lock().clone()
    }

    fn close(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        async move {
            let Some(writer) = self.writer.lock().take() else { return };
            let (ended, end) = oneshot::channel();
            if writer.send(Command::End(ended)).is_ok() {
                // Whatever is not written by then resolves when the disk answers, or at its own time.
                let _ = tokio::time::timeout(at_most, end).await;
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
