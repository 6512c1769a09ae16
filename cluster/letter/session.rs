//! Sessions between nodes: copies for their successors, and who owns what.
//!
//! All letters about one session, from one shard to another, arrive in their order or not at all; whoever missed
//! some is told everything again ([`SessionLetter::Begin`] to [`SessionLetter::End`]).

use serde::{Deserialize, Serialize};

use super::Urgency;
use super::route::Token;
use crate::SessionName;

/// A whole session of the Streamable HTTP transport, as its copy holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'b> {
    /// What its id says: who made it. Its name is in here.
    pub token: Token,
    /// How often it has changed its owner.
    pub term: u32,
    /// Counts its changes under this owner.
    pub rev: u32,
    /// Negotiated revision, as MCP spells it.
    pub version: &'b str,
    /// What the client declared, one bit each, as the engine numbers them.
    pub capabilities: u16,
    /// Minimum level of log messages, as MCP spells it.
    pub log_level: &'b str,
    /// Number of the next request to the client.
    pub next_request: u64,
    /// Since it was last used, milliseconds. A duration: clocks of nodes differ.
    pub idle_ms: u64,
    /// Subscribed URIs.
    pub subscriptions: Vec<&'b str>,
    /// Number of the last stream that was opened.
    pub last_stream: u32,
    /// What can be resumed.
    pub streams: Vec<StreamRecord<'b>>,
}

/// One stream of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord<'b> {
    /// Its number; 0 is the standalone one.
    pub number: u32,
    /// Of the next event.
    pub next_seq: u32,
    /// Of the last event that was written to a client.
    pub delivered: u32,
    /// Its client knows an id to come back with.
    pub is_primed: bool,
    /// The raw id of the request whose answer is still to come. It dies with its node.
    pub awaited: Option<&'b str>,
    /// Since its last message was pushed, milliseconds; `None` while there is more to come.
    pub finished_ms: Option<u64>,
    /// Events that are kept, oldest first.
    #[serde(borrow)]
    pub events: Vec<EventRecord<'b>>,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord<'b> {
    /// Its number in the stream.
    pub seq: u32,
    /// The message.
    #[serde(with = "serde_bytes")]
    pub message: &'b [u8],
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionLetter<'b> {
    /// From here on everything that the receiver must know of the sender's sessions is said again.
    Begin {
        /// Counts the rounds of this sender to this receiver.
        round: u32,
    },
    /// That was all: what was kept for the sender and not named since is gone.
    End {
        /// Which.
        round: u32,
    },
    /// Keep this.
    Copy(#[serde(borrow)] Record<'b>),
    /// One more event for a copy that has the revision before.
    Event {
        /// Of which session.
        name: SessionName,
        /// Under which owner.
        term: u32,
        /// The revision after it.
        rev: u32,
        /// Of which stream.
        stream: u32,
        /// Whether it was written to a client.
        is_delivered: bool,
        /// What.
        #[serde(borrow)]
        event: EventRecord<'b>,
    },
    /// These are kept, up to that revision.
    Kept(Vec<(SessionName, u32)>),
    /// This is not kept: there is no room. It may be said again later.
    NotKept {
        /// Which.
        name: SessionName,
        /// Up to which revision.
        rev: u32,
    },
    /// The sender has no copy that an event could be appended to: say it whole.
    Missing {
        /// Which.
        name: SessionName,
    },
    /// Keep it no longer: somebody else does.
    Drop {
        /// Which.
        name: SessionName,
        /// Under which owner.
        term: u32,
    },
    /// The sender owns this session, although its id names somebody else.
    Moved {
        /// What its id says.
        token: Token,
        /// How often it has changed its owner.
        term: u32,
    },
    /// The session is over, everywhere.
    Ended {
        /// Which.
        name: SessionName,
        /// Under which owner.
        term: u32,
    },
    /// The receiver is to own this session from now on: the sender leaves.
    TakeOver(#[serde(borrow)] Record<'b>),
    /// The sender owns it now.
    Taken {
        /// Which.
        name: SessionName,
        /// Under this owner.
        term: u32,
    },
    /// The sender does not take what it was given: somebody else may.
    NotTaken {
        /// Which.
        name: SessionName,
    },
    /// The sender was asked for this session of the receiver's, and does not own it: whoever says it does is outdated.
    NotMine {
        /// Which.
        name: SessionName,
    },
}

impl SessionLetter<'_> {
    /// How hard the mesh tries.
    pub fn urgency(&self) -> Urgency {
        match self {
            // Nobody repairs these.
            SessionLetter::Taken { .. } | SessionLetter::TakeOver(_) => Urgency::Request,
            _ => Urgency::Sync,
        }
    }
}
