//! librdkafka's errors about connections as failures: one table. Pure.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::reason::{Failure, Reason};

/// A connection that was usable for less was probably refused.
const REFUSED: u64 = 4000; // ms

/// The failure of a connection. `None` if the error is not about one.
pub(super) fn of_error(code: Code, about: &str) -> Option<Failure> {
    let reason = match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => Reason::NotAuthorized,
        Code::BrokerTransportFailure | Code::Resolve | Code::SSL => Reason::Unreachable,
        Code::OperationTimedOut | Code::TimedOutQueue | Code::NetworkException => Reason::Unreachable,
        _ => return None,
    };
    Some(Failure::new(reason, text(about)))
}

/// The failure of a connection that librdkafka only logs: the broker closed it.
pub(super) fn of_line(line: &str) -> Failure {
    let line = line.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(line, |(_, line)| line);
    Failure::new(Reason::Unreachable, text(line))
}

/// Whether the text is about a connection to an address that the cluster advertises. librdkafka adds the id of the broker to
/// such an address, and `bootstrap` to one from the settings.
pub(super) fn is_advertised(about: &str) -> bool {
    let id = about.split(": ").next().and_then(|name| name.rsplit_once('/'));
    id.is_some_and(|(_, id)| id.parse::<u32>().is_ok())
}

fn text(about: &str) -> String {
    // How long the connection was in which state. This varies with each attempt.
    let (about, state) = about.rsplit_once(" (after ").unwrap_or((about, ""));
    match hint(about, state) {
        Some((part, hint)) => format!("{}{part}: {hint}", about.split(part).next().unwrap_or_default()),
        None => about.to_owned(),
    }
}

/// A part of librdkafka's text, and what the operator should check instead of what follows that part.
fn hint(about: &str, state: &str) -> Option<(&'static str, &'static str)> {
    const CERTIFICATE: &str = "certificate verify failed";
    const CLOSED: &str = "closed by peer";
    let (elapsed, state) = state.split_once("ms in state ").unwrap_or_default();
    let state = state.trim_end_matches(')').split(',').next().unwrap_or_default();
    if about.contains(CERTIFICATE) {
        let hint = "the broker's certificate is not trusted: it is not signed by the CA in `tls.ca`, is for another host \
                    name, or has expired";
        return Some((CERTIFICATE, hint));
    }
    if !about.contains(CLOSED) {
        return None;
    }
    let hint = match state {
        "SSL_HANDSHAKE" => "the port may be one without TLS, or require a client certificate",
        "APIVERSION_QUERY" => "the port may be one with TLS",
        "UP" if !about.starts_with("sasl") && elapsed.parse().is_ok_and(|elapsed: u64| elapsed < REFUSED) => {
            "the port may require SASL, or a client certificate"
        }
        _ => return None,
    };
    Some((CLOSED, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_what_to_check() {
        for (about, expected) in [
            (
                "h:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
                "h:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            ),
            (
                "sasl_ssl://h:9/1: SASL authentication error: no (after 302ms in state AUTH_REQ, 1 identical error(s) \
                 suppressed)",
                "sasl_ssl://h:9/1: SASL authentication error: no",
            ),
            (
                "h:9: SSL handshake failed: certificate verify failed: broker certificate could not be verified, verify \
                 that ssl.ca.location is correct (after 3ms in state SSL_HANDSHAKE)",
                "h:9: SSL handshake failed: certificate verify failed: the broker's certificate is not trusted: it is not \
                 signed by the CA in `tls.ca`, is for another host name, or has expired",
            ),
            (
                "ssl://h:9: Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker listener? \
                 (after 0ms in state SSL_HANDSHAKE)",
                "ssl://h:9: Disconnected: SSL connection closed by peer: the port may be one without TLS, or require a \
                 client certificate",
            ),
            (
                "h:9: Disconnected: connection closed by peer: receive 0 after POLLIN (after 1ms in state \
                 APIVERSION_QUERY)",
                "h:9: Disconnected: connection closed by peer: the port may be one with TLS",
            ),
            (
                "ssl://h:9: Disconnected: SSL connection closed by peer (after 512ms in state UP, 1 identical error(s) \
                 suppressed)",
                "ssl://h:9: Disconnected: SSL connection closed by peer: the port may require SASL, or a client \
                 certificate",
            ),
            (
                "h:9/1: Disconnected: connection closed by peer (after 5000ms in state UP)",
                "h:9/1: Disconnected: connection closed by peer",
            ),
        ] {
            assert_eq!(text(about), expected);
        }
    }

    #[test]
    fn advertised_addresses_have_an_id() {
        assert!(is_advertised("sasl_ssl://h:9/12: Connect to ipv4#127.0.0.1:9 failed: Connection refused"));
        for other in ["ssl://h:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused", "h:9: no", "a/1 b"]
        {
            assert!(!is_advertised(other), "{other}");
        }
    }

    #[test]
    fn reasons_by_code() {
        for (code, reason) in [
            (Code::Authentication, Some(Reason::NotAuthorized)),
            (Code::BrokerTransportFailure, Some(Reason::Unreachable)),
            (Code::Fatal, None),
            (Code::AllBrokersDown, None),
        ] {
            assert_eq!(of_error(code, "h:9").map(|failure| failure.reason), reason, "{code:?}");
        }
        let line = "[thrd:[::1]:9/bootstrap]: [::1]:9/bootstrap: Disconnected (after 1ms in state UP)";
        assert_eq!(of_line(line), Failure::new(Reason::Unreachable, "[::1]:9/bootstrap: Disconnected"));
    }
}
