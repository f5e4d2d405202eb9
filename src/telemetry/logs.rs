//! Logs: text on a terminal, else one JSON object per line. They go to stderr; stdout is for results.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// The default: our own state changes, and only errors of the client libraries, since each repeats an outage in its own
/// words.
const DEFAULT: &str = "info,async_nats=error,lapin=error,rdkafka=error,librdkafka=error,hyper=warn";

/// Always off, whatever the filter: these print whole messages with their signed URLs, or credentials.
const NEVER: [&str; 2] = ["lapin::returned_messages=off", "async_nats::connection=off"];

/// Whether log lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Starts logging. `filter` is a list of `tracing` directives such as `debug` or `hookbridge=debug`. A second call does
/// nothing.
///
/// # Errors
/// The filter cannot be read, or would turn off every line. The text says what is expected.
pub fn init(filter: Option<&str>) -> Result<(), String> {
    let filter = match filter {
        None => EnvFilter::new(DEFAULT),
        Some(text) => parse(text).ok_or_else(|| {
            format!("HOOKBRIDGE_LOG: `{text}` is not a filter: expected a level (error, warn, info, debug, trace) or parts such as hookbridge=debug")
        })?,
    };
    let never = NEVER.iter().filter_map(|directive| directive.parse().ok());
    let filter = never.fold(filter, EnvFilter::add_directive);
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        let _ = logs.with_target(false).try_init();
    } else if logs.json().flatten_event(true).try_init().is_ok() {
        JSON.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether an error is logged as a JSON line: then whatever else goes to stderr should be one too.
pub fn are_json() -> bool {
    JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR)
}

/// `tracing` would read a word that is no level as the name of a module, and turn off all others.
fn parse(text: &str) -> Option<EnvFilter> {
    let level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let meant = parts.iter().all(|part| level(part.rsplit_once('=').map_or(*part, |(_, level)| level)));
    EnvFilter::try_new(parts.join(",")).ok().filter(|_| meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["debug", "info,lapin=trace", "hookbridge=debug", "warn, hookbridge::ingress=debug", "off"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["nonsense", "hook=bar=baz", "hookbridge", "info,lapin=loud", ","] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
