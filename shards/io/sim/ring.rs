//! One shard's simulated ring, and the watch over what its shard asks of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::faults::Dice;
use super::world::{Wire, WireState, World};
use super::{End, SimClient, lock};
use crate::io::{Chunk, Completion, ConnId, Io, ListenerIndex, Millis, RecvEnd};

/// A shard's ring in a [`super::SimNet`]. Never blocks: time passes only by [`super::SimNet::advance`].
pub struct SimIo {
    world: Arc<Mutex<World>>,
    seed: u64,
    /// Its place in the world.
    port: usize,
    node: u16,
    shard: u16,
    capacity: u32,
    slots: Vec<Slot>,
    dials: Vec<Dial>,
    listeners: Vec<Listener>,
    buffers: Vec<Vec<u8>>,
    lent: Vec<bool>,
    /// Completions of earlier generations, for some later turn.
    late: Vec<Completion>,
    dice: Dice,
    now: Millis,
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    /// The generation that used the slot before.
    previous: Option<u32>,
}

struct Open {
    wire: usize,
    /// Told by the first call that names the connection.
    generation: Option<u32>,
    recv: Recv,
    send: Option<Sending>,
    ending: bool,
    closing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recv {
    Idle,
    Armed,
    Cancelling,
}

struct Sending {
    buffer: Vec<u8>,
    from: usize,
    done: usize,
}

/// A connection that we asked for.
struct Dial {
    token: u32,
    target: SocketAddr,
    ends_at: Millis,
}

#[derive(Debug, Clone, Copy, Default)]
struct Listener {
    armed: bool,
    stopping: bool,
}

impl SimIo {
    pub(super) fn new(
        world: Arc<Mutex<World>>,
        port: usize,
        capacity: u32,
        buffers: u16,
        buffer_bytes: u32,
    ) -> Self {
        let (seed, now, node, shard, listeners) = {
            let world = lock(&world);
            let place = &world.ports[port];
            (world.seed, world.now, place.node, place.shard, place.listeners.len())
        };
        Self {
            world,
            seed,
            port,
            node,
            shard,
            capacity,
            slots: Vec::new(),
            dials: Vec::new(),
            listeners: vec![Listener::default(); listeners],
            buffers: vec![vec![0; buffer_bytes as usize]; usize::from(buffers)],
            lent: vec![false; usize::from(buffers)],
            late: Vec::new(),
            dice: Dice::new(seed ^ (port as u64).rotate_left(32)),
            now,
        }
    }

    /// What [`Io::adopt`] is to a real ring: an open connection that came from no listener, and its far end.
    pub fn adopt_client(&mut self) -> (u32, SimClient) {
        let world = self.world.clone();
        let wire = {
            let mut world = lock(&world);
            world.wires.push(Wire::new());
            world.wires.len() - 1
        };
        let slot = self.free_slot();
        self.require(slot.is_some(), "a connection is adopted into a full table");
        let slot = slot.unwrap_or_default();
        self.open(&mut lock(&world), slot, wire);
        (slot, SimClient { world, wire })
    }

