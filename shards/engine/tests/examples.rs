//! The wire examples of the specification digest (section i), sent as printed there and answered as printed
//! there. What may differ is named at each: tokens, and what depends on the catalog.

use erlmcp_catalog::{Call, Catalog, Step, Tool};
use serde_json::{Value, json};

use super::ask::{Heard, META, tool};
use super::harbour::cranes;
use super::world::{Sent, World};
use crate::net::PipeKind;

const EXAMPLES: &str = include_str!("examples.txt");

/// The blocks of one section, in order.
fn blocks(section: &str) -> Vec<&'static str> {
    let start = format!("=== {section} ");
    let text = EXAMPLES.split_once(&start).expect("such a section").1;
    let text = text.split("\n=== ").next().unwrap_or(text);
    text.split("---\n").skip(1).map(|block| block.trim_end_matches('\n')).collect()
}

fn world() -> World {
    World::serving(cranes().build().expect("a catalog"))
}

/// Sends a request as printed, with some texts replaced by what this world calls them.
#[track_caller]
fn send(world: &mut World, block: &str, replaced: &[(&str, &str)]) -> Sent {
    let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
    if let Some(printed) = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")) {
        assert_eq!(printed, body.len().to_string(), "as printed");
    }
    let (mut head, mut body) = (head.to_owned(), body.to_owned());
    for (printed, ours) in replaced {
        let before = format!("Content-Length: {}", body.len());
        body = body.replace(printed, ours);
        head = head.replace(printed, ours);
        head = head.replace(&before, &format!("Content-Length: {}", body.len()));
    }
    let bytes = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
    world.raw(0, bytes.as_bytes())
}

