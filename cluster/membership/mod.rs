//! Who is in the cluster: one machine per node, on its first shard.
//!
//! Feed it what happened (`handle_*`), then poll until it has nothing to say, and wake it at `poll_timeout`.
//!
//! - Every node has a link to every other one (full mesh), says each heartbeat that it lives, and hears the others do
//!   so. Who was silent for half the timeout is suspected, and others are asked whether they hear it; who was heard
//!   by nobody for the whole timeout is dead. Silence counts only while we were awake ([`awake`]).
//! - A link that breaks and an address where nobody listens any more are evidence: dead at once.
//! - What a node believes of another is a claim (incarnation, epoch, status); the greater claim holds, everywhere.
//!   Only the node itself takes a higher incarnation: when it hears a claim against it. So views agree, and a node
//!   that was given up comes back with one message. Suspicion is never told on: each node has its own.
//! - Heartbeats carry a digest of what is believed; who differs compares notes. Nothing depends on a message arriving.
//! - A rumour of the death of someone we hear ourselves is not believed, but told to whom it is about.
//!
//! Refused: SWIM's random probing. Among 64 nodes a full mesh of heartbeats costs less than the letters on the same
//! links, and detects in one timeout instead of several rounds. See `README.md` for the library that was tried.

mod awake;
mod dials;
mod dice;
mod gossip;
mod message;
mod peer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::Millis;
use crate::link::Identity;
use crate::view::View;
use awake::Awake;
use dials::Dials;
use dice::Dice;
use message::{Body, Claim, Message, Record, Status};
use peer::Peer;

pub use dials::{REDIAL_MS_MAX, REDIAL_MS_MIN, REFUSED_MS_MAX, SEEDS_MAX};
pub use gossip::fuzz_message;
pub use message::{MEMBERS_MAX, MESSAGE_BYTES_MAX, RECORDS_MAX};

/// How long the dead are remembered, and dialled.
pub const DEAD_KEPT_MS: Millis = 10 * 60 * 1000;
/// Things to do that wait to be polled. Beyond it messages are dropped; heartbeats repair what that costs.
pub const OUTPUTS_MAX: usize = 16 * MEMBERS_MAX;
/// How long a node keeps quiet that found another with its number.
pub const EXILE_MS: Millis = 30_000;
/// How many nodes a node compares notes with per heartbeat, at most.
pub const COMPARED_PER_TICK: usize = 4;
/// How many nodes are asked about those that are not heard, per heartbeat.
pub const ASKED_PER_TICK: usize = 8;
/// So often another run claims our number before we believe that it lives.
const CLAIMS_MAX: u32 = 4;

/// How a node watches the others.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// Who this node is; `shard` is 0.
    pub me: Identity,
    /// First shards of other nodes; one that can be reached suffices. Dialled for ever; no more than [`SEEDS_MAX`].
    pub seeds: Vec<SocketAddr>,
    /// How often each node is told that we live.
    pub heartbeat_ms: Millis,
    /// How long a node may be silent; death is known one heartbeat later at the latest. At least 4 heartbeats.
    pub node_timeout_ms: Millis,
}

/// Why a link of ours is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// The other end closed or reset it, or it could not be written to: maybe the process is gone.
    Broken,
    /// We ended it ourselves: no evidence of anything.
    Cut,
}

/// Why a dial made no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailed {
    /// Nobody listens there (ECONNREFUSED): evidence that a process is gone.
    ConnectionRefused,
    /// No connection in time, a connection that broke, a handshake that took too long.
    Unreachable,
    /// A handshake that was refused, by either end. Never retried hot.
    Handshake,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send on the link of our first shard to the first shard of that node: a `Frame::Member`. No link: drop it.
    Send {
        /// The node.
        to: u16,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Connect our first shard there. The answer is `handle_linked` or `handle_dial_failed`, in any case.
    Dial(SocketAddr),
    /// End all links from and to that run of that node, of all shards. It is not reported with `handle_unlinked`.
    Cut {
        /// The node.
        node: u16,
        /// Which run: a link with the next one may stand already.
        epoch: u32,
    },
    /// [`Membership::view`] has changed: tell all shards.
    View,
}

