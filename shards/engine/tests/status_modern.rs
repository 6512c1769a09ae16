//! The status table of the modern era (digest b.8), row by row, and CORS (b.12).

use erlmcp_catalog::{Catalog, Tool};
use serde_json::{Value, json};

use super::ask::{Ask, META, hello, notification, request, tool};
use super::world::World;

#[test]
fn a_simple_answer_is_json_with_200() {
    let mut world = World::new();
    let heard = world.modern(1, "tools/call", tool("echo", json!({ "text": "hi" }))).reply();
    assert_eq!((heard.status, heard.text().as_str()), (200, "hi"));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!(heard.result()["resultType"], "complete");
    assert_eq!(heard.result()["_meta"][format!("{META}serverInfo")]["name"], "crane-mcp");
    assert_eq!(heard.header("mcp-session-id"), None);
}

#[test]
fn origins_and_hosts_that_are_not_allowed_get_403() {
    for (name, value, status) in [
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost:5173", 200),
        ("Origin", "https://pier.example", 200),
        ("Host", "evil.example", 403),
        ("Host", "tools.example.net", 200),
        ("Host", "localhost:1234", 200),
    ] {
        let mut world = World::new();
        let heard = world.modern(1, "server/discover", json!({})).header(name, value).reply();
        assert_eq!(heard.status, status, "{name}: {value}");
        let echoed = (name == "Origin" && status == 200).then_some(value);
        assert_eq!(heard.header("access-control-allow-origin"), echoed, "{name}: {value}");
        for path in ["/sse", "/mcp/ws", "/health", "/nowhere"] {
            let refused = world.get(path).header(name, value).reply().status == 403;
            assert_eq!(refused, status == 403, "{path} {name}: {value}");
        }
    }
}

#[test]
fn a_preflight_is_answered_before_everything_else() {
    let mut world = World::new();
    let heard = world
        .ask("OPTIONS", "/mcp")
        .header("Origin", "https://pier.example")
        .header("Access-Control-Request-Headers", "mcp-param-berth, x-other, Mcp-Param-B\u{61}d")
        .reply();
    assert_eq!((heard.status, heard.body.as_str()), (204, ""));
    let allowed = heard.header("access-control-allow-headers").unwrap_or_default();
    for name in ["MCP-Protocol-Version", "Mcp-Session-Id", "Last-Event-ID", "mcp-param-berth"] {
        assert!(allowed.contains(name), "{name} is not in {allowed}");
    }
    assert!(!allowed.contains("x-other"));
    assert_eq!(heard.header("access-control-allow-methods"), Some("POST, GET, DELETE, OPTIONS"));
}

#[test]
fn methods_the_modern_era_has_not_get_405_and_what_it_has() {
    for method in ["GET", "DELETE"] {
        let mut world = World::new();
        let ask = world.ask(method, "/mcp").header("MCP-Protocol-Version", "2026-07-28");
        let heard = ask.reply();
        assert_eq!((heard.status, heard.header("allow")), (405, Some("POST")), "{method}");
    }
    for (method, path) in [
        ("PUT", "/mcp"),
        ("HEAD", "/mcp"),
        ("POST", "/sse"),
        ("GET", "/messages"),
        ("POST", "/mcp/ws"),
    ] {
        let mut world = World::new();
        let heard = world.ask(method, path).reply();
        assert_eq!(heard.status, 405, "{method} {path}");
        assert!(heard.header("allow").is_some(), "{method} {path}");
    }
}

