//! Tickets that are unique forever (P12).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Ticket;

/// Draws the tickets of one process.
#[derive(Debug)]
pub(super) struct Tickets {
    process: u64,
    next: AtomicU64,
}

impl Default for Tickets {
    fn default() -> Self {
        Tickets { process: rand::random(), next: AtomicU64::new(0) }
    }
}

impl Tickets {
    /// A ticket that did not exist before.
    pub(super) fn draw(&self) -> Ticket {
        Ticket { process: self.process, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tickets_are_drawn_once() {
        let (one, other) = (Tickets::default(), Tickets::default());
        let drawn: BTreeSet<_> = (0..100).flat_map(|_| [one.draw(), other.draw()]).collect();
        assert_eq!(drawn.len(), 200);
    }
}
