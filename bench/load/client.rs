//! One client of a worker: its conversation, and the state of its connection.

use erlmcp_shards::io::uring::Uring;
use erlmcp_shards::io::{ConnId, Io};

use super::talk::Talk;

/// One client, and what it says.
pub struct Client<T = Talk> {
    /// What it says.
    pub talk: T,
    /// Which ring its connection is on.
    pub ring: u16,
    /// Which target it talks to.
    pub target: u16,
    /// Its connection; stale unless [`Client::is_open`].
    pub id: ConnId,
    flags: u8,
    /// To be sent next.
    pub out: Vec<u8>,
    /// Received and not yet understood.
    pub kept: Vec<u8>,
    /// When what is awaited was asked for, or should have been.
    pub asked_us: u64,
    /// When the connection was last used.
    pub used_us: u64,
}

const OPEN: u8 = 1;
const SENDING: u8 = 2;
const RECEIVING: u8 = 4;
const CLOSING: u8 = 8;
const DEAF: u8 = 16;

impl<T> Client<T> {
    /// Not connected.
    pub fn new(talk: T, ring: u16, target: u16) -> Self {
        let id = ConnId { slot: 0, generation: 0 };
        Self {
            talk,
            ring,
            target,
            id,
            flags: 0,
            out: Vec::new(),
            kept: Vec::new(),
            asked_us: 0,
            used_us: 0,
        }
    }

    /// Whether there is a connection that is not on its way out.
    pub fn is_open(&self) -> bool {
        self.flags & (OPEN | CLOSING) == OPEN
    }

    /// Whether it has stopped reading on purpose.
    pub fn is_deaf(&self) -> bool {
        self.flags & DEAF != 0
    }

    /// The connection stands: begins to receive.
    pub fn opened(&mut self, io: &mut Uring, id: ConnId) {
        self.id = id;
        self.flags = OPEN | RECEIVING;
        io.recv(id);
    }

    /// Sends what is queued, unless something flies.
    pub fn transmit(&mut self, io: &mut Uring) {
        if self.is_open() && self.flags & SENDING == 0 && !self.out.is_empty() {
            self.flags |= SENDING;
            io.send(self.id, std::mem::take(&mut self.out), 0);
        }
    }

    /// A send ended.
    pub fn sent(&mut self, io: &mut Uring) {
        self.flags &= !SENDING;
        self.settle(io);
    }

    /// The receive ended for good.
    pub fn deafened(&mut self, io: &mut Uring) {
        self.flags &= !RECEIVING;
        self.settle(io);
    }

    /// Stops reading, and stays.
    pub fn stop_reading(&mut self, io: &mut Uring) {
        if self.is_open() && !self.is_deaf() {
            self.flags |= DEAF;
            io.recv_stop(self.id);
        }
    }

    /// Reads again. Too early after [`Client::stop_reading`], while the receive is not cancelled yet, it does
    /// nothing.
    pub fn read_again(&mut self, io: &mut Uring) {
        if self.is_open() && self.flags & (DEAF | RECEIVING) == DEAF {
            self.flags = self.flags & !DEAF | RECEIVING;
            io.recv(self.id);
        }
    }

    /// Closes the connection as soon as nothing of it flies. `false` if it was on its way out already.
    pub fn close(&mut self, io: &mut Uring) -> bool {
        if !self.is_open() {
            return false;
        }
        self.flags |= CLOSING;
        self.out = Vec::new();
        self.kept = Vec::new();
        if self.flags & (SENDING | RECEIVING) == 0 {
            io.close(self.id);
        } else {
            io.shutdown(self.id);
        }
        true
    }

    fn settle(&mut self, io: &mut Uring) {
        if self.flags & CLOSING != 0 && self.flags & (SENDING | RECEIVING) == 0 {
            io.close(self.id);
        }
    }

    /// The descriptor is closed.
    pub fn closed(&mut self) {
        self.flags = 0;
    }
}
