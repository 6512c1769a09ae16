//! Where the copies of a shard's own sessions are, and what must still be said to whom. Lives: in each shard. View:
//! owner.
//!
//! Tell it the time ([`Replicas::handle_time`]) and what happens ([`Replicas::insert`], [`Replicas::changed`], `handle_*`); [`Replicas::visit`] while
//! [`Replicas::is_walking`]; then [`Replicas::poll`] until it has nothing to say, and give back with [`Replicas::refused`] what the link did not take.
//!
//! Invariants: a copy is kept by the first successors of its session in the present view that have room, as many as
//! configured; to each of them its whole state is said again after a link came up, between a begin and an end, so that what
//! was lost, dropped or outdated is repaired without being remembered; what a keeper has not acknowledged between two
//! looks ([`Replicas::handle_timeout`]; it did not yet believe us, or nobody had room) is said again; a session waits
//! at most once in each queue, so queues are bounded by sessions, and by ends of sessions while the link is up.
//!
//! Nothing here walks over all sessions in one turn. What concerns all of them begins a circle ([`walk`]), and a session that
//! is asked for before its turn is brought up to date then.

/// What the choice of keepers depends on, borrowed apart from the sessions.
macro_rules! members {
    ($replicas:expr) => {
        Members {
            view: &$replicas.view,
            peers: &$replicas.peers,
            replicas: $replicas.replicas,
            generation: $replicas.generation,
            arrival: $replicas.arrival,
            takers: $replicas.takers,
        }
    };
}

mod fuzz;
mod owned;
mod say;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::letter::route::Token;
use crate::order::Order;
use crate::view::View;
use crate::{Millis, SessionName, Spot, Table};

pub use fuzz::fuzz_replicas;
pub use owned::{Copied, REFUSALS_MAX, Standing};
use owned::{Members, Owned, spot};
use say::Item;
pub use say::Say;
pub use walk::VISIT_UNITS_PER_MS;
use walk::{Errand, Walk};

/// Ends of sessions that may wait for one peer; beyond that it is told everything again instead.
pub const ENDS_WAITING_MAX: usize = 16_384;

/// Entries of the list of sessions that are behind which may be outdated, beside twice as many as there are sessions.
const SINCE_SPARE: usize = 64;

/// All sessions of a shard, as far as others must know of them.
#[derive(Debug)]
pub struct Replicas {
    /// Copies of each session.
    replicas: usize,
    view: Arc<View>,
    /// Counts the changes of who takes copies, from 1.
    generation: u32,
    /// The last one with which somebody came.
    arrival: u32,
    /// How many others take copies.
    takers: usize,
    sessions: Table<SessionName, Owned>,
    order: Order,
    walk: Walk,
    peers: BTreeMap<u16, Peer>,
    /// Whose turn it is to be spoken to.
    next_peer: u16,
    resyncs: u64,
    repeats: u64,
    now: Millis,
    /// Sessions by [`Copied`].
    copied: [usize; Copied::ALL.len()],
    /// Since when sessions are not safe, oldest first; an entry holds if its session still says the same. Compacted
    /// when most do not.
    since: VecDeque<(Millis, SessionName)>,
    /// Of the last time somebody was told everything. Never counted anew: who was out of sight and comes back must
    /// not take this time for the last.
    round: u32,
}

#[derive(Debug, Default)]
struct Peer {
    /// This shard's link to it stands.
    is_up: bool,
    /// Its link had no room.
    is_short: bool,
    round: u32,
    queue: VecDeque<Item>,
    ends: usize,
    /// It is being told everything.
    is_told: bool,
    /// Acknowledgements of its may have been lost.
    is_doubted: bool,
}