    /// How many connections are open.
    pub fn open_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.open.is_some()).count()
    }

    #[track_caller]
    fn require(&self, holds: bool, broken: impl std::fmt::Display) {
        assert!(holds, "seed {}: shard {}: {broken}", self.seed, self.shard);
    }

    /// The open connection behind an id, after checking that the caller may still use it.
    #[track_caller]
    fn conn(&mut self, id: ConnId, act: &str) -> &mut Open {
        let (seed, shard) = (self.seed, self.shard);
        let place = format!("seed {seed}: shard {shard}: {act} of {id:?}");
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            panic!("{place}: there is no such slot");
        };
        let previous = slot.previous;
        let Some(open) = &mut slot.open else { panic!("{place}: the slot is not open") };
        let generation = *open.generation.get_or_insert(id.generation);
        assert_eq!(generation, id.generation, "{place}: stale");
        assert_ne!(previous, Some(generation), "{place}: the generation was not bumped");
        assert!(!open.closing, "{place}: after close");
        open
    }

    fn free_slot(&mut self) -> Option<u32> {
        let free: Vec<u32> = (0..self.slots.len() as u32)
            .filter(|&slot| self.slots[slot as usize].open.is_none())
            .collect();
        // Reuse is the interesting case, so it is preferred to a slot never used.
        if !free.is_empty() && (self.slots.len() as u32 == self.capacity || self.dice.percent(80)) {
            return Some(free[self.dice.below(free.len())]);
        }
        if (self.slots.len() as u32) < self.capacity {
            self.slots.push(Slot::default());
            return Some(self.slots.len() as u32 - 1);
        }
        None
    }

    fn open(&mut self, world: &mut World, slot: u32, wire: usize) {
        world.wires[wire].state = WireState::Open;
        world.wires[wire].port = Some(self.port);
        self.slots[slot as usize].open = Some(Open {
            wire,
            generation: None,
            recv: Recv::Idle,
            send: None,
            ending: false,
            closing: false,
        });
    }

    fn run_listener(
        &mut self,
        world: &mut World,
        listener: ListenerIndex,
        out: &mut Vec<Completion>,
    ) {
        let index = usize::from(listener);
        while self.listeners[index].armed {
            let mut end = |io: &mut Self, errno| {
                io.listeners[index] = Listener::default();
                out.push(Completion::AcceptEnded { listener, errno });
            };
            if self.listeners[index].stopping {
                return end(self, libc::ECANCELED);
            }
            let waiting = !world.ports[self.port].listeners[index].waiting.is_empty();
            if !waiting || world.stalls() {
                return;
            }
            if world.dice.percent(world.faults.accept_error) {
                world.tally.accept_errors += 1;
                return end(self, libc::EMFILE);
            }
            let queue = &mut world.ports[self.port].listeners[index].waiting;
            let Some(wire) = queue.pop_front() else { return };
            let Some(slot) = self.free_slot() else {
                // As the kernel does with a full descriptor table: the connection is lost.
                world.tally.table_full += 1;
                world.wires[wire].refuse();
                return end(self, libc::ENFILE);
            };
            self.open(world, slot, wire);
            out.push(Completion::Accepted { listener, slot });
            self.maybe_late(world, slot);
            if world.dice.percent(world.faults.accept_rearm) {
                self.listeners[index] = Listener::default();
                out.push(Completion::AcceptEnded { listener, errno: 0 });
            }
        }
    }

    /// A ghost of the slot's previous user.
    fn maybe_late(&mut self, world: &mut World, slot: u32) {
        let Some(generation) = self.slots[slot as usize].previous else { return };
        if world.dice.percent(world.faults.late) {
            world.tally.late += 1;
            let id = ConnId { slot, generation };
            self.late.push(match world.dice.below(3) {
                0 => Completion::RecvEnded { id, why: RecvEnd::Cancelled },
                1 => Completion::Sent { id, buffer: Vec::new(), result: Err(libc::ECANCELED) },
                _ => match self.lent.iter().position(|lent| !lent) {
                    Some(buffer) => {
                        self.lent[buffer] = true;
                        self.buffers[buffer].fill(b'?');
                        let chunk = Chunk { buffer: buffer as u16, len: 1 };
                        Completion::Received { id, chunk }
                    }
                    None => Completion::RecvEnded { id, why: RecvEnd::Eof },
                },
            });
        }
    }

    fn run_recv(&mut self, world: &mut World, slot: u32, out: &mut Vec<Completion>) {
        loop {
            let Some(open) = &self.slots[slot as usize].open else { return };
            let Some(generation) = open.generation.filter(|_| open.recv != Recv::Idle) else {
                return;
            };
            let (id, wire) = (ConnId { slot, generation }, open.wire);
            let cancelling = open.recv == Recv::Cancelling;
            let mut end = |io: &mut Self, why| {
                if let Some(open) = &mut io.slots[slot as usize].open {
                    open.recv = Recv::Idle;
                }
                out.push(Completion::RecvEnded { id, why });
            };
            // A cancellation may be overtaken by bytes that were already there.
            if cancelling && world.dice.percent(50) {
                return end(self, RecvEnd::Cancelled);
            }
            let far = &world.wires[wire];
            let (dead, available, fin) = (far.dead, far.to_server.len(), far.client_fin);
            if (dead || 0 < available || fin) && !cancelling && world.stalls() {
                return;
            }
            if dead {
                return end(self, RecvEnd::Error(libc::ECONNRESET));
            }
            if available == 0 {
                if fin {
                    end(self, RecvEnd::Eof);
                } else if cancelling {
                    end(self, RecvEnd::Cancelled);
                }
                return;
            }
            let buffer = self.lent.iter().position(|lent| !lent);
            let pretended = world.dice.percent(world.faults.no_buffers);
            let Some(buffer) = buffer.filter(|_| !pretended) else {
                world.tally.no_buffers += 1;
                return end(self, RecvEnd::NoBuffers);
            };
            self.lent[buffer] = true;
            let room = self.buffers[buffer].len();
            let len = world.dice.piece(world.faults.chunk, available, room);
            let bytes = world.wires[wire].to_server.drain(..len);
            for (place, byte) in self.buffers[buffer].iter_mut().zip(bytes) {
                *place = byte;
            }
            let chunk = Chunk { buffer: buffer as u16, len: len as u32 };
            out.push(Completion::Received { id, chunk });
            if world.dice.percent(world.faults.rearm) {
                world.tally.rearms += 1;
                if let Some(open) = &mut self.slots[slot as usize].open {
                    open.recv = Recv::Idle;
                }
                return out.push(Completion::RecvEnded { id, why: RecvEnd::Rearm });
            }
        }
    }

    fn run_send(&mut self, world: &mut World, slot: u32, out: &mut Vec<Completion>) {
        let Some(open) = &mut self.slots[slot as usize].open else { return };
        let Some(sending) = &mut open.send else { return };
        let Some(generation) = open.generation else { return };
        let wire = &mut world.wires[open.wire];
        let rest = &sending.buffer[sending.from + sending.done..];
        let mut trouble = None;
        if open.ending {
            trouble = Some(libc::ECANCELED);
        } else if wire.dead || wire.end.is_some() {
            trouble = Some(if wire.dead { libc::ECONNRESET } else { libc::EPIPE });
        } else if !rest.is_empty() && world.dice.percent(world.faults.short_send) {
            world.tally.short_sends += 1;
            let some = &rest[..world.dice.below(rest.len())];
            sending.done += wire.deliver(some).unwrap_or(0);
            wire.abort();
            trouble = Some(libc::EPIPE);
        } else {
            let stalled = world.dice.percent(world.faults.stall);
            world.tally.stalls += u64::from(stalled);
            // A stalled send still makes some progress, like one into a nearly full socket buffer.
            let most = if stalled { world.dice.below(rest.len()) } else { rest.len() };
            sending.done += wire.deliver(&rest[..most]).unwrap_or(0);
            if stalled || sending.from + sending.done < sending.buffer.len() {
                return;
            }
        }
        let result = match trouble {
            Some(errno) if sending.done == 0 => Err(errno),
            _ => Ok(sending.done),
        };
        let id = ConnId { slot, generation };
        let buffer = std::mem::take(&mut sending.buffer);
        open.send = None;
        out.push(Completion::Sent { id, buffer, result });
    }

    fn run_slot(&mut self, world: &mut World, slot: u32, out: &mut Vec<Completion>) {
        let Some(open) = &self.slots[slot as usize].open else { return };
        if open.closing {
            if !world.stalls() {
                let wire = open.wire;
                world.wires[wire].close();
                world.pump(wire);
                let generation = open.generation;
                self.slots[slot as usize] = Slot { open: None, previous: generation };
                out.push(Completion::Closed { slot });
            }
            return;
        }
        let index = open.wire;
        let wire = &mut world.wires[index];
        if !wire.dead && world.dice.permille(world.faults.reset_permille) {
            world.tally.resets += 1;
            wire.abort();
        }
        world.pump(index);
        if world.dice.percent(50) {
            self.run_recv(world, slot, out);
            self.run_send(world, slot, out);
        } else {
            self.run_send(world, slot, out);
            self.run_recv(world, slot, out);
        }
        world.pump(index);
    }

    /// What became of the connections that we asked for.
    fn run_dials(&mut self, world: &mut World, out: &mut Vec<Completion>) {
        for dial in std::mem::take(&mut self.dials) {
            let token = dial.token;
            let listener = world.addresses.get(&dial.target).copied();
            let there = listener.map(|(port, _)| world.ports[port].node);
            let is_reached = there.is_none_or(|there| {
                world.cables.reaches(self.node, there) && world.cables.reaches(there, self.node)
            });
            let result = match listener {
                _ if !is_reached && dial.ends_at <= world.now => {
                    world.tally.dial_timeouts += 1;
                    Err(libc::ETIMEDOUT)
                }
                _ if !is_reached || world.stalls() => {
                    self.dials.push(dial);
                    continue;
                }
                _ if world.dice.percent(world.faults.dial_error) => {
                    world.tally.dial_errors += 1;
                    Err(libc::ECONNREFUSED)
                }
                Some((port, listener))
                    if !world.ports[port].listeners[usize::from(listener)].closed =>
                {
                    match self.free_slot() {
                        Some(slot) => {
                            let wire = world.lay_cable(self.node, port, listener);
                            self.open(world, slot, wire);
                            Ok(slot)
                        }
                        None => Err(libc::ENFILE),
                    }
                }
                _ => Err(libc::ECONNREFUSED),
            };
            out.push(Completion::Connected { token, result });
            if let Ok(slot) = result {
                self.maybe_late(world, slot);
            }
        }
    }
}

