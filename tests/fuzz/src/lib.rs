//! The library's pure modules, included by path, without the rest: the clients of the brokers would make every build of a
//! fuzz target take minutes.

#[path = "../../../src"]
#[allow(dead_code, reason = "the rest of the library uses it")]
mod library {
    pub mod config;
    pub mod delivery;
    pub mod event;
    pub mod message;
    pub mod naming;
    pub mod normalize;
    pub mod protocol;
    pub mod reason;
    pub mod route;
    pub mod secret;
    pub mod settings_file;
    pub mod signature;
    pub mod source;
    pub mod template;
}

pub use library::*;

/// In the place of the library's module, which also admits requests and counts them in metrics.
#[path = "../../../src/admission"]
pub mod admission {
    mod limits;

    pub use limits::Limits;
}

/// In the place of the library's module, which also opens destinations and so needs the clients of the brokers.
#[path = "../../../src/destination"]
pub mod destination {
    #[allow(dead_code, reason = "the rest of the library uses it")]
    pub mod settings;

    /// In the place of the library's module, which asks the clients of the brokers.
    pub mod precheck {
        use std::time::Duration;

        use super::settings::{DestinationSettings, SettingFault};
        use crate::secret::Secret;

        pub fn faults(_: &DestinationSettings, _: usize, _: Duration) -> Vec<SettingFault> {
            Vec::new()
        }

        pub fn property_fault(_: &str, _: &Secret) -> Option<&'static str> {
            None
        }
    }
}

/// In the place of the library's module, which also compresses bodies and writes objects.
#[path = "../../../src/oversize"]
pub mod oversize {
    pub mod settings;
}
