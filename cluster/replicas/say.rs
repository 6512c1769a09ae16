//! What an owner says to other shards, and what waits in the queue of each node until it is said.

use crate::letter::route::Token;
use crate::{SessionName, Spot};

/// What waits for a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
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
