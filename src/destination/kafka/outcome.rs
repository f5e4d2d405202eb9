//! What librdkafka's error codes say about a message: one table.
//!
//! librdkafka knows more (`rd_kafka_message_status`: not, possibly or surely persisted), but tells it only through an
//! unsafe call. Its own rules (`rd_kafka_handle_Produce_error`) are followed here by code, and where the status would
//! depend on the message's history, so does the table: see [`History`].

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// What is known of a message whose delivery failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    /// A connection failed since the message was handed over: an earlier attempt may have reached the log although the
    /// last answer refused it.
    pub disturbed: bool,
    /// It waited so long that it may have been sent before and put back into the queue.
    pub lingered: bool,
    /// It alone is larger than its topic takes; a refused batch may be too large only as a whole.
    pub oversized: bool,
    /// The purge, if it was one, belongs to a shutdown.
    pub closing: bool,
}

/// The outcome of a delivery report with an error.
pub(super) fn of_report(code: Code, history: History) -> Outcome {
    let purged = if history.closing { Reason::Closing } else { Reason::ConnectionLost };
    match stored(code) {
        Stored::No(reason) if history.disturbed => Outcome::Unknown(failure(reason, code)),
        Stored::No(reason) => Outcome::Again(failure(reason, code)),
        Stored::Perhaps(reason) => Outcome::Unknown(failure(reason, code)),
        Stored::TooLarge if history.oversized => Outcome::Never(failure(Reason::TooLarge, code)),
        Stored::TooLarge => Outcome::Again(failure(Reason::Refused, code)),
        Stored::Queued if history.closing && !history.disturbed && !history.lingered => {
            Outcome::Again(failure(purged, code))
        }
        // A producer that failed: what was sent may have been put back into its queue.
        Stored::Queued => Outcome::Unknown(failure(purged, code)),
        Stored::InFlight => Outcome::Unknown(failure(purged, code)),
    }
}

/// The outcome of a delivery report without an error.
///
/// Without an offset no broker said so: librdkafka infers it of a refused batch when a later one, already on its way, is
/// taken (`rd_kafka_dr_implicit_ack`). That holds only where the broker knows the producer. On a partition that it leads
/// since a moment ago it does not: it refuses the first batch (not the leader yet), then starts with the second, whatever
/// its sequence number, and the first is nowhere.
pub(super) fn of_success(offset: i64) -> Outcome {
    if offset >= 0 {
        return Outcome::Confirmed;
    }
    Outcome::Unknown(Failure::new(Reason::Refused, "Kafka: refused once, and only inferred to be stored"))
}

/// The outcome of a message that librdkafka did not take: surely not stored.
pub(super) fn of_refusal(code: Code) -> Outcome {
    match code {
        Code::QueueFull => Outcome::Again(Reason::Busy.into()),
        Code::MessageSizeTooLarge => Outcome::Never(failure(Reason::TooLarge, code)),
        Code::Fatal | Code::State => {
            Outcome::Again(Failure::new(Reason::ConnectionLost, "the producer is being replaced"))
        }
        _ => Outcome::Again(match stored(code) {
            Stored::No(reason) | Stored::Perhaps(reason) => failure(reason, code),
            Stored::TooLarge | Stored::Queued | Stored::InFlight => failure(Reason::Refused, code),
        }),
    }
}

/// Why a producer ended for good.
pub(super) fn fatal(code: Code, about: &str) -> Failure {
    let reason = match stored(code) {
        Stored::No(Reason::NotAuthorized) => Reason::NotAuthorized,
        _ => Reason::ConnectionLost,
    };
    Failure::new(reason, format!("the producer is being replaced: {about}"))
}

/// Whether a code says that the topic is not there, so that topology is worth another look.
pub(super) fn is_topic_gone(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId)
}

enum Stored {
    No(Reason),
    Perhaps(Reason),
    TooLarge,
    Queued,
    InFlight,
}

fn stored(code: Code) -> Stored {
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Stored::TooLarge,
        Code::PurgeQueue => Stored::Queued,
        Code::PurgeInflight => Stored::InFlight,

        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
            Stored::No(Reason::Unroutable)
        }
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::Authentication => Stored::No(Reason::NotAuthorized),
        // Rejected before the append. An invalid name is no fault of the event's: names were checked.
        Code::NotEnoughReplicas
        | Code::InvalidTopic
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidRequest
        | Code::InvalidRequiredAcks
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::ThrottlingQuotaExceeded
        | Code::UnsupportedFeature
        | Code::BadCompression => Stored::No(Reason::Refused),
        Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::ReplicaNotAvailable
        | Code::BrokerNotAvailable
        | Code::FencedLeaderEpoch
        | Code::ListenerNotFound
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::TimedOutQueue => Stored::No(Reason::Unreachable),
        Code::KafkaStorageError => Stored::No(Reason::Io),

        // Appended, but not on as many replicas as asked for; or answered in a way that cannot be read.
        Code::NotEnoughReplicasAfterAppend | Code::BadMessage => Stored::Perhaps(Reason::Refused),
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut => Stored::Perhaps(Reason::Timeout),
        Code::BrokerTransportFailure | Code::NetworkException | Code::BrokerDestroy | Code::DestroyBroker => {
            Stored::Perhaps(Reason::ConnectionLost)
        }
        // The producer lost count: earlier attempts may be in the log. Fatal, or soon renumbered.
        Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::ProducerFenced
        | Code::Fenced
        | Code::Fatal
        | Code::GaplessGuarantee
        | Code::Inconsistent => Stored::Perhaps(Reason::ConnectionLost),
        _ => Stored::Perhaps(Reason::Refused),
    }
}

