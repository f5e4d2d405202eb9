//! The description of the API (OpenAPI 3.1).

use axum::response::Response;
use serde_json::{Value, json};

use super::shown::as_json;

pub(super) async fn page() -> Response {
    as_json(&description())
}

/// The description. A test compares it with the routes.
pub(super) fn description() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hookbridge", "version": env!("CARGO_PKG_VERSION"),
            "description": "Dead letters and the ledger of a running bridge.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/api/v1/dead-letters": {
                "get": call("Lists dead letters by their ids, oldest first, without headers and bodies", [
                    parameter("source", "Those of this source", string()),
                    parameter("event", "Those whose event's name matches this pattern: `*` is one part, `**` any number of parts", string()),
                    parameter("reason", "Those that are dead for this reason", string()),
                    parameter("destination", "Those for this destination", string()),
                    parameter("since", "Those kept at this time or later", date_time()),
                    parameter("until", "Those kept before this time", date_time()),
                    parameter("after", "Those with a larger id", json!({"type": "integer"})),
                    parameter("limit", "Maximum number on this page", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})),
                ].to_vec(), json!({
                    "type": "object", "required": ["dead_letters", "next"],
                    "properties": {
                        "dead_letters": {"type": "array", "items": schema("DeadLetter")},
                        "next": {"type": ["integer", "null"], "description": "The `after` of the next page, if there is one"},
                    },
                })),
            },
            "/api/v1/dead-letters/{id}": {
                "parameters": [id()],
                "get": call("Shows a dead letter with its headers and its body", vec![
                    parameter("urls", "Whether URLs keep their queries, where signatures are", json!({"type": "boolean", "default": false})),
                ], json!({"allOf": [schema("DeadLetter"), {"type": "object", "properties": {
                    "headers": {"type": "array", "items": {"type": "array", "items": string()}},
                    "body": string(),
                    "body_base64": {"type": "string", "description": "In the place of `body`, if that is not UTF-8"},
                }}]})),
                "delete": call("Deletes a dead letter", Vec::new(), json!({
                    "type": "object", "properties": {"id": {"type": "integer"}, "discarded": {"const": true}},
                })),
            },
            "/api/v1/dead-letters/{id}/replay": {
                "parameters": [id()],
                "post": call("Publishes a dead letter again, with the same event id, and waits for the outcome", Vec::new(), json!({
                    "type": "object", "required": ["id", "replayed", "targets"],
                    "properties": {
                        "id": {"type": "integer"},
                        "replayed": {"type": "boolean", "description": "Whether every target has confirmed"},
                        "targets": {"type": "array", "items": {"type": "object", "properties": {
                            "target": string(),
                            "outcome": {"enum": ["confirmed", "again", "unknown", "never"]},
                            "reason": string(), "detail": string(),
                            "dead_letter": {"type": "integer", "description": "The id of the dead letter that stays"},
                        }}},
                    },
                })),
            },
            "/api/v1/ledger": {
                "parameters": [
                    {"name": "id", "in": "query", "required": true, "description": "The webhook-id", "schema": string()},
                    parameter("source", "The source's name", json!({"type": "string", "default": "videogen"})),
                ],
                "get": call("Shows what is known of a webhook-id", Vec::new(), json!({
                    "type": "object", "properties": {
                        "source": string(), "webhook_id": string(),
                        "state": {"enum": ["in-flight", "open", "stored", "delivered", "dead-lettered", "resolved", "ignored", "forgotten"],
                            "description": "`resolved`: its dead letters were replayed or discarded, if it had any; with `--ack stored`, the spool has delivered the rest"},
                        "body_hash": {"type": ["string", "null"]},
                        "targets": {"type": "array", "items": {"type": "object", "properties": {
                            "target": string(), "state": {"enum": ["confirmed", "dead", "open", "waiting"]},
                            "reason": string(), "dead_letter": {"type": "integer"},
                        }}},
                        "dead_letters": {"type": "array", "items": schema("DeadLetter")},
                    },
                })),
                "delete": call("Forgets a webhook-id, so that the next delivery with it is published", Vec::new(), json!({
                    "type": "object", "properties": {
                        "source": string(), "webhook_id": string(), "forgotten": {"const": true},
                        "dead_letters": {"type": "array", "items": {"type": "integer"}, "description": "Those that stay"},
                    },
                })),
            },
            "/api/v1/openapi.json": {"get": call("This description", Vec::new(), json!({"type": "object"}))},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "The admin token"}},
            "schemas": {
                "DeadLetter": {
                    "type": "object",
                    "required": ["id", "source", "webhook_id", "event", "reason", "time", "targets"],
                    "properties": {
                        "id": {"type": "integer"}, "source": string(), "webhook_id": string(),
                        "event": {"type": ["string", "null"]}, "reason": string(), "detail": string(),
                        "time": date_time(), "targets": {"type": "array", "items": string()},
                        "bytes": {"type": "integer"},
                    },
                },
                "Problem": {
                    "type": "object", "description": "RFC 9457",
                    "properties": {"type": string(), "title": string(), "status": {"type": "integer"}, "detail": string()},
                },
            },
        },
    })
}

fn call(summary: &str, parameters: Vec<Value>, answer: Value) -> Value {
    json!({
        "summary": summary, "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": answer}}},
            "default": {
                "description": "Not done",
                "content": {"application/problem+json": {"schema": schema("Problem")}},
            },
        },
    })
}

fn parameter(name: &str, description: &str, form: Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": form})
}

fn id() -> Value {
    json!({"name": "id", "in": "path", "required": true, "description": "As the list shows it", "schema": {"type": "integer"}})
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn date_time() -> Value {
    json!({"type": "string", "format": "date-time"})
}
