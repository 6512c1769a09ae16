//! Whom a shard that is not the lead dials: one shard of every other living node, again and again until the link
//! stands, at growing intervals.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use erlmcp_cluster::view::View;

use super::link::Peer;
use crate::io::Millis;

/// The first pause after a failure, milliseconds.
const PAUSE_MS_MIN: Millis = 50;
/// No pause is longer, milliseconds.
const PAUSE_MS_MAX: Millis = 5_000;
/// After a handshake that was refused no pause is shorter, milliseconds: it will be refused again.
const PAUSE_REFUSED_MS_MIN: Millis = 1_000;

/// See the module.
pub(super) struct Callers {
    shard: u16,
    by_node: BTreeMap<u16, Caller>,
    attempts: u32,
    /// Spreads what shards would otherwise do all at once.
    dice: u64,
}

/// One attempt: what comes of an earlier one means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub node: u16,
    attempt: u32,
}

struct Caller {
    /// Who is wanted there.
    peer: Peer,
    target: SocketAddr,
    state: Calling,
    pause_ms: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calling {
    /// Until then.
    Resting(Millis),
    /// This attempt is under way.
    Trying(u32),
    /// The link stands.
    Linked,
}

impl Callers {
    pub fn new(shard: u16, seed: u64) -> Self {
        Self { shard, by_node: BTreeMap::new(), attempts: 0, dice: seed }
    }

    /// The members have changed. Returns whom to dial now.
    pub fn handle_view(&mut self, now: Millis, view: &View) -> Vec<(Call, SocketAddr)> {
        let is_wanted = |node: u16| view.peers().any(|member| member.node == node);
        self.by_node.retain(|node, _| is_wanted(*node));
        for member in view.peers() {
            let shard = self.shard % member.shards();
            let Some(target) = member.addresses.get(usize::from(shard)).copied() else { continue };
            let peer = Peer { node: member.node, epoch: member.epoch, shard };
            let known = self.by_node.get(&member.node);
            if known.is_none_or(|known| (known.peer, known.target) != (peer, target)) {
                let state = Calling::Resting(now);
                let caller = Caller { peer, target, state, pause_ms: PAUSE_MS_MIN };
                self.by_node.insert(member.node, caller);
            }
        }
        self.handle_timeout(now)
    }

    /// Whom to dial now.
    pub fn handle_timeout(&mut self, now: Millis) -> Vec<(Call, SocketAddr)> {
        let mut due = Vec::new();
        for (node, caller) in &mut self.by_node {
            if matches!(caller.state, Calling::Resting(until) if until <= now) {
                self.attempts = self.attempts.wrapping_add(1);
                caller.state = Calling::Trying(self.attempts);
                due.push((Call { node: *node, attempt: self.attempts }, caller.target));
            }
        }
        due
    }

    /// An attempt led to no link.
    pub fn handle_failed(&mut self, now: Millis, call: Call, was_refused: bool) {
        let jitter = self.jitter();
        let Some(caller) = self.caller(call) else { return };
        if was_refused {
            caller.pause_ms = caller.pause_ms.max(PAUSE_REFUSED_MS_MIN);
        }
        caller.rest(now, jitter);
    }

    /// A handshake is done. `false`: that is not who was wanted there.
    pub fn handle_linked(&mut self, call: Call, peer: Peer) -> bool {
        let Some(caller) = self.caller(call).filter(|caller| caller.peer == peer) else {
            return false;
        };
        caller.state = Calling::Linked;
        true
    }

    /// Letters travel.
    pub fn handle_up(&mut self, node: u16) {
        if let Some(caller) = self.by_node.get_mut(&node) {
            caller.pause_ms = PAUSE_MS_MIN;
        }
    }

    /// The link is no more.
    pub fn handle_unlinked(&mut self, now: Millis, node: u16) {
        let jitter = self.jitter();
        if let Some(caller) = self.by_node.get_mut(&node)
            && caller.state == Calling::Linked
        {
            caller.rest(now, jitter);
        }
    }

    /// When [`Callers::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Millis {
        let until = |caller: &Caller| match caller.state {
            Calling::Resting(until) => until,
            Calling::Trying(_) | Calling::Linked => Millis::MAX,
        };
        self.by_node.values().map(until).min().unwrap_or(Millis::MAX)
    }

    fn caller(&mut self, call: Call) -> Option<&mut Caller> {
        let caller = self.by_node.get_mut(&call.node)?;
        (caller.state == Calling::Trying(call.attempt)).then_some(caller)
    }

    /// From 0 to 255, from a seed (SplitMix64).
    fn jitter(&mut self) -> Millis {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (word >> 40) & 0xFF
    }
}

