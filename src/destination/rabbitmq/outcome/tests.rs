use std::sync::Arc;

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{ChannelState, ConnectionState};

use super::*;
use crate::destination::settings::Mode;

#[test]
fn confirmations_carry_the_tag_of_a_returned_message() {
    let encoder = Encoder::new(Mode::Binary, false);
    let returned = || {
        let delivery = lapin::message::Delivery::mock(0, "events".into(), "a.b".into(), false, Vec::new());
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    };
    let of = |confirmation| LapinAnswer::of_confirmation(confirmation, &encoder);
    let tag = encoder.tag(None, &"a.b".into());
    assert!(matches!(of(Confirmation::Ack(None)), LapinAnswer::Acked(None)));
    assert!(matches!(of(Confirmation::Ack(returned())), LapinAnswer::Acked(Some(found)) if found == tag));
    assert!(matches!(of(Confirmation::Nack(None)), LapinAnswer::Nacked(None)));
    assert!(matches!(of(Confirmation::Nack(returned())), LapinAnswer::Nacked(Some(found)) if found == tag));
    assert!(matches!(of(Confirmation::NotRequested), LapinAnswer::NotRequested));
}

#[test]
fn over_tls_only_what_was_never_queued_is_not_sent() {
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
    for (kind, lost) in kinds() {
        let shown = format!("{kind:?}");
        assert_eq!(matches!(LapinAnswer::of_unsent(kind.into(), true), LapinAnswer::Lost(_)), lost, "TLS, {shown}");
    }
    for (kind, _) in kinds() {
        assert!(matches!(LapinAnswer::of_unsent(kind.into(), false), LapinAnswer::NotSent(_)));
    }
}

fn shown(outcome: &Outcome) -> (&'static str, Option<Reason>) {
    (outcome.word(), outcome.failure().map(|failure| failure.reason))
}

#[test]
fn only_an_ack_without_a_return_is_confirmed() {
    let acked = |without_return| PublishEnd::Acked { without_return };
    for (end, returned, settled, expected) in [
        (acked(true), false, false, Some(("confirmed", None))),
        (acked(true), false, true, Some(("confirmed", None))),
        (acked(false), false, false, None),
        (acked(false), false, true, Some(("confirmed", None))),
        (acked(true), true, false, Some(("again", Some(Reason::Unroutable)))),
        (acked(false), true, false, Some(("again", Some(Reason::Unroutable)))),
        (acked(false), true, true, Some(("again", Some(Reason::Unroutable)))),
        (PublishEnd::Nacked, false, true, Some(("unknown", Some(Reason::Refused)))),
        (PublishEnd::Nacked, true, true, Some(("unknown", Some(Reason::Refused)))),
        (PublishEnd::NotRequested, false, true, Some(("unknown", Some(Reason::Failed)))),
        (PublishEnd::NotSent, false, false, Some(("again", Some(Reason::Unreachable)))),
        (PublishEnd::Lost, false, true, None),
    ] {
        let outcome = end.outcome(returned, settled);
        assert_eq!(outcome.as_ref().map(shown), expected, "{end:?} {returned} {settled}");
    }
}

fn fault_of(kind: ErrorKind) -> ChannelFault {
    ChannelFault::of(&kind.into())
}

fn fault(kind: AMQPErrorKind, text: &str) -> ChannelFault {
    fault_of(ErrorKind::ProtocolError(AMQPError::new(kind, text.into())))
}

#[test]
fn each_protocol_error_has_its_outcome() {
    use AMQPErrorKind::{Hard, Soft};
    let outcome = |fault: &ChannelFault, last, bytes| shown(&fault.outcome(last, bytes));
    let lost = ("unknown", Some(Reason::ConnectionLost));

    let missing = fault(Soft(AMQPSoftError::NOTFOUND), "NOT_FOUND - no exchange 'events' in vhost '/'");
    assert_eq!(outcome(&missing, true, 1), ("again", Some(Reason::Topology)));
    assert_eq!(outcome(&missing, false, 1), lost);

    let forbidden = fault(Soft(AMQPSoftError::ACCESSREFUSED), "ACCESS_REFUSED - write access");
    assert_eq!(outcome(&forbidden, true, 1), ("again", Some(Reason::NotAuthorized)));

    for text in [
        "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000",
        "PRECONDITION_FAILED - message size 2000 is larger than max size 1000",
    ] {
        let large = fault(Soft(AMQPSoftError::PRECONDITIONFAILED), text);
        assert!(matches!(large, ChannelFault::TooLarge(1000, _)));
        assert_eq!(outcome(&large, false, 1001), ("never", Some(Reason::TooLarge)));
        assert_eq!(outcome(&large, true, 1000), lost, "only what is over the limit is too large");
    }

    for other in [
        fault(Soft(AMQPSoftError::PRECONDITIONFAILED), "PRECONDITION_FAILED - unknown delivery tag 7"),
        fault(Soft(AMQPSoftError::RESOURCELOCKED), "RESOURCE_LOCKED"),
        fault(Hard(AMQPHardError::CONNECTIONFORCED), "CONNECTION_FORCED - broker forced connection closure"),
        fault(Hard(AMQPHardError::INTERNALERROR), "INTERNAL_ERROR"),
        fault(Hard(AMQPHardError::RESOURCEERROR), "RESOURCE_ERROR"),
        fault_of(ErrorKind::MissingHeartbeatError),
        fault_of(ErrorKind::FutureCompleted),
    ] {
        assert!(matches!(other, ChannelFault::Ended(_)), "{other:?}");
        assert_eq!(outcome(&other, true, 5000), lost);
    }
}

#[test]
fn connections_with_tls_on_one_side_only_are_named() {
    let reset = || ErrorKind::IOError(Arc::new(io::ErrorKind::ConnectionReset.into()));
    let corrupt =
        || ErrorKind::IOError(Arc::new(io::Error::other("received corrupt message of type InvalidContentType")));
    let refused = || ErrorKind::IOError(Arc::new(io::ErrorKind::ConnectionRefused.into()));
    for (kind, tls, hint) in [
        (reset(), false, "with TLS (amqps://)"),
        (reset(), true, "without TLS (amqp://)"),
        (corrupt(), true, "without TLS (amqp://)"),
        (refused(), false, "IO error: connection refused"),
        (refused(), true, "IO error: connection refused"),
    ] {
        let failure = connect_failure(&kind.into(), tls);
        assert!(failure.reason == Reason::Unreachable && failure.detail.ends_with(hint), "{failure}");
    }
}
