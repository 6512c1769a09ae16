//! What all shards of a simulated world share: wires, listeners' queues, bells, the clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::End;
use super::cable::Cables;
use super::faults::{Dice, Faults, Tally};
use crate::io::{ListenerIndex, Millis};

pub(super) struct World {
    pub seed: u64,
    pub dice: Dice,
    pub faults: Faults,
    pub tally: Tally,
    pub now: Millis,
    pub wires: Vec<Wire>,
    pub ports: Vec<Port>,
    pub cables: Cables,
    /// Listeners that other nodes may connect to: port and listener.
    pub addresses: BTreeMap<SocketAddr, (usize, ListenerIndex)>,
}

/// What reaches a shard from outside.
pub(super) struct Port {
    pub node: u16,
    /// Which shard of the node.
    pub shard: u16,
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
    /// Whose ring it is open in.
    pub port: Option<usize>,
    /// The other shard is on its way to know of our FIN.
    pub fin_sent: bool,
    /// The cable it hangs on, when the client is a shard too.
    pub cable: Option<usize>,
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
            ports: Vec::new(),
            cables: Cables::default(),
            addresses: BTreeMap::new(),
        }
    }

    /// The next shard of a node; returns its port.
    pub fn add_shard(&mut self, node: u16, listeners: u8) -> usize {
        let shard = self.ports.iter().filter(|port| port.node == node && !port.is_gone()).count();
        let listeners = (0..listeners).map(|_| Queue::default()).collect();
        self.ports.push(Port { node, shard: shard as u16, listeners, bell: false });
        self.ports.len() - 1
    }

    /// The port of a node's shard: of its latest run.
    pub fn port(&self, node: u16, shard: u16) -> Option<usize> {
        let is_it = |port: &Port| port.node == node && port.shard == shard && !port.is_gone();
        self.ports.iter().rposition(is_it)
    }

    pub fn connect(&mut self, port: usize, listener: ListenerIndex) -> usize {
        let wire = self.wires.len();
        self.wires.push(Wire::new());
        let queue = &mut self.ports[port].listeners[usize::from(listener)];
        if queue.closed {
            self.wires[wire].refuse();
        } else {
            queue.waiting.push_back(wire);
        }
        wire
    }

    pub fn ring_bell(&mut self, node: u16, shard: u16) {
        if let Some(port) = self.port(node, shard) {
            self.ports[port].bell = true;
        }
    }

    pub fn close_listener(&mut self, port: usize, listener: ListenerIndex) {
        let queue = &mut self.ports[port].listeners[usize::from(listener)];
        queue.closed = true;
        for wire in queue.waiting.drain(..) {
            self.wires[wire].refuse();
        }
    }

    /// See [`super::SimNet::crash`].
    pub fn crash(&mut self, node: u16) {
        for port in 0..self.ports.len() {
            if self.ports[port].node != node || self.ports[port].is_gone() {
                continue;
            }
            for listener in 0..self.ports[port].listeners.len() {
                self.close_listener(port, listener as ListenerIndex);
            }
            self.ports[port].shard = GONE;
            self.addresses.retain(|_, (at, _)| *at != port);
            for wire in 0..self.wires.len() {
                if self.wires[wire].port == Some(port) && self.wires[wire].state == WireState::Open
                {
                    self.wires[wire].abort();
                    self.wires[wire].close();
                    self.pump(wire);
                }
            }
        }
    }

    /// Whether something that is due waits for a later turn.
    pub fn stalls(&mut self) -> bool {
        let stalls = self.dice.percent(self.faults.stall);
        self.tally.stalls += u64::from(stalls);
        stalls
    }
}

impl Port {
    /// Its process has ended.
    pub fn is_gone(&self) -> bool {
        self.shard == GONE
    }
}

/// The shard of a port whose process has ended.
pub(super) const GONE: u16 = u16::MAX;

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
            port: None,
            fin_sent: false,
            cable: None,
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
