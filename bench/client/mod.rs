//! Many client connections on one ring: the same ring layer as the server's, on a thread of its own.
//!
//! A [`Conversation`] says what is spoken; this only moves bytes. Dropping a [`Client`] closes everything.
//!
//! Sockets are made with a system call each ([`dial`]) and then adopted into the ring's table, so a process
//! may hold more connections than descriptors. Connecting is therefore not what is measured here; a scenario
//! that measures it wants `connect` in the ring.

mod calls;
mod dial;
mod openers;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use erlmcp_shards::io::bells::Bells;
use erlmcp_shards::io::probe;
use erlmcp_shards::io::uring::{Uring, UringConfig};
use erlmcp_shards::io::{Completion, ConnId, Io, RecvEnd};

pub use calls::{Expectation, Load, probe as probe_call};
pub use openers::Openers;

use dial::dial;

/// Descriptors a ring of ours can hold; the kernel allows as many as RLIMIT_NOFILE.
const RING_CAPACITY: u32 = 16_384;
/// Connections dialled between two turns: the server must come to accept them.
const DIALS_PER_TURN: u32 = 64;
/// How long one turn waits, milliseconds.
const TURN_MS: u64 = 20;
/// Faults that are kept to be shown.
const FAULTS_SHOWN: usize = 3;

/// What is said on each of a client's connections. They are numbered from 0.
pub trait Conversation {
    /// A turn begins; `micros` counts from the client's start.
    fn handle_time(&mut self, _micros: u64) {}
    /// The connection stands: what is said first.
    fn begin(&mut self, conn: u32, out: &mut Vec<u8>);
    /// Something changed: does a connection that waits want to say more? See [`Client::nudge`].
    fn nudge(&mut self, _conn: u32, _out: &mut Vec<u8>) {}
    /// Takes what it understands of the input, says what comes next, returns how much it took. Called again
    /// with the rest; 0 means that more is needed. An error ends the conversation on this connection.
    fn handle(&mut self, conn: u32, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String>;
}

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// How often.
    pub count: u64,
    /// The first few.
    pub first: Vec<String>,
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>) {
        self.count += 1;
        if self.first.len() < FAULTS_SHOWN {
            self.first.push(what.into());
        }
    }
}

/// Connections of one thread.
pub struct Client<C> {
    ring: Uring,
    conversation: C,
    target: SocketAddr,
    started: Instant,
    /// By slot of the ring.
    lines: Vec<Option<Line>>,
    open: u32,
    completions: Vec<Completion>,
    rearm: Vec<ConnId>,
    faults: Faults,
}

struct Line {
    number: u32,
    id: ConnId,
    /// To be sent next.
    out: Vec<u8>,
    /// Received and not yet understood.
    kept: Vec<u8>,
    is_sending: bool,
    /// Nothing more is said here.
    is_over: bool,
}

impl<C: Conversation> Client<C> {
    /// A client without connections; on the thread that will use it.
    pub fn new(target: SocketAddr, conversation: C) -> io::Result<Self> {
        let features = probe::probe().map_err(|missing| io::Error::other(missing.to_string()))?;
        let config = UringConfig {
            capacity: RING_CAPACITY,
            no_sqarray: features.no_sqarray,
            ..UringConfig::default()
        };
        Ok(Self {
            ring: Uring::new(&config, Vec::new(), 0, Bells::new(1)?)?,
            conversation,
            target,
            started: Instant::now(),
            lines: Vec::new(),
            open: 0,
            completions: Vec::new(),
            rearm: Vec::new(),
            faults: Faults::default(),
        })
    }

    /// What is spoken.
    pub fn conversation(&mut self) -> &mut C {
        &mut self.conversation
    }

