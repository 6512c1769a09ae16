//! JSON Schemas: derived from Rust types, compiled once, and violations told so that a model can mend them.

use std::fmt::Write as _;

use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

/// How many violations one answer names.
const VIOLATIONS_NAMED_MAX: usize = 4;
/// Longest description of one violation, in bytes; schemas and values may be large.
const VIOLATION_BYTES_MAX: usize = 300;
/// Deepest schema we compile; a schema is walked recursively.
const SCHEMA_DEPTH_MAX: usize = 64;

/// A schema ready to check values.
pub(crate) struct Schema {
    validator: Validator,
}

impl Schema {
    /// Compiles a schema. References to other documents are refused, never fetched (digest f).
    pub(crate) fn compile(schema: &Value) -> Result<Schema, String> {
        if depth(schema) > SCHEMA_DEPTH_MAX {
            return Err(format!("the schema is nested deeper than {SCHEMA_DEPTH_MAX} levels"));
        }
        let options = jsonschema::options().offline();
        let validator = options.build(schema).map_err(|err| bounded(err.to_string()))?;
        Ok(Schema { validator })
    }

    /// `Err` names each path and the rule it broke.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let mut text = String::new();
        let mut errors = self.validator.iter_errors(value);
        for error in errors.by_ref().take(VIOLATIONS_NAMED_MAX) {
            if !text.is_empty() {
                text.push_str("; ");
            }
            describe(&error, &mut text);
        }
        let more = errors.count();
        if 0 < more {
            let _ = write!(text, "; and {more} more");
        }
        Err(text)
    }
}

/// `at /a/0: value is not of type "number" (type)`: where, what, and which rule. The value itself stays out:
/// the caller knows it, and it may be large or secret.
fn describe(error: &ValidationError<'_>, text: &mut String) {
    let path = error.instance_path().as_str();
    let path = if path.is_empty() { "/" } else { path };
    let what = bounded(error.masked().to_string());
    let _ = write!(text, "at {path}: {what} (rule: {})", error.kind().keyword());
}

fn bounded(mut text: String) -> String {
    if VIOLATION_BYTES_MAX < text.len() {
        let fits = (0..=VIOLATION_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(fits.unwrap_or(0));
        text.push('…');
    }
    text
}

fn depth(value: &Value) -> usize {
    // An explicit stack: the depth of a hostile schema must not be our recursion's.
    let mut deepest = 0;
    let mut open = vec![(value, 1)];
    while let Some((value, level)) = open.pop() {
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(map) => open.extend(map.values().map(|item| (item, level + 1))),
            _ => {}
        }
    }
    deepest
}

/// The schema of a Rust type, without what only noise would add: `$schema`, the type's name and comment (the
/// tool has a description of its own), and number formats that JSON Schema does not know (some clients refuse them).
pub(crate) fn derive<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.meta_schema = None)
        .with_transform(RecursiveTransform(|schema: &mut schemars::Schema| {
            const RUST_FORMATS: [&str; 4] = ["int", "uint", "float", "double"];
            let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
            if RUST_FORMATS.iter().any(|prefix| format.starts_with(prefix)) {
                schema.remove("format");
            }
        }))
        .into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    schema.remove("title");
    schema.remove("description");
    schema.to_value()
}

/// An input schema as clients need it: an object whose `properties` are present, even if empty (digest c.2).
/// A schema that says nothing (`serde_json::Value`'s) becomes "any object".
pub(crate) fn as_input(schema: Value) -> Value {
    match schema {
        Value::Bool(true) => json!({"type": "object", "properties": {}}),
        Value::Object(mut map) => {
            if map.is_empty() {
                map.insert("type".into(), "object".into());
            }
            if map.get("type").and_then(Value::as_str) == Some("object") {
                map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
            }
            Value::Object(map)
        }
        other => other,
    }
}

/// Whether the root says `"type": "object"`, which every input schema must and legacy output schemas must.
pub(crate) fn is_object(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}
