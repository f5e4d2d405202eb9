//! From what lapin says of a publish to its [`Outcome`].

use lapin::message::BasicReturnMessage;
use lapin::protocol::AMQPError;
use lapin::{Confirmation, ErrorKind};

use super::message::Encoder;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// How one publish ended, as far as lapin tells.
pub(super) enum End {
    /// Its last byte never reached the socket: the broker cannot have it.
    NotSent(lapin::Error),
    /// Sent, and then the channel or the connection ended.
    Lost(lapin::Error),
    /// Acknowledged, with the tag of the returned message that came along. lapin adds one to whichever answer comes next,
    /// so it may be another's.
    Acked(Option<u64>),
    /// Refused, likewise.
    Nacked(Option<u64>),
    /// Not asked for: the channel is not in confirm mode.
    Unasked,
}

impl End {
    /// How one ended that lapin says it did not send. Over TCP that is exact. A write over TLS is several records, each sent
    /// on its own, and when a later one fails, lapin takes none of it for sent: so only what it never queued is surely
    /// not with the broker.
    pub(super) fn unsent(error: lapin::Error, tls: bool) -> End {
        let queued = !matches!(error.kind(), ErrorKind::InvalidChannelState(_, "basic.publish"));
        if tls && queued { End::Lost(error) } else { End::NotSent(error) }
    }

    pub(super) fn of(confirmation: Confirmation, encoder: &Encoder) -> End {
        let tag =
            |message: BasicReturnMessage| encoder.tag(message.properties.message_id().as_ref(), &message.routing_key);
        match confirmation {
            Confirmation::Ack(returned) => End::Acked(returned.map(tag)),
            Confirmation::Nack(returned) => End::Nacked(returned.map(tag)),
            Confirmation::NotRequested => End::Unasked,
        }
    }
}

/// What is known of a publish that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Acknowledged. `alone`: no returned message came along, so every message that was returned before this
    /// acknowledgement came with an earlier one.
    Acked { alone: bool },
    /// Refused by a queue; another may have taken it.
    Nacked,
    /// Not asked for: the channel is not in confirm mode, which only a bug can bring about.
    Unasked,
    /// Surely not with the broker.
    NotSent,
    /// Perhaps with the broker.
    Lost,
}

impl Seen {
    /// The outcome, or `None` while it is not certain. `settled`: every publish on the channel that could hold this one's
    /// returned message has been answered.
    pub(super) fn outcome(self, returned: bool, settled: bool) -> Option<Outcome> {
        match self {
            Seen::Acked { .. } if returned => Some(Outcome::Again(Reason::Unroutable.into())),
            Seen::Acked { alone: true } => Some(Outcome::Confirmed),
            Seen::Acked { alone: false } if settled => Some(Outcome::Confirmed),
            Seen::Acked { alone: false } => None,
            Seen::Nacked => {
                Some(Outcome::Unknown(Failure::new(Reason::Refused, "a queue refused it; another may have taken it")))
            }
            Seen::Unasked => {
                Some(Outcome::Unknown(Failure::new(Reason::Failed, "the channel was not in confirm mode")))
            }
            Seen::NotSent => Some(Outcome::Again(Failure::new(
                Reason::Unreachable,
                "the connection ended before the message was sent",
            ))),
            Seen::Lost => None,
        }
    }
}

/// Why a channel ended, as far as it matters to the publishes that were on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The exchange is missing, or this user may not write to it. The broker ignores what follows on the channel, so the
    /// last message of all is surely not stored: it is the one at fault, or came after it.
    Refused(Failure),
    /// A message over the broker's limit.
    TooLarge(usize),
    /// Anything else.
    Ended,
}

impl Fault {
    pub(super) fn of(error: &lapin::Error) -> Fault {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Fault::of_protocol(error),
            _ => Fault::Ended,
        }
    }

    fn of_protocol(error: &AMQPError) -> Fault {
        let text = error.get_message().as_str();
        match error.get_id() {
            404 => Fault::Refused(Failure::new(Reason::Topology, text.to_owned())),
            403 => Fault::Refused(Failure::new(Reason::NotAuthorized, text.to_owned())),
            406 => size_limit(text).map_or(Fault::Ended, Fault::TooLarge),
            _ => Fault::Ended,
        }
    }

    /// The outcome of a publish that was on the channel, without an answer.
    pub(super) fn outcome(&self, last: bool, bytes: usize) -> Outcome {
        match self {
            Fault::Refused(failure) if last => Outcome::Again(failure.clone()),
            Fault::TooLarge(limit) if bytes > *limit => Outcome::Never(too_large(bytes, *limit)),
            _ => Outcome::Unknown(Reason::ConnectionLost.into()),
        }
    }
}

pub(super) fn too_large(bytes: usize, limit: usize) -> Failure {
    Failure::new(Reason::TooLarge, format!("{bytes} bytes, the broker takes {limit}"))
}

