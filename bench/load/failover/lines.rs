//! Keep-alive connections to several nodes on one ring, one exchange at a time on each.
//!
//! Invariants: an event of a line comes only while the line is the caller's: after [`Event::Ended`], or after
//! [`Lines::close`], nothing more is heard of it, and its number is given to another.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use erlmcp_shards::io::{Completion, ConnId, Io, RecvEnd};

use super::exchange::{Answer, Exchange};
use crate::load::client::Client;
use crate::load::http::HeadReader;
use crate::load::rings::{Owner, Ring, dial_here, rings};
use crate::load::target::Sources;

/// What happened on a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It stands.
    Opened(u32),
    /// The request was answered.
    Answered(u32, Answer),
    /// It ended without our doing, or never stood.
    Ended(u32, String),
}

/// The connections.
pub struct Lines {
    ring: Ring,
    can_connect: bool,
    targets: Vec<SocketAddr>,
    sources: Sources,
    dials: u32,
    lines: Vec<Client<Exchange>>,
    free: Vec<u32>,
    heads: Vec<HeadReader>,
    completions: Vec<Completion>,
    /// Outcomes that did not wait for the kernel.
    early: Vec<Event>,
}

/// How long a connection may take to stand.
const DIAL_MS: u64 = 2000;
/// Generations travel in 24 bits.
const GENERATION_MASK: u32 = 0xFF_FFFF;

impl Lines {
    /// On the calling thread, which alone may use it; no more lines than this at once.
    pub fn new(targets: Vec<SocketAddr>, capacity: u32) -> io::Result<Self> {
        let ring = rings(1, capacity)?.pop().ok_or_else(|| io::Error::other("no ring"))?;
        Ok(Self {
            can_connect: ring.io.can_connect(),
            ring,
            heads: targets.iter().map(|_| HeadReader::default()).collect(),
            targets,
            sources: Sources::new(Vec::new()),
            dials: 0,
            lines: Vec::new(),
            free: Vec::new(),
            completions: Vec::new(),
            early: Vec::new(),
        })
    }

    /// Begins a connection to this node; [`Event::Opened`] or [`Event::Ended`] follows.
    pub fn dial(&mut self, node: u16) -> u32 {
        let line = self.free.pop().unwrap_or(self.lines.len() as u32);
        let fresh = Client::new(Exchange::default(), 0, node);
        match self.lines.get_mut(line as usize) {
            Some(old) => *old = fresh,
            None => self.lines.push(fresh),
        }
        let target = self.targets[usize::from(node)];
        let source = self.sources.of(self.dials, target);
        self.dials = self.dials.wrapping_add(1);
        if self.can_connect {
            self.ring.io.connect(line, target, source, Some(DIAL_MS));
            return line;
        }
        let adopted =
            dial_here(target, source).and_then(|socket| self.ring.io.adopt(socket.into()));
        match adopted {
            Ok(slot) => self.open(line, slot),
            Err(err) => self.early.push(Event::Ended(line, err.to_string())),
        }
        line
    }

    /// Which node a line leads to.
    pub fn node(&self, line: u32) -> u16 {
        self.lines[line as usize].target
    }

    /// Says something on a line that waits for nothing.
    pub fn send(&mut self, line: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut self.lines[line as usize];
        write(&mut state.out);
        state.transmit(&mut self.ring.io);
    }

    /// Gives a line up that stands.
    pub fn close(&mut self, line: u32) {
        self.lines[line as usize].close(&mut self.ring.io);
    }

    /// One turn of the ring; waits no longer than this for something to happen.
    pub fn turn(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) {
        events.append(&mut self.early);
        let wait = if events.is_empty() { wait } else { None };
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.io.turn_within(wait, &mut completions);
        for completion in completions.drain(..) {
            self.complete(completion, events);
        }
        self.completions = completions;
        for id in std::mem::take(&mut self.ring.rearm) {
            let Some(line) = self.owner(id) else { continue };
            let state = &mut self.lines[line as usize];
            let io = &mut self.ring.io;
            if state.is_open() { io.recv(id) } else { state.deafened(io) }
        }
        events.append(&mut self.early);
    }

