//! The client's side of one HTTP connection: requests out in pieces, responses and events in.

use std::collections::VecDeque;

use erlmcp_shards::io::sim::{SimClient, SimNet};
use serde_json::Value;

use super::world::{Dice, HTTP};

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A whole response that is no stream.
    Whole { status: u16, session: Option<String>, body: String },
    /// A stream began.
    Open { session: Option<String> },
    /// An event of it.
    Event(Event),
    /// It ended properly.
    End,
}

/// A server-sent event that says something.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub kind: String,
    pub id: Option<String>,
    pub data: String,
}

/// Bytes out at the client's pace, bytes in.
pub struct Wire {
    pub client: SimClient,
    pub to_say: Vec<u8>,
    pub heard: Vec<u8>,
    /// Reads nothing for so many more turns.
    deaf_turns: usize,
    has_left: bool,
}

impl Wire {
    pub fn new(net: &SimNet, shard: u16, listener: u8) -> Self {
        let client = net.connect(shard, listener);
        Self { client, to_say: Vec::new(), heard: Vec::new(), deaf_turns: 0, has_left: false }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        self.to_say.extend_from_slice(bytes);
    }

    /// Says a little more, hears what there is; now and then stops listening for a while.
    pub fn go_on(&mut self, dice: &mut Dice) {
        if self.has_left {
            return;
        }
        if !self.to_say.is_empty() {
            let most = [1, 20, 300, 5_000][dice.below(4)];
            let piece = self.to_say.len().min(1 + dice.below(most));
            self.client.send(&self.to_say[..piece]);
            self.to_say.drain(..piece);
        }
        match self.deaf_turns {
            0 if dice.below(300) == 0 => {
                self.deaf_turns = 1 + dice.below(60);
                self.client.stop_reading();
            }
            0 => {}
            1 => {
                self.deaf_turns = 0;
                self.client.resume_reading();
            }
            _ => self.deaf_turns -= 1,
        }
        self.heard.extend(self.client.received());
    }

    /// Says all there is to say, hears all there is to hear.
    pub fn flush(&mut self) {
        self.client.send(&std::mem::take(&mut self.to_say));
        self.heard.extend(self.client.received());
    }

    /// Nothing more will come.
    pub fn is_dead(&self) -> bool {
        self.has_left || self.client.end().is_some()
    }

    /// Goes, one way or another. What was heard until then counts.
    pub fn leave(&mut self, dice: &mut Dice) {
        if self.has_left {
            return;
        }
        self.has_left = true;
        self.client.resume_reading();
        if dice.percent(30) { self.client.reset() } else { self.client.close() }
    }
}

/// One HTTP connection.
pub struct Http {
    pub wire: Wire,
    seen: VecDeque<Seen>,
    /// The stream of the moment: its text that is no whole event yet.
    stream: Option<String>,
}

impl Http {
    pub fn new(net: &SimNet, shard: u16) -> Self {
        Self { wire: Wire::new(net, shard, HTTP), seen: VecDeque::new(), stream: None }
    }

    pub fn go_on(&mut self, dice: &mut Dice) {
        self.wire.go_on(dice);
        while self.read() {}
    }

    /// Says all, hears all.
    pub fn go_on_steadily(&mut self) {
        self.wire.flush();
        while self.read() {}
    }

    pub fn next(&mut self) -> Option<Seen> {
        self.seen.pop_front()
    }

    /// Nothing more will come, and all that came was looked at.
    pub fn is_dead(&self) -> bool {
        self.wire.is_dead() && self.seen.is_empty()
    }

    /// Reads one response, or the head or a chunk of a stream; `false` when there is none whole.
    fn read(&mut self) -> bool {
        if self.stream.is_some() {
            return self.read_chunk();
        }
        let heard = &self.wire.heard;
        let Some(head) = heard.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let text = String::from_utf8(heard[..head].to_vec()).expect("a head is text");
        let field = |name: &str| {
            let start = format!("{name}: ");
            text.lines().find_map(|line| line.strip_prefix(&*start)).map(str::to_owned)
        };
        let status: u16 = text[9..12].parse().expect("a status");
        let session = field("Mcp-Session-Id");
        if field("Transfer-Encoding").is_some() {
            assert_eq!(
                (status, field("Content-Type").as_deref()),
                (200, Some("text/event-stream"))
            );
            self.wire.heard.drain(..head + 4);
            self.seen.push_back(Seen::Open { session });
            self.stream = Some(String::new());
            return true;
        }
        let length = field("Content-Length").map_or(0, |digits| digits.parse().expect("a length"));
        let end = head + 4 + length;
        if heard.len() < end {
            return false;
        }
        let body = String::from_utf8(heard[head + 4..end].to_vec()).expect("a body is text");
        self.wire.heard.drain(..end);
        self.seen.push_back(Seen::Whole { status, session, body });
        true
    }

    fn read_chunk(&mut self) -> bool {
        let heard = &self.wire.heard;
        let Some(line) = heard.windows(2).position(|two| two == b"\r\n") else { return false };
        let digits = std::str::from_utf8(&heard[..line]).expect("a chunk size");
        let size = usize::from_str_radix(digits, 16).expect("a chunk size");
        let end = line + 2 + size;
        if heard.len() < end + 2 {
            return false;
        }
        assert_eq!(&heard[end..end + 2], b"\r\n", "the end of a chunk");
        let text = std::str::from_utf8(&heard[line + 2..end]).expect("events are whole text");
        let mut stream = self.stream.take().unwrap_or_default() + text;
        self.wire.heard.drain(..end + 2);
        while let Some(end) = stream.find("\n\n") {
            let event = parse_event(&stream[..end]);
            stream.drain(..end + 2);
            self.seen.extend(event.map(Seen::Event));
        }
        if size == 0 {
            assert_eq!(stream, "", "the stream ended within an event");
            self.seen.push_back(Seen::End);
        } else {
            self.stream = Some(stream);
        }
        true
    }
}

/// An event that has data or an id; comments and `retry` alone say nothing to us.
fn parse_event(text: &str) -> Option<Event> {
    let mut event = Event { kind: "message".into(), ..Event::default() };
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("event", kind)) => event.kind = kind.into(),
            Some(("id", id)) => event.id = Some(id.into()),
            Some(("data", data)) => event.data.push_str(data),
            _ => {}
        }
    }
    (event.id.is_some() || !event.data.is_empty()).then_some(event)
}

pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text:?}"))
}