impl Io for SimIo {
    fn now(&self) -> Millis {
        self.now
    }

    fn unix_ms(&self) -> u64 {
        UNIX_MS_AT_START + self.now
    }

    fn random(&mut self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            let word = self.dice.next().to_ne_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    fn accept(&mut self, listener: ListenerIndex) {
        let armed = self.listeners[usize::from(listener)].armed;
        self.require(!armed, format_args!("listener {listener} is armed twice"));
        let closed = lock(&self.world).ports[self.port].listeners[usize::from(listener)].closed;
        self.require(!closed, format_args!("listener {listener} is armed after its close"));
        self.listeners[usize::from(listener)].armed = true;
    }

    fn caller(&mut self, slot: u32) -> Option<SocketAddr> {
        let wire = self.slots.get(slot as usize)?.open.as_ref()?.wire;
        lock(&self.world).caller(wire)
    }

    fn accept_stop(&mut self, listener: ListenerIndex) {
        let state = &mut self.listeners[usize::from(listener)];
        state.stopping = state.armed;
    }

    fn listener_close(&mut self, listener: ListenerIndex) {
        self.accept_stop(listener);
        lock(&self.world).close_listener(self.port, listener);
    }

    fn recv(&mut self, id: ConnId) {
        let conn = self.conn(id, "recv");
        let armed = conn.recv != Recv::Idle;
        conn.recv = Recv::Armed;
        self.require(!armed, format_args!("a receive of {id:?} is armed twice"));
    }

    fn recv_stop(&mut self, id: ConnId) {
        let conn = self.conn(id, "recv_stop");
        if conn.recv == Recv::Armed {
            conn.recv = Recv::Cancelling;
        }
    }

    fn send(&mut self, id: ConnId, buffer: Vec<u8>, from: usize) {
        let nothing = buffer.len() <= from;
        self.require(!nothing, format_args!("a send of {id:?} has no bytes"));
        let conn = self.conn(id, "send");
        let flying = conn.send.replace(Sending { buffer, from, done: 0 }).is_some();
        self.require(!flying, format_args!("two sends of {id:?} are in flight"));
    }

    fn shutdown(&mut self, id: ConnId) {
        let conn = self.conn(id, "shutdown");
        conn.ending = true;
        if conn.recv == Recv::Armed {
            conn.recv = Recv::Cancelling;
        }
    }

    fn shutdown_write(&mut self, id: ConnId) {
        let wire = self.conn(id, "shutdown_write").wire;
        lock(&self.world).wires[wire].end.get_or_insert(End::Fin);
    }

    fn close(&mut self, id: ConnId) {
        let conn = self.conn(id, "close");
        let (receiving, sending) = (conn.recv != Recv::Idle, conn.send.is_some());
        conn.closing = true;
        self.require(!receiving, format_args!("{id:?} is closed with its receive armed"));
        self.require(!sending, format_args!("{id:?} is closed with a send in flight"));
    }

    fn connect(
        &mut self,
        token: u32,
        target: SocketAddr,
        _source: Option<SocketAddr>,
        within: Option<Millis>,
    ) {
        let ends_at = self.now + within.unwrap_or(SYN_MS_MAX).min(SYN_MS_MAX);
        self.dials.push(Dial { token, target, ends_at });
    }

    fn adopt(&mut self, _fd: OwnedFd) -> io::Result<u32> {
        let what = "a simulated ring has no descriptors: use adopt_client";
        Err(io::Error::new(io::ErrorKind::Unsupported, what))
    }

    fn ring_bell(&mut self, shard: u16) {
        lock(&self.world).ring_bell(self.node, shard);
    }

    fn bytes(&mut self, chunk: &Chunk) -> &mut [u8] {
        let buffer = usize::from(chunk.buffer);
        self.require(self.lent[buffer], format_args!("buffer {buffer} is read after its return"));
        &mut self.buffers[buffer][..chunk.len as usize]
    }

    fn recycle(&mut self, chunk: Chunk) {
        let buffer = usize::from(chunk.buffer);
        self.require(self.lent[buffer], format_args!("buffer {buffer} is recycled twice"));
        self.lent[buffer] = false;
        // Whoever still looks at it must notice.
        self.buffers[buffer].fill(0xDD);
    }

    fn turn(&mut self, _wait: Option<Millis>, out: &mut Vec<Completion>) {
        let kept = self.lent.iter().filter(|lent| **lent).count();
        let ghosts = |late: &&Completion| matches!(late, Completion::Received { .. });
        let held = self.late.iter().filter(ghosts).count();
        self.require(kept == held, format_args!("{kept} chunks are lent, {held} expected"));

        let shared = self.world.clone();
        let mut world = lock(&shared);
        self.now = world.now;
        out.append(&mut self.late);
        let port = &mut world.ports[self.port];
        if port.bell && !world.stalls() {
            world.ports[self.port].bell = false;
            out.push(Completion::Bell);
        }
        // Connections complete in any order; those of one connection keep theirs.
        let mut order: Vec<u32> = (0..self.slots.len() as u32).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, world.dice.below(index + 1));
        }
        self.run_dials(&mut world, out);
        let accepts_first = world.dice.percent(50);
        if accepts_first {
            self.run_listeners(&mut world, out);
        }
        for slot in order {
            self.run_slot(&mut world, slot, out);
        }
        if !accepts_first {
            self.run_listeners(&mut world, out);
        }
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }
}

impl SimIo {
    fn run_listeners(&mut self, world: &mut World, out: &mut Vec<Completion>) {
        for listener in 0..self.listeners.len() {
            self.run_listener(world, listener as ListenerIndex, out);
        }
    }
}

/// How long the kernel asks an address that does not answer, milliseconds (tcp_syn_retries of 6).
const SYN_MS_MAX: Millis = 127_000;
/// Some day in 2027.
const UNIX_MS_AT_START: u64 = 1_800_000_000_000;
