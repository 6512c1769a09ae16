//! Sessions of this shard are visited, a few a millisecond, when something concerns all of them: members come and go,
//! links come up and break, and every now and then it is looked at what was not acknowledged
//! ([`erlmcp_cluster::replicas`]). Lives: with the sessions' owner.
//!
//! Invariants: sessions for whose copies an answer waits are visited first; while sessions are to be visited there is
//! a timer for it, so that a shard without requests goes on too.

use erlmcp_cluster::SessionName;

use super::Engine;
use super::replicate::Keeping;
use crate::io::Millis;
use crate::net::{Net, TimerKey};

/// How often is looked at what was not acknowledged, milliseconds; at the second look it is said again.
pub const UNKEPT_LOOK_MS: Millis = 5_000;

/// Visits go on after this, milliseconds: with the next budget.
const VISIT_MS: Millis = 1;

impl Keeping {
    /// Looks at what is not acknowledged, in a while.
    pub(super) fn look_for_unkept<N: Net>(&mut self, net: &mut N) {
        if !std::mem::replace(&mut self.has_unkept_timer, true) {
            net.timer(net.now() + UNKEPT_LOOK_MS, TimerKey::Unkept);
        }
    }

    /// Sessions for which somebody waits are visited before all others.
    pub(super) fn hurry_withheld(&mut self) {
        self.hurried = self.withheld.names();
    }
}

impl Engine {
    /// Visits what may be visited now, and sees to it that the rest is.
    pub(super) fn visit_sessions<N: Net>(&mut self, net: &mut N) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.replicas.handle_time(net.now());
        while let Some(name) = self.next_hurried() {
            self.release_settled(net, &name);
        }
        let Some(keeping) = &mut self.keeping else { return };
        keeping.is_due = true;
        if keeping.replicas.visit() || !keeping.hurried.is_empty() {
            if !std::mem::replace(&mut keeping.has_visit_timer, true) {
                net.timer(net.now() + VISIT_MS, TimerKey::Visit);
            }
        } else if keeping.replicas.is_doubtful() {
            keeping.look_for_unkept(net);
        }
    }

    fn next_hurried(&mut self) -> Option<SessionName> {
        let keeping = self.keeping.as_mut().filter(|keeping| keeping.replicas.may_visit())?;
        let name = keeping.hurried.pop_front()?;
        keeping.replicas.hurry(&name);
        Some(name)
    }

    /// More sessions are to be visited.
    pub(super) fn visit_timer<N: Net>(&mut self, net: &mut N) {
        if let Some(keeping) = &mut self.keeping {
            keeping.has_visit_timer = false;
            self.visit_sessions(net);
        }
    }

    /// What was not acknowledged is said again.
    pub(super) fn unkept_timer<N: Net>(&mut self, net: &mut N) {
        if let Some(keeping) = &mut self.keeping {
            keeping.has_unkept_timer = false;
            keeping.replicas.handle_timeout();
            self.visit_sessions(net);
        }
    }
}
