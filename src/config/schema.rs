//! The JSON Schema (draft 7) of the configuration file, for editors. `tests/schema.rs` holds it against the parser.

use serde_json::{Value, json};

use forms::{any, choice, described, mapping, named, reference, required, text};

mod forms;

/// The schema of the file. Every value may contain references, such as `${NAME}`.
pub fn schema() -> Value {
    let mut schema = mapping(
        "The configuration of hookbridge",
        &[
            ("sources", named(reference("source"), "Senders of webhooks, by name. `videogen` exists by default.")),
            ("destinations", named(reference("destination"), "Where events go, by name.")),
            (
                "routes",
                described(
                    json!({"type": "array", "items": reference("route")}),
                    "Which event goes where: the first match wins. Without routes, a single destination takes every event.",
                ),
            ),
            ("unrouted", unrouted()),
            (
                "ack",
                described(
                    choice(&["published", "stored"]),
                    "When the sender is answered: when every broker has confirmed (`published`), or when the event is on disk (`stored`). Default: published.",
                ),
            ),
            (
                "store",
                described(
                    choice(&["embedded", "memory"]),
                    "Where ids and dead letters are kept: `embedded` or `memory`. Default: embedded.",
                ),
            ),
            (
                "spool",
                mapping(
                    "Events that were accepted by `ack: stored` and wait for their brokers.",
                    &[(
                        "max_bytes",
                        described(reference("size"), "Maximum size of the events that wait. Default: 8GiB."),
                    )],
                ),
            ),
            (
                "dedup",
                mapping(
                    "Recognizing deliveries that were sent again.",
                    &[("window", described(reference("duration"), "How long an id is remembered. Default: 7d."))],
                ),
            ),
            ("claim_check", claim_check()),
            (
                "dead_letters",
                mapping(
                    "Deliveries that can never be published.",
                    &[
                        (
                            "max_age",
                            described(
                                reference("duration"),
                                "How long the store keeps one; only time in which a bridge runs counts. Older ones are deleted, and the log says how many. Default: no limit.",
                            ),
                        ),
                        (
                            "max_bytes",
                            described(
                                reference("size"),
                                "Maximum size in the store; further ones are answered 503. Default: 1GiB.",
                            ),
                        ),
                        (
                            "to",
                            text(
                                "The destination that takes dead letters, in the topic `dead-letters`, instead of the store. The store keeps those that it does not confirm.",
                            ),
                        ),
                    ],
                ),
            ),
            ("listen", text("The address for webhooks. Default: 0.0.0.0:8080.")),
            (
                "admin",
                mapping(
                    "The listener for health, metrics and the API.",
                    &[
                        ("listen", text("The address for health, metrics and the API. Default: 127.0.0.1:9464.")),
                        (
                            "token",
                            text(
                                "What callers of the API send as `Authorization: Bearer`; without one, the API is only for this machine.",
                            ),
                        ),
                    ],
                ),
            ),
            ("data", text("The directory of the embedded store. Default: hookbridge-data.")),
            ("limits", limits()),
            (
                "publish",
                mapping(
                    "Publishing.",
                    &[("timeout", described(reference("duration"), "How long a publish may take. Default: 120s."))],
                ),
            ),
            (
                "shutdown",
                mapping(
                    "Shutting down.",
                    &[(
                        "timeout",
                        described(
                            reference("duration"),
                            "How long the shutdown may take, with the work in flight. Default: 25s.",
                        ),
                    )],
                ),
            ),
        ],
    );
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "hookbridge.yaml".into();
    let target = required(target("One target."), &["destination"]);
    let to_one = json!({"anyOf": [text("The name of a destination."), target]});
    schema["definitions"] = json!({
        "reference": {"type": "string", "pattern": r"\$\{"},
        "text": {"type": ["string", "number", "boolean"]},
        "texts": {"anyOf": [reference("text"), {"type": "array", "items": reference("text")}]},
        "duration": any(&[json!({"type": "string", "pattern": r"^\s*[0-9]+\s*(ms|s|m|h|d)$"}), reference("reference")]),
        "size": any(&[
            json!({"type": "integer", "minimum": 0}),
            json!({"type": "string", "pattern": r"^\s*[0-9]+\s*(B|KiB|MiB|GiB|kB|MB|GB)?$"}),
            reference("reference"),
        ]),
        "count": any(&[
            json!({"type": "integer", "minimum": 1}),
            json!({"type": "string", "pattern": r"^\s*[0-9]+\s*$"}),
            reference("reference"),
        ]),
        "flag": any(&[json!({"type": "boolean"}), json!({"enum": ["true", "false"]}), reference("reference")]),
        "source": source(),
        "destination": destination(),
        "route": route(),
        "target": to_one,
    });
    schema
}

