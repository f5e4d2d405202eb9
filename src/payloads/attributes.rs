//! The CloudEvents attributes that hookbridge sets: members in structured mode, headers in binary mode.

use serde_json::{Value, json};

use super::build::{constant, string, url};

/// A CloudEvents attribute.
pub struct Attribute {
    /// Its name, without the prefix that a broker's binding adds.
    pub name: &'static str,
    /// Whether every event has it.
    pub always: bool,
    /// The schema of its value.
    pub schema: Value,
}

/// The further attributes of an event whose data are in the object store.
pub fn reference_attributes() -> Vec<Attribute> {
    let attribute = |name, schema| Attribute { name, always: false, schema };
    vec![
        attribute("dataref", string("The URI of the object that holds the data; the body is `null` then.")),
        attribute("datasize", string("The object's size in bytes.")),
    ]
}

/// The attributes, except `datacontenttype`, which each binding carries in its own way.
pub fn attributes() -> Vec<Attribute> {
    let time = |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    let attribute = |name, always, schema| Attribute { name, always, schema };
    vec![
        attribute("specversion", true, constant("1.0")),
        attribute("id", true, string("The `webhook-id`: the same for every copy of the event.")),
        attribute("source", true, url("The sender.")),
        attribute("type", true, string("Prefix and name of the event.")),
        attribute("time", true, time("When the event occurred, in UTC.")),
        attribute("subject", false, string("The id of the resource.")),
        attribute("partitionkey", false, string("The ordering key: the id of the resource.")),
        attribute("traceparent", false, string("The sender's trace (W3C Trace Context).")),
        attribute("tracestate", false, string("The same.")),
        attribute(
            "urlexpiry",
            false,
            time("When the first signed URL in the data stops working. Absent if there is none."),
        ),
    ]
}