/// A message without these members, wherever they are, and without what every modern result carries.
fn without(message: &Value, loose: &[&str]) -> Value {
    match message {
        Value::Object(members) => {
            let kept = members.iter().filter_map(|(key, value)| {
                let value = without(value, loose);
                let named = loose.contains(&key.as_str()) || *key == format!("{META}serverInfo");
                let emptied = key == "_meta" && value == json!({});
                (!named && !emptied).then(|| (key.clone(), value))
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(|item| without(item, loose)).collect(),
        other => other.clone(),
    }
}

/// The status and the messages of a response as printed.
fn printed(block: &str) -> (u16, Vec<Value>) {
    let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let messages = body.lines().filter_map(|line| {
        let text = line.strip_prefix("data: ").unwrap_or(line);
        serde_json::from_str(text).ok()
    });
    (status, messages.collect())
}

#[track_caller]
fn check(heard: &Heard, block: &str, loose: &[&str]) {
    let (status, messages) = printed(block);
    assert_eq!(heard.status, status);
    let all = |messages: &[Value]| -> Vec<Value> {
        messages.iter().map(|message| without(message, loose)).collect()
    };
    assert_eq!(all(&heard.messages()), all(&messages));
    let is_stream = block.contains("text/event-stream");
    assert_eq!(heard.is_stream(), is_stream);
}

#[test]
fn modern_requests_are_answered_as_printed() {
    for (section, loose) in
        [("i.1", &["capabilities", "ttlMs"] as &[&str]), ("i.2", &[]), ("i.3", &[])]
    {
        let mut world = world();
        let blocks = blocks(section);
        let sent = send(&mut world, blocks[0], &[]);
        check(&world.heard(sent), blocks[1], loose);
    }
}

#[test]
fn a_subscription_goes_as_printed() {
    let mut world = world();
    let blocks = blocks("i.4");
    let sent = send(&mut world, blocks[0], &[]);
    world.publish("crane://7/state");
    world.publish("crane://8/state");
    world.add_tool("crane_paint");
    world.drain();
    check(&world.heard(sent), blocks[1], &[]);
}

#[test]
fn two_rounds_go_as_printed() {
    let mut world = world();
    let blocks = blocks("i.5");
    let first = send(&mut world, blocks[0], &[]);
    check(&world.heard(first), blocks[1], &["requestState"]);
    let state = world.heard(first).result()["requestState"].clone();
    let state = state.as_str().expect("a state");
    let second = send(&mut world, blocks[2], &[("k1.eyJzIjoxfQ.mQ3f0nX2", state)]);
    check(&world.heard(second), blocks[3], &[]);
}

#[test]
fn a_legacy_session_goes_as_printed() {
    let mut world = world();
    let blocks = blocks("i.6");
    let first = send(&mut world, blocks[0], &[]);
    check(&world.heard(first), blocks[1], &["capabilities", "instructions"]);
    let id = world.heard(first).header("mcp-session-id").expect("a session id").to_owned();
    let ours = [("5f0c7a9e2b6d4c1e9a7b3d5f60718293", id.as_str())];
    let done = send(&mut world, blocks[2], &ours);
    check(&world.heard(done), blocks[3], &[]);
    let get = send(&mut world, blocks[4], &ours);
    world.add_tool("crane_paint");
    check(&world.heard(get), blocks[5], &[]);
    // The printed call reports progress and drops its stream; this tool only asks.
    let call = send(&mut world, blocks[6], &ours);
    let (_, printed_call) = printed(blocks[7]);
    let asked = world.heard(call).last();
    let loose = ["mode", "minLength"];
    assert_eq!(without(&asked, &loose), without(&printed_call[1], &loose));
    let answer = send(&mut world, blocks[8], &ours);
    check(&world.heard(answer), blocks[9], &[]);
    assert_eq!(world.heard(call).last(), printed(blocks[11]).1[0]);
    let end = send(&mut world, blocks[12], &ours);
    check(&world.heard(end), blocks[13], &[]);
    let late = send(&mut world, blocks[14], &ours);
    check(&world.heard(late), blocks[15], &["id"]);
}

#[test]
fn an_ancient_client_is_served_as_printed() {
    let mut world = world();
    let blocks = blocks("i.8");
    let stream = send(&mut world, blocks[0], &[]);
    let endpoint = world.heard(stream).events()[0].data.clone().expect("an endpoint");
    let id = endpoint.split_once('=').expect("a session id").1;
    let posted = send(&mut world, blocks[2], &[("c2b1f0a98e7d46f5b4a39281706f5e4d", id)]);
    assert_eq!(world.heard(posted).status, 202);
    check(&world.heard(stream), blocks[1], &["capabilities", "instructions"]);
    let kinds: Vec<_> = world.heard(stream).events().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Some("endpoint".to_owned()), Some("message".to_owned())]);
}

#[test]
fn a_batch_is_answered_as_printed() {
    let mut world = world();
    let session = world.initialize(0, "2025-03-26", json!({}));
    let blocks = blocks("i.9");
    let sent = send(&mut world, blocks[0], &[("77aa0d4c8f1b4e60b0c1d2e3f4a5b6c7", &session.id)]);
    // Ours says which method it did not find.
    check(&world.heard(sent), blocks[1], &["message"]);
}

#[test]
fn a_modern_pipe_goes_as_printed() {
    // A survey that takes its time, so that it can be cancelled.
    let survey = Tool::new("survey").handler(|_: Value, call: &mut Call| {
        std::mem::forget(call.defer());
        Step::Later
    });
    let catalog = Catalog::builder().tool(survey).build().expect("a catalog");
    let mut world = World::serving(catalog);
    let pipe = world.pipe(0, PipeKind::Stdio);
    let loose = ["supportedVersions", "capabilities", "ttlMs", "cacheScope"];
    for line in blocks("i.10")[0].lines() {
        if let Some(said) = line.strip_prefix("> ") {
            world.say_text(pipe, said);
            continue;
        }
        let expect: Value = serde_json::from_str(&line[2..]).expect("a printed message");
        if expect["method"] == "notifications/tools/list_changed" {
            world.add_tool("crane_paint");
        }
        let told = world.told(pipe);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(without(&told[0], &loose), without(&expect, &loose));
    }
    assert_eq!(world.told(pipe), Vec::<Value>::new(), "nothing is written for ids 2 and 3");
    assert!(world.is_idle());
}

#[test]
fn errors_read_as_printed() {
    let version = format!("{META}protocolVersion");
    let mut world = world();
    let ask = world.modern(9, "tools/call", tool("bar", json!({}))).header("Mcp-Name", "foo");
    let expect = r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32020,"message":"Header mismatch: Mcp-Name says foo, body says bar"}}"#;
    let heard = ask.reply();
    assert_eq!((heard.status, heard.body.as_str()), (400, expect));
    let ask = world.modern(10, "tools/list", json!({ "_meta": {} })).edit(|message| {
        message["params"]["_meta"] = json!({ format!("{META}protocolVersion"): "2026-07-28" });
    });
    let expect = r#"{"jsonrpc":"2.0","id":10,"error":{"code":-32602,"message":"Missing _meta io.modelcontextprotocol/clientCapabilities"}}"#;
    let heard = ask.reply();
    assert_eq!((heard.status, heard.body.as_str()), (400, expect));
    let ask = world.modern(11, "tools/list", json!({})).meta(&version, json!("2031-01-01"));
    let heard = ask.header("MCP-Protocol-Version", "2031-01-01").reply();
    // The versions named are those that would be accepted in an envelope.
    let expect = r#"{"jsonrpc":"2.0","id":11,"error":{"code":-32022,"message":"Unsupported protocol version""#;
    assert!(heard.status == 400 && heard.body.starts_with(expect), "{heard:?}");
    let heard = world.modern(13, "ping", json!({})).reply();
    let expect =
        r#"{"jsonrpc":"2.0","id":13,"error":{"code":-32601,"message":"Method not found: ping"}}"#;
    assert_eq!((heard.status, heard.body.as_str()), (404, expect));
    let heard = world.modern(14, "tools/call", tool("fly", json!({}))).reply();
    let expect =
        r#"{"jsonrpc":"2.0","id":14,"error":{"code":-32602,"message":"Unknown tool: fly"}}"#;
    assert_eq!((heard.status, heard.body.as_str()), (200, expect));
    let heard = world.modern(15, "resources/read", json!({ "uri": "crane://99/state" })).reply();
    let expect = r#"{"jsonrpc":"2.0","id":15,"error":{"code":-32602,"message":"Resource not found","data":{"uri":"crane://99/state"}}}"#;
    assert_eq!((heard.status, heard.body.as_str()), (200, expect));
    let heard = world.post("/mcp").body("{").reply();
    let expect = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}"#;
    assert_eq!((heard.status, heard.body.as_str()), (400, expect));
    let mut world = World::new();
    let heard = world.modern(12, "tools/call", tool("sampler", json!({}))).reply();
    let expect = r#"{"jsonrpc":"2.0","id":12,"error":{"code":-32021,"message":"Client must declare sampling","data":{"requiredCapabilities":{"sampling":{}}}}}"#;
    assert_eq!((heard.status, heard.body.as_str()), (400, expect));
}