#[test]
fn unknown_paths_get_404_and_health_200() {
    let mut world = World::new();
    assert_eq!(world.post("/other").json(json!({})).reply().status, 404);
    let heard = world.get("/health").without("Accept").reply();
    assert_eq!((heard.status, heard.body.as_str()), (200, r#"{"status":"ok"}"#));
}

#[test]
fn content_types_other_than_json_get_415() {
    for (content_type, status) in [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
    ] {
        let mut world = World::new();
        let ask = world.modern(1, "server/discover", json!({}));
        let heard = ask.header("Content-Type", content_type).reply();
        assert_eq!(heard.status, status, "{content_type}");
    }
    let mut world = World::new();
    let heard = world.modern(1, "server/discover", json!({})).without("Content-Type").reply();
    assert_eq!(heard.status, 415);
}

#[test]
fn what_is_accepted_decides_the_form_of_the_answer() {
    for (accept, status, content_type) in [
        ("application/json, text/event-stream", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("application/*", 200, "application/json"),
        ("application/json", 200, "application/json"),
        ("text/event-stream", 200, "text/event-stream"),
        ("text/event-stream, application/json;q=0", 200, "text/event-stream"),
        ("text/html", 406, "application/json"),
    ] {
        let mut world = World::new();
        let ask = world.modern(1, "tools/call", tool("echo", json!({ "text": "x" })));
        let heard = ask.header("Accept", accept).reply();
        assert_eq!(heard.status, status, "{accept}");
        assert_eq!(heard.header("content-type"), Some(content_type), "{accept}");
        if status == 200 {
            assert_eq!((heard.text().as_str(), heard.open), ("x", false), "{accept}");
        }
    }
    let mut world = World::new();
    let heard = world.modern(1, "server/discover", json!({})).without("Accept").reply();
    assert_eq!(heard.status, 200, "absent means anything");
}

#[test]
fn who_takes_json_only_hears_no_notifications() {
    let mut world = World::new();
    let ask =
        world.modern(1, "tools/call", tool("survey", json!({}))).meta("progressToken", json!(1));
    let heard = ask.header("Accept", "application/json").reply();
    assert_eq!(heard.text(), "2 passes done");
    assert!(!heard.is_stream());
}

#[test]
fn what_is_no_single_message_gets_400() {
    let modern = |message: Value| message.to_string();
    let meta = json!({ "_meta": {
        format!("{META}protocolVersion"): "2026-07-28", format!("{META}clientCapabilities"): {},
    } });
    for (what, body, code, id) in [
        ("not JSON", "{".to_owned(), -32700, None),
        ("not UTF-8 at all", "\u{1}".to_owned(), -32700, None),
        ("a batch", modern(json!([request(1, "tools/list", meta.clone())])), -32600, None),
        ("an empty batch", "[]".into(), -32600, None),
        ("a response", modern(json!({ "jsonrpc": "2.0", "id": 1, "result": {} })), -32600, None),
        ("a null id", modern(request(Value::Null, "tools/list", meta.clone())), -32600, None),
        ("a fractional id", modern(request(1.5, "tools/list", meta.clone())), -32600, None),
        ("an object as id", modern(request(json!({}), "tools/list", meta.clone())), -32600, None),
        ("no jsonrpc", modern(json!({ "id": 4, "method": "x" })), -32600, Some(json!(4))),
        ("a string", "\"x\"".into(), -32600, None),
        (
            "params in an array",
            modern(request(5, "tools/list", json!([1]))),
            -32602,
            Some(json!(5)),
        ),
    ] {
        let mut world = World::new();
        let ask = world.post("/mcp").header("MCP-Protocol-Version", "2026-07-28");
        let heard = ask.body(body).reply();
        assert_eq!((heard.status, heard.code()), (400, code), "{what}");
        assert_eq!(heard.last().get("id"), id.as_ref(), "{what}");
    }
}

#[test]
fn envelope_version_and_method_are_refused_with_their_own_codes() {
    type Edit = fn(&mut Value);
    let version = format!("{META}protocolVersion");
    let cases: [(&str, Edit, u16, i64); 9] = [
        ("no _meta", |m| drop(m["params"].as_object_mut().map(|p| p.remove("_meta"))), 400, -32602),
        ("no params", |m| drop(m.as_object_mut().map(|m| m.remove("params"))), 400, -32602),
        ("_meta is a string", |m| m["params"]["_meta"] = json!("x"), 400, -32602),
        (
            "no capabilities",
            |m| {
                let meta = m["params"]["_meta"].as_object_mut();
                drop(meta.map(|meta| meta.remove(&format!("{META}clientCapabilities"))));
            },
            400,
            -32602,
        ),
        (
            "capabilities are a list",
            |m| m["params"]["_meta"][format!("{META}clientCapabilities")] = json!([]),
            400,
            -32602,
        ),
        (
            "the version is a number",
            |m| m["params"]["_meta"][format!("{META}protocolVersion")] = json!(2026),
            400,
            -32602,
        ),
        (
            "a bad log level",
            |m| m["params"]["_meta"][format!("{META}logLevel")] = json!("loud"),
            400,
            -32602,
        ),
        ("an unknown method", |m| m["method"] = json!("no/such"), 404, -32601),
        ("a legacy method", |m| m["method"] = json!("ping"), 404, -32601),
    ];
    for (what, edit, status, code) in cases {
        let mut world = World::new();
        let ask = world.modern("i", "server/discover", json!({})).edit(edit);
        let method = match what {
            "an unknown method" => "no/such",
            "a legacy method" => "ping",
            _ => "server/discover",
        };
        let heard = ask.header("Mcp-Method", method).reply();
        assert_eq!((heard.status, heard.code()), (status, code), "{what}: {}", heard.body);
        assert_eq!(heard.last()["id"], "i", "{what}");
    }
    let mut world = World::new();
    let heard = world
        .modern(11, "server/discover", json!({}))
        .meta(&version, json!("2031-01-01"))
        .header("MCP-Protocol-Version", "2031-01-01")
        .reply();
    assert_eq!((heard.status, heard.code()), (400, -32022));
    assert_eq!(heard.last()["error"]["data"]["requested"], "2031-01-01");
    let discovered = world.modern(1, "server/discover", json!({})).reply().result();
    let supported = discovered["supportedVersions"].as_array().expect("a list").clone();
    for named in heard.last()["error"]["data"]["supported"].as_array().expect("a list") {
        assert!(supported.contains(named), "{named} is not in discover's list");
    }
}

#[test]
fn methods_the_modern_era_dropped_get_404_with_a_body() {
    for method in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
        "tasks/get",
        "no/such",
    ] {
        let mut world = World::new();
        let heard = world.modern(13, method, json!({ "uri": "crane://7/state" })).reply();
        assert_eq!((heard.status, heard.code()), (404, -32601), "{method}");
        assert_eq!(heard.last()["id"], 13, "{method}");
    }
}

#[test]
fn what_is_not_offered_gets_404_and_what_is_offered_works() {
    let bare = Catalog::builder().tool(Tool::new("t").handler(|_: Value, _| "ok"));
    let mut world = World::serving(bare.build().expect("a catalog"));
    for (method, status) in [
        ("tools/list", 200),
        ("prompts/list", 404),
        ("prompts/get", 404),
        ("resources/list", 404),
        ("resources/templates/list", 404),
        ("resources/read", 404),
        ("completion/complete", 404),
    ] {
        let heard = world.modern(1, method, json!({})).reply();
        assert_eq!(heard.status, status, "{method}: {}", heard.body);
        assert_eq!(heard.code(), if status == 404 { -32601 } else { 0 }, "{method}");
    }
    let capabilities = world.modern(1, "server/discover", json!({})).reply().result();
    let names: Vec<_> = capabilities["capabilities"].as_object().expect("object").keys().collect();
    assert_eq!(names, ["logging", "tools"]);
}

#[test]
fn a_capability_the_request_did_not_declare_gets_400_and_its_name() {
    let mut world = World::new();
    for (name, client, missing) in [
        ("sampler", json!({}), json!({ "sampling": {} })),
        ("lock_crane", json!({}), json!({ "elicitation": {} })),
        ("lock_crane", json!({ "sampling": {} }), json!({ "elicitation": {} })),
        ("ask_many", json!({ "elicitation": {} }), json!({ "sampling": {}, "roots": {} })),
    ] {
        let ask = world.modern(12, "tools/call", tool(name, json!({ "crane": 7 })));
        let heard = ask.client(client).reply();
        assert_eq!((heard.status, heard.code()), (400, -32021), "{name}");
        let data = &heard.last()["error"]["data"];
        assert_eq!(data["requiredCapabilities"], missing, "{name}");
    }
    let ask = world.modern(12, "tools/call", tool("sampler", json!({})));
    assert_eq!(ask.client(json!({ "sampling": {} })).reply().text(), "sampled");
}

#[test]
fn params_that_are_wrong_behind_the_envelope_get_200_and_32602() {
    let mut world = World::new();
    let state = json!({ "name": "echo", "arguments": {}, "requestState": "forged" });
    let responses = json!({ "name": "echo", "arguments": {}, "inputResponses": { "a": 1 } });
    for (method, params) in [
        ("tools/call", tool("fly", json!({}))),
        ("tools/call", json!({ "arguments": {} })),
        ("tools/call", json!({ "name": "echo", "arguments": [1] })),
        ("tools/call", json!({ "name": 5 })),
        ("tools/call", state),
        ("tools/call", responses),
        ("prompts/get", json!({ "name": "unknown" })),
        ("prompts/get", json!({ "name": "shift" })),
        ("prompts/get", json!({ "name": "shift", "arguments": { "name": 5 } })),
        ("resources/read", json!({ "uri": "crane://99/state" })),
        ("resources/read", json!({})),
        ("tools/list", json!({ "cursor": "forged" })),
        ("tools/list", json!({ "cursor": "" })),
        ("completion/complete", json!({})),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "x" }, "argument": { "name": "a", "value": "" } }),
        ),
        ("subscriptions/listen", json!({})),
        ("subscriptions/listen", json!({ "notifications": [] })),
        ("subscriptions/listen", json!({ "notifications": { "toolsListChanged": 1 } })),
        ("subscriptions/listen", json!({ "notifications": { "resourceSubscriptions": [7] } })),
    ] {
        let heard = world.modern(14, method, params.clone()).reply();
        assert_eq!((heard.status, heard.code()), (200, -32602), "{method} {params}");
        assert_eq!(heard.last()["id"], 14, "{method} {params}");
    }
    let missing = world.modern(15, "resources/read", json!({ "uri": "crane://99/state" })).reply();
    assert_eq!(missing.last()["error"]["data"]["uri"], "crane://99/state");
}

