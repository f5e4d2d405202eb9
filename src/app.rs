//! The composition root: settings become a running bridge, which starts and shuts down in order.
//!
//! Start: ledger (locks the data directory), destinations (they connect in the background until closed), the spool's lanes,
//! listeners. Shutdown: not ready, no new deliveries, wait for the publishes in flight, flush and close destinations, close the
//! ledger.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, AdminAccess};
use crate::admission::Limits;
use crate::config::{Ack, Settings};
use crate::courier::Courier;
use crate::dead_letter;
use crate::destination::settings::DestinationSettings;
use crate::destination::{self, Handle, OpenDestination, Opening};
use crate::ingress::Ingress;
use crate::keyring::Keyring;
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::letters::{Letters, ReservedLetters, expire};
use crate::listener::{descriptors, serve};
use crate::management::Management;
use crate::oversize::{ObjectStorage, reduction};
use crate::pipeline::Pipeline;
use crate::reason::Failure;
use crate::reload::SecretsInForce;
use crate::replay::Replayer;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;
use crate::vitals::Vitals;
use store::OpenStore;
pub use store::{StartOptions, left_behind};

/// The part of the shutdown time that is reserved for closing destinations.
const CLOSING: Duration = Duration::from_secs(5);
/// The parts for recording the last outcomes and for closing the ledger.
const RECORDING: Duration = Duration::from_secs(1);
/// Most connections of the admin listener.
const ADMIN_CONNECTIONS: usize = 64;

/// A bridge with an open ledger and open destinations that does not serve yet.
pub struct App {
    settings: Settings,
    vitals: Arc<Vitals>,
    keyrings: Vec<Arc<Keyring>>,
    destinations: Vec<Arc<OpenDestination>>,
    letters: Option<Arc<Letters>>,
}

impl App {
    /// Opens ledger and destinations.
    ///
    /// # Errors
    /// The data directory cannot be used, it has events for a destination that the configuration does not name, or a
    /// destination's settings can never work.
    pub async fn open(settings: Settings, options: &StartOptions) -> Result<App, Failure> {
        let metrics = Arc::new(Metrics::default());
        let OpenStore { ledger, spool, letters } = store::open(&settings, options).await?;
        let (destinations, courier) = publishing(&settings, &ledger, letters.as_ref(), &metrics)?;
        let keyrings = keyrings(&settings, &metrics);
        let draining = CancellationToken::new();
        let lanes = spool.map(|spool| Lanes::new(spool, Arc::clone(&courier), Arc::clone(&ledger), draining.clone()));
        if let Some(lanes) = &lanes {
            lanes.start().await?;
        }
        let optional = settings.optional_destinations();
        let vitals = Arc::new(Vitals::new(ledger, courier, optional, lanes, metrics, draining));
        Ok(App { settings, vitals, keyrings, destinations, letters })
    }

    /// The secrets that can be replaced while it runs.
    pub fn secrets(&self) -> SecretsInForce {
        let named = self.settings.destinations.iter().cloned();
        SecretsInForce::new(self.keyrings.clone(), named.zip(self.destinations.iter().cloned()))
    }

    /// What readiness depends on.
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Serves until `shutdown` resolves, then shuts down in order, within the configured time.
    ///
    /// # Errors
    /// The store has failed, and only a new process can use it again. What was in flight was finished as far as possible.
    pub async fn run(
        self,
        webhooks: TcpListener,
        admin: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let App { settings, vitals, keyrings, letters, .. } = self;
        let work = TaskTracker::new();
        let stop = CancellationToken::new();
        let access = AdminAccess::new(settings.admin_token.as_ref(), admin_address(&admin, &settings));
        let ledger = Arc::clone(&vitals.ledger);
        let management = management(&settings, ledger, letters.clone(), Arc::clone(&vitals.courier), &work);
        if let (Some(letters), Some(age)) = (letters.clone(), settings.dead_letters_max_age) {
            tokio::spawn(vitals.draining.clone().run_until_cancelled_owned(expire(
                letters,
                management.reserved.clone(),
                age,
            )));
        }
        let pipeline = Arc::new(Pipeline {
            ledger: Arc::clone(&vitals.ledger),
            courier: Arc::clone(&vitals.courier),
            lanes: vitals.lanes.clone(),
            stored: settings.ack == Ack::Stored,
            routes: settings.routes,
            metrics: Arc::clone(&vitals.metrics),
            claim_failures: Throttle::default(),
        });
        let ingress = Ingress::new(
            pipeline,
            settings.limits.clone(),
            Arc::clone(&vitals.metrics),
            work.clone(),
            vitals.draining.clone(),
        );
        let ready = {
            let vitals = Arc::clone(&vitals);
            Arc::new(move || vitals.ready())
        };
        let connections = descriptors::room(settings.limits.connections);
        let limits = Limits { connections, ..settings.limits.clone() };
        let webhooks =
            serve(webhooks, ingress.router(settings.sources.into_iter().zip(keyrings), ready), &limits, stop.clone());
        let limits = Limits { connections: ADMIN_CONNECTIONS, ..settings.limits };
        let api = admin::api(management, access);
        let admin = serve(admin, admin::router(Arc::clone(&vitals), letters).merge(api), &limits, stop.clone());
        let end = async {
            let ended = tokio::select! {
                () = shutdown => Ok(()),
                failure = vitals.store_failed() => Err(failure),
            };
            drain(&vitals, &work, &stop, settings.shutdown_timeout).await;
            ended
        };
        tokio::pin!(webhooks, admin, end);
        let serving = async { tokio::join!(webhooks, admin) };
        let (ended, ()) = tokio::join!(end, async {
            // Connections that do not end do not delay the exit: the drain has a deadline.
            tokio::select! {
                _ = serving => (),
                () = grace_over(&stop) => (),
            }
        });
        ended
    }
}

