//! Mistakes in a destination's settings that a client library would only report when `serve` starts.

use super::*;

/// `expect` for destinations, with routes.
fn expect_of(cases: &[(&str, &str)]) {
    let text =
        |text: &str| format!("destinations: {text}\nunrouted: ignore\nroutes: []").replace("TLS/", "src/tls/fixtures/");
    let cases: Vec<_> =
        cases.iter().map(|(case, expected)| (text(case), expected.replace("TLS/", "src/tls/fixtures/"))).collect();
    let cases: Vec<_> = cases.iter().map(|(case, expected)| (case.as_str(), expected.as_str())).collect();
    expect(SOURCE, &cases);
}

#[test]
fn settings_without_effect() {
    expect_of(&[
        ("{k: {url: 'kafka://h', tls: {ca: TLS/ca.pem}}}", "no mistake"),
        ("{k: {url: 'kafka://h', tls: {ca: TLS/ca.pem}, properties: {security.protocol: SSL}}}", "no mistake"),
        (
            "{k: {url: 'kafka://h', tls: {ca: TLS/ca.pem}, properties: {sasl.mechanism: PLAIN, sasl.username: u, sasl.password: hunter2}}}",
            "no mistake",
        ),
        (
            "{k: {url: 'kafka://h', tls: {ca: TLS/ca.pem}, properties: {security.protocol: sasl_plaintext}}}",
            "f:2:106: `tls` requires TLS: set security.protocol to ssl or sasl_ssl, or leave it out",
        ),
        (
            "{k: {url: 'kafka://h', properties: {sasl.password: hunter2}}}",
            "f:2:51: the property `sasl.password` has no effect: set security.protocol to sasl_ssl or sasl_plaintext",
        ),
        (
            "{k: {url: 'kafka://h', properties: {security.protocol: ssl, sasl.password: hunter2}}}",
            "f:2:75: the property `sasl.password` has no effect: set security.protocol to sasl_ssl or sasl_plaintext",
        ),
        (
            "{k: {url: 'kafka://h', properties: {ssl.key.password: hunter2}}}",
            "f:2:51: the property `ssl.key.password` has no effect: set security.protocol to ssl or sasl_ssl",
        ),
        (
            "{k: {url: 'kafka://h', tls: {ca: TLS/ca.pem}, properties: {ssl.ca.location: probe}}}",
            "f:2:87: give only one of `tls.ca` and the property `ssl.ca.location`",
        ),
        (
            "{r: {url: 'amqp://h', tls: {ca: TLS/ca.pem}}}",
            "f:2:47: `tls` has no effect on amqp://: write amqps:// in `url`",
        ),
        ("{r: {url: 'amqps://h', tls: {ca: TLS/ca.pem}}}", "no mistake"),
        ("{r: {url: 'amqp://h/v?heartbeat=5&connection_timeout=100'}}", "no mistake"),
        (
            "{r: {url: 'amqp://h?hearbeat=5'}}",
            "f:2:25: unknown parameter `hearbeat` in an AMQP URL: expected one of `frame_max`, `channel_max`, `heartbeat`, `connection_timeout`, `auth_mechanism`; did you mean `heartbeat`?",
        ),
        (
            "{r: {url: 'amqps://h?cacertfile=hunter2'}}",
            "f:2:25: unknown parameter `cacertfile` in an AMQP URL: expected one of `frame_max`, `channel_max`, `heartbeat`, `connection_timeout`, `auth_mechanism`",
        ),
        (
            "{r: {url: 'amqp://h/v?vhost=hunter2'}}",
            "f:2:25: unknown parameter `vhost` in an AMQP URL: expected one of `frame_max`, `channel_max`, `heartbeat`, `connection_timeout`, `auth_mechanism`",
        ),
        (
            "{r: {url: 'amqp://h?heartbeat=hunter2'}}",
            "f:2:25: the parameter `heartbeat` of an AMQP URL: expected a number of seconds from 0 to 65535",
        ),
        (
            "{r: {url: 'amqp://h?frame_max=0'}}",
            "f:2:25: the parameter `frame_max` of an AMQP URL: expected a number of bytes, at least 4096",
        ),
        (
            "{r: {url: 'amqp://h?connection_timeout=0'}}",
            "f:2:25: the parameter `connection_timeout` of an AMQP URL: expected a number of milliseconds, at least 1",
        ),
        (
            "{k: {url: 'kafka://h', properties: {group.id: hunter2}}}",
            "f:2:51: the property `group.id` has no effect: it is one of consumers",
        ),
        ("{n: {url: 'nats://hunter2@h', auth: {token: hunter2}}}", "f:2:59: `url` contains a token already"),
        (
            "{r: {url: 'amqp://h?auth_mechanism=hunter2'}}",
            "f:2:25: the parameter `auth_mechanism` of an AMQP URL: expected plain, amqplain, external or anonymous",
        ),
        (
            "{r: {url: 'amqp://h?heartbeat=1&heartbeat=2'}}",
            "f:2:25: the parameter `heartbeat` of an AMQP URL is given twice",
        ),
    ]);
}

