//! Requests as clients make them, and answers as they read them.

use serde_json::{Map, Value, json};

use super::wire::Said;
use super::world::{Sent, World};

/// Prefix of the modern `_meta` keys.
pub const META: &str = "io.modelcontextprotocol/";

/// An HTTP request that is being written.
pub struct Ask<'w> {
    world: &'w mut World,
    shard: u16,
    line: String,
    headers: Vec<(String, String)>,
    message: Option<Value>,
    body: Vec<u8>,
}

impl<'w> Ask<'w> {
    pub fn new(world: &'w mut World, method: &str, path: &str) -> Self {
        let line = format!("{method} {path} HTTP/1.1\r\n");
        let (headers, body) = (Vec::new(), Vec::new());
        let ask = Self { world, shard: 0, line, headers, message: None, body };
        let ask = ask.header("Host", "127.0.0.1:8080");
        match method {
            "POST" => ask
                .header("Accept", "application/json, text/event-stream")
                .header("Content-Type", "application/json"),
            "GET" => ask.header("Accept", "text/event-stream"),
            _ => ask,
        }
    }

    pub fn modern(world: &'w mut World, id: Value, method: &str, params: Value) -> Self {
        let ask = Self::new(world, "POST", "/mcp")
            .header("MCP-Protocol-Version", "2026-07-28")
            .header("Mcp-Method", method);
        let named = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
            _ => None,
        };
        let ask = match named {
            Some(name) => ask.header("Mcp-Name", name),
            None => ask,
        };
        ask.json(
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": envelope(params) }),
        )
    }

    /// Which shard the connection came to.
    pub fn on(mut self, shard: u16) -> Self {
        self.shard = shard;
        self
    }

    /// Sets a header, in the place of one of that name.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.without(name).also(name, value)
    }

    /// Adds a header, even if there is one of that name.
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    pub fn json(mut self, message: Value) -> Self {
        self.message = Some(message);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        (self.message, self.body) = (None, body.into());
        self
    }

    /// Changes the message.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(self.message.as_mut().expect("there is a message to edit"));
        self
    }

    /// What the client can do (modern).
    pub fn client(self, capabilities: Value) -> Self {
        self.meta(&format!("{META}clientCapabilities"), capabilities)
    }

    /// Sets a member of `_meta`.
    pub fn meta(self, key: &str, value: Value) -> Self {
        self.edit(|message| message["params"]["_meta"][key] = value)
    }

    #[track_caller]
    pub fn send(self) -> Sent {
        let body = match &self.message {
            Some(message) => message.to_string().into_bytes(),
            None => self.body,
        };
        let mut text = self.line;
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&body);
        self.world.raw(self.shard, &bytes)
    }

    /// Sends it and reads what came at once.
    #[track_caller]
    pub fn reply(self) -> Heard {
        let Self { world, shard, line, headers, message, body } = self;
        let sent = Ask { world: &mut *world, shard, line, headers, message, body }.send();
        world.heard(sent)
    }
}

/// Params with a modern envelope, where they do not bring their own.
pub fn envelope(mut params: Value) -> Value {
    let meta = params
        .as_object_mut()
        .expect("params are an object")
        .entry("_meta")
        .or_insert_with(|| Value::Object(Map::new()));
    for (key, value) in
        [("protocolVersion", json!("2026-07-28")), ("clientCapabilities", json!({}))]
    {
        let key = format!("{META}{key}");
        if meta.get(&key).is_none() {
            meta[key] = value;
        }
    }
    params
}

/// A modern request for a pipe.
pub fn modern(id: impl Into<Value>, method: &str, params: Value) -> Value {
    request(id, method, envelope(params))
}

/// A request.
pub fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

