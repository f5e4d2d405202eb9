//! The goals of the bridge.

use super::case::{Mode, To};

/// Most p99 at half the highest rate, in milliseconds.
pub const MOST_P99_MS: f64 = 10.0;
/// Most p99.9 at half the highest rate, in milliseconds.
pub const MOST_P999_MS: f64 = 50.0;

/// Most memory in MiB, and the number of connections up to which that is the goal.
pub const MOST_MIB: (f64, usize) = (64.0, 64);
/// With one connection: most milliseconds of p50 beyond the broker's confirm and one commit.
pub const MOST_OVERHEAD_MS: f64 = 1.0;

/// Most CPU time of the bridge, as a multiple of the floor's.
pub fn most_cpu(to: To, mode: Mode) -> Option<f64> {
    let (memory, embedded) = match to {
        To::Nothing => (1.6, 3.0),
        To::Nats => (3.0, 4.5),
        To::Kafka | To::Rabbitmq => (4.0, 5.5),
        To::File => return None,
    };
    match mode {
        Mode::Memory => Some(memory),
        Mode::Embedded => Some(embedded),
        Mode::Stored | Mode::Down => None,
    }
}

/// Least rate, as a multiple of Bento's, which also verifies, deduplicates, normalizes and routes.
pub fn least_of_bento(to: To, mode: Mode) -> Option<f64> {
    match (to, mode) {
        (To::Nats, Mode::Memory) => Some(5.0),
        (To::Nats, Mode::Embedded) => Some(3.0),
        (To::Kafka, Mode::Memory) => Some(4.0),
        (To::Kafka, Mode::Embedded) => Some(2.5),
        (To::Rabbitmq, Mode::Memory) => Some(3.5),
        _ => None,
    }
}

/// Least rate, as a share of the native client's.
pub fn least_of_native(to: To, mode: Mode) -> Option<f64> {
    (to == To::Rabbitmq && mode == Mode::Memory).then_some(0.6)
}

/// The mode that a mode is compared with, and its least rate as a share of that one's.
pub fn least_of_other(to: To, mode: Mode) -> Option<(Mode, f64)> {
    match (mode, to.broker()) {
        (Mode::Stored, Some(_)) => Some((Mode::Embedded, 0.9)),
        (Mode::Down, Some(_)) => Some((Mode::Stored, 0.8)),
        _ => None,
    }
}

/// Bento's rate as a share of the floor's, as measured on 2026-11-25 on one machine: Bento 1.20, medians of 3 × 8 s, 64
/// connections, 680-byte deliveries.
pub fn bento_of_floor(to: To) -> Option<f64> {
    const FLOOR: f64 = 47_828.0;
    match to {
        To::Nats => Some(4_056.0 / FLOOR),
        To::Kafka => Some(3_948.0 / FLOOR),
        To::Rabbitmq => Some(2_593.0 / FLOOR),
        To::Nothing | To::File => None,
    }
}
