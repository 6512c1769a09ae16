//! A client on a pipe, lines over TCP or a WebSocket: requests of both eras side by side, many under way at
//! once, subscriptions between them, and the end of input while something runs.

use serde_json::{Value, json};

use super::http::{Wire, parse};
use super::ledger::{Expect, Heard, Ledger};
use super::say::{Asking, Era, cancelled, http, initialize, initialized, retried, sampled};
use super::talk::Talk;
use super::world::{Dice, HTTP, LINES, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lines,
    WebSocket,
}

pub struct Pipe {
    kind: Kind,
    wire: Wire,
    ledger: Ledger,
    /// The upgrade was answered.
    is_open: bool,
    /// Legacy requests may be made.
    is_initialized: bool,
    initializing: Option<String>,
    to_ask: Vec<(Era, Asking)>,
    /// Questions the server may ask to be retried, by id.
    asked: Vec<(String, Asking)>,
    listening: Option<Listening>,
    finishes: bool,
    has_finished: bool,
    is_closed: bool,
    is_winding_down: bool,
}

/// A `subscriptions/listen` between the other messages.
struct Listening {
    id: Value,
    uri: String,
    is_heard: bool,
    published: bool,
}

impl Pipe {
    pub fn new(kind: Kind, world: &World, number: usize, dice: &mut Dice) -> Self {
        let is_legacy = dice.percent(60);
        let era = |dice: &mut Dice| {
            if is_legacy && dice.percent(70) { Era::Legacy } else { Era::Modern }
        };
        let mut to_ask = Vec::new();
        for _ in 0..1 + dice.below(8) {
            to_ask.push((era(dice), Asking::any(dice)));
        }
        if dice.percent(50) {
            let era = era(dice);
            to_ask.push((era, Asking::sampling(era, "How so")));
        }
        let listener = if kind == Kind::Lines { LINES } else { HTTP };
        let mut pipe = Self {
            kind,
            wire: Wire::new(&world.net, dice.shard(), listener),
            ledger: Ledger::default(),
            is_open: kind == Kind::Lines,
            is_initialized: false,
            initializing: None,
            to_ask,
            asked: Vec::new(),
            listening: None,
            finishes: dice.percent(40),
            has_finished: false,
            is_closed: false,
            is_winding_down: false,
        };
        if kind == Kind::WebSocket {
            let fields = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", "mcp"),
            ];
            pipe.wire.say(&http("GET", "/mcp/ws", &fields, ""));
        }
        if is_legacy {
            let id = pipe.ledger.next_id(dice);
            pipe.ledger.asked(&id, Expect::Member("serverInfo"), false);
            pipe.initializing = Some(id.to_string());
            let version = ["2024-11-05", "2025-06-18", "2025-11-25"][dice.below(3)];
            pipe.say(&initialize(&id, version));
        }
        if dice.percent(40) {
            let id = pipe.ledger.next_id(dice);
            let uri = format!("test://template/{number}/data");
            let params = json!({ "notifications": { "resourceSubscriptions": [uri] } });
            let (method, expect) = ("subscriptions/listen", Expect::Nothing);
            let asking = Asking { method, params, expect, tracked: false };
            pipe.ledger.asked(&id, Expect::Nothing, false);
            // Answered only when the server ends it.
            pipe.ledger.excuse(&id.to_string());
            pipe.say(&asking.message(Era::Modern, &id));
            pipe.listening = Some(Listening { id, uri, is_heard: false, published: false });
        }
        pipe
    }

    fn say(&mut self, message: &Value) {
        let text = message.to_string();
        match self.kind {
            Kind::Lines => self.wire.say(format!("{text}\n").as_bytes()),
            Kind::WebSocket => self.wire.say(&masked(1, text.as_bytes())),
        }
    }

    fn ask(&mut self, dice: &mut Dice) {
        let index = dice.below(self.to_ask.len());
        if self.to_ask[index].0 == Era::Legacy && !self.is_initialized {
            return;
        }
        let (era, asking) = self.to_ask.swap_remove(index);
        let id = self.ledger.next_id(dice);
        self.ledger.asked(&id, asking.expect.clone(), asking.tracked);
        self.say(&asking.message(era, &id));
        if dice.percent(10) {
            self.say(&cancelled(&id));
            self.ledger.excuse(&id.to_string());
        }
        self.asked.push((id.to_string(), asking));
    }

    fn hear(&mut self, message: &Value) {
        match self.ledger.hear(message) {
            Heard::Request(request) => self.say(&sampled(&request)),
            Heard::Questions(id, questions) => {
                let asking = self.asked.iter().find(|(asked, _)| *asked == id);
                let (_, asking) = asking.expect("its question is known");
                self.to_ask.push((Era::Modern, retried(asking, &questions)));
            }
            Heard::Answer(id) => {
                if self.initializing.take_if(|asked| *asked == id).is_some() {
                    self.is_initialized = true;
                    self.say(&initialized());
                }
            }
            Heard::Notice => self.hear_notice(message),
        }
    }

    fn hear_notice(&mut self, message: &Value) {
        let key = "io.modelcontextprotocol/subscriptionId";
        let Some(stamp) = message["params"]["_meta"].get(key) else { return };
        let listening = self.listening.as_mut().expect("somebody listens");
        assert_eq!(*stamp, listening.id, "{message}");
        if message["method"] == "notifications/subscriptions/acknowledged" {
            assert!(!listening.is_heard, "acknowledged twice");
            listening.is_heard = true;
            let uri = listening.uri.clone();
            self.to_ask.push((Era::Modern, Asking::publish(&uri)));
            listening.published = true;
        } else {
            assert!(listening.is_heard, "{message} before the acknowledgement");
        }
    }

    /// Takes whole messages out of what was heard.
    fn read(&mut self) {
        if !self.is_open {
            let heard = &self.wire.heard;
            let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&heard[..end]).into_owned();
            if head.starts_with("HTTP/1.1 503") && self.is_winding_down {
                return self.wire.heard.clear();
            }
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            self.wire.heard.drain(..end + 4);
            self.is_open = true;
        }
        loop {
            let message = match self.kind {
                Kind::Lines => take_line(&mut self.wire.heard),
                Kind::WebSocket => match take_frame(&mut self.wire.heard) {
                    Some((1, payload)) => Some(payload),
                    Some((8, payload)) => {
                        let code = payload.get(..2).map(|two| u16::from_be_bytes([two[0], two[1]]));
                        let is_expected = match code {
                            Some(1000) => self.has_finished,
                            Some(1001) => self.is_winding_down,
                            _ => false,
                        };
                        assert!(is_expected, "closed with {code:?}");
                        self.is_closed = true;
                        continue;
                    }
                    Some((9, payload)) => {
                        self.wire.say(&masked(10, &payload));
                        continue;
                    }
                    Some((opcode, _)) => panic!("a frame of opcode {opcode}"),
                    None => None,
                },
            };
            let Some(message) = message else { return };
            assert!(!self.is_closed, "a message after the close frame");
            let text = String::from_utf8(message).expect("messages are text");
            let message = parse(&text);
            let is_refusal = self.is_winding_down && message["error"]["code"] == -32603;
            if !(is_refusal && message["id"].is_null()) {
                self.hear(&message);
            }
        }
    }

    fn is_all_said(&self) -> bool {
        let news = match &self.listening {
            Some(listening) => 0 < self.ledger.updates(&listening.uri),
            None => true,
        };
        let done =
            self.to_ask.is_empty() && self.wire.to_say.is_empty() && self.ledger.is_settled();
        done && news && (self.initializing.is_none())
    }
}

