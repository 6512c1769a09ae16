//! Responses, as text.

use crate::http::{
    ResponseHead, close_chunk, http_date, open_chunk, reason_phrase, write_chunk, write_last_chunk,
    write_response, write_stream_head, write_upgrade,
};

const PLAIN: ResponseHead<'static> = ResponseHead {
    status: 200,
    content_type: Some("application/json"),
    session_id: None,
    allow: None,
    retry_after: None,
    extra: &[],
    allow_origin: None,
    date: None,
    keep_alive: true,
    http_1_0: false,
};

/// `expect` is written with plain LF and without the blank line after the head.
#[track_caller]
fn check(head: &ResponseHead<'_>, body: &str, expect: &str) {
    let mut out = b"before".to_vec();
    write_response(&mut out, head, body.as_bytes());
    assert_eq!(text(&out), format!("before{}\r\n\r\n{body}", expect.replace('\n', "\r\n")));
}

fn text(out: &[u8]) -> String {
    String::from_utf8_lossy(out).into_owned()
}

#[test]
fn the_common_answer_is_the_same_on_the_short_way() {
    let date = http_date(784_111_777);
    check(
        &ResponseHead { date: Some(&date), ..PLAIN },
        "{}",
        "HTTP/1.1 200 OK\nContent-Type: application/json\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Length: 2",
    );
    check(
        &ResponseHead { date: Some(&date), keep_alive: false, ..PLAIN },
        "{}",
        "HTTP/1.1 200 OK\nContent-Type: application/json\n\
         Date: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Length: 2\n\
         Connection: close",
    );
    check(&PLAIN, "", "HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 0");
}

#[test]
fn every_member_has_its_field() {
    check(
        &ResponseHead {
            status: 405,
            content_type: Some("text/plain"),
            session_id: Some("abc"),
            allow: Some("POST, GET"),
            retry_after: Some(3),
            extra: &[("WWW-Authenticate", "Bearer"), ("X", "y")],
            allow_origin: Some("http://localhost:5173"),
            date: None,
            keep_alive: true,
            http_1_0: true,
        },
        "no",
        "HTTP/1.1 405 Method Not Allowed\nContent-Type: text/plain\nMcp-Session-Id: abc\n\
         Allow: POST, GET\n\
         Retry-After: 3\nAccess-Control-Allow-Origin: http://localhost:5173\nVary: Origin\n\
         Access-Control-Expose-Headers: Mcp-Session-Id, WWW-Authenticate\n\
         WWW-Authenticate: Bearer\nX: y\n\
         Content-Length: 2\nConnection: keep-alive",
    );
}

#[test]
fn statuses_without_body_have_neither_body_nor_length() {
    let bare = ResponseHead { content_type: None, ..PLAIN };
    for status in [100, 102, 204, 304] {
        let mut out = Vec::new();
        write_response(&mut out, &ResponseHead { status, ..bare }, b"stray");
        let line = format!("HTTP/1.1 {status} {}\r\n\r\n", reason_phrase(status));
        assert_eq!(text(&out), line);
    }
    check(&ResponseHead { status: 202, ..bare }, "", "HTTP/1.1 202 Accepted\nContent-Length: 0");
    check(
        &ResponseHead { status: 204, http_1_0: true, keep_alive: false, ..bare },
        "",
        "HTTP/1.1 204 No Content\nConnection: close",
    );
}

#[test]
fn a_value_cannot_break_out_of_its_line() {
    check(
        &ResponseHead {
            session_id: Some("a\r\nSet-Cookie: b"),
            allow_origin: Some("http://a\n"),
            extra: &[("X", "a\0"), ("Y", "fine")],
            ..PLAIN
        },
        "{}",
        "HTTP/1.1 200 OK\nContent-Type: application/json\nVary: Origin\n\
         Access-Control-Expose-Headers: Mcp-Session-Id, WWW-Authenticate\n\
         Y: fine\nContent-Length: 2",
    );
}

#[test]
fn streams_are_chunked_on_1_1_and_end_by_closing_on_1_0() {
    let stream = |head: &ResponseHead<'_>| {
        let mut out = Vec::new();
        write_stream_head(&mut out, head);
        text(&out).replace("\r\n", "\n")
    };
    let common = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\
         Cache-Control: no-cache, no-transform\n\
         X-Accel-Buffering: no\n";
    let chunked = "Transfer-Encoding: chunked\n";
    assert_eq!(stream(&PLAIN), format!("{common}{chunked}\n"));
    assert_eq!(
        stream(&ResponseHead { session_id: Some("s"), keep_alive: false, ..PLAIN }),
        format!("{common}Mcp-Session-Id: s\n{chunked}Connection: close\n\n")
    );
    assert_eq!(
        stream(&ResponseHead { http_1_0: true, ..PLAIN }),
        format!("{common}Connection: close\n\n")
    );
}

#[test]
fn chunks_have_hex_sizes_and_empty_ones_vanish() {
    let mut out = Vec::new();
    write_chunk(&mut out, b"");
    write_chunk(&mut out, b"0123456789abcdef");
    let empty = open_chunk(&mut out);
    close_chunk(&mut out, empty);
    let mark = open_chunk(&mut out);
    out.extend_from_slice(b"0123456789");
    close_chunk(&mut out, mark);
    write_last_chunk(&mut out);
    assert_eq!(text(&out), "10\r\n0123456789abcdef\r\n0000000a\r\n0123456789\r\n0\r\n\r\n");
}

#[test]
fn the_upgrade_names_key_and_subprotocol() {
    let mut out = Vec::new();
    write_upgrade(&mut out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Some("mcp"), None);
    assert_eq!(
        text(&out),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
    );
    out.clear();
    write_upgrade(&mut out, "k", None, Some(&http_date(0)));
    assert!(text(&out).ends_with("Accept: k\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"));
}

#[test]
fn every_status_we_send_has_a_phrase() {
    let from_errors = crate::http::HttpError::ALL.iter().map(|error| error.status());
    for status in from_errors.chain([200, 202, 204, 401, 403, 404, 405, 406, 415, 429, 500, 503]) {
        assert!(!reason_phrase(status).is_empty(), "{status}");
    }
    let mut out = Vec::new();
    write_response(&mut out, &ResponseHead { status: 299, ..PLAIN }, b"");
    assert!(text(&out).starts_with("HTTP/1.1 299 \r\n"));
}
