//! What commands read before they start: settings, signing keys and the log filter, from flags, environment and file.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use super::args::{KeyArgs, SettingsArgs};
use super::exit::{USAGE, mistakes};
use super::output::note;
use crate::config::{Loaded, Settings, keys_given, load, log_filter, quoted};
use crate::settings_file::why;
use crate::signature::Key;
use crate::source::{Source, VIDEOGEN};
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
    warnings(&loaded);
    Ok(loaded.settings)
}

/// Prints the warnings about settings: as log lines where these are JSON.
pub(super) fn warnings(loaded: &Loaded) {
    for warning in &loaded.warnings {
        if logs::are_json() {
            tracing::warn!("{warning}");
        } else {
            note(format_args!("warning: {warning}"));
        }
    }
}

/// What `send` signs with, and where its source is served.
pub(super) struct SendingSource {
    pub(super) key: Key,
    /// The URL of the source on this machine.
    pub(super) url: String,
    /// The source, if a configuration was read.
    pub(super) source: Option<Source>,
}

/// Whether there is a configuration file.
pub(super) fn names_file(args: &KeyArgs) -> bool {
    args.config.is_some() || process_environment("HOOKBRIDGE_CONFIG").is_some_and(|path| !path.is_empty())
}

/// The source of that name, or else `videogen` or the first one. Its key comes from flags or environment, else from the
/// configuration; a source that is named in a configuration file signs with its own key unless flags give another.
///
/// # Errors
/// The exit code: there is no such source, no key can sign, or one cannot be read.
pub(super) fn sending_source(args: &KeyArgs, name: Option<&str>) -> Result<SendingSource, ExitCode> {
    let flags = args.flags();
    let named_in_file = name.is_some() && names_file(args);
    let variable = |name: &str| process_environment(name).filter(|_| !named_in_file);
    let given = keys_given(&flags, &variable).map_err(|all| mistakes(&all))?;
    let (source, url) = if given.is_empty() || named_in_file {
        let settings = load(&flags, &process_environment).map_err(|all| mistakes(&all))?.settings;
        let listen = local(settings.listen);
        let source = find_source(settings.sources, name)?;
        let url = format!("http://{listen}{}", source.path);
        (Some(source), url)
    } else {
        (None, format!("http://127.0.0.1:8080/webhooks/{}", name.unwrap_or(VIDEOGEN)))
    };
    let keys: Result<Vec<Key>, _> = given.iter().map(|key| Key::parse(key.expose())).collect();
    let given = keys.map_err(|fault| wrong(fault.advice()))?;
    let mut keys = given.iter().chain(source.iter().flat_map(|source| &source.keys).filter(|_| given.is_empty()));
    let key = keys.find(|key| matches!(key, Key::Shared(_))).cloned();
    let advice = "no secret can sign: give --secret whsec_… (a public key whpk_… can only verify)";
    Ok(SendingSource { key: key.ok_or_else(|| wrong(advice))?, url, source })
}

/// The address at which this machine reaches a listener.
pub(super) fn local(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(if listener.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listener
}

/// The source of that name, or else `videogen` or the first one.
///
/// # Errors
/// The exit code: there is none.
pub(super) fn find_source(sources: Vec<Source>, name: Option<&str>) -> Result<Source, ExitCode> {
    let names: Vec<String> = sources.iter().map(|source| format!("`{}`", source.name)).collect();
    let wanted = name.unwrap_or(VIDEOGEN);
    let index = sources.iter().position(|source| *source.name == *wanted).or(name.is_none().then_some(0));
    let found = index.and_then(|index| sources.into_iter().nth(index));
    found.ok_or_else(|| wrong(format_args!("--source: {}: expected {}", quoted(wanted), names.join(" or "))))
}

/// The content of a file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_body(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes),
        path => std::fs::read(path),
    };
    read.map_err(|error| format!("--body: {} cannot be read: {}", quoted(path), why(Path::new(path), &error)))
}

/// Prints what is wrong with the usage of a command.
pub(super) fn wrong(message: impl Display) -> ExitCode {
    note(message);
    ExitCode::from(USAGE)
}

/// Starts logging with the filter in `HOOKBRIDGE_LOG`. The log is written as long as the value is kept.
///
/// # Errors
/// The exit code: the filter is not valid.
pub(super) fn start_logging() -> Result<Logs, ExitCode> {
    logs::init(log_filter(&process_environment).as_deref()).map_err(wrong)
}
