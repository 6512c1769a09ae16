//! The service of these tests.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use erlmcp_protocol::http::Head;
use erlmcp_protocol::ws;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::io::{ConnId, Millis};
use erlmcp_shards::net::{CloseReason, Exchange, Headers, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

/// What the service was told; shared with the test.
#[derive(Default)]
pub struct Seen {
    pub open_pipes: RefCell<BTreeSet<ConnId>>,
    /// Exchanges neither answered nor gone.
    pub owed: Cell<i64>,
    pub gone: Cell<usize>,
    pub messages: Cell<usize>,
    pub oversize: Cell<usize>,
    pub eofs: Cell<usize>,
    pub kinds: RefCell<Vec<PipeKind>>,
    pub drained: Cell<bool>,
}

/// HTTP: `/echo` answers its body, `/later` the same after 7 ms, `/never` not, `/stream?n` streams n events
/// and ends, `/open` streams until the client leaves, `/big?n` answers n bytes, `/ws` upgrades.
/// Pipes: a message is echoed; `big n` answers n bytes; `bye` closes; `later x` answers x after 7 ms.
pub struct Echo {
    seen: Rc<Seen>,
    waiting: BTreeMap<u32, Waiting>,
    open: Vec<Exchange>,
    next: u32,
}

enum Waiting {
    Answer(Exchange, Vec<u8>),
    Stream(Exchange, u32),
    Message(ConnId, Vec<u8>),
}

/// How long `later` is, milliseconds.
pub const LATER_MS: u64 = 7;

pub fn event(number: u32) -> Vec<u8> {
    format!("data: {number}\n\n").into_bytes()
}

pub fn big(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + (at % 26) as u8).collect()
}

impl Echo {
    pub fn new(seen: Rc<Seen>) -> Self {
        Self { seen, waiting: BTreeMap::new(), open: Vec::new(), next: 0 }
    }

    fn wait<N: Net>(&mut self, net: &mut N, what: Waiting) {
        self.next += 1;
        self.waiting.insert(self.next, what);
        net.timer(net.now() + LATER_MS, TimerKey::Call(self.next, 0));
    }

    fn answer<N: Net>(&mut self, net: &mut N, to: Exchange, status: u16, body: &[u8]) {
        let headers = Headers { content_type: Some("text/plain"), ..Headers::default() };
        net.respond(to, status, headers, body);
        self.seen.owed.set(self.seen.owed.get() - 1);
    }
}

impl Service for Echo {
    fn handle_request<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>, body: &[u8]) {
        self.seen.owed.set(self.seen.owed.get() + 1);
        let number = head.query.and_then(|query| query.parse().ok()).unwrap_or(0);
        if let Some(origin) = head.origin.as_str() {
            net.allow_origin(to, origin);
        }
        match head.path {
            "/echo" => self.answer(net, to, 200, body),
            "/later" => self.wait(net, Waiting::Answer(to, body.to_vec())),
            "/never" => self.open.push(to),
            "/big" => self.answer(net, to, 200, &big(number as usize)),
            "/stream" => {
                net.stream_open(to, Headers::default(), b"");
                self.wait(net, Waiting::Stream(to, number));
            }
            "/open" => {
                net.stream_open(to, Headers::default(), b": hello\n\n");
                self.open.push(to);
            }
            "/ws" => {
                let key = head.ws_key.as_str().and_then(|key| ws::accept_key(key).ok());
                match key {
                    Some(key) => {
                        net.upgrade(to, key.as_str(), Some("mcp"));
                        self.seen.owed.set(self.seen.owed.get() - 1);
                    }
                    None => self.answer(net, to, 400, b"no key"),
                }
            }
            _ => self.answer(net, to, 404, b"nothing here"),
        }
    }

    fn handle_gone<N: Net>(&mut self, _net: &mut N, to: Exchange) {
        self.seen.owed.set(self.seen.owed.get() - 1);
        self.seen.gone.set(self.seen.gone.get() + 1);
        self.open.retain(|open| *open != to);
        self.waiting.retain(|_, waiting| match waiting {
            Waiting::Answer(exchange, _) | Waiting::Stream(exchange, _) => *exchange != to,
            Waiting::Message(..) => true,
        });
    }

    fn handle_pipe_open<N: Net>(&mut self, _net: &mut N, conn: ConnId, kind: PipeKind) {
        assert!(self.seen.open_pipes.borrow_mut().insert(conn), "{conn:?} opened twice");
        self.seen.kinds.borrow_mut().push(kind);
    }

    fn handle_pipe_message<N: Net>(&mut self, net: &mut N, conn: ConnId, message: &[u8]) {
        assert!(self.seen.open_pipes.borrow().contains(&conn), "{conn:?} speaks but is not open");
        self.seen.messages.set(self.seen.messages.get() + 1);
        if message == b"bye" {
            net.pipe_close(conn, CloseReason::Done);
        } else if let Some(later) = message.strip_prefix(b"later ") {
            self.wait(net, Waiting::Message(conn, later.to_vec()));
        } else if let Some(bytes) = message.strip_prefix(b"big ") {
            let bytes = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
            net.pipe_send(conn, &big(bytes.unwrap_or(0)));
        } else {
            net.pipe_send(conn, message);
        }
    }

    fn handle_pipe_oversize<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        self.seen.oversize.set(self.seen.oversize.get() + 1);
        net.pipe_send(conn, b"too long");
    }

    fn handle_pipe_eof<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        self.seen.eofs.set(self.seen.eofs.get() + 1);
        net.pipe_close(conn, CloseReason::Done);
    }

    fn handle_pipe_closed<N: Net>(&mut self, _net: &mut N, conn: ConnId) {
        assert!(self.seen.open_pipes.borrow_mut().remove(&conn), "{conn:?} closed but not open");
    }

    fn handle_mail<N: Net>(&mut self, _net: &mut N, _mail: EngineMail) {}

    fn handle_timer<N: Net>(&mut self, net: &mut N, key: TimerKey) {
        let TimerKey::Call(number, _) = key else { return };
        match self.waiting.remove(&number) {
            Some(Waiting::Answer(to, body)) => self.answer(net, to, 200, &body),
            Some(Waiting::Stream(to, left)) => {
                if left == 0 {
                    net.stream_end(to, b"data: end\n\n");
                    self.seen.owed.set(self.seen.owed.get() - 1);
                } else {
                    net.stream_write(to, &event(left));
                    self.wait(net, Waiting::Stream(to, left - 1));
                }
            }
            Some(Waiting::Message(conn, message)) => net.pipe_send(conn, &message),
            None => {}
        }
    }

    fn handle_drain<N: Net>(&mut self, net: &mut N, _: Millis) {
        self.seen.drained.set(true);
        for to in std::mem::take(&mut self.open) {
            net.stream_end(to, b"");
            // Those of `/never` are not streams: their exchange ends with the connection.
            self.seen.owed.set(self.seen.owed.get() - 1);
        }
        let pipes: Vec<_> = self.seen.open_pipes.borrow().iter().copied().collect();
        for conn in pipes {
            net.pipe_close(conn, CloseReason::GoingAway);
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}
