//! How large and how safe a new stream is: the recommended settings, reduced to what the server allows.

use std::time::Duration;

const REPLICAS: u64 = 3;
const MAX_BYTES: u64 = 10 << 30;
/// A stream of less is of no use.
const LEAST_BYTES: u64 = 16 << 20;
/// The recommended duplicate window.
pub(super) const WINDOW: Duration = Duration::from_secs(2 * 3600);
const LEAST_WINDOW: Duration = Duration::from_secs(60);

/// The settings of a new stream that a server may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamSize {
    pub(super) replicas: u64,
    pub(super) bytes: u64,
    pub(super) window: Duration,
}

impl StreamSize {
    /// The recommended settings, in a cluster or on a single server.
    pub(super) fn recommended(cluster: bool) -> Self {
        StreamSize { replicas: if cluster { REPLICAS } else { 1 }, bytes: MAX_BYTES, window: WINDOW }
    }

    /// What to try after the server refused these settings with an error; `None` if less does not help.
    pub(super) fn reduced(mut self, code: u64, text: &str) -> Option<Self> {
        // In a cluster, the server reports a lack of room as a lack of servers.
        let no_room = match code {
            10005 => text.contains("insufficient storage"),
            code => matches!(code, 10002 | 10023 | 10047 | 10122),
        };
        // An offline server comes back, but a stream would keep its one replica. So the next attempt asks for all
        // again.
        let fewer = self.replicas > 1 && !text.contains("offline");
        match code {
            _ if no_room && self.bytes / 2 >= LEAST_BYTES => self.bytes /= 2,
            _ if no_room && fewer => (self.replicas, self.bytes) = (1, MAX_BYTES),
            // Too few servers; replicas without a cluster; no tier of the account for so many replicas.
            10005 | 10074 | 10120 if fewer => self.replicas = 1,
            10052 if text.contains("duplicates window") && self.window / 2 >= LEAST_WINDOW => self.window /= 2,
            _ => return None,
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_reduced_one_at_a_time() {
        let best = StreamSize::recommended(true);
        let one = StreamSize { replicas: 1, ..best };
        let small = StreamSize { bytes: LEAST_BYTES, ..best };
        for (size, code, text, expected) in [
            (best, 10047, "insufficient storage", Some(StreamSize { bytes: MAX_BYTES / 2, ..best })),
            (best, 10005, "insufficient storage", Some(StreamSize { bytes: MAX_BYTES / 2, ..best })),
            (small, 10047, "", Some(one)),
            (StreamSize { replicas: 1, ..small }, 10047, "", None),
            (best, 10005, "no suitable peers", Some(one)),
            (best, 10074, "", Some(one)),
            (best, 10120, "", Some(one)),
            (best, 10005, "peer offline", None),
            (one, 10005, "no suitable peers", None),
            (one, 10052, "duplicates window too large", Some(StreamSize { window: WINDOW / 2, ..one })),
            (StreamSize { window: LEAST_WINDOW, ..one }, 10052, "duplicates window too large", None),
            (one, 10052, "invalid subject", None),
            (one, 10058, "", None),
        ] {
            assert_eq!(size.reduced(code, text), expected, "{size:?} {code} {text}");
        }
    }
}