impl Replicas {
    /// Of a shard without sessions. `replicas`: copies of each session.
    pub fn new(replicas: usize, view: Arc<View>) -> Self {
        Self {
            replicas,
            takers: takers(&view).count(),
            view,
            generation: 1,
            arrival: 1,
            sessions: Table::default(),
            order: Order::default(),
            walk: Walk::new(VISIT_UNITS_PER_MS),
            peers: BTreeMap::new(),
            next_peer: 0,
            resyncs: 0,
            repeats: 0,
            now: 0,
            copied: Default::default(),
            since: VecDeque::new(),
            round: 0,
        }
    }

    /// Visits cost other than [`VISIT_UNITS_PER_MS`], 1 at least: with few, few sessions are walked over like many.
    pub fn paced(mut self, units_per_ms: usize) -> Self {
        self.walk = Walk::new(units_per_ms);
        self
    }

    /// What happens from now on happens at this time.
    pub fn handle_time(&mut self, now: Millis) {
        self.now = now;
        self.walk.handle_time(now);
    }

    /// Since when the session that has waited longest is not kept as it is by all who should; `None`: all are.
    pub fn behind_since(&self) -> Option<Millis> {
        let known = self.since.iter().find(|entry| self.holds(entry)).map(|(at, _)| *at);
        // Who has not been visited since may be behind, and counts as if.
        known.into_iter().chain(self.walk.oldest()).min()
    }

    fn holds(&self, (at, name): &(Millis, SessionName)) -> bool {
        self.sessions.get(name).is_some_and(|owned| owned.since == Some(*at))
    }

    /// Sessions that others know of, or should.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Sessions by how many copies there are of them, as [`Copied::ALL`] names them.
    pub fn copied(&self) -> [usize; Copied::ALL.len()] {
        self.copied
    }

    /// Letters that wait to be said.
    pub fn waiting(&self) -> usize {
        self.peers.values().map(|peer| peer.queue.len()).sum()
    }

    /// How often a peer was told everything.
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// How often a session was said again because nobody had acknowledged it.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Takes note of a session of this shard. `term`: how often it has changed its owner.
    pub fn insert(&mut self, token: Token, term: u32) {
        let name = token.name;
        self.release(&name);
        let owned = Owned::new(token, term, self.order.insert(name));
        self.copied[owned.copied as usize] += 1;
        self.sessions.insert(name, owned);
        self.touch(&name);
        self.queue_copies(&name);
        if 0 < term {
            for peer in self.peers.values_mut().filter(|peer| peer.is_up) {
                peer.queue.push_back(Item::Moved(name));
            }
        }
    }

    /// A session is not as it was.
    pub fn changed(&mut self, name: &SessionName) {
        self.touch(name);
        if let Some(owned) = self.sessions.get_mut(name) {
            owned.rev = owned.rev.wrapping_add(1).max(1);
            owned.is_oversize = false;
            self.queue_copies(name);
        }
    }

    /// A session is not as it was, and the difference is small: `say` is called for each keeper that has all the
    /// rest, with the revision it will have; whether the letter left. The other keepers are told everything.
    pub fn appended(&mut self, name: &SessionName, mut say: impl FnMut(Spot, u32, u32) -> bool) {
        self.touch(name);
        let Some(owned) = self.sessions.get_mut(name) else { return };
        let before = owned.rev;
        owned.rev = owned.rev.wrapping_add(1).max(1);
        let has_rest = !std::mem::take(&mut owned.is_oversize);
        for keeper in owned.keepers.iter_mut().filter(|keeper| has_rest && keeper.keeps()) {
            let peer = self.peers.get(&keeper.node).filter(|peer| peer.is_up && !peer.is_short);
            let to = spot(&self.view, keeper.node, name).filter(|_| peer.is_some());
            let Some(to) = to.filter(|_| keeper.said == before && !keeper.is_queued) else {
                continue;
            };
            if say(to, owned.term, owned.rev) {
                keeper.said = owned.rev;
            }
        }
        self.queue_copies(name);
    }