fn source() -> Value {
    mapping(
        "A sender of webhooks.",
        &[
            (
                "secrets",
                described(reference("texts"), "Signing secrets (`whsec_…`, `whpk_…` or base64); each is tried."),
            ),
            ("path", text("The path that it posts to. Default: /webhooks/NAME.")),
            (
                "uri",
                text(
                    "The CloudEvents `source`. Default for VideoGen's payload: https://api.videogen.io; for others: the path.",
                ),
            ),
            (
                "tolerance",
                described(reference("duration"), "How far the timestamp may be from the clock. Default: 300s."),
            ),
            ("legacy_headers", described(reference("flag"), "Whether `svix-*` headers are accepted. Default: false.")),
            ("attributes", named(reference("text"), "CloudEvents attributes that are added to each event.")),
            (
                "type_prefix",
                text(
                    "The prefix of the CloudEvents `type`; it ends with a dot. Default for VideoGen's payload: `io.videogen.`; for others: `NAME.`.",
                ),
            ),
            (
                "events",
                described(
                    json!({"type": "array", "items": reference("text")}),
                    "The names of events that get topics. Default: VideoGen's.",
                ),
            ),
            (
                "payload",
                described(
                    choice(&["videogen", "standard"]),
                    "The form of the body: VideoGen's, or `standard`: `type`, `timestamp` and `data`. Default: videogen.",
                ),
            ),
            (
                "fields",
                mapping(
                    "Where in the body values are: names of members, or JSON pointers.",
                    &[
                        ("event", text("The event's name.")),
                        ("time", text("The time of the event.")),
                        (
                            "subject",
                            described(reference("texts"), "The id of the resource: the first that is present."),
                        ),
                    ],
                ),
            ),
            (
                "in_flight",
                described(
                    reference("count"),
                    "Maximum number of deliveries in flight; further ones get 429. Default: 4096.",
                ),
            ),
            ("rate", described(reference("count"), "Deliveries per second; further ones get 429. Default: no limit.")),
        ],
    )
}

fn destination() -> Value {
    let destination = mapping(
        "A broker, or a directory.",
        &[
            (
                "url",
                described(
                    reference("texts"),
                    "`nats://`, `tls://`, `kafka://h:p,h:p`, `amqp://`, `amqps://` or `file:DIR`.",
                ),
            ),
            ("stream", text("The JetStream stream. Default: EVENTS.")),
            ("exchange", text("The RabbitMQ topic exchange. Default: events.")),
            (
                "partitions",
                described(reference("count"), "The partitions of Kafka topics that are created. Default: 6."),
            ),
            (
                "mode",
                described(
                    choice(&["binary", "structured"]),
                    "The CloudEvents content mode: `binary` or `structured`. Default: binary.",
                ),
            ),
            (
                "topology",
                described(
                    choice(&["ensure", "verify"]),
                    "Create what is missing (`ensure`), or only check it (`verify`). Default: ensure.",
                ),
            ),
            (
                "oversize",
                described(
                    choice(&["dead-letter", "gzip", "claim-check"]),
                    "What becomes of an event that is too large for the broker: a dead letter, a compressed body (`gzip`), or a reference to an object that holds the body (`claim-check`). Default: dead-letter.",
                ),
            ),
            (
                "forward_signature",
                described(
                    reference("flag"),
                    "Whether the signature is forwarded, for workers that verify again. Default: false.",
                ),
            ),
            ("in_flight", described(reference("count"), "Maximum number of publishes in flight. Default: 10000.")),
            ("in_flight_bytes", described(reference("size"), "Maximum bytes of publishes in flight. Default: 64MiB.")),
            (
                "tls",
                mapping(
                    "TLS certificates and key, as PEM files.",
                    &[
                        ("ca", text("Root certificates.")),
                        ("cert", text("The client's certificate.")),
                        ("key", text("The client's key.")),
                    ],
                ),
            ),
            (
                "auth",
                mapping(
                    "NATS credentials: one of these.",
                    &[
                        ("token", text("A token.")),
                        ("nkey", text("The seed of an nkey (SU…).")),
                        ("creds", text("A credentials file.")),
                    ],
                ),
            ),
            ("properties", named(reference("text"), "Properties of librdkafka, for Kafka.")),
        ],
    );
    required(destination, &["url"])
}

