//! The status table of the legacy era (digest b.9), row by row. Each row is asked on the shard that owns the
//! session and on another one: the client cannot tell.

use serde_json::{Value, json};

use super::ask::{hello, notification, request, response};
use super::world::World;

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[test]
fn initialize_agrees_on_a_version_and_opens_a_session() {
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let mut world = World::new();
        let ask = world.post("/mcp").json(request("a", "initialize", hello(asked, json!({}))));
        let heard = ask.reply();
        assert_eq!(heard.status, 200, "{asked}");
        assert_eq!(heard.result()["protocolVersion"], agreed, "{asked}");
        assert_eq!(heard.result()["serverInfo"]["name"], "crane-mcp", "{asked}");
        let id = heard.header("mcp-session-id").expect("a session id");
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
        assert_eq!(heard.result()["capabilities"].get("completions").is_some(), agreed > "2025");
    }
}

#[test]
fn initialize_as_a_stream_carries_the_session_id_too() {
    let mut world = World::new();
    let ask = world.post("/mcp").json(request(0, "initialize", hello("2025-11-25", json!({}))));
    let heard = ask.header("Accept", "text/event-stream").reply();
    assert!(heard.is_stream() && !heard.open);
    assert_eq!(heard.result()["protocolVersion"], "2025-11-25");
    assert!(heard.header("mcp-session-id").is_some());
}

#[test]
fn an_initialize_that_is_wrong_opens_nothing() {
    let mut world = World::new();
    for params in [
        json!({}),
        json!({ "protocolVersion": 5, "capabilities": {}, "clientInfo": {} }),
        json!({ "protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": {} }),
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": "me" }),
    ] {
        let heard = world.post("/mcp").json(request(1, "initialize", params.clone())).reply();
        assert_eq!((heard.status, heard.code()), (400, -32602), "{params}");
        assert_eq!(heard.header("mcp-session-id"), None, "{params}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{params}");
    }
}

#[test]
fn a_second_initialize_with_a_session_id_is_refused_and_without_opens_another() {
    let mut world = World::new();
    let first = world.initialize(0, "2025-11-25", json!({}));
    let again = request(1, "initialize", hello("2025-11-25", json!({})));
    let heard = first.post(&mut world, again).reply();
    assert_eq!((heard.status, heard.code()), (400, -32600));
    let second = world.initialize(0, "2025-11-25", json!({}));
    assert_ne!(first.id, second.id);
    for session in [first, second] {
        assert_eq!(session.ask(&mut world, 2, "ping", json!({})).reply().status, 200);
    }
}

#[test]
fn a_request_without_a_session_id_gets_400() {
    let mut world = World::new();
    for message in [
        request(1, "tools/list", json!({})),
        request(1, "ping", json!({})),
        notification("notifications/initialized", json!({})),
        response(&json!("s-1"), json!({})),
    ] {
        let heard = world.post("/mcp").json(message.clone()).reply();
        assert_eq!(heard.status, 400, "{message}");
        assert_eq!(heard.last().get("id"), message.get("method").and_then(|_| message.get("id")));
    }
    assert_eq!(world.get("/mcp").reply().status, 400);
    assert_eq!(world.ask("DELETE", "/mcp").reply().status, 400);
}

#[test]
fn a_version_header_that_is_not_served_gets_400_and_none_is_fine() {
    for (header, status) in [
        (None, 200),
        (Some("2025-11-25"), 200),
        (Some("2025-06-18"), 200),
        (Some("2023-01-01"), 400),
        (Some("latest"), 400),
    ] {
        for shard in [0, 1] {
            let mut world = World::new();
            let session = world.initialize(0, "2025-11-25", json!({}));
            let ask = session.ask(&mut world, 1, "ping", json!({})).on(shard);
            let ask = ask.without("MCP-Protocol-Version");
            let ask = match header {
                Some(version) => ask.header("MCP-Protocol-Version", version),
                None => ask,
            };
            assert_eq!(ask.reply().status, status, "{header:?} on {shard}");
            let ask = session.get(&mut world).on(shard).without("MCP-Protocol-Version");
            let ask = match header {
                Some(version) => ask.header("MCP-Protocol-Version", version),
                None => ask,
            };
            assert_eq!(ask.reply().status, status, "GET {header:?} on {shard}");
        }
    }
}

