//! The conformance suite: what every destination must do ([`cases`]), and what it is tried on ([`Subject`]).
#![allow(dead_code, unused_macros, unused_imports, reason = "three test binaries share it, and none uses all of it")]

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

/// `name: Type;` makes a module `name` with every case as a test on the [`Subject`] `Type`.
macro_rules! conformance {
    ($($name:ident: $subject:ty;)*) => {
        $(mod $name { $crate::suite::every_case!($subject); })*
    };
}

/// The list of cases. A case is `async fn<S: Subject>()`.
macro_rules! every_case {
    ($subject:ty) => {
        $crate::suite::every_case!($subject, cases:
            confirmed_can_be_read_back, structured_can_be_read_back, signature_goes_along, order_is_kept_under_load,
            same_id_twice, two_topics_get_a_copy_each, unknown_topic, refused_then_taken, too_large_is_never,
            nobody_waits_and_still_published, close_flushes, verify_makes_nothing, probe_tells);
        $crate::suite::every_case!($subject, faults:
            starts_while_down, outage_and_return, restart_is_survived, freeze_times_out, freeze_ends_in_time);
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
