//! Bodies: lengths, chunks, limits from both sides, `Expect`, and the cost of small pieces.

use super::*;

fn chunked(framed: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{framed}")
}

#[track_caller]
fn check_chunked(framed: &str, body: &str) {
    check(chunked(framed), &[(Method::Post, "/", body.as_bytes())], None);
}

#[track_caller]
fn refuse_chunked(framed: &str, error: HttpError) {
    check(chunked(framed), &[], Some(error));
}

#[test]
fn chunks_are_joined() {
    check_chunked("0\r\n\r\n", "");
    check_chunked("5\r\nhello\r\n0\r\n\r\n", "hello");
    check_chunked("5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n000\r\n\r\n", "hello world");
    check_chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789");
    check_chunked("4\r\n\r\n0\r\r\n0\r\n\r\n", "\r\n0\r");
    check_chunked("0000000000000001\r\nx\r\n0\r\n\r\n", "x");
}

#[test]
fn extensions_and_trailers_are_ignored() {
    check_chunked("2;name=value\r\n{}\r\n0;last\r\n\r\n", "{}");
    check_chunked("2 ; a ; b=\"quo;ted\" \r\n{}\r\n0\r\n\r\n", "{}");
    check_chunked("2\r\n{}\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nEmpty:\r\n\r\n", "{}");
}

#[test]
fn broken_chunk_framing_is_refused() {
    for framed in [
        "\r\n",
        "x\r\n",
        ";ext\r\n",
        " 5\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        "5 \r\nhello\r\n",       // whitespace that no extension follows
        "5\nhello\r\n",          // bare LF after the size
        "5\rhello\r\n",          // bare CR after the size
        "5;a\nhello\r\n",        // bare LF in an extension
        "5;a\rb\r\nhello\r\n",   // bare CR in an extension
        "5;a\0\r\nhello\r\n",    // NUL in an extension
        "5\r\nhello\n0\r\n\r\n", // bare LF after the data
        "5\r\nhelloX\r\n",       // more data than said
        "5\r\nhello\rX",
        "3\r\nhello\r\n",           // less than there is
        "5\r\nhello\r\n\r\n",       // no last chunk
        "0\r\n\rX",                 // the end is CRLF
        "00000000000000001\r\nx\r", // 17 digits
    ] {
        refuse_chunked(framed, HttpError::Chunk);
    }
    for trailers in
        ["\n", ": v\r\n", " folded: x\r\n", "a\r\n", "a b: c\r\n", "a: b\n", "a: \0\r\n", "a: b\rc"]
    {
        refuse_chunked(&format!("0\r\n{trailers}"), HttpError::Trailer);
    }
    refuse_chunked("0\r\na: b\r\n c\r\n\r\n", HttpError::Trailer);
}

#[test]
fn ignored_bytes_have_a_bound() {
    use crate::http::limits::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
    let steps = |text: &str| replay(text.as_bytes(), 1000, true, &Limits::default()).1;
    let extension = |bytes: usize| chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes)));
    assert_eq!(steps(&extension(CHUNK_EXTENSION_BYTES_MAX)), None);
    assert_eq!(
        steps(&extension(CHUNK_EXTENSION_BYTES_MAX + 1)),
        Some(HttpError::ChunkExtensionsTooLarge)
    );
    let many = chunked(&"1;eeeeeeeeee\r\nx\r\n".repeat(CHUNK_EXTENSION_BYTES_MAX / 10 + 1));
    assert_eq!(steps(&many), Some(HttpError::ChunkExtensionsTooLarge));
    // The CR of the trailer line counts too.
    let trailer = |bytes: usize| chunked(&format!("0\r\n{}:v\r\n\r\n", "t".repeat(bytes - 3)));
    assert_eq!(steps(&trailer(TRAILER_BYTES_MAX)), None);
    assert_eq!(steps(&trailer(TRAILER_BYTES_MAX + 1)), Some(HttpError::TrailersTooLarge));
}

