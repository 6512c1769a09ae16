//! One node of the world: a machine, a clock of its own, and a loop that may be late.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::Millis;
use crate::link::{self, Identity};
use crate::membership::{
    DialFailed, MEMBERS_MAX, Membership, MembershipConfig, OUTPUTS_MAX, Output, Unlinked,
};
use crate::view::{State, View};

use super::{Dice, HEARTBEAT_MS, Happening, NODE_TIMEOUT_MS, World, address};

/// A loop turns at least so often, whatever its clock says.
pub const IDLE_MS_MAX: Millis = 1_000;

/// One node.
pub struct Node {
    /// Its number; slot + 1, unless a test says otherwise.
    pub number: u16,
    /// Its configured peers.
    pub seeds: Vec<SocketAddr>,
    /// The machine, while it runs.
    pub machine: Option<Membership>,
    /// Its guest, while it runs.
    pub guest: Option<Box<dyn Guest>>,
    /// Its run.
    pub epoch: u32,
    /// Whether it runs, and why not.
    pub power: Power,
    /// Counts boots and ends, so that what was meant for one run does not reach the next.
    pub run: u32,
    /// What its clock shows: this, and the world's time at its own pace.
    pub clock_start: Millis,
    /// Millionths of the world's pace.
    pub clock_ppm: u64,
    /// Until then it does not run, although its kernel does.
    pub stopped_until: Millis,
    /// Each turn of its loop comes up to so much too late.
    pub late_ms: Millis,
    inbox: VecDeque<Item>,
    wake_id: u64,
    wake_at: Millis,
}

/// What lives on a node besides its membership: machines that are told the view and send each other letters. Give the
/// world a [`World::guests`], and each boot makes one. Letters travel on the same links, under the same faults.
pub trait Guest {
    /// The node's view has changed.
    fn handle_view(&mut self, now: Millis, view: &View);
    /// The node's own link to that node is up, or is no more.
    fn handle_link(&mut self, now: Millis, node: u16, is_up: bool);
    /// What the guest of that node said.
    fn handle_letter(&mut self, now: Millis, from: u16, bytes: &[u8]);
    /// The node's loop turns; at least once in [`IDLE_MS_MAX`].
    fn handle_turn(&mut self, now: Millis);
    /// What to send, and to which node. Without a link to it, it is lost.
    fn poll(&mut self) -> Option<(u16, Vec<u8>)>;
}

/// Makes the guest of a node that boots.
pub type Guests = Box<dyn Fn(&Identity) -> Box<dyn Guest>>;

/// Why a node does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It does.
    On,
    /// The process is gone, the host is there: connections are reset, dials refused.
    ProcessGone,
    /// Not a word.
    HostGone,
}

pub(super) enum Item {
    /// A stranger has connected; the handshake begins when we get to it.
    Knock {
        link: u64,
        who: Identity,
        from: usize,
    },
    Linked {
        link: u64,
        dialled: SocketAddr,
        who: Identity,
    },
    Failed {
        dialled: SocketAddr,
        why: DialFailed,
    },
    /// A link that this node dialled, to that node, broke.
    Broken {
        node: u16,
        link: u64,
    },
    Bytes {
        from: u16,
        payload: Payload,
    },
}

/// What travels on a link.
#[derive(Clone)]
pub(super) enum Payload {
    Member(Vec<u8>),
    Letter(Vec<u8>),
}

impl Payload {
    pub fn bytes(&self) -> &[u8] {
        let (Payload::Member(bytes) | Payload::Letter(bytes)) = self;
        bytes
    }
}

impl Node {
    pub(super) fn new(slot: usize, seeds: Vec<SocketAddr>, dice: &mut Dice) -> Self {
        Self {
            number: slot as u16 + 1,
            seeds,
            machine: None,
            guest: None,
            epoch: 0,
            power: Power::ProcessGone,
            run: 0,
            clock_start: dice.below(1 << 40),
            clock_ppm: 1_000_000,
            stopped_until: 0,
            late_ms: 0,
            inbox: VecDeque::new(),
            wake_id: 0,
            wake_at: Millis::MAX,
        }
    }

    /// What its clock shows.
    pub fn clock(&self, now: Millis) -> Millis {
        self.clock_start + now * self.clock_ppm / 1_000_000
    }

