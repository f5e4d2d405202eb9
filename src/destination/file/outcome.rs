//! Errors of the operating system → [`Failure`] and [`Outcome`]. Pure.

use std::io;

use super::topic_file::{EXTENSION, WriteError};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// The failure of an action.
pub(super) fn failure(action: &str, error: &io::Error) -> Failure {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let reason = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Reason::Full,
        _ => Reason::Io,
    };
    Failure::new(reason, format!("{action}: {error}"))
}

/// The outcome of the publishes whose lines were written to a topic's file.
pub(super) fn outcome(topic: &str, written: Result<(), WriteError>) -> Outcome {
    let failure = |error| failure(&format!("cannot write {topic}.{EXTENSION}"), &error);
    match written {
        Ok(()) => Outcome::Confirmed,
        Err(WriteError::NotWritten(error)) => Outcome::Again(failure(error)),
        Err(WriteError::MaybeWritten(error)) => Outcome::Unknown(failure(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_writes() {
        use io::ErrorKind::{Other, PermissionDenied, QuotaExceeded, StorageFull};
        let again = |kind: io::ErrorKind| outcome("a", Err(WriteError::NotWritten(kind.into())));
        let unknown = |kind: io::ErrorKind| outcome("a", Err(WriteError::MaybeWritten(kind.into())));
        for (outcome, word, reason) in [
            (outcome("a", Ok(())), "confirmed", None),
            (again(StorageFull), "again", Some(Reason::Full)),
            (again(QuotaExceeded), "again", Some(Reason::Full)),
            (again(PermissionDenied), "again", Some(Reason::Io)),
            (unknown(StorageFull), "unknown", Some(Reason::Full)),
            (unknown(Other), "unknown", Some(Reason::Io)),
        ] {
            assert_eq!((outcome.word(), outcome.failure().map(|failure| failure.reason)), (word, reason));
        }
    }
}