#[test]
fn a_tool_that_fails_is_a_result_and_a_tool_that_breaks_is_an_error() {
    let mut world = World::new();
    let failed = world.modern(1, "tools/call", tool("broken", json!({}))).reply();
    assert_eq!((failed.status, &failed.result()["isError"]), (200, &json!(true)));
    assert_eq!(failed.text(), "The hook is stuck");
    let broke = world.modern(2, "tools/call", tool("panic", json!({}))).reply();
    assert_eq!((broke.status, broke.code()), (200, -32603));
    assert!(!broke.body.contains("as planned"), "{}", broke.body);
    let invalid = world.modern(3, "tools/call", tool("crane_load", json!({ "wet": "no" })));
    let invalid = invalid.header("Mcp-Param-Wet", "no").reply();
    assert_eq!((invalid.status, &invalid.result()["isError"]), (200, &json!(true)));
}

#[test]
fn notifications_get_202_and_nothing_else() {
    let mut world = World::new();
    for (method, version) in [
        ("notifications/cancelled", Some("2026-07-28")),
        ("notifications/anything", Some("2026-07-28")),
    ] {
        let mut ask = world.post("/mcp").json(notification(method, json!({ "requestId": 1 })));
        if let Some(version) = version {
            ask = ask.header("MCP-Protocol-Version", version);
        }
        let heard = ask.reply();
        assert_eq!((heard.status, heard.body.as_str()), (202, ""), "{method}");
    }
    let params = json!({ "_meta": { format!("{META}protocolVersion"): "2026-07-28" } });
    let heard = world.post("/mcp").json(notification("notifications/x", params)).reply();
    assert_eq!((heard.status, heard.body.as_str()), (202, ""));
}

