//! File descriptors: connections must leave enough of them for brokers, the store and files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What everything but webhook connections may need: topic files, broker connections, the store, the admin listener.
const RESERVE: u64 = 512;

/// Raises the process's limit on open files as far as the system allows, and returns how many of the wanted connections
/// fit.
pub fn room(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current, // refused: the limit stays unchanged
    };
    let Some(most) = most else { return wanted }; // no limit
    let room = usize::try_from(left(most)).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            open_files = most,
            connections = room,
            wanted,
            "fewer connections than limits.connections: raise the limit on open files"
        );
    }
    wanted.min(room)
}

/// All but the reserve, and at least half of a small limit.
fn left(most: u64) -> u64 {
    most.saturating_sub(RESERVE).max(most / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept() {
        for (most, connections) in [(1_048_576, 1_048_064), (1024, 512), (200, 100), (1, 1)] {
            assert_eq!(left(most), connections);
        }
        assert_eq!(room(1), 1);
    }
}
