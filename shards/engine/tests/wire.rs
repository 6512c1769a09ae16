//! A [`Net`] that remembers what was said instead of sending it, and objects to what may not be said: a
//! second answer, or bytes after the end.

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::mesh::Mesh;
use crate::engine::{EngineMail, Envelopes};
use crate::io::{ConnId, Millis};
use crate::message::Mail;
use crate::net::{CloseReason, Exchange, Headers, Net, TimerKey};
use crate::stats::Counters;

/// 2026-11-20T09:00:00Z, when every world begins.
const UNIX_MS: u64 = 1_795_165_200_000;

/// What letters carry in all worlds.
pub const LETTER_MESSAGE_BYTES_MAX: usize = 100_000;

/// Virtual milliseconds, shared by all shards and the runner of a world.
pub type Clock = Arc<AtomicU64>;

/// The mail between the shards of a world: one lane for each pair.
#[derive(Default)]
pub struct Lanes {
    pub queues: BTreeMap<(u16, u16), VecDeque<EngineMail>>,
    /// Lanes that take nothing.
    pub blocked: HashSet<(u16, u16)>,
    /// What must arrive and waits for its lane.
    pub unsent: BTreeMap<(u16, u16), VecDeque<EngineMail>>,
}

impl Lanes {
    fn takes(&self, lane: (u16, u16)) -> bool {
        !self.blocked.contains(&lane) && !self.unsent.contains_key(&lane)
    }

    /// Lets what has waited go, where there is room again.
    pub fn flush(&mut self) {
        let blocked = &self.blocked;
        let queues = &mut self.queues;
        self.unsent.retain(|lane, letters| {
            let waits = blocked.contains(lane);
            if !waits {
                queues.entry(*lane).or_default().append(letters);
            }
            waits
        });
    }
}

/// What was said to one exchange.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub streaming: bool,
    pub upgraded: bool,
    /// The client has left.
    pub gone: bool,
    origin: Option<String>,
}

/// What was said down one pipe.
#[derive(Debug)]
pub struct PipeEnd {
    pub messages: VecDeque<Value>,
    pub closed: Option<CloseReason>,
}

/// One shard's connections.
pub struct Wire {
    pub at: Spot,
    /// Among all shards of all nodes.
    pub index: u16,
    pub exchanges: HashMap<Exchange, Said>,
    pub pipes: HashMap<ConnId, PipeEnd>,
    pub timers: BTreeMap<(Millis, u64), TimerKey>,
    pub backlog: HashMap<ConnId, usize>,
    pub counters: Counters,
    /// What should not have been said.
    pub faults: Vec<String>,
    clock: Clock,
    lanes: Rc<RefCell<Lanes>>,
    mesh: Rc<RefCell<Mesh>>,
    random: u64,
    timers_made: u64,
    envelopes: Envelopes,
}

impl Wire {
    pub fn new(
        at: Spot,
        index: u16,
        seed: u64,
        clock: Clock,
        lanes: Rc<RefCell<Lanes>>,
        mesh: Rc<RefCell<Mesh>>,
    ) -> Self {
        Self {
            at,
            index,
            exchanges: HashMap::new(),
            pipes: HashMap::new(),
            timers: BTreeMap::new(),
            backlog: HashMap::new(),
            counters: Counters::default(),
            faults: Vec::new(),
            clock,
            lanes,
            mesh,
            random: seed ^ (u64::from(index) << 32) ^ 0x9e37_79b9_7f4a_7c15,
            timers_made: 0,
            envelopes: Envelopes::default(),
        }
    }

    /// The client of an exchange leaves; whether the engine must hear of it.
    pub fn leave(&mut self, to: Exchange) -> bool {
        let Some(said) = self.exchanges.get_mut(&to) else { return false };
        let pending = !said.gone && (said.status.is_none() || said.streaming);
        if said.streaming {
            self.counters.streams_active -= 1;
        }
        (said.gone, said.streaming) = (true, false);
        pending
    }

    pub fn error_count(&self, reason: &str) -> u64 {
        self.counters.errors.get(reason).copied().unwrap_or_default()
    }

    fn lane(&self, shard: u16) -> (u16, u16) {
        (self.index, self.index - self.at.shard + shard)
    }

    fn fault(&mut self, to: Exchange, what: &str) {
        self.faults.push(format!("shard {}, {to:?}: {what}", self.index));
    }

    /// The exchange, if it still waits for its answer to begin.
    fn waiting(&mut self, to: Exchange, what: &str) -> Option<&mut Said> {
        match self.exchanges.get(&to) {
            Some(said) if said.gone => None,
            Some(said) if said.status.is_none() => self.exchanges.get_mut(&to),
            Some(_) => {
                self.fault(to, &format!("{what} after an answer"));
                None
            }
            None => {
                self.fault(to, &format!("{what} to nobody"));
                None
            }
        }
    }

    /// The exchange, if its stream is open.
    fn streaming(&mut self, to: Exchange, what: &str) -> Option<&mut Said> {
        match self.exchanges.get(&to) {
            Some(said) if said.gone => None,
            Some(said) if said.streaming => self.exchanges.get_mut(&to),
            _ => {
                self.fault(to, &format!("{what} without an open stream"));
                None
            }
        }
    }
}