#[test]
fn session_ids_mean_nothing_to_a_modern_request() {
    let mut world = World::new();
    let ask = world.modern(1, "server/discover", json!({})).header("Mcp-Session-Id", "whatever");
    let heard = ask.header("Last-Event-ID", "1-1").reply();
    assert_eq!(heard.status, 200);
    assert_eq!(heard.header("mcp-session-id"), None);
}

#[test]
fn too_many_calls_get_503_and_when_to_come_back() {
    let mut world = World::tuned(|limits| limits.calls_max = 1);
    let first = world.modern(1, "tools/call", tool("later", json!({ "key": "a" }))).send();
    let refused = world.modern(2, "tools/call", tool("later", json!({ "key": "b" }))).reply();
    assert_eq!((refused.status, refused.code()), (503, -32603));
    let seconds: u32 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
    assert!((1..=3).contains(&seconds), "{seconds}");
    world.finish("a", "done");
    assert_eq!(world.heard(first).text(), "done");
    let again = world.modern(3, "tools/call", tool("echo", json!({ "text": "x" }))).reply();
    assert_eq!(again.text(), "x");
}

#[test]
fn every_list_result_carries_its_cache_hints_and_legacy_ones_do_not() {
    let mut world = World::new();
    let methods = [
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    ];
    for method in methods {
        let params = json!({ "uri": "crane://7/state" });
        let result = world.modern(1, method, params).reply().result();
        assert!(result["ttlMs"].is_u64(), "{method}: {result}");
        assert!(result["cacheScope"].is_string(), "{method}: {result}");
        assert_eq!(result["resultType"], "complete", "{method}");
    }
    let legacy = world.initialize(0, "2025-11-25", json!({}));
    for method in &methods[1..] {
        let params = json!({ "uri": "crane://7/state" });
        let result = legacy.ask(&mut world, 1, method, params).reply().result();
        for key in ["ttlMs", "cacheScope", "resultType", "_meta", "nextCursor"] {
            assert!(result.get(key).is_none(), "{method}: {result}");
        }
    }
}

