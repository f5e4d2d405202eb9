//! How a command ends: its exit code, and the error that it prints.

use std::io::Write as _;
use std::process::ExitCode;

use super::output::note;
use crate::config::Mistakes;
use crate::telemetry::logs;

/// The exit code of a command that failed.
pub(super) const FAILED: u8 = 1;
/// The exit code for wrong usage or configuration.
pub(super) const USAGE: u8 = 2;

/// Prints clap's message about a wrong command line, or the text of `--help`. A message that may contain a secret is
/// replaced, because clap quotes the arguments it rejects.
pub fn wrong_usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.use_stderr() && may_contain_secret(&text) {
        note(
            "error: unexpected argument (not shown, as it may be a secret): give each secret with its own --secret and \
             each URL with its own option (see hookbridge --help)",
        );
    } else if error.use_stderr() {
        let _ = error.print(); // there is no other place to report that standard error is closed
    } else if let Err(error) = error.print().and_then(|()| std::io::stdout().flush()) {
        return failed(&anyhow::Error::new(error).context("cannot write to standard output"));
    }
    ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
}

fn may_contain_secret(text: &str) -> bool {
    ["whsec_", "whsk_", "whpk_"].iter().any(|prefix| text.contains(prefix))
        || (text.contains("://") && text.contains('@'))
}

/// Runs a command's work on a runtime, and prints its error with the causes.
pub(super) fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(work);
    // Does not wait for the threads of client libraries: the command has already closed what must be closed in order.
    runtime.shutdown_background();
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

/// Prints an error with its causes: as a log line where these are JSON, so that whatever reads them can read it too.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    if logs::are_json() {
        tracing::error!("{error:#}");
    } else {
        note(format_args!("{error:#}"));
    }
    ExitCode::from(FAILED)
}

/// Prints the mistakes in a configuration: as log lines where these are JSON.
pub(super) fn mistakes(mistakes: &Mistakes) -> ExitCode {
    if logs::are_json() {
        mistakes.0.iter().for_each(|mistake| tracing::error!("{mistake}"));
    } else {
        note(mistakes);
    }
    ExitCode::from(USAGE)
}