/// What arrived is no message of members: end the link it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What happened so far; all but `members` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages to be sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Messages that arrived.
    pub received: u64,
    /// What was no message.
    pub malformed: u64,
    /// Messages dropped because [`OUTPUTS_MAX`] waited.
    pub dropped: u64,
    /// Nodes we found dead ourselves.
    pub deaths: u64,
    /// Claims against us that we contradicted.
    pub refuted: u64,
    /// Rumours of the death of a node that we hear.
    pub disbelieved: u64,
    /// Times we found another living node with our number.
    pub same_number: u64,
    /// Nodes left out because [`MEMBERS_MAX`] are known.
    pub left_out: u64,
}

/// The members, as one node sees them.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    me: Record,
    peers: BTreeMap<u16, Peer>,
    dials: Dials,
    awake: Awake,
    dice: Dice,
    tick_due: Millis,
    /// Nodes whose records everybody is to be told.
    news: BTreeSet<u16>,
    /// The view may be out of date.
    is_stale: bool,
    digest: u64,
    view: Arc<View>,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// How many notes may still be compared before the next tick.
    compares_left: usize,
    /// Another run that claims our number, and how often it did.
    rival: (u32, u32),
    /// Another node has our number: nothing is said before then.
    exile: Option<Millis>,
}

impl Membership {
    /// A node that knows nobody yet. `seed` spreads what nodes would otherwise do all at once.
    pub fn new(config: MembershipConfig, now: Millis, seed: u64) -> Self {
        let claim = Claim { incarnation: 0, epoch: config.me.epoch, status: Status::Alive };
        let me = Record { node: config.me.node, claim, addresses: config.me.addresses.clone() };
        let mut dice = Dice::new(seed);
        let mut membership = Self {
            dials: Dials::with_seeds(&config.seeds, 0),
            awake: Awake::new(now, 2 * config.heartbeat_ms),
            tick_due: dice.below(config.heartbeat_ms),
            dice,
            view: Arc::new(View { me: me.node, version: 0, members: Vec::new() }),
            me,
            config,
            peers: BTreeMap::new(),
            news: BTreeSet::new(),
            is_stale: true,
            digest: 0,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            compares_left: COMPARED_PER_TICK,
            rival: (0, 0),
            exile: None,
        };
        membership.refresh();
        membership.outputs.clear();
        membership
    }

    /// A link of ours is up: from our first shard to that node's, by this dial. `false`: it is not wanted, because
    /// there is one already or we are gone; close it, and do not report its end.
    pub fn handle_linked(&mut self, now: Millis, dialled: SocketAddr, peer: &Identity) -> bool {
        let now = self.advance(now);
        let is_wanted = !self.is_silent() && peer.node != self.me.node && self.meet(peer, now);
        if is_wanted {
            self.dials.handle_linked(dialled, peer.node, now);
        } else {
            self.dials.handle_failed(dialled, DialFailed::Handshake, now, &mut self.dice);
        }
        is_wanted
    }

    /// The link of ours to that node is no more.
    pub fn handle_unlinked(&mut self, now: Millis, node: u16, why: Unlinked) {
        let now = self.advance(now);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.link.take().is_none() {
            return;
        }
        if why == Unlinked::Broken {
            peer.broken = Some(now);
        }
        self.is_stale = true;
        self.dials.handle_unlinked(node, now, &mut self.dice);
        self.dial(now);
    }

    /// A dial made no link.
    pub fn handle_dial_failed(&mut self, now: Millis, dialled: SocketAddr, why: DialFailed) {
        let now = self.advance(now);
        let node = self.dials.handle_failed(dialled, why, now, &mut self.dice);
        let Some(peer) = node.and_then(|node| self.peers.get(&node)) else { return };
        // It listened when it told us of this address. Its link broke, and now nobody does.
        if why == DialFailed::ConnectionRefused && peer.broken.is_some() && !peer.is_dead() {
            self.bury(peer.record.node, now);
        }
    }

    /// A `Frame::Member` of that node's first shard.
    pub fn handle_message(
        &mut self,
        now: Millis,
        from: u16,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        let now = self.advance(now);
        self.counters.received += 1;
        let Ok(message) = Message::read(bytes) else {
            self.counters.malformed += 1;
            return Err(Malformed);
        };
        if from != self.me.node && !self.is_silent() {
            self.hear(from, message, now);
        }
        Ok(())
    }

