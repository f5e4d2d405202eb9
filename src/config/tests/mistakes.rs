//! Mistakes, each with its place and its words.

use super::*;

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
fn of_structure() {
    expect(
        "",
        &[
            (
                "lisen: x",
                "f:1:1: unknown setting `lisen`: expected one of `sources`, `destinations`, `routes`, `unrouted`, `ack`, `store`, `dedup`, `dead_letters`, `listen`, `admin`, `data`, `limits`, `publish`, `shutdown`; did you mean `listen`?",
            ),
            (
                "sources:\n  videogen:\n    secret: x",
                "f:3:5: unknown setting `secret`: expected one of `secrets`, `path`, `uri`, `tolerance`, `legacy_headers`, `attributes`, `type_prefix`, `events`, `payload`, `fields`, `in_flight`, `rate`; did you mean `secrets`?",
            ),
            (
                "destinations: {a: {url: 'nats://h', streams: x}}",
                "f:1:37: unknown setting `streams`: expected one of `url`, `stream`, `exchange`, `partitions`, `mode`, `topology`, `forward_signature`, `in_flight`, `in_flight_bytes`, `tls`, `auth`, `properties`; did you mean `stream`?",
            ),
            ("routes: [{to: []}]", "f:1:11: `match` is missing"),
            ("routes: [{match: a, to: a}]", "f:1:25: expected a list"),
            ("routes: [{match: a, to: [{topic: a}]}]", "f:1:27: `destination` is missing"),
            (
                "routes: [{match: a, to: [{destination: a, tpic: a}]}]",
                "f:1:43: unknown setting `tpic`: expected one of `destination`, `topic`, `key`; did you mean `topic`?",
            ),
            ("routes: [{match: a, when: {pointer: /a}, to: []}]", "f:1:28: `in` is missing"),
            ("routes: [{match: a, when: {pointer: /a, in: x}, to: []}]", "f:1:45: expected a list"),
            ("unrouted: [a]", "f:1:11: expected a name or a mapping"),
            ("listen: {a: b}", "f:1:9: expected a text"),
            ("listen: [a]", "f:1:9: expected a text"),
            ("limits: 7", "f:1:9: expected a mapping of settings"),
            ("sources: [a]", "f:1:10: expected a mapping of settings"),
            (
                "sources: {videogen: {secrets: 7}}",
                "f:1:31: the secret is not usable: expected whsec_ and base64, bare base64, or whpk_ and a 32-byte public key\nf: there is no destination: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)",
            ),
            ("ack: published\nack: published", "f:2:1: the key `ack` is here a second time"),
            (
                "data: a\n c: d",
                "f:2:3: not well-formed YAML: look at indentation, quotes and brackets here and just above",
            ),
            ("data: [a", "f:1:7: expected a text"),
            ("data: a\n---\ndata: b", "f:3:1: expected one YAML document, there is a second one"),
            ("data: *a", "f:1:7: an alias (`*name`) without its anchor; a text that begins with `*` needs quotes"),
            ("data: \"a", "f:1:7: not well-formed YAML: look at indentation, quotes and brackets here and just above"),
        ],
    );
}

