//! What can be wrong with a catalog, told so that its author can mend it.

use std::fmt;

use crate::file::FileError;

/// Why a catalog cannot be served.
#[derive(Debug)]
pub enum CatalogError {
    /// One item is wrong.
    Item {
        /// Which, e.g. ``tool `add` ``.
        item: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A catalog file is wrong: every fault found in it.
    File(FileError),
}

impl CatalogError {
    pub(crate) fn item(kind: &str, name: &str, reason: impl Into<String>) -> CatalogError {
        CatalogError::Item { item: format!("{kind} `{name}`"), reason: reason.into() }
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogError::Item { item, reason } => write!(f, "{item}: {reason}"),
            CatalogError::File(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CatalogError {}

/// Longest name of a tool or prompt (digest g).
const NAME_CHARS_MAX: usize = 128;

/// Digest g: 1–128 of `A–Z a–z 0–9 _ - .`.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty".into());
    }
    if NAME_CHARS_MAX < name.len() {
        return Err(format!("the name is longer than {NAME_CHARS_MAX} characters"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
        Some(bad) => Err(format!("{bad:?} is not allowed in a name (A-Z a-z 0-9 _ - .)")),
        None => Ok(()),
    }
}

/// Longest URI we register, in bytes.
const URI_BYTES_MAX: usize = 2048;

/// RFC 3986 §3: a scheme, a colon, and characters a URI may consist of.
pub(crate) fn check_uri(uri: &str) -> Result<(), String> {
    check_scheme(uri)?;
    let bytes = uri.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let fine = match byte {
            // RFC 3986 §2.1: pct-encoded = "%" HEXDIG HEXDIG.
            b'%' => bytes.get(at + 1..at + 3).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            _ => byte.is_ascii_graphic(),
        };
        if !fine {
            return Err(format!("byte {at} of the URI is not allowed there (RFC 3986)"));
        }
    }
    Ok(())
}

pub(crate) fn check_scheme(uri: &str) -> Result<(), String> {
    if URI_BYTES_MAX < uri.len() {
        return Err(format!("the URI is longer than {URI_BYTES_MAX} bytes"));
    }
    // RFC 3986 §3.1: scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let mut chars = scheme.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if first && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
        Ok(())
    } else {
        Err("the URI has no scheme (e.g. `notes://today`)".into())
    }
}
