//! `check --connect`: reaches the store and the destinations.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::cli::output::line;
use crate::config::{Ack, Settings, StoreKind};
use crate::destination::{self, Destination as _, Opening};
use crate::oversize::ObjectStorage;
use crate::reason::{Failure, Reason};
use crate::telemetry::metrics::Metrics;
use crate::{app, ledger, spool};

/// Time limit to connect to a broker and create the topics that are missing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the store and every destination, and prints the findings. Returns whether all can be used.
pub(super) async fn connect(settings: &Settings) -> anyhow::Result<bool> {
    let metrics = Arc::new(Metrics::default());
    let probes = settings.destinations.iter().map(|destination| {
        let opening = app::opening(settings, destination, &metrics);
        async move { (&destination.name, probe(opening).await) }
    });
    let mut all_usable = true;
    match store(settings) {
        Ok(lines) => lines.iter().try_for_each(|found| line(format_args!("store: {found}")))?,
        Err(failure) => {
            line(format_args!("store: failed: {failure}"))?;
            all_usable = false;
        }
    }
    if let Some(objects) = &settings.claim_check {
        let opened = ObjectStorage::open(objects);
        let probed = async { opened?.probe().await };
        match probed.await {
            Ok(lines) => lines.iter().try_for_each(|found| line(format_args!("claim_check: {found}")))?,
            Err(failure) => {
                line(format_args!("claim_check: failed: {failure}"))?;
                all_usable = false;
            }
        }
    }
    for (name, found) in join_all(probes).await {
        match found {
            Ok(lines) if lines.is_empty() => line(format_args!("destination {name}: reached"))?,
            Ok(lines) => lines.iter().try_for_each(|found| line(format_args!("destination {name}: {found}")))?,
            Err(failure) => {
                line(format_args!("destination {name}: failed: {failure}"))?;
                all_usable = false;
            }
        }
    }
    Ok(all_usable)
}

/// How the store can be used, and what `serve` refuses without a flag that only `serve` has.
fn store(settings: &Settings) -> Result<Vec<String>, Failure> {
    let (mut found, mut refused, named) = (Vec::new(), Vec::new(), settings.destination_names());
    if settings.store == StoreKind::Embedded {
        found.push(format!("{} {}", settings.data.display(), ledger::embedded::inspect(&settings.data)?));
        refused.push(spool::check_destinations(&ledger::embedded::waiting(&settings.data)?, Some(&named)));
    } else {
        refused.push(spool::check_destinations(&app::left_behind(settings)?, None));
    }
    if settings.ack == Ack::Stored {
        refused.push(spool::check_disk(&settings.data));
    }
    let why = refused.into_iter().filter_map(Result::err);
    found.extend(why.map(|failure| format!("warning: {}", failure.detail)));
    Ok(found)
}

async fn probe(opening: Opening) -> Result<Vec<String>, Failure> {
    let destination = destination::open(opening)?;
    // The destination also creates its topics in the background. Waiting for that makes the report complete.
    let ensured_and_probed = async {
        destination.ensure().await?;
        destination.probe().await
    };
    let found = tokio::time::timeout(CONNECT_TIMEOUT, ensured_and_probed).await;
    destination.close(Duration::from_secs(1)).await;
    found.unwrap_or_else(|_| Err(Failure::new(Reason::Timeout, "not connected within 30 s")))
}
