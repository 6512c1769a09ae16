//! Which era a request is served in (digest b.2), seen from outside: the body leads, the header is a
//! cross-check.

use serde_json::{Value, json};

use super::ask::{META, envelope, hello, request};
use super::world::World;

/// Status, error code, and whether a session was opened.
#[track_caller]
fn check(message: Value, header: Option<&str>, expect: (u16, i64, bool)) {
    let mut world = World::new();
    let ask = world.post("/mcp").json(message.clone());
    let method = message["method"].as_str().unwrap_or_default();
    let ask = ask.header("Mcp-Method", method).header("Mcp-Name", "echo");
    let ask = match header {
        Some(version) => ask.header("MCP-Protocol-Version", version),
        None => ask,
    };
    let heard = ask.reply();
    let session = heard.header("mcp-session-id").is_some();
    assert_eq!((heard.status, heard.code(), session), expect, "{message} {header:?}: {heard:?}");
}

fn call(params: Value) -> Value {
    request(1, "tools/call", params)
}

fn echo() -> Value {
    json!({ "name": "echo", "arguments": { "text": "x" } })
}

const MODERN: Option<&str> = Some("2026-07-28");
const LEGACY: Option<&str> = Some("2025-11-25");

#[test]
fn an_envelope_makes_a_request_modern_and_the_header_must_agree() {
    check(call(envelope(echo())), MODERN, (200, 0, false));
    check(call(envelope(echo())), None, (400, -32020, false));
    check(call(envelope(echo())), LEGACY, (400, -32020, false));
}

#[test]
fn a_modern_header_without_an_envelope_is_a_modern_request_without_one() {
    check(call(echo()), MODERN, (400, -32602, false));
    check(call(echo()), Some("v999"), (400, -32602, false));
    check(call(echo()), Some(" 2026-07-28\t"), (400, -32602, false));
}

#[test]
fn without_any_sign_a_request_is_legacy_and_lacks_its_session() {
    check(call(echo()), None, (400, -32600, false));
    check(call(echo()), LEGACY, (400, -32600, false));
}

#[test]
fn versions_in_header_and_body_are_told_apart() {
    let other = |version: &str| {
        call(json!({
            "name": "echo",
            "_meta": {
                format!("{META}protocolVersion"): version,
                format!("{META}clientCapabilities"): {},
            },
        }))
    };
    check(other("v999.0.0"), MODERN, (400, -32020, false));
    check(other("v999.0.0"), Some("v999.0.0"), (400, -32022, false));
    check(other("2025-11-25"), LEGACY, (400, -32022, false));
}

#[test]
fn initialize_is_legacy_unless_its_envelope_is_whole() {
    let plain = hello("2025-11-25", json!({}));
    check(request(1, "initialize", plain.clone()), None, (200, 0, true));
    check(request(1, "initialize", plain.clone()), LEGACY, (200, 0, true));
    check(request(1, "initialize", plain.clone()), MODERN, (200, 0, true));
    check(request(1, "initialize", hello("2026-07-28", json!({}))), None, (200, 0, true));
    check(request(1, "initialize", envelope(plain)), MODERN, (404, -32601, false));
}

#[test]
fn methods_only_the_modern_era_has_are_modern_requests() {
    for method in ["server/discover", "subscriptions/listen"] {
        check(request(1, method, json!({})), None, (400, -32602, false));
        check(request(1, method, json!({})), LEGACY, (400, -32602, false));
        check(request(1, method, json!({})), MODERN, (400, -32602, false));
    }
}

#[test]
fn a_batch_with_a_modern_item_is_refused_whatever_the_session() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-03-26", json!({}));
    let batch = json!([request(1, "ping", json!({})), call(envelope(echo()))]);
    let heard = session.post(&mut world, batch).reply();
    assert_eq!((heard.status, heard.code()), (400, -32600));
}

#[test]
fn both_eras_are_served_side_by_side() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for round in 0..3 {
        let modern = world.modern(round, "tools/call", echo()).reply();
        assert_eq!(modern.result()["resultType"], "complete");
        let legacy = session.ask(&mut world, round, "tools/call", echo()).on(1).reply();
        assert_eq!(legacy.result().get("resultType"), None);
        // A modern request inside a session is a modern request.
        let inside = world.modern(round, "tools/call", echo());
        let inside = inside.header("Mcp-Session-Id", &session.id).reply();
        assert_eq!(inside.result()["resultType"], "complete");
    }
}