    /// A session of this shard is over: everyone who knows of it is told.
    pub fn remove(&mut self, name: &SessionName) {
        let Some(owned) = self.forget(name) else { return };
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.is_up) {
            let keeps = owned.keepers.iter().any(|keeper| keeper.node == *node);
            if !keeps && owned.term == 0 {
                continue;
            }
            peer.ends += 1;
            peer.queue.push_back(Item::Ended(*name, owned.term));
        }
        let flooded: Vec<u16> = self
            .peers
            .iter()
            .filter(|(_, peer)| ENDS_WAITING_MAX < peer.ends)
            .map(|(node, _)| *node)
            .collect();
        for node in flooded {
            self.say_all(node);
        }
    }

    /// A session is no longer of this shard, and whoever has it now tells the others.
    pub fn release(&mut self, name: &SessionName) {
        self.forget(name);
    }

    fn forget(&mut self, name: &SessionName) -> Option<Owned> {
        let owned = self.sessions.remove(name)?;
        self.order.remove(owned.place);
        self.copied[owned.copied as usize] -= 1;
        Some(owned)
    }

    /// The present revision of a session; `None`: nobody must know of it.
    pub fn rev(&self, name: &SessionName) -> Option<u32> {
        self.sessions.get(name).map(|owned| owned.rev)
    }

    /// What a session's id says.
    pub fn token(&self, name: &SessionName) -> Option<Token> {
        self.sessions.get(name).map(|owned| owned.token)
    }

    /// How often a session has changed its owner.
    pub fn term(&self, name: &SessionName) -> Option<u32> {
        self.sessions.get(name).map(|owned| owned.term)
    }

    /// Who is to keep a session, as far as it has been brought up to date.
    pub fn keepers(&self, name: &SessionName) -> Vec<u16> {
        let owned = self.sessions.get(name);
        owned.into_iter().flat_map(Owned::keeping).map(|keeper| keeper.node).collect()
    }

    /// What can be promised of a session up to this revision. One that nobody keeps is as safe as it can be; one that
    /// has not been visited since the members changed awaits that.
    pub fn standing(&self, name: &SessionName, rev: u32) -> Standing {
        let owned = self.sessions.get(name);
        owned.map_or(Standing::Safe, |owned| owned.standing(rev, &self.members()))
    }

    /// Brings a session up to date that is asked for before its turn.
    pub fn hurry(&mut self, name: &SessionName) {
        let weighed = self.touch(name);
        self.walk.spend(weighed);
        self.queue_copies(name);
    }

    /// The cluster has changed.
    pub fn handle_view(&mut self, view: &Arc<View>) {
        let before = std::mem::replace(&mut self.view, view.clone());
        let lives = |node: &u16| {
            let epoch = before.member(*node).map(|member| member.epoch);
            epoch.is_some_and(|epoch| view.home(*node, epoch).is_some())
        };
        let known = self.peers.len();
        self.peers.retain(|node, _| lives(node));
        self.walk.forget(|node| self.peers.contains_key(&node));
        let (old, new): (Vec<_>, Vec<_>) = (takers(&before).collect(), takers(view).collect());
        if old != new {
            self.generation = self.generation.wrapping_add(1).max(1);
            self.takers = new.len();
            if new.iter().any(|taker| !old.contains(taker)) {
                self.arrival = self.generation;
            }
        }
        if old != new || self.peers.len() < known {
            self.begin(Errand::CatchUp);
        }
    }

    /// This shard's link to a node stands: it is told everything.
    pub fn handle_up(&mut self, node: u16) {
        self.peers.entry(node).or_default().is_up = true;
        self.say_all(node);
    }

    /// This shard's link to a node has room again.
    pub fn handle_drained(&mut self, node: u16) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_short = false;
        }
    }

    /// A link between the nodes broke. If it was the one we speak over, [`Replicas::handle_up`] follows when there
    /// is a new one; if it was the other's, acknowledgements were lost, and what was not acknowledged is said again.
    pub fn handle_lost(&mut self, node: u16) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_doubted = true;
            self.begin(Errand::Doubt(node));
        }
    }

    /// A node has a session's copy, up to a revision.
    pub fn handle_kept(&mut self, node: u16, name: &SessionName, rev: u32) {
        self.touch(name);
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
            if rev <= keeper.said && keeper.part != owned::Part::Full {
                keeper.kept = keeper.kept.max(rev);
            }
        }
        self.queue_copies(name);
    }

    /// A node has no room for a session's copy in this revision: another is asked, if there is one.
    pub fn handle_not_kept(&mut self, node: u16, name: &SessionName, rev: u32) {
        self.touch(name);
        let members = members!(self);
        let Some(owned) = self.sessions.get_mut(name) else { return };
        // Of what was said since, it will say the same, or not.
        let is_of_now = |keeper: &mut owned::Keeper| keeper.said == rev && keeper.kept < rev;
        if owned.keeper_mut(node).is_some_and(is_of_now) {
            owned.pass_on(name, node, &members);
        }
        self.queue_copies(name);
    }

    /// A session is too large for a letter to this node in this revision, and what the node has of it is outdated.
    pub fn handle_oversize(&mut self, node: u16, name: &SessionName, rev: u32) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        owned.is_oversize |= owned.rev == rev;
        if let Some(keeper) = owned.keeper_mut(node) {
            keeper.kept = 0;
        }
        self.settle(name);
    }

    /// A node cannot append to a copy it has not.
    pub fn handle_missing(&mut self, node: u16, name: &SessionName) {
        self.touch(name);
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
            (keeper.said, keeper.kept) = (0, 0);
        }
        self.queue_copies(name);
    }

    /// Some time has passed: a look at all sessions begins, unless one is under way. What was not acknowledged at the
    /// last look and still is not is said again, whole.
    pub fn handle_timeout(&mut self) {
        if !self.walk.has(Errand::Look) {
            self.begin(Errand::Look);
        }
    }

    /// Whether the last look has found anything in doubt, so that it is worth looking again.
    pub fn is_doubtful(&self) -> bool {
        self.walk.is_doubtful
    }

    /// The next thing to say.
    pub fn poll(&mut self) -> Option<Say> {
        loop {
            let can = |(_, peer): &(&u16, &mut Peer)| {
                peer.is_up && !peer.is_short && !peer.queue.is_empty()
            };
            // The others first: one long queue must not silence the rest.
            let after = self.peers.range_mut(self.next_peer..).find(can).map(|(node, _)| *node);
            let node = after.or_else(|| self.peers.iter_mut().find(can).map(|(node, _)| *node))?;
            self.next_peer = node.wrapping_add(1);
            let peer = self.peers.get_mut(&node)?;
            let round = peer.round;
            let item = peer.queue.pop_front()?;
            peer.ends -= usize::from(matches!(item, Item::Ended(..)));
            let Some(member) = self.view.member(node) else { continue };
            let at = |name: &SessionName| Spot { node, shard: member.shard_of(name) };
            return Some(match item {
                Item::Begin(shard) => Say::Begin { to: Spot { node, shard }, round },
                Item::End(shard) => Say::End { to: Spot { node, shard }, round },
                Item::Drop(name, term) => Say::Drop { to: at(&name), name, term },
                Item::Ended(name, term) => Say::Ended { to: at(&name), name, term },
                Item::Moved(name) => {
                    let Some(owned) = self.sessions.get(&name) else { continue };
                    Say::Moved { to: at(&name), token: owned.token, term: owned.term }
                }
                Item::Copy(name) => {
                    let to = at(&name);
                    let Some(owned) = self.sessions.get_mut(&name) else { continue };
                    let (term, rev) = (owned.term, owned.rev);
                    let keeper = owned.keepers.iter_mut().find(|keeper| keeper.node == node);
                    let Some(keeper) = keeper else { continue };
                    keeper.is_queued = false;
                    if !keeper.keeps() {
                        self.settle(&name);
                        continue;
                    }
                    (keeper.said, keeper.may_have) = (rev, true);
                    Say::Copy { to, name, term, rev }
                }
            });
        }
    }

    /// The link did not take it: it is said first, as soon as there is room.
    pub fn refused(&mut self, say: Say) {
        let node = say.to().node;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.is_short = true;
        let item = match say {
            Say::Begin { to, .. } => Item::Begin(to.shard),
            Say::End { to, .. } => Item::End(to.shard),
            Say::Moved { token, .. } => Item::Moved(token.name),
            Say::Drop { name, term, .. } => Item::Drop(name, term),
            Say::Ended { name, term, .. } => {
                peer.ends += 1;
                Item::Ended(name, term)
            }
            Say::Copy { name, .. } => {
                let owned = self.sessions.get_mut(&name);
                if let Some(keeper) = owned.and_then(|owned| owned.keeper_mut(node)) {
                    (keeper.said, keeper.is_queued) = (0, true);
                }
                Item::Copy(name)
            }
        };
        peer.queue.push_front(item);
    }

    fn members(&self) -> Members<'_> {
        members!(self)
    }

    /// Brings a session up to date with the members and the links to them. Returns what that cost, in nodes weighed.
    fn touch(&mut self, name: &SessionName) -> usize {
        let members = members!(self);
        let owned = self.sessions.get_mut(name);
        owned.map_or(0, |owned| owned.catch_up(name, &members))
    }

    /// Queues a session for the keepers that have not its present revision.
    fn queue_copies(&mut self, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        let (rev, fits) = (owned.rev, !owned.is_oversize);
        for keeper in owned.keepers.iter_mut().filter(|keeper| fits && keeper.keeps()) {
            let peer = self.peers.get_mut(&keeper.node).filter(|peer| peer.is_up);
            if let Some(peer) = peer
                && keeper.said != rev
                && !keeper.is_queued
            {
                keeper.is_queued = true;
                peer.queue.push_back(Item::Copy(*name));
            }
        }
        self.settle(name);
    }

    /// Remembers since when a session is behind, if it is, counts its copies, and lets go of who need not keep it any more.
    fn settle(&mut self, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        let is_behind = owned.is_behind();
        if !is_behind {
            owned.since = None;
        } else if owned.since.is_none() {
            owned.since = Some(self.now);
            self.since.push_back((self.now, *name));
        }
        let term = owned.term;
        for node in owned.let_go() {
            if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.is_up) {
                peer.queue.push_back(Item::Drop(*name, term));
            }
        }
        self.copied[owned.copied as usize] -= 1;
        owned.copied = owned.count_copies(self.replicas);
        self.copied[owned.copied as usize] += 1;
        if 2 * self.sessions.len() + SINCE_SPARE < self.since.len() {
            let mut since = std::mem::take(&mut self.since);
            since.retain(|entry| self.holds(entry));
            self.since = since;
        }
    }

    /// Begins to tell a node everything.
    fn say_all(&mut self, node: u16) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        self.resyncs += 1;
        peer.is_short = false;
        self.round = self.round.wrapping_add(1).max(1);
        peer.round = self.round;
        peer.queue.clear();
        peer.ends = 0;
        peer.is_told = true;
        let shards = self.view.member(node).map_or(0, |member| member.shards());
        peer.queue.extend((0..shards).map(Item::Begin));
        self.begin(Errand::TellAll(node));
    }
}

/// Who takes copies, this node apart, in which run.
fn takers(view: &View) -> impl Iterator<Item = (u16, u32)> {
    let takers = view.members.iter().filter(|member| member.takes() && member.node != view.me);
    takers.map(|member| (member.node, member.epoch))
}

#[cfg(test)]
mod tests;
