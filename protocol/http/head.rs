//! A request head, borrowed from the bytes it was read from.

use std::borrow::Cow;

use memchr::memchr;

use super::field::{Field, Method, trim_ows};

/// Request line and the fields this server acts on. Everything else is found by [`Head::field`].
#[derive(Debug, Clone)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The request target as sent.
    pub target: &'b str,
    /// The path of the target, not percent-decoded; begins with `/`.
    pub path: &'b str,
    /// What follows the first `?`, not decoded.
    pub query: Option<&'b str>,
    /// HTTP/1.0 rather than 1.1.
    pub http_1_0: bool,
    /// The client wants (1.0) or tolerates (1.1) further requests on this connection.
    pub keep_alive: bool,
    /// `Host`, or the authority of an absolute target, which wins (RFC 9112 §3.2.2).
    pub host: Field<'b>,
    /// `Origin`.
    pub origin: Field<'b>,
    /// `Accept`; see [`Head::accepts`].
    pub accept: Field<'b>,
    /// `Content-Type`.
    pub content_type: Field<'b>,
    /// `Authorization`.
    pub authorization: Field<'b>,
    /// `MCP-Protocol-Version`.
    pub mcp_protocol_version: Field<'b>,
    /// `Mcp-Method`.
    pub mcp_method: Field<'b>,
    /// `Mcp-Name`.
    pub mcp_name: Field<'b>,
    /// `Mcp-Session-Id`.
    pub mcp_session_id: Field<'b>,
    /// `Last-Event-ID`.
    pub last_event_id: Field<'b>,
    /// `Upgrade`.
    pub upgrade: Field<'b>,
    /// `Sec-WebSocket-Key`.
    pub ws_key: Field<'b>,
    /// `Sec-WebSocket-Version`.
    pub ws_version: Field<'b>,
    /// `Sec-WebSocket-Protocol`.
    pub ws_protocol: Field<'b>,
    /// `Connection` names `upgrade`.
    pub connection_upgrade: bool,
    /// The whole head: request line, fields, blank line.
    pub raw: &'b [u8],
}

impl<'b> Head<'b> {
    /// All fields in order, names as sent, values trimmed. Rescans the head.
    pub fn fields(&self) -> Fields<'b> {
        let request_line_end = memchr(b'\n', self.raw).map_or(self.raw.len(), |lf| lf + 1);
        Fields { rest: self.raw.get(request_line_end..).unwrap_or_default() }
    }

    /// The field of this name, in any letter case. Rescans the head: the hot ones are members.
    pub fn field(&self, name: &str) -> Field<'b> {
        let mut found = Field::Absent;
        for (_, value) in self.fields().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)) {
            found.add(value);
        }
        found
    }

    /// The fields whose name begins with `prefix` in any letter case, e.g. `Mcp-Param-`. Rescans
    /// the head.
    pub fn fields_starting_with(&self, prefix: &str) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields().filter(move |(name, _)| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    }

    /// The first value of `key` in the query, form-decoded (`+` is a space). `None` too when it is
    /// not UTF-8.
    pub fn query_value(&self, key: &str) -> Option<Cow<'b, str>> {
        self.query?.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name)? == key).then(|| form_decode(value)).flatten()
        })
    }

    /// What the client accepts; `Accept` sent in several lines is one list (RFC 9110 §5.3).
    pub fn accepts(&self) -> super::Accepts {
        match self.accept {
            Field::Many => super::accept::accepts_any_of(
                self.fields()
                    .filter(|(name, _)| name.eq_ignore_ascii_case("accept"))
                    .map(|(_, value)| value),
            ),
            ref once => super::accepts(once),
        }
    }
}

/// Iterator over (name, trimmed value).
#[derive(Debug, Clone)]
pub struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Fields<'b> {
    type Item = (&'b str, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line_feed = memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(line_feed + 1);
        self.rest = rest;
        let line = line.strip_suffix(b"\r\n")?;
        let colon = memchr(b':', line)?; // The blank line has none and ends the head.
        Some((std::str::from_utf8(&line[..colon]).ok()?, trim_ows(&line[colon + 1..])))
    }
}

/// application/x-www-form-urlencoded, one name or value. A `%` that starts no escape stands for
/// itself.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'+', _) => (b' ', tail),
            (b'%', [high, low, after @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', tail),
            },
            _ => (*first, tail),
        };
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// The value of one hexadecimal digit.
pub(super) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
