//! Server-sent events, as MCP uses them (WHATWG HTML §9.2.6, digest b.14).
//!
//! Events are appended whole to the caller's buffer, so that a keep-alive can never land inside
//! one.

use memchr::memchr2;

/// A comment event: keeps proxies from cutting a silent stream; clients ignore it.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// Appends one event. Without `event` its type is `message`. `data` that spans lines becomes
/// several `data` lines, which the client joins with LF. An `event` or `id` with a line break in it
/// is left out.
pub fn write_event(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, data: &[u8]) {
    out.reserve(data.len() + 32);
    if let Some(event) = event {
        write_field(out, "event: ", event);
    }
    if let Some(id) = id {
        write_field(out, "id: ", id);
    }
    write_data(out, data);
    out.push(b'\n');
}

/// Appends the priming event: an id and empty data, from which the client may resume (digest b.10).
pub fn write_priming(out: &mut Vec<u8>, id: &str) {
    write_event(out, None, Some(id), b"");
}

/// Appends the delay in milliseconds after which a client should reconnect.
pub fn write_retry(out: &mut Vec<u8>, ms: u32) {
    write_field(out, "retry: ", itoa::Buffer::new().format(ms));
    out.push(b'\n');
}

/// Appends a comment; line breaks in it become spaces.
pub fn write_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\n\n");
}

fn write_data(out: &mut Vec<u8>, mut data: &[u8]) {
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr2(b'\r', b'\n', data) else {
            out.extend_from_slice(data);
            out.push(b'\n');
            return;
        };
        out.extend_from_slice(&data[..end]);
        out.push(b'\n');
        data = match &data[end..] {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => return,
        };
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    // A NUL in an id makes the client ignore the whole field.
    if memchr::memchr3(b'\r', b'\n', 0, value.as_bytes()).is_none() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: Option<&str>, id: Option<&str>, data: &str, expect: &str) {
        let mut out = b"before\n\n".to_vec();
        write_event(&mut out, event, id, data.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out[8..]), expect);
    }

    #[test]
    fn an_event_is_its_fields_and_a_blank_line() {
        check(None, None, "{}", "data: {}\n\n");
        check(Some("message"), Some("7"), "{}", "event: message\nid: 7\ndata: {}\n\n");
        check(
            Some("endpoint"),
            None,
            "/messages?sessionId=a",
            "event: endpoint\ndata: /messages?sessionId=a\n\n",
        );
        check(None, None, "", "data: \n\n");
    }

    #[test]
    fn data_over_several_lines_cannot_end_the_event() {
        check(None, None, "a\nb", "data: a\ndata: b\n\n");
        check(None, None, "a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n");
        check(None, None, "a\n\nevent: evil", "data: a\ndata: \ndata: event: evil\n\n");
        check(None, None, "\n", "data: \ndata: \n\n");
        check(None, None, "a\r\n", "data: a\ndata: \n\n");
    }

    #[test]
    fn names_and_ids_that_would_break_the_event_are_left_out() {
        check(Some("a\nb"), Some("1\r"), "x", "data: x\n\n");
        check(Some("a"), Some("1\0"), "x", "event: a\ndata: x\n\n");
    }

    #[test]
    fn priming_retry_and_comments() {
        let mut out = Vec::new();
        write_priming(&mut out, "7");
        write_retry(&mut out, 1500);
        write_comment(&mut out, "still\nhere");
        out.extend_from_slice(KEEP_ALIVE);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "id: 7\ndata: \n\nretry: 1500\n\n: still here\n\n:\n\n"
        );
    }
}
