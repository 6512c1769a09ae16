//! What clients say: messages of both eras, and what must come back.

use serde_json::{Map, Value, json};

use super::ledger::Expect;
use super::world::Dice;

/// Prefix of the modern `_meta` keys.
const META: &str = "io.modelcontextprotocol/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Modern,
    Legacy,
}

/// A request that is about to be made.
#[derive(Debug, Clone)]
pub struct Asking {
    pub method: &'static str,
    pub params: Value,
    pub expect: Expect,
    /// Asks for progress.
    pub tracked: bool,
}

impl Asking {
    pub fn tool(name: &str, arguments: Value, expect: Expect) -> Self {
        let params = json!({ "name": name, "arguments": arguments });
        Self { method: "tools/call", params, expect, tracked: false }
    }

    pub fn echo(dice: &mut Dice) -> Self {
        let length = [3, 40, 400, 3_000][dice.below(4)];
        let text = letters(1 + dice.below(length));
        Self::tool("echo", json!({ "text": text }), Expect::Text(text))
    }

    pub fn wait(ms: usize, tracked: bool) -> Self {
        let expect = Expect::Text(format!("Waited {ms} ms"));
        Self { tracked, ..Self::tool("wait", json!({ "ms": ms }), expect) }
    }

    pub fn publish(uri: &str) -> Self {
        Self::tool("publish", json!({ "uri": uri }), Expect::Text("Published".into()))
    }

    /// A tool that asks the client's model. A legacy client hears a request, a modern one is asked to retry.
    pub fn sampling(era: Era, question: &str) -> Self {
        let expect = match era {
            Era::Modern => Expect::Questions,
            Era::Legacy => Expect::Text(format!("LLM response: {question}!")),
        };
        Self::tool("test_sampling", json!({ "prompt": question }), expect)
    }

    /// One of many.
    pub fn any(dice: &mut Dice) -> Self {
        let plain = |method, params, expect| Self { method, params, expect, tracked: false };
        match dice.below(12) {
            0 => plain("tools/list", json!({}), Expect::Member("tools")),
            1 => {
                let params = json!({ "uri": "test://static-text" });
                plain("resources/read", params, Expect::Member("contents"))
            }
            2 => Self::tool("no_such_tool", json!({}), Expect::Error(-32602)),
            3..=5 => Self::wait(dice.below(70), dice.percent(70)),
            6 => {
                let text = letters(1 + dice.below(300));
                Self::tool("grind", json!({ "text": text }), Expect::Text(text))
            }
            7 => Self::publish("test://nobody/listens"),
            _ => Self::echo(dice),
        }
    }

    /// The message. Its progress token is its id.
    pub fn message(&self, era: Era, id: &Value) -> Value {
        let mut params = self.params.clone();
        let mut meta = Map::new();
        if self.tracked {
            meta.insert("progressToken".into(), id.clone());
        }
        if era == Era::Modern {
            meta.insert(format!("{META}protocolVersion"), json!("2026-07-28"));
            meta.insert(format!("{META}clientCapabilities"), json!({ "sampling": {} }));
        }
        if !meta.is_empty() {
            params["_meta"] = Value::Object(meta);
        }
        json!({ "jsonrpc": "2.0", "id": id, "method": self.method, "params": params })
    }
}

pub fn initialize(id: &Value, version: &str) -> Value {
    let params = json!({
        "protocolVersion": version,
        "capabilities": { "sampling": {} },
        "clientInfo": { "name": "test", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": params })
}

pub fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

pub fn cancelled(id: &Value) -> Value {
    let params = json!({ "requestId": id });
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })
}

/// A client's model repeats the question and is excited.
pub fn sampled(request: &Value) -> Value {
    assert_eq!(request["method"], "sampling/createMessage", "{request}");
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": sample_of(&request["params"]) })
}

/// The retry of a call that needs input.
pub fn retried(asking: &Asking, questions: &Value) -> Asking {
    let mut retry = asking.clone();
    let requests = questions["inputRequests"].as_object().expect("questions are asked");
    let responses: Map<String, Value> =
        requests.iter().map(|(key, asked)| (key.clone(), sample_of(&asked["params"]))).collect();
    retry.params["inputResponses"] = Value::Object(responses);
    if let Some(state) = questions.get("requestState") {
        retry.params["requestState"] = state.clone();
    }
    let prompt = asking.params["arguments"]["prompt"].as_str().unwrap_or_default();
    retry.expect = Expect::Text(format!("LLM response: {prompt}!"));
    retry
}

fn sample_of(params: &Value) -> Value {
    let question = params["messages"][0]["content"]["text"].as_str().unwrap_or_default();
    json!({
        "role": "assistant",
        "model": "parrot",
        "content": { "type": "text", "text": format!("{question}!") },
    })
}

pub fn letters(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect()
}

/// An HTTP request.
pub fn http(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    if method == "POST" {
        text.push_str("Content-Type: application/json\r\n");
        text.push_str("Accept: application/json, text/event-stream\r\n");
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    } else {
        text.push_str("Accept: text/event-stream\r\n");
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A modern request over HTTP.
pub fn modern_post(asking: &Asking, id: &Value) -> Vec<u8> {
    let mut fields = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", asking.method)];
    for key in ["name", "uri"] {
        fields.extend(asking.params[key].as_str().map(|value| ("Mcp-Name", value)));
    }
    http("POST", "/mcp", &fields, &asking.message(Era::Modern, id).to_string())
}