    /// Something else arrived from that node, on any link: it lives.
    pub fn handle_heard(&mut self, now: Millis, node: u16) {
        let now = self.advance(now);
        if let Some(peer) = self.peers.get_mut(&node)
            && !peer.is_dead()
        {
            self.is_stale |= peer.is_suspect(now, self.config.node_timeout_ms / 2);
            peer.heard = Some(now);
        }
    }

    /// It is [`Membership::poll_timeout`], or later.
    pub fn handle_timeout(&mut self, now: Millis) {
        let now = self.advance(now);
        if self.me.claim.status == Status::Dead {
            return;
        }
        if self.exile.is_some_and(|until| until <= now) {
            self.exile = None;
        }
        if self.tick_due <= now {
            self.tick(now);
            self.tick_due = now + self.config.heartbeat_ms;
        }
        self.dial(now);
    }

    /// From now on this node takes nothing new, and everybody knows.
    pub fn leave(&mut self, now: Millis) {
        self.advance(now);
        if self.me.claim.status == Status::Alive {
            self.me.claim.status = Status::Leaving;
            self.is_stale = true;
            self.news.insert(self.me.node);
        }
    }

    /// This node is gone: everybody is told once, and nothing more is said. Its links may be closed when what was
    /// polled is sent.
    pub fn goodbye(&mut self, now: Millis) {
        self.advance(now);
        if self.me.claim.status != Status::Dead {
            self.me.claim.status = Status::Dead;
            self.news.clear();
            self.refresh();
            self.tell_all(&Body::Heartbeat(self.digest));
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        if self.is_stale {
            self.refresh();
        }
        if !self.news.is_empty() {
            self.tell_news();
        }
        self.outputs.pop_front()
    }

    /// When to call [`Membership::handle_timeout`]; after a goodbye never.
    pub fn poll_timeout(&self) -> Millis {
        if self.me.claim.status == Status::Dead {
            return Millis::MAX;
        }
        let dial = match self.exile {
            None => self.dials.next_due(|node| self.lacks_link(node)),
            Some(until) => Some(until),
        };
        self.awake.clock_at(dial.map_or(self.tick_due, |due| due.min(self.tick_due)))
    }

    /// Who is in the cluster. As new as the last [`Membership::poll`].
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many things wait to be polled; up to [`OUTPUTS_MAX`], and a few that are never dropped.
    pub fn backlog(&self) -> usize {
        self.outputs.len()
    }

    /// Awake time, now.
    fn advance(&mut self, clock: Millis) -> Millis {
        self.awake.advance(clock);
        self.awake.now()
    }

    fn suspect_ms(&self) -> Millis {
        self.config.node_timeout_ms / 2
    }

    /// Whether there is nothing to say to anybody.
    fn is_silent(&self) -> bool {
        self.exile.is_some() || self.me.claim.status == Status::Dead
    }

    fn lacks_link(&self, node: u16) -> bool {
        node != self.me.node && self.peers.get(&node).is_none_or(|peer| peer.link.is_none())
    }

    fn dial(&mut self, now: Millis) {
        if self.is_silent() {
            return;
        }
        let peers = &self.peers;
        let lacks_link = |node| peers.get(&node).is_none_or(|peer: &Peer| peer.link.is_none());
        let due = self.dials.take_due(now, lacks_link);
        self.outputs.extend(due.into_iter().map(Output::Dial));
    }

    /// Once per heartbeat: who is silent, and that we are not.
    fn tick(&mut self, now: Millis) {
        self.compares_left = COMPARED_PER_TICK;
        let mut silent = Vec::new();
        let mut forgotten = Vec::new();
        let suspect_ms = self.suspect_ms();
        let mut doubtful = Vec::new();
        for (node, peer) in &mut self.peers {
            (peer.compared, peer.warned) = (false, false);
            if peer.is_link_idle(now, self.config.node_timeout_ms) {
                let epoch = peer.link.take().unwrap_or_default();
                self.outputs.push_back(Output::Cut { node: *node, epoch });
                self.dials.handle_unlinked(*node, now, &mut self.dice);
            }
            if peer.is_dead() {
                if peer.link.is_none() && peer.dead + DEAD_KEPT_MS <= now {
                    forgotten.push(*node);
                }
            } else if self.config.node_timeout_ms <= peer.silence(now) {
                silent.push(*node);
            } else if peer.is_doubtful(now, suspect_ms) {
                doubtful.push((*node, peer.record.claim.epoch));
                self.is_stale = true;
            }
        }
        for node in forgotten {
            self.peers.remove(&node);
            self.dials.remove(node);
            self.is_stale = true;
        }
        silent.into_iter().for_each(|node| self.bury(node, now));
        if self.is_stale {
            self.refresh();
        }
        if !self.is_silent() {
            self.ask(doubtful);
            self.tell_all(&Body::Heartbeat(self.digest));
        }
    }

    /// Asks some of the others whether they hear those that we do not.
    fn ask(&mut self, doubtful: Vec<(u16, u32)>) {
        if doubtful.is_empty() {
            return;
        }
        let mut others: Vec<u16> = self.linked().collect();
        others.retain(|node| doubtful.iter().all(|(doubted, _)| doubted != node));
        for _ in 0..ASKED_PER_TICK.min(others.len()) {
            let index = self.dice.below(others.len() as u64) as usize;
            let other = others.swap_remove(index);
            self.send(other, Body::Ask(doubtful.clone()));
        }
    }

    /// We found it dead.
    fn bury(&mut self, node: u16, now: Millis) {
        let Some(peer) = self.peers.get(&node) else { return };
        let record = Record { claim: peer.record.claim.dead(), ..peer.record.clone() };
        self.counters.deaths += 1;
        self.believe(record, now);
        self.news.insert(node);
    }

    fn linked(&self) -> impl Iterator<Item = u16> {
        self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(node, _)| *node)
    }

