//! From the bytes of a whole head to a [`Head`] and the framing of the body that follows it.
//!
//! httparse splits lines into tokens and refuses control characters; everything that decides where
//! one request ends and the next begins (RFC 9112 §6.3, §11.2) is decided here, never guessed.

use std::mem::MaybeUninit;

use super::error::HttpError;
use super::field::{Field, Method, trim_ows};
use super::head::Head;
use super::limits::FIELDS_MAX;

/// How long the body is (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 without `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A head and what it says about the bytes after it.
pub(super) struct ParsedHead<'b> {
    pub head: Head<'b>,
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// `raw` is a whole head: its last four bytes are the first CRLF CRLF in it, and every LF follows a
/// CR.
pub(super) fn parse_head(raw: &[u8]) -> Result<ParsedHead<'_>, HttpError> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(raw, &mut slots) {
        Ok(httparse::Status::Complete(len)) if len == raw.len() => {}
        Ok(_) => return Err(HttpError::RequestLine),
        Err(error) => return Err(classify(error, raw)),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HttpError::RequestLine);
    };
    if method == "CONNECT" {
        return Err(HttpError::Connect);
    }
    let Target { authority, path, query } = Target::parse(target)?;

    let mut head = Head {
        method: Method::parse(method),
        target,
        path,
        query,
        http_1_0: version == 0,
        keep_alive: version != 0,
        host: Field::Absent,
        origin: Field::Absent,
        accept: Field::Absent,
        content_type: Field::Absent,
        authorization: Field::Absent,
        mcp_protocol_version: Field::Absent,
        mcp_method: Field::Absent,
        mcp_name: Field::Absent,
        mcp_session_id: Field::Absent,
        last_event_id: Field::Absent,
        upgrade: Field::Absent,
        ws_key: Field::Absent,
        ws_version: Field::Absent,
        ws_protocol: Field::Absent,
        connection_upgrade: false,
        raw,
    };
    let mut hop = HopFields::default();
    for header in request.headers.iter() {
        sort_field(&mut head, &mut hop, header.name, trim_ows(header.value));
    }

    head.keep_alive = !hop.close && (version != 0 || hop.keep_alive);
    head.connection_upgrade = hop.upgrade;
    check_host(&mut head, authority)?;
    let framing = hop.framing(head.http_1_0)?;
    let expects_continue = hop.expects_continue(head.http_1_0)?;
    Ok(ParsedHead { head, framing, expects_continue })
}

