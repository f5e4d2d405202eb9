//! `hookbridge store`: checks and backs up the embedded store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::args::StoreArgs;
use super::exit::{FAILED, failed, mistakes};
use super::inputs::{process_environment, wrong};
use super::output::line;
use crate::config::{BridgeAccess, StoreKind, bridge_access};
use crate::ledger::embedded;
use crate::reason::Failure;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge store backup /backup/ledger-2026-11-26.sqlite\n\
    \x20 hookbridge store check --data hookbridge-data";

/// Arguments of `store`.
#[derive(clap::Args, Debug)]
pub struct StoreCommandArgs {
    /// What to do
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// Checks the store of a bridge that does not run; changes nothing
    #[command(
        after_help = "Examples:\n\x20 hookbridge store check\n\x20 hookbridge store check --data /var/lib/hookbridge"
    )]
    Check(StoreArgs),
    /// Copies the store to a new file, also while the bridge runs, and checks the copy
    #[command(after_help = "Examples:\n\x20 hookbridge store backup backup.sqlite --data /var/lib/hookbridge\n\n\
        To restore: stop the bridge, move what is in its data directory away, copy the file there as `ledger.sqlite`, \
        start the bridge.")]
    Backup(BackupArgs),
}

/// Arguments of `store backup`.
#[derive(clap::Args, Debug)]
struct BackupArgs {
    /// The new file
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

/// Exit 1 if the store is damaged, or if it was not copied.
pub(super) fn run(args: &StoreCommandArgs) -> ExitCode {
    let store = match &args.command {
        StoreCommand::Check(store) | StoreCommand::Backup(BackupArgs { store, .. }) => store,
    };
    let access = match bridge_access(&store.flags(), &process_environment) {
        Ok(access) => access,
        Err(all) => return mistakes(&all),
    };
    if access.store == StoreKind::Memory {
        return wrong("the store `memory` is not on disk: there is nothing to check or to back up");
    }
    let done = match &args.command {
        StoreCommand::Check(_) => check(&access),
        StoreCommand::Backup(BackupArgs { file, .. }) => backup(&access, file),
    };
    done.unwrap_or_else(|error| failed(&error))
}

fn check(access: &BridgeAccess) -> anyhow::Result<ExitCode> {
    let findings = embedded::check(&access.data).map_err(text)?;
    if findings.is_empty() {
        line(format_args!("{}: ok", access.data.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &findings {
        line(format_args!("{}: {finding}", access.data.display()))?;
    }
    Ok(ExitCode::from(FAILED))
}

fn backup(access: &BridgeAccess, file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let bytes = embedded::back_up(&access.data, file).map_err(text)?;
    line(format_args!("{}: {bytes} bytes, checked", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn text(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!("{}", failure.detail)
}
