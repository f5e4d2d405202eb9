//! JSON Schema, by a crate that the program does not use.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// A compiled schema.
pub struct Validator {
    schemas: Schemas,
    root: SchemaIndex,
}

impl Validator {
    /// The schema at a JSON pointer of a document; references are relative to the document.
    pub fn at(document: &Value, pointer: &str) -> Validator {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("document.json", document.clone()).expect("a resource");
        let root = compiler.compile(&format!("document.json#{pointer}"), &mut schemas);
        Validator { root: root.unwrap_or_else(|error| panic!("{pointer}: {error:#}")), schemas }
    }

    /// The schema that is the whole document.
    pub fn new(schema: &Value) -> Validator {
        Validator::at(schema, "")
    }

    /// # Errors
    /// What is wrong with the value.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        self.schemas.validate(value, self.root).map_err(|error| format!("{error:#}"))
    }
}
