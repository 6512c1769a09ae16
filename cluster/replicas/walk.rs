//! Walking over all sessions a few at a time. What concerns all of them (the members have changed, a link came up or broke, it
//! is time to look at what was not acknowledged) begins a circle from wherever the walk is, and ends when it is there
//! again; one walk does the errands of all circles at once.
//!
//! Invariants: between two milliseconds of the caller's clock a walk costs at most [`VISIT_UNITS_PER_MS`] and one visit; each
//! session is visited once a circle, however often errands begin anew: the walk goes on where it is, so that a cluster
//! that never comes to rest cannot keep anybody waiting. Refused: beginning at the front each time (the last ones would
//! starve), a time budget (a clock inside; a simulation would not repeat itself).

use super::owned::Part;
use super::{Item, Members, Replicas};
use crate::{Millis, SessionName};

/// What the visits of one millisecond may cost: a unit is about 100 ns, what it takes to weigh one node as a keeper (a hash).
/// Half a millisecond in all; the rest is for requests.
pub const VISIT_UNITS_PER_MS: usize = 4096;

/// What a visit costs beside the nodes that are weighed, units: the session is in no cache.
const UNITS_PER_VISIT: usize = 3;

/// What a circle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Members have come or gone: keepers are chosen anew.
    CatchUp,
    /// This node is told everything.
    TellAll(u16),
    /// Acknowledgements of this node may have been lost.
    Doubt(u16),
    /// What was not acknowledged is said again at the second look.
    Look,
}

#[derive(Debug)]
struct Circle {
    errand: Errand,
    /// It is over when the walk is here again.
    from: usize,
    since: Millis,
}

#[derive(Debug)]
pub(super) struct Walk {
    /// One of each errand at most; so they are bounded by the members.
    circles: Vec<Circle>,
    units_per_ms: usize,
    /// Left in this millisecond.
    units: usize,
    units_at: Option<Millis>,
    /// The last look has found something in doubt.
    pub is_doubtful: bool,
    /// The present one has.
    has_doubts: bool,
}

impl Walk {
    pub fn new(units_per_ms: usize) -> Self {
        Self {
            circles: Vec::new(),
            units_per_ms: units_per_ms.max(1),
            units: 0,
            units_at: None,
            is_doubtful: false,
            has_doubts: false,
        }
    }

    pub fn handle_time(&mut self, now: Millis) {
        if self.units_at != Some(now) {
            (self.units, self.units_at) = (self.units_per_ms, Some(now));
        }
    }

    /// A session was visited, and so many nodes weighed for it.
    pub fn spend(&mut self, weighed: usize) {
        self.units = self.units.saturating_sub(UNITS_PER_VISIT + weighed);
    }

    pub fn has(&self, errand: Errand) -> bool {
        self.circles.iter().any(|circle| circle.errand == errand)
    }

    /// Drops the errands of nodes that are gone.
    pub fn forget(&mut self, lives: impl Fn(u16) -> bool) {
        self.circles.retain(|circle| match circle.errand {
            Errand::TellAll(node) | Errand::Doubt(node) => lives(node),
            Errand::CatchUp | Errand::Look => true,
        });
    }

    /// When the oldest circle began that may find sessions without their copies.
    pub fn oldest(&self) -> Option<Millis> {
        let finds = |errand| matches!(errand, Errand::CatchUp | Errand::TellAll(_));
        let circles = self.circles.iter().filter(|circle| finds(circle.errand));
        circles.map(|circle| circle.since).min()
    }
}

impl Replicas {
    /// Whether sessions are still to be visited.
    pub fn is_walking(&self) -> bool {
        !self.walk.circles.is_empty()
    }

    /// Whether this millisecond allows another visit.
    pub fn may_visit(&self) -> bool {
        self.walk.units != 0
    }

    /// Visits as many sessions as this millisecond allows. Returns whether there are more.
    pub fn visit(&mut self) -> bool {
        while self.is_walking() && self.may_visit() {
            let weighed = match self.order.step() {
                Some(name) => self.visit_one(&name),
                None => 0,
            };
            self.walk.spend(weighed);
            self.end_circles();
        }
        self.is_walking()
    }

    /// Begins an errand, or begins it anew.
    pub(super) fn begin(&mut self, errand: Errand) {
        let from = self.order.cursor();
        match self.walk.circles.iter_mut().find(|circle| circle.errand == errand) {
            Some(circle) => circle.from = from,
            None => self.walk.circles.push(Circle { errand, from, since: self.now }),
        }
        if self.order.places() == 0 {
            self.end_circles();
        }
    }

    fn end_circles(&mut self) {
        let here = self.order.cursor();
        while let Some(at) = self.walk.circles.iter().position(|circle| circle.from == here) {
            let errand = self.walk.circles.remove(at).errand;
            self.end(errand);
        }
    }

    fn end(&mut self, errand: Errand) {
        match errand {
            Errand::CatchUp => {}
            Errand::TellAll(node) => {
                let shards = self.view.member(node).map_or(0, |member| member.shards());
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.is_told = false;
                    peer.queue.extend((0..shards).map(Item::End));
                }
            }
            Errand::Doubt(node) => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.is_doubted = false;
                }
            }
            Errand::Look => {
                self.walk.is_doubtful = std::mem::take(&mut self.walk.has_doubts);
            }
        }
    }

    /// Does all errands with one session. Returns what that cost beyond the visit, in nodes weighed.
    fn visit_one(&mut self, name: &SessionName) -> usize {
        let mut weighed = self.touch(name);
        let members = members!(self);
        let Some(owned) = self.sessions.get_mut(name) else { return 0 };
        let rev = owned.rev;
        for keeper in owned.keepers.iter_mut().filter(|keeper| keeper.part == Part::Keeps) {
            let is_doubted = self.peers.get(&keeper.node).is_some_and(|peer| peer.is_doubted);
            if is_doubted && keeper.kept < rev {
                keeper.said = 0;
            }
        }
        if self.walk.has(Errand::Look) {
            let (is_doubtful, again) = owned.look(name, &members);
            self.walk.has_doubts |= is_doubtful;
            self.repeats += u64::from(again);
            weighed += if again { members.takers } else { 0 };
        }
        if 0 < owned.term {
            for peer in self.peers.values_mut().filter(|peer| peer.is_up && peer.is_told) {
                peer.queue.push_back(Item::Moved(*name));
            }
        }
        self.queue_copies(name);
        weighed
    }
}
