//! The store that the settings name, and the events that an earlier process left in the data directory.

use std::sync::Arc;

use crate::config::{Ack, Settings, StoreKind};
use crate::ledger::{self, Ledger};
use crate::letters::Letters;
use crate::reason::{Failure, Reason};
use crate::spool::{self, Depth, Spool};
use crate::store::is_in_use;

/// What the operator decides at one start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Destinations whose events in the spool are deleted.
    pub discard_spool: Vec<String>,
    /// Whether the data directory may be on a disk that does not outlive this machine or container.
    pub ephemeral: bool,
}

/// An open store.
pub(super) struct OpenStore {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) spool: Option<Spool>,
    pub(super) letters: Option<Arc<Letters>>,
}

/// Opens the store.
///
/// # Errors
/// The data directory cannot be used, or it has events that would wait forever.
pub(super) async fn open(settings: &Settings, options: &StartOptions) -> Result<OpenStore, Failure> {
    if settings.ack == Ack::Stored && !options.ephemeral {
        spool::check_disk(&settings.data)?;
    }
    let discard = &options.discard_spool;
    match settings.store {
        StoreKind::Memory => {
            refuse_to_leave(settings, discard).await?;
            let ledger = ledger::memory::open(settings.dedup_window);
            Ok(OpenStore { ledger, spool: None, letters: None })
        }
        StoreKind::Embedded => {
            let named = settings.destination_names();
            if let Some(destination) = discard.iter().find(|destination| named.contains(&destination.as_str())) {
                let why = format!(
                    "--discard-spool {destination}: the configuration names this destination, so its events are \
                     published: remove the flag"
                );
                return Err(Failure::new(Reason::Store, why));
            }
            let opened = ledger::embedded::open(&settings.data, settings.dedup_window)?;
            let letters = Letters::new(Arc::clone(&opened.store), settings.dead_letters_max_bytes);
            let spool = Spool::new(opened.store, settings.spool_max_bytes);
            spool.discard(discard).await?;
            spool::check_destinations(&spool.depths(), Some(&named))?;
            Ok(OpenStore { ledger: opened.ledger, spool: Some(spool), letters: Some(Arc::new(letters)) })
        }
    }
}

/// Refuses to leave events of an earlier process, which used the store `embedded`, in the data directory.
async fn refuse_to_leave(settings: &Settings, discard: &[String]) -> Result<(), Failure> {
    if !discard.is_empty() && ledger::embedded::exists(&settings.data).is_ok() {
        let opened = ledger::embedded::open(&settings.data, settings.dedup_window)?;
        let discarded = Spool::new(opened.store, settings.spool_max_bytes).discard(discard).await;
        opened.ledger.close().await;
        discarded?;
    }
    spool::check_destinations(&left_behind(settings)?, None)
}

/// What waits in the data directory, and would wait forever with the store `memory`. If a process has it open, that process
/// publishes it.
///
/// # Errors
/// There may be a store, and it cannot be read.
pub fn left_behind(settings: &Settings) -> Result<Vec<Depth>, Failure> {
    if is_in_use(&settings.data) {
        return Ok(Vec::new());
    }
    ledger::embedded::waiting(&settings.data).map_err(|failure| {
        let why = format!(
            "`store: memory`, but events may wait in the data directory, which cannot be read: {}: name another \
             directory with --data",
            failure.detail
        );
        Failure::new(failure.reason, why)
    })
}
