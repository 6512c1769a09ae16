//! A POST for a session of another shard goes there unread: its client cannot tell, whatever it sent.

use serde_json::json;

use super::ask::{Heard, META, envelope, hello, modern, request, tool};
use super::world::{Setup, World};

/// Bodies of every kind, each with something in it that a reader may stumble over.
fn bodies() -> Vec<Vec<u8>> {
    let echo = || tool("echo", json!({ "text": "crane" }));
    let plain = request(1, "tools/call", echo()).to_string();
    let deep = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{open}{close}}}}}"#)
    };
    let mut bodies: Vec<Vec<u8>> = [
        plain.clone(),
        format!(" \r\n{plain}\t"),
        plain.replace("tools/call", "tools\\/call"),
        plain.replace("crane", "discover subscriptions/listen protocolVersion"),
        plain.replace("crane", "a\\\"b"),
        plain.replace("\"id\":1", "\"id\":\"one\""),
        plain.replace("\"id\":1", "\"id\":1.5"),
        plain.replace("\"id\":1", "\"id\":null"),
        plain.replace("\"id\":1", "\"id\":1,\"id\":2"),
        plain.replace("\"id\":1", "\"id\":1,\"method\":\"ping\""),
        plain.replace("2.0", "1.0"),
        plain.replace("\"name\"", "\"name\":\"echo\",\"name\""),
        plain.replace("echo", "nobody"),
        plain.replace("tools/call", "tools/nothing"),
        plain[..plain.len() - 1].to_owned(),
        format!("{plain}x"),
        format!("[{plain}]"),
        format!("[{plain},{plain},7]"),
        format!("[{}]", modern(1, "tools/call", echo())),
        "[]".to_owned(),
        "[".to_owned(),
        "7".to_owned(),
        "\"crane\"".to_owned(),
        "{}".to_owned(),
        deep(124),
        deep(125),
        deep(126),
        deep(5000),
        request(1, "ping", json!({})).to_string(),
        request(1, "ping", json!([1])).to_string(),
        request(1, "ping", json!("x")).to_string(),
        request(1, "initialize", hello("2025-11-25", json!({}))).to_string(),
        request(1, "initialize", json!({})).to_string(),
        request(1, "initialize", json!([])).to_string(),
        request(1, "initialize", json!({})).to_string().replace("initialize", "initi\\u0061lize"),
        request(1, "server/discover", json!({})).to_string(),
        request(1, "server/discover", json!({})).to_string().replace('d', "\\u0064"),
        request(1, "subscriptions/listen", json!({ "notifications": {} })).to_string(),
        request(1, "logging/setLevel", json!({ "level": 5 })).to_string(),
        request(1, "logging/setLevel", json!({ "level": "warning" })).to_string(),
        modern(1, "tools/call", echo()).to_string(),
        modern(1, "tools/call", echo())
            .to_string()
            .replace("protocolVersion", "protocol\\u0056ersion"),
        request(1, "initialize", envelope(json!({}))).to_string(),
        request(1, "ping", json!({ "_meta": { format!("{META}protocolVersion"): 7 } })).to_string(),
        request(1, "ping", json!({ "_meta": 7 })).to_string(),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#
            .to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/crane","params":[]}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":[7],"error":{"code":1,"message":"no"}}"#.to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec();
    bodies.push(b"\xff\xfe{}".to_vec());
    bodies.push(plain.replace("crane", "cr?ne").into_bytes());
    if let Some(mark) = bodies.last_mut().and_then(|body| body.iter_mut().find(|b| **b == b'?')) {
        *mark = 0xff;
    }
    bodies
}

/// What a client sees, but for what every answer has of its own.
fn seen(heard: &Heard) -> (u16, Option<&str>, String) {
    (heard.status, heard.header("content-type"), heard.body.clone())
}

#[test]
fn whatever_is_sent_to_another_shard_is_answered_as_at_its_own() {
    for version in ["2025-03-26", "2025-11-25"] {
        for header in [None, Some("2025-03-26"), Some("2025-11-25"), Some("2026-07-28"), Some("x")]
        {
            for accept in ["application/json, text/event-stream", "text/event-stream"] {
                for body in bodies() {
                    let ask = |shard| {
                        let mut world = World::with(Setup { shards: 2, ..Setup::default() });
                        let session = world.initialize(0, version, json!({}));
                        let ask = world.post("/mcp").on(shard).header("Accept", accept);
                        let ask = ask.header("Mcp-Session-Id", &session.id).body(body.clone());
                        let ask = match header {
                            Some(header) => ask.header("MCP-Protocol-Version", header),
                            None => ask,
                        };
                        ask.reply()
                    };
                    let (own, other) = (ask(0), ask(1));
                    let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                    assert_eq!(seen(&own), seen(&other), "{version} {header:?} {accept}: {body}");
                }
            }
        }
    }
}

#[test]
fn a_message_is_read_by_the_owner_alone() {
    for (header, is_unread) in [(Some("2025-11-25"), true), (None, true), (Some("x"), false)] {
        let mut world = World::with(Setup { shards: 2, ..Setup::default() });
        let session = world.initialize(0, "2025-11-25", json!({}));
        let ask = world.post("/mcp").on(1).header("Mcp-Session-Id", &session.id).body("{");
        let ask = match header {
            Some(header) => ask.header("MCP-Protocol-Version", header),
            None => ask,
        };
        assert_eq!(ask.reply().status, 400, "{header:?}");
        let malformed = |world: &World, shard: usize| {
            world.wires[shard].counters.errors.get("malformed_message").copied().unwrap_or_default()
        };
        let at = [malformed(&world, 0), malformed(&world, 1)];
        assert_eq!(at, if is_unread { [1, 0] } else { [0, 1] }, "{header:?}");
    }
}

#[test]
fn a_request_that_was_not_read_is_refused_with_its_id_when_its_shard_takes_no_more() {
    let mut world = World::with(Setup { shards: 2, ..Setup::default() });
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.block_mail(1, 0, true);
    let heard = session.call(&mut world, 41, "echo", json!({ "text": "crane" })).on(1).reply();
    assert_eq!((heard.status, heard.last()["id"].as_u64()), (503, Some(41)));
    assert_eq!(heard.last()["error"]["data"]["retryable"], true);
}