    /// What went wrong so far.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Opens connections until there are `count`, going on with the others meanwhile.
    pub fn open(&mut self, count: u32) -> io::Result<()> {
        while self.open < count {
            for _ in 0..DIALS_PER_TURN.min(count - self.open) {
                let socket = dial(self.target)?;
                let slot = self.ring.adopt(socket)?;
                self.begin(slot);
            }
            self.turn(0);
        }
        Ok(())
    }

    /// Turns until `is_done`; an error when that takes longer than `patience`.
    pub fn turn_until(
        &mut self,
        patience: Duration,
        mut is_done: impl FnMut(&mut C) -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        while !is_done(&mut self.conversation) {
            if deadline < Instant::now() {
                let what = format!("the server did not answer in time; faults: {:?}", self.faults);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            self.turn(TURN_MS);
        }
        Ok(())
    }

    /// Asks every connection whether it has more to say.
    pub fn nudge(&mut self) {
        for line in self.lines.iter_mut().flatten() {
            self.conversation.nudge(line.number, &mut line.out);
            transmit(&mut self.ring, line);
        }
    }

    fn begin(&mut self, slot: u32) {
        let index = slot as usize;
        if self.lines.len() <= index {
            self.lines.resize_with(index + 1, || None);
        }
        // A client never closes one connection alone, so a slot is used once.
        let id = ConnId { slot, generation: 1 };
        let mut line = Line {
            number: self.open,
            id,
            out: Vec::new(),
            kept: Vec::new(),
            is_sending: false,
            is_over: false,
        };
        self.open += 1;
        self.ring.recv(id);
        self.conversation.begin(line.number, &mut line.out);
        transmit(&mut self.ring, &mut line);
        self.lines[index] = Some(line);
    }

    fn turn(&mut self, wait_ms: u64) {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.turn((wait_ms != 0).then_some(wait_ms), &mut completions);
        self.conversation.handle_time(self.started.elapsed().as_micros() as u64);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        for id in std::mem::take(&mut self.rearm) {
            self.ring.recv(id);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { id, chunk } => {
                let bytes = self.ring.bytes(&chunk);
                if let Some(Some(line)) = self.lines.get_mut(id.slot as usize) {
                    hear(&mut self.conversation, line, bytes, &mut self.faults);
                    transmit(&mut self.ring, line);
                }
                self.ring.recycle(chunk);
            }
            Completion::Sent { id, mut buffer, result } => {
                let Some(Some(line)) = self.lines.get_mut(id.slot as usize) else { return };
                line.is_sending = false;
                if result != Ok(buffer.len()) {
                    line.is_over = true;
                    self.faults.add(format!("a send ended with {result:?}"));
                }
                if line.out.capacity() == 0 {
                    buffer.clear();
                    line.out = buffer;
                }
                transmit(&mut self.ring, line);
            }
            Completion::RecvEnded { id, why } => match why {
                RecvEnd::NoBuffers | RecvEnd::Rearm => self.rearm.push(id),
                why => self.faults.add(format!("the server ended a connection: {why:?}")),
            },
            _ => {}
        }
    }
}

/// Lets the conversation take what arrived; keeps what it did not take.
fn hear<C: Conversation>(conversation: &mut C, line: &mut Line, bytes: &[u8], faults: &mut Faults) {
    if line.is_over {
        return;
    }
    let mut kept = std::mem::take(&mut line.kept);
    let mut input = bytes;
    if !kept.is_empty() {
        kept.extend_from_slice(bytes);
        input = &kept;
    }
    while !input.is_empty() {
        match conversation.handle(line.number, input, &mut line.out) {
            Ok(0) => break,
            Ok(used) => input = &input[used..],
            Err(what) => {
                line.is_over = true;
                faults.add(what);
                return;
            }
        }
    }
    line.kept = if input.is_empty() { Vec::new() } else { input.to_vec() };
}

fn transmit(ring: &mut Uring, line: &mut Line) {
    if !line.is_sending && !line.is_over && !line.out.is_empty() {
        line.is_sending = true;
        ring.send(line.id, std::mem::take(&mut line.out), 0);
    }
}