    fn complete(&mut self, completion: Completion, events: &mut Vec<Event>) {
        match completion {
            Completion::Connected { token, result } => match result {
                Ok(slot) => self.open(token, slot),
                Err(errno) => {
                    self.free.push(token);
                    events.push(Event::Ended(token, refused(errno)));
                }
            },
            Completion::Received { id, chunk } => {
                let Some(line) = self.owner(id) else { return self.ring.io.recycle(chunk) };
                let state = &mut self.lines[line as usize];
                let heads = &mut self.heads[usize::from(state.target)];
                let heard = hear(state, heads, self.ring.io.bytes(&chunk));
                self.ring.io.recycle(chunk);
                match heard {
                    Ok(None) => {}
                    Ok(Some(answer)) => events.push(Event::Answered(line, answer)),
                    Err(why) => self.end(line, why, events),
                }
            }
            Completion::Sent { id, buffer, result } => {
                let Some(line) = self.owner(id) else { return };
                let state = &mut self.lines[line as usize];
                state.sent(&mut self.ring.io);
                match result {
                    Ok(count) if count == buffer.len() => state.transmit(&mut self.ring.io),
                    Ok(_) => self.end(line, "a send was cut short".to_owned(), events),
                    Err(errno) => self.end(line, refused(errno), events),
                }
            }
            Completion::RecvEnded { id, why } => {
                let Some(line) = self.owner(id) else { return };
                let state = &mut self.lines[line as usize];
                if state.is_open() && matches!(why, RecvEnd::NoBuffers | RecvEnd::Rearm) {
                    return self.ring.rearm.push(id);
                }
                state.deafened(&mut self.ring.io);
                let why = match why {
                    RecvEnd::Error(errno) => refused(errno),
                    _ => "the server closed the connection".to_owned(),
                };
                self.end(line, why, events);
            }
            Completion::Closed { slot } => {
                let Some(owner) = self.ring.owners.get(slot as usize) else { return };
                let line = owner.client;
                self.lines[line as usize].closed();
                self.free.push(line);
            }
            Completion::Accepted { .. } | Completion::AcceptEnded { .. } | Completion::Bell => {}
        }
    }

    fn open(&mut self, line: u32, slot: u32) {
        let Ring { io, owners, .. } = &mut self.ring;
        let index = slot as usize;
        if owners.len() <= index {
            owners.resize(index + 1, Owner::default());
        }
        let generation = owners[index].generation.wrapping_add(1) & GENERATION_MASK;
        owners[index] = Owner { client: line, generation };
        self.lines[line as usize].opened(io, ConnId { slot, generation });
        self.early.push(Event::Opened(line));
    }

    fn end(&mut self, line: u32, why: String, events: &mut Vec<Event>) {
        if self.lines[line as usize].close(&mut self.ring.io) {
            events.push(Event::Ended(line, why));
        }
    }

    fn owner(&self, id: ConnId) -> Option<u32> {
        let owner = self.ring.owners.get(id.slot as usize)?;
        (owner.generation == id.generation).then_some(owner.client)
    }
}

/// Lets a line take what arrived; keeps what it did not take.
fn hear(
    line: &mut Client<Exchange>,
    heads: &mut HeadReader,
    bytes: &[u8],
) -> Result<Option<Answer>, String> {
    if !line.is_open() {
        return Ok(None);
    }
    line.kept.extend_from_slice(bytes);
    let mut from = 0;
    let mut whole = None;
    while from < line.kept.len() {
        let (used, answer) = line.talk.read(heads, &line.kept[from..])?;
        from += used;
        match (answer, &whole) {
            (Some(_), Some(_)) => return Err("two answers to one request".to_owned()),
            (Some(answer), None) => whole = Some(answer),
            (None, _) if used == 0 => break,
            (None, _) => {}
        }
    }
    line.kept.drain(..from);
    Ok(whole)
}

fn refused(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Turns until something happened, and takes the first of it.
    #[track_caller]
    fn next(lines: &mut Lines) -> Event {
        let mut events = Vec::new();
        for _ in 0..1000 {
            lines.turn(Some(Duration::from_millis(20)), &mut events);
            if !events.is_empty() {
                assert_eq!(events.len(), 1, "{events:?}");
                return events.remove(0);
            }
        }
        panic!("nothing happens");
    }

    #[test]
    fn a_line_asks_is_answered_and_tells_when_the_server_goes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        let targets = vec![listener.local_addr().unwrap(), gone.local_addr().unwrap()];
        drop(gone);
        let mut lines = Lines::new(targets, 64).unwrap();
        let line = lines.dial(0);
        assert_eq!(next(&mut lines), Event::Opened(line));
        let (mut server, _) = listener.accept().unwrap();
        for round in 0..3 {
            lines.send(line, |out| out.extend_from_slice(b"ping"));
            lines.turn(None, &mut Vec::new());
            server.read_exact(&mut [0; 4]).unwrap();
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong").unwrap();
            let Event::Answered(on, answer) = next(&mut lines) else { panic!("round {round}") };
            assert_eq!((on, answer.message.as_slice()), (line, &b"pong"[..]));
        }
        drop(server);
        assert!(matches!(next(&mut lines), Event::Ended(on, _) if on == line));
        let refused = lines.dial(1);
        assert!(matches!(next(&mut lines), Event::Ended(on, _) if on == refused));
    }
}
