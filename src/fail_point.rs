//! Steps between which a test kills the process (`tests/kills.rs`). Release builds contain none of it.
//!
//! With `HOOKBRIDGE_FAIL_POINT=Confirmed:3`, the process kills itself when it comes to [`Step::Confirmed`] for the third
//! time, as `kill -9` would: no destructor runs and nothing is flushed.

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The store's log was moved into the database.
    Checkpointed,
    /// What an earlier process left in the spool is about to be published.
    Draining,
    /// A delivery is claimed, and nothing of it is stored or published.
    Claimed,
    /// The broker's client has a message, which has no outcome yet.
    Publishing,
    /// The broker has confirmed, and nothing knows it but this process.
    Confirmed,
    /// A target can never take the event, and its dead letter is not kept yet.
    Never,
    /// All writes of a commit were made, and the commit was not.
    Writing,
    /// Recent ids are where all ids are, and still where they were.
    Moved,
    /// A commit is durable, and nothing knows it but the store.
    Committed,
    /// The ledger has the facts of a delivery, and the request is not answered.
    Recorded,
    /// The spool has the event, and its lanes do not know it.
    Accepted,
    /// The answer is about to be sent.
    Answering,
    /// An event of the spool is settled, and the spool still has it.
    Settling,
    /// An event of the spool is settled and deleted.
    Settled,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 14] = [
        Step::Checkpointed,
        Step::Draining,
        Step::Claimed,
        Step::Publishing,
        Step::Confirmed,
        Step::Never,
        Step::Writing,
        Step::Moved,
        Step::Committed,
        Step::Recorded,
        Step::Accepted,
        Step::Answering,
        Step::Settling,
        Step::Settled,
    ];
}

/// Kills the process if a test has asked for it at this step.
#[cfg(debug_assertions)]
pub fn fail_point(step: Step) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static AT: OnceLock<Option<(Step, u32)>> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);
    #[allow(clippy::disallowed_methods, reason = "set by a test, and no part of the configuration")]
    let asked = || {
        let text = std::env::var("HOOKBRIDGE_FAIL_POINT").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((Step::ALL.into_iter().find(|step| format!("{step:?}") == name)?, times.parse().ok()?))
    };
    if let Some((at, times)) = AT.get_or_init(asked)
        && *at == step
        && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == *times
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub const fn fail_point(_: Step) {}