/// A notification.
pub fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// A response to a request of the server.
pub fn response(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// Params of `tools/call`.
pub fn tool(name: &str, arguments: Value) -> Value {
    json!({ "name": name, "arguments": arguments })
}

/// Params of a legacy `initialize`.
pub fn hello(version: &str, client: Value) -> Value {
    let info = json!({ "name": "test", "version": "1" });
    json!({ "protocolVersion": version, "capabilities": client, "clientInfo": info })
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Heard {
    /// 0 while there is no answer.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The stream has not ended.
    pub open: bool,
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: Option<String>,
    pub id: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
}

impl Heard {
    pub fn new(said: &Said) -> Self {
        Self {
            status: said.status.unwrap_or_default(),
            headers: said.headers.clone(),
            body: String::from_utf8(said.body.clone()).expect("answers are UTF-8"),
            open: said.streaming,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// All events; comments are left out.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        assert!(self.body.is_empty() || self.body.ends_with("\n\n"), "half an event: {self:?}");
        let mut events = Vec::new();
        for block in self.body.split("\n\n").filter(|block| !block.is_empty()) {
            let mut event = Event::default();
            for line in block.lines().filter(|line| !line.starts_with(':')) {
                let (field, value) = line.split_once(':').expect("a field");
                let value = Some(value.trim_start().to_owned());
                match field {
                    "event" => event.kind = value,
                    "id" => event.id = value,
                    "data" => event.data = value,
                    "retry" => event.retry = value,
                    field => panic!("unknown field {field}"),
                }
            }
            if event != Event::default() {
                events.push(event);
            }
        }
        events
    }

    /// All JSON-RPC messages, be they in one body or in events.
    #[track_caller]
    pub fn messages(&self) -> Vec<Value> {
        let parse = |text: &str| serde_json::from_str(text).expect("a JSON message");
        if !self.is_stream() {
            return if self.body.is_empty() { Vec::new() } else { vec![parse(&self.body)] };
        }
        let data = self.events().into_iter().filter_map(|event| event.data);
        data.filter(|data| !data.is_empty() && !data.starts_with('/')).map(|d| parse(&d)).collect()
    }

    /// The methods of all messages; the final answer is `=`.
    #[track_caller]
    pub fn methods(&self) -> Vec<String> {
        let method = |message: &Value| message["method"].as_str().unwrap_or("=").to_owned();
        self.messages().iter().map(method).collect()
    }

    /// The last message.
    #[track_caller]
    pub fn last(&self) -> Value {
        self.messages().pop().expect("no message at all")
    }

    #[track_caller]
    pub fn result(&self) -> Value {
        let last = self.last();
        assert!(last.get("error").is_none(), "{last}");
        last["result"].clone()
    }

    /// The error's code; 0 if there is none.
    #[track_caller]
    pub fn code(&self) -> i64 {
        self.messages().pop().and_then(|last| last["error"]["code"].as_i64()).unwrap_or_default()
    }

    /// The first text of a tool's result.
    #[track_caller]
    pub fn text(&self) -> String {
        let result = self.result();
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}")).into()
    }
}

/// A client with a Streamable HTTP session.
#[derive(Debug, Clone)]
pub struct Legacy {
    pub id: String,
    pub version: &'static str,
}

impl Legacy {
    #[track_caller]
    pub fn open(world: &mut World, shard: u16, version: &'static str, client: Value) -> Self {
        let hello = request(0, "initialize", hello(version, client));
        let heard = world.post("/mcp").on(shard).json(hello).reply();
        assert_eq!(heard.status, 200, "{heard:?}");
        assert_eq!(heard.result()["protocolVersion"], version);
        let id = heard.header("mcp-session-id").expect("a session id").to_owned();
        let legacy = Self { id, version };
        let done = notification("notifications/initialized", json!({}));
        assert_eq!(legacy.post(world, done).on(shard).reply().status, 202);
        legacy
    }

    fn with<'w>(&self, ask: Ask<'w>) -> Ask<'w> {
        let ask = ask.header("Mcp-Session-Id", &self.id);
        // The header exists since 2025-06-18.
        if self.version < "2025-06-18" {
            ask
        } else {
            ask.header("MCP-Protocol-Version", self.version)
        }
    }

    pub fn post<'w>(&self, world: &'w mut World, message: Value) -> Ask<'w> {
        self.with(world.post("/mcp").json(message))
    }

    pub fn ask<'w>(
        &self,
        world: &'w mut World,
        id: impl Into<Value>,
        method: &str,
        params: Value,
    ) -> Ask<'w> {
        self.post(world, request(id, method, params))
    }

    /// `tools/call`.
    pub fn call<'w>(
        &self,
        world: &'w mut World,
        id: impl Into<Value>,
        name: &str,
        arguments: Value,
    ) -> Ask<'w> {
        self.ask(world, id, "tools/call", tool(name, arguments))
    }

    pub fn get<'w>(&self, world: &'w mut World) -> Ask<'w> {
        self.with(world.get("/mcp"))
    }

    pub fn delete<'w>(&self, world: &'w mut World) -> Ask<'w> {
        self.with(world.ask("DELETE", "/mcp"))
    }
}
