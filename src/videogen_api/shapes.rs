//! What the API takes and returns. Unknown members are ignored: objects may gain them.

use serde::Deserialize;
use serde_json::json;

use crate::secret::Secret;

/// An endpoint: where VideoGen posts which events.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEndpoint {
    /// Opaque, such as `ep_…`.
    pub endpoint_id: String,
    /// Where deliveries are posted to.
    pub url: String,
    /// The names of the events that are sent.
    pub events: Vec<String>,
    /// Unix seconds.
    #[serde(default)]
    pub created_at: i64,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
    /// Only in the answer to its creation.
    #[serde(default, deserialize_with = "secret")]
    pub signing_secret: Option<Secret>,
    /// The last four characters of the signing secret.
    #[serde(default)]
    pub signing_secret_last4: Option<String>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

/// A page of the list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub endpoints: Vec<WebhookEndpoint>,
    pub has_more: bool,
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// An endpoint to create.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Where deliveries are posted to.
    pub url: String,
    /// The events to send, at least one.
    pub events: Vec<String>,
    /// Free text.
    pub description: Option<String>,
}

impl NewEndpoint {
    /// The request's body.
    pub(super) fn json(&self) -> String {
        let NewEndpoint { url, events, description } = self;
        let mut body = json!({"url": url, "events": events});
        if let Some(description) = description {
            body["description"] = description.as_str().into();
        }
        body.to_string()
    }
}
