//! The place and the message of every mistake.

use super::*;

mod brokers;
mod claim_check;
mod meaning;

const SOURCE: &str = "sources: {videogen: {secrets: \"${KEY}\"}}\n";

fn expect(before: &str, cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found = load_file(&format!("{before}{text}")).map_or_else(|message| message, |_| "no mistake".into());
        if found != *expected {
            wrong.push_str(&format!("--- {text}\nexpected {expected}\nfound    {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn mistakes_of_structure() {
    expect(
        "",
        &[
            (
                "lisen: x",
                "f:1:1: unknown setting `lisen`: expected one of `sources`, `destinations`, `routes`, `unrouted`, `ack`, `store`, `spool`, `dedup`, `dead_letters`, `claim_check`, `listen`, `admin`, `data`, `limits`, `publish`, `shutdown`; did you mean `listen`?",
            ),
            (
                "sources:\n  videogen:\n    secret: x",
                "f:3:5: unknown setting `secret`: expected one of `secrets`, `path`, `uri`, `tolerance`, `legacy_headers`, `attributes`, `type_prefix`, `events`, `payload`, `fields`, `in_flight`, `rate`; did you mean `secrets`?",
            ),
            (
                "destinations: {a: {url: 'nats://h', streams: x}}",
                "f:1:37: unknown setting `streams`: expected one of `url`, `stream`, `exchange`, `partitions`, `mode`, `topology`, `forward_signature`, `in_flight`, `in_flight_bytes`, `tls`, `auth`, `properties`, `oversize`; did you mean `stream`?",
            ),
            ("routes: [{to: []}]", "f:1:11: `match` is missing"),
            (
                "routes: [{match: a, to: 7}, {match: b, to: [[a]]}]",
                "f:1:45: `to`: expected a name or a mapping of settings, found a list",
            ),
            ("routes: [{match: a, to: [{topic: a}]}]", "f:1:27: `destination` is missing"),
            (
                "routes: [{match: a, to: [{destination: a, tpic: a}]}]",
                "f:1:43: unknown setting `tpic`: expected one of `destination`, `topic`, `key`, `required`; did you mean `topic`?",
            ),
            ("routes: [{match: a, when: {pointer: /a}, to: []}]", "f:1:28: `in` is missing"),
            (
                "routes: [{match: a, when: {pointer: /a, in: x}, to: []}]",
                "f:1:45: `in`: expected a list, found a string",
            ),
            ("unrouted: [a]", "f:1:11: `unrouted`: expected a name or a mapping of settings, found a list"),
            ("listen: {a: b}", "f:1:9: `listen`: expected a string, found a mapping"),
            ("listen: [a]", "f:1:9: `listen`: expected a string, found a list"),
            ("limits: 7", "f:1:9: `limits`: expected a mapping of settings, found a number"),
            ("sources: [a]", "f:1:10: `sources`: expected a mapping of settings, found a list"),
            (
                "sources: {videogen: {secrets: 7}}",
                "f:1:31: the secret is not usable: expected whsec_ and base64, bare base64, or whpk_ and a 32-byte public key\nf: no destination is configured: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)",
            ),
            ("ack: published\nack: published", "f:2:1: the key `ack` occurs twice"),
            (
                "data: a\n c: d",
                "f:2:3: not well-formed YAML: check indentation, quotes and brackets here and just above",
            ),
            ("data: [a", "f:1:7: expected a string"),
            ("data: a\n---\ndata: b", "f:3:1: expected one YAML document, found a second one"),
            (
                "sources: {videogen: {secrets: {a: b}}}",
                "f:1:31: `secrets`: expected a list of texts or one text, found a mapping",
            ),
            ("sources: {videogen: 7}", "f:1:21: `videogen`: expected a mapping of settings, found a number"),
            ("sources:\n  a/b: [x]", "f:2:8: expected a mapping of settings, found a list"),
            ("- a", "f:1:1: expected a mapping of settings, found a list"),
            ("routes: {match: a}", "f:1:9: `routes`: expected a list, found a mapping"),
            ("routes: [{match: a, when: true, to: []}]", "f:1:27: `when`: expected a mapping of settings, found true"),
            ("limits:\n  body: [1]", "f:2:9: `body`: expected a string, found a list"),
            ("limits:\n\tbody: 1MiB", "f:2:1: a tab indents this line: YAML takes only spaces for indentation"),
            (
                "limits:\n  body: 1MiB\n  \tbytes: 1MiB",
                "f:3:3: a tab indents this line: YAML takes only spaces for indentation",
            ),
            (
                "y-a: 1",
                "f:1:1: unknown setting `y-a`: expected one of `sources`, `destinations`, `routes`, `unrouted`, `ack`, `store`, `spool`, `dedup`, `dead_letters`, `claim_check`, `listen`, `admin`, `data`, `limits`, `publish`, `shutdown`",
            ),
            ("data: *a", "f:1:7: unknown alias (`*name`); quote a string that begins with `*`"),
            ("data: \"a", "f:1:7: not well-formed YAML: check indentation, quotes and brackets here and just above"),
        ],
    );
}

#[test]
fn mistakes_in_sources() {
    expect(
        "destinations: {n: {url: 'nats://h'}}\n",
        &[
            (
                "sources: {videogen: {}}",
                "f:2:11: the source `videogen` has no secret, so no delivery can be verified: give --secret, HOOKBRIDGE_SECRET, or `secrets` in the file (--config)",
            ),
            (
                "sources:\n  videogen:\n    secrets: []",
                "f:4:14: the source `videogen` has no secret, so no delivery can be verified: give --secret, HOOKBRIDGE_SECRET, or `secrets` in the file (--config)",
            ),
            (
                "sources:\n  videogen:\n    secrets: [\"${KEY}\", \"${NONE}\"]",
                "f:4:25: the environment variable `NONE` is not set",
            ),
            (
                "sources: {videogen: {secrets: \"${file:/nowhere}\"}}",
                "f:2:31: the file `/nowhere` cannot be read: there is no such file",
            ),
            (
                "sources: {videogen: {secrets: whsec_}}",
                "f:2:31: the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)",
            ),
            (
                "sources: {videogen: {secrets: ''}}",
                "f:2:31: the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)",
            ),
            (
                "sources: {videogen: {secrets: \"${BAD}!\"}}",
                "f:2:31: the secret is not usable: expected whsec_ and base64, bare base64, or whpk_ and a 32-byte public key",
            ),
            (
                "sources: {videogen: {secrets: \"${BAD}=\"}}",
                "f:2:31: the secret is not usable: expected whsec_ and base64, bare base64, or whpk_ and a 32-byte public key",
            ),
            (
                "sources: {videogen: {secrets: whsec_aGk=}}",
                "f:2:31: the secret is shorter than 24 bytes: copy the whole secret that the sender issued",
            ),
            (
                "sources: {videogen: {secrets: whsk_aGk=}}",
                "f:2:31: `whsk_…` is a private signing key, not a secret: give the endpoint's signing secret (whsec_…) or the public key (whpk_…)",
            ),
            (
                "sources: {videogen: {secrets: \"${KEY\"}}",
                "f:2:31: `${` has no matching `}`; write `$${` for a literal `${`",
            ),
            (
                "sources: {'a b': {secrets: \"${KEY}\"}}",
                "f:2:11: `a b`: the name of a source must be 1 to 64 characters from A-Z, a-z, 0-9, `_` and `-`",
            ),
            (
                "sources: {a: {secrets: \"${KEY}\", path: /x}, b: {secrets: \"${KEY}\", path: /x}}",
                "f:2:74: the source `a` already has this path",
            ),
        ],
    );
    expect(
        "destinations: {n: {url: 'nats://h'}}\nsources:\n  videogen:\n    secrets: \"${KEY}\"\n",
        &[
            ("    path: hooks", "f:5:11: `hooks`: a path begins with `/`"),
            (
                "    path: /a/{id}",
                "f:5:11: `/a/{id}`: a path consists of parts of A-Z, a-z, 0-9, `-`, `_`, `.` and `~`, separated by single `/`",
            ),
            ("    path: /healthz", "f:5:11: `/healthz`: this path is reserved for the health check"),
            ("    tolerance: 300", "f:5:16: `300`: expected a whole number and a unit: ms, s, m, h or d, such as 300s"),
            ("    tolerance: 0s", "f:5:16: `0s`: it must be from 1s to 1d"),
            ("    legacy_headers: yes", "f:5:21: `yes`: expected true or false"),
            ("    payload: videgen", "f:5:14: `videgen`: expected `videogen` or `standard`; did you mean `videogen`?"),
            ("    type_prefix: io", "f:5:18: `io`: a prefix ends with a dot, such as `io.videogen.`"),
            (
                "    attributes: {Env: a}",
                "f:5:18: `Env`: the name of an attribute must be 1 to 20 characters from a-z and 0-9 (CloudEvents)",
            ),
            (
                "    attributes: {subject: a}",
                "f:5:18: the attribute `subject` is reserved: it is set from the delivery, or CloudEvents defines it",
            ),
            ("    attributes: {env: ''}", "f:5:23: an empty string: expected 1 to 1024 bytes"),
            ("    events: ['a b']", "f:5:14: `a b`: the name of an event must not contain whitespace, `*`, `{` or `}`"),
            (
                "    fields: {event: /a~2}",
                "f:5:21: `/a~2`: expected a JSON pointer, which begins with `/`; in a name, write `~` as ~0 and `/` as ~1",
            ),
            ("    in_flight: 0", "f:5:16: `0`: it must be from 1 to 1000000"),
        ],
    );
}

#[test]
fn mistakes_in_destinations() {
    expect(
        SOURCE,
        &[
            ("destinations: {n: {}}", "f:2:16: `url` is missing"),
            (
                "destinations: {n: {url: 'http://h'}}",
                "f:2:25: `http://`: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR",
            ),
            (
                "destinations: {n: {url: 'natz://h'}}",
                "f:2:25: `natz://`: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR; did you mean `nats://`?",
            ),
            (
                "destinations: {n: {url: 'whsec_x://h'}}",
                "f:2:25: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR",
            ),
            (
                "destinations: {n: {url: 'nats://h:99999'}}",
                "f:2:25: a port is not a number from 1 to 65535 (in a password, write `,` as %2C, `@` as %40, `/` as %2F, `#` as %23)",
            ),
            (
                "destinations: {n: {url: ['nats://h', 'kafka://h']}}",
                "f:2:25: all addresses of a destination must be of the same kind",
            ),
            (
                "destinations: {n: {url: 'kafka://u:p@h'}}",
                "f:2:25: a kafka:// address cannot contain a user: set sasl.username and sasl.password in `properties`",
            ),
            (
                "destinations: {n: {url: 'nats://h', mode: binry}}",
                "f:2:43: `binry`: expected `binary` or `structured`; did you mean `binary`?",
            ),
            (
                "destinations: {n: {url: 'nats://h', stream: a.b}}",
                "f:2:45: `a.b`: the name of a stream must not contain a space, `.`, `*`, `>`, `/` or `\\`",
            ),
            (
                "destinations: {n: {url: 'nats://h', exchange: a}}",
                "f:2:47: `exchange` applies only to destinations of kind rabbitmq; this one is of kind nats",
            ),
            (
                "destinations: {n: {url: 'nats://h', partitions: 3}}",
                "f:2:49: `partitions` applies only to destinations of kind kafka; this one is of kind nats",
            ),
            (
                "destinations: {n: {url: 'nats://h', properties: {a: b}}}",
                "f:2:50: `properties` applies only to destinations of kind kafka; this one is of kind nats",
            ),
            (
                "destinations: {n: {url: 'amqp://h', exchange: amq.topic}}",
                "f:2:47: `amq.topic`: names that begin with `amq.` are reserved for the broker",
            ),
            (
                "destinations: {n: {url: 'file:d', mode: binary}}",
                "f:2:41: a file destination writes only structured events",
            ),
            (
                "destinations: {n: {url: 'file:d', topology: verify}}",
                "f:2:45: `topology` applies only to brokers; this destination is of kind file",
            ),
            (
                "destinations: {n: {url: 'nats://h', tls: {cert: /nowhere}}}",
                "f:2:49: `tls.cert` requires `tls.key`\nf:2:49: `/nowhere`: the file cannot be read: there is no such file",
            ),
            ("destinations: {n: {url: 'nats://h', tls: {ca: /}}}", "f:2:47: `/`: it is not a regular file"),
            (
                "destinations: {n: {url: 'nats://h', auth: {creds: \"/nowhere/${BAD}\"}}}",
                "f:2:51: `/nowhere/${BAD}`: the file cannot be read: there is no such file",
            ),
            (
                "destinations: {n: {url: 'nats://h', auth: {token: a, nkey: b}}}",
                "f:2:60: give only one of `auth.token`, `auth.nkey` and `auth.creds`\nf:2:60: the nkey is not a seed (SU…)",
            ),
            (
                "destinations: {n: {url: 'nats://h', in_flight_bytes: 1MiB}}",
                "f:2:54: in_flight_bytes must be at least 1 KiB more than limits.body, or the largest event never fits",
            ),
            ("destinations: {k: {url: 'kafka://h', partitions: 0}}", "f:2:50: `0`: it must be from 1 to 10000"),
            (
                "destinations: {k: {url: 'kafka://h', properties: {acks: 1}}}",
                "f:2:51: the property `acks` cannot be set: an event is confirmed only by all in-sync replicas",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {enable.idempotence: false, topic.retries: 1}}}",
                "f:2:51: the property `enable.idempotence` cannot be set: without it, a retry inside the client could duplicate or reorder events\nf:2:78: the property `retries` cannot be set: `publish: {timeout: …}` sets how long a publish is retried",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {queue.buffering.max.messages: 1}}}",
                "f:2:51: the property `queue.buffering.max.messages` cannot be set: `in_flight` limits the publishes in flight",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {max.in.flight.requests.per.connection: 1}}}",
                "f:2:51: the property `max.in.flight.requests.per.connection` cannot be set: the order of events with the same key depends on it",
            ),
        ],
    );
}