#[test]
fn pages_follow_each_other_and_a_cursor_is_of_its_list_alone() {
    let mut world = World::tuned(|limits| limits.page_size = 4);
    let mut names = Vec::new();
    let mut params = json!({});
    loop {
        let result = world.modern(1, "tools/list", params.clone()).reply().result();
        let page = result["tools"].as_array().expect("tools").clone();
        assert!(page.len() <= 4);
        names.extend(page.iter().map(|tool| tool["name"].as_str().unwrap_or("?").to_owned()));
        let Some(next) = result.get("nextCursor") else { break };
        let stolen = world.modern(2, "prompts/list", json!({ "cursor": next })).reply();
        assert_eq!(stolen.code(), -32602);
        params = json!({ "cursor": next });
    }
    let whole: Vec<String> = world.handle.snapshot().tool_names().map(str::to_owned).collect();
    assert_eq!(names, whole);
}

#[test]
fn an_enveloped_initialize_that_is_not_whole_is_a_legacy_one() {
    let mut world = World::new();
    let mut params = hello("2025-11-25", json!({}));
    params["_meta"] = json!({ format!("{META}protocolVersion"): "2025-11-25" });
    let heard = world.post("/mcp").json(request(1, "initialize", params)).reply();
    assert_eq!(heard.result()["protocolVersion"], "2025-11-25");
    assert!(heard.header("mcp-session-id").is_some());
}

#[test]
fn a_websocket_is_upgraded_if_it_is_asked_for_properly() {
    type Change = fn(Ask<'_>) -> Ask<'_>;
    let cases: [(&str, Change, u16); 7] = [
        ("as it should be", |ask| ask, 101),
        ("with our subprotocol", |ask| ask.header("Sec-WebSocket-Protocol", "x, mcp"), 101),
        ("an old version", |ask| ask.header("Sec-WebSocket-Version", "8"), 426),
        ("no key", |ask| ask.without("Sec-WebSocket-Key"), 400),
        ("a short key", |ask| ask.header("Sec-WebSocket-Key", "eA=="), 400),
        ("no upgrade", |ask| ask.without("Upgrade"), 426),
        ("from a foreign page", |ask| ask.header("Origin", "https://evil.example"), 403),
    ];
    for (what, change, status) in cases {
        let mut world = World::new();
        let ask = world
            .get("/mcp/ws")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let heard = change(ask).reply();
        assert_eq!(heard.status, status, "{what}: {heard:?}");
        if status == 101 {
            let accept = heard.header("sec-websocket-accept");
            assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{what}");
            let ours = what.contains("subprotocol").then_some("mcp");
            assert_eq!(heard.header("sec-websocket-protocol"), ours, "{what}");
        }
        if what == "an old version" {
            assert_eq!(heard.header("sec-websocket-version"), Some("13"));
        }
    }
}
