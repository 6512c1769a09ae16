//! The seam to the kernel. Everything above it is the same code in production and in the simulator.
//!
//! Invariants: at most one `send` in flight per connection; at most one armed `recv` per connection; a slot
//! is reused only after [`Completion::Closed`]; a completion may be late (its generation is old): count, drop.

pub mod bells;
mod buffers;
pub mod listen;
pub mod probe;
pub mod sim;
pub mod uring;

#[cfg(test)]
mod echo;

use std::net::SocketAddr;

/// Milliseconds of a monotonic clock.
pub type Millis = u64;

/// A slot of the connection table and how often it has been reused. Travels in the ring's user data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index in the connection table; equals the direct descriptor's index in the ring's table.
    pub slot: u32,
    /// Bumped at every reuse of the slot; 24 bits travel in the ring.
    pub generation: u32,
}

/// Which of the shard's listeners.
pub type ListenerIndex = u8;

/// A received piece of a provided buffer. Give it back with [`Io::recycle`] in the same turn.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Buffer number.
    pub buffer: u16,
    /// Valid bytes from its start.
    pub len: u32,
}

/// Why a receive ended and must be armed again, or the connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvEnd {
    /// The peer sent FIN.
    Eof,
    /// The provided buffers ran out: arm again after this turn's buffers were recycled.
    NoBuffers,
    /// We cancelled it.
    Cancelled,
    /// The multishot ended without error: arm again.
    Rearm,
    /// errno, e.g. ECONNRESET.
    Error(i32),
}

/// What the kernel says happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion {
    /// A connection sits in direct descriptor `slot`.
    Accepted {
        /// Which listener.
        listener: ListenerIndex,
        /// Direct descriptor index.
        slot: u32,
    },
    /// The multishot accept ended. `errno` 0: just arm again; EMFILE/ENFILE: after a close or a timer.
    AcceptEnded {
        /// Which listener.
        listener: ListenerIndex,
        /// errno or 0.
        errno: i32,
    },
    /// Bytes arrived.
    Received {
        /// For whom.
        id: ConnId,
        /// Where they are.
        chunk: Chunk,
    },
    /// The receive is no longer armed (also follows the last `Received` of an ended multishot).
    RecvEnded {
        /// Whose.
        id: ConnId,
        /// Why.
        why: RecvEnd,
    },
    /// A send finished. The buffer comes home; `result` is bytes sent (short only on trouble) or errno.
    Sent {
        /// Whose.
        id: ConnId,
        /// The buffer handed to [`Io::send`].
        buffer: Vec<u8>,
        /// Bytes or errno.
        result: Result<usize, i32>,
    },
    /// The descriptor is closed; the slot may come back in `Accepted` from now on.
    Closed {
        /// Which.
        slot: u32,
    },
    /// A connection that was asked for with [`Io::connect`] stands, or does not.
    Connected {
        /// The asker's.
        token: u32,
        /// Direct descriptor index or errno.
        result: Result<u32, i32>,
    },
    /// Somebody put mail into the inbox.
    Bell,
}

/// The kernel, as a shard sees it: one per shard, used by one thread.
pub trait Io {
    /// Monotonic time, read once per [`Io::turn`].
    fn now(&self) -> Millis;
    /// Wall clock in milliseconds since 1970, read once per [`Io::turn`].
    fn unix_ms(&self) -> u64;
    /// Fills with cryptographic randomness (seeded in the simulator).
    fn random(&mut self, out: &mut [u8]);
    /// Arms the multishot accept of a listener. Not while it is armed.
    fn accept(&mut self, listener: ListenerIndex);
    /// From where the connection came that was accepted into this slot, if that listener was told to remember
    /// ([`uring::Uring::remember_callers`]). Asked once, right after the accept.
    fn caller(&mut self, slot: u32) -> Option<SocketAddr>;
    /// Cancels the multishot accept; `AcceptEnded` with ECANCELED follows, unless it had ended already.
    fn accept_stop(&mut self, listener: ListenerIndex);
    /// Closes the listening socket for good.
    fn listener_close(&mut self, listener: ListenerIndex);
    /// Arms a multishot receive.
    fn recv(&mut self, id: ConnId);
    /// Cancels it; `RecvEnded` follows, unless it had ended already. Bytes may still come first.
    fn recv_stop(&mut self, id: ConnId);
    /// Sends the buffer from `from` to its end (MSG_WAITALL | MSG_NOSIGNAL). One in flight per connection.
    fn send(&mut self, id: ConnId, buffer: Vec<u8>, from: usize);
    /// Ends both directions: whatever is pending completes soon. The peer sees the end at [`Io::close`].
    fn shutdown(&mut self, id: ConnId);
    /// Sends FIN, keeps receiving (lingering close). After the last send completed: one in flight would fail.
    fn shutdown_write(&mut self, id: ConnId);
    /// Closes the descriptor; `Closed` follows. Only when neither receive nor send is pending.
    fn close(&mut self, id: ConnId);
    /// Opens a connection; [`Completion::Connected`] follows, with this token. With a source address its port is
    /// chosen as late as possible (IP_BIND_ADDRESS_NO_PORT), so that each source has its own full range. An
    /// attempt that takes longer than `within` milliseconds ends with ETIMEDOUT; `None` leaves that to the
    /// kernel, which tries for two minutes at ever longer intervals.
    fn connect(
        &mut self,
        token: u32,
        target: SocketAddr,
        source: Option<SocketAddr>,
        within: Option<Millis>,
    );
    /// Installs a socket into the ring's table, e.g. one end of the pair behind stdio; returns its slot. What
    /// is not a socket is refused: receives and sends are all there is.
    fn adopt(&mut self, fd: std::os::fd::OwnedFd) -> std::io::Result<u32>;
    /// Rings another shard's doorbell (MSG_RING, submitted with the next turn); it gets [`Completion::Bell`].
    fn ring_bell(&mut self, shard: u16);
    /// The bytes of a chunk.
    fn bytes(&mut self, chunk: &Chunk) -> &mut [u8];
    /// Gives the buffer back to the kernel.
    fn recycle(&mut self, chunk: Chunk);
    /// One syscall: submits everything queued, waits for at least one completion or until `wait` milliseconds
    /// passed (`None`: do not wait), and appends all completions to `out`. All chunks of the turn before must
    /// have been recycled.
    fn turn(&mut self, wait: Option<Millis>, out: &mut Vec<Completion>);
    /// How many direct descriptors this ring can hold.
    fn capacity(&self) -> u32;
    /// Appends what the ring counted, as (name, value), for a snapshot.
    fn health(&self, _out: &mut Vec<(&'static str, u64)>) {}
}
