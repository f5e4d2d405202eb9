//! Why something was not done: one closed set of words.
//!
//! The same word is in the log, in the metric's label, in the problem's `type` and in the dead letter, so that an operator
//! can search for it everywhere. New words are added only here.

use std::borrow::Cow;
use std::fmt;

macro_rules! reasons {
    ($($variant:ident $word:literal $about:literal,)*) => {
        /// Why a delivery was not accepted, or a publish not confirmed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $about] $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// Its word.
            pub fn word(self) -> &'static str { match self { $(Reason::$variant => $word,)* } }

            /// A sentence for an operator, without secrets.
            pub fn about(self) -> &'static str { match self { $(Reason::$variant => $about,)* } }

            /// The reason of a word.
            pub fn from_word(word: &str) -> Option<Reason> { match word { $($word => Some(Reason::$variant),)* _ => None } }
        }
    };
}

reasons! {
    Unreachable "unreachable" "the broker is not connected",
    ConnectionLost "connection_lost" "the connection ended before the broker confirmed",
    Timeout "timeout" "the broker did not confirm in time",
    Busy "busy" "the destination has as much in flight as its limits allow",
    Blocked "blocked" "the broker blocks publishers (memory or disk alarm)",
    Unroutable "unroutable" "the broker has no stream, topic or queue for this name",
    NotAuthorized "not_authorized" "the broker refuses this user",
    Topology "topology" "what exists on the broker does not fit the configuration",
    Full "full" "the stream, topic or queue is full",
    Refused "refused" "the broker refused the message",
    Io "io" "the disk refused the write",
    Closing "closing" "this process is shutting down",
    ObjectStore "object_store" "the object store cannot be written",
    TooLarge "too_large" "the message is larger than the broker takes",
    IllegalName "illegal_name" "the topic name for this event is not legal on the broker",
    NotUtf8 "not_utf8" "the body is not UTF-8 text",
    NotJson "not_json" "the body is not JSON",
    NotAnObject "not_an_object" "the body is JSON, but not an object",
    NoEventName "no_event_name" "the body has no usable event name",
    Unrouted "unrouted" "no route matches, and the configuration makes such events dead letters",
    SpoolFull "spool_full" "the spool or its disk has no room for more events",
    Behind "behind" "earlier events of the same key wait in the spool",
    InFlight "in_flight" "another copy of this delivery is in flight",
    Store "store" "the ledger cannot be written or read",
    NoDeadLetters "no_dead_letters" "the store `memory` keeps no dead letters",
    DeadLettersFull "dead_letters_full" "there is no room for another dead letter",
    Failed "failed" "the work on this delivery ended unexpectedly",
}

impl Reason {
    /// Whether it passes without a change of ours: the broker is out of reach, or takes nothing now.
    pub fn is_outage(self) -> bool {
        use Reason as R;
        matches!(self, R::Unreachable | R::ConnectionLost | R::Timeout | R::Blocked | R::Busy | R::Full)
    }

    /// Whether it is about the event itself: then the delivery becomes a dead letter.
    pub fn is_about_event(self) -> bool {
        use Reason as R;
        matches!(
            self,
            R::TooLarge | R::IllegalName | R::NotUtf8 | R::NotJson | R::NotAnObject | R::NoEventName | R::Unrouted
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A [`Reason`] with the broker's or the system's own message, for the log. It never contains a body, credentials or a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// The message.
    pub detail: Cow<'static, str>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Failure { reason, detail: detail.into() }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Failure::new(reason, reason.about())
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}
