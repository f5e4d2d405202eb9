//! What the plots are made of.

use super::row::Row;

/// What a plot shows.
pub struct Growth {
    pub title: &'static str,
    /// The text of a value of the horizontal axis.
    pub label: fn(f64) -> String,
}

/// A point of a curve, once for each figure.
pub struct Sample {
    pub curve: String,
    pub x: f64,
    pub figures: Vec<(&'static str, f64)>,
}

impl Sample {
    /// From one run.
    pub fn of(curve: &str, x: u64, row: &Row) -> Sample {
        let answered: u64 = row.answers.values().sum();
        let figures = vec![
            ("CPU s / 1,000", row.cpu_s_per_1000),
            ("deliveries/s", row.rate),
            ("p50 ms", row.p50_ms),
            ("p99 ms", row.p99_ms),
            ("peak MiB", row.peak_mib),
            ("not 2xx, %", row.failed() as f64 / answered.max(1) as f64 * 100.0),
        ];
        Sample { curve: curve.to_owned(), x: x as f64, figures }.reported()
    }

    /// Printed, so that long measurements show how far they are.
    pub fn reported(self) -> Sample {
        eprintln!("{} at {}: {:?}", self.curve, self.x, self.figures);
        self
    }
}