#[test]
fn the_body_limit_holds_from_both_sides() {
    let limits = Limits { body_bytes_max: 10, ..Limits::default() };
    let ten: &[Expected<'_>] = &[(Method::Post, "/", b"0123456789")];
    let plain = |length| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n0123456789")
    };
    let too_large = Some(HttpError::BodyTooLarge);
    check_within(&limits, plain("10"), ten, None);
    check_within(&limits, plain("11"), &[], too_large);
    check_within(&limits, plain("18446744073709551615"), &[], too_large);
    check_within(&limits, chunked("4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"), ten, None);
    check_within(&limits, chunked("4\r\n0123\r\n7"), &[], too_large);
    check_within(&limits, chunked("a\r\n0123456789\r\n1"), &[], too_large);
    check_within(&limits, chunked("ffffffffffffffff"), &[], too_large);
    check_within(&limits, chunked("10000000a"), &[], too_large);

    let none = Limits { body_bytes_max: 0, ..Limits::default() };
    check_within(&none, get_with(""), &[(Method::Get, "/", b"")], None);
    check_within(&none, plain("1"), &[], too_large);
    check_within(&none, chunked("0\r\n\r\n"), &[(Method::Post, "/", b"")], None);
}

/// 16 MiB in 2 KiB pieces ends soon only if nothing is looked at twice.
#[test]
fn a_large_body_in_small_pieces_is_linear_work() {
    let limits = Limits::default();
    let size = limits.body_bytes_max;
    let mut plain =
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    plain.resize(plain.len() + size, b'x');
    let mut framed = chunked("").into_bytes();
    for _ in 0..size / 1024 {
        crate::http::write_chunk(&mut framed, &[b'x'; 1024]);
    }
    crate::http::write_last_chunk(&mut framed);
    for (stream, reclaim) in [(&plain, false), (&framed, false), (&framed, true)] {
        let (mut reader, mut held, mut pieces) = (RequestReader::default(), Vec::new(), 0);
        for piece in stream.chunks(2048) {
            held.extend_from_slice(piece);
            pieces += 1;
            match reader.read(&mut held, &limits) {
                Ok(Parsed::Partial) => {}
                Ok(Parsed::Complete(request, _)) => {
                    assert!(request.body.len() == size && request.body.iter().all(|&b| b == b'x'));
                    assert_eq!(pieces, stream.len().div_ceil(2048));
                }
                Err(error) => panic!("{error}"),
            }
            if reclaim && let Some(keep) = reader.reclaim() {
                held.truncate(keep);
            }
        }
    }
}

#[test]
fn chunks_of_one_byte_do_not_grow_the_buffer_of_who_reclaims() {
    let framed = chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(5000)));
    let limits = Limits { head_bytes_max: 100, body_bytes_max: 5000 };
    // `replay` asserts the bound.
    let (seen, error) = replay(framed.as_bytes(), 60, true, &limits);
    assert_eq!((seen[0].body.len(), error), (5000, None));
}

/// Whether `100 Continue` is due after each of two pieces.
#[track_caller]
fn check_continue(expect_header: &str, body: &str, cut: usize, due: [bool; 2]) {
    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{expect_header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let cut = text.len() - body.len() + cut;
    let mut reader = RequestReader::default();
    let after = [cut, text.len()].map(|end| {
        let mut input = text.as_bytes()[..end].to_vec();
        assert!(reader.read(&mut input, &Limits::default()).is_ok());
        let first = reader.take_continue();
        assert!(!reader.take_continue(), "told once");
        first
    });
    assert_eq!(after, due, "{expect_header:?} cut at {cut}");
}

#[test]
fn continue_is_due_once_when_the_client_waits_for_it() {
    check_continue("Expect: 100-continue\r\n", "abc", 0, [true, false]);
    check_continue("expect: 100-Continue\r\n", "abc", 0, [true, false]);
    check_continue("Expect: 100-continue\r\n", "abc", 1, [false, false]);
    check_continue("Expect: 100-continue\r\n", "abc", 3, [false, false]);
    check_continue("Expect: 100-continue\r\n", "", 0, [false, false]);
    check_continue("", "abc", 0, [false, false]);
}

#[test]
fn other_expectations_fail_except_in_http_1_0() {
    let lines = |value: &str| get_with(&format!("Expect: {value}\r\n"));
    check(lines("200-ok"), &[], Some(HttpError::Expectation));
    check(lines("100-continue, x"), &[], Some(HttpError::Expectation));
    check(lines("100-continue\r\nExpect: 100-continue"), &[], Some(HttpError::Expectation));
    let old = "POST / HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\n";
    check(format!("{old}y"), &[(Method::Post, "/", b"y")], None);
    let mut reader = RequestReader::default();
    let waiting = old.replace('x', "100-continue");
    assert!(reader.read(&mut waiting.into_bytes(), &Limits::default()).is_ok());
    assert!(!reader.take_continue());
}
