//! Connections between shards: two wires, each end's own view, and what lies between them.
//!
//! Each shard sees its end as it sees a client's connection. The cable carries bytes, ends and resets from one to
//! the other, late and only while the nodes can reach each other. What is under way is bounded, as it is by
//! socket buffers: a reader that stalls is felt by the writer.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::End;
use super::world::{WireState, World};
use crate::io::Millis;

/// Bytes under way in one direction of a connection.
const UNDER_WAY_BYTES_MAX: usize = 256 * 1024;
/// Every node calls from the same port.
const CALLER_PORT: u16 = 40_000;

/// All cables of a world.
#[derive(Default)]
pub(super) struct Cables {
    all: Vec<Cable>,
    /// From which node nothing reaches which.
    cut: BTreeSet<(u16, u16)>,
}

struct Cable {
    /// The wires: of who connected, of who listens.
    wires: [usize; 2],
    nodes: [u16; 2],
    /// What left an end for the other one, and when it arrives.
    under_way: [VecDeque<(Millis, Parcel)>; 2],
    /// The end of each direction is under way.
    ended: [bool; 2],
}

enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    /// The socket is closed: what arrives there from now on is answered with a reset.
    Closed,
    Reset,
}

impl Cables {
    /// Whether anything gets from one node to the other.
    pub fn reaches(&self, from: u16, to: u16) -> bool {
        !self.cut.contains(&(from, to))
    }

    pub fn cut(&mut self, from: u16, to: u16) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self, from: u16, to: u16) {
        self.cut.remove(&(from, to));
    }

    pub fn heal_all(&mut self) {
        self.cut.clear();
    }
}

impl World {
    /// A connection from a node to a listener; returns the wire of who asked. The other one waits to be accepted.
    pub fn lay_cable(&mut self, from: u16, port: usize, listener: u8) -> usize {
        let to = self.ports[port].node;
        let there = self.connect(port, listener);
        let here = self.wires.len();
        self.wires.push(super::world::Wire::new());
        let cable = self.cables.all.len();
        self.cables.all.push(Cable {
            wires: [here, there],
            nodes: [from, to],
            under_way: Default::default(),
            ended: [false; 2],
        });
        for wire in [here, there] {
            self.wires[wire].cable = Some(cable);
            self.wires[wire].window = Some(UNDER_WAY_BYTES_MAX);
        }
        here
    }

    /// Everything that two nodes say to each other from now on is answered with a reset.
    pub fn reset_cables(&mut self, one: u16, other: u16) -> usize {
        let mut count = 0;
        for index in 0..self.cables.all.len() {
            let cable = &self.cables.all[index];
            let is_between = cable.nodes == [one, other] || cable.nodes == [other, one];
            let wires = cable.wires;
            if is_between && wires.iter().any(|wire| self.wires[*wire].state == WireState::Open) {
                count += 1;
                for wire in wires {
                    self.wires[wire].abort();
                }
            }
        }
        count
    }

    /// The address of who is at the other end of a cable.
    pub fn caller(&self, wire: usize) -> Option<SocketAddr> {
        let cable = &self.cables.all[self.wires[wire].cable?];
        let [high, low] = cable.nodes[0].to_be_bytes();
        Some(SocketAddr::from(([10, 0, high, low], CALLER_PORT)))
    }

    /// Moves what is under way on the cable of this wire.
    pub fn pump(&mut self, wire: usize) {
        let Some(index) = self.wires[wire].cable else { return };
        for from in 0..2 {
            self.collect(index, from);
            self.deliver(index, from);
        }
    }

    /// What an end has said goes on its way.
    fn collect(&mut self, index: usize, from: usize) {
        let delay_ms = self.dice.below(usize::from(self.faults.delay_ms) + 1) as Millis;
        let cable = &mut self.cables.all[index];
        let wire = &mut self.wires[cable.wires[from]];
        let parcels = &mut cable.under_way[from];
        let last = parcels.back().map_or(0, |(at, _)| *at);
        let at = last.max(self.now + delay_ms);
        if cable.ended[from] {
            return;
        }
        if !wire.to_client.is_empty() {
            parcels.push_back((at, Parcel::Bytes(std::mem::take(&mut wire.to_client))));
        }
        let is_closed = wire.state == WireState::Closed;
        let parcel = match wire.end {
            _ if wire.dead => Some(Parcel::Reset),
            Some(End::Reset) => Some(Parcel::Reset),
            Some(End::Fin) if is_closed => Some(Parcel::Closed),
            // The end may still be read after its FIN; the close follows.
            Some(End::Fin) if !wire.fin_sent => {
                wire.fin_sent = true;
                Some(Parcel::Fin)
            }
            _ => None,
        };
        if let Some(parcel) = parcel {
            cable.ended[from] = !matches!(parcel, Parcel::Fin);
            parcels.push_back((at, parcel));
        }
    }

    /// What has arrived is there to be read, as far as there is room.
    fn deliver(&mut self, index: usize, from: usize) {
        let cable = &mut self.cables.all[index];
        let (here, there) = (cable.wires[from], cable.wires[1 - from]);
        if !self.cables.cut.is_empty()
            && self.cables.cut.contains(&(cable.nodes[from], cable.nodes[1 - from]))
        {
            return;
        }
        while cable.under_way[from].front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, parcel)) = cable.under_way[from].pop_front() else { break };
            let far = &mut self.wires[there];
            match parcel {
                Parcel::Bytes(bytes) if far.state == WireState::Closed => {
                    // Nobody is there: the answer is a reset.
                    drop(bytes);
                    self.wires[here].abort();
                }
                Parcel::Bytes(bytes) => far.to_server.extend(bytes),
                Parcel::Fin => far.client_fin = true,
                Parcel::Closed => {
                    far.client_fin = true;
                    far.client_gone = true;
                }
                Parcel::Reset => far.abort(),
            }
        }
        let waiting: usize = cable.under_way[from]
            .iter()
            .map(|(_, parcel)| if let Parcel::Bytes(bytes) = parcel { bytes.len() } else { 0 })
            .sum();
        let unread = self.wires[there].to_server.len();
        let wire = &mut self.wires[here];
        let taken = waiting + unread + wire.to_client.len();
        wire.window = Some(UNDER_WAY_BYTES_MAX.saturating_sub(taken));
    }
}
