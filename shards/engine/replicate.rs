//! What the shard tells others of its sessions, and what it keeps for others. The machines that decide are in
//! [`erlmcp_cluster`]; here they meet sessions, links and timers.
//!
//! Invariants: without a cluster there is no [`Keeping`], and nothing is paid; only sessions of the Streamable HTTP
//! transport are told of, the others end with their connection; a turn says at most [`SAYS_PER_TURN`] letters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use erlmcp_cluster::copies::{Copies, CopyLimits, Verdict};
use erlmcp_cluster::directory::Directory;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::letter::session::{EventRecord, Record, SessionLetter};
use erlmcp_cluster::replicas::{Replicas, Say};
use erlmcp_cluster::view::View;
use erlmcp_cluster::{SessionName, Spot, Table};

use super::Engine;
use super::sessions::Channel;
use super::slots::Key;
use super::withheld::Withheld;
use crate::config::{ClusterLimits, LAZY_FLUSH_MS, Sync};
use crate::io::Millis;
use crate::net::{LinkEvent, Net, TimerKey};

/// Letters about own sessions in one turn; the rest follows in the next.
const SAYS_PER_TURN: usize = 256;

/// Lazy: an acknowledgement waits at most this long for others to travel with, milliseconds.
const KEPT_WAIT_MS: Millis = 50;

/// So long a node that has just booted and met nobody asks for patience with sessions it does not know, milliseconds.
const BOOT_PATIENCE_MS: Millis = 2000;

/// Acknowledgements in one letter.
const KEPT_PER_LETTER: usize = 1024;

/// Everything a shard of a cluster knows of sessions beyond those it serves.
pub struct Keeping {
    pub(super) limits: ClusterLimits,
    pub(super) replicas: Replicas,
    pub(super) copies: Copies,
    pub(super) directory: Directory,
    /// The Streamable sessions of this shard, those it adopted among them.
    pub(super) owned: Table<SessionName, Key>,
    pub(super) withheld: Withheld,
    /// Copies whose owners are gone.
    pub(super) orphans: VecDeque<SessionName>,
    pub(super) has_orphan_timer: bool,
    /// Until then, who is not found may be on its way here: an owner has just been lost.
    pub(super) unsettled_until: Millis,
    /// Nodes whose links broke and have not come up again. Bounded by the members.
    lost: BTreeSet<u16>,
    /// Until then this shard, which has just booted, may not have met the others yet; 0 as soon as it has.
    pub(super) new_until: Option<Millis>,
    /// What was kept for whom and not yet acknowledged. Bounded by the copies.
    kept: BTreeMap<Spot, Table<SessionName, u32>>,
    has_kept_timer: bool,
    /// Something is to be said in this turn.
    pub(super) is_due: bool,
    has_timer: bool,
    pub(super) has_unkept_timer: bool,
    pub(super) has_visit_timer: bool,
    /// Sessions to be visited first. Bounded by the answers that wait.
    pub(super) hurried: VecDeque<SessionName>,
}

impl Keeping {
    /// Of a shard without sessions.
    pub fn new(limits: &ClusterLimits, view: Arc<View>, session_bytes_max: usize) -> Self {
        let copies = CopyLimits {
            copies_max: limits.copies_max,
            bytes_max: limits.copies_bytes_max,
            tail_bytes_max: session_bytes_max,
        };
        Self {
            limits: limits.clone(),
            replicas: Replicas::new(limits.replicas, view).paced(limits.visit_units_per_ms),
            copies: Copies::new(copies),
            directory: Directory::new(limits.directory_max),
            owned: Table::default(),
            withheld: Withheld::default(),
            orphans: VecDeque::new(),
            has_orphan_timer: false,
            unsettled_until: 0,
            lost: BTreeSet::new(),
            new_until: None,
            kept: BTreeMap::new(),
            has_kept_timer: false,
            is_due: false,
            has_timer: false,
            has_unkept_timer: false,
            has_visit_timer: false,
            hurried: VecDeque::new(),
        }
    }