fn admin_address(listener: &TcpListener, settings: &Settings) -> IpAddr {
    listener.local_addr().unwrap_or(settings.admin).ip()
}

/// Opens the destinations.
fn publishing(
    settings: &Settings,
    ledger: &Arc<dyn Ledger>,
    letters: Option<&Arc<Letters>>,
    metrics: &Arc<Metrics>,
) -> Result<(Vec<Arc<OpenDestination>>, Arc<Courier>), Failure> {
    let destinations = settings.destinations.iter();
    let destinations = destinations.map(|destination| destination::open(opening(settings, destination, metrics)));
    let destinations = destinations.collect::<Result<Vec<_>, _>>()?;
    let objects = settings.claim_check.as_ref().map(ObjectStorage::open).transpose()?.map(Arc::new);
    let handles = settings.destinations.iter().zip(&destinations).map(|(named, opened)| {
        let handle = Handle::new(Arc::clone(opened) as _, named, settings.publish_timeout, Arc::clone(metrics));
        handle.with_reduction(reduction(named, objects.as_ref(), metrics))
    });
    let dead_letters_to = settings.dead_letters_to.clone();
    let courier = Courier::new(handles, Arc::clone(ledger), letters.cloned(), dead_letters_to, Arc::clone(metrics));
    Ok((destinations, Arc::new(courier)))
}

/// What operators may do with the store. Replays are part of `work`.
fn management(
    settings: &Settings,
    ledger: Arc<dyn Ledger>,
    letters: Option<Arc<Letters>>,
    courier: Arc<Courier>,
    work: &TaskTracker,
) -> Arc<Management> {
    let reserved = ReservedLetters::default();
    let replayer = letters.as_ref().map(|letters| {
        Arc::new(Replayer {
            letters: Arc::clone(letters),
            ledger: Arc::clone(&ledger),
            courier,
            sources: settings.sources.iter().map(|source| (Arc::clone(&source.name), source.clone())).collect(),
            routes: settings.routes.clone(),
            work: work.clone(),
            reserved: reserved.clone(),
        })
    });
    Arc::new(Management { ledger, letters, reserved, work: work.clone(), replayer })
}

fn keyrings(settings: &Settings, metrics: &Arc<Metrics>) -> Vec<Arc<Keyring>> {
    settings.sources.iter().map(|source| Keyring::new(&source.name, source.keys.clone(), metrics)).collect()
}

/// Resolves a second after `stop`, which closes idle connections; the others had until then.
async fn grace_over(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

async fn drain(vitals: &Vitals, work: &TaskTracker, stop: &CancellationToken, within: Duration) {
    let end = Instant::now() + within;
    tracing::info!(in_flight = work.len(), "draining");
    vitals.draining.cancel();
    work.close();
    let (closing, recording) = (CLOSING.min(within / 2), RECORDING.min(within / 10));
    let recorded = end - recording;
    let done = async || {
        work.wait().await;
        if let Some(lanes) = &vitals.lanes {
            lanes.stopped().await;
        }
    };
    if timeout_at(recorded - recording - closing, done()).await.is_err() {
        tracing::warn!(
            in_flight = work.len(),
            "publishes without an outcome remain: the events are in the spool, or their senders got 503 and will retry"
        );
    }
    stop.cancel();
    join_all(vitals.courier.destinations().map(|handle| handle.close(closing))).await;
    // Closing gave every publish an outcome, also to those that no delivery waits for: record them before the ledger closes.
    let _ = timeout_at(recorded, async { tokio::join!(done(), vitals.courier.settled()) }).await;
    let _ = timeout_at(end, vitals.ledger.close()).await;
    tracing::info!("drained");
}

/// What a destination is opened with, for `serve` and `check --connect`.
pub fn opening(settings: &Settings, destination: &DestinationSettings, metrics: &Arc<Metrics>) -> Opening {
    let mut topics = settings.topics(&destination.name);
    if settings.dead_letters_to.as_ref() == Some(&destination.name) {
        topics.push(dead_letter::TOPIC.to_owned());
    }
    Opening {
        settings: destination.clone(),
        topics,
        publish_timeout: settings.publish_timeout,
        body_limit: settings.limits.body,
        metrics: Arc::clone(metrics),
    }
}

pub mod offline;
mod store;
#[cfg(test)]
mod tests;
