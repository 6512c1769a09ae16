//! A client with a session: each request on a connection of its own, to whichever shard of whichever node.

use erlmcp_shards::io::sim::SimClient;
use serde_json::{Value, json};

use super::world::{SHARDS, URI, World};

const VERSION: &str = "2025-11-25";
/// A request is answered within this, or its connection ends, milliseconds.
const ANSWER_MS: u64 = 6_000;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Answered { status: u16, session: Option<String>, body: String },
    /// The connection ended before.
    Broken,
}

impl Outcome {
    /// 0: there was none.
    pub fn status(&self) -> u16 {
        match self {
            Outcome::Answered { status, .. } => *status,
            Outcome::Broken => 0,
        }
    }

    pub fn body(&self) -> &str {
        match self {
            Outcome::Answered { body, .. } => body,
            Outcome::Broken => "",
        }
    }
}

/// A request under way.
pub struct Asked {
    wire: SimClient,
    heard: Vec<u8>,
}

impl Asked {
    pub fn new(world: &World, at: (u16, u16), head: &str, body: &str) -> Self {
        let wire = world.connect(at.0, at.1);
        let length = body.len();
        let text = format!(
            "{head}\r\nHost: 127.0.0.1:8080\r\nMCP-Protocol-Version: {VERSION}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        wire.send(text.as_bytes());
        Self { wire, heard: Vec::new() }
    }

    /// What has come so far.
    pub fn heard(&mut self) -> String {
        self.heard.extend(self.wire.received());
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// The answer, once it is whole.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let heard = self.heard();
        let ended = self.wire.end().is_some();
        let Some((head, body)) = heard.split_once("\r\n\r\n") else {
            return ended.then_some(Outcome::Broken);
        };
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            let mut values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.trim().to_owned())
        };
        let is_whole = match field("content-length") {
            Some(length) => length.parse().is_ok_and(|length: usize| length <= body.len()),
            None if field("transfer-encoding").is_some() => body.ends_with("0\r\n\r\n"),
            None => true,
        };
        if !is_whole {
            return ended.then_some(Outcome::Broken);
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.wire.close();
        Some(Outcome::Answered { status, session: field("mcp-session-id"), body: body.to_owned() })
    }

    pub fn is_open(&self) -> bool {
        self.wire.end().is_none()
    }

    pub fn close(&self) {
        self.wire.close();
    }
}

/// A session that was promised.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: String,
    /// The log level that was promised.
    pub level: &'static str,
}

impl Session {
    /// `initialize`, on a shard.
    #[track_caller]
    pub fn open(world: &mut World, at: (u16, u16)) -> Self {
        let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": VERSION, "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        }});
        let head = "POST /mcp HTTP/1.1\r\nAccept: application/json, text/event-stream";
        let asked = Asked::new(world, at, head, &hello.to_string());
        let outcome = answer(world, asked);
        let Outcome::Answered { status: 200, session: Some(id), .. } = outcome else {
            panic!("seed {}: no session: {outcome:?}", world.net.seed());
        };
        Self { id, level: "info" }
    }

    fn head(&self, method: &str, accept: &str) -> String {
        format!("{method} /mcp HTTP/1.1\r\nAccept: {accept}\r\nMcp-Session-Id: {}", self.id)
    }

    /// Sends a request.
    pub fn ask(&self, world: &World, at: (u16, u16), method: &str, params: Value) -> Asked {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let head = self.head("POST", "application/json, text/event-stream");
        Asked::new(world, at, &head, &body.to_string())
    }

    /// Sends a request and waits for what becomes of it.
    #[track_caller]
    pub fn call(&self, world: &mut World, at: (u16, u16), method: &str, params: Value) -> Outcome {
        let asked = self.ask(world, at, method, params);
        answer(world, asked)
    }

    #[track_caller]
    pub fn ping(&self, world: &mut World, at: (u16, u16)) -> Outcome {
        self.call(world, at, "ping", json!({}))
    }

    #[track_caller]
    pub fn delete(&self, world: &mut World, at: (u16, u16)) -> Outcome {
        let asked = Asked::new(world, at, &self.head("DELETE", "*/*"), "");
        answer(world, asked)
    }

    /// Opens the GET stream.
    pub fn listen(&self, world: &World, at: (u16, u16)) -> Asked {
        Asked::new(world, at, &self.head("GET", "text/event-stream"), "")
    }

    #[track_caller]
    pub fn subscribe(&self, world: &mut World, at: (u16, u16)) -> Outcome {
        self.call(world, at, "resources/subscribe", json!({ "uri": URI }))
    }

    /// How many of the eight levels are logged.
    #[track_caller]
    pub fn logs(&self, world: &mut World, at: (u16, u16)) -> usize {
        let call = json!({ "name": "log_all", "arguments": {} });
        let outcome = self.call(world, at, "tools/call", call);
        outcome.body().matches("notifications/message").count()
    }
}

#[track_caller]
fn answer(world: &mut World, mut asked: Asked) -> Outcome {
    let mut outcome = None;
    world.until(ANSWER_MS, "an answer", |_| {
        outcome = asked.outcome();
        outcome.is_some()
    });
    outcome.expect("waited for")
}

/// How many levels are logged from this one up.
pub fn levels_from(level: &str) -> usize {
    let all = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    all.iter().rev().position(|known| *known == level).map_or(0, |index| index + 1)
}

/// All shards of all nodes that run.
pub fn everywhere(world: &World) -> Vec<(u16, u16)> {
    let numbers = world.numbers();
    numbers.into_iter().flat_map(|node| (0..SHARDS).map(move |shard| (node, shard))).collect()
}
