//! Logs: text on a terminal, else one JSON object per line. They go to stderr; stdout is for results.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

pub use sink::lines_lost;

mod sink;

/// The default: our own state changes, and only errors of the client libraries, since each repeats an outage in its own
/// words; lapin logs even those once for every channel.
const DEFAULT: &str = "info,async_nats=error,lapin=off,rdkafka=error,librdkafka=error,hyper=warn";

/// Always off, whatever the filter: these print whole messages with their signed URLs, or credentials.
const NEVER: [&str; 2] = ["lapin::returned_messages=off", "async_nats::connection=off"];

/// Whether log lines are JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// The log's thread. Dropping it writes what is left, for a second at most.
#[must_use = "lines may be lost if this is not kept until the process ends"]
pub struct Logs {
    _thread: WorkerGuard,
}

/// Starts logging. `filter` is a list of `tracing` directives such as `debug` or `hookbridge=debug`. A second call changes
/// nothing.
///
/// # Errors
/// The filter cannot be read, or would turn off every line. The text says what is expected.
pub fn init(filter: Option<&str>) -> Result<Logs, String> {
    let directives = match filter {
        None => EnvFilter::new(DEFAULT),
        Some(text) => parse(text).ok_or_else(|| {
            format!("HOOKBRIDGE_LOG: `{text}` is not a filter: expected a level (error, warn, info, debug, trace) or parts such as hookbridge=debug")
        })?,
    };
    let (writer, thread) = sink::start();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let terminal = stderr().is_terminal();
    let layer = if terminal {
        layer.with_target(false).boxed()
    } else {
        layer.with_ansi(false).json().flatten_event(true).boxed()
    };
    if filtered(directives).with(layer).try_init().is_ok() {
        JSON.store(!terminal, Ordering::Relaxed);
        // The default hook would write to standard error from whatever thread panics, and could wait there for its reader.
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
            tracing::error!(backtrace, "{panic}");
        }));
    }
    Ok(Logs { _thread: thread })
}

/// Lets through what the directives ask for, without what no filter may bring into the log. The filters are not those of a
/// layer: when the crate `log` asks such a filter about a line, the filter drops the next line of the same thread.
fn filtered(directives: EnvFilter) -> Layered<FilterFn, Layered<EnvFilter, Registry>> {
    let never = NEVER.iter().filter_map(|directive| directive.parse().ok());
    let directives = never.fold(directives, EnvFilter::add_directive);
    tracing_subscriber::registry().with(directives).with(filter_fn(is_harmless))
}

/// Client libraries print whole frames at `trace`, as text or as lists of numbers.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().starts_with(env!("CARGO_PKG_NAME"))
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
    use std::io::Read as _;

    use super::*;

    #[test]
    fn no_filter_brings_back_the_frames_of_clients() {
        for text in
            ["trace", "lapin=trace,async_nats=trace,hookbridge=trace", "off,lapin::frames=trace,hookbridge=trace"]
        {
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            let layer = tracing_subscriber::fmt::layer().with_writer(std::sync::Arc::new(writer));
            let filtered = filtered(parse(text).expect("a filter"));
            tracing::subscriber::with_default(filtered.with(layer), || {
                tracing::trace!(target: "lapin::frames", "frame");
                tracing::debug!(target: "async_nats::connection", "frame");
                tracing::error!(target: "lapin::returned_messages", "frame");
                tracing::trace!("ours");
            });
            let mut log = String::new();
            reader.read_to_string(&mut log).expect("UTF-8");
            assert!(log.contains("ours") && !log.contains("frame"), "{text}: {log}");
        }
    }

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