    /// For how long the oldest change of a session has waited for all its copies, milliseconds.
    pub(super) fn lag_ms(&self, now: Millis) -> Millis {
        self.replicas.behind_since().map_or(0, |since| now.saturating_sub(since))
    }

    /// Something is to be said: now, or with other things in a moment.
    fn set_due<N: Net>(&mut self, net: &mut N) {
        match self.limits.sync {
            Sync::Eager => self.is_due = true,
            Sync::Lazy => self.set_timer(net, LAZY_FLUSH_MS),
        }
    }

    fn set_timer<N: Net>(&mut self, net: &mut N, wait_ms: Millis) {
        if !std::mem::replace(&mut self.has_timer, true) {
            net.timer(net.now() + wait_ms, TimerKey::Replicas);
        }
    }

    pub(super) fn count<N: Net>(&self, net: &mut N) {
        let counters = net.counters();
        counters.copies_active = self.copies.len() as u64;
        counters.copies_bytes = self.copies.bytes() as u64;
        counters.directory_entries = self.directory.len() as u64;
        counters.sync_waiting = self.replicas.waiting() as u64;
        counters.sessions_copied = self.replicas.copied().map(|count| count as u64);
        counters.sync_resyncs = self.replicas.resyncs();
        counters.sync_repeats = self.replicas.repeats();
    }

    /// Acknowledges a copy, soon or at once.
    pub(super) fn acknowledge<N: Net>(
        &mut self,
        net: &mut N,
        owner: Spot,
        name: SessionName,
        rev: u32,
        at_once: bool,
    ) {
        self.kept.entry(owner).or_default().insert(name, rev);
        if at_once && self.limits.sync == Sync::Eager {
            self.say_kept_to(net, owner);
        } else if !std::mem::replace(&mut self.has_kept_timer, true) {
            net.timer(net.now() + KEPT_WAIT_MS, TimerKey::Kept);
        }
    }

    fn say_kept_to<N: Net>(&mut self, net: &mut N, owner: Spot) {
        let Some(kept) = self.kept.remove(&owner) else { return };
        let all: Vec<(SessionName, u32)> = kept.into_iter().collect();
        let mut chunks = all.chunks(KEPT_PER_LETTER);
        for chunk in chunks.by_ref() {
            let letter = Letter::Session(SessionLetter::Kept(chunk.to_vec()));
            if !net.post(owner, &letter) {
                let left = chunk.iter().chain(chunks.flatten()).copied();
                self.kept.insert(owner, left.collect());
                return;
            }
        }
    }

    fn say_kept<N: Net>(&mut self, net: &mut N) {
        let owners: Vec<Spot> = self.kept.keys().copied().collect();
        for owner in owners {
            self.say_kept_to(net, owner);
        }
    }
}

impl Engine {
    // ---- At the owner ----