#[test]
fn kafka_settings_that_the_client_refuses() {
    expect_of(&[
        (
            "{k: {url: 'kafka://h', properties: {linger.msec: hunter2, compression.codec: zstd, linger.ms: hunter2}}}",
            "f:2:51: the property `linger.msec`: there is no such property\nf:2:73: the property `compression.codec`: its value is not valid, or this build does not support it\nf:2:98: the property `linger.ms`: its value is not valid, or this build does not support it",
        ),
        (
            "{k: {url: 'kafka://h', properties: {security.protocol: hunter2}}}",
            "f:2:51: the property `security.protocol`: its value is not valid, or this build does not support it",
        ),
        (
            "{k: {url: 'kafka://h', properties: {security.protocol: sasl_ssl, sasl.mechanism: PLAIN}}}",
            "f:2:51: Kafka client: sasl.username and sasl.password must be set",
        ),
        (
            "{k: {url: 'kafka://h', properties: {security.protocol: sasl_ssl, sasl.mechanism: hunter2}}}",
            "f:2:51: Kafka client: Unsupported SASL mechanism: (not shown)",
        ),
        (
            "{k: {url: 'kafka://h', properties: {linger.ms: 200000}}, n: {url: 'nats://h', auth: {nkey: hunter2}}}",
            "f:2:51: Kafka client: `publish.timeout` must be greater than `linger.ms`\nf:2:72: several destinations (`k`, `n`) need `routes`, which say which event goes where\nf:2:106: the nkey is not a seed (SU…)",
        ),
        (
            "{k: {url: 'kafka://h', tls: {ca: TLS/other.key}}}",
            "f:2:48: `TLS/other.key`: Kafka client: ssl.ca.location failed: error:05800088:x509 certificate routines::no certificate or crl found",
        ),
        (
            "{k: {url: 'kafka://h', tls: {cert: TLS/version1.pem, key: TLS/encrypted.key}}}",
            "f:2:86: `TLS/encrypted.key`: the key is encrypted: decrypt it, for example with `openssl pkey -in FILE -out FILE`, or set the property ssl.key.password",
        ),
        (
            "{k: {url: 'kafka://h', tls: {cert: TLS/version1.pem, key: TLS/encrypted.key}, properties: {ssl.key.password: x}}}",
            "no mistake",
        ),
        (
            "{k: {url: 'kafka://h', tls: {cert: TLS/version1.pem, key: TLS/other.key}}}",
            "f:2:86: `TLS/other.key`: Kafka client: ssl.key.location failed: error:05800074:x509 certificate routines::key values mismatch",
        ),
        ("{k: {url: 'kafka://h', tls: {cert: TLS/version1.pem, key: TLS/version1.key}}}", "no mistake"),
    ]);
}

#[test]
fn credentials_and_files_that_cannot_be_used() {
    expect_of(&[
        (
            "{n: {url: ['nats://a:hunter2@h', 'nats://b:hunter2@i']}}",
            "f:2:25: all addresses of a destination must have the same user, password or token",
        ),
        ("{n: {url: 'nats://h', auth: {nkey: hunter2}}}", "f:2:50: the nkey is not a seed (SU…)"),
        (
            "{n: {url: 'nats://h', auth: {creds: TLS/ca.pem}}}",
            "f:2:51: `TLS/ca.pem`: cannot parse user JWT from the credentials file",
        ),
        (
            "{n: {url: 'nats://h', tls: {ca: TLS/other.key}}, r: {url: 'amqps://h', tls: {cert: TLS/version1.pem, key: TLS/encrypted.key}}}",
            "f:2:47: `TLS/other.key`: it holds no PEM certificate\nf:2:77: several destinations (`n`, `r`) need `routes`, which say which event goes where\nf:2:147: `TLS/encrypted.key`: the key is encrypted: decrypt it, for example with `openssl pkey -in FILE -out FILE`",
        ),
        (
            "{r: {url: 'amqps://h', tls: {cert: TLS/version1.pem, key: TLS/other.key}}}",
            "f:2:86: `TLS/other.key`: the key does not belong to the certificate",
        ),
        ("{r: {url: 'amqps://h', tls: {cert: TLS/version1.pem, key: TLS/version1.key}}}", "no mistake"),
    ]);
}
