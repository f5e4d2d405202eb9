//! `hookbridge dead-letters discard`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _, stderr, stdin};
use std::process::ExitCode;

use axum::http::Method;

use super::selection::{PATH, SelectionArgs};
use crate::cli::args::AccessArgs;
use crate::cli::bridge_api::{BridgeApi, CallRefused, with_api};
use crate::cli::exit::mistakes;
use crate::cli::inputs::{process_environment, wrong};
use crate::cli::output::{line, note};
use crate::config::bridge_access;

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
    let access = match bridge_access(&flags, &process_environment) {
        Ok(access) => access,
        Err(all) => return mistakes(&all),
    };
    with_api(&flags, &access, None, async |api| {
        let failed = discard(api, args).await?;
        anyhow::ensure!(failed == 0, "{failed} not discarded");
        Ok(())
    })
}

/// Returns how many failed.
async fn discard(api: &BridgeApi, args: &DiscardArgs) -> anyhow::Result<usize> {
    let ids = args.selection.ids(api).await?;
    if ids.is_empty() {
        return line("no dead letter matches").map(|()| 0);
    }
    anyhow::ensure!(args.yes || confirmed(ids.len())?, "nothing was discarded");
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

/// Asks on standard error. No answer is a no.
fn confirmed(count: usize) -> anyhow::Result<bool> {
    let plural = if count == 1 { "" } else { "s" };
    let question = format!("discard {count} dead letter{plural}? They cannot be restored. [y/N] ");
    let _ = write!(stderr(), "{question}").and_then(|()| stderr().flush());
    let mut answer = String::new();
    stdin().lock().take(100).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
