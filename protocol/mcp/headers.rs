//! The headers of modern HTTP requests, checked against the body (digest b.6, b.7).

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::errors::{self, Refusal, shown};
use super::{Method, Params, RpcError, Version};

/// What a request's head holds under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderField<'h> {
    /// Nothing.
    Absent,
    /// One value.
    One(&'h [u8]),
    /// More than one, be they the same or not.
    Many,
}

impl<'h> HeaderField<'h> {
    /// The one value without optional white space around it, if it has only the bytes a value may
    /// have.
    // Digest b.7: 0x20–0x7E and HTAB; RFC 9110 §5.5: white space around it is not part of it.
    pub fn as_text(&self) -> Option<&'h str> {
        let HeaderField::One(bytes) = self else { return None };
        if !bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            return None;
        }
        // Of ASCII's white space only these two are left.
        std::str::from_utf8(bytes.trim_ascii()).ok()
    }

    /// The revision this names, if it is one we know.
    pub fn as_version(&self) -> Option<Version> {
        match self {
            // The usual case, without a look at each byte: the names of revisions are plain text.
            HeaderField::One(bytes) => {
                Version::from_bytes(bytes).or_else(|| self.as_text().and_then(Version::parse))
            }
            HeaderField::Absent | HeaderField::Many => None,
        }
    }

    /// Whether the value is exactly this text.
    fn is(&self, text: &str) -> bool {
        matches!(self, HeaderField::One(bytes) if *bytes == text.as_bytes())
    }

    /// The value, or why there is none to compare.
    fn require(&self, name: impl fmt::Display) -> Result<&'h str, RpcError> {
        match self {
            HeaderField::Absent => Err(errors::header_mismatch(format!("{name} is missing"))),
            HeaderField::Many => Err(errors::header_mismatch(format!("{name} stands twice"))),
            HeaderField::One(_) => self.as_text().ok_or_else(|| {
                errors::header_mismatch(format!("{name} has a byte no header may have"))
            }),
        }
    }
}

/// The three headers every modern request is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModernHeaders<'h> {
    /// `MCP-Protocol-Version`.
    pub protocol_version: HeaderField<'h>,
    /// `Mcp-Method`.
    pub method: HeaderField<'h>,
    /// `Mcp-Name`.
    pub name: HeaderField<'h>,
}

/// The gate of the modern era, in the order of digest b.7.8: envelope (-32602), headers against
/// body (-32020; not on pipes, which have none), version (-32022), method (-32601 with HTTP 404).
pub fn check_modern(
    method: &str,
    params: &Params<'_>,
    headers: Option<&ModernHeaders<'_>>,
) -> Result<(), Refusal> {
    params.check(super::Key::Meta).map_err(Refusal::bad_request)?;
    let (version, _) = params.meta.check_envelope().map_err(Refusal::bad_request)?;
    if let Some(headers) = headers {
        headers.check(method, version, params).map_err(Refusal::bad_request)?;
    }
    let Some(version) = Version::parse(version).filter(|version| version.is_modern()) else {
        return Err(Refusal::bad_request(errors::unsupported_version(version)));
    };
    // The body is mandatory: a bare 404 would say "legacy server" to the client.
    if !Method::parse(method).served_by(version) {
        return Err(Refusal::new(404, errors::method_not_found(method)));
    }
    Ok(())
}

impl ModernHeaders<'_> {
    fn check(&self, method: &str, version: &str, params: &Params<'_>) -> Result<(), RpcError> {
        let called = Method::parse(method);
        // What we know by name has no byte that a header could not have: equal is right.
        let name = "MCP-Protocol-Version";
        if !(self.protocol_version.is(version) && Version::parse(version).is_some()) {
            compare(name, self.protocol_version.require(name)?, version)?;
        }
        let name = "Mcp-Method";
        if !(self.method.is(method) && called != Method::Unknown) {
            compare(name, self.method.require(name)?, method)?;
        }
        let source = match called {
            Method::ToolsCall | Method::PromptsGet => &params.name,
            Method::ResourcesRead => &params.uri,
            Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => &params.task_id,
            _ => return Ok(()),
        };
        // Without a source value there is nothing to compare; the method will say what is missing.
        let Some(source) = source else { return Ok(()) };
        let name = "Mcp-Name";
        compare(name, &decode(name, self.name.require(name)?)?, source)
    }
}

fn compare(name: impl fmt::Display, header: &str, body: &str) -> Result<(), RpcError> {
    if header == body {
        return Ok(());
    }
    let (header, body) = (shown(header), shown(body));
    Err(errors::header_mismatch(format!("{name} says {header}, body says {body}")))
}

/// A header value that claims to be Base64 and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHeaderValue;

/// The text of an `Mcp-Name` or `Mcp-Param-*` value (white space around it already off): as it
/// stands, or decoded if it wears the sentinel `=?base64?…?=` in just this spelling.
pub fn decode_header_value(value: &[u8]) -> Result<Cow<'_, str>, BadHeaderValue> {
    let coded = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    match coded {
        // The engine asks for padding and for zero bits behind the last octet.
        Some(coded) => {
            let bytes = STANDARD.decode(coded).map_err(|_| BadHeaderValue)?;
            String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BadHeaderValue)
        }
        None => std::str::from_utf8(value).map(Cow::Borrowed).map_err(|_| BadHeaderValue),
    }
}

fn decode<'h>(name: impl fmt::Display, value: &'h str) -> Result<Cow<'h, str>, RpcError> {
    decode_header_value(value.as_bytes())
        .map_err(|_| errors::header_mismatch(format!("{name} is not valid Base64 of UTF-8")))
}

