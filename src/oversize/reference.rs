//! The name of an object, and the event that refers to it (CloudEvents extension `dataref`). Pure.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::event::Event;

/// The attribute with the URI of the object.
pub(super) const DATAREF: &str = "dataref";
/// The attribute with the object's size in bytes. The CloudEvents extension has none.
pub(super) const DATASIZE: &str = "datasize";
/// The data of an event that refers to an object. On Kafka, a body that is missing would delete the record of a compacted
/// topic.
const NULL: &[u8] = b"null";
/// Most characters of an id in a name: the file systems' limit is 255 bytes.
const MOST: usize = 128;

/// SHA-256 in hexadecimal.
pub(super) fn hash(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `{source}/{id}/{hash}.json`. In the id, characters other than letters, digits, `-`, `_` and `.` are replaced by `_`, and a
/// long id is cut: two ids may share a name only if their bodies are equal.
pub(super) fn object_name(event: &Event, hash: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let id: String = event.id.chars().take(MOST).map(plain).collect();
    // No `.` and `..`, and no hidden directory.
    let id = if id.starts_with('.') { format!("_{id}") } else { id };
    format!("{}/{id}/{hash}.json", event.source_name)
}

/// The event without its data, with a reference to them. Everything else stays, so that brokers and workers recognize it as
/// the same event.
pub(super) fn event(event: &Event, uri: String) -> Event {
    let mut attributes = event.attributes.to_vec();
    attributes.push((DATAREF.to_owned(), uri));
    attributes.push((DATASIZE.to_owned(), event.data.len().to_string()));
    Event { attributes: attributes.into(), data: Bytes::from_static(NULL), ..event.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture;

    #[test]
    fn names_are_plain_paths() {
        let name = |id: &str| object_name(&Event { id: id.into(), ..fixture::event() }, "h");
        for (id, expected) in [
            ("msg_1", "videogen/msg_1/h.json"),
            ("..", "videogen/_../h.json"),
            ("../../x y", "videogen/_.._.._x_y/h.json"),
            ("größe:a/b", "videogen/gr__e_a_b/h.json"),
        ] {
            assert_eq!(name(id), expected);
        }
        assert_eq!(name(&"x".repeat(255)).len(), "videogen//h.json".len() + MOST);
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn reference_keeps_the_attributes() {
        let plain = fixture::event();
        let reference = event(&plain, "s3://bucket/name".into());
        let attributes: Vec<_> = reference.attributes().collect();
        let (own, more) = attributes.split_at(attributes.len() - 2);
        assert_eq!(own, plain.attributes().collect::<Vec<_>>());
        assert_eq!(more, [(DATAREF, "s3://bucket/name"), (DATASIZE, "11")]);
        assert_eq!(&*reference.data, b"null");
    }
}
