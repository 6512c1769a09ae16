//! Leaving: the links stay until every shard of the node has nothing left to do, then everybody is told goodbye.
//!
//! Other nodes see a node, not its shards: were one shard to go while another still answers, its broken links would
//! cost the other's callers their answers.

use super::{Act, LEAD, Mesh, Role};
use crate::io::Millis;
use crate::message::Mail;

/// How far a shard has come.
pub(super) struct Drain {
    /// By shard; only the lead knows.
    idle: Vec<bool>,
    /// What this shard has said of itself.
    is_idle: bool,
    is_closing: bool,
}

impl Drain {
    pub fn new(shards: usize) -> Self {
        Self { idle: vec![false; shards], is_idle: false, is_closing: false }
    }
}

impl Mesh {
    /// The node takes nothing new from now on.
    pub(crate) fn leave(&mut self, now: Millis) {
        if let Role::Lead(members) = &mut self.role {
            members.leave(now);
            self.run_lead(now);
        }
    }

    /// While it drains: whether this shard could go.
    pub(crate) fn report_idle(&mut self, now: Millis, is_idle: bool) {
        if std::mem::replace(&mut self.drain.is_idle, is_idle) != is_idle {
            let shard = self.me.shard;
            match self.role {
                Role::Lead(_) => self.handle_idle(now, shard, is_idle),
                Role::Follower(_) => {
                    let mail = Mail::Idle { shard, is_idle };
                    self.acts.push_back(Act::Mail { shard: LEAD, mail });
                }
            }
        }
    }

    /// A shard of this node could go, or could not after all.
    pub(crate) fn handle_idle(&mut self, now: Millis, shard: u16, is_idle: bool) {
        let Role::Lead(members) = &mut self.role else { return };
        let Some(state) = self.drain.idle.get_mut(usize::from(shard)) else { return };
        *state = is_idle;
        if !self.drain.is_closing && self.drain.idle.iter().all(|is_idle| *is_idle) {
            members.goodbye(now);
            self.run_lead(now);
            self.mail_others(|| Mail::Farewell);
            self.close();
        }
    }

    /// Ends all links when what is queued was sent, and begins no more.
    pub(crate) fn close(&mut self) {
        self.drain.is_closing = true;
        self.dials.clear();
        for link in self.links.values() {
            self.acts.push_back(Act::Finish(link.id));
        }
    }

    /// Whether the links are being closed for good.
    pub(crate) fn is_closing(&self) -> bool {
        self.drain.is_closing
    }
}
