//! Where the copies of a shard's own sessions are, and what must still be said to whom. Lives: in each shard. View:
//! owner.
//!
//! Tell it the time ([`Replicas::handle_time`]) and what happens ([`Replicas::insert`], [`Replicas::changed`], `handle_*`); then [`Replicas::poll`] until it has
//! nothing to say, and give back with [`Replicas::refused`] what the link did not take.
//!
//! Invariants: a copy is kept by the first successors of its session in the present view, as many as configured;
//! to each of them its whole state is said again after a link came up, between a begin and an end, so that what
//! was lost, dropped or outdated is repaired without being remembered; what a keeper has not acknowledged between two
//! calls of [`Replicas::handle_timeout`] (it had no room, or did not yet believe us) is said again; a session waits
//! at most once in each queue, so queues are bounded by sessions, and by ends of sessions while the link is up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::letter::route::Token;
use crate::view::View;
use crate::{Millis, SessionName, Spot, Table};

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
    sessions: Table<SessionName, Owned>,
    peers: BTreeMap<u16, Peer>,
    /// Whose turn it is to be spoken to.
    next_peer: u16,
    resyncs: u64,
    repeats: u64,
    now: Millis,
    /// Since when sessions are not safe, oldest first; an entry holds if its session still says the same. Compacted
    /// when most do not.
    since: VecDeque<(Millis, SessionName)>,
    /// Of the last time somebody was told everything. Never counted anew: who was out of sight and comes back must
    /// not take this time for the last.
    round: u32,
}

#[derive(Debug)]
struct Owned {
    token: Token,
    term: u32,
    rev: u32,
    keepers: Vec<Keeper>,
    /// Since when a keeper is behind.
    since: Option<Millis>,
}

#[derive(Debug, Clone, Copy)]
struct Keeper {
    node: u16,
    /// Revision that was said last; 0: nothing is known to be there.
    said: u32,
    /// Revision that was acknowledged last.
    kept: u32,
    is_queued: bool,
    /// What was not acknowledged at the last look; 0: nothing.
    doubted: u32,
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
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Begin(u16),
    End(u16),
    Copy(SessionName),
    Moved(SessionName),
    Drop(SessionName, u32),
    Ended(SessionName, u32),
}

/// Something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Everything follows.
    Begin {
        /// To whom.
        to: Spot,
        /// Which round.
        round: u32,
    },
    /// That was everything.
    End {
        /// To whom.
        to: Spot,
        /// Which round.
        round: u32,
    },
    /// The whole session, as it is now.
    Copy {
        /// To whom.
        to: Spot,
        /// Which.
        name: SessionName,
        /// How often it has changed its owner.
        term: u32,
        /// Its revision.
        rev: u32,
    },
    /// It is ours.
    Moved {
        /// To whom.
        to: Spot,
        /// What its id says.
        token: Token,
        /// How often it has changed its owner.
        term: u32,
    },
    /// Somebody else keeps it now.
    Drop {
        /// To whom.
        to: Spot,
        /// Which.
        name: SessionName,
        /// Under which owner.
        term: u32,
    },
    /// It is over.
    Ended {
        /// To whom.
        to: Spot,
        /// Which.
        name: SessionName,
        /// Under which owner.
        term: u32,
    },
}

impl Say {
    /// To whom.
    pub fn to(&self) -> Spot {
        match self {
            Say::Begin { to, .. }
            | Say::End { to, .. }
            | Say::Copy { to, .. }
            | Say::Moved { to, .. }
            | Say::Drop { to, .. }
            | Say::Ended { to, .. } => *to,
        }
    }
}

impl Replicas {
    /// Of a shard without sessions. `replicas`: copies of each session.
    pub fn new(replicas: usize, view: Arc<View>) -> Self {
        Self {
            replicas,
            view,
            sessions: Table::default(),
            peers: BTreeMap::new(),
            next_peer: 0,
            resyncs: 0,
            repeats: 0,
            now: 0,
            since: VecDeque::new(),
            round: 0,
        }
    }

    /// What happens from now on happens at this time.
    pub fn handle_time(&mut self, now: Millis) {
        self.now = now;
    }

    /// Since when the session that has waited longest is not kept as it is by all who should; `None`: all are.
    pub fn behind_since(&self) -> Option<Millis> {
        self.since.iter().find(|entry| self.holds(entry)).map(|(at, _)| *at)
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
        let nodes = self.keepers_of(&name);
        let keepers = nodes.into_iter().map(Keeper::new).collect();
        self.sessions.insert(name, Owned { token, term, rev: 1, keepers, since: None });
        self.queue_copies(&name);
        if 0 < term {
            for peer in self.peers.values_mut().filter(|peer| peer.is_up) {
                peer.queue.push_back(Item::Moved(name));
            }
        }
    }

