//! Handing sessions over while this shard leaves: each goes to its first successor as soon as nothing of it runs
//! here, and what is asked of it meanwhile waits, and follows it.
//!
//! Invariants: a session that was offered is not touched until its new owner has it, or nobody is left to take it;
//! a request that waits for it is answered, by the new owner or by us; at most [`UNDER_WAY_MAX`] sessions and
//! [`HELD_MAX`] requests wait at once. An offer that was not taken in time is made again, and then to the next
//! successor: should both take it, the higher (term, node) wins, as after a partition.

use std::collections::{HashSet, VecDeque};

use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::session::{Record, SessionLetter};
use erlmcp_cluster::{SessionName, Spot, Table};

use super::Engine;
use super::forwards::{Forward, Onward};
use super::out::Place;
use super::sessions::Channel;
use super::slots::Key;
use crate::io::Millis;
use crate::net::Net;

/// Sessions that are offered at once and not taken yet.
pub const UNDER_WAY_MAX: usize = 64;
/// Requests that wait for sessions under way; beyond that they are told to come again.
pub const HELD_MAX: usize = 1024;
/// So long an offer may go unanswered, milliseconds.
const ANSWER_MS: Millis = 500;
/// After so long a link that took no offer is tried again, milliseconds. Usually it has said so itself before.
const ROOM_MS: Millis = 50;
/// So many offers go to one successor before the next one is tried.
const OFFERS_EACH: u32 = 2;
/// Sessions looked at in one turn.
const PER_TURN: usize = 1024;
/// After the last session was taken the shard stays for so long, milliseconds: who has not heard of it yet still
/// sends requests here, and must find somebody who knows better.
pub const LINGER_MS: Millis = 250;
/// So long before the deadline those who still wait are told that it was in vain, milliseconds.
const LAST_MS: Millis = 100;

/// The sessions of a shard that leaves.
#[derive(Default)]
pub struct Handovers {
    /// Those that may be offered now. Some are in here twice, or have ended.
    ready: VecDeque<Key>,
    under_way: Table<SessionName, UnderWay>,
    /// Where those went that were taken. Bounded by the sessions there were.
    gone: Table<SessionName, Spot>,
    /// Requests that wait, in all.
    held: usize,
    /// Until then, requests for what went may still come here.
    lingers_until: Option<Millis>,
    /// There was nobody to take what was ready.
    was_alone: bool,
    is_over: bool,
}

/// A session that was offered.
struct UnderWay {
    key: Key,
    to: Spot,
    offers: u32,
    /// When it is offered again.
    again_at: Millis,
    held: Vec<Forward>,
}

impl Handovers {
    /// Whether there is nothing left to hand over, of what can be now.
    pub fn is_done(&self) -> bool {
        self.ready.is_empty() && self.under_way.is_empty() && self.lingers_until.is_none()
    }

    fn next(&self) -> Option<Millis> {
        self.under_way.values().map(|under_way| under_way.again_at).min()
    }
}

impl Engine {
    /// Whether somebody would take sessions of this node.
    pub(super) fn has_successors(&self) -> bool {
        let me = self.me().node;
        let is_clustered = self.config.cluster.is_some();
        is_clustered && self.view.members.iter().any(|member| member.takes() && member.node != me)
    }

    fn handovers(&mut self) -> Option<&mut Handovers> {
        self.departure.as_mut().map(|departure| &mut departure.handovers)
    }

    fn under_way(&mut self, name: &SessionName) -> Option<&mut UnderWay> {
        self.handovers()?.under_way.get_mut(name)
    }

    /// Whether a request for a session can be served although this shard leaves: by another node.
    pub(super) fn may_follow(&self) -> bool {
        self.is_leaving() && self.has_successors()
    }

    /// Whether nothing of a session runs or waits here.
    fn can_be_offered(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(|session| {
            matches!(session.channel, Channel::Streamable) && !session.is_busy()
        })
    }

