//! `x-mcp-header`: arguments that modern clients mirror as `Mcp-Param-…` headers (digest b.7.6).

use serde_json::Value;

/// One argument that is mirrored in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderParam {
    /// The part after `Mcp-Param-`.
    pub name: String,
    /// Property names from the root of the arguments.
    pub path: Vec<String>,
    /// The property's type, which decides how values are compared.
    pub kind: HeaderKind,
}

/// Types that may be mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderKind {
    /// Compared as it is.
    String,
    /// Compared as a number.
    Integer,
    /// `true` or `false`.
    Boolean,
}

/// The header parameters of an input schema; `Err` says which annotation is invalid.
pub fn header_params(schema: &Value) -> Result<Vec<HeaderParam>, String> {
    let mut found = Vec::new();
    let total = count(schema);
    walk(schema, &mut Vec::new(), &mut found)?;
    if found.len() != total {
        return Err(
            "`x-mcp-header` is only allowed on properties reached through `properties`".into()
        );
    }
    Ok(found)
}

fn walk(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<HeaderParam>,
) -> Result<(), String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return Ok(());
    };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header") {
            found.push(annotated(header, property, path, found)?);
        }
        walk(property, path, found)?;
        path.pop();
    }
    Ok(())
}

fn annotated(
    header: &Value,
    property: &Value,
    path: &[String],
    found: &[HeaderParam],
) -> Result<HeaderParam, String> {
    let at = path.join(".");
    let name = header.as_str().filter(|name| is_token(name));
    let name = name.ok_or_else(|| format!("`x-mcp-header` of `{at}` is not a header token"))?;
    if found.iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
        return Err(format!("`x-mcp-header` {name:?} is used twice"));
    }
    let kind = match property.get("type").and_then(Value::as_str) {
        Some("string") => HeaderKind::String,
        Some("integer") => HeaderKind::Integer,
        Some("boolean") => HeaderKind::Boolean,
        _ => return Err(format!("`x-mcp-header` of `{at}` needs type string, integer or boolean")),
    };
    Ok(HeaderParam { name: name.to_owned(), path: path.to_vec(), kind })
}

// RFC 9110 §5.6.2: token = 1*tchar.
fn is_token(name: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(tchar)
}

/// How often the annotation occurs at all, wherever it is; a property of that name does not count.
fn count(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match key.as_str() {
                "properties" => {
                    value.as_object().map_or(0, |properties| properties.values().map(count).sum())
                }
                "x-mcp-header" => 1,
                "const" | "enum" | "default" | "examples" => 0,
                _ => count(value),
            })
            .sum(),
        _ => 0,
    }
}
