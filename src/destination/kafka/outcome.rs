//! librdkafka's error codes as outcomes: one table.
//!
//! librdkafka knows whether a message was not, possibly or surely persisted (`rd_kafka_message_status`), but rdkafka gives
//! no safe access to it. This table follows librdkafka's rules (`rd_kafka_handle_Produce_error`) by error code. Where the
//! status would depend on the message's history, so does the table: see [`History`].

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// What is known of a message whose delivery failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    /// A connection failed after the message was queued: an earlier attempt may have stored it, although the last answer
    /// refused it.
    pub(super) disturbed: bool,
    /// It waited so long that it may have been sent before and returned to the queue.
    pub(super) lingered: bool,
    /// The message itself is larger than its topic takes. Otherwise only the batch may have been too large.
    pub(super) oversized: bool,
    /// A purge belongs to a shutdown.
    pub(super) closing: bool,
}

/// The outcome of a delivery report with an error.
pub(super) fn of_report(code: Code, history: History) -> Outcome {
    let purged = if history.closing { Reason::Closing } else { Reason::ConnectionLost };
    match persistence(code) {
        Persistence::No(reason) if history.disturbed => Outcome::Unknown(failure(reason, code)),
        Persistence::No(reason) => Outcome::Again(failure(reason, code)),
        Persistence::Possible(reason) => Outcome::Unknown(failure(reason, code)),
        Persistence::TooLarge if history.oversized => Outcome::Never(failure(Reason::TooLarge, code)),
        Persistence::TooLarge => Outcome::Again(failure(Reason::Refused, code)),
        Persistence::PurgedInQueue if history.closing && !history.disturbed && !history.lingered => {
            Outcome::Again(failure(purged, code))
        }
        // After a fatal error, messages that were sent may have been returned to the queue.
        Persistence::PurgedInQueue | Persistence::PurgedInFlight => Outcome::Unknown(failure(purged, code)),
    }
}

/// The outcome of a delivery report without an error.
///
/// A report without an offset is inferred: when a broker refuses a batch and takes a later one that was already sent,
/// librdkafka reports both as stored (`rd_kafka_dr_implicit_ack`). This holds only if the broker knows the producer. A new
/// leader of the partition does not: it refuses the first batch because it does not lead yet, then accepts the second with
/// any sequence number, and the first batch is lost.
pub(super) fn of_success(offset: i64) -> Outcome {
    if offset >= 0 {
        return Outcome::Confirmed;
    }
    Outcome::Unknown(Failure::new(Reason::Refused, "Kafka: refused once; librdkafka only infers that it is stored"))
}

/// The outcome of a message that librdkafka did not take, and which therefore is not stored.
pub(super) fn of_refusal(code: Code) -> Outcome {
    match code {
        Code::QueueFull => Outcome::Again(Reason::Busy.into()),
        Code::MessageSizeTooLarge => Outcome::Never(failure(Reason::TooLarge, code)),
        Code::Fatal | Code::State => {
            Outcome::Again(Failure::new(Reason::ConnectionLost, "the producer is being replaced"))
        }
        _ => Outcome::Again(match persistence(code) {
            Persistence::No(reason) | Persistence::Possible(reason) => failure(reason, code),
            Persistence::TooLarge | Persistence::PurgedInQueue | Persistence::PurgedInFlight => {
                failure(Reason::Refused, code)
            }
        }),
    }
}

/// Why a producer must be replaced.
pub(super) fn of_fatal_error(code: Code, about: &str) -> Failure {
    let reason = match persistence(code) {
        Persistence::No(Reason::NotAuthorized) => Reason::NotAuthorized,
        _ => Reason::ConnectionLost,
    };
    Failure::new(reason, format!("the producer is being replaced: {about}"))
}

/// The failure of a request other than a publish.
pub(super) fn of_request(error: &KafkaError) -> Failure {
    match code_of(error) {
        Some(Code::OperationTimedOut) => Failure::new(Reason::Unreachable, "Kafka: no broker answered in time"),
        Some(code) if matches!(persistence(code), Persistence::No(Reason::NotAuthorized)) => {
            failure(Reason::NotAuthorized, code)
        }
        _ => Failure::new(Reason::Unreachable, format!("Kafka: {error}")),
    }
}

/// Whether a request had no answer.
pub(super) fn is_unanswered(error: &KafkaError) -> bool {
    matches!(
        code_of(error),
        Some(
            Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::BrokerDestroy
                | Code::DestroyBroker
                | Code::Resolve
                | Code::SSL
                | Code::Authentication
        )
    )
}

fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether a code says that the topic does not exist, or that its leader may be out of reach, so that the topics have to be
/// checked.
pub(super) fn is_topic_suspect(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::MessageTimedOut
    )
}

/// Whether the broker has stored a message, as far as the error code tells.
enum Persistence {
    No(Reason),
    Possible(Reason),
    TooLarge,
    PurgedInQueue,
    PurgedInFlight,
}

fn persistence(code: Code) -> Persistence {
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => Persistence::TooLarge,
        Code::PurgeQueue => Persistence::PurgedInQueue,
        Code::PurgeInflight => Persistence::PurgedInFlight,

        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
            Persistence::No(Reason::Unroutable)
        }
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled
        | Code::Authentication => Persistence::No(Reason::NotAuthorized),
        // Rejected before the append. `InvalidTopic` is not the event's fault, since names are checked before.
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
        | Code::BadCompression => Persistence::No(Reason::Refused),
        Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::ReplicaNotAvailable
        | Code::BrokerNotAvailable
        | Code::FencedLeaderEpoch
        | Code::ListenerNotFound
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::TimedOutQueue => Persistence::No(Reason::Unreachable),
        Code::KafkaStorageError => Persistence::No(Reason::Io),

        // Appended, but on too few replicas; or the answer cannot be read.
        Code::NotEnoughReplicasAfterAppend | Code::BadMessage => Persistence::Possible(Reason::Refused),
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut => {
            Persistence::Possible(Reason::Timeout)
        }
        Code::BrokerTransportFailure | Code::NetworkException | Code::BrokerDestroy | Code::DestroyBroker => {
            Persistence::Possible(Reason::ConnectionLost)
        }
        // Sequence numbers do not match: earlier attempts may be in the log. Fatal, or soon renumbered.
        Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::ProducerFenced
        | Code::Fenced
        | Code::Fatal
        | Code::GaplessGuarantee
        | Code::Inconsistent => Persistence::Possible(Reason::ConnectionLost),
        _ => Persistence::Possible(Reason::Refused),
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
        let reason = outcome.failure().map_or(String::new(), |failure| format!(" {}", failure.reason));
        format!("{}{reason}", outcome.word())
    }

    #[test]
    fn reports_by_code_and_lost_connections() {
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
            (Code::BadMessage, "unknown refused", "unknown refused"),
            // The table has no entry for these.
            (Code::Unknown, "unknown refused", "unknown refused"),
            (Code::CriticalSystemResource, "unknown refused", "unknown refused"),
        ] {
            assert_eq!(word(&of_report(code, CALM)), calm, "{code:?}");
            assert_eq!(word(&of_report(code, History { disturbed: true, ..CALM })), disturbed, "{code:?} disturbed");
        }
    }

    #[test]
    fn success_without_an_offset_is_unknown() {
        assert_eq!(of_success(0), Outcome::Confirmed);
        for offset in [-1, -1001] {
            assert_eq!(word(&of_success(offset)), "unknown refused");
        }
    }

    #[test]
    fn reports_depend_on_size_shutdown_and_waiting_time() {
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
    fn refusals_are_never_unknown() {
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