fn claim_check() -> Value {
    mapping(
        "The object store for bodies that are too large for a broker.",
        &[
            ("url", text("`s3://BUCKET/PREFIX` or `file:DIR`; destinations with `oversize: claim-check` need it.")),
            ("endpoint", text("The URL of an S3-compatible server. Default: Amazon's.")),
            ("region", text("The region of the bucket. Default: AWS_REGION, else us-east-1.")),
            ("access_key_id", text("The access key. Default: as the AWS tools find it in the environment.")),
            ("secret_access_key", text("The secret of the access key.")),
        ],
    )
}

fn route() -> Value {
    let when = mapping(
        "A condition on the body.",
        &[
            ("pointer", text("A JSON pointer to the value that decides.")),
            (
                "in",
                described(
                    json!({"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean", "null"]}}),
                    "The values that match.",
                ),
            ),
        ],
    );
    let to = json!({"anyOf": [reference("target"), {"type": "array", "items": reference("target")}]});
    let route = mapping(
        "Events that match go to these targets.",
        &[
            ("match", text("A pattern on the event's name: `*` is one part, `**` any number of parts.")),
            ("source", described(reference("texts"), "The sources whose events match. Default: every source.")),
            ("when", required(when, &["pointer", "in"])),
            ("to", described(to, "The targets; an empty list: acknowledged and not published.")),
        ],
    );
    required(route, &["match", "to"])
}

fn target(description: &str) -> Value {
    mapping(
        description,
        &[
            ("destination", text("The name of a destination.")),
            (
                "topic",
                text(
                    "The topic: text with `{event}`, `{type}` or `{source}`, on NATS and RabbitMQ also `{subject}` or `{partition:N}`. Default: {event}.",
                ),
            ),
            (
                "key",
                text(
                    "The record key: text with the placeholders of `topic`, and `{subject}` and `{partition:N}` on every broker. Default: the event's partitionkey.",
                ),
            ),
            (
                "required",
                described(
                    reference("flag"),
                    "Whether a delivery needs this target's confirm (`true`), or what the target misses becomes a dead letter (`false`). Default: true.",
                ),
            ),
        ],
    )
}

fn unrouted() -> Value {
    let destination = mapping(
        "A topic of one destination.",
        &[("destination", text("The name of a destination.")), ("topic", text("The topic. Default: unrouted."))],
    );
    let any = json!({"anyOf": [reference("text"), required(destination, &["destination"])]});
    described(
        any,
        "Events that no route matches, or whose name is new to hookbridge: a topic, `ignore`, `dead-letter`, or `{destination, topic}`. Default: unrouted.",
    )
}

fn limits() -> Value {
    mapping(
        "Limits for clients.",
        &[
            ("body", described(reference("size"), "The largest body. Default: 8MiB.")),
            ("header_bytes", described(reference("size"), "The largest head of a request. Default: 32KiB.")),
            ("headers", described(reference("count"), "Maximum number of headers. Default: 80.")),
            ("read_timeout", described(reference("duration"), "How long a client may take to send. Default: 5s.")),
            (
                "request_timeout",
                described(reference("duration"), "When a request is answered at the latest. Default: 10s."),
            ),
            ("connections", described(reference("count"), "Maximum number of connections. Default: 4096.")),
            ("requests", described(reference("count"), "Maximum number of requests in flight. Default: 8192.")),
            ("bytes", described(reference("size"), "Maximum bytes of bodies in flight. Default: 256MiB.")),
        ],
    )
}