fn failure(reason: Reason, code: Code) -> Failure {
    Failure::new(reason, format!("Kafka: {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: History = History { disturbed: false, lingered: false, oversized: false, closing: false };

    fn word(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Confirmed => "confirmed".into(),
            Outcome::Again(failure) => format!("again {}", failure.reason),
            Outcome::Unknown(failure) => format!("unknown {}", failure.reason),
            Outcome::Never(failure) => format!("never {}", failure.reason),
        }
    }

    #[test]
    fn every_code_that_a_report_can_hold() {
        for (code, calm, disturbed) in [
            (Code::UnknownTopic, "again unroutable", "unknown unroutable"),
            (Code::UnknownPartition, "again unroutable", "unknown unroutable"),
            (Code::UnknownTopicOrPartition, "again unroutable", "unknown unroutable"),
            (Code::UnknownTopicId, "again unroutable", "unknown unroutable"),
            (Code::TopicAuthorizationFailed, "again not_authorized", "unknown not_authorized"),
            (Code::ClusterAuthorizationFailed, "again not_authorized", "unknown not_authorized"),
            (Code::SaslAuthenticationFailed, "again not_authorized", "unknown not_authorized"),
            (Code::Authentication, "again not_authorized", "unknown not_authorized"),
            (Code::NotEnoughReplicas, "again refused", "unknown refused"),
            (Code::InvalidTopic, "again refused", "unknown refused"),
            (Code::InvalidRecord, "again refused", "unknown refused"),
            (Code::InvalidTimestamp, "again refused", "unknown refused"),
            (Code::PolicyViolation, "again refused", "unknown refused"),
            (Code::NotLeaderForPartition, "again unreachable", "unknown unreachable"),
            (Code::LeaderNotAvailable, "again unreachable", "unknown unreachable"),
            (Code::TimedOutQueue, "again unreachable", "unknown unreachable"),
            (Code::KafkaStorageError, "again io", "unknown io"),
            (Code::NotEnoughReplicasAfterAppend, "unknown refused", "unknown refused"),
            (Code::MessageTimedOut, "unknown timeout", "unknown timeout"),
            (Code::RequestTimedOut, "unknown timeout", "unknown timeout"),
            (Code::BrokerTransportFailure, "unknown connection_lost", "unknown connection_lost"),
            (Code::NetworkException, "unknown connection_lost", "unknown connection_lost"),
            (Code::OutOfOrderSequenceNumber, "unknown connection_lost", "unknown connection_lost"),
            (Code::UnknownProducerId, "unknown connection_lost", "unknown connection_lost"),
            (Code::InvalidProducerEpoch, "unknown connection_lost", "unknown connection_lost"),
            (Code::Fatal, "unknown connection_lost", "unknown connection_lost"),
            (Code::PurgeQueue, "unknown connection_lost", "unknown connection_lost"),
            (Code::PurgeInflight, "unknown connection_lost", "unknown connection_lost"),
            (Code::MessageSizeTooLarge, "again refused", "again refused"),
            // Not in the table.
            (Code::BadMessage, "unknown refused", "unknown refused"),
            (Code::Unknown, "unknown refused", "unknown refused"),
            (Code::CriticalSystemResource, "unknown refused", "unknown refused"),
        ] {
            assert_eq!(word(&of_report(code, CALM)), calm, "{code:?}");
            assert_eq!(word(&of_report(code, History { disturbed: true, ..CALM })), disturbed, "{code:?} disturbed");
        }
    }

    #[test]
    fn a_success_that_no_broker_told_is_unknown() {
        assert_eq!(of_success(0), Outcome::Confirmed);
        for offset in [-1, -1001] {
            assert_eq!(word(&of_success(offset)), "unknown refused");
        }
    }

    #[test]
    fn a_report_is_judged_by_its_history() {
        let large = History { oversized: true, ..CALM };
        assert_eq!(word(&of_report(Code::MessageSizeTooLarge, large)), "never too_large");
        let closing = History { closing: true, ..CALM };
        assert_eq!(word(&of_report(Code::PurgeQueue, closing)), "again closing");
        assert_eq!(word(&of_report(Code::PurgeInflight, closing)), "unknown closing");
        let lingered = History { lingered: true, ..closing };
        assert_eq!(word(&of_report(Code::PurgeQueue, lingered)), "unknown closing");
        assert_eq!(word(&of_report(Code::NotEnoughReplicas, lingered)), "again refused");
    }

    #[test]
    fn what_was_not_taken_is_surely_not_stored() {
        for (code, expected) in [
            (Code::QueueFull, "again busy"),
            (Code::MessageSizeTooLarge, "never too_large"),
            (Code::Fatal, "again connection_lost"),
            (Code::UnknownTopic, "again unroutable"),
            (Code::TopicAuthorizationFailed, "again not_authorized"),
            (Code::InvalidTopic, "again refused"),
            (Code::Unknown, "again refused"),
        ] {
            assert_eq!(word(&of_refusal(code)), expected, "{code:?}");
        }
    }
}
