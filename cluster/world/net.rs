//! The wires of the world.

use std::net::SocketAddr;

use crate::Millis;
use crate::link::{self, CONNECT_MS_MAX, HANDSHAKE_MS_MAX, Identity};
use crate::membership::DialFailed;

use super::node::{Item, Payload, Power};
use super::{World, address};

/// What goes wrong on wires, all the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Of 1000 messages, so many are lost.
    pub loss_permille: u64,
    /// Of 1000 messages, so many come twice.
    pub double_permille: u64,
    /// Of 1000 messages, so many are late, and overtaken.
    pub delay_permille: u64,
    /// By up to so much.
    pub delay_ms: Millis,
}

/// Bytes of a frame around a message: its length, its kind, the message's length.
const FRAME_BYTES: u64 = 6;

/// One connection, from who dialled to who was dialled.
pub(super) struct Link {
    from: usize,
    to: usize,
    to_epoch: u32,
    to_run: u32,
    from_epoch: u32,
    dialled: SocketAddr,
    state: LinkState,
    /// What a wire that is cut holds back, as TCP would send it again later.
    held: Vec<Payload>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Knocking,
    Established,
    /// Its dialler has not been told yet.
    Broken,
}

impl World {
    fn pair(a: usize, b: usize) -> (usize, usize) {
        (a.min(b), a.max(b))
    }

