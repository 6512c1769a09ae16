//! A world of nodes in one process, for tests and for measuring at scale: real membership machines, invented time,
//! links and faults, all from one seed.
//!
//! What it knows of TCP: a process that dies resets its connections and its port refuses new ones; a host that dies
//! or a cut wire says nothing; a process that is stopped still has a kernel that accepts and buffers. Beyond TCP, a
//! link may lose, double and reorder messages, because the machine is to survive that too. Nodes' clocks start where
//! they like, run at their own pace and may jump.

mod net;
mod node;
pub mod script;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;

use crate::Millis;
use crate::view::{State, View};

pub use net::Faults;
pub use node::{Guest, Guests, IDLE_MS_MAX, Node, Power};

use net::Link;
use node::Item;

/// The heartbeat of its nodes: the default of the server.
pub const HEARTBEAT_MS: Millis = 200;
/// How long its nodes may be silent: the default of the server.
pub const NODE_TIMEOUT_MS: Millis = 1_500;

/// All of it.
pub struct World {
    /// Milliseconds since it began.
    pub now: Millis,
    /// By slot.
    pub nodes: Vec<Node>,
    /// Makes the guest of each node that boots.
    pub guests: Option<Guests>,
    /// What goes wrong on wires.
    pub faults: Faults,
    /// Where all chance comes from.
    pub dice: Dice,
    /// Pairs of slots, lower first, that cannot reach each other.
    cut: BTreeSet<(usize, usize)>,
    links: BTreeMap<u64, Link>,
    /// The link by which a slot sends to a node.
    routes: BTreeMap<(usize, u16), u64>,
    events: BinaryHeap<Reverse<(Millis, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    counter: u64,
    /// Bytes on all wires, frame heads included.
    pub bytes: u64,
    /// Messages on all wires.
    pub messages: u64,
    /// Who saw whom dead, and when: (viewer, node, epoch) → first time.
    pub deaths_seen: BTreeMap<(usize, u16, u32), Millis>,
    /// The most that ever waited in one machine to be polled.
    pub backlog_max: usize,
}

enum Happening {
    Wake(usize),
    Arrive {
        slot: usize,
        run: u32,
        item: Item,
    },
    /// A handshake has had its time; if it still goes on, this is what its dialler is told.
    GiveUp {
        link: u64,
        slot: usize,
        run: u32,
        item: Item,
    },
}

/// splitmix64: the same numbers everywhere.
pub struct Dice(pub u64);

impl Dice {
    /// Below `bound`; 0 when there is no room.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// An index below `bound`.
    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// True in so many of 1000 cases.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }
}

/// Where a slot's node listens.
pub fn address(slot: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9_000 + slot as u16))
}

impl World {
    /// `count` nodes that are off. Unless told otherwise each has the first two as its peers.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut dice = Dice(seed ^ 0x5eed_0000_0000_0000);
        let seeds = vec![address(0), address(1)];
        let nodes = (0..count).map(|slot| Node::new(slot, seeds.clone(), &mut dice)).collect();
        Self {
            now: 0,
            nodes,
            guests: None,
            faults: Faults::default(),
            dice,
            cut: BTreeSet::new(),
            links: BTreeMap::new(),
            routes: BTreeMap::new(),
            events: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            counter: 0,
            bytes: 0,
            messages: 0,
            deaths_seen: BTreeMap::new(),
            backlog_max: 0,
        }
    }

    /// All on, at once.
    pub fn boot_all(&mut self) {
        (0..self.nodes.len()).for_each(|slot| self.boot(slot));
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: Millis) {
        self.run_until(ms, |_| false);
    }

    /// Lets time pass until something is true, no longer than `ms`. After how long it was, if it was.
    pub fn run_until(&mut self, ms: Millis, is_done: impl Fn(&Self) -> bool) -> Option<Millis> {
        let start = self.now;
        let end = start + ms;
        let mut asked = Millis::MAX;
        while let Some(Reverse((at, id))) = self.events.peek().copied() {
            if asked != self.now {
                asked = self.now;
                if is_done(self) {
                    return Some(self.now - start);
                }
            }
            if end < at {
                break;
            }
            self.events.pop();
            self.now = self.now.max(at);
            match self.happenings.remove(&id) {
                Some(Happening::Wake(slot)) => self.wake(slot, id),
                Some(Happening::Arrive { slot, run, item }) => self.arrive(slot, run, item),
                Some(Happening::GiveUp { link, slot, run, item }) => {
                    self.give_up(link, slot, run, item);
                }
                None => {}
            }
        }
        self.now = end;
        is_done(self).then_some(end - start)
    }

    fn schedule(&mut self, at: Millis, happening: Happening) -> u64 {
        self.counter += 1;
        self.events.push(Reverse((at.max(self.now), self.counter)));
        self.happenings.insert(self.counter, happening);
        self.counter
    }

    fn send_item(&mut self, slot: usize, delay: Millis, item: Item) {
        let run = self.nodes[slot].run;
        self.schedule(self.now + delay, Happening::Arrive { slot, run, item });
    }

    /// What this slot's node sees, if it runs.
    pub fn view(&self, slot: usize) -> Option<&View> {
        self.nodes[slot].machine.as_ref().map(|machine| &**machine.view())
    }

    /// The slots whose nodes run.
    pub fn running(&self) -> Vec<usize> {
        let runs = |slot: &usize| self.nodes[*slot].machine.is_some();
        (0..self.nodes.len()).filter(runs).collect()
    }

    /// Whether `slots` are all running nodes that can reach each other and agree: each sees all of them alive, in the
    /// run and incarnation that they are in, and nobody else alive.
    pub fn agree(&self, slots: &[usize]) -> bool {
        slots.iter().all(|slot| self.disagreement(*slot, slots).is_none())
    }

    /// What is wrong with a slot's view, if these are the ones that should see each other.
    pub fn disagreement(&self, slot: usize, slots: &[usize]) -> Option<String> {
        let Some(view) = self.view(slot) else { return Some(format!("{slot} is off")) };
        for other in slots {
            let node = &self.nodes[*other];
            let Some(own) = self.view(*other).and_then(|own| own.member(node.number)) else {
                return Some(format!("{other} does not know itself"));
            };
            match view.member(node.number) {
                None => return Some(format!("{slot} does not know {other}")),
                Some(member) if member.state != State::Alive || member != own => {
                    return Some(format!("{slot} sees {other} as {member:?}, itself as {own:?}"));
                }
                Some(_) => {}
            }
        }
        let alive = view.members.iter().filter(|member| member.state != State::Dead).count();
        let stranger = || format!("{slot} sees {alive} alive: {:?}", view.members);
        (alive != slots.len()).then(stranger)
    }

    /// Panics with the first thing that is wrong.
    #[track_caller]
    pub fn expect_agreement(&self, slots: &[usize], what: &str) {
        for slot in slots {
            if let Some(wrong) = self.disagreement(*slot, slots) {
                panic!("{what}, at {} ms: {wrong}", self.now);
            }
        }
    }
}
