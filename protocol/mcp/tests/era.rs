//! Digest b.2, row by row.

use super::{ENVELOPE, envelope, notification, read, request};
use crate::mcp::{Era, HeaderField, PipeRoute, Version, http_era, pipe_era};

const MODERN: HeaderField<'static> = HeaderField::One(b"2026-07-28");
const LEGACY: HeaderField<'static> = HeaderField::One(b" 2025-06-18\t");
const UNKNOWN: HeaderField<'static> = HeaderField::One(b"2031-01-01");
const ILLEGAL: HeaderField<'static> = HeaderField::One(b"2025-06-18\x00");
const EVERY: [HeaderField<'static>; 6] =
    [HeaderField::Absent, HeaderField::Many, MODERN, LEGACY, UNKNOWN, ILLEGAL];

/// Checks the era of a message under each of `headers`; an error is its status and code.
#[track_caller]
fn check(input: &str, headers: &[HeaderField<'_>], expect: Result<Era, (u16, i32)>) {
    let (message, params) = read(input);
    for header in headers {
        let era = http_era(&message, params.as_ref(), header);
        let era = era.map_err(|refusal| (refusal.status, refusal.error.code));
        assert_eq!(era, expect, "{header:?}: {input}");
    }
}

#[test]
fn a_modern_envelope_makes_a_request_modern_under_any_header() {
    for method in ["tools/list", "server/discover", "ping", "no/such", "initialize"] {
        check(&request(method, ENVELOPE), &EVERY, Ok(Era::Modern));
    }
    // Malformed, incomplete or of an unknown version: modern still, and refused there.
    for meta in [envelope("5", "{}"), envelope("null", ""), envelope(r#""2031-01-01""#, "{}")] {
        check(&request("tools/list", &meta), &EVERY, Ok(Era::Modern));
    }
    check(&request("tools/list", &envelope(r#""2025-11-25""#, "{}")), &EVERY, Ok(Era::Modern));
}

#[test]
fn initialize_is_legacy_unless_its_modern_envelope_is_whole() {
    check(&request("initialize", r#""protocolVersion":"2026-07-28""#), &EVERY, Ok(Era::Legacy));
    check(&request("initialize", "-"), &EVERY, Ok(Era::Legacy));
    for meta in [
        envelope(r#""2026-07-28""#, ""),
        envelope(r#""2026-07-28""#, "[]"),
        envelope("7", "{}"),
        envelope(r#""2025-11-25""#, "{}"),
    ] {
        check(&request("initialize", &meta), &EVERY, Ok(Era::Legacy));
    }
    let unknown = envelope(r#""2031-01-01""#, "{}");
    check(&request("initialize", &unknown), &EVERY, Ok(Era::Modern));
}

#[test]
fn without_an_envelope_the_header_decides() {
    for params in ["-", "", r#""name":"x""#, r#""_meta":{"progressToken":1}"#] {
        let input = request("tools/call", params);
        check(&input, &[HeaderField::Absent, LEGACY], Ok(Era::Legacy));
        check(&input, &[MODERN, UNKNOWN, ILLEGAL, HeaderField::Many], Ok(Era::Modern));
    }
    for version in Version::ALL {
        let era = if version.is_modern() { Era::Modern } else { Era::Legacy };
        let header = HeaderField::One(version.as_str().as_bytes());
        check(&request("tools/list", "-"), &[header], Ok(era));
    }
}

#[test]
fn methods_only_the_modern_era_has_are_modern() {
    for method in ["server/discover", "subscriptions/listen"] {
        check(&request(method, "-"), &EVERY, Ok(Era::Modern));
    }
}

#[test]
fn a_notification_is_modern_by_envelope_or_header() {
    let method = "notifications/cancelled";
    check(&notification(method, ENVELOPE), &EVERY, Ok(Era::Modern));
    let plain = notification(method, r#""requestId":1"#);
    check(&plain, &[MODERN], Ok(Era::Modern));
    let others = [HeaderField::Absent, HeaderField::Many, LEGACY, UNKNOWN, ILLEGAL];
    check(&plain, &others, Ok(Era::Legacy));
}

#[test]
fn a_response_is_legacy_or_nothing() {
    for input in [
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":""}}"#,
    ] {
        check(input, &[MODERN], Err((400, -32600)));
        check(input, &[HeaderField::Absent, LEGACY, UNKNOWN], Ok(Era::Legacy));
    }
}

#[test]
fn a_batch_is_legacy_and_holds_nothing_modern() {
    let plain = request("ping", "-");
    check(&format!("[{plain},5,[]]"), &EVERY, Ok(Era::Legacy));
    for modern in [request("ping", ENVELOPE), notification("x", &envelope("1", ""))] {
        check(&format!("[{plain},{modern}]"), &EVERY, Err((400, -32600)));
    }
    check("[]", &EVERY, Err((400, -32600)));
    check("[1,", &EVERY, Err((400, -32700)));
}

/// The route of a message before and after the handshake; a refusal is shown by its code.
#[track_caller]
fn route(input: &str, before: Result<PipeRoute, i32>, after: Result<PipeRoute, i32>) {
    let (message, params) = read(input);
    for (handshake_done, expect) in [(false, before), (true, after)] {
        let route = match pipe_era(&message, params.as_ref(), handshake_done) {
            PipeRoute::Refuse(error) => Err(error.code),
            route => Ok(route),
        };
        assert_eq!(route, expect, "handshake done: {handshake_done}, {input}");
    }
}

#[test]
fn pipes_serve_each_modern_request_by_itself() {
    let modern = || Ok(PipeRoute::Modern);
    for method in ["tools/call", "server/discover", "ping", "initialize", "no/such"] {
        route(&request(method, ENVELOPE), modern(), modern());
    }
    route(&request("tools/call", &envelope("1", "")), modern(), modern());
}

#[test]
fn pipes_take_a_handshake_at_any_time() {
    let initialize = || Ok(PipeRoute::Initialize);
    route(&request("initialize", "-"), initialize(), initialize());
    let legacy = envelope(r#""2024-11-05""#, "{}");
    route(&request("initialize", &legacy), initialize(), initialize());
    let incomplete = envelope(r#""2026-07-28""#, "");
    route(&request("initialize", &incomplete), initialize(), initialize());
}

#[test]
fn pipes_answer_ping_before_the_handshake() {
    route(&request("ping", "-"), Ok(PipeRoute::Ping), Ok(PipeRoute::Ping));
}

#[test]
fn pipes_want_an_envelope_or_a_handshake() {
    for method in ["tools/call", "no/such", "subscriptions/listen"] {
        route(&request(method, "-"), Err(-32602), Ok(PipeRoute::Legacy));
    }
    route(&request("server/discover", "-"), Err(-32602), Err(-32602));
    let input = request("tools/list", "-");
    let (message, params) = read(&input);
    let PipeRoute::Refuse(error) = pipe_era(&message, params.as_ref(), false) else {
        panic!("not refused");
    };
    assert_eq!(error.message, "Missing _meta io.modelcontextprotocol/protocolVersion");
}

#[test]
fn pipes_cancel_in_either_era_and_ignore_what_they_cannot_place() {
    let cancelled = || Ok(PipeRoute::Cancelled);
    route(&notification("notifications/cancelled", ENVELOPE), cancelled(), cancelled());
    route(&notification("notifications/cancelled", "-"), cancelled(), cancelled());
    for method in ["notifications/initialized", "no/such"] {
        route(&notification(method, "-"), Ok(PipeRoute::Ignore), Ok(PipeRoute::Legacy));
    }
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    route(response, Ok(PipeRoute::Ignore), Ok(PipeRoute::Response));
    let (plain, modern) = (request("ping", "-"), request("ping", ENVELOPE));
    route(&format!("[{plain}]"), Err(-32600), Ok(PipeRoute::Batch));
    route(&format!("[{plain},{modern}]"), Err(-32600), Err(-32600));
}