    /// Whether there is no wire between these two.
    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&Self::pair(a, b))
    }

    /// No wire between these two: nothing arrives, nobody is told.
    pub fn cut_wire(&mut self, a: usize, b: usize) {
        if a != b {
            self.cut.insert(Self::pair(a, b));
        }
    }

    /// No wire between any of these and any other node.
    pub fn partition(&mut self, side: &[usize]) {
        for a in side {
            for b in (0..self.nodes.len()).filter(|slot| !side.contains(slot)) {
                self.cut_wire(*a, b);
            }
        }
    }

    /// All wires are there again, and bring what they held back.
    pub fn heal(&mut self) {
        self.cut.clear();
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let (held, from, to) = (std::mem::take(&mut link.held), link.from, link.to);
            let from = self.nodes[from].number;
            for payload in held {
                let delay = self.latency();
                self.send_item(to, delay, Item::Bytes { from, payload });
            }
            // A host that went away while the wire was cut, or whose kernel knows nothing of this connection.
            self.reset_if_gone(id);
        }
    }

    fn latency(&mut self) -> Millis {
        1 + self.dice.below(2)
    }

    pub(super) fn connect(&mut self, from: usize, dialled: SocketAddr) {
        let to = (0..self.nodes.len()).find(|slot| address(*slot) == dialled);
        let latency = self.latency();
        let fail = |why| Item::Failed { dialled, why };
        let Some(to) = to else {
            return self.send_item(from, latency, fail(DialFailed::ConnectionRefused));
        };
        if self.is_cut(from, to) || self.nodes[to].power == Power::HostGone {
            return self.send_item(from, CONNECT_MS_MAX, fail(DialFailed::Unreachable));
        }
        if self.nodes[to].power == Power::ProcessGone {
            return self.send_item(from, latency, fail(DialFailed::ConnectionRefused));
        }
        self.counter += 1;
        let link = self.counter;
        let (from_epoch, to_epoch) = (self.nodes[from].epoch, self.nodes[to].epoch);
        let (state, held) = (LinkState::Knocking, Vec::new());
        let to_run = self.nodes[to].run;
        let record = Link { from, to, to_epoch, to_run, from_epoch, dialled, state, held };
        self.links.insert(link, record);
        let who = self.nodes[from].identity(from);
        self.send_item(to, latency, Item::Knock { link, who, from });
        // Whatever happens to the other end, the handshake ends by itself.
        let slow = Item::Failed { dialled, why: DialFailed::Unreachable };
        self.give_up_later(link, from, slow);
    }

    fn give_up_later(&mut self, link: u64, from: usize, item: Item) {
        let run = self.nodes[from].run;
        let at = self.now + HANDSHAKE_MS_MAX;
        self.schedule(at, super::Happening::GiveUp { link, slot: from, run, item });
    }

    pub(super) fn give_up(&mut self, link: u64, slot: usize, run: u32, item: Item) {
        if self.links.get(&link).is_some_and(|link| link.state == LinkState::Knocking) {
            self.links.remove(&link);
            self.arrive(slot, run, item);
        }
    }

    /// The handshake, as the other end sees it: three more messages, if the wire is there.
    pub(super) fn answer_knock(&mut self, slot: usize, id: u64, who: Identity, from: usize) {
        if !self.links.contains_key(&id) || self.is_cut(slot, from) {
            return; // Somebody gives up in the end.
        }
        let Some(view) = self.view(slot) else { return };
        let me = self.nodes[slot].identity(slot);
        let refused = link::admit(&me, &who, view).is_err();
        let dialled = address(slot);
        let delay = 3 * self.latency();
        if refused {
            self.links.remove(&id);
            let failed = Item::Failed { dialled, why: DialFailed::Handshake };
            self.send_item(from, delay, failed);
        } else {
            self.send_item(from, delay, Item::Linked { link: id, dialled, who: me });
        }
    }

    pub(super) fn establish(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.state = LinkState::Established;
            self.routes.insert((link.from, self.nodes[link.to].number), id);
        }
    }

    pub(super) fn close(&mut self, link: u64) {
        self.links.remove(&link);
    }

    /// A broken link whose dialler is being told: whether that is still news.
    pub(super) fn forget_broken(&mut self, slot: usize, link: u64) -> bool {
        self.links.remove(&link).is_some_and(|link| link.from == slot)
    }

    pub(super) fn transmit(&mut self, from: usize, to: u16, payload: Payload) {
        let Some(id) = self.routes.get(&(from, to)).copied() else { return };
        let Some(link) = self.links.get(&id) else { return };
        if link.state != LinkState::Established {
            return;
        }
        let (to, to_run) = (link.to, link.to_run);
        self.bytes += payload.bytes().len() as u64 + FRAME_BYTES;
        self.messages += 1;
        if self.is_cut(from, to) {
            if let Some(link) = self.links.get_mut(&id) {
                link.held.push(payload);
            }
            return;
        }
        if self.nodes[to].run != to_run {
            return self.reset_if_gone(id);
        }
        let faults = self.faults;
        let copies = if self.dice.permille(faults.loss_permille) {
            0
        } else {
            1 + u64::from(self.dice.permille(faults.double_permille))
        };
        for _ in 0..copies {
            let mut delay = self.latency();
            if self.dice.permille(faults.delay_permille) {
                delay += self.dice.below(faults.delay_ms);
            }
            let from = self.nodes[from].number;
            self.send_item(to, delay, Item::Bytes { from, payload: payload.clone() });
        }
    }

    /// A node ends its links with a run of another one. Its peer sees those that it dialled break.
    pub(super) fn cut_links(&mut self, slot: usize, node: u16, epoch: u32) {
        let mut broken = Vec::new();
        let nodes = &self.nodes;
        self.links.retain(|id, link| {
            let mine = link.from == slot
                && nodes[link.to].number == node
                && link.to_epoch == epoch
                && link.state != LinkState::Knocking;
            let theirs = link.to == slot
                && nodes[link.from].number == node
                && link.from_epoch == epoch
                && link.state == LinkState::Established;
            if theirs {
                broken.push(*id);
            }
            !mine
        });
        broken.into_iter().for_each(|id| self.break_link(id));
    }

    /// Resets a link; its dialler is told, if the wire lets it know.
    pub(super) fn break_link(&mut self, id: u64) {
        let latency = self.latency();
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.state != LinkState::Established {
            return;
        }
        let (from, to) = (link.from, link.to);
        link.state = LinkState::Broken;
        if !self.is_cut(from, to) {
            let node = self.nodes[to].number;
            self.send_item(from, latency, Item::Broken { node, link: id });
        }
    }

    /// Any of the links, for a test that breaks one.
    pub fn break_some_link(&mut self) {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        if !ids.is_empty() {
            let id = ids[self.dice.index(ids.len())];
            self.break_link(id);
        }
    }

    /// A node's process or host is gone. Its own ends are no more; others are told if there is a kernel to tell them.
    pub(super) fn end_links_of(&mut self, slot: usize, tell: bool) {
        self.links.retain(|_, link| link.from != slot);
        let ids = self.links.iter().filter(|(_, link)| link.to == slot).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            if tell {
                self.tell_gone(id);
            }
        }
    }

    fn tell_gone(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let (from, dialled) = (link.from, link.dialled);
        match link.state {
            LinkState::Knocking if !self.is_cut(link.from, link.to) => {
                self.links.remove(&id);
                let latency = self.latency();
                let failed = Item::Failed { dialled, why: DialFailed::Unreachable };
                self.send_item(from, latency, failed);
            }
            _ => self.break_link(id),
        }
    }

    /// What a kernel says to a segment of a connection that it does not know.
    fn reset_if_gone(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let (from, to) = (link.from, link.to);
        let knows = self.nodes[to].run == link.to_run;
        if link.state == LinkState::Broken || !knows && self.nodes[to].power != Power::HostGone {
            let node = self.nodes[to].number;
            let latency = self.latency();
            if let Some(link) = self.links.get_mut(&id) {
                link.state = LinkState::Broken;
            }
            self.send_item(from, latency, Item::Broken { node, link: id });
        }
    }

    /// A host that comes back knows nothing of its old connections, and says so to whoever still sends.
    pub(super) fn reset_old_links_to(&mut self, slot: usize) {
        let ids = self.links.iter().filter(|(_, link)| link.to == slot).map(|(id, _)| *id);
        for id in ids.collect::<Vec<_>>() {
            if self.links.get(&id).is_some_and(|link| !self.is_cut(link.from, link.to)) {
                self.reset_if_gone(id);
            }
        }
    }
}
