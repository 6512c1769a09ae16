//! What is refused, and with which status: the table of request smuggling first.

use super::*;

#[track_caller]
fn refuse(stream: impl AsRef<[u8]>, error: HttpError, status: u16) {
    check(stream, &[], Some(error));
    assert_eq!(error.status(), status);
}

#[test]
fn ambiguous_framing_is_refused() {
    use HttpError::*;
    let table = [
        // CL.TE and TE.CL, in both orders.
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", LengthAndTransferEncoding, 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LengthAndTransferEncoding, 400),
        ("Content-Length: 0\r\nTransfer-Encoding: identity\r\n", LengthAndTransferEncoding, 400),
        // TE.TE: anything that one parser may take for chunked and another not.
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: identity\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: gzip, chunked\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked;q=1\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked,\r\n", TransferEncoding, 501),
        ("Transfer-Encoding:\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", TransferEncoding, 501),
        ("Transfer-Encoding: \x0bchunked\r\n", FieldValue, 400),
        ("Transfer-Encoding : chunked\r\n", FieldName, 400),
        ("Transfer-Encoding\t: chunked\r\n", FieldName, 400),
        ("Transfer-Encoding:\r\n chunked\r\n", ObsoleteFold, 400),
        ("X: y\n Transfer-Encoding: chunked\r\n", BareNewline, 400),
        ("X: y\rTransfer-Encoding: chunked\r\n", BareNewline, 400),
        // Lengths.
        ("Content-Length: 1\r\nContent-Length: 1\r\n", LengthRepeated, 400),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", LengthRepeated, 400),
        ("Content-Length: 1, 1\r\n", LengthInvalid, 400),
        ("Content-Length: +1\r\n", LengthInvalid, 400),
        ("Content-Length: -1\r\n", LengthInvalid, 400),
        ("Content-Length: 0x1\r\n", LengthInvalid, 400),
        ("Content-Length: 1 1\r\n", LengthInvalid, 400),
        ("Content-Length: 1.0\r\n", LengthInvalid, 400),
        ("Content-Length: 1e1\r\n", LengthInvalid, 400),
        ("Content-Length:\r\n", LengthInvalid, 400),
        ("Content-Length: \u{664}\r\n", LengthInvalid, 400),
        ("Content-Length: 18446744073709551616\r\n", LengthInvalid, 400),
        ("Content-Length : 1\r\n", FieldName, 400),
        ("Content-Length: 99999999999\r\n", BodyTooLarge, 413),
    ];
    for (lines, error, status) in table {
        refuse(get_with(lines), error, status);
        refuse(format!("{}{}", get_with(lines), "0\r\n\r\n"), error, status);
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let head = "POST / HTTP/1.0\r\nHost: a\r\n";
    for lines in ["Transfer-Encoding: chunked\r\n", "Transfer-Encoding: x\r\nContent-Length: 1\r\n"]
    {
        refuse(format!("{head}{lines}\r\n"), HttpError::TransferEncodingIn10, 400);
    }
}

#[test]
fn lines_end_with_crlf_and_only_with_it() {
    for stream in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHo\rst: a\r\n\r\n",
    ] {
        refuse(stream, HttpError::BareNewline, 400);
    }
}

#[test]
fn malformed_fields_are_refused() {
    for line in ["X y: z", "X", ": z", "X\u{e9}: z", "X(: z", "X\0: z", "=: z"] {
        refuse(get_with(&format!("{line}\r\n")), HttpError::FieldName, 400);
    }
    for line in ["X: \0", "X: a\x01b", "X: a\x7f", "X: \x0b", "Host\r\n"] {
        let error = if line.contains(':') { HttpError::FieldValue } else { HttpError::FieldName };
        refuse(get_with(&format!("{line}\r\n")), error, 400);
    }
    for fold in [" more", "\tmore", " ", " a: b"] {
        refuse(get_with(&format!("X: a\r\n{fold}\r\n")), HttpError::ObsoleteFold, 400);
    }
    refuse("GET / HTTP/1.1\r\n Host: a\r\n\r\n", HttpError::ObsoleteFold, 400);
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1.1",
        "GET /",
        "GET",
        "GE(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        refuse(format!("{line}\r\nHost: a\r\n\r\n"), HttpError::RequestLine, 400);
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/2"] {
        refuse(format!("GET / {version}\r\nHost: a\r\n\r\n"), HttpError::Version, 505);
    }
    refuse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HttpError::Version, 505);
}

