//! The library's pure modules and nothing else: with the clients of the brokers, every build of a fuzz target would take
//! minutes.

#[path = "../../../src"]
#[allow(dead_code, reason = "the rest of the library uses it")]
mod library {
    pub mod config;
    pub mod delivery;
    pub mod event;
    pub mod naming;
    pub mod normalize;
    pub mod protocol;
    pub mod reason;
    pub mod route;
    pub mod signature;
    pub mod template;
}

pub use library::*;

/// What routes make; the same as in the library, whose own module brings the clients.
pub mod destination {
    use std::sync::Arc;

    #[derive(Clone, Debug)]
    pub struct Message {
        pub event: Arc<crate::event::Event>,
        pub topic: Arc<str>,
        pub key: Option<String>,
    }

    impl Message {
        pub fn key(&self) -> Option<&str> {
            self.key.as_deref().or(self.event.partitionkey.as_deref())
        }
    }
}
