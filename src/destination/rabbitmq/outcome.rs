//! What lapin and the broker answer to a publish, and its [`Outcome`].

use std::io;

use lapin::message::BasicReturnMessage;
use lapin::{Confirmation, ErrorKind};

use super::message::Encoder;
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// How one publish ended, as lapin reports it.
pub(super) enum LapinAnswer {
    /// Its last byte never reached the socket: the broker cannot have it.
    NotSent(lapin::Error),
    /// Sent, and then the channel or the connection ended.
    Lost(lapin::Error),
    /// Acknowledged, with the tag of the returned message that the confirm carried. lapin attaches a returned message to
    /// whichever confirm comes next, so it may belong to another publish.
    Acked(Option<u64>),
    /// Negatively acknowledged, likewise.
    Nacked(Option<u64>),
    /// No confirm was requested: the channel is not in confirm mode.
    NotRequested,
}

impl LapinAnswer {
    /// The end of a publish that lapin reports as not sent. Over TCP this is exact. A write over TLS is several records,
    /// each sent on its own, and when a later record fails, lapin counts the whole write as not sent. So over TLS, only
    /// what lapin never queued is surely not at the broker.
    pub(super) fn of_unsent(error: lapin::Error, tls: bool) -> LapinAnswer {
        let queued = !matches!(error.kind(), ErrorKind::InvalidChannelState(_, "basic.publish"));
        if tls && queued { LapinAnswer::Lost(error) } else { LapinAnswer::NotSent(error) }
    }

    pub(super) fn of_confirmation(confirmation: Confirmation, encoder: &Encoder) -> LapinAnswer {
        let tag =
            |message: BasicReturnMessage| encoder.tag(message.properties.message_id().as_ref(), &message.routing_key);
        match confirmation {
            Confirmation::Ack(returned) => LapinAnswer::Acked(returned.map(tag)),
            Confirmation::Nack(returned) => LapinAnswer::Nacked(returned.map(tag)),
            Confirmation::NotRequested => LapinAnswer::NotRequested,
        }
    }
}

/// What is known of a publish that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishEnd {
    /// Acknowledged. `without_return`: the confirm carried no returned message, so every message that was returned
    /// before it was attached to an earlier confirm.
    Acked { without_return: bool },
    /// A queue refused it; another queue may have taken it.
    Nacked,
    /// The channel is not in confirm mode, which only a bug can cause.
    NotRequested,
    /// Surely not at the broker.
    NotSent,
    /// Possibly at the broker.
    Lost,
}

impl PublishEnd {
    /// Whether the broker has answered the publish.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, PublishEnd::Acked { .. } | PublishEnd::Nacked)
    }

    /// The outcome; `None` while it is not certain. `settled`: every confirm that could carry this publish's returned
    /// message has been seen.
    pub(super) fn outcome(self, returned: bool, settled: bool) -> Option<Outcome> {
        match self {
            PublishEnd::Acked { .. } if returned => Some(Outcome::Again(Reason::Unroutable.into())),
            PublishEnd::Acked { without_return } => (without_return || settled).then_some(Outcome::Confirmed),
            PublishEnd::Nacked => Some(Outcome::Unknown(Failure::new(
                Reason::Refused,
                "a queue refused the message; another queue may have taken it",
            ))),
            PublishEnd::NotRequested => {
                Some(Outcome::Unknown(Failure::new(Reason::Failed, "the channel is not in confirm mode")))
            }
            PublishEnd::NotSent => {
                Some(Outcome::Again(Failure::new(Reason::Unreachable, "the channel ended before the message was sent")))
            }
            PublishEnd::Lost => None,
        }
    }
}

/// Why a channel cannot be used any more, as far as it matters to the publishes that were on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChannelFault {
    /// The exchange is missing, or this user may not write to it. The broker ignores what follows on the channel. So the
    /// last message sent is surely not stored: it caused the fault, or it came after it.
    Refused(Failure),
    /// A message is over the broker's limit, in bytes.
    TooLarge(usize, Failure),
    /// Anything else.
    Ended(Failure),
}