/// The limit in "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000".
fn size_limit(text: &str) -> Option<usize> {
    let (_, limit) = text.split_once("message size ").and_then(|(_, rest)| rest.split_once("max size "))?;
    limit.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
    use lapin::{ChannelState, ConnectionState};

    use super::*;
    use crate::destination::settings::Mode;

    #[test]
    fn each_confirmation() {
        let encoder = Encoder::new(Mode::Binary, false);
        let returned = || {
            let delivery = lapin::message::Delivery::mock(0, "events".into(), "a.b".into(), false, Vec::new());
            Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
        };
        let of = |confirmation| End::of(confirmation, &encoder);
        let tag = encoder.tag(None, &"a.b".into());
        assert!(matches!(of(Confirmation::Ack(None)), End::Acked(None)));
        assert!(matches!(of(Confirmation::Ack(returned())), End::Acked(Some(found)) if found == tag));
        assert!(matches!(of(Confirmation::Nack(None)), End::Nacked(None)));
        assert!(matches!(of(Confirmation::Nack(returned())), End::Nacked(Some(found)) if found == tag));
        assert!(matches!(of(Confirmation::NotRequested), End::Unasked));
    }

    #[test]
    fn what_lapin_says_it_did_not_send() {
        let kinds = || {
            [
                (ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.publish"), false),
                (ErrorKind::InvalidChannelState(ChannelState::Closed, "channel.close-ok received"), true),
                (ErrorKind::InvalidChannelState(ChannelState::Closing, "basic.ack"), true),
                (ErrorKind::InvalidConnectionState(ConnectionState::Closed), true),
                (ErrorKind::IOError(Arc::new(io::ErrorKind::ConnectionReset.into())), true),
                (ErrorKind::MissingHeartbeatError, true),
            ]
        };
        for (kind, perhaps) in kinds() {
            let told = format!("{kind:?}");
            assert_eq!(matches!(End::unsent(kind.into(), true), End::Lost(_)), perhaps, "TLS, {told}");
        }
        for (kind, _) in kinds() {
            assert!(matches!(End::unsent(kind.into(), false), End::NotSent(_)));
        }
    }

    fn reason(outcome: Option<Outcome>) -> (&'static str, Option<Reason>) {
        match outcome {
            None => ("open", None),
            Some(Outcome::Confirmed) => ("confirmed", None),
            Some(Outcome::Again(failure)) => ("again", Some(failure.reason)),
            Some(Outcome::Unknown(failure)) => ("unknown", Some(failure.reason)),
            Some(Outcome::Never(failure)) => ("never", Some(failure.reason)),
        }
    }

    #[test]
    fn only_an_ack_without_a_return_is_confirmed() {
        let acked = |alone| Seen::Acked { alone };
        for (seen, returned, settled, expected) in [
            (acked(true), false, false, ("confirmed", None)),
            (acked(true), false, true, ("confirmed", None)),
            (acked(false), false, false, ("open", None)),
            (acked(false), false, true, ("confirmed", None)),
            (acked(true), true, false, ("again", Some(Reason::Unroutable))),
            (acked(false), true, false, ("again", Some(Reason::Unroutable))),
            (acked(false), true, true, ("again", Some(Reason::Unroutable))),
            (Seen::Nacked, false, true, ("unknown", Some(Reason::Refused))),
            (Seen::Nacked, true, true, ("unknown", Some(Reason::Refused))),
            (Seen::Unasked, false, true, ("unknown", Some(Reason::Failed))),
            (Seen::NotSent, false, false, ("again", Some(Reason::Unreachable))),
            (Seen::Lost, false, true, ("open", None)),
        ] {
            assert_eq!(reason(seen.outcome(returned, settled)), expected, "{seen:?} {returned} {settled}");
        }
    }

    fn fault(kind: AMQPErrorKind, text: &str) -> Fault {
        Fault::of(&ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into())
    }

    #[test]
    fn codes() {
        use AMQPErrorKind::{Hard, Soft};
        let is = |fault: Fault, last, bytes| reason(Some(fault.outcome(last, bytes)));
        let lost = ("unknown", Some(Reason::ConnectionLost));

        let missing = fault(Soft(AMQPSoftError::NOTFOUND), "NOT_FOUND - no exchange 'events' in vhost '/'");
        assert_eq!(is(missing.clone(), true, 1), ("again", Some(Reason::Topology)));
        assert_eq!(is(missing, false, 1), lost);

        let forbidden = fault(Soft(AMQPSoftError::ACCESSREFUSED), "ACCESS_REFUSED - write access");
        assert_eq!(is(forbidden, true, 1), ("again", Some(Reason::NotAuthorized)));

        for text in [
            "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000",
            "PRECONDITION_FAILED - message size 2000 is larger than max size 1000",
        ] {
            let large = fault(Soft(AMQPSoftError::PRECONDITIONFAILED), text);
            assert_eq!(large, Fault::TooLarge(1000));
            assert_eq!(is(large.clone(), false, 1001), ("never", Some(Reason::TooLarge)));
            assert_eq!(is(large.clone(), true, 1000), lost, "only what is over the limit");
        }

        for other in [
            fault(Soft(AMQPSoftError::PRECONDITIONFAILED), "PRECONDITION_FAILED - unknown delivery tag 7"),
            fault(Soft(AMQPSoftError::RESOURCELOCKED), "RESOURCE_LOCKED"),
            fault(Hard(AMQPHardError::CONNECTIONFORCED), "CONNECTION_FORCED - broker forced connection closure"),
            fault(Hard(AMQPHardError::INTERNALERROR), "INTERNAL_ERROR"),
            fault(Hard(AMQPHardError::RESOURCEERROR), "RESOURCE_ERROR"),
            Fault::of(&ErrorKind::MissingHeartbeatError.into()),
            Fault::of(&ErrorKind::FutureCompleted.into()),
        ] {
            assert_eq!(other, Fault::Ended);
            assert_eq!(is(other, true, 5000), lost);
        }
    }
}
