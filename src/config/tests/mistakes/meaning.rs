//! Mistakes in routes and in the remaining settings.

use super::*;

const BOTH: &str = "sources: {videogen: {secrets: \"${KEY}\"}}\ndestinations: {n: {url: 'nats://h'}}\n";
const KAFKA: &str = "sources: {videogen: {secrets: \"${KEY}\"}}\ndestinations: {k: {url: 'kafka://h'}}\n";

#[test]
fn mistakes_in_routes() {
    expect(
        BOTH,
        &[
            ("routes: [{match: a..b, to: [n]}]", "f:3:18: `a..b`: a part between dots is empty"),
            (
                "routes: [{match: 'file.a*', to: [n]}]",
                "f:3:18: `file.a*`: \"a*\" mixes text and '*': '*' matches one whole part, '**' any number of parts",
            ),
            ("routes: [{match: '**', to: [m]}]", "f:3:29: unknown destination `m`: expected `n`"),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '{evnt}'}]}]",
                "f:3:53: `{evnt}`: unknown placeholder {evnt}: expected {event}, {type}, {source}, {subject} or {partition:N} with N from 1 to 1024",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: 'a b'}]}]",
                "f:3:53: the name `a b` is not legal on nats: it must not contain ' '",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '.{event}'}]}]",
                "f:3:53: the name `.tool_execution.succeeded` is not legal on nats: a part between dots is empty",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '{event}.{partition:1024}'}]}]",
                "f:3:53: it yields more than 10000 names",
            ),
            ("routes: [{match: '**', to: [{destination: n, key: '{'}]}]", "f:3:51: `{`: a '{' has no matching '}'"),
            (
                "routes: [{match: '**', to: [{destination: n, key: a}, {destination: n, key: b}]}]",
                "f:3:55: the route has the same destination and topic twice, with different keys",
            ),
            (
                "routes: [{match: '**', when: {pointer: a, in: [x]}, to: [n]}]",
                "f:3:40: `a`: expected a JSON pointer, which begins with `/`; in a name, write `~` as ~0 and `/` as ~1",
            ),
            (
                "routes: [{match: '**', when: {pointer: /a, in: []}, to: [n]}]",
                "f:3:40: `in` is empty, so the route never matches",
            ),
            (
                "routes: [{match: '**', when: {pointer: /a, in: [[x]]}, to: [n]}]",
                "f:3:49: expected a string, a number, true, false or null",
            ),
            (
                "routes: [{match: '**', source: vidogen, to: n}]",
                "f:3:32: unknown source `vidogen`: expected `videogen`; did you mean `videogen`?",
            ),
            ("routes: [{match: '**', source: [], to: n}]", "f:3:32: `source` is empty, so the route never matches"),
            ("unrouted: 'a.*'", "f:3:11: the name `a.*` is not legal on `n` (nats): it must not contain '*'"),
            ("unrouted: '{event}'", "f:3:11: `{event}`: the topic for unrouted events is a plain name without {…}"),
            ("unrouted: ''", "f:3:11: an empty string: expected a topic, `ignore` or `dead-letter`"),
            (
                "routes: [{match: '${KEY}..a', to: [{destination: n, topic: '{${OTHER}}'}]}]",
                "f:3:18: `${KEY}..a`: it is not well-formed\nf:3:60: `{${OTHER}}`: it is not well-formed",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '${PASSWORD} x'}]}]",
                "f:3:53: the name (not shown) is not legal on nats: it must not contain ' '",
            ),
            ("unrouted: {destination: m, topic: a}", "f:3:25: unknown destination `m`: expected `n`"),
            ("dead_letters: {to: m}", "f:3:20: unknown destination `m`: expected `n`"),
        ],
    );
    expect(
        KAFKA,
        &[
            (
                "routes: [{match: '**', to: [{destination: k, topic: '{subject}'}]}]",
                "f:3:53: {subject} and {partition:N} are for keys, NATS subjects and routing keys: the number of Kafka topics would be unbounded",
            ),
            (
                "routes: [{match: '**', to: [{destination: k, topic: 'a/{event}'}]}]",
                "f:3:53: the name `a/tool_execution.succeeded` is not legal on kafka: it must not contain '/'",
            ),
            (
                "routes:\n  - {match: 'file.*', to: [{destination: k, topic: a.b}]}\n  - {match: '**', to: [{destination: k, topic: a_b}]}",
                "f:2:16: the topics `a.b` and `a_b` collide on kafka, which treats `.` and `_` as equal",
            ),
            (
                "routes: [{match: '**', to: [{destination: k, topic: un.routed}, k]}]\nunrouted: un_routed",
                "f:2:16: the topics `un.routed` and `un_routed` collide on kafka, which treats `.` and `_` as equal",
            ),
        ],
    );
    expect(
        SOURCE,
        &[(
            "destinations: {a: {url: 'nats://h'}, b: {url: 'nats://i'}}",
            "f:2:38: several destinations (`a`, `b`) need `routes`, which say which event goes where",
        )],
    );
}

#[test]
fn mistakes_in_other_settings() {
    expect(
        BOTH,
        &[
            ("ack: stored\nstore: memory", "f:3:6: `stored` needs a store on disk: use `store: embedded`"),
            ("ack: publishd", "f:3:6: `publishd`: expected `published` or `stored`; did you mean `published`?"),
            (
                "store: redis://h",
                "f:3:8: the store `redis://` is not available yet in this version: use `embedded` or `memory`",
            ),
            (
                "store: nats://h",
                "f:3:8: the store `nats://` is not available yet in this version: use `embedded` or `memory`",
            ),
            (
                "store: embeded",
                "f:3:8: unknown store `embeded`: expected `embedded` or `memory`; did you mean `embedded`?",
            ),
            ("store: mongodb://u:hunter2@x", "f:3:8: unknown store `mongodb://`: expected `embedded` or `memory`"),
            ("store: Hunter2", "f:3:8: unknown store: expected `embedded` or `memory`"),
            (
                "listen: nowhere",
                "f:3:9: `nowhere`: expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080",
            ),
            (
                "listen: 127.0.0.1:9464",
                "f:3:9: listen and admin.listen are the same address: give them different ports",
            ),
            (
                "listen: 127.0.0.1:70000",
                "f:3:9: `127.0.0.1:70000`: expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080",
            ),
            ("data: ''", "f:3:7: an empty string: expected a directory"),
            ("limits: {body: 0}", "f:3:16: `0`: it must be from 1KiB to 512MiB"),
            (
                "limits: {body: 8mb}",
                "f:3:16: `8mb`: expected a number of bytes, or a number and a unit: KiB, MiB or GiB (kB, MB, GB), such as 8MiB",
            ),
            (
                "limits: {bytes: 1MiB}",
                "f:3:17: limits.bytes must not be smaller than limits.body, or the largest body never fits",
            ),
            ("limits: {connections: 0}", "f:3:23: `0`: it must be from 1 to 1000000"),
            ("limits: {read_timeout: 0s}", "f:3:24: `0s`: it must be from 100ms to 1m"),
            (
                "publish: {timeout: 1w}",
                "f:3:20: `1w`: expected a whole number and a unit: ms, s, m, h or d, such as 300s",
            ),
            ("publish: {timeout: 5s}", "f:3:20: publish.timeout must not be shorter than limits.request_timeout"),
            ("shutdown: {timeout: 0s}", "f:3:21: `0s`: it must be from 1s to 1h"),
            (
                "dedup: {window: 1m}",
                "f:3:17: dedup.window must be at least twice the tolerance, or a captured delivery could be replayed",
            ),
        ],
    );
}
