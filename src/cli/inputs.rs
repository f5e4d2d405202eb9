//! What commands read before they start: settings, signing keys and the log filter, from flags, environment and file.

use std::ffi::OsString;
use std::process::ExitCode;

use super::args::SettingsArgs;
use super::exit::{USAGE, mistakes};
use super::output::note;
use crate::config::{Settings, keys_given, load, log_filter};
use crate::signature::Key;
use crate::telemetry::logs::{self, Logs};

/// The environment of this process, in the form that [`crate::config`] takes.
pub(super) fn process_environment(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "the one place where it is read")]
    std::env::var_os(name)
}

/// The settings from flags, environment and file. Prints warnings and mistakes to standard error.
///
/// # Errors
/// The exit code for a wrong configuration.
pub(super) fn settings(args: &SettingsArgs) -> Result<Settings, ExitCode> {
    let loaded = load(&args.flags(), &process_environment).map_err(|all| mistakes(&all))?;
    for warning in &loaded.warnings {
        note(format_args!("warning: {warning}"));
    }
    Ok(loaded.settings)
}

/// The first key that can sign: from flags or environment, else from the configuration.
///
/// # Errors
/// The exit code: no key can sign, or one cannot be read.
pub(super) fn signing_key(args: &SettingsArgs) -> Result<Key, ExitCode> {
    let given = keys_given(&args.flags(), &process_environment).map_err(|all| mistakes(&all))?;
    let keys = if given.is_empty() {
        settings(args)?.sources.into_iter().flat_map(|source| source.keys).collect()
    } else {
        let keys: Result<Vec<Key>, _> = given.iter().map(|key| Key::parse(key.expose())).collect();
        keys.map_err(|fault| {
            note(fault.advice());
            ExitCode::from(USAGE)
        })?
    };
    keys.into_iter().find(|key| matches!(key, Key::Shared(_))).ok_or_else(|| {
        note("no secret can sign: give --secret whsec_… (a public key whpk_… can only verify)");
        ExitCode::from(USAGE)
    })
}

/// Starts logging with the filter in `HOOKBRIDGE_LOG`. The log is written as long as the value is kept.
///
/// # Errors
/// The exit code: the filter is not valid.
pub(super) fn start_logging() -> Result<Logs, ExitCode> {
    logs::init(log_filter(&process_environment).as_deref()).map_err(|mistake| {
        note(mistake);
        ExitCode::from(USAGE)
    })
}