/// What concerns this connection and this message's framing only.
#[derive(Default)]
struct HopFields<'b> {
    content_length: Field<'b>,
    transfer_encoding: Field<'b>,
    expect: Field<'b>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl HopFields<'_> {
    // RFC 9112 §6.1: "A server MAY reject a request that contains both Content-Length and
    // Transfer-Encoding"; we always do, it is how requests are smuggled.
    fn framing(&self, http_1_0: bool) -> Result<Framing, HttpError> {
        match (self.content_length, self.transfer_encoding) {
            (Field::Absent, Field::Absent) => Ok(Framing::Length(0)),
            (Field::One(digits), Field::Absent) => content_length(digits).map(Framing::Length),
            (Field::Many, Field::Absent) => Err(HttpError::LengthRepeated),
            (_, _) if http_1_0 => Err(HttpError::TransferEncodingIn10),
            (Field::Absent, Field::One(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            (Field::Absent, _) => Err(HttpError::TransferEncoding),
            (_, _) => Err(HttpError::LengthAndTransferEncoding),
        }
    }

    // RFC 9110 §10.1.1: a 100-continue expectation in an HTTP/1.0 request is ignored.
    fn expects_continue(&self, http_1_0: bool) -> Result<bool, HttpError> {
        match self.expect {
            Field::Absent => Ok(false),
            _ if http_1_0 => Ok(false),
            Field::One(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Field::One(_) | Field::Many => Err(HttpError::Expectation),
        }
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(trim_ows) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// Puts a field where it belongs. The length of the name rules out all but one or two candidates.
fn sort_field<'b>(head: &mut Head<'b>, hop: &mut HopFields<'b>, name: &str, value: &'b [u8]) {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        4 if is("host") => head.host.add(value),
        6 if is("accept") => head.accept.add(value),
        6 if is("origin") => head.origin.add(value),
        6 if is("expect") => hop.expect.add(value),
        7 if is("upgrade") => head.upgrade.add(value),
        8 if is("mcp-name") => head.mcp_name.add(value),
        10 if is("connection") => hop.connection(value),
        10 if is("mcp-method") => head.mcp_method.add(value),
        12 if is("content-type") => head.content_type.add(value),
        13 if is("authorization") => head.authorization.add(value),
        13 if is("last-event-id") => head.last_event_id.add(value),
        14 if is("content-length") => hop.content_length.add(value),
        14 if is("mcp-session-id") => head.mcp_session_id.add(value),
        17 if is("transfer-encoding") => hop.transfer_encoding.add(value),
        17 if is("sec-websocket-key") => head.ws_key.add(value),
        20 if is("mcp-protocol-version") => head.mcp_protocol_version.add(value),
        21 if is("sec-websocket-version") => head.ws_version.add(value),
        22 if is("sec-websocket-protocol") => head.ws_protocol.add(value),
        _ => {}
    }
}

/// RFC 9110 §8.6: 1*DIGIT. No sign, no list (even of equal numbers), no overflow.
fn content_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() {
        return Err(HttpError::LengthInvalid);
    }
    value
        .iter()
        .try_fold(0u64, |total, &byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            total.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(HttpError::LengthInvalid)
}

/// RFC 9112 §3.2: exactly one valid Host in 1.1; the authority of an absolute target replaces it.
fn check_host<'b>(head: &mut Head<'b>, authority: Option<&'b str>) -> Result<(), HttpError> {
    match head.host {
        Field::Absent if head.http_1_0 => {}
        Field::Absent => return Err(HttpError::HostMissing),
        Field::Many => return Err(HttpError::HostRepeated),
        Field::One(host) if host.iter().all(|&byte| is_host_byte(byte)) => {}
        Field::One(_) => return Err(HttpError::HostInvalid),
    }
    if let Some(authority) = authority {
        head.host = Field::One(authority.as_bytes());
    }
    Ok(())
}

/// RFC 3986 §3.2.2 and §3.2.3, without the comma: lists of hosts are how proxies disagree.
fn is_host_byte(byte: u8) -> bool {
    matches!(byte,
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b':'
        | b'[' | b']' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

struct Target<'b> {
    authority: Option<&'b str>,
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// RFC 9112 §3.2: origin form and absolute form. Asterisk and authority forms name nothing we
    /// serve.
    fn parse(target: &'b str) -> Result<Self, HttpError> {
        // A fragment is never sent, and bytes beyond ASCII must be percent-encoded (RFC 3986 §2).
        if !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
            return Err(HttpError::Target);
        }
        let (authority, rest) = match target.as_bytes() {
            [b'/', ..] => (None, target),
            _ => {
                let (scheme, rest) = target.split_once("://").ok_or(HttpError::Target)?;
                if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                    return Err(HttpError::Target);
                }
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                // RFC 9110 §4.2.1: an empty host is invalid. User names in a request are a trick.
                if authority.is_empty() || !authority.bytes().all(is_host_byte) {
                    return Err(HttpError::Target);
                }
                (Some(authority), rest)
            }
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Ok(Self { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

/// Names the fault more precisely than httparse does. Cold: the connection is about to close.
#[cold]
fn classify(error: httparse::Error, raw: &[u8]) -> HttpError {
    if memchr::memchr_iter(b'\r', raw).any(|at| raw.get(at + 1) != Some(&b'\n')) {
        return HttpError::BareNewline;
    }
    match error {
        httparse::Error::TooManyHeaders => HttpError::TooManyFields,
        httparse::Error::HeaderName => HttpError::FieldName,
        httparse::Error::HeaderValue => HttpError::FieldValue,
        httparse::Error::Version if names_other_version(raw) => HttpError::Version,
        httparse::Error::Version
        | httparse::Error::Token
        | httparse::Error::NewLine
        | httparse::Error::Status => HttpError::RequestLine,
    }
}

/// Whether the request line ends in `HTTP/` DIGIT `.` DIGIT (RFC 9112 §2.3), or in HTTP/2's or
/// HTTP/3's short form.
fn names_other_version(raw: &[u8]) -> bool {
    let line = raw.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match version.strip_prefix(b"HTTP/") {
        Some(b"1.0" | b"1.1") => false, // The fault is elsewhere in the line.
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        Some([major]) => major.is_ascii_digit(),
        _ => false,
    }
}
