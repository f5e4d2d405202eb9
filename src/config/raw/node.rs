//! The file as a plain tree, for messages: which key has a value of the wrong type, and of what type it is.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// The last key that leads to the value at this line and column, and the type of the value. `None` if the text is not
/// well-formed, or has no value there.
pub(super) fn value_at(text: &str, line: u64, column: u64) -> Option<(Option<String>, &'static str)> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let root: Node = serde_saphyr::from_str_with_options(text, options).ok()?;
    root.find(None, line, column)
}

struct Node {
    line: u64,
    column: u64,
    shape: Shape,
}

enum Shape {
    Scalar(&'static str),
    List(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

impl Node {
    fn find(&self, key: Option<&str>, line: u64, column: u64) -> Option<(Option<String>, &'static str)> {
        if (self.line, self.column) == (line, column) {
            let kind = match &self.shape {
                Shape::Scalar(kind) => kind,
                Shape::List(_) => "a list",
                Shape::Mapping(_) => "a mapping",
            };
            return Some((key.map(str::to_owned), kind));
        }
        match &self.shape {
            Shape::Scalar(_) => None,
            Shape::List(nodes) => nodes.iter().find_map(|node| node.find(key, line, column)),
            Shape::Mapping(nodes) => nodes.iter().find_map(|(key, node)| node.find(Some(key), line, column)),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape>::deserialize(deserializer)?;
        Ok(Node { line: spanned.referenced.line(), column: spanned.referenced.column(), shape: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Shape, E> {
                Ok(Shape::Scalar("a string"))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Scalar("a number"))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Scalar("a number"))
            }
            fn visit_u128<E: Error>(self, _: u128) -> Result<Shape, E> {
                Ok(Shape::Scalar("a number"))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Scalar("a number"))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Shape, E> {
                Ok(Shape::Scalar(if value { "true" } else { "false" }))
            }
            fn visit_unit<E: Error>(self) -> Result<Shape, E> {
                Ok(Shape::Scalar("nothing"))
            }
            fn visit_none<E: Error>(self) -> Result<Shape, E> {
                Ok(Shape::Scalar("nothing"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Shape::List(nodes))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut nodes = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    nodes.push(entry);
                }
                Ok(Shape::Mapping(nodes))
            }
        }
        deserializer.deserialize_any(ShapeVisitor)
    }
}
