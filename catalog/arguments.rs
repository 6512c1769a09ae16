//! Strings by name: what prompts and resource templates are called with.

use serde_json::{Map, Value};

/// The arguments of a prompt, or the variables of a resource template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Takes the strings of an object; anything else in it is left out.
    pub fn from_value(value: Value) -> Arguments {
        let mut map = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        map.retain(|_, value| value.is_string());
        Arguments(map)
    }

    /// The value given for `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// `text` with every `{{name}}` replaced by its value; one that was not given becomes empty.
    pub fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for piece in placeholders(text) {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => out.push_str(self.get(name).unwrap_or_default()),
            }
        }
        out
    }
}

/// The value for `name`, or the empty string.
impl std::ops::Index<&str> for Arguments {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }
}

/// A part of a text with placeholders.
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// Splits at `{{name}}`. Values are never searched again, so an argument cannot smuggle in a placeholder.
pub(crate) fn placeholders(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let open = match rest.find("{{") {
            None => return Some(Piece::Text(std::mem::take(&mut rest))),
            Some(0) => 0,
            Some(at) => {
                let (text, tail) = rest.split_at(at);
                rest = tail;
                return Some(Piece::Text(text));
            }
        };
        match rest[open..].find("}}") {
            None => Some(Piece::Text(std::mem::take(&mut rest))),
            Some(close) => {
                let name = rest[2..close].trim();
                rest = &rest[close + 2..];
                Some(Piece::Name(name))
            }
        }
    })
}
