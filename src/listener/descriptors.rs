//! Open files: connections must leave enough of them for brokers, the ledger and files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What everything but webhook connections may need: files of topics, connections to brokers, the ledger, the admin listener.
const RESERVE: u64 = 512;

/// How many of the wanted connections there is room for, once the process may open as many files as the system allows it.
pub fn room(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current, // refused: then it stays as it is
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

/// Half of them at least, where there are few.
fn left(most: u64) -> u64 {
    most.saturating_sub(RESERVE).max(most / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept() {
        for (most, connections) in [(1_048_576, 1_048_064), (1024, 512), (200, 100), (1, 1)] {
            assert_eq!(left(most), connections);
        }
        assert_eq!(room(1), 1);
    }
}
