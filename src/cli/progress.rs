//! The line that `send` keeps up to date on a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Duration;

use tokio::time::Instant;

use crate::sender::Answers;

/// Between two updates.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints only if standard error is a terminal.
pub(super) struct Progress {
    started: Instant,
    /// The last update; `None`: standard error is no terminal.
    last: Option<Instant>,
}

impl Progress {
    pub(super) fn start() -> Progress {
        let started = Instant::now();
        Progress { started, last: stderr().is_terminal().then_some(started) }
    }

    /// Updates the line, if it is time to.
    pub(super) fn update(&mut self, answers: &Answers) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) >= PAUSE) {
            self.last = Some(now);
            write(&describe(answers, now.duration_since(self.started)));
        }
    }

    /// Removes the line. Returns the time since the start.
    pub(super) fn end(self) -> Duration {
        if self.last.is_some() {
            write("");
        }
        self.started.elapsed()
    }
}

fn write(line: &str) {
    // ESC [ K clears the rest of the terminal's line. There is no place to report a failure.
    let _ = write!(stderr(), "\r{line}\x1b[K").and_then(|()| stderr().flush());
}

fn describe(answers: &Answers, since: Duration) -> String {
    let counts: Vec<String> = answers.counts.iter().map(|(answer, count)| format!("{count} × {answer}")).collect();
    let last = answers.times.last().map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    format!("{} answers, {:.0}/s, last {last:.1} ms: {}", answers.all, rate(answers.all, since), counts.join(", "))
}

/// Answers per second.
pub(super) fn rate(count: u64, within: Duration) -> f64 {
    count as f64 / within.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_rate_answers_and_latency() {
        let counts = [("200 accepted".to_owned(), 90), ("503 full".to_owned(), 10)].into();
        let answers = Answers { counts, good: 90, all: 100, times: vec![Duration::from_micros(1_234)] };
        let expected = "100 answers, 50/s, last 1.2 ms: 90 × 200 accepted, 10 × 503 full";
        assert_eq!(describe(&answers, Duration::from_secs(2)), expected);
        assert_eq!(rate(5, Duration::ZERO), 5000.0);
    }
}
