//! The parts of the CloudEvents bindings that several destinations share.
//!
//! Binary mode: attributes in headers, the signed bytes as the body. Structured mode: one JSON object.

use bytes::Bytes;

use super::settings::Mode;
use crate::event::{DATA_CONTENT_TYPE, Event, STRUCTURED_CONTENT_TYPE};
use crate::message::Message;

/// The name of the header, or of the property, that says that a body is compressed.
pub const CONTENT_ENCODING: &str = "content-encoding";
/// Its value.
pub const GZIP: &str = "gzip";

/// The body of a message.
pub struct MessageBody {
    /// Its media type, once it is decompressed.
    pub content_type: &'static str,
    /// `gzip` if it is compressed.
    pub content_encoding: Option<&'static str>,
    /// The bytes. Binary mode does not copy them.
    pub bytes: Bytes,
}

impl MessageBody {
    /// The body in a content mode.
    pub fn new(message: &Message, mode: Mode) -> MessageBody {
        let content_type = match mode {
            Mode::Binary => DATA_CONTENT_TYPE,
            Mode::Structured => STRUCTURED_CONTENT_TYPE,
        };
        let (content_encoding, bytes) = match (&message.gzip, mode) {
            (Some(gzip), _) => (Some(GZIP), gzip.clone()),
            (None, Mode::Binary) => (None, message.event.data.clone()),
            (None, Mode::Structured) => (None, structured(&message.event)),
        };
        MessageBody { content_type, content_encoding, bytes }
    }
}

/// The structured form (CloudEvents JSON format): attributes, then `data` as the JSON value that was signed, without
/// insignificant whitespace. It is always one line.
pub fn structured(event: &Event) -> Bytes {
    let mut out = Vec::with_capacity(event.data.len() + 512);
    push_structured(&mut out, event);
    out.into()
}

/// Appends the [`structured`] form.
pub fn push_structured(out: &mut Vec<u8>, event: &Event) {
    out.push(b'{');
    for (name, value) in event.attributes().chain([("datacontenttype", DATA_CONTENT_TYPE)]) {
        push_json(out, name);
        out.push(b':');
        push_json(out, value);
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    push_compact(out, &event.data);
    out.push(b'}');
}

fn push_json(out: &mut Vec<u8>, text: &str) {
    // Writing a string to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Copies valid JSON without the whitespace between tokens. Numbers keep their spelling.
fn push_compact(out: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    while let Some(next) = rest.iter().position(|byte| matches!(byte, b'"' | b' ' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..next]);
        if rest[next] != b'"' {
            rest = &rest[next + 1..];
            continue;
        }
        let mut end = next + 1;
        while end < rest.len() && rest[end] != b'"' {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let end = (end + 1).min(rest.len());
        out.extend_from_slice(&rest[next..end]);
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
}

/// Percent-encodes a header value as the HTTP binding does (CloudEvents 1.0, section 3.1.3.2): space, `"`, `%` and
/// everything but printable ASCII.
pub fn percent_encode(value: &str) -> std::borrow::Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'%';
    if value.bytes().all(plain) {
        return value.into();
    }
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_keeps_the_value() {
        let json = b" { \"a b\" : [ 1.50 , \"\\\" {\\\\\" ,\n null ] , \"n\" : 12345678901234567890.0 } \r\n";
        let mut out = Vec::new();
        push_compact(&mut out, json);
        assert_eq!(out, b"{\"a b\":[1.50,\"\\\" {\\\\\",null],\"n\":12345678901234567890.0}");
    }

    #[test]
    fn percent_encoding() {
        assert_eq!(percent_encode("plain-1/2"), "plain-1/2");
        assert_eq!(percent_encode("a b\"%€"), "a%20b%22%25%E2%82%AC");
    }
}