impl Talk for Pipe {
    fn go_on(&mut self, _world: &World, dice: &mut Dice) {
        if !self.to_ask.is_empty()
            && !self.is_winding_down
            && !self.has_finished
            && dice.percent(40)
        {
            self.ask(dice);
        }
        self.wire.go_on(dice);
        self.read();
        if self.wire.is_dead() {
            self.ledger.excuse_all();
            return;
        }
        // The last word, while answers are still under way.
        let nearly =
            self.to_ask.is_empty() && self.wire.to_say.is_empty() && self.listening.is_none();
        let asks_back = |(id, asking): &(String, Asking)| {
            asking.params["name"] == "test_sampling" && !self.ledger.is_answered(id)
        };
        let waits = self.asked.iter().any(asks_back);
        let is_ready = nearly && !waits && self.initializing.is_none();
        if self.finishes && !self.has_finished && is_ready && !self.is_winding_down {
            self.has_finished = true;
            match self.kind {
                Kind::Lines => self.wire.client.finish(),
                // A WebSocket says goodbye only when all is heard: nothing is answered after a close frame.
                Kind::WebSocket if self.ledger.is_settled() => {
                    self.wire.say(&masked(8, &1000u16.to_be_bytes()));
                }
                Kind::WebSocket => self.has_finished = false,
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.is_winding_down || self.wire.is_dead() {
            return self.ledger.is_settled();
        }
        self.is_all_said() && (!self.has_finished || self.kind == Kind::Lines || self.is_closed)
    }

    fn is_complete(&self) -> bool {
        let news = |listening: &Listening| self.ledger.updates(&listening.uri) == 1;
        !self.wire.is_dead() && self.listening.as_ref().is_none_or(news)
            || self.has_finished && self.to_ask.is_empty()
    }

    fn wind_down(&mut self) {
        self.is_winding_down = true;
        self.ledger.takes_refusals = true;
        self.to_ask.clear();
    }

    fn leave(&mut self, dice: &mut Dice) {
        self.wire.leave(dice);
    }

    fn running(&self) -> Vec<String> {
        self.ledger.running()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

fn take_line(heard: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = heard.iter().position(|byte| *byte == b'\n')?;
    let line = heard[..end].to_vec();
    heard.drain(..=end);
    Some(line)
}

/// A frame as clients send them.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A whole frame of a server: opcode and payload.
fn take_frame(heard: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (start, length) = match *heard.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*heard.get(2)?, *heard.get(3)?]))),
        length @ 0..=125 => (2, usize::from(length)),
        other => panic!("a frame of length {other}: masked, or too large for this test"),
    };
    let payload = heard.get(start..start + length)?.to_vec();
    assert_eq!(heard[0] & 0x80, 0x80, "servers do not fragment");
    let opcode = heard[0] & 0x0f;
    heard.drain(..start + length);
    Some((opcode, payload))
}
