//! A kernel made of a seed: the real shard loop runs over it, faults and all, in virtual time.
//!
//! [`SimNet`] is the world: clients, listeners' queues, bells, the clock. [`SimIo`] is one shard's ring in
//! it. A test connects [`SimClient`]s, lets the shards turn, advances the clock, and looks at what arrived.
//!
//! It also watches the caller: one send in flight, no receive armed twice, close only with nothing pending,
//! every chunk recycled in its turn, no stale id. A broken obligation panics with the seed.
//!
//! Always compiled: a feature flag would have to be remembered by every test command, and what nobody calls
//! costs the binary nothing. Refused: threads and real sockets, whose failures no seed brings back.

mod cable;
mod faults;
mod ring;
mod world;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use faults::{ChunkLen, Faults, Tally};
pub use ring::SimIo;

use super::{ListenerIndex, Millis};
use world::{WireState, World};

/// A world of shards and clients, seen from one of its nodes. Clones are the same world.
#[derive(Clone)]
pub struct SimNet {
    world: Arc<Mutex<World>>,
    node: u16,
}

/// The far end of one connection.
pub struct SimClient {
    world: Arc<Mutex<World>>,
    wire: usize,
}

/// How the server ended a connection, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN: everything sent before was delivered.
    Fin,
    /// RST: refused, or closed with unread bytes (as Linux does), or aborted.
    Reset,
}

impl SimNet {
    /// A world whose every choice follows from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed, faults))), node: 0 }
    }

    /// The same world, seen from another node: shards are numbered anew there. The first one is 0.
    pub fn node(&self, node: u16) -> Self {
        Self { world: self.world.clone(), node }
    }

    /// Makes a listener known to the other nodes; a later one takes the address over.
    pub fn listen(&self, shard: u16, listener: ListenerIndex, addr: SocketAddr) {
        let mut world = self.lock();
        let port = world.port(self.node, shard).expect("there is such a shard");
        world.addresses.insert(addr, (port, listener));
    }

    /// The process of this node ends: its listeners refuse, its connections are reset. The rings of its shards
    /// mean nothing from now on; its next shards are numbered from 0.
    pub fn crash(&self) {
        self.lock().crash(self.node);
    }

    /// Nothing said by this node reaches the other one any more.
    pub fn mute(&self, to: u16) {
        self.lock().cables.cut(self.node, to);
    }

    /// Nothing reaches from these nodes to those, nor back.
    pub fn partition(&self, these: &[u16], those: &[u16]) {
        let mut world = self.lock();
        for one in these {
            for other in those {
                world.cables.cut(*one, *other);
                world.cables.cut(*other, *one);
            }
        }
    }

    /// The two nodes reach each other again, in both directions.
    pub fn heal_between(&self, one: u16, other: u16) {
        let mut world = self.lock();
        world.cables.heal(one, other);
        world.cables.heal(other, one);
    }

    /// Every node reaches every other again.
    pub fn heal(&self) {
        self.lock().cables.heal_all();
    }

    /// Resets all connections between two nodes; returns how many there were.
    pub fn reset_between(&self, one: u16, other: u16) -> usize {
        self.lock().reset_cables(one, other)
    }

    /// The ring of the next shard (numbered from 0) with `listeners` listeners and room for `capacity`
    /// connections; 64 receive buffers of 2 KiB.
    pub fn shard(&self, listeners: u8, capacity: u32) -> SimIo {
        self.shard_with_buffers(listeners, capacity, 64, 2048)
    }

    /// The same with `buffers` receive buffers of `buffer_bytes`.
    pub fn shard_with_buffers(
        &self,
        listeners: u8,
        capacity: u32,
        buffers: u16,
        buffer_bytes: u32,
    ) -> SimIo {
        let port = self.lock().add_shard(self.node, listeners);
        SimIo::new(self.world.clone(), port, capacity, buffers, buffer_bytes)
    }

    /// A client that connects to a listener of a shard. It waits in the queue until accepted.
    pub fn connect(&self, shard: u16, listener: ListenerIndex) -> SimClient {
        let mut world = self.lock();
        let port = world.port(self.node, shard).expect("there is such a shard");
        let wire = world.connect(port, listener);
        drop(world);
        SimClient { world: self.world.clone(), wire }
    }

    /// Lets `ms` milliseconds pass.
    pub fn advance(&self, ms: Millis) {
        self.lock().now += ms;
    }

    /// Virtual time.
    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// The seed, for failure messages.
    pub fn seed(&self) -> u64 {
        self.lock().seed
    }

    /// Changes the faults from now on, e.g. to let the world heal.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// What went wrong so far, so that a test can insist that it did.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Rings a shard's bell as a foreign thread does; give it to [`crate::mail::Mailroom::new`].
    pub fn foreign_bell(&self) -> impl Fn(u16) + Send + Sync + 'static {
        let (world, node) = (self.world.clone(), self.node);
        move |shard| lock(&world).ring_bell(node, shard)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}

impl SimClient {
    /// Sends bytes to the server; they arrive in the pieces the faults choose.
    pub fn send(&self, bytes: &[u8]) {
        self.with(|wire| wire.to_server.extend(bytes));
    }

    /// Takes what has arrived since the last call.
    pub fn received(&self) -> Vec<u8> {
        self.with(|wire| std::mem::take(&mut wire.to_client))
    }

    /// Sends FIN and keeps reading.
    pub fn finish(&self) {
        self.with(|wire| wire.client_fin = true);
    }

    /// Closes: FIN, and whatever the server sends from now on is answered with a reset.
    pub fn close(&self) {
        self.with(|wire| {
            wire.client_fin = true;
            wire.client_gone = true;
        });
    }

    /// Sends RST: bytes not yet received by the server are lost.
    pub fn reset(&self) {
        self.with(|wire| wire.abort());
    }

    /// Stops reading: the server's sends complete no more.
    pub fn stop_reading(&self) {
        self.with(|wire| wire.window = Some(0));
    }

    /// Reads at most `bytes` more, then no further.
    pub fn read_only(&self, bytes: usize) {
        self.with(|wire| wire.window = Some(bytes));
    }

    /// Reads everything again.
    pub fn resume_reading(&self) {
        self.with(|wire| wire.window = None);
    }

    /// How the server ended the connection; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.with(|wire| wire.end)
    }

    /// Whether a shard has accepted it (and not yet closed it).
    pub fn is_open(&self) -> bool {
        self.with(|wire| wire.state == WireState::Open)
    }

    /// Bytes sent and not yet handed to the shard.
    pub fn unread(&self) -> usize {
        self.with(|wire| wire.to_server.len())
    }

    fn with<T>(&self, act: impl FnOnce(&mut world::Wire) -> T) -> T {
        act(&mut lock(&self.world).wires[self.wire])
    }
}

/// A test that panicked while holding the world must still print its own message, not that of the lock.
fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