#[test]
fn of_sources() {
    expect(
        "destinations: {n: {url: 'nats://h'}}\n",
        &[
            (
                "sources: {videogen: {}}",
                "f:2:11: the source `videogen` has no secret, so nothing can be verified: give --secret, HOOKBRIDGE_SECRET, or `secrets` in the file (--config)",
            ),
            (
                "sources:\n  videogen:\n    secrets: []",
                "f:4:14: the source `videogen` has no secret, so nothing can be verified: give --secret, HOOKBRIDGE_SECRET, or `secrets` in the file (--config)",
            ),
            (
                "sources:\n  videogen:\n    secrets: [\"${KEY}\", \"${NONE}\"]",
                "f:4:25: the environment variable `NONE` is not set",
            ),
            (
                "sources: {videogen: {secrets: \"${file:/nowhere}\"}}",
                "f:2:31: the file `/nowhere` cannot be read: entity not found",
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
                "f:2:31: the secret is shorter than 24 bytes: use the one the sender issued, whole",
            ),
            (
                "sources: {videogen: {secrets: \"${KEY\"}}",
                "f:2:31: a `${` without its `}`; write `$${` for a literal `${`",
            ),
            (
                "sources: {'a b': {secrets: \"${KEY}\"}}",
                "f:2:11: the name of a source must be 1 to 64 of A-Z, a-z, 0-9, `_` and `-`",
            ),
            (
                "sources: {a: {secrets: \"${KEY}\", path: /x}, b: {secrets: \"${KEY}\", path: /x}}",
                "f:2:74: the source `a` has this path already",
            ),
        ],
    );
    expect(
        "destinations: {n: {url: 'nats://h'}}\nsources:\n  videogen:\n    secrets: \"${KEY}\"\n",
        &[
            ("    path: hooks", "f:5:11: `hooks`: a path begins with `/`"),
            (
                "    path: /a/{id}",
                "f:5:11: `/a/{id}`: a path holds parts of A-Z, a-z, 0-9, `-`, `_`, `.` and `~` between single `/`",
            ),
            ("    path: /healthz", "f:5:11: `/healthz`: this path is taken by the health check"),
            ("    tolerance: 300", "f:5:16: `300`: expected a whole number and a unit: ms, s, m, h or d, such as 300s"),
            ("    tolerance: 0s", "f:5:16: `0s`: it must be from 1s to 1d"),
            ("    legacy_headers: yes", "f:5:21: `yes`: expected true or false"),
            ("    payload: videgen", "f:5:14: `videgen`: expected `videogen` or `standard`; did you mean `videogen`?"),
            ("    type_prefix: io", "f:5:18: `io`: a prefix ends with a dot, such as `io.videogen.`"),
            (
                "    attributes: {Env: a}",
                "f:5:18: the name of an attribute must be 1 to 20 of a-z and 0-9 (CloudEvents)",
            ),
            ("    attributes: {subject: a}", "f:5:18: the attribute `subject` is set from the delivery"),
            ("    attributes: {env: ''}", "f:5:23: an empty text: expected 1 to 1024 bytes"),
            ("    events: ['a b']", "f:5:14: `a b`: the name of an event holds no whitespace, `*`, `{` or `}`"),
            (
                "    fields: {event: /a~2}",
                "f:5:21: `/a~2`: expected a JSON pointer: it begins with `/`, and `~` is written ~0, `/` inside a name ~1",
            ),
            ("    in_flight: 0", "f:5:16: `0`: it must be from 1 to 1000000"),
        ],
    );
}

