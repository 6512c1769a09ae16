//! Methods and field values as they stand in a request head.

/// The methods we tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are RFC 9110's own.
pub enum Method {
    Get,
    Post,
    Delete,
    Options,
    Head,
    Put,
    Patch,
    /// Anything else that is a token.
    Other,
}

impl Method {
    /// RFC 9110 §9.1: the method token is case-sensitive.
    pub(super) fn parse(name: &str) -> Self {
        match name {
            "POST" => Self::Post,
            "GET" => Self::Get,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// The value of a field that makes sense only once. Surrounding whitespace is already trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field<'b> {
    /// Not sent.
    #[default]
    Absent,
    /// Sent once. Never holds control characters other than HTAB; may hold bytes beyond ASCII.
    One(&'b [u8]),
    /// Sent more than once; [`super::Head::fields`] shows each.
    Many,
}

impl<'b> Field<'b> {
    /// The value when it was sent once.
    pub fn one(self) -> Option<&'b [u8]> {
        match self {
            Self::One(value) => Some(value),
            Self::Absent | Self::Many => None,
        }
    }

    /// The value when it was sent once and is visible ASCII, space and HTAB only (digest b.7).
    pub fn as_str(self) -> Option<&'b str> {
        let value = self.one()?;
        if !value.iter().all(|&byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return None;
        }
        std::str::from_utf8(value).ok()
    }

    /// Whether the field was not sent.
    pub fn is_absent(self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn add(&mut self, value: &'b [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Many => Self::Many,
        };
    }
}

/// RFC 9110 §5.6.3: optional whitespace is SP and HTAB, nothing else.
pub(super) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2: tchar.
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}
