//! The subjects that the server does not allow this user on a connection. The server names the subject of a refusal, but
//! not the message, and it does not say when a permission is granted.

use std::collections::HashMap;

use tokio::sync::watch;

/// Bounds the memory for the subjects of a connection.
const MAX_DENIED: usize = 1024;

/// Each subject with its last refusal. Refusals have ascending numbers, so that a request can tell a refusal that came
/// after it from an older one, whatever other requests to the same subject do.
#[derive(Default)]
pub(super) struct DeniedSubjects {
    log: watch::Sender<Log>,
}

#[derive(Default)]
struct Log {
    /// The number of the last refusal.
    last: u64,
    subjects: HashMap<String, u64>,
}

impl DeniedSubjects {
    /// The server refused a subject. If there are too many, the one that was refused longest ago is forgotten.
    pub(super) fn add(&self, subject: &str) {
        self.log.send_modify(|log| {
            log.last += 1;
            if log.subjects.len() >= MAX_DENIED && !log.subjects.contains_key(subject) {
                let oldest = log.subjects.iter().min_by_key(|(_, number)| **number);
                let oldest = oldest.map(|(subject, _)| subject.clone()).unwrap_or_default();
                log.subjects.remove(&oldest);
            }
            log.subjects.insert(subject.to_owned(), log.last);
        });
    }

    /// The server has taken a message to the subject.
    pub(super) fn remove(&self, subject: &str) {
        self.log.send_if_modified(|log| log.subjects.remove(subject).is_some());
    }

    /// All subjects.
    pub(super) fn subjects(&self) -> Vec<String> {
        self.log.borrow().subjects.keys().cloned().collect()
    }

    /// Waits until one of the subjects is refused after this call, and returns it.
    pub(super) fn next<'a>(&self, subjects: [&'a str; 2]) -> impl Future<Output = &'a str> + use<'a> {
        let mut log = self.log.subscribe();
        let before = log.borrow_and_update().last;
        let refused = move |log: &Log, subject: &str| log.subjects.get(subject).is_some_and(|number| *number > before);
        async move {
            loop {
                if log.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let log = log.borrow_and_update();
                if let Some(subject) = subjects.into_iter().find(|subject| refused(&log, subject)) {
                    return subject;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn only_a_later_refusal_counts() {
        let denied = DeniedSubjects::default();
        denied.add("a");
        let mut next = Box::pin(denied.next(["a", "inbox"]));
        assert_eq!((&mut next).now_or_never(), None);
        // Another request to the subject has been let through meanwhile.
        denied.remove("a");
        assert_eq!((&mut next).now_or_never(), None);
        denied.add("a");
        assert_eq!(next.await, "a");
        assert_eq!(denied.subjects(), ["a"]);
        let next = denied.next(["b", "inbox"]);
        denied.add("inbox");
        assert_eq!(next.await, "inbox");
    }

    #[tokio::test]
    async fn newest_subjects_are_kept() {
        let denied = DeniedSubjects::default();
        (0..MAX_DENIED).for_each(|number| denied.add(&number.to_string()));
        denied.add("0");
        let next = denied.next(["new", "inbox"]);
        denied.add("new");
        assert_eq!(next.await, "new");
        let subjects = denied.subjects();
        assert_eq!(subjects.len(), MAX_DENIED);
        assert!(subjects.contains(&"0".into()) && !subjects.contains(&"1".into()));
    }
}
