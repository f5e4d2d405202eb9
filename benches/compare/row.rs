//! The figures of one run of a case.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub repeat: usize,
    /// Good answers a second.
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// Of the server's process.
    pub cpu_s_per_1000: f64,
    pub peak_mib: f64,
    /// By status; 0: none.
    pub answers: BTreeMap<u16, u64>,
}

impl Row {
    /// Answers that are not 2xx.
    pub fn failed(&self) -> u64 {
        self.answers.iter().filter(|(status, _)| !(200..300).contains(*status)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, rate, p50_ms, p99_ms, cpu_s_per_1000, answers, .. } = self;
        write!(
            f,
            "{name}: {rate:.0}/s, p50 {p50_ms:.2} ms, p99 {p99_ms:.1} ms, {cpu_s_per_1000:.4} CPU s/1000, {answers:?}"
        )
    }
}
