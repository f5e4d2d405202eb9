//! `hookbridge dead-letters discard`.

use std::io::{IsTerminal as _, stdin};
use std::process::ExitCode;

use axum::http::Method;

use super::selection::{PATH, SelectionArgs};
use crate::cli::args::AccessArgs;
use crate::cli::bridge_api::{BridgeApi, CallRefused, with_api};
use crate::cli::exit::failed;
use crate::cli::inputs::wrong;
use crate::cli::output::{confirmed, line, note};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge dead-letters discard 7\n\
    \x20 hookbridge dead-letters discard --reason not_json --until 30d --yes";

/// Arguments of `dead-letters discard`.
#[derive(clap::Args, Debug)]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Does not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// Exit 1 if one of them was not deleted.
pub(super) fn run(args: &DiscardArgs) -> ExitCode {
    if let Err(why) = args.selection.check() {
        return wrong(why);
    }
    if !args.yes && !stdin().is_terminal() {
        return wrong("discarded dead letters cannot be restored: add --yes, as there is no terminal to ask on");
    }
    let flags = args.access.flags();
    let (mut logs, mut ids) = (None, None);
    let listed = with_api(&flags, &mut logs, None, async |api| {
        ids = Some(args.selection.ids(api).await?);
        Ok(())
    });
    let Some(ids) = ids else { return listed };
    // While it asks, it holds no store: a bridge may start.
    match agreed(&ids, args.yes) {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(error) => return failed(&error),
    }
    with_api(&flags, &mut logs, None, async |api| {
        let failed = discard(api, ids).await?;
        anyhow::ensure!(failed == 0, "{failed} not discarded");
        Ok(())
    })
}

/// Whether there is something to discard, and the operator wants that.
///
/// # Errors
/// The operator does not.
fn agreed(ids: &[u64], yes: bool) -> anyhow::Result<bool> {
    if ids.is_empty() {
        return line("no dead letter matches").map(|()| false);
    }
    anyhow::ensure!(yes || confirmed(question(ids.len()))?, "nothing was discarded");
    Ok(true)
}

/// Returns how many failed.
async fn discard(api: &BridgeApi, ids: Vec<u64>) -> anyhow::Result<usize> {
    let mut failed = 0;
    for id in ids {
        match api.call(Method::DELETE, &format!("{PATH}/{id}")).await {
            Ok(_) => line(format_args!("{id:>5}  discarded"))?,
            Err(error) if error.is::<CallRefused>() => {
                failed += 1;
                note(format_args!("{id:>5}  not discarded: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(failed)
}

fn question(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("discard {count} dead letter{plural}? They cannot be restored.")
}