    /// A session is not as it was.
    pub fn changed(&mut self, name: &SessionName) {
        if let Some(owned) = self.sessions.get_mut(name) {
            owned.rev = owned.rev.wrapping_add(1).max(1);
            self.queue_copies(name);
        }
    }

    /// A session is not as it was, and the difference is small: `say` is called for each keeper that has all the
    /// rest, with the revision it will have; whether the letter left. The other keepers are told everything.
    pub fn appended(&mut self, name: &SessionName, mut say: impl FnMut(Spot, u32, u32) -> bool) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        let before = owned.rev;
        owned.rev = owned.rev.wrapping_add(1).max(1);
        for keeper in &mut owned.keepers {
            let peer = self.peers.get(&keeper.node).filter(|peer| peer.is_up && !peer.is_short);
            let member = self.view.member(keeper.node).filter(|_| peer.is_some());
            let Some(member) = member.filter(|_| keeper.said == before && !keeper.is_queued) else {
                continue;
            };
            let to = Spot { node: keeper.node, shard: member.shard_of(name) };
            if say(to, owned.term, owned.rev) {
                keeper.said = owned.rev;
            }
        }
        self.queue_copies(name);
    }

    /// A session of this shard is over: everyone who knows of it is told.
    pub fn remove(&mut self, name: &SessionName) {
        let Some(owned) = self.sessions.remove(name) else { return };
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
        self.sessions.remove(name);
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

    /// Whether all who should keep a session have it up to this revision. A session nobody keeps is as safe as it
    /// can be.
    pub fn is_safe(&self, name: &SessionName, rev: u32) -> bool {
        let kept = |keeper: &Keeper| rev <= keeper.kept;
        self.sessions.get(name).is_none_or(|owned| owned.keepers.iter().all(kept))
    }

    /// The cluster has changed.
    pub fn handle_view(&mut self, view: &Arc<View>) {
        let before = std::mem::replace(&mut self.view, view.clone());
        let lives = |node: &u16| {
            let epoch = before.member(*node).map(|member| member.epoch);
            epoch.is_some_and(|epoch| view.home(*node, epoch).is_some())
        };
        self.peers.retain(|node, _| lives(node));
        for owned in self.sessions.values_mut() {
            owned.keepers.retain(|keeper| lives(&keeper.node));
        }
        let takers = |view: &View| -> Vec<(u16, u32)> {
            let takers = view.members.iter().filter(|member| member.takes());
            takers.map(|member| (member.node, member.epoch)).collect()
        };
        if takers(&before) == takers(view) {
            return;
        }
        let names: Vec<SessionName> = self.sessions.keys().copied().collect();
        for name in names {
            let nodes = self.keepers_of(&name);
            let Some(owned) = self.sessions.get_mut(&name) else { continue };
            for old in owned.keepers.iter().filter(|keeper| !nodes.contains(&keeper.node)) {
                let peer = self.peers.get_mut(&old.node).filter(|peer| peer.is_up);
                if let Some(peer) = peer {
                    peer.queue.push_back(Item::Drop(name, owned.term));
                }
            }
            let old = std::mem::take(&mut owned.keepers);
            owned.keepers = nodes
                .into_iter()
                .map(|node| {
                    let known = old.iter().find(|keeper| keeper.node == node);
                    known.copied().unwrap_or_else(|| Keeper::new(node))
                })
                .collect();
            self.queue_copies(&name);
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
    /// is a new one; if it was the other's, acknowledgements were lost.
    pub fn handle_lost(&mut self, node: u16) {
        let mut unsure = Vec::new();
        for (name, owned) in &mut self.sessions {
            let rev = owned.rev;
            for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
                if keeper.kept < rev {
                    keeper.said = 0;
                    unsure.push(*name);
                }
            }
        }
        for name in unsure {
            self.queue_copies(&name);
        }
    }

    /// A node has a session's copy, up to a revision.
    pub fn handle_kept(&mut self, node: u16, name: &SessionName, rev: u32) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
            if rev <= keeper.said {
                keeper.kept = keeper.kept.max(rev);
            }
        }
        owned.settle();
    }

    /// A node has no room for a session's copy.
    pub fn handle_not_kept(&mut self, node: u16, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
            keeper.kept = 0;
        }
        self.note_behind(name);
    }

    /// A node cannot append to a copy it has not.
    pub fn handle_missing(&mut self, node: u16, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
            (keeper.said, keeper.kept) = (0, 0);
        }
        self.queue_copies(name);
    }

    /// Some time has passed. What was not acknowledged at the last look and still is not is said again, whole.
    /// Returns whether anything was in doubt, so that it is worth looking again.
    pub fn handle_timeout(&mut self) -> bool {
        let (mut is_doubtful, mut again) = (false, Vec::new());
        for (name, owned) in &mut self.sessions {
            for keeper in &mut owned.keepers {
                let is_waiting = keeper.said != 0 && keeper.kept < keeper.said;
                if !is_waiting || keeper.is_queued {
                    keeper.doubted = 0;
                } else if keeper.doubted == keeper.said {
                    (keeper.said, keeper.doubted) = (0, 0);
                    again.push(*name);
                } else {
                    keeper.doubted = keeper.said;
                }
                is_doubtful |= is_waiting;
            }
        }
        self.repeats += again.len() as u64;
        for name in again {
            self.queue_copies(&name);
        }
        is_doubtful
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
                    let Some(owned) = self.sessions.get_mut(&name) else { continue };
                    let (term, rev) = (owned.term, owned.rev);
                    let keeper = owned.keepers.iter_mut().find(|keeper| keeper.node == node);
                    let Some(keeper) = keeper else { continue };
                    keeper.is_queued = false;
                    keeper.said = rev;
                    Say::Copy { to: at(&name), name, term, rev }
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
                let keepers = owned.map(|owned| owned.keepers.iter_mut());
                for keeper in keepers.into_iter().flatten().filter(|keeper| keeper.node == node) {
                    (keeper.said, keeper.is_queued) = (0, true);
                }
                Item::Copy(name)
            }
        };
        peer.queue.push_front(item);
    }

    fn keepers_of(&self, name: &SessionName) -> Vec<u16> {
        let successors = self.view.successors(name, self.view.me);
        successors.into_iter().take(self.replicas).map(|member| member.node).collect()
    }

    /// Queues a session for the keepers that have not its present revision.
    fn queue_copies(&mut self, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        for keeper in &mut owned.keepers {
            let peer = self.peers.get_mut(&keeper.node).filter(|peer| peer.is_up);
            if let Some(peer) = peer
                && keeper.said != owned.rev
                && !keeper.is_queued
            {
                keeper.is_queued = true;
                peer.queue.push_back(Item::Copy(*name));
            }
        }
        self.note_behind(name);
    }

    /// Remembers since when a session is behind, if it is.
    fn note_behind(&mut self, name: &SessionName) {
        let Some(owned) = self.sessions.get_mut(name) else { return };
        owned.settle();
        if owned.since.is_none() && owned.is_behind() {
            owned.since = Some(self.now);
            self.since.push_back((self.now, *name));
        }
        if 2 * self.sessions.len() + SINCE_SPARE < self.since.len() {
            let mut since = std::mem::take(&mut self.since);
            since.retain(|entry| self.holds(entry));
            self.since = since;
        }
    }

    fn say_all(&mut self, node: u16) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let shards = self.view.member(node).map_or(0, |member| member.shards());
        self.resyncs += 1;
        peer.is_short = false;
        self.round = self.round.wrapping_add(1);
        peer.round = self.round;
        peer.queue.clear();
        peer.ends = 0;
        peer.queue.extend((0..shards).map(Item::Begin));
        for (name, owned) in &mut self.sessions {
            for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.node == node) {
                *keeper = Keeper { is_queued: true, ..Keeper::new(node) };
                peer.queue.push_back(Item::Copy(*name));
            }
            if 0 < owned.term {
                peer.queue.push_back(Item::Moved(*name));
            }
        }
        peer.queue.extend((0..shards).map(Item::End));
        let keeps = |owned: &Owned| owned.keepers.iter().any(|keeper| keeper.node == node);
        let kept = self.sessions.iter().filter(|(_, owned)| keeps(owned));
        let names: Vec<SessionName> = kept.map(|(name, _)| *name).collect();
        for name in names {
            self.note_behind(&name);
        }
    }
}

impl Owned {
    fn is_behind(&self) -> bool {
        self.keepers.iter().any(|keeper| keeper.kept < self.rev)
    }

    fn settle(&mut self) {
        if !self.is_behind() {
            self.since = None;
        }
    }
}

impl Keeper {
    fn new(node: u16) -> Self {
        Self { node, said: 0, kept: 0, is_queued: false, doubted: 0 }
    }
}
