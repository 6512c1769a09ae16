//! Sessions change their owner: taken over from a node that is gone, handed over by one that leaves, and given up
//! to whoever has the higher claim. A claim is how often the session has changed its owner, then the node's number.
//!
//! The shard that [`erlmcp_cluster::view::Member::shard_of`] names keeps a session's copy, takes the session over, and
//! hears who else did: on every node there is one shard to ask. The home shard of an own session is asked before.
//!
//! Invariants: of two owners that hear of each other the lower claim yields; who is asked for a session either
//! serves it, names somebody whom it thinks nearer to it, or refuses; how often a request is sent on is bounded.

use erlmcp_cluster::copies::Verdict;
use erlmcp_cluster::directory::Told;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::letter::session::{Record, SessionLetter};
use erlmcp_cluster::{SessionName, Spot};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::seal::SessionToken;
use erlmcp_protocol::sse;

use super::aways::Setback;
use super::gate::retry_ms;
use super::listens::Subscriber;
use super::record::{LEAP, revive};
use super::slots::Key;
use super::whereabouts::Whereabouts;
use super::{Engine, EngineMail};
use crate::io::Millis;
use crate::message::Mail;
use crate::net::{Net, TimerKey};

/// How often a session has changed its owner, and who owns it.
pub(super) type Claim = (u32, u16);

/// After an owner was lost, or others were met, a session that is not found may still be on its way for this long,
/// milliseconds: its client is told to come again.
const SETTLING_MS: Millis = 1000;

/// Orphans that could not be handed over wait this long, milliseconds.
const ORPHAN_RETRY_MS: Millis = 100;

/// What an owner owned that has been gone for this long is forgotten, milliseconds.
const FORGET_AFTER_MS: Millis = 60_000;

/// Why a session was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// There is no room for it.
    Full,
    /// It cannot be read.
    Unreadable,
}

impl Engine {
    // ---- Where is it? ----

    /// The shard of this node that knows of a session which no shard of it made, or which has left it.
    pub(super) fn directory_shard(&self, name: &SessionName) -> u16 {
        self.view.member(self.me().node).map_or(0, |member| member.shard_of(name))
    }

    /// Where a session is, as far as this shard knows beyond what the session's id says. This shard is the one to ask.
    pub(super) fn look_up<N: Net>(
        &mut self,
        net: &mut N,
        token: &SessionToken,
    ) -> Option<Whereabouts> {
        let (me, name) = (self.me(), token.random);
        let keeping = self.keeping.as_ref()?;
        if let Some(key) = keeping.owned.get(&name) {
            return Some(Whereabouts::Here(*key));
        }
        let known = keeping.directory.whose(&name).copied();
        let lives = |owner: Spot, epoch| self.view.home(owner.node, epoch).is_some();
        if let Some(known) = known
            && known.owner.node != me.node
            && lives(known.owner, known.epoch)
        {
            return Some(Whereabouts::At(known.owner));
        }
        if let Some(copy) = keeping.copies.get(&name) {
            let (owner, epoch) = copy.owner();
            if lives(owner, epoch) {
                return Some(Whereabouts::At(owner));
            }
            return Some(match self.successor(&name, owner.node) {
                Some(first) if first == me => match self.adopt_orphan(net, &name) {
                    Ok(key) => Whereabouts::Here(key),
                    Err(NotTaken::Full) => Whereabouts::Moving,
                    Err(NotTaken::Unreadable) => Whereabouts::Nowhere,
                },
                Some(first) => {
                    self.hand_over(net, &name, first);
                    Whereabouts::At(first)
                }
                None => Whereabouts::Moving,
            });
        }
        known.map(|known| self.whose_now(net, &name, known.owner.node))
    }

    /// Who should have the session of an owner that is gone, if it is not here.
    pub(super) fn whose_now<N: Net>(
        &self,
        net: &mut N,
        name: &SessionName,
        owner: u16,
    ) -> Whereabouts {
        // Who has just booted and met nobody yet cannot know of the others' sessions.
        let new_until = self.keeping.as_ref().and_then(|keeping| keeping.new_until);
        match self.successor(name, owner) {
            Some(first) if first != self.me() => Whereabouts::At(first),
            _ if self.is_unsettled(net) => Whereabouts::Moving,
            _ if new_until.is_some_and(|until| net.now() < until) => Whereabouts::Moving,
            _ => Whereabouts::Nowhere,
        }
    }