    /// All sessions that can go, go.
    pub(super) fn ready_all(&mut self) {
        if !self.has_successors() {
            return;
        }
        let ready = self.sessions.keys().into_iter().filter(|key| self.can_be_offered(*key));
        let ready: VecDeque<Key> = ready.collect();
        if let Some(handovers) = self.handovers() {
            handovers.ready = ready;
        }
    }

    /// Perhaps nothing keeps this session any more.
    pub(super) fn ready(&mut self, key: Key) {
        if self.has_successors()
            && self.can_be_offered(key)
            && let Some(handovers) = self.handovers()
            && !handovers.is_over
        {
            handovers.ready.push_back(key);
        }
    }

    /// Offers what can be offered, and again what was not taken. Returns when to look again.
    pub(super) fn offer_sessions<N: Net>(&mut self, net: &mut N) -> Option<Millis> {
        let now = net.now();
        let last_at = self.departure.as_ref()?.until.saturating_sub(LAST_MS);
        if last_at <= now {
            self.stop_offering(net);
            return None;
        }
        let mut short = HashSet::new();
        self.offer_again(net, &mut short);
        self.offer_more(net, &mut short);
        let last_at = self.has_successors().then_some(last_at);
        let handovers = &mut self.departure.as_mut()?.handovers;
        handovers.lingers_until = handovers.lingers_until.filter(|until| now < *until);
        let lingers_until = handovers.lingers_until;
        let room = (!handovers.ready.is_empty()).then_some(now + ROOM_MS);
        [handovers.next(), room, lingers_until, last_at].into_iter().flatten().min()
    }

    fn offer_again<N: Net>(&mut self, net: &mut N, short: &mut HashSet<u16>) {
        let now = net.now();
        let Some(handovers) = self.handovers() else { return };
        let due = handovers.under_way.iter().filter(|(_, under_way)| under_way.again_at <= now);
        let due: Vec<(SessionName, Key, u32)> =
            due.map(|(name, under_way)| (*name, under_way.key, under_way.offers)).collect();
        for (name, key, offers) in due {
            let lives = self.sessions.get(key).is_some();
            let Some(to) = self.taker(&name, offers).filter(|_| lives) else {
                self.not_taken(net, &name);
                continue;
            };
            let waits = self.keeping.as_ref().is_some_and(|keeping| keeping.withheld.waits(&name));
            let is_offered = !waits && self.offer(net, key, to, short);
            if let Some(under_way) = self.under_way(&name) {
                under_way.to = to;
                under_way.offers += u32::from(is_offered);
                under_way.again_at = now + if is_offered { ANSWER_MS } else { ROOM_MS };
            }
        }
    }

    /// Its client is here: the session goes next, however many are under way. Those are no more than the requests that
    /// wait for them.
    fn offer_out_of_turn<N: Net>(&mut self, net: &mut N, key: Key, name: &SessionName) {
        let now = net.now();
        let Some(to) = self.taker(name, 0) else { return };
        let waits = self.keeping.as_ref().is_some_and(|keeping| keeping.withheld.waits(name));
        let is_offered = !waits && self.offer(net, key, to, &mut HashSet::new());
        let offers = u32::from(is_offered);
        let again_at = now + if is_offered { ANSWER_MS } else { ROOM_MS };
        let Some(handovers) = self.handovers() else { return };
        if handovers.held < HELD_MAX {
            let under_way = UnderWay { key, to, offers, again_at, held: Vec::new() };
            handovers.under_way.insert(*name, under_way);
            self.go_on_leaving(net);
        }
    }

