//! Behaviour of requests: whole, byte by byte and at every cut; responses are in their own file.

mod access;
mod body;
mod fields;
mod refusals;
mod response;

use super::fuzz::{Seen, replay, replay_pieces};
use super::{HttpError, Limits, Method, Phase, Request, RequestReader};
use crate::Parsed;

/// A request as a test expects it: method, target, body.
type Expected<'a> = (Method, &'a str, &'a [u8]);

/// Feeds `stream` whole, in equal steps and at every cut; each way gives `expect` and then `error`.
#[track_caller]
fn check(stream: impl AsRef<[u8]>, expect: &[Expected<'_>], error: Option<HttpError>) {
    check_within(&Limits::default(), stream, expect, error);
}

#[track_caller]
fn check_within(
    limits: &Limits,
    stream: impl AsRef<[u8]>,
    expect: &[Expected<'_>],
    error: Option<HttpError>,
) {
    let stream = stream.as_ref();
    let judge = |(seen, refused): (Vec<Seen>, Option<HttpError>), how: &str| {
        let seen: Vec<Expected<'_>> =
            seen.iter().map(|seen| (seen.method, &*seen.target, &*seen.body)).collect();
        assert_eq!((&*seen, refused), (expect, error), "{how}: {}", stream.escape_ascii());
    };
    for (step, reclaim) in [(usize::MAX, false), (1, false), (1, true), (3, true), (7, false)] {
        judge(replay(stream, step, reclaim, limits), &format!("steps of {step}, {reclaim}"));
    }
    for cut in 1..stream.len() {
        let (first, second) = stream.split_at(cut);
        let pieces = [first, second].into_iter();
        judge(replay_pieces(pieces, cut % 2 == 0, limits), &format!("cut at {cut}"));
    }
}

/// Reads the one request in `text` and shows it to `judge`.
#[track_caller]
fn with_request(text: &str, judge: impl FnOnce(Request<'_>)) {
    let mut input = text.as_bytes().to_vec();
    match RequestReader::default().read(&mut input, &Limits::default()) {
        Ok(Parsed::Complete(request, consumed)) => {
            assert_eq!(consumed, text.len());
            judge(request);
        }
        other => panic!("{other:?} for {text:?}"),
    }
}

/// A GET of `/` with these further header lines, each ended by CRLF.
fn get_with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

#[test]
fn requests_are_read_however_they_are_cut() {
    check(get_with(""), &[(Method::Get, "/", b"")], None);
    check(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 13\r\n\r\n\
         {\"id\":\"\r\n\r\n\"}",
        &[(Method::Post, "/mcp", b"{\"id\":\"\r\n\r\n\"}")],
        None,
    );
    check(
        "DELETE /mcp HTTP/1.1\r\nhost:h\r\nCONTENT-LENGTH:\t0 \r\n\r\n",
        &[(Method::Delete, "/mcp", b"")],
        None,
    );
    check("OPTIONS /mcp?a=b HTTP/1.0\r\n\r\n", &[(Method::Options, "/mcp?a=b", b"")], None);
    check("HEAD / HTTP/1.1\r\nHost:\r\n\r\n", &[(Method::Head, "/", b"")], None);
    check("put / HTTP/1.1\r\nHost: a\r\n\r\n", &[(Method::Other, "/", b"")], None);
}

#[test]
fn pipelined_requests_come_out_one_by_one() {
    let post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let chunked = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\ntw\r\n1\r\no\r\n0\r\n\r\n";
    let get = "GET /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let (a, b, c): (Expected<'_>, Expected<'_>, Expected<'_>) =
        ((Method::Post, "/a", b"one"), (Method::Post, "/b", b"two"), (Method::Get, "/c", b""));
    check(format!("{post}{chunked}"), &[a, b], None);
    check(format!("{chunked}{post}"), &[b, a], None);
    check(format!("{get}{get}{chunked}{chunked}{get}"), &[c, c, b, b, c], None);
    check(format!("{post}\x16\x03\x01"), &[a], Some(HttpError::RequestLine));
}

#[test]
fn one_empty_line_before_a_request_is_ignored_and_two_are_not() {
    check(format!("\r\n{}", get_with("")), &[(Method::Get, "/", b"")], None);
    check(
        format!("\r\n{}\r\n{}", get_with("Content-Length: 0\r\n"), get_with("")),
        &[(Method::Get, "/", b""), (Method::Get, "/", b"")],
        None,
    );
    check("\r\n", &[], None);
    check("\r\n\r\nGET / HTTP/1.1\r\n", &[], Some(HttpError::RequestLine));
    check("\nGET / HTTP/1.1\r\n", &[], Some(HttpError::RequestLine));
    check("\r \nGET / HTTP/1.1\r\n", &[], Some(HttpError::RequestLine));
}

#[test]
fn an_incomplete_request_is_no_error() {
    check("", &[], None);
    check("GET / HTTP/1.1\r\nHost: a\r\n", &[], None);
    check("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc", &[], None);
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        &[],
        None,
    );
}

#[test]
fn the_phase_tells_what_is_awaited() {
    let (mut reader, limits) = (RequestReader::default(), Limits::default());
    let text = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let head_end = text.len() - 2;
    for end in 0..text.len() {
        let answer = reader.read(&mut text[..end].to_vec(), &limits).map(|parsed| match parsed {
            Parsed::Complete(..) => unreachable!("only {end} bytes"),
            Parsed::Partial => reader.phase(),
        });
        let expect = match end {
            0..3 => Phase::Idle,
            _ if end < head_end => Phase::Head,
            _ => Phase::Body,
        };
        assert_eq!(answer, Ok(expect), "after {end} bytes");
    }
    assert!(matches!(
        reader.read(&mut text.to_vec(), &limits),
        Ok(Parsed::Complete(_, consumed)) if consumed == text.len()
    ));
    assert_eq!(reader.phase(), Phase::Idle);
}
