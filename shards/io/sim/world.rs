//! What all shards of a simulated world share: wires, listeners' queues, bells, the clock.

use std::collections::VecDeque;

use super::End;
use super::faults::{Dice, Faults, Tally};
use crate::io::{ListenerIndex, Millis};

pub(super) struct World {
    pub seed: u64,
    pub dice: Dice,
    pub faults: Faults,
    pub tally: Tally,
    pub now: Millis,
    pub wires: Vec<Wire>,
    pub shards: Vec<Port>,
}

/// What reaches a shard from outside.
pub(super) struct Port {
    pub listeners: Vec<Queue>,
    pub bell: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    pub closed: bool,
    pub waiting: VecDeque<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireState {
    Queued,
    Open,
    Closed,
}

/// One connection between a client and a shard.
pub(super) struct Wire {
    pub state: WireState,
    pub to_server: VecDeque<u8>,
    pub to_client: Vec<u8>,
    /// How much more the client reads; `None`: everything.
    pub window: Option<usize>,
    pub client_fin: bool,
    /// The client closed its socket: the first send after that is swallowed and kills the connection.
    pub client_gone: bool,
    /// RST travelled, in either direction.
    pub dead: bool,
    pub end: Option<End>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            dice: Dice::new(seed),
            faults,
            tally: Tally::default(),
            now: 1_000,
            wires: Vec::new(),
            shards: Vec::new(),
        }
    }

    pub fn add_shard(&mut self, listeners: u8) -> u16 {
        let listeners = (0..listeners).map(|_| Queue::default()).collect();
        self.shards.push(Port { listeners, bell: false });
        (self.shards.len() - 1) as u16
    }

    pub fn connect(&mut self, shard: u16, listener: ListenerIndex) -> usize {
        let wire = self.wires.len();
        self.wires.push(Wire::new());
        let queue = &mut self.shards[usize::from(shard)].listeners[usize::from(listener)];
        if queue.closed {
            self.wires[wire].refuse();
        } else {
            queue.waiting.push_back(wire);
        }
        wire
    }

    pub fn ring_bell(&mut self, shard: u16) {
        if let Some(port) = self.shards.get_mut(usize::from(shard)) {
            port.bell = true;
        }
    }

    pub fn close_listener(&mut self, shard: u16, listener: ListenerIndex) {
        let queue = &mut self.shards[usize::from(shard)].listeners[usize::from(listener)];
        queue.closed = true;
        for wire in queue.waiting.drain(..) {
            self.wires[wire].refuse();
        }
    }

    /// Whether something that is due waits for a later turn.
    pub fn stalls(&mut self) -> bool {
        let stalls = self.dice.percent(self.faults.stall);
        self.tally.stalls += u64::from(stalls);
        stalls
    }
}

impl Wire {
    pub fn new() -> Self {
        Self {
            state: WireState::Queued,
            to_server: VecDeque::new(),
            to_client: Vec::new(),
            window: None,
            client_fin: false,
            client_gone: false,
            dead: false,
            end: None,
        }
    }

    /// RST from the client or the network.
    pub fn abort(&mut self) {
        self.dead = true;
        self.to_server.clear();
    }

    /// RST from the server's kernel, before anybody accepted.
    pub fn refuse(&mut self) {
        self.state = WireState::Closed;
        self.dead = true;
        self.end = Some(End::Reset);
    }

    /// The server closes its socket.
    pub fn close(&mut self) {
        self.state = WireState::Closed;
        let unread = !self.to_server.is_empty();
        if unread || self.dead {
            self.end = Some(End::Reset);
        } else {
            self.end.get_or_insert(End::Fin);
        }
    }

    /// Takes as many of `bytes` as the client reads now; `None` when the connection is broken.
    pub fn deliver(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.dead || self.end.is_some() {
            return None;
        }
        if self.client_gone {
            // The kernel took them; the client's kernel answers with RST.
            self.dead = true;
            return Some(bytes.len());
        }
        let len = self.window.unwrap_or(usize::MAX).min(bytes.len());
        if let Some(window) = &mut self.window {
            *window -= len;
        }
        self.to_client.extend_from_slice(&bytes[..len]);
        Some(len)
    }
}