    /// A session was made, or taken over: from now on others know of it.
    pub(super) fn session_made<N: Net>(&mut self, net: &mut N, key: Key, token: Token, term: u32) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.owned.insert(token.name, key);
        keeping.replicas.handle_time(net.now());
        keeping.replicas.insert(token, term);
        keeping.set_due(net);
    }

    /// A session is not as it was.
    pub(super) fn session_changed<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(keeping) = &mut self.keeping else { return };
        let Some(session) = self.sessions.get(key) else { return };
        if session.channel == Channel::Streamable {
            keeping.replicas.handle_time(net.now());
            keeping.replicas.changed(&session.random);
            keeping.set_due(net);
        }
    }

    /// An event was pushed onto one of its streams.
    pub(super) fn session_pushed<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        stream: u32,
        is_delivered: bool,
        event: EventRecord<'_>,
    ) {
        let Some(keeping) = &mut self.keeping else { return };
        let Some(session) = self.sessions.get(key) else { return };
        if session.channel != Channel::Streamable {
            return;
        }
        let name = session.random;
        keeping.replicas.handle_time(net.now());
        match keeping.limits.sync {
            Sync::Lazy => keeping.replicas.changed(&name),
            Sync::Eager => keeping.replicas.appended(&name, |to, term, rev| {
                let letter = SessionLetter::Event { name, term, rev, stream, is_delivered, event };
                net.post(to, &Letter::Session(letter))
            }),
        }
        keeping.set_due(net);
    }

    /// A session of this shard is over: everyone forgets it. Said at once, however lazy changes are: what is over
    /// must not come back.
    pub(super) fn session_over<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(keeping) = &mut self.keeping else { return };
        let Some(session) = self.sessions.get(key) else { return };
        let name = session.random;
        if keeping.owned.remove(&name).is_some() {
            keeping.replicas.remove(&name);
            keeping.is_due = true;
            self.release_ended(net, &name);
        }
    }

    /// Says what is due, as much as a turn may.
    pub(super) fn say_sessions<N: Net>(&mut self, net: &mut N) {
        if !self.keeping.as_ref().is_some_and(|keeping| keeping.is_due) {
            return;
        }
        let Some(mut keeping) = self.keeping.take() else { return };
        let mut oversize = Vec::new();
        keeping.is_due = false;
        let mut budget = SAYS_PER_TURN;
        while let Some(say) = keeping.replicas.poll() {
            if !self.say(net, &mut keeping, say, &mut oversize) {
                keeping.replicas.refused(say);
            }
            budget -= 1;
            if budget == 0 {
                keeping.has_timer = false;
                keeping.set_timer(net, 1);
                break;
            }
        }
        if !keeping.owned.is_empty() {
            keeping.look_for_unkept(net);
        }
        keeping.count(net);
        self.keeping = Some(keeping);
        for name in oversize {
            self.release_settled(net, &name);
        }
    }

    /// Whether it left, or need not. `oversize`: sessions that no letter takes.
    fn say<N: Net>(
        &self,
        net: &mut N,
        keeping: &mut Keeping,
        say: Say,
        oversize: &mut Vec<SessionName>,
    ) -> bool {
        let letter = match say {
            Say::Begin { round, .. } => SessionLetter::Begin { round },
            Say::End { round, .. } => SessionLetter::End { round },
            Say::Moved { token, term, .. } => SessionLetter::Moved { token, term },
            Say::Drop { name, term, .. } => SessionLetter::Drop { name, term },
            Say::Ended { name, term, .. } => SessionLetter::Ended { name, term },
            Say::Copy { to, name, term, rev } => {
                let known = keeping.owned.get(&name).zip(keeping.replicas.token(&name));
                let record =
                    known.and_then(|(key, token)| self.record(*key, token, term, rev, net.now()));
                let Some(record) = record else { return true };
                if self.config.limits.message_bytes_max < bytes_of(&record) {
                    // No frame takes it as it is: nobody waits for what will not come.
                    net.counters().error("copy_oversize");
                    keeping.replicas.handle_oversize(to.node, &name, rev);
                    oversize.push(name);
                    SessionLetter::Drop { name, term }
                } else {
                    SessionLetter::Copy(record)
                }
            }
        };
        net.post(say.to(), &Letter::Session(letter))
    }

    /// What has waited to be said.
    pub(super) fn replicas_timer(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            (keeping.has_timer, keeping.is_due) = (false, true);
        }
    }

    /// What has waited to be acknowledged.
    pub(super) fn kept_timer<N: Net>(&mut self, net: &mut N) {
        if let Some(keeping) = &mut self.keeping {
            keeping.has_kept_timer = false;
            keeping.say_kept(net);
        }
    }

    /// Copies of sessions of ours are kept.
    pub(super) fn kept<N: Net>(&mut self, net: &mut N, from: Spot, kept: &[(SessionName, u32)]) {
        for (name, rev) in kept {
            let Some(keeping) = &mut self.keeping else { return };
            keeping.replicas.handle_time(net.now());
            keeping.replicas.handle_kept(from.node, name, *rev);
            self.release_settled(net, name);
        }
        // Whoever kept it before need not any more.
        if let Some(keeping) = &mut self.keeping
            && keeping.replicas.waiting() != 0
        {
            keeping.set_due(net);
        }
    }

    /// A copy of a session of ours found no room. Somebody else may have some; if not, what waits for it has waited in
    /// vain.
    pub(super) fn not_kept<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        name: &SessionName,
        rev: u32,
    ) {
        net.counters().error("copy_refused");
        if let Some(keeping) = &mut self.keeping {
            keeping.replicas.handle_time(net.now());
            keeping.replicas.handle_not_kept(from.node, name, rev);
            keeping.is_due = true;
        }
        self.release_settled(net, name);
    }

    /// A link to another node came up, has room again, or broke.
    pub(super) fn keeping_link<N: Net>(&mut self, net: &mut N, node: u16, event: LinkEvent) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.replicas.handle_time(net.now());
        let was_lost = match event {
            LinkEvent::Up => keeping.lost.remove(&node),
            LinkEvent::Lost => !keeping.lost.insert(node),
            LinkEvent::Drained => false,
        };
        match event {
            LinkEvent::Up => keeping.replicas.handle_up(node),
            LinkEvent::Drained => keeping.replicas.handle_drained(node),
            LinkEvent::Lost => keeping.replicas.handle_lost(node),
        }
        if event != LinkEvent::Lost {
            keeping.say_kept(net);
        }
        self.visit_sessions(net);
        // What we gave away over a link that broke may not have arrived, and what others took over meanwhile we are
        // only told now.
        match event {
            LinkEvent::Up if was_lost => {
                self.find_orphans(net);
                self.unsettle(net);
            }
            LinkEvent::Up => self.find_orphans(net),
            LinkEvent::Drained | LinkEvent::Lost => {}
        }
    }

    /// The cluster has changed.
    pub(super) fn keeping_view<N: Net>(&mut self, net: &mut N, before: &View) {
        let view = self.view.clone();
        let Some(keeping) = &mut self.keeping else { return };
        keeping.replicas.handle_time(net.now());
        match view.peers().next() {
            Some(_) => keeping.new_until = Some(0),
            None => drop(keeping.new_until.get_or_insert(net.now() + BOOT_PATIENCE_MS)),
        }
        keeping.replicas.handle_view(&view);
        keeping.kept.retain(|owner, _| view.member(owner.node).is_some_and(|member| member.owns()));
        keeping.lost.retain(|node| view.member(*node).is_some());
        keeping.hurry_withheld();
        if before.peers().any(|member| view.home(member.node, member.epoch).is_none()) {
            self.owners_lost(net);
        }
        // Who was alone, new or cut off, has not heard yet whose the others' sessions are.
        if before.peers().next().is_none() && view.peers().next().is_some() {
            self.unsettle(net);
        }
        self.find_orphans(net);
        self.visit_sessions(net);
    }

    // ---- At the keeper ----

    /// Somebody's session is to be kept. Whoever says so claims to own it.
    pub(super) fn keep<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        epoch: u32,
        record: &Record<'_>,
    ) {
        let (name, claim) = (record.token.name, (record.term, from.node));
        if self.contest(net, &name, claim, from) {
            return net.counters().error("copy_old");
        }
        let Some(keeping) = &mut self.keeping else { return };
        let known = keeping.directory.whose(&name);
        if known.is_some_and(|known| claim < (known.term, known.owner.node)) {
            return net.counters().error("copy_old");
        }
        match keeping.copies.keep(from, epoch, record) {
            Verdict::Kept => keeping.acknowledge(net, from, name, record.rev, true),
            Verdict::Old => net.counters().error("copy_old"),
            Verdict::Full | Verdict::Missing => {
                net.counters().error("copy_full");
                let rev = record.rev;
                // An acknowledgement of what was here before must not come after this.
                if let Some(kept) = keeping.kept.get_mut(&from) {
                    kept.remove(&name);
                }
                net.post(from, &Letter::Session(SessionLetter::NotKept { name, rev }));
            }
        }
    }
}

/// About what a record weighs, bytes.
fn bytes_of(record: &Record<'_>) -> usize {
    let uris: usize = record.subscriptions.iter().map(|uri| uri.len() + 4).sum();
    let events = record.streams.iter().flat_map(|stream| &stream.events);
    uris + events.map(|event| event.message.len() + 16).sum::<usize>()
}