#[test]
fn reserved_kafka_properties_are_refused() {
    for (name, why) in check::properties::RESERVED_PROPERTIES {
        for prefix in ["", "topic."] {
            let text = format!("destinations: {{k: {{url: 'kafka://h', properties: {{{prefix}{name}: 1}}}}}}");
            expect(SOURCE, &[(&text, &format!("f:2:51: the property `{name}` cannot be set: {why}"))]);
        }
    }
    // The guarantees depend on these three, although that is less obvious.
    for name in ["batch.size", "socket.max.fails", "log.connection.close"] {
        assert!(check::properties::RESERVED_PROPERTIES.iter().any(|(reserved, _)| *reserved == name), "{name}");
    }
    for name in ["linger.ms", "statistics.interval.ms", "batch.num.messages"] {
        let text = format!("{SOURCE}destinations: {{k: {{url: 'kafka://h', properties: {{{name}: 1}}}}}}");
        assert!(load_file(&text).is_ok(), "{name}");
    }
}

#[test]
fn all_mistakes_of_meaning_are_reported_in_the_order_of_the_file() {
    expect(
        "",
        &[(
            "ack: x\nlisten: y\nsources: {videogen: {secrets: whsec_}}\ndestinations: {n: {url: z, mode: w}}\ndead_letters: {to: v}",
            "f:1:6: `x`: expected `published` or `stored`\nf:2:9: `y`: expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080\nf:3:31: the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)\nf:4:25: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR\nf:4:34: `w`: expected `binary` or `structured`\nf:5:20: unknown destination `v`: expected `n`",
        )],
    );
}