    /// Who it says it is.
    pub fn identity(&self, slot: usize) -> Identity {
        Identity { node: self.number, epoch: self.epoch, shard: 0, addresses: vec![address(slot)] }
    }
}

impl World {
    /// Starts a node's process: a new run.
    pub fn boot(&mut self, slot: usize) {
        self.power_off(slot, Power::ProcessGone);
        let seed = self.dice.below(u64::MAX);
        let epoch = self.dice.below(u64::from(u32::MAX)) as u32;
        let now = self.now;
        let node = &mut self.nodes[slot];
        node.run += 1;
        (node.epoch, node.power, node.stopped_until) = (epoch, Power::On, 0);
        let identity = node.identity(slot);
        let config = MembershipConfig {
            me: identity.clone(),
            seeds: node.seeds.clone(),
            heartbeat_ms: HEARTBEAT_MS,
            node_timeout_ms: NODE_TIMEOUT_MS,
        };
        node.machine = Some(Membership::new(config, node.clock(now), seed));
        self.nodes[slot].guest = self.guests.as_ref().map(|make| make(&identity));
        self.reset_old_links_to(slot);
        let view = self.view(slot).cloned();
        self.guest(slot, |guest, now| view.iter().for_each(|view| guest.handle_view(now, view)));
        self.wake_soon(slot, self.now);
    }

    /// Ends a node's process, or its host.
    pub fn power_off(&mut self, slot: usize, how: Power) {
        let node = &mut self.nodes[slot];
        if node.machine.take().is_none() {
            node.power = how;
            return;
        }
        node.guest = None;
        node.run += 1;
        node.power = how;
        node.inbox.clear();
        (node.wake_id, node.wake_at) = (0, Millis::MAX);
        self.end_links_of(slot, how == Power::ProcessGone);
    }

    /// Stops a process; its kernel goes on.
    pub fn stop(&mut self, slot: usize, ms: Millis) {
        self.nodes[slot].stopped_until = self.now + ms;
    }

    /// Ends a stop.
    pub fn resume(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        node.stopped_until = self.now;
        node.wake_at = Millis::MAX;
        self.wake_soon(slot, self.now);
    }

    pub(super) fn arrive(&mut self, slot: usize, run: u32, item: Item) {
        if self.nodes[slot].run == run && self.nodes[slot].machine.is_some() {
            self.nodes[slot].inbox.push_back(item);
            self.wake_soon(slot, self.now);
        }
    }

    /// Its loop turns at `at`, or as late as it is wont to.
    fn wake_soon(&mut self, slot: usize, at: Millis) {
        let late = self.nodes[slot].late_ms;
        let late = self.dice.below(late + 1);
        let node = &mut self.nodes[slot];
        if at < node.wake_at {
            // A loop that is late for one thing is late for the next one too, but not later.
            let at = (at.max(self.now) + late).min(node.wake_at).max(node.stopped_until);
            node.wake_at = at;
            let id = self.schedule(at, Happening::Wake(slot));
            self.nodes[slot].wake_id = id;
        }
    }

    pub(super) fn wake(&mut self, slot: usize, id: u64) {
        if self.nodes[slot].wake_id != id || self.nodes[slot].machine.is_none() {
            return;
        }
        let stopped_until = self.nodes[slot].stopped_until;
        self.nodes[slot].wake_at = Millis::MAX;
        if self.now < stopped_until {
            return self.wake_soon(slot, stopped_until);
        }
        let timers_first = self.dice.permille(500);
        if timers_first {
            self.fire(slot);
        }
        let inbox = std::mem::take(&mut self.nodes[slot].inbox);
        for item in inbox {
            self.deliver(slot, item);
        }
        self.fire(slot);
        if let Some(machine) = &self.nodes[slot].machine {
            let due = machine.poll_timeout();
            let wait = due.saturating_sub(self.nodes[slot].clock(self.now));
            self.wake_soon(slot, self.now + wait.clamp(1, IDLE_MS_MAX));
        }
    }

    fn fire(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        let clock = node.clock(self.now);
        // Sometimes for nothing: a clock that was set back makes what is due look far away.
        if let Some(machine) = &mut node.machine {
            machine.handle_timeout(clock);
            self.drain(slot);
            self.guest(slot, |guest, now| guest.handle_turn(now));
        }
    }