    fn offer_more<N: Net>(&mut self, net: &mut N, short: &mut HashSet<u16>) {
        let now = net.now();
        let mut aside = VecDeque::new();
        for _ in 0..PER_TURN {
            let Some(handovers) = self.handovers() else { return };
            if UNDER_WAY_MAX <= handovers.under_way.len() {
                break;
            }
            let Some(key) = handovers.ready.pop_front() else { break };
            if !self.can_be_offered(key) {
                continue;
            }
            let Some(name) = self.sessions.get(key).map(|session| session.random) else { continue };
            if self.under_way(&name).is_some() {
                continue;
            }
            if self.keeping.as_ref().is_some_and(|keeping| keeping.withheld.waits(&name)) {
                aside.push_back(key);
                continue;
            }
            let Some(to) = self.taker(&name, 0) else {
                self.handovers().into_iter().for_each(|handovers| handovers.was_alone = true);
                continue;
            };
            if !self.offer(net, key, to, short) {
                aside.push_back(key);
                continue;
            }
            let again_at = now + ANSWER_MS;
            let under_way = UnderWay { key, to, offers: 1, again_at, held: Vec::new() };
            if let Some(handovers) = self.handovers() {
                handovers.under_way.insert(name, under_way);
            }
        }
        if let Some(handovers) = self.handovers() {
            handovers.ready.append(&mut aside);
        }
    }

    /// Who takes a session that was offered so often.
    fn taker(&self, name: &SessionName, offers: u32) -> Option<Spot> {
        let successors = self.view.successors(name, self.me().node);
        let index = (offers / OFFERS_EACH) as usize % successors.len().max(1);
        let member = successors.get(index)?;
        Some(Spot { node: member.node, shard: member.shard_of(name) })
    }

    fn offer<N: Net>(&self, net: &mut N, key: Key, to: Spot, short: &mut HashSet<u16>) -> bool {
        if short.contains(&to.node) {
            return false;
        }
        let Some(record) = self.own_record(key, net.now()) else { return false };
        let is_offered = net.post(to, &Letter::Session(SessionLetter::TakeOver(record)));
        if !is_offered {
            short.insert(to.node);
        }
        is_offered
    }

