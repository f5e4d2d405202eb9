//! The conformance suite: what every destination must do ([`cases`], [`faults`]), and the destinations ([`Subject`]).
#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "several test binaries share this module, and none uses all of it"
)]

pub mod bench;
pub mod cases;
pub mod faults;
pub mod file;
pub mod kafka;
pub mod nats;
pub mod place;
pub mod rabbitmq;
pub mod subject;
pub mod tally;

pub use subject::{Differences, Ending, Stored, Subject};

/// `name: Type;` creates a module `name` with every case as a test on the [`Subject`] `Type`.
macro_rules! conformance {
    ($($name:ident: $subject:ty;)*) => {
        $(mod $name { $crate::suite::every_case!($subject); })*
    };
}

/// The cases. Each is an `async fn<S: Subject>()`.
macro_rules! every_case {
    ($subject:ty) => {
        $crate::suite::every_case!($subject, cases:
            confirmed_event_is_stored, structured_event_is_stored, signature_is_forwarded, order_is_kept_under_load,
            same_id_twice, two_topics_each_get_a_copy, unknown_topic, refused_then_accepted, too_large_is_never,
            dropped_publish_is_still_stored, close_flushes, verify_creates_nothing, probe_describes);
        $crate::suite::every_case!($subject, faults:
            starts_while_down, outage_loses_nothing, restarts_lose_nothing, frozen_broker_times_out,
            short_freeze_is_survived);
    };
    ($subject:ty, $module:ident: $($case:ident),*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $case() {
            use $crate::suite;
            suite::$module::$case::<$subject>().await;
        })*
    };
}

pub(crate) use {conformance, every_case};
