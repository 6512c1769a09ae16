//! Responses, appended to the caller's buffer: whole ones, chunked event streams, and the upgrade
//! to WebSocket.
//!
//! A value that could break out of its line (CR, LF, NUL) is left out together with its field. The
//! status line says HTTP/1.1 whatever the request said: it names what we speak (RFC 9110 §2.5).

use super::status::reason_phrase;

/// The interim response after [`super::RequestReader::take_continue`].
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// `Access-Control-Allow-Methods` of a preflight (digest b.12).
pub const CORS_ALLOW_METHODS: &str = "POST, GET, DELETE, OPTIONS";
/// `Access-Control-Allow-Headers` of a preflight, before the catalog's own `Mcp-Param-*`.
pub const CORS_ALLOW_HEADERS: &str = "Content-Type, Accept, Authorization, MCP-Protocol-Version, \
     Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID";

/// What a response head says.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseHead<'a> {
    /// 100–599.
    pub status: u16,
    /// `Content-Type`; ignored by streams, which have their own.
    pub content_type: Option<&'a str>,
    /// `Mcp-Session-Id`.
    pub session_id: Option<&'a str>,
    /// `Allow`, for 405.
    pub allow: Option<&'a str>,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// Further fields, in order.
    pub extra: &'a [(&'a str, &'a str)],
    /// The origin that [`super::Access::check`] allowed: echoed, with `Vary` and the exposed
    /// headers.
    pub allow_origin: Option<&'a str>,
    /// `Date`, from [`super::http_date`], computed once a second by whoever has the clock.
    pub date: Option<&'a [u8; 29]>,
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// The request was HTTP/1.0.
    pub http_1_0: bool,
}

/// Appends a whole response. Statuses that have no body (1xx, 204, 304) get none and no
/// `Content-Length`.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead<'_>, body: &[u8]) {
    out.reserve(HEAD_ROOM + body.len());
    if let ResponseHead {
        status: 200,
        content_type: Some("application/json"),
        session_id: None,
        allow: None,
        retry_after: None,
        extra: [],
        allow_origin: None,
        date: Some(date),
        keep_alive: true,
        http_1_0: false,
    } = head
    {
        return write_plain_json(out, date, body);
    }
    write_status_line(out, head.status);
    if let Some(content_type) = head.content_type {
        write_field(out, "Content-Type", content_type);
    }
    write_common(out, head);
    // RFC 9110 §8.6: no Content-Length in 1xx and 204; in 304 it would describe a body we do not
    // know.
    if has_no_body(head.status) {
        write_connection(out, head, head.keep_alive);
        out.extend_from_slice(b"\r\n");
        return;
    }
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    write_connection(out, head, head.keep_alive);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// The answer to nearly every call: the same bytes as the general way, in five appends.
fn write_plain_json(out: &mut Vec<u8>, date: &[u8; 29], body: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nContent-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Appends the head of an event stream. On HTTP/1.1 chunks follow, to be ended by
/// [`write_last_chunk`]; on 1.0 plain bytes follow and closing the connection ends them.
pub fn write_stream_head(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    out.reserve(HEAD_ROOM);
    write_status_line(out, head.status);
    // Digest b.6, b.14: nothing between us and the client may buffer, cache or compress the stream.
    out.extend_from_slice(
        b"Content-Type: text/event-stream\r\n\
          Cache-Control: no-cache, no-transform\r\n\
          X-Accel-Buffering: no\r\n",
    );
    write_common(out, head);
    if !head.http_1_0 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    write_connection(out, head, head.keep_alive && !head.http_1_0);
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk; nothing for an empty payload, because an empty chunk would end the body.
pub fn write_chunk(out: &mut Vec<u8>, payload: &[u8]) {
    if payload.is_empty() {
        return;
    }
    out.reserve(payload.len() + 20);
    let mut size = [0; 16];
    out.extend_from_slice(hex(payload.len(), &mut size));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Begins a chunk whose payload is then appended to `out` directly; give the mark to
/// [`close_chunk`].
pub fn open_chunk(out: &mut Vec<u8>) -> usize {
    let mark = out.len();
    out.extend_from_slice(b"00000000\r\n");
    mark
}

/// Ends the chunk begun at `mark`; takes it back if nothing was appended. A payload is at most 4
/// GiB.
pub fn close_chunk(out: &mut Vec<u8>, mark: usize) {
    let payload = mark + OPEN_CHUNK_BYTES;
    debug_assert!(payload <= out.len(), "the mark is not of this buffer");
    if out.len() <= payload {
        out.truncate(mark);
        return;
    }
    let mut size = [0; 16];
    let digits = hex(out.len() - payload, &mut size);
    // Leading zeros are legal (RFC 9112 §7.1: chunk-size = 1*HEXDIG).
    let end = mark + OPEN_CHUNK_BYTES - 2;
    out[end - digits.len()..end].copy_from_slice(digits);
    out.extend_from_slice(b"\r\n");
}

/// Appends the 101 that turns the connection into a WebSocket (RFC 6455 §4.2.2).
pub fn write_upgrade(
    out: &mut Vec<u8>,
    accept_key: &str,
    subprotocol: Option<&str>,
    date: Option<&[u8; 29]>,
) {
    write_status_line(out, 101);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
    write_field(out, "Sec-WebSocket-Accept", accept_key);
    if let Some(subprotocol) = subprotocol {
        write_field(out, "Sec-WebSocket-Protocol", subprotocol);
    }
    write_date(out, date);
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status.clamp(100, 599)).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The fields that any response may have.
fn write_common(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    write_date(out, head.date);
    if let Some(session_id) = head.session_id {
        write_field(out, "Mcp-Session-Id", session_id);
    }
    if let Some(allow) = head.allow {
        write_field(out, "Allow", allow);
    }
    if let Some(seconds) = head.retry_after {
        write_field(out, "Retry-After", itoa::Buffer::new().format(seconds));
    }
    if let Some(origin) = head.allow_origin {
        write_field(out, "Access-Control-Allow-Origin", origin);
        out.extend_from_slice(
            b"Vary: Origin\r\n\
              Access-Control-Expose-Headers: Mcp-Session-Id, WWW-Authenticate\r\n",
        );
    }
    for (name, value) in head.extra {
        write_field(out, name, value);
    }
}

fn write_date(out: &mut Vec<u8>, date: Option<&[u8; 29]>) {
    if let Some(date) = date {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 9112 §9.3: persistence is the default in 1.1 and must be said in 1.0.
fn write_connection(out: &mut Vec<u8>, head: &ResponseHead<'_>, keep_alive: bool) {
    match (keep_alive, head.http_1_0) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, false) => {}
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    if memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_some() {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

const fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// The hexadecimal digits of a size, without leading zeros.
fn hex(mut size: usize, digits: &mut [u8; 16]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[size & 0xf];
        size >>= 4;
        if size == 0 || at == 0 {
            return &digits[at..];
        }
    }
}

/// Room that fits most heads, in bytes: one growth at most.
const HEAD_ROOM: usize = 256;
/// Eight digits and CRLF.
const OPEN_CHUNK_BYTES: usize = 10;
