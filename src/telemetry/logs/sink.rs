//! Writes log lines on a thread of its own: standard error may be a pipe whose reader stands still, or a full disk, and
//! neither may stop a delivery. Lines that find no room, or cannot be written, are counted.

use std::io::{Result, Write, stderr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Most lines that wait to be written.
const MOST_LINES: usize = 4096;

/// Lines that found no room.
static NO_ROOM: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that could not be written.
static NOT_WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Log lines lost since the process started.
pub fn lines_lost() -> u64 {
    let no_room = NO_ROOM.get().map_or(0, ErrorCounter::dropped_lines);
    no_room as u64 + NOT_WRITTEN.load(Ordering::Relaxed)
}

/// Starts the thread.
pub(super) fn start() -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST_LINES).thread_name("log");
    let (writer, guard) = builder.finish(StandardError { reported: 0 });
    let _ = NO_ROOM.set(writer.error_counter()); // a second call's lines are not used
    (writer, guard)
}

/// Standard error. Never fails.
struct StandardError {
    /// Lost lines that the log tells of.
    reported: u64,
}

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        if stderr().write_all(line).is_err() {
            NOT_WRITTEN.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let lost = lines_lost();
        if lost > self.reported {
            let lines = lost - self.reported;
            self.reported = lost;
            tracing::warn!(lines, "log lines were lost: standard error could not be written fast enough");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