/// An argument that clients mirror in a header: `x-mcp-header` in the input schema of its tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderParam {
    /// The header's name behind `Mcp-Param-`.
    pub header: String,
    /// Where the argument is: property names from the root.
    pub path: Vec<String>,
    /// Its type.
    pub kind: HeaderKind,
}

/// The types an argument that is mirrored may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // JSON Schema's names.
pub enum HeaderKind {
    String,
    Integer,
    Boolean,
}

/// Name of the annotation.
const ANNOTATION: &str = "x-mcp-header";
/// Schemas nest this deep at most, to be looked through here.
const SCHEMA_DEPTH_MAX: usize = 64;

/// The mirrored arguments of a tool, or why its annotations are invalid (clients would drop the
/// whole tool): to be asked once, when the tool is registered. Digest b.7.6.
pub fn header_params(input_schema: &Value) -> Result<Vec<HeaderParam>, String> {
    let mut found = Vec::new();
    collect(input_schema, Place::Root, &mut Vec::new(), 0, &mut found)?;
    for (index, param) in found.iter().enumerate() {
        let same = |other: &HeaderParam| other.header.eq_ignore_ascii_case(&param.header);
        if found[..index].iter().any(same) {
            return Err(format!("{ANNOTATION} `{}` stands twice", param.header));
        }
    }
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Reached from the root through `properties` only.
    Property,
    /// Anywhere else: no annotation may be here.
    Elsewhere,
}

fn collect(
    schema: &Value,
    place: Place,
    path: &mut Vec<String>,
    depth: usize,
    found: &mut Vec<HeaderParam>,
) -> Result<(), String> {
    let Value::Object(members) = schema else { return Ok(()) };
    if SCHEMA_DEPTH_MAX < depth {
        return Err(format!("the schema nests deeper than {SCHEMA_DEPTH_MAX}"));
    }
    if let Some(annotation) = members.get(ANNOTATION) {
        if place != Place::Property {
            let at = if path.is_empty() { "the root".to_owned() } else { path.join(".") };
            return Err(format!("{ANNOTATION} is only for properties, not here: {at}"));
        }
        found.push(HeaderParam {
            header: header_name(annotation)?,
            path: path.clone(),
            kind: header_kind(members.get("type"))?,
        });
    }
    for (keyword, value) in members {
        let named = match keyword.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                true
            }
            "items"
            | "prefixItems"
            | "additionalItems"
            | "unevaluatedItems"
            | "contains"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "propertyNames"
            | "allOf"
            | "anyOf"
            | "oneOf"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contentSchema" => false,
            _ => continue, // No schema: an annotation's name in a `default` means nothing.
        };
        let inner = match (keyword.as_str(), place) {
            ("properties", Place::Root | Place::Property) => Place::Property,
            _ => Place::Elsewhere,
        };
        match value {
            Value::Object(schemas) if named => {
                for (name, schema) in schemas {
                    path.push(name.clone());
                    collect(schema, inner, path, depth + 1, found)?;
                    path.pop();
                }
            }
            Value::Array(schemas) => {
                for schema in schemas {
                    collect(schema, inner, path, depth + 1, found)?;
                }
            }
            schema => collect(schema, inner, path, depth + 1, found)?,
        }
    }
    Ok(())
}

fn header_name(annotation: &Value) -> Result<String, String> {
    // RFC 9110 §5.6.2: token = 1*tchar.
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match annotation {
        Value::String(name) if !name.is_empty() && name.bytes().all(tchar) => Ok(name.clone()),
        other => Err(format!("{ANNOTATION} {other} is no header name")),
    }
}

fn header_kind(kind: Option<&Value>) -> Result<HeaderKind, String> {
    match kind.and_then(Value::as_str) {
        Some("string") => Ok(HeaderKind::String),
        Some("integer") => Ok(HeaderKind::Integer),
        Some("boolean") => Ok(HeaderKind::Boolean),
        _ => Err(format!("a property with {ANNOTATION} must be a string, integer or boolean")),
    }
}

/// Checks a call's `Mcp-Param-*` headers (digest b.7.5): where the argument has a value the header
/// must be there and say the same, where it has none (or `null`) there must be no header. An
/// argument of a wrong type is left to the validation of arguments. `lookup` is given the name
/// behind `Mcp-Param-`.
pub fn check_header_params<'h>(
    params: &[HeaderParam],
    arguments: &Value,
    lookup: impl Fn(&str) -> HeaderField<'h>,
) -> Result<(), RpcError> {
    for param in params {
        let name = Named(&param.header);
        let field = lookup(&param.header);
        let argument = param.path.iter().try_fold(arguments, |at, step| at.get(step));
        let Some(argument) = argument.filter(|argument| !argument.is_null()) else {
            if field == HeaderField::Absent {
                continue;
            }
            let why = format!("{name} is there, its argument is not");
            return Err(errors::header_mismatch(why));
        };
        let header = field.require(name)?;
        let header = decode(name, header)?;
        match (param.kind, argument) {
            (HeaderKind::String, Value::String(text)) => compare(name, &header, text)?,
            (HeaderKind::Boolean, Value::Bool(flag)) => {
                compare(name, &header, if *flag { "true" } else { "false" })?;
            }
            (HeaderKind::Integer, Value::Number(number)) => {
                let Some(whole) = whole_number(&number.to_string()) else { continue };
                if whole_number(&header) != Some(whole) {
                    compare(name, &header, &number.to_string())?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A header parameter's full name.
#[derive(Clone, Copy)]
struct Named<'n>(&'n str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mcp-Param-{}", self.0)
    }
}

/// The value of a decimal integer; a fraction of zeros (`42.0`) is none.
fn whole_number(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let zeros = !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0');
    if all_digits && zeros { whole.parse().ok() } else { None }
}