#[test]
fn targets_name_a_path_of_ours() {
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for target in [
        "*",
        "mcp",
        "a:80",
        "http://",
        "http:///mcp",
        "http://user@h/mcp",
        "http:/mcp",
        "ftp://h/mcp",
        "http://a,b/",
        "/mcp#part",
        "/m\u{e9}",
        "?q",
    ] {
        refuse(request(target), HttpError::Target, 400);
    }
    refuse("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", HttpError::Connect, 501);
}

#[test]
fn http_1_1_needs_exactly_one_host() {
    let with = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    refuse(with(""), HttpError::HostMissing, 400);
    refuse(with("Host: a\r\nHost: a\r\n"), HttpError::HostRepeated, 400);
    refuse("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HttpError::HostRepeated, 400);
    for host in ["a b", "a,b", "a/b", "user@a", "a?b", "a#b", "a\\b", "\u{e9}", "a\tb"] {
        refuse(with(&format!("Host: {host}\r\n")), HttpError::HostInvalid, 400);
    }
}

#[test]
fn the_head_limit_holds_from_both_sides() {
    let limits = Limits { head_bytes_max: 64, ..Limits::default() };
    let head = |bytes: usize| get_with(&format!("X: {}\r\n", "x".repeat(bytes - 40)));
    assert_eq!(head(64).len(), 64);
    let one: &[Expected<'_>] = &[(Method::Get, "/", b"")];
    check_within(&limits, head(64), one, None);
    check_within(&limits, format!("\r\n{}", head(64)), one, None);
    check_within(&limits, format!("{}{}", head(64), head(65)), one, Some(HttpError::HeadTooLarge));
    check_within(&limits, head(65), &[], Some(HttpError::HeadTooLarge));
    check_within(&limits, "x".repeat(63), &[], None);
    check_within(&limits, "x".repeat(64), &[], Some(HttpError::TargetTooLong));
    assert_eq!(HttpError::HeadTooLarge.status(), 431);
    assert_eq!(HttpError::TargetTooLong.status(), 414);
    // A bare LF behind the limit was never reached.
    let late = format!("GET / HTTP/1.1\r\nX: {}\n", "x".repeat(64));
    check_within(&limits, late, &[], Some(HttpError::HeadTooLarge));
}

#[test]
fn the_field_limit_holds_from_both_sides() {
    let fields = |count: usize| get_with(&"X: y\r\n".repeat(count - 1));
    let max = crate::http::FIELDS_MAX;
    let steps = |text: String, step| replay(text.as_bytes(), step, false, &Limits::default());
    for step in [1, 50, usize::MAX] {
        assert_eq!(steps(fields(max), step).0[0].fields.len(), max);
        assert_eq!(steps(fields(max + 1), step).1, Some(HttpError::TooManyFields));
    }
    assert_eq!(HttpError::TooManyFields.status(), 431);
}

#[test]
fn every_error_has_its_own_counter_and_says_what_to_do() {
    let mut reasons: Vec<_> = HttpError::ALL.iter().map(HttpError::reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), HttpError::ALL.len());
    for error in HttpError::ALL {
        assert!((400..=505).contains(&error.status()), "{error:?}");
        assert!(
            error
                .reason()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        );
        assert!(error.to_string().contains(':'), "{error}: fault, colon, advice");
    }
}