    fn send(&mut self, to: u16, body: Body) {
        let bytes = Message { claim: self.me.claim, body }.write();
        self.push(to, bytes);
    }

    fn tell_all(&mut self, body: &Body) {
        let bytes = Message { claim: self.me.claim, body: body.clone() }.write();
        let linked: Vec<u16> = self.linked().collect();
        linked.into_iter().for_each(|node| self.push(node, bytes.clone()));
    }

    fn push(&mut self, to: u16, bytes: Vec<u8>) {
        if OUTPUTS_MAX <= self.outputs.len() {
            self.counters.dropped += 1;
            return;
        }
        self.counters.sent += 1;
        self.counters.sent_bytes += bytes.len() as u64;
        self.outputs.push_back(Output::Send { to, bytes });
    }

    fn tell_news(&mut self) {
        let news = std::mem::take(&mut self.news);
        let records: Vec<Record> = news.iter().filter_map(|node| self.record(*node)).collect();
        for records in records.chunks(RECORDS_MAX) {
            self.tell_all(&Body::Records(records.to_vec()));
        }
    }

    fn record(&self, node: u16) -> Option<Record> {
        if node == self.me.node {
            return Some(self.me.clone());
        }
        self.peers.get(&node).map(|peer| peer.record.clone())
    }

    /// Makes view and digest anew.
    fn refresh(&mut self) {
        self.is_stale = false;
        let (now, suspect_ms) = (self.awake.now(), self.suspect_ms());
        let mut members = vec![self.me.member(self.me.claim.status.state())];
        members.extend(self.peers.values().map(|peer| peer.member(now, suspect_ms)));
        members.sort_unstable_by_key(|member| member.node);
        self.digest = self.digest();
        if members != self.view.members {
            let version = self.view.version + 1;
            self.view = Arc::new(View { me: self.me.node, version, members });
            if !self.outputs.contains(&Output::View) {
                self.outputs.push_back(Output::View);
            }
        }
    }

    /// Of all claims about the living: the dead are forgotten at different times.
    fn digest(&self) -> u64 {
        let living = self.peers.values().filter(|peer| !peer.is_dead());
        let claims = living.map(|peer| (peer.record.node, peer.record.claim));
        let mut claims: Vec<_> = claims.chain([(self.me.node, self.me.claim)]).collect();
        claims.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (node, claim) in claims {
            hasher.update(&node.to_be_bytes());
            hasher.update(&claim.incarnation.to_be_bytes());
            hasher.update(&claim.epoch.to_be_bytes());
            hasher.update(&[claim.status as u8]);
        }
        u64::from_be_bytes(*hasher.finalize().as_bytes().first_chunk().unwrap_or(&[0; 8]))
    }
}