impl ChannelFault {
    pub(super) fn of(error: &lapin::Error) -> ChannelFault {
        let failure = failure(error);
        let ErrorKind::ProtocolError(error) = error.kind() else { return ChannelFault::Ended(failure) };
        match (error.get_id(), size_limit(error.get_message().as_str())) {
            (403 | 404, _) => ChannelFault::Refused(failure),
            (406, Some(limit)) => ChannelFault::TooLarge(limit, failure),
            _ => ChannelFault::Ended(failure),
        }
    }

    pub(super) fn failure(&self) -> &Failure {
        let (ChannelFault::Refused(failure) | ChannelFault::TooLarge(_, failure) | ChannelFault::Ended(failure)) = self;
        failure
    }

    /// Whether every channel has the same trouble: there is no exchange.
    pub(super) fn concerns_all(&self) -> bool {
        matches!(self, ChannelFault::Refused(failure) if failure.reason == Reason::Topology)
    }

    /// The outcome of a publish of `bytes` that was on the channel and has no answer. `last`: it was sent last.
    pub(super) fn outcome(&self, last: bool, bytes: usize) -> Outcome {
        match self {
            ChannelFault::Refused(failure) if last => Outcome::Again(failure.clone()),
            ChannelFault::TooLarge(limit, _) if bytes > *limit => Outcome::Never(too_large(bytes, *limit)),
            _ => Outcome::Unknown(Reason::ConnectionLost.into()),
        }
    }
}

pub(super) fn too_large(bytes: usize, limit: usize) -> Failure {
    Failure::new(Reason::TooLarge, format!("the message has {bytes} bytes, the broker's limit is {limit}"))
}

/// The limit in "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000".
fn size_limit(text: &str) -> Option<usize> {
    let (_, limit) = text.split_once("message size ").and_then(|(_, rest)| rest.split_once("max size "))?;
    limit.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What to do about a limit of channels.
const RAISE_CHANNELS: &str =
    ": the broker limits the channels of this connection or user, and hookbridge needs several: raise the limit";

/// What an error of lapin means for the destination as a whole.
pub(super) fn failure(error: &lapin::Error) -> Failure {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            let reason = match error.get_id() {
                403 | 530 => Reason::NotAuthorized,
                404..=406 => Reason::Topology,
                _ => Reason::Unreachable,
            };
            let text = error.get_message().as_str();
            // "number of channels opened for user 'u' has reached the maximum allowed user limit of (4)"
            let hint = if text.contains("number of channels") { RAISE_CHANNELS } else { "" };
            Failure::new(reason, format!("{text}{hint}"))
        }
        // The broker's `channel_max`, which it announces at the start of the connection.
        ErrorKind::ChannelsLimitReached => {
            Failure::new(Reason::Topology, format!("the broker allows too few channels{RAISE_CHANNELS}"))
        }
        ErrorKind::AuthProviderError(_) => Failure::new(Reason::NotAuthorized, error.to_string()),
        _ => Failure::new(Reason::Unreachable, error.to_string()),
    }
}

/// The failure of an attempt to connect. lapin and rustls do not say that only one side uses TLS. `tls`: we do.
pub(super) fn connect_failure(error: &lapin::Error, tls: bool) -> Failure {
    const WITH: &str = "the port may be one with TLS (amqps://)";
    const WITHOUT: &str = "the port may be one without TLS (amqp://)";
    let (Failure { reason, detail }, cause) = (failure(error), error.to_string());
    let text = match error.kind() {
        ErrorKind::ParsingError(_) if !tls => format!("the answer is not AMQP: {WITH}"),
        ErrorKind::IOError(_) if tls && cause.contains("InvalidContentType") => {
            format!("the answer is not TLS: {WITHOUT}")
        }
        // A broker may close the connection before its answer is read.
        ErrorKind::IOError(io) if io.kind() == io::ErrorKind::ConnectionReset => {
            format!("{cause}: {}", if tls { WITHOUT } else { WITH })
        }
        _ => return Failure { reason, detail },
    };
    Failure::new(Reason::Unreachable, text)
}

#[cfg(test)]
mod tests;
