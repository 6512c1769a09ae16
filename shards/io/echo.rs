//! The smallest correct shard: it sends back what it receives. For tests, over any [`Io`].

use super::{Completion, ConnId, Io, ListenerIndex, Millis, RecvEnd};

pub(super) struct Echo<I: Io> {
    pub io: I,
    /// By slot.
    pub conns: Vec<Option<Conn>>,
    generations: Vec<u32>,
    /// Receives to arm when this turn's buffers are back.
    rearm: Vec<ConnId>,
    /// Accepts to arm at the next turn.
    accept_again: Vec<ListenerIndex>,
    pub tally: Tally,
}

pub(super) struct Conn {
    pub id: ConnId,
    receiving: bool,
    sending: bool,
    queue: Vec<u8>,
    ended: bool,
    closing: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub accepted: u64,
    pub accept_ends: Vec<i32>,
    pub chunks: u64,
    pub bytes: u64,
    pub no_buffers: u64,
    pub closed: u64,
    pub bells: u64,
    pub late: u64,
    pub send_errors: u64,
}

impl<I: Io> Echo<I> {
    pub fn new(io: I) -> Self {
        Self {
            io,
            conns: Vec::new(),
            generations: Vec::new(),
            rearm: Vec::new(),
            accept_again: Vec::new(),
            tally: Tally::default(),
        }
    }

    pub fn open(&self) -> usize {
        self.conns.iter().flatten().count()
    }

    /// One turn. Returns how many completions it brought.
    pub fn turn(&mut self, wait: Option<Millis>) -> usize {
        for listener in std::mem::take(&mut self.accept_again) {
            self.io.accept(listener);
        }
        let mut out = Vec::new();
        self.io.turn(wait, &mut out);
        let count = out.len();
        for completion in out {
            self.complete(completion);
        }
        for id in std::mem::take(&mut self.rearm) {
            if self.conn(id).is_some_and(|conn| !conn.closing) {
                self.receive(id);
            }
        }
        for slot in 0..self.conns.len() {
            self.transmit(slot);
        }
        count
    }

    pub fn adopt(&mut self, slot: u32) -> ConnId {
        let index = slot as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
            self.generations.resize(index + 1, 0);
        }
        self.generations[index] += 1;
        let id = ConnId { slot, generation: self.generations[index] };
        assert!(self.conns[index].is_none(), "slot {slot} was given away twice");
        self.conns[index] = Some(Conn {
            id,
            receiving: false,
            sending: false,
            queue: Vec::new(),
            ended: false,
            closing: false,
        });
        self.receive(id);
        id
    }

    fn receive(&mut self, id: ConnId) {
        self.io.recv(id);
        if let Some(conn) = self.conn(id) {
            conn.receiving = true;
        }
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.slot as usize)?.as_mut()?;
        (conn.id == id).then_some(conn)
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { slot, .. } => {
                self.tally.accepted += 1;
                self.adopt(slot);
            }
            Completion::AcceptEnded { listener, errno } => {
                self.tally.accept_ends.push(errno);
                if errno != libc::ECANCELED {
                    self.accept_again.push(listener);
                }
            }
            Completion::Received { id, chunk } => {
                let bytes = self.io.bytes(&chunk).to_vec();
                self.io.recycle(chunk);
                self.tally.chunks += 1;
                self.tally.bytes += bytes.len() as u64;
                match self.conn(id) {
                    Some(conn) => conn.queue.extend(bytes),
                    None => self.tally.late += 1,
                }
            }
            Completion::RecvEnded { id, why } => {
                self.tally.no_buffers += u64::from(why == RecvEnd::NoBuffers);
                let Some(conn) = self.conn(id) else {
                    self.tally.late += 1;
                    return;
                };
                conn.receiving = false;
                match why {
                    RecvEnd::Eof | RecvEnd::Cancelled => conn.ended = true,
                    RecvEnd::Error(_) => {
                        conn.ended = true;
                        conn.queue.clear();
                    }
                    RecvEnd::NoBuffers | RecvEnd::Rearm => self.rearm.push(id),
                }
            }
            Completion::Sent { id, buffer, result } => {
                let Some(conn) = self.conn(id) else {
                    self.tally.late += 1;
                    return;
                };
                conn.sending = false;
                if result != Ok(buffer.len()) {
                    conn.queue.clear();
                    conn.ended = true;
                    if conn.receiving {
                        self.io.shutdown(id);
                    }
                    self.tally.send_errors += 1;
                }
            }
            Completion::Closed { slot } => {
                self.tally.closed += 1;
                let conn = self.conns[slot as usize].take().expect("only open slots close");
                assert!(conn.closing, "slot {slot} closed by itself");
            }
            Completion::Connected { result, .. } => {
                let slot = result.expect("connects");
                self.adopt(slot);
            }
            Completion::Bell => self.tally.bells += 1,
        }
    }

    fn transmit(&mut self, slot: usize) {
        let Some(conn) = &mut self.conns[slot] else { return };
        if conn.closing || conn.sending {
            return;
        }
        if !conn.queue.is_empty() {
            conn.sending = true;
            self.io.send(conn.id, std::mem::take(&mut conn.queue), 0);
        } else if conn.ended && !conn.receiving {
            conn.closing = true;
            self.io.close(conn.id);
        }
    }
}