    fn deliver(&mut self, slot: usize, item: Item) {
        let clock = self.nodes[slot].clock(self.now);
        match item {
            Item::Knock { link, who, from } => return self.answer_knock(slot, link, who, from),
            Item::Linked { link, dialled, who } => {
                let Some(view) = self.view(slot) else { return };
                // The other end's welcome is weighed by the same rule as its knock was by us.
                let admitted = link::admit(&self.nodes[slot].identity(slot), &who, view).is_ok();
                let Some(machine) = &mut self.nodes[slot].machine else { return };
                if !admitted {
                    machine.handle_dial_failed(clock, dialled, DialFailed::Handshake);
                    self.close(link);
                } else if !self.links.contains_key(&link) {
                    machine.handle_dial_failed(clock, dialled, DialFailed::Unreachable);
                } else if machine.handle_linked(clock, dialled, &who) {
                    self.establish(link);
                    self.guest(slot, |guest, now| guest.handle_link(now, who.node, true));
                } else {
                    self.close(link);
                }
            }
            Item::Failed { dialled, why } => {
                let Some(machine) = &mut self.nodes[slot].machine else { return };
                machine.handle_dial_failed(clock, dialled, why);
            }
            Item::Broken { node, link } => {
                if self.forget_broken(slot, link) {
                    let Some(machine) = &mut self.nodes[slot].machine else { return };
                    machine.handle_unlinked(clock, node, Unlinked::Broken);
                    self.guest(slot, |guest, now| guest.handle_link(now, node, false));
                }
            }
            Item::Bytes { from, payload: Payload::Letter(bytes) } => {
                self.guest(slot, |guest, now| guest.handle_letter(now, from, &bytes));
            }
            Item::Bytes { from, payload: Payload::Member(bytes) } => {
                let Some(machine) = &mut self.nodes[slot].machine else { return };
                assert_eq!(machine.handle_message(clock, from, &bytes), Ok(()), "node {from}");
            }
        }
        self.drain(slot);
    }

    /// Has the node do something, and carries out what comes of it.
    pub fn command(&mut self, slot: usize, command: impl FnOnce(&mut Membership, Millis)) {
        let clock = self.nodes[slot].clock(self.now);
        if let Some(machine) = &mut self.nodes[slot].machine {
            command(machine, clock);
            self.drain(slot);
        }
    }

    /// Tells a guest something, and sends what it says to that.
    fn guest(&mut self, slot: usize, tell: impl FnOnce(&mut dyn Guest, Millis)) {
        let now = self.nodes[slot].clock(self.now);
        let Some(mut guest) = self.nodes[slot].guest.take() else { return };
        tell(&mut *guest, now);
        while let Some((to, bytes)) = guest.poll() {
            self.transmit(slot, to, Payload::Letter(bytes));
        }
        self.nodes[slot].guest = Some(guest);
    }

    pub(super) fn drain(&mut self, slot: usize) {
        while let Some(machine) = &mut self.nodes[slot].machine {
            self.backlog_max = self.backlog_max.max(machine.backlog());
            assert!(machine.backlog() <= OUTPUTS_MAX + 2 * MEMBERS_MAX, "bounded");
            match machine.poll() {
                None => return,
                Some(Output::Send { to, bytes }) => {
                    self.transmit(slot, to, Payload::Member(bytes));
                }
                Some(Output::Dial(address)) => self.connect(slot, address),
                Some(Output::Cut { node, epoch }) => {
                    self.cut_links(slot, node, epoch);
                    self.guest(slot, |guest, now| guest.handle_link(now, node, false));
                }
                Some(Output::View) => self.check_view(slot),
            }
        }
    }

    /// What every view must be, whatever happens.
    fn check_view(&mut self, slot: usize) {
        let now = self.now;
        let Some(view) = self.view(slot).cloned() else { return };
        assert!(view.members.len() <= MEMBERS_MAX);
        assert!(view.members.is_sorted_by(|a, b| a.node < b.node), "each node once, in order");
        assert!(view.member(self.nodes[slot].number).is_some_and(|me| {
            me.epoch == self.nodes[slot].epoch && me.state != State::Suspect
        }));
        for member in view.members.iter().filter(|member| member.state == State::Dead) {
            self.deaths_seen.entry((slot, member.node, member.epoch)).or_insert(now);
        }
        self.guest(slot, |guest, now| guest.handle_view(now, &view));
    }
}