impl Net for Wire {
    fn now(&self) -> Millis {
        self.clock.load(Ordering::Relaxed)
    }

    fn unix_ms(&self) -> u64 {
        UNIX_MS + self.now()
    }

    fn micros(&self) -> u64 {
        self.now() * 1000
    }

    fn random(&mut self, out: &mut [u8]) {
        for byte in out {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.random >> 56) as u8;
        }
    }

    fn allow_origin(&mut self, to: Exchange, origin: &str) {
        if let Some(said) = self.waiting(to, "an origin") {
            said.origin = Some(origin.to_owned());
        }
    }

    fn respond(&mut self, to: Exchange, status: u16, headers: Headers<'_>, body: &[u8]) {
        if let Some(said) = self.waiting(to, "an answer") {
            said.status = Some(status);
            said.headers = named(headers, said.origin.take());
            said.body = body.to_vec();
        }
    }

    fn stream_open(&mut self, to: Exchange, headers: Headers<'_>, first: &[u8]) {
        let Some(said) = self.waiting(to, "a stream") else { return };
        said.status = Some(200);
        let headers = Headers { content_type: Some("text/event-stream"), ..headers };
        said.headers = named(headers, said.origin.take());
        said.body = first.to_vec();
        said.streaming = true;
        self.counters.streams_active += 1;
    }

    fn stream_write(&mut self, to: Exchange, events: &[u8]) {
        if let Some(said) = self.streaming(to, "an event") {
            said.body.extend_from_slice(events);
        }
    }

    fn stream_end(&mut self, to: Exchange, last: &[u8]) {
        let Some(said) = self.streaming(to, "an end") else { return };
        said.body.extend_from_slice(last);
        said.streaming = false;
        self.counters.streams_active -= 1;
    }

    fn upgrade(&mut self, to: Exchange, accept_key: &str, subprotocol: Option<&str>) {
        let Some(said) = self.waiting(to, "an upgrade") else { return };
        said.status = Some(101);
        said.upgraded = true;
        said.headers = vec![("sec-websocket-accept".into(), accept_key.into())];
        said.headers.extend(subprotocol.map(|name| ("sec-websocket-protocol".into(), name.into())));
    }

    fn pipe_send(&mut self, to: ConnId, message: &[u8]) {
        // A pipe that closes takes nothing more, as in the connection layer.
        if let Some(pipe) = self.pipes.get_mut(&to).filter(|pipe| pipe.closed.is_none()) {
            let text = std::str::from_utf8(message).expect("messages are UTF-8");
            assert!(!text.contains('\n'), "one message is one line: {text}");
            pipe.messages.push_back(serde_json::from_str(text).expect("messages are JSON"));
        }
    }

    fn pipe_close(&mut self, to: ConnId, why: CloseReason) {
        if let Some(pipe) = self.pipes.get_mut(&to) {
            pipe.closed.get_or_insert(why);
        }
    }

    fn backlog(&self, conn: ConnId) -> usize {
        self.backlog.get(&conn).copied().unwrap_or_default()
    }

    fn mail(&mut self, shard: u16, mail: Mail) -> bool {
        let mut lanes = self.lanes.borrow_mut();
        let lane = self.lane(shard);
        let takes = lanes.takes(lane);
        if takes {
            lanes.queues.entry(lane).or_default().push_back(letter(mail));
        }
        takes
    }

    fn mail_surely(&mut self, shard: u16, mail: Mail) {
        let mut lanes = self.lanes.borrow_mut();
        let lane = self.lane(shard);
        let takes = lanes.takes(lane);
        let queues = if takes { &mut lanes.queues } else { &mut lanes.unsent };
        queues.entry(lane).or_default().push_back(letter(mail));
    }

    fn text(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    fn was_read(&mut self, _text: Vec<u8>) {}

    fn envelopes(&mut self) -> &mut Envelopes {
        &mut self.envelopes
    }

    fn post(&mut self, to: Spot, letter: &Letter<'_>) -> bool {
        let taken = self.mesh.borrow_mut().post(self.at, to, letter);
        if !taken {
            self.counters.error("letter_refused");
        }
        taken
    }

    fn letter_message_bytes_max(&self) -> usize {
        LETTER_MESSAGE_BYTES_MAX
    }

    fn timer(&mut self, at: Millis, key: TimerKey) {
        self.timers_made += 1;
        self.timers.insert((at, self.timers_made), key);
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }
}

fn letter(mail: Mail) -> EngineMail {
    let Mail::Engine(mail) = mail else { panic!("an engine writes to engines only") };
    mail
}

/// The fields of a response head, names in lower case.
fn named(headers: Headers<'_>, origin: Option<String>) -> Vec<(String, String)> {
    let Headers { content_type, session_id, allow, retry_after, extra, close } = headers;
    let mut fields: Vec<(String, String)> =
        extra.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
    let mut add = |name: &str, value: Option<String>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("content-type", content_type.map(str::to_owned));
    add("mcp-session-id", session_id.map(str::to_owned));
    add("allow", allow.map(str::to_owned));
    add("retry-after", retry_after.map(|seconds| seconds.to_string()));
    add("connection", close.then(|| "close".to_owned()));
    add("access-control-allow-origin", origin);
    fields
}
