//! Logs: text on a terminal, else one JSON object a line; always on stderr, as stdout is for results.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What is logged when nothing else is asked for: our own state changes, and only the errors of the client libraries
/// (each repeats an outage in its own words).
const DEFAULT: &str = "info,async_nats=error,lapin=error,rdkafka=error,librdkafka=error,hyper=warn";

/// What no filter brings back: these print whole messages, with the signed URLs in them, or credentials.
const NEVER: [&str; 2] = ["lapin::returned_messages=off", "async_nats::connection=off"];

/// Starts logging. `filter` is a list of directives as `tracing` reads them, such as `debug` or `hookbridge=debug`.
/// Called a second time, it does nothing.
pub fn init(filter: Option<&str>) {
    let filter = filter.and_then(|filter| EnvFilter::try_new(filter).ok()).unwrap_or_else(|| EnvFilter::new(DEFAULT));
    let never = NEVER.iter().filter_map(|directive| directive.parse().ok());
    let filter = never.fold(filter, EnvFilter::add_directive);
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let _ = if terminal { logs.with_target(false).try_init() } else { logs.json().flatten_event(true).try_init() };
}
