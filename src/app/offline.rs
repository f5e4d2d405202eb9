//! The store of a bridge that does not run, for commands that would otherwise ask the bridge.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use super::{management, publishing};
use crate::admin::{AdminAccess, api};
use crate::config::{BridgeAccess, Settings};
use crate::courier::Courier;
use crate::ledger::{self, Ledger};
use crate::letters::{Letters, ReservedLetters};
use crate::management::Management;
use crate::reason::Failure;
use crate::telemetry::metrics::Metrics;

/// How long a destination may take to be usable.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a destination may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// An open store, and the calls of the admin API on it.
pub struct Offline {
    /// The admin API.
    pub api: Router,
    ledger: Arc<dyn Ledger>,
    courier: Arc<Courier>,
    work: TaskTracker,
}

impl Offline {
    /// Opens the store in a directory, and the destinations that replays need if there are settings.
    ///
    /// # Errors
    /// There is no store, a process uses it, or a destination's settings can never work.
    pub async fn open(access: &BridgeAccess, settings: Option<&Settings>) -> Result<Offline, Failure> {
        ledger::embedded::exists(&access.data)?;
        let opened = ledger::embedded::open(&access.data, access.dedup_window)?;
        let (ledger, work, metrics) = (opened.ledger, TaskTracker::new(), Arc::new(Metrics::default()));
        let most = settings.map_or(u64::MAX, |settings| settings.dead_letters_max_bytes);
        let letters = Arc::new(Letters::new(opened.store, most));
        let (management, courier) = match settings {
            Some(settings) => {
                let (_, courier) = publishing(settings, &ledger, Some(&letters), &metrics)?;
                let usable = courier.destinations().map(|handle| tokio::time::timeout(CONNECT, handle.ensure()));
                // A replay reports why a destination is not.
                drop(join_all(usable).await);
                (management(settings, Arc::clone(&ledger), Some(letters), Arc::clone(&courier), &work), courier)
            }
            None => {
                let courier = Arc::new(Courier::new([], Arc::clone(&ledger), None, None, metrics));
                let (ledger, letters) = (Arc::clone(&ledger), Some(letters));
                let reserved = ReservedLetters::default();
                (Arc::new(Management { ledger, letters, reserved, work: work.clone(), replayer: None }), courier)
            }
        };
        Ok(Offline { api: api(management, AdminAccess::in_process()), ledger, courier, work })
    }

    /// Closes destinations and store, in order.
    pub async fn close(self) {
        self.work.close();
        self.work.wait().await;
        join_all(self.courier.destinations().map(|handle| handle.close(CLOSE))).await;
        self.ledger.close().await;
    }
}
