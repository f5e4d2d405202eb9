//! Of routes, and of the rest.

use super::*;

const BOTH: &str = "sources: {videogen: {secrets: \"${KEY}\"}}\ndestinations: {n: {url: 'nats://h'}}\n";
const KAFKA: &str = "sources: {videogen: {secrets: \"${KEY}\"}}\ndestinations: {k: {url: 'kafka://h'}}\n";

#[test]
fn of_routes() {
    expect(
        BOTH,
        &[
            ("routes: [{match: a..b, to: [n]}]", "f:3:18: `a..b`: a part between dots is empty"),
            (
                "routes: [{match: 'file.a*', to: [n]}]",
                "f:3:18: `file.a*`: \"a*\" mixes text and '*': '*' stands for one whole part, '**' for any number",
            ),
            ("routes: [{match: '**', to: [m]}]", "f:3:29: unknown destination `m`: there is `n`"),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '{evnt}'}]}]",
                "f:3:53: `{evnt}`: unknown placeholder {evnt}: there are {event}, {type}, {source}, {subject} and {partition:N} with N from 1 to 1024",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: 'a b'}]}]",
                "f:3:53: the name `a b` is not legal on nats: it must not hold ' '",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '.{event}'}]}]",
                "f:3:53: the name `.tool_execution.succeeded` is not legal on nats: a part between dots is empty",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '{event}.{partition:1024}'}]}]",
                "f:3:53: it makes more than 10000 names",
            ),
            ("routes: [{match: '**', to: [{destination: n, key: '{'}]}]", "f:3:51: `{`: a '{' without its '}'"),
            (
                "routes: [{match: '**', to: [{destination: n, key: a}, {destination: n, key: b}]}]",
                "f:3:55: the same destination and topic twice in one route, with different keys",
            ),
            (
                "routes: [{match: '**', when: {pointer: a, in: [x]}, to: [n]}]",
                "f:3:40: `a`: expected a JSON pointer: it begins with `/`, and `~` is written ~0, `/` inside a name ~1",
            ),
            (
                "routes: [{match: '**', when: {pointer: /a, in: []}, to: [n]}]",
                "f:3:40: `in` is empty: the route could never match",
            ),
            (
                "routes: [{match: '**', when: {pointer: /a, in: [[x]]}, to: [n]}]",
                "f:3:49: expected a text, a number, true, false or null",
            ),
            ("unrouted: 'a.*'", "f:3:11: the name `a.*` is not legal on `n` (nats): it must not hold '*'"),
            ("unrouted: '{event}'", "f:3:11: `{event}`: the topic for unrouted events is a plain name, without {…}"),
            ("unrouted: ''", "f:3:11: an empty text: expected a topic, `ignore` or `dead-letter`"),
            (
                "routes: [{match: '${KEY}..a', to: [{destination: n, topic: '{${OTHER}}'}]}]",
                "f:3:18: `${KEY}..a`: it is not well-formed\nf:3:60: `{${OTHER}}`: it is not well-formed",
            ),
            (
                "routes: [{match: '**', to: [{destination: n, topic: '${PASSWORD} x'}]}]",
                "f:3:53: the name made here is not legal on nats: it must not hold ' '",
            ),
            ("unrouted: {destination: m, topic: a}", "f:3:25: unknown destination `m`: there is `n`"),
            ("dead_letters: {to: m}", "f:3:20: unknown destination `m`: there is `n`"),
        ],
    );
    expect(
        KAFKA,
        &[
            (
                "routes: [{match: '**', to: [{destination: k, topic: '{subject}'}]}]",
                "f:3:53: {subject} and {partition:N} would make topics of Kafka without end: use them in keys, NATS subjects and routing keys",
            ),
            (
                "routes: [{match: '**', to: [{destination: k, topic: 'a/{event}'}]}]",
                "f:3:53: the name `a/tool_execution.succeeded` is not legal on kafka: it must not hold '/'",
            ),
            (
                "routes:\n  - {match: 'file.*', to: [{destination: k, topic: a.b}]}\n  - {match: '**', to: [{destination: k, topic: a_b}]}",
                "f:2:16: the topics `a.b` and `a_b` cannot exist side by side on kafka",
            ),
            (
                "routes: [{match: '**', to: [{destination: k, topic: un.routed}, k]}]\nunrouted: un_routed",
                "f:2:16: the topics `un.routed` and `un_routed` cannot exist side by side on kafka",
            ),
        ],
    );
    expect(
        SOURCE,
        &[(
            "destinations: {a: {url: 'nats://h'}, b: {url: 'nats://i'}}",
            "f:2:38: there are several destinations (`a`, `b`) and no `routes`: say which event goes where",
        )],
    );
}

#[test]
fn of_the_rest() {
    expect(
        BOTH,
        &[
            ("ack: stored", "f:3:6: `stored` is not available yet in this version: use `published`"),
            ("ack: publishd", "f:3:6: expected `published`; did you mean `published`?"),
            (
                "store: redis://h",
                "f:3:8: the store redis:// is not available yet in this version: use `embedded` or `memory`",
            ),
            (
                "store: nats://h",
                "f:3:8: the store nats:// is not available yet in this version: use `embedded` or `memory`",
            ),
            ("store: embeded", "f:3:8: unknown store: expected `embedded` or `memory`; did you mean `embedded`?"),
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
            ("data: ''", "f:3:7: an empty text: expected a directory"),
            ("limits: {body: 0}", "f:3:16: `0`: it must be from 1KiB to 512MiB"),
            (
                "limits: {body: 8mb}",
                "f:3:16: `8mb`: expected a number of bytes, or a number and a unit: KiB, MiB or GiB (kB, MB, GB), such as 8MiB",
            ),
            (
                "limits: {bytes: 1MiB}",
                "f:3:17: limits.bytes must not be smaller than limits.body: such a body could never be taken",
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
                "f:3:17: dedup.window is shorter than twice the tolerance: a captured delivery could be replayed",
            ),
        ],
    );
}
