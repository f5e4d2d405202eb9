//! Whether a thread of the store can do its work; also when it has ended, in whatever way.

use std::sync::Arc;

use parking_lot::Mutex;

use super::store;
use crate::reason::Failure;

/// What others see of a thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Broken(Arc<Mutex<Option<Failure>>>);

/// The thread's own end: when it is dropped, the thread is no more.
pub(super) struct Ends {
    broken: Broken,
    name: &'static str,
}

impl Broken {
    pub(super) fn ends(&self, name: &'static str) -> Ends {
        Ends { broken: self.clone(), name }
    }

    pub(super) fn health(&self) -> Result<(), Failure> {
        self.0.lock().clone().map_or(Ok(()), Err)
    }
}

impl Ends {
    pub(super) fn is_broken(&self) -> bool {
        self.broken.0.lock().is_some()
    }

    /// Notes how it stands, and says whether it was broken before.
    pub(super) fn now(&self, fault: Option<Failure>) -> bool {
        std::mem::replace(&mut *self.broken.0.lock(), fault).is_some()
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.now(Some(store("use", &format_args!("the ledger's {} has ended", self.name))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_is_noticed_however_it_ends() {
        let broken = Broken::default();
        let ends = broken.ends("writer");
        assert!(!ends.now(Some(store("write", &"full"))));
        assert!(broken.health().is_err() && ends.now(None) && broken.health().is_ok());
        let thread = std::thread::spawn(move || {
            let _ends = ends;
            std::panic::resume_unwind(Box::new("a bug"));
        });
        assert!(thread.join().is_err());
        assert!(broken.health().unwrap_err().detail.contains("writer has ended"));
    }
}