#[test]
fn of_destinations() {
    expect(
        SOURCE,
        &[
            ("destinations: {n: {}}", "f:2:16: `url` is missing"),
            (
                "destinations: {n: {url: 'http://h'}}",
                "f:2:25: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR",
            ),
            (
                "destinations: {n: {url: 'nats://h:99999'}}",
                "f:2:25: a port is not a number from 1 to 65535 (in a password, write `,` as %2C, `@` as %40, `/` as %2F, `#` as %23)",
            ),
            (
                "destinations: {n: {url: ['nats://h', 'kafka://h']}}",
                "f:2:25: all addresses of a destination must be of one kind",
            ),
            (
                "destinations: {n: {url: 'kafka://u:p@h'}}",
                "f:2:25: a kafka:// address holds no user: set `properties` sasl.username and sasl.password",
            ),
            (
                "destinations: {n: {url: 'nats://h', mode: binry}}",
                "f:2:43: `binry`: expected `binary` or `structured`; did you mean `binary`?",
            ),
            (
                "destinations: {n: {url: 'nats://h', stream: a.b}}",
                "f:2:45: `a.b`: the name of a stream holds no space, `.`, `*`, `>`, `/` or `\\`",
            ),
            (
                "destinations: {n: {url: 'nats://h', exchange: a}}",
                "f:2:47: `exchange` is for destinations of the kind rabbitmq, this is nats",
            ),
            (
                "destinations: {n: {url: 'nats://h', partitions: 3}}",
                "f:2:49: `partitions` is for destinations of the kind kafka, this is nats",
            ),
            (
                "destinations: {n: {url: 'nats://h', properties: {a: b}}}",
                "f:2:50: `properties` is for destinations of the kind kafka, this is nats",
            ),
            (
                "destinations: {n: {url: 'amqp://h', exchange: amq.topic}}",
                "f:2:47: `amq.topic`: exchanges that begin with `amq.` are the broker's own",
            ),
            (
                "destinations: {n: {url: 'file:d', mode: binary}}",
                "f:2:41: a file destination writes structured events only",
            ),
            ("destinations: {n: {url: 'file:d', topology: verify}}", "f:2:45: `topology` is for brokers, this is file"),
            (
                "destinations: {n: {url: 'nats://h', tls: {cert: /nowhere}}}",
                "f:2:49: `tls.cert` needs `tls.key`\nf:2:49: `/nowhere`: the file cannot be read: entity not found",
            ),
            ("destinations: {n: {url: 'nats://h', tls: {ca: /}}}", "f:2:47: `/`: it is not a file"),
            (
                "destinations: {n: {url: 'nats://h', auth: {creds: \"/nowhere/${BAD}\"}}}",
                "f:2:51: `/nowhere/${BAD}`: the file cannot be read: entity not found",
            ),
            (
                "destinations: {n: {url: 'nats://h', auth: {token: a, nkey: b}}}",
                "f:2:60: give one of `auth.token`, `auth.nkey` and `auth.creds`",
            ),
            (
                "destinations: {n: {url: 'nats://h', in_flight_bytes: 1MiB}}",
                "f:2:54: in_flight_bytes must be at least 1 KiB more than limits.body: such an event could never be published",
            ),
            ("destinations: {k: {url: 'kafka://h', partitions: 0}}", "f:2:50: `0`: it must be from 1 to 10000"),
            (
                "destinations: {k: {url: 'kafka://h', properties: {acks: 1}}}",
                "f:2:51: the property `acks` is not to be set: an event is confirmed only by all in-sync replicas",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {enable.idempotence: false, topic.retries: 1}}}",
                "f:2:51: the property `enable.idempotence` is not to be set: it keeps a retry inside the client from doubling or reordering events, and stays on\nf:2:78: the property `retries` is not to be set: a publish is tried for as long as its life lasts",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {queue.buffering.max.messages: 1}}}",
                "f:2:51: the property `queue.buffering.max.messages` is not to be set: what is in flight is bounded by `in_flight`",
            ),
            (
                "destinations: {k: {url: 'kafka://h', properties: {max.in.flight.requests.per.connection: 1}}}",
                "f:2:51: the property `max.in.flight.requests.per.connection` is not to be set: the order of a key's events rests on it",
            ),
        ],
    );
}

#[test]
fn of_kafka_properties_that_are_ours() {
    for (name, why) in check::destination::OURS {
        for prefix in ["", "topic."] {
            let text = format!("destinations: {{k: {{url: 'kafka://h', properties: {{{prefix}{name}: 1}}}}}}");
            expect(SOURCE, &[(&text, &format!("f:2:51: the property `{name}` is not to be set: {why}"))]);
        }
    }
    // What our promises rest on besides.
    for name in ["batch.size", "socket.max.fails", "log.connection.close"] {
        assert!(check::destination::OURS.iter().any(|(ours, _)| *ours == name), "{name}");
    }
    for name in ["linger.ms", "statistics.interval.ms", "batch.num.messages"] {
        let text = format!("{SOURCE}destinations: {{k: {{url: 'kafka://h', properties: {{{name}: 1}}}}}}");
        assert!(load_file(&text).is_ok(), "{name}");
    }
}

#[test]
fn all_mistakes_of_meaning_come_at_once_in_the_files_order() {
    expect(
        "",
        &[(
            "ack: x\nlisten: y\nsources: {videogen: {secrets: whsec_}}\ndestinations: {n: {url: z, mode: w}}\ndead_letters: {to: v}",
            "f:1:6: expected `published`\nf:2:9: `y`: expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080\nf:3:31: the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)\nf:4:25: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR\nf:4:34: `w`: expected `binary` or `structured`\nf:5:20: unknown destination `v`: there is `n`",
        )],
    );
}
