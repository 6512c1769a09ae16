//! Matching a concrete URI against a resource template (RFC 6570, level 1, plus `{+var}`).
//!
//! The client expands the template; we find out what it put in. `{var}` matches one path segment or less and
//! is percent-decoded; `{+var}` may span segments, but never climbs out: `.` and `..` segments, empty
//! segments, backslashes and NUL are refused, encoded or not.

use serde_json::{Map, Value};

/// Longest value of one variable after decoding, in bytes.
const VALUE_BYTES_MAX: usize = 2048;
/// Most variables in one template: each one costs a search at match time.
const VARIABLES_MAX: usize = 8;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UriTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable { name: String, reserved: bool },
}

impl UriTemplate {
    /// Parses a template; two variables must have something between them, or a match would be a guess.
    pub(crate) fn parse(text: &str) -> Result<UriTemplate, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(open) = rest.find(['{', '}']) else {
                parts.push(Part::Literal(rest.to_owned()));
                break;
            };
            if 0 < open {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            let close = rest[open..].find('}').filter(|_| rest[open..].starts_with('{'));
            let close = close.ok_or("a `{` or `}` has no partner")?;
            let variable = parse_variable(&rest[open + 1..open + close])?;
            if matches!(parts.last(), Some(Part::Variable { .. })) {
                return Err("two variables stand side by side".into());
            }
            parts.push(variable);
            rest = &rest[open + close + 1..];
        }
        let template = UriTemplate { parts };
        let names: Vec<&str> = template.names().collect();
        if VARIABLES_MAX < names.len() {
            return Err(format!("more than {VARIABLES_MAX} variables"));
        }
        if let Some(twice) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return Err(format!("variable `{}` occurs twice", twice.1));
        }
        Ok(template)
    }

    /// The names of its variables, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The variables that make this template into `uri`, or `None`.
    pub(crate) fn matches(&self, uri: &str) -> Option<Map<String, Value>> {
        let mut values = Map::new();
        let mut rest = uri;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Variable { name, reserved } => {
                    let (raw, tail) = rest.split_at(value_end(rest, &self.parts[index + 1..])?);
                    values.insert(name.clone(), Value::String(decode(raw, *reserved)?));
                    rest = tail;
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

/// Where the value of a variable ends: before the first place where the next literal stands, or before the
/// last one if nothing else follows.
fn value_end(rest: &str, following: &[Part]) -> Option<usize> {
    match following {
        [] => Some(rest.len()),
        [Part::Literal(last)] => Some(rest.strip_suffix(last.as_str())?.len()),
        [Part::Literal(next), ..] => rest.find(next.as_str()),
        [Part::Variable { .. }, ..] => None,
    }
}

fn parse_variable(text: &str) -> Result<Part, String> {
    let (name, reserved) = match text.strip_prefix('+') {
        Some(name) => (name, true),
        None => (text, false),
    };
    // RFC 6570 §2.3 varchar, without percent-encoding.
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.is_empty() || !name.chars().all(fine) {
        return Err(format!("`{{{text}}}` is not a variable (only `{{name}}` and `{{+name}}`)"));
    }
    Ok(Part::Variable { name: name.to_owned(), reserved })
}

/// The value, decoded; `None` if this text cannot be the expansion of such a variable.
fn decode(raw: &str, reserved: bool) -> Option<String> {
    if raw.is_empty() || (!reserved && raw.contains('/')) {
        return None;
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut input = raw.bytes();
    while let Some(byte) = input.next() {
        bytes.push(match byte {
            b'%' => hex(input.next()?)? << 4 | hex(input.next()?)?,
            byte => byte,
        });
    }
    if VALUE_BYTES_MAX < bytes.len() {
        return None;
    }
    let value = String::from_utf8(bytes).ok()?;
    // A path that climbs is refused here, once, and not left to every handler. After decoding: `%2e%2e%2f`
    // climbs as well as `../` does.
    let climbs = || value.split(['/', '\\']).any(|part| matches!(part, "" | "." | ".."));
    if value.contains('\0') || (reserved && (value.contains('\\') || climbs())) {
        return None;
    }
    Some(value)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// For the fuzzer: a template and a URI, separated by a NUL. No path variable may hold a way upwards.
pub fn fuzz_uri_template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((template, uri)) = text.split_once('\0') else { return };
    let Ok(template) = UriTemplate::parse(template) else { return };
    let Some(values) = template.matches(uri) else { return };
    for part in &template.parts {
        if let Part::Variable { name, reserved } = part {
            let value = values.get(name).and_then(Value::as_str).unwrap_or_default();
            assert!(!value.is_empty() && !value.contains('\0'), "{name} is {value:?}");
            assert!(!reserved || !value.split('/').any(|step| step == ".."), "{name} climbs");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_expansion_climbs_however_it_is_written() {
        let steps = ["..", ".", "%2e%2E", "%2f", "/", "\\", "%5c", "a", "%00", "%", "%2", "é", ""];
        for template in ["x:/{+p}", "x:/{+p}/z", "x:/{a}/{+p}", "x:/{a}.{b}", "{", "x:{+}"] {
            for first in steps {
                for second in steps {
                    for third in steps {
                        let case = format!("{template}\0x:/{first}/{second}{third}/z");
                        super::fuzz_uri_template(case.as_bytes());
                    }
                }
            }
        }
    }
}