    fn successor(&self, name: &SessionName, owner: u16) -> Option<Spot> {
        let successors = self.view.successors(name, owner);
        successors.first().map(|first| Spot { node: first.node, shard: first.shard_of(name) })
    }

    // ---- Owners that are gone ----

    /// Somebody who owned sessions is gone.
    pub(super) fn owners_lost<N: Net>(&mut self, net: &mut N) {
        self.unsettle(net);
        net.timer(net.now() + FORGET_AFTER_MS, TimerKey::Directory);
    }

    /// Whether a session that is not found may only not have been heard of.
    pub(super) fn is_unsettled<N: Net>(&self, net: &N) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| net.now() < keeping.unsettled_until)
    }

    /// For a while a session that is not found may only not have been heard of.
    pub(super) fn unsettle<N: Net>(&mut self, net: &mut N) {
        if let Some(keeping) = &mut self.keeping {
            keeping.unsettled_until = net.now() + SETTLING_MS;
        }
    }

    /// What owners that are gone owned is forgotten.
    pub(super) fn directory_timer<N: Net>(&mut self, net: &mut N) {
        let Some(keeping) = &mut self.keeping else { return };
        let view = &self.view;
        keeping.directory.forget(|known| view.home(known.owner.node, known.epoch).is_none());
        keeping.count(net);
    }

    /// Looks for sessions whose owners are gone, and takes them over or hands them to who does.
    pub(super) fn find_orphans<N: Net>(&mut self, net: &mut N) {
        let Some(keeping) = &mut self.keeping else { return };
        if keeping.copies.is_empty() {
            return;
        }
        keeping.orphans = keeping.copies.orphans(&self.view).into();
        self.settle_orphans(net);
    }

    pub(super) fn orphan_timer<N: Net>(&mut self, net: &mut N) {
        if let Some(keeping) = &mut self.keeping {
            keeping.has_orphan_timer = false;
        }
        self.settle_orphans(net);
    }

    fn settle_orphans<N: Net>(&mut self, net: &mut N) {
        let Some(keeping) = &self.keeping else { return };
        let (mut left, mut again) = (keeping.limits.adoptions_per_turn.max(1), Vec::new());
        while 0 < left {
            let Some(keeping) = &mut self.keeping else { return };
            let Some(name) = keeping.orphans.pop_front() else { break };
            let Some(copy) = keeping.copies.get(&name) else { continue };
            let (owner, epoch) = copy.owner();
            if self.view.home(owner.node, epoch).is_some() {
                continue;
            }
            left -= 1;
            let is_settled = match self.successor(&name, owner.node) {
                Some(first) if first == self.me() => {
                    self.adopt_orphan(net, &name) != Err(NotTaken::Full)
                }
                Some(first) => self.hand_over(net, &name, first),
                // The next view says who.
                None => true,
            };
            if !is_settled {
                again.push(name);
            }
        }
        let Some(keeping) = &mut self.keeping else { return };
        let wait_ms = if keeping.orphans.is_empty() { ORPHAN_RETRY_MS } else { 1 };
        keeping.orphans.extend(again);
        if !keeping.orphans.is_empty() && !std::mem::replace(&mut keeping.has_orphan_timer, true) {
            net.timer(net.now() + wait_ms, TimerKey::Orphans);
        }
        keeping.count(net);
    }

    /// Gives the copy of an orphan to who is to own it; whether it left. The copy stays until we hear that it was
    /// taken.
    fn hand_over<N: Net>(&mut self, net: &mut N, name: &SessionName, to: Spot) -> bool {
        let copy = self.keeping.as_ref().and_then(|keeping| keeping.copies.get(name));
        let Some(record) = copy.and_then(|copy| copy.record()) else { return true };
        net.post(to, &Letter::Session(SessionLetter::TakeOver(record)))
    }

    fn adopt_orphan<N: Net>(&mut self, net: &mut N, name: &SessionName) -> Result<Key, NotTaken> {
        let copy = self.keeping.as_mut().and_then(|keeping| keeping.copies.take(name));
        let Some(copy) = copy else { return Err(NotTaken::Unreadable) };
        let (owner, _) = copy.owner();
        let adopted = match copy.record() {
            Some(record) => self.adopt(net, &record, LEAP, owner.node),
            None => Err(NotTaken::Unreadable),
        };
        if adopted == Err(NotTaken::Full)
            && let Some(keeping) = &mut self.keeping
        {
            keeping.copies.put_back(*name, copy);
        }
        adopted
    }

    /// Makes a session of a record: it is ours from now on, and everyone is told. `leap`: see [`LEAP`].
    fn adopt<N: Net>(
        &mut self,
        net: &mut N,
        record: &Record<'_>,
        leap: u32,
        owner: u16,
    ) -> Result<Key, NotTaken> {
        let (now, name, bounds) = (net.now(), record.token.name, self.bounds);
        let known = self.keeping.as_ref().and_then(|keeping| keeping.directory.whose(&name));
        let last = known.map_or(0, |known| known.term).max(record.term);
        let term = last.saturating_add(1);
        let Some(session) = revive(record, term, leap, now, &bounds) else {
            net.counters().error("adoption_unreadable");
            return Err(NotTaken::Unreadable);
        };
        self.make_room(net).map_err(|_| NotTaken::Full)?;
        let key = self.store_session(net, session);
        for uri in &record.subscriptions {
            self.listens.subscribe(uri, Subscriber::Session(key));
        }
        self.fail_unfinished(net, key, record, owner);
        net.counters().sessions_adopted += 1;
        self.session_made(net, key, record.token, term);
        let rank = (term, self.me().node);
        if let Some(keeping) = &mut self.keeping {
            keeping.copies.outdated(&name, rank);
            keeping.directory.outdated(&name, rank);
            keeping.is_due = true;
        }
        Ok(key)
    }

    /// Calls ended with their node: who comes back for one is told so, and that it may ask again.
    fn fail_unfinished<N: Net>(&mut self, net: &mut N, key: Key, record: &Record<'_>, owner: u16) {
        let (now, bounds) = (net.now(), self.bounds);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(streams) = session.streams.as_mut() else { return };
        for number in streams.unfinished() {
            let stream = record.streams.iter().find(|stream| stream.number == number);
            if let Some(id) = stream.and_then(|stream| stream.awaited) {
                let mut text = Vec::with_capacity(256);
                jsonrpc::write_error(&mut text, Some(id), &Setback::NodeLost(owner).error());
                net.counters().error(Setback::NodeLost(owner).reason());
                streams.push(number, &text.into(), now, &bounds);
            }
            streams.finish(number, now);
        }
    }

    // ---- Two owners ----

    /// Somebody else claims to own a session. `true`: it is ours nevertheless, and they are told.
    pub(super) fn contest<N: Net>(
        &mut self,
        net: &mut N,
        name: &SessionName,
        claim: Claim,
        from: Spot,
    ) -> bool {
        let me = self.me();
        let Some(keeping) = &self.keeping else { return false };
        let (Some(key), Some(term), Some(token)) = (
            keeping.owned.get(name).copied(),
            keeping.replicas.term(name),
            keeping.replicas.token(name),
        ) else {
            return false;
        };
        if (term, me.node) < claim {
            net.counters().sessions_yielded += 1;
            self.give_up(net, key, name);
            self.handed_over(net, name, from);
            return false;
        }
        net.post(from, &Letter::Session(SessionLetter::Moved { token, term }));
        true
    }

    /// A session of this shard is another's now: its calls end, its streams send their clients back, and nobody is
    /// told that it is over.
    fn give_up<N: Net>(&mut self, net: &mut N, key: Key, name: &SessionName) {
        if let Some(keeping) = &mut self.keeping {
            keeping.owned.remove(name);
            keeping.replicas.release(name);
        }
        self.refuse_withheld(net, name);
        let calls = self.sessions.get_mut(key).map(|session| std::mem::take(&mut session.calls));
        for call in calls.into_iter().flatten() {
            let Some(record) = self.take_call(net, call) else { continue };
            let setback = Setback::NodeLost(self.me().node);
            net.counters().error(setback.reason());
            self.answer_error(net, &record.caller(), 503, &setback.error());
            self.call_settled(net, &record);
        }
        let mut last = Vec::new();
        sse::write_retry(&mut last, retry_ms(net));
        self.close_session(net, key, &last);
    }

    /// Another shard owns a session, although its id names somebody else.
    fn moved<N: Net>(&mut self, net: &mut N, from: Spot, epoch: u32, token: Token, term: u32) {
        let (me, name, claim) = (self.me(), token.name, (term, from.node));
        if self.contest(net, &name, claim, from) {
            return;
        }
        // The shard that made it may have it still.
        let is_ours = token.at.node == me.node && token.epoch == self.config.epoch;
        if is_ours && token.at.shard != me.shard && token.at.shard < self.seat.shards {
            let mail = EngineMail::Claim { name, term, by: from };
            net.mail_surely(token.at.shard, Mail::Engine(mail));
        }
        // An owner that contests a claim tells whoever made it; the directory hears from it separately, and only
        // there it says when the session is over.
        if self.directory_shard(&name) == me.shard {
            self.note_moved(net, from, epoch, token, term);
        }
    }

    /// Remembers who owns a session.
    pub(super) fn note_moved<N: Net>(
        &mut self,
        net: &mut N,
        owner: Spot,
        epoch: u32,
        token: Token,
        term: u32,
    ) {
        let Some(keeping) = &mut self.keeping else { return };
        if keeping.directory.moved(token, term, owner, epoch) == Told::Full {
            net.counters().error("directory_full");
        }
        keeping.copies.superseded(&token.name, (term, owner.node));
        keeping.count(net);
    }

    /// The directory shard has heard that a session this shard made is another's.
    pub(super) fn claimed<N: Net>(&mut self, net: &mut N, name: &SessionName, term: u32, by: Spot) {
        self.contest(net, name, (term, by.node), by);
    }

    // ---- Handed over ----

    /// This shard is to own a session. Whoever asks has it, or its copy, and lets go of it when it hears from us.
    fn take_over<N: Net>(&mut self, net: &mut N, from: Spot, record: &Record<'_>) {
        let name = record.token.name;
        let Some(keeping) = &self.keeping else { return };
        let mine = keeping.replicas.term(&name);
        let is_known = keeping.directory.whose(&name).is_some_and(|known| {
            let lives = self.view.home(known.owner.node, known.epoch).is_some();
            lives && record.term < known.term && known.owner.node != from.node
        });
        let term = match mine {
            // Said twice, or by two keepers of the same copy.
            Some(mine) if record.term < mine => mine,
            // Somebody else has it by now, and they hear of that.
            None if is_known => return self.take_not(net, from, name),
            Some(_) => {
                // What we have is older.
                self.contest(net, &name, (record.term.saturating_add(1), 0), from);
                return self.take_anew(net, from, record);
            }
            None => return self.take_anew(net, from, record),
        };
        net.post(from, &Letter::Session(SessionLetter::Taken { name, term }));
    }

    fn take_anew<N: Net>(&mut self, net: &mut N, from: Spot, record: &Record<'_>) {
        let name = record.token.name;
        if self.is_leaving() {
            return self.take_not(net, from, name);
        }
        // From a keeper: its owner is gone. From an owner: nothing is missing.
        let is_owner = self.view.home(record.token.at.node, record.token.epoch).is_some();
        let (leap, owner) = if is_owner { (0, from.node) } else { (LEAP, record.token.at.node) };
        // Who kept it before may have it in an earlier revision than we do.
        let has_more =
            self.keeping.as_ref().and_then(|keeping| keeping.copies.get(&name)).is_some_and(
                |copy| {
                    let is_others = copy.owner().0.node != from.node;
                    is_others && copy.term() == record.term && record.rev < copy.rev()
                },
            );
        let taken = match has_more {
            true => self.adopt_orphan(net, &name),
            false => self.adopt(net, record, leap, owner),
        };
        if taken.is_err() {
            return self.take_not(net, from, name);
        }
        let term = self.keeping.as_ref().and_then(|keeping| keeping.replicas.term(&name));
        if let Some(term) = term {
            net.post(from, &Letter::Session(SessionLetter::Taken { name, term }));
        }
    }

    fn take_not<N: Net>(&mut self, net: &mut N, from: Spot, name: SessionName) {
        net.counters().error("takeover_refused");
        net.post(from, &Letter::Session(SessionLetter::NotTaken { name }));
    }

    /// Another shard owns now what this one gave it: a session of its own, or the copy of an orphan. The directory
    /// here knows the new owner from now on.
    pub(super) fn taken<N: Net>(&mut self, net: &mut N, from: Spot, name: &SessionName, term: u32) {
        let me = self.me();
        let Some(epoch) = self.view.member(from.node).map(|member| member.epoch) else { return };
        let Some(keeping) = &self.keeping else { return };
        let own = keeping.owned.get(name).copied().zip(keeping.replicas.term(name));
        let copied = || keeping.copies.get(name).and_then(|copy| copy.record()).map(|r| r.token);
        let Some(token) = keeping.replicas.token(name).or_else(copied) else { return };
        if let Some((key, mine)) = own {
            if (term, from.node) < (mine, me.node) {
                return;
            }
            self.give_up(net, key, name);
        }
        let shard = self.directory_shard(name);
        if shard == me.shard {
            self.note_moved(net, from, epoch, token, term);
        } else {
            let mail = EngineMail::Moved { token, term, owner: from, epoch };
            net.mail_surely(shard, Mail::Engine(mail));
        }
        self.handed_over(net, name, from);
    }

    // ---- Letters ----

    pub(super) fn session_letter<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        letter: SessionLetter<'_>,
    ) {
        let epoch = self.view.member(from.node).map(|member| member.epoch);
        let (Some(keeping), Some(epoch)) = (&mut self.keeping, epoch) else {
            return net.counters().error("letter_unexpected");
        };
        match letter {
            SessionLetter::Begin { round } => {
                keeping.copies.begin(from, round);
                keeping.directory.begin(from, round);
            }
            SessionLetter::End { round } => {
                keeping.copies.end(from, epoch, round);
                keeping.directory.end(from, epoch, round);
            }
            SessionLetter::Copy(record) => self.keep(net, from, epoch, &record),
            SessionLetter::Event { name, term, rev, stream, is_delivered, event } => {
                let copies = &mut keeping.copies;
                match copies.append(from, &name, term, rev, stream, is_delivered, event) {
                    Verdict::Kept => keeping.acknowledge(net, from, name, rev, false),
                    Verdict::Old => net.counters().error("copy_old"),
                    Verdict::Missing | Verdict::Full => {
                        net.post(from, &Letter::Session(SessionLetter::Missing { name }));
                    }
                }
            }
            SessionLetter::Kept(kept) => self.kept(net, from, &kept),
            SessionLetter::NotKept { name, rev } => self.not_kept(net, from, &name, rev),
            SessionLetter::Missing { name } => {
                keeping.replicas.handle_missing(from.node, &name);
                keeping.is_due = true;
            }
            SessionLetter::Drop { name, term } => keeping.copies.drop_copy(from, &name, term),
            SessionLetter::Moved { token, term } => self.moved(net, from, epoch, token, term),
            SessionLetter::Ended { name, term } => {
                keeping.copies.outdated(&name, (term, from.node));
                keeping.directory.outdated(&name, (term, from.node));
            }
            SessionLetter::TakeOver(record) => self.take_over(net, from, &record),
            SessionLetter::NotMine { name } => {
                keeping.directory.disowned(&name, from);
                // Nor has whoever should have had it from an owner that is gone.
                let known = keeping.directory.whose(&name).map(|known| (known.owner, known.epoch));
                if let Some((owner, epoch)) = known
                    && self.view.home(owner.node, epoch).is_none()
                    && keeping.unsettled_until <= net.now()
                {
                    keeping.directory.disowned(&name, owner);
                }
            }
            SessionLetter::Taken { name, term } => self.taken(net, from, &name, term),
            SessionLetter::NotTaken { name } => self.offer_refused(net, from, &name),
        }
        if let Some(keeping) = &self.keeping {
            keeping.count(net);
        }
    }
}