    /// A session of this shard as its next owner needs it.
    fn own_record(&self, key: Key, now: Millis) -> Option<Record<'_>> {
        let name = self.sessions.get(key)?.random;
        let replicas = &self.keeping.as_ref()?.replicas;
        let (token, term) = (replicas.token(&name)?, replicas.term(&name)?);
        self.record(key, token, term, replicas.rev(&name)?, now)
    }

    /// Another shard has taken a session, and the directory knows: what waited for it follows.
    pub(super) fn handed_over<N: Net>(&mut self, net: &mut N, name: &SessionName, to: Spot) {
        let Some(handovers) = self.handovers() else { return };
        let Some(under_way) = handovers.under_way.remove(name) else { return };
        handovers.held -= under_way.held.len();
        handovers.gone.insert(*name, to);
        handovers.lingers_until = Some(net.now() + LINGER_MS);
        for forward in under_way.held {
            self.give_back(net, to, forward.onward());
        }
        self.go_on_leaving(net);
    }

    /// Whoever was offered a session has no room for it: the next one is asked, and after the last one the first
    /// again, a little later.
    pub(super) fn offer_refused<N: Net>(&mut self, net: &mut N, from: Spot, name: &SessionName) {
        let now = net.now();
        let takers = self.view.successors(name, self.me().node).len() as u32;
        let Some(under_way) = self.under_way(name).filter(|under_way| under_way.to == from) else {
            return;
        };
        let passed = under_way.offers.div_ceil(OFFERS_EACH);
        under_way.offers = passed * OFFERS_EACH;
        let was_last = passed % takers.max(1) == 0;
        under_way.again_at = now + if was_last { ANSWER_MS } else { 0 };
        self.go_on_leaving(net);
    }

    /// Where a session of this shard went.
    pub(super) fn gone_to(&self, name: &SessionName) -> Option<Spot> {
        let to = self.departure.as_ref()?.handovers.gone.get(name).copied()?;
        self.view.member(to.node).filter(|member| member.owns()).map(|_| to)
    }

    /// A session under way has ended here after all, or nobody is left to take it.
    fn not_taken<N: Net>(&mut self, net: &mut N, name: &SessionName) {
        let Some(handovers) = self.handovers() else { return };
        let Some(under_way) = handovers.under_way.remove(name) else { return };
        handovers.held -= under_way.held.len();
        handovers.was_alone = true;
        for forward in under_way.held {
            self.mailed_forward(net, Box::new(forward));
        }
    }

    /// The deadline is near.
    fn stop_offering<N: Net>(&mut self, net: &mut N) {
        let had_takers = self.has_successors();
        let Some(handovers) = self.handovers() else { return };
        if std::mem::replace(&mut handovers.is_over, true) {
            return;
        }
        let left = self
            .sessions
            .iter()
            .filter(|(_, session)| had_takers && matches!(session.channel, Channel::Streamable));
        for _ in 0..left.count() {
            net.counters().error("handover_unfinished");
        }
        let Some(handovers) = self.handovers() else { return };
        handovers.ready.clear();
        (handovers.held, handovers.lingers_until) = (0, None);
        for (_, under_way) in std::mem::take(&mut handovers.under_way) {
            for forward in under_way.held {
                let onward = forward.onward();
                self.refuse_moving(net, onward.place, onward.id());
            }
        }
    }

    /// Whether a session was offered to another shard, which may have it by now.
    pub(super) fn is_offered(&mut self, key: Key) -> bool {
        let name = self.sessions.get(key).map(|session| session.random);
        name.is_some_and(|name| self.under_way(&name).is_some())
    }

    /// What becomes of a request for a session of this shard while it leaves. `true`: it was dealt with.
    pub(super) fn leaves_with<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        onward: Onward<'_>,
    ) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let name = session.random;
        if self.under_way(&name).is_none() {
            if !onward.begins() {
                return false;
            }
            let is_free = session_is_free(self, key);
            if !is_free || !self.has_successors() || self.handovers().is_none_or(|h| h.is_over) {
                self.refuse_leaving(net, onward.place);
                return true;
            }
            // Its client is here again: it must not wait for its turn.
            self.end_waiting_session(net, key);
            self.offer_out_of_turn(net, key, &name);
        }
        self.hold(net, &name, onward);
        true
    }

    fn hold<N: Net>(&mut self, net: &mut N, name: &SessionName, onward: Onward<'_>) {
        if let Some(handovers) = self.handovers()
            && handovers.held < HELD_MAX
            && let Some(under_way) = handovers.under_way.get_mut(name)
        {
            under_way.held.push(Forward::new(net, onward));
            handovers.held += 1;
            return;
        }
        self.refuse_moving(net, onward.place, onward.id());
    }

    /// The client of a request that waits has gone.
    pub(super) fn held_gone(&mut self, place: Place) {
        let Some(handovers) = self.handovers() else { return };
        for under_way in handovers.under_way.values_mut() {
            let before = under_way.held.len();
            under_way.held.retain(|forward| forward.onward().place != place);
            handovers.held -= before - under_way.held.len();
        }
    }

    /// Links or members have changed while this shard leaves: offers may have been lost, or find room, or a taker.
    pub(super) fn leave_otherwise<N: Net>(&mut self, net: &mut N, lost: Option<u16>) {
        let now = net.now();
        let view = self.view.clone();
        let Some(handovers) = self.handovers() else { return };
        for under_way in handovers.under_way.values_mut() {
            let node = under_way.to.node;
            if !view.member(node).is_some_and(|member| member.takes()) {
                (under_way.offers, under_way.again_at) = (0, now);
            } else if lost == Some(node) {
                under_way.again_at = now;
            }
        }
        if std::mem::take(&mut handovers.was_alone) {
            self.ready_all();
        }
        self.go_on_leaving(net);
    }
}

/// Whether nothing of a session runs here; a GET stream may still be open.
fn session_is_free(engine: &Engine, key: Key) -> bool {
    engine.sessions.get(key).is_some_and(|session| session.calls.is_empty())
}
