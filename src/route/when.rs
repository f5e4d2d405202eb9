//! Conditions on the data of events.

use std::fmt;

use serde_json::Value;

/// A condition on the data: the value at a JSON pointer (RFC 6901) is one of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// The pointer.
    pub pointer: String,
    /// The values.
    pub values: Vec<Value>,
}

impl When {
    /// Whether the value at the pointer is one of the list.
    pub(super) fn holds(&self, value: Option<&Value>) -> bool {
        value.is_some_and(|value| self.values.iter().any(|wanted| same(wanted, value)))
    }
}

/// Such as `/toolType is "GENERATE_IMAGE" or "TEXT_TO_SPEECH"`.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(Value::to_string).collect();
        write!(f, "{} is {}", self.pointer, values.join(" or "))
    }
}

/// Whether two values are equal in JSON, where 1 is 1.0.
fn same(wanted: &Value, value: &Value) -> bool {
    let integers = wanted.is_i64() && value.is_i64();
    wanted == value || (!integers && wanted.as_f64().is_some_and(|wanted| value.as_f64() == Some(wanted)))
}
