//! What becomes of an event that is larger than its broker takes: `oversize` of its destination.
//!
//! ```text
//! Handle ─ publish ─ too large ─ Reduction::reduce ─┬ gzip: the body compressed ─────────────── publish, same id
//!                                                   └ claim check: object durable, reference ── publish, same id
//! ```
//!
//! | module | job |
//! |---|---|
//! | `gzip` | compresses a body |
//! | `reference` | the name of an object, and the event that refers to it; pure |
//! | `objects` | puts objects into the object store, each within a time limit |
//! | `directory`, `s3` | the two kinds of object stores |
//! | [`settings`] | where the object store is |
//!
//! An object's name contains the hash of its content, so writing it again changes nothing: a retry needs no memory of the
//! first try. If the process ends between object and publish, the retry of the delivery writes and publishes again. An
//! object store that fails is an outage (`again`), never a dead letter.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::destination::Reduction;
use crate::destination::settings::{DestinationSettings, Mode, OversizePolicy};
use crate::event::Event;
use crate::message::{Message, Outcome};
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::{Metrics, OversizeLabel};

pub use objects::ObjectStorage;

mod directory;
mod gzip;
mod objects;
mod reference;
mod s3;
pub mod settings;

/// Makes messages smaller for one destination.
struct Reducer {
    name: Arc<str>,
    policy: OversizePolicy,
    mode: Mode,
    objects: Option<Arc<ObjectStorage>>,
    /// What may be compressed or written at the same time, in KiB.
    kibibytes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The reduction for a destination; `None` if events that are too large become dead letters.
pub fn reduction(
    settings: &DestinationSettings,
    objects: Option<&Arc<ObjectStorage>>,
    metrics: &Arc<Metrics>,
) -> Option<Arc<dyn Reduction>> {
    if settings.oversize == OversizePolicy::DeadLetter {
        return None;
    }
    let reducer = Reducer {
        name: Arc::clone(&settings.name),
        policy: settings.oversize,
        mode: settings.mode,
        objects: objects.cloned(),
        kibibytes: Arc::new(Semaphore::new(settings.in_flight_bytes.div_ceil(1024))),
        metrics: Arc::clone(metrics),
    };
    for result in [settings.oversize.word(), FAILED] {
        drop(metrics.oversize.get_or_create(&reducer.label(result)));
    }
    Some(Arc::new(reducer))
}

/// The `result` of a message that could not be made smaller.
const FAILED: &str = "failed";

impl Reducer {
    fn label(&self, result: &'static str) -> OversizeLabel {
        OversizeLabel { destination: self.name.to_string(), result }
    }

    /// A share of the memory.
    fn room(&self, event: &Event) -> Result<OwnedSemaphorePermit, Failure> {
        let kibibytes = event.data.len().div_ceil(1024) as u32;
        Arc::clone(&self.kibibytes).try_acquire_many_owned(kibibytes).map_err(|_| Reason::Busy.into())
    }
}

/// A message in its smaller form.
async fn reduced(
    message: Message,
    mode: Mode,
    objects: Option<Arc<ObjectStorage>>,
    room: Result<OwnedSemaphorePermit, Failure>,
) -> Result<Message, Failure> {
    let room = room?;
    let Some(objects) = objects else {
        let (event, plain) = (Arc::clone(&message.event), message.clone());
        let compress = move || (gzip::body(&plain, mode), room).0;
        let body = tokio::task::spawn_blocking(compress).await.map_err(|_| Failure::from(Reason::Failed))?;
        return Ok(Message { event, gzip: Some(body), ..message });
    };
    let event = &message.event;
    let data = event.data.clone();
    // The hash of some megabytes would hold up other tasks.
    let hash = tokio::task::spawn_blocking(move || reference::hash(&data)).await;
    let name = reference::object_name(event, &hash.map_err(|_| Failure::from(Reason::Failed))?);
    let uri = objects.put(&name, event.data.clone(), room).await?;
    Ok(Message { event: Arc::new(reference::event(event, uri)), ..message })
}

impl Reduction for Reducer {
    fn policy(&self) -> OversizePolicy {
        self.policy
    }

    fn reduce(&self, message: Message) -> BoxFuture<'static, Result<Message, Outcome>> {
        let counted = |result| self.metrics.oversize.get_or_create_owned(&self.label(result));
        let (done, failed) = (counted(self.policy.word()), counted(FAILED));
        let objects = match (self.policy, &self.objects) {
            (OversizePolicy::ClaimCheck, None) => {
                let missing = Failure::new(Reason::ObjectStore, "no object store is configured: set claim_check.url");
                return std::future::ready(Err(Outcome::Again(missing))).boxed();
            }
            (OversizePolicy::ClaimCheck, objects) => objects.clone(),
            (OversizePolicy::Gzip | OversizePolicy::DeadLetter, _) => None,
        };
        let (mode, room) = (self.mode, self.room(&message.event));
        async move {
            let reduced = reduced(message, mode, objects, room).await;
            if reduced.is_ok() {
                done.inc()
            } else {
                failed.inc()
            };
            reduced.map_err(Outcome::Again)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
