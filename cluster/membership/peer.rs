//! One other node, as far as it is known.

use super::message::{Claim, Record, Status};
use crate::Millis;
use crate::view::{Member, State};

#[derive(Debug)]
pub(super) struct Peer {
    pub record: Record,
    /// The run at the other end of our link to it.
    pub link: Option<u32>,
    /// Since when.
    pub linked: Millis,
    /// When our link to it broke, if it did.
    pub broken: Option<Millis>,
    /// When we last heard this run of it ourselves, in awake time.
    pub heard: Option<Millis>,
    /// When we learned of this run.
    pub learned: Millis,
    /// When another node last heard it, as far as we were told.
    pub vouched: Millis,
    /// Since when it is dead.
    pub dead: Millis,
    /// Compared notes with it since the last tick.
    pub compared: bool,
    /// Told it that it is taken for dead, since the last tick.
    pub warned: bool,
}

impl Peer {
    pub fn new(record: Record, now: Millis) -> Self {
        Self {
            record,
            link: None,
            linked: 0,
            broken: None,
            heard: None,
            learned: now,
            vouched: 0,
            dead: now,
            compared: false,
            warned: false,
        }
    }

    pub fn is_dead(&self) -> bool {
        self.record.claim.status == Status::Dead
    }

    /// How long nobody has heard it.
    pub fn silence(&self, now: Millis) -> Millis {
        now.saturating_sub(self.last_sign().max(self.learned))
    }

    /// Whether we hear it ourselves.
    pub fn is_heard(&self, now: Millis, suspect_ms: Millis) -> bool {
        self.heard.is_some_and(|at| now.saturating_sub(at) < suspect_ms)
    }

    /// Whether our link to it proves nothing: since it stands, the dead has not come back to life.
    pub fn is_link_idle(&self, now: Millis, timeout_ms: Millis) -> bool {
        self.is_dead() && self.link.is_some() && self.linked + timeout_ms <= now
    }

    fn last_sign(&self) -> Millis {
        self.heard.map_or(self.vouched, |at| at.max(self.vouched))
    }

    /// Whether its link broke and nobody has heard it since.
    fn is_lost(&self) -> bool {
        self.broken.is_some_and(|at| self.last_sign() <= at)
    }

    pub fn is_suspect(&self, now: Millis, suspect_ms: Millis) -> bool {
        !self.is_dead() && (suspect_ms <= self.silence(now) || self.is_lost())
    }

    /// Whether we would like to know if others hear it.
    pub fn is_doubtful(&self, now: Millis, suspect_ms: Millis) -> bool {
        let silent = suspect_ms <= now.saturating_sub(self.heard.unwrap_or(self.learned));
        !self.is_dead() && (silent || self.broken.is_some_and(|at| self.heard <= Some(at)))
    }

    pub fn member(&self, now: Millis, suspect_ms: Millis) -> Member {
        let suspect = self.is_suspect(now, suspect_ms);
        let state = match self.record.claim.status.state() {
            State::Alive if suspect => State::Suspect,
            state => state,
        };
        self.record.member(state)
    }
}

impl Record {
    pub fn member(&self, state: State) -> Member {
        Member {
            node: self.node,
            epoch: self.claim.epoch,
            incarnation: self.claim.incarnation,
            state,
            addresses: self.addresses.clone(),
        }
    }
}

impl Claim {
    pub fn dead(self) -> Self {
        Self { status: Status::Dead, ..self }
    }
}