#[test]
fn requests_are_answered_with_200_whatever_the_answer_is() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        for (method, params, code) in [
            ("ping", json!({}), 0),
            ("tools/list", json!({}), 0),
            ("tools/list", json!({ "cursor": "forged" }), -32602),
            ("tools/call", json!({ "name": "echo", "arguments": { "text": "a" } }), 0),
            ("tools/call", json!({ "name": "fly" }), -32602),
            ("tools/call", json!({ "name": "panic" }), -32603),
            ("prompts/get", json!({ "name": "shift", "arguments": { "name": "Ada" } }), 0),
            ("prompts/get", json!({ "name": "shift" }), -32602),
            ("resources/read", json!({ "uri": "crane://7/state" }), 0),
            ("resources/read", json!({ "uri": "crane://9/log" }), 0),
            ("resources/read", json!({ "uri": "crane://99/state" }), -32002),
            ("resources/subscribe", json!({ "uri": "crane://7/state" }), 0),
            ("resources/subscribe", json!({ "uri": "crane://7/state" }), 0),
            ("resources/subscribe", json!({ "uri": "crane://99/state" }), -32002),
            ("resources/subscribe", json!({}), -32602),
            ("resources/unsubscribe", json!({ "uri": "crane://7/state" }), 0),
            ("resources/unsubscribe", json!({ "uri": "crane://7/state" }), 0),
            ("logging/setLevel", json!({ "level": "error" }), 0),
            ("logging/setLevel", json!({ "level": "loud" }), -32602),
            ("logging/setLevel", json!({}), -32602),
            ("no/such", json!({}), -32601),
            ("tasks/list", json!({}), -32601),
        ] {
            let heard = session.ask(&mut world, "id", method, params.clone()).on(shard).reply();
            assert_eq!((heard.status, heard.code()), (200, code), "{shard}: {method} {params}");
            assert_eq!(heard.last()["id"], "id", "{method} {params}");
        }
    }
}

#[test]
fn modern_methods_do_not_exist_in_a_session() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for method in ["server/discover", "subscriptions/listen"] {
        // Digest b.2: without an envelope they are broken modern requests.
        let heard = session.ask(&mut world, 1, method, json!({})).reply();
        assert_eq!((heard.status, heard.code()), (400, -32602), "{method}");
    }
    let heard = session.ask(&mut world, 1, "tasks/update", json!({})).reply();
    assert_eq!((heard.status, heard.code()), (200, -32601));
}

#[test]
fn notifications_and_responses_get_202_without_a_body() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        for message in [
            notification("notifications/initialized", json!({})),
            notification("notifications/roots/list_changed", json!({})),
            notification("notifications/cancelled", json!({ "requestId": 99 })),
            notification("notifications/cancelled", json!({})),
            notification("notifications/unheard_of", json!({ "x": 1 })),
            response(&json!("s-1"), json!({})),
            response(&json!(77), json!({})),
            json!({ "jsonrpc": "2.0", "id": "s-9", "error": { "code": -1, "message": "no" } }),
        ] {
            let heard = session.post(&mut world, message.clone()).on(shard).reply();
            assert_eq!((heard.status, heard.body.as_str()), (202, ""), "{message}");
        }
    }
}

#[test]
fn an_answer_that_may_only_be_a_stream_is_one() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for shard in [0, 1] {
        let ask = session.ask(&mut world, 1, "ping", json!({})).on(shard);
        let heard = ask.header("Accept", "text/event-stream").reply();
        assert!(heard.is_stream() && !heard.open, "{heard:?}");
        assert_eq!(heard.result(), json!({}));
    }
}

#[test]
fn a_get_opens_a_stream_if_it_takes_one() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let heard = session.get(&mut world).on(shard).reply();
        assert!(heard.status == 200 && heard.is_stream() && heard.open);
        assert!(heard.body.starts_with(':'), "something must be written at once: {heard:?}");
        let ask = session.get(&mut world).on(shard).header("Accept", "application/json");
        assert_eq!(ask.reply().status, 406);
    }
}

#[test]
fn delete_ends_a_session_and_everything_later_gets_404() {
    for (shard, then) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let heard = session.delete(&mut world).on(shard).reply();
        assert_eq!((heard.status, heard.body.as_str()), (204, ""));
        let heard = session.ask(&mut world, 5, "tools/list", json!({})).on(then).reply();
        assert_eq!((heard.status, heard.last()["id"].clone()), (404, json!(5)));
        assert_eq!(session.get(&mut world).on(then).reply().status, 404);
        assert_eq!(session.delete(&mut world).on(then).reply().status, 404);
        let message = notification("notifications/initialized", json!({}));
        assert_eq!(session.post(&mut world, message).on(then).reply().status, 404);
    }
}

#[test]
fn what_is_no_message_gets_400() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for (body, code) in
        [("{", -32700), ("[]", -32600), ("5", -32600), ("{\"jsonrpc\":\"2.0\"}", -32600)]
    {
        for shard in [0, 1] {
            let heard = session.post(&mut world, Value::Null).body(body).on(shard).reply();
            assert_eq!((heard.status, heard.code()), (400, code), "{body} on {shard}");
        }
    }
}

#[test]
fn batches_exist_in_2025_03_26_only() {
    for version in VERSIONS {
        for shard in [0, 1] {
            let mut world = World::new();
            let session = world.initialize(0, version, json!({}));
            let batch = json!([request(1, "ping", json!({})), request(2, "ping", json!({}))]);
            let heard = session.post(&mut world, batch).on(shard).reply();
            if version == "2025-03-26" {
                assert_eq!(heard.status, 200);
                assert_eq!(heard.last().as_array().map(Vec::len), Some(2));
            } else {
                assert_eq!((heard.status, heard.code()), (400, -32600), "{version}");
            }
        }
    }
}
