//! A client with one session that talks over any node: one request at a time, and a GET stream beside it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::{Http, Seen, parse};
use super::world::{Dice, World};

const VERSION: &str = "2025-11-25";

#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    Initialize,
    Echo(String),
    SetLevel,
    Subscribe(String),
    Publish(String),
}

/// A connection to one run of a node.
struct Held {
    node: u16,
    epoch: u32,
    http: Http,
}

impl Held {
    fn new(world: &World, dice: &mut Dice) -> Self {
        let (node, shard) = world.somewhere(dice);
        Self::at(world, node, shard)
    }

    fn at(world: &World, node: u16, shard: u16) -> Self {
        let http = Http::new(&world.net.node(node), shard);
        Self { node, epoch: world.nodes[&node].epoch, http }
    }
}

/// What clients know of what is published, and what went wrong in ways that are allowed.
#[derive(Default)]
pub struct Board {
    /// How often each URI may have been published.
    pub published: BTreeMap<String, u64>,
    /// Requests answered with 503.
    pub refused: u64,
    /// Requests whose connection ended with its node.
    pub cut: u64,
    /// `initialize`s that may have made a session nobody knows.
    pub orphans: u64,
    /// Requests answered with 404 while 404 may be said.
    pub strays: u64,
    /// How often something went wrong: each time sessions may get new owners, to whom what was published in the
    /// last half second is said again.
    pub moves: u64,
    /// Whether a session may be unknown now: nodes are parted, and not all of a session's nodes are on this side.
    pub may_stray: bool,
}

pub struct Client {
    name: usize,
    pub token: Option<String>,
    pub asking: Option<Ask>,
    lane: Option<Held>,
    get: Option<Held>,
    last: Option<String>,
    heard_ids: BTreeMap<String, u64>,
    pub subscribed: Vec<String>,
    /// Updates heard, by URI.
    pub heard: BTreeMap<String, u64>,
    pub answered: u64,
    asked: u64,
    /// Comes again no earlier than this.
    due: u64,
    get_due: u64,
    /// Its stream is open, as far as it knows.
    pub is_listening: bool,
}