impl Caller {
    /// Rests half a pause to a whole one; the next one is twice as long.
    fn rest(&mut self, now: Millis, jitter: Millis) {
        let pause_ms = self.pause_ms / 2 + self.pause_ms * jitter / 512;
        self.state = Calling::Resting(now.saturating_add(pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use erlmcp_cluster::view::{Member, State};

    use super::*;

    const NODE: u16 = 2;

    fn view(shards: u16, epoch: u32, state: State) -> View {
        let address = |shard| SocketAddr::from(([10, 0, 0, 2], 7000 + shard));
        let addresses = (0..shards).map(address).collect();
        let member = Member { node: NODE, epoch, incarnation: 0, state, addresses };
        View { me: 1, version: 1, members: vec![member] }
    }

    /// The one call that is due.
    #[track_caller]
    fn only(due: &[(Call, SocketAddr)]) -> Call {
        assert_eq!(due.len(), 1, "{due:?}");
        due[0].0
    }

    #[test]
    fn each_shard_calls_the_one_that_is_its_own_modulo_their_number() {
        for (shard, shards, expect) in [(0, 1, 0), (3, 2, 1), (1, 4, 1), (5, 3, 2)] {
            let mut callers = Callers::new(shard, 1);
            let due = callers.handle_view(0, &view(shards, 7, State::Alive));
            assert_eq!(due[0].1.port(), 7000 + expect, "shard {shard} of {shards}");
        }
    }

    #[test]
    fn pauses_grow_to_their_bound_and_begin_anew_after_a_link() {
        let mut callers = Callers::new(1, 1);
        let (mut now, alive) = (1_000, view(1, 7, State::Alive));
        let mut call = only(&callers.handle_view(now, &alive));
        let mut longest = 0;
        for failures in 0..20 {
            callers.handle_failed(now, call, false);
            let pause = callers.poll_timeout() - now;
            let most = (PAUSE_MS_MIN << failures.min(10)).min(PAUSE_MS_MAX);
            assert!((most / 2..=most).contains(&pause), "{pause} after {failures}");
            longest = longest.max(pause);
            now += pause;
            assert!(callers.handle_timeout(now - 1).is_empty());
            call = only(&callers.handle_timeout(now));
        }
        assert!(PAUSE_MS_MAX / 2 <= longest);
        assert!(callers.handle_linked(call, Peer { node: NODE, epoch: 7, shard: 0 }));
        assert_eq!(callers.poll_timeout(), Millis::MAX);
        callers.handle_up(NODE);
        callers.handle_unlinked(now, NODE);
        assert!(callers.poll_timeout() - now <= PAUSE_MS_MIN);
    }

    #[test]
    fn who_is_refused_is_in_no_hurry() {
        let mut callers = Callers::new(1, 1);
        let call = only(&callers.handle_view(0, &view(1, 7, State::Alive)));
        callers.handle_failed(0, call, true);
        assert!(PAUSE_REFUSED_MS_MIN / 2 <= callers.poll_timeout());
    }

    #[test]
    fn a_link_to_somebody_else_is_not_taken() {
        let mut callers = Callers::new(1, 1);
        let call = only(&callers.handle_view(0, &view(1, 7, State::Alive)));
        for (node, epoch, shard) in [(3, 7, 0), (NODE, 8, 0), (NODE, 7, 1)] {
            assert!(!callers.handle_linked(call, Peer { node, epoch, shard }));
        }
        assert!(callers.handle_linked(call, Peer { node: NODE, epoch: 7, shard: 0 }));
    }

    #[test]
    fn what_comes_of_an_attempt_at_an_earlier_run_means_nothing() {
        let mut callers = Callers::new(1, 1);
        let old = only(&callers.handle_view(0, &view(1, 7, State::Alive)));
        let new = only(&callers.handle_view(5, &view(1, 8, State::Alive)));
        callers.handle_failed(6, old, true);
        assert_eq!(callers.poll_timeout(), Millis::MAX, "the new attempt is under way");
        assert!(!callers.handle_linked(old, Peer { node: NODE, epoch: 7, shard: 0 }));
        assert!(callers.handle_linked(new, Peer { node: NODE, epoch: 8, shard: 0 }));
    }

    #[test]
    fn the_dead_are_not_called() {
        let mut callers = Callers::new(1, 1);
        let call = only(&callers.handle_view(0, &view(1, 7, State::Alive)));
        assert!(callers.handle_view(1, &view(1, 7, State::Dead)).is_empty());
        callers.handle_failed(2, call, false);
        assert_eq!(callers.poll_timeout(), Millis::MAX);
    }
}