impl Client {
    pub fn new(name: usize) -> Self {
        Self {
            name,
            token: None,
            asking: Some(Ask::Initialize),
            lane: None,
            get: None,
            last: None,
            heard_ids: BTreeMap::new(),
            subscribed: Vec::new(),
            heard: BTreeMap::new(),
            answered: 0,
            asked: 0,
            due: 0,
            get_due: 0,
            is_listening: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.asking.is_none()
    }

    pub fn ask(&mut self, ask: Ask) {
        assert!(self.is_idle());
        self.asking = Some(ask);
    }

    /// A URI nobody else subscribes to.
    pub fn fresh_uri(&self) -> String {
        format!("test://template/{}.{}/data", self.name, self.asked)
    }

    pub fn go_on(&mut self, world: &World, board: &mut Board, dice: &mut Dice) {
        self.hear_stream(world, board, dice);
        if self.lane.is_none() && self.asking.is_some() && self.due <= world.net.now() {
            let held = Held::new(world, dice);
            self.say(held, board);
        }
        let Some(lane) = &mut self.lane else { return };
        lane.http.go_on(dice);
        while let Some(seen) = lane.http.next() {
            match seen {
                Seen::Whole { status, session, body } => {
                    return self.answer(world, board, dice, status, session, &body);
                }
                Seen::Open { session } => self.token = self.token.take().or(session),
                Seen::Event(event) if event.data.is_empty() => {}
                Seen::Event(event) => {
                    assert_eq!(event.kind, "message");
                    return self.answer(world, board, dice, 200, None, &event.data);
                }
                // A stream may end before its answer when its owner is lost.
                Seen::End => return self.again(world, board, dice),
            }
        }
        if lane.http.is_dead() {
            let (node, epoch) = (lane.node, lane.epoch);
            assert!(!world.runs(node, epoch), "{node} lives and cut {:?}", self.asking);
            board.cut += 1;
            self.again(world, board, dice);
        }
    }

    /// Sends what is asked on this connection.
    fn say(&mut self, mut held: Held, board: &mut Board) {
        let Some(ask) = &self.asking else { return };
        self.asked += 1;
        let call = |name, arguments| ("tools/call", json!({"name": name, "arguments": arguments}));
        let (method, params) = match ask {
            Ask::Initialize => {
                let who = json!({ "name": "test", "version": "1" });
                (
                    "initialize",
                    json!({
                        "protocolVersion": VERSION, "capabilities": {}, "clientInfo": who,
                    }),
                )
            }
            Ask::Echo(text) => call("echo", json!({ "text": text })),
            Ask::SetLevel => ("logging/setLevel", json!({ "level": "error" })),
            Ask::Subscribe(uri) => ("resources/subscribe", json!({ "uri": uri })),
            Ask::Publish(uri) => {
                *board.published.entry(uri.clone()).or_default() += 1;
                call("publish", json!({ "uri": uri }))
            }
        };
        let message =
            json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params });
        held.http.wire.say(&self.request("POST", &message.to_string()));
        self.lane = Some(held);
    }

    fn request(&self, method: &str, body: &str) -> Vec<u8> {
        let mut text = format!("{method} /mcp HTTP/1.1\r\nHost: localhost\r\n");
        text += "Accept: application/json, text/event-stream\r\n";
        if let Some(token) = &self.token {
            text += &format!("Mcp-Session-Id: {token}\r\nMCP-Protocol-Version: {VERSION}\r\n");
        }
        match method {
            "POST" => {
                let length = body.len();
                text += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
            }
            _ => {
                if let Some(last) = &self.last {
                    text += &format!("Last-Event-ID: {last}\r\n");
                }
            }
        }
        (text + "\r\n" + body).into_bytes()
    }

    /// The request was not answered: it is said again in a moment, elsewhere.
    fn again(&mut self, world: &World, board: &mut Board, dice: &mut Dice) {
        if let Some(mut lane) = self.lane.take() {
            lane.http.wire.leave(dice);
        }
        if self.asking == Some(Ask::Initialize) {
            board.orphans += 1;
            self.token = None;
        }
        self.due = world.net.now() + 20 + dice.below(200) as u64;
    }

    fn answer(
        &mut self,
        world: &World,
        board: &mut Board,
        dice: &mut Dice,
        status: u16,
        session: Option<String>,
        body: &str,
    ) {
        let message = if body.is_empty() { Value::Null } else { parse(body) };
        let retryable = message["error"]["data"]["retryable"] == true;
        if status == 503 || retryable {
            assert!(retryable, "{status} {body}");
            board.refused += 1;
            return self.again(world, board, dice);
        }
        if status == 404 && board.may_stray {
            board.strays += 1;
            return self.again(world, board, dice);
        }
        let now = world.net.now();
        assert_eq!(status, 200, "at {now} client {}: {body} for {:?}", self.name, self.asking);
        assert_eq!(message["id"], self.asked, "{body}");
        let said = &message["result"]["content"][0]["text"];
        match self.asking.take() {
            Some(Ask::Initialize) => {
                assert!(message["result"]["serverInfo"].is_object(), "{body}");
                self.token = self.token.take().or(session);
                assert!(self.token.is_some(), "a session has an id");
            }
            Some(Ask::Echo(text)) => assert_eq!(*said, *text, "{body}"),
            Some(Ask::Publish(_)) => assert_eq!(said, "Published", "{body}"),
            Some(Ask::Subscribe(uri)) => {
                assert!(message["result"].is_object(), "{body}");
                self.subscribed.push(uri);
            }
            Some(Ask::SetLevel) => assert!(message["result"].is_object(), "{body}"),
            None => panic!("nobody asked: {body}"),
        }
        self.answered += 1;
        if let Some(mut lane) = self.lane.take() {
            lane.http.wire.leave(dice);
        }
    }

    fn hear_stream(&mut self, world: &World, board: &mut Board, dice: &mut Dice) {
        let is_open = self.token.is_some() && self.asking != Some(Ask::Initialize);
        if self.get.is_none() && is_open && self.get_due <= world.net.now() {
            let mut held = Held::new(world, dice);
            held.http.wire.say(&self.request("GET", ""));
            self.get = Some(held);
        }
        let Some(get) = &mut self.get else { return };
        get.http.go_on(dice);
        let mut is_over = false;
        while let Some(seen) = get.http.next() {
            match seen {
                Seen::Open { .. } => self.is_listening = true,
                Seen::Event(event) => {
                    let id = event.id.expect("events of sessions have ids");
                    let count = self.heard_ids.entry(id.clone()).or_default();
                    *count += 1;
                    assert!(*count <= 1 + board.moves, "{id} was heard {count} times");
                    self.last = Some(id);
                    if !event.data.is_empty() {
                        let message = parse(&event.data);
                        assert_eq!(message["method"], "notifications/resources/updated");
                        let uri = message["params"]["uri"].as_str().unwrap_or_default();
                        *self.heard.entry(uri.to_owned()).or_default() += 1;
                        let published = board.published.get(uri).copied().unwrap_or(0);
                        let published = published + board.moves;
                        assert!(
                            self.heard[uri] <= published,
                            "{uri} was heard too often, at {} from node {}: {:?}",
                            world.net.now(),
                            get.node,
                            self.heard_ids
                        );
                    }
                }
                Seen::End => is_over = true,
                Seen::Whole { status, body, .. } => {
                    let may_be = matches!(status, 503 | 409) || (status == 404 && board.may_stray);
                    // What it heard last may be of an owner that is no more: it begins anew.
                    let is_unknown = matches!(status, 204 | 400);
                    assert!(may_be || is_unknown, "{status} {body} for GET");
                    if is_unknown {
                        self.last = None;
                    }
                    is_over = true;
                }
            }
        }
        if is_over || get.http.is_dead() {
            get.http.wire.leave(dice);
            self.get = None;
            self.is_listening = false;
            self.get_due = world.net.now() + 20 + dice.below(200) as u64;
        }
    }

    /// Its stream ends.
    pub fn stop_listening(&mut self, dice: &mut Dice) {
        if let Some(mut get) = self.get.take() {
            get.http.wire.leave(dice);
        }
        self.is_listening = false;
        self.get_due = u64::MAX;
    }

    /// Whether this node answers for the session, at once or after it has asked for patience: a connection of
    /// its own, everything said and heard without delay.
    pub fn is_served_by(&mut self, world: &mut World, board: &mut Board, node: u16) {
        let shard = self.name as u16 % 2 % world.shards;
        self.ask(Ask::Echo(format!("still there, {}", self.name)));
        let held = Held::at(world, node, shard);
        self.say(held, board);
        let mut lane = self.lane.take().expect("it was said");
        for _ in 0..2_000 {
            lane.http.go_on_steadily();
            if let Some(seen) = lane.http.next() {
                let Seen::Whole { status, body, .. } = seen else { continue };
                assert_eq!(status, 200, "node {node}, client {}: {body}", self.name);
                assert_eq!(parse(&body)["id"], self.asked, "{body}");
                self.asking = None;
                return lane.http.wire.leave(&mut Dice(0));
            }
            world.step();
        }
        panic!("node {node} never answered client {}", self.name);
    }
}
