//! What members tell each other. Every message says who speaks and how it fares; a heartbeat says nothing else but a
//! digest of what its sender believes, and only where digests differ more is said.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Malformed;
use crate::link::ADDRESSES_MAX;
use crate::view::State;

/// Nodes in one cluster, the dead that are remembered included.
pub const MEMBERS_MAX: usize = 256;
/// Bytes of one message, at most: records of [`RECORDS_MAX`] nodes with [`ADDRESSES_MAX`] addresses of 20 bytes.
pub const MESSAGE_BYTES_MAX: usize = RECORDS_MAX * (ADDRESSES_MAX * 20 + 20) + 64;
/// Records in one message.
pub const RECORDS_MAX: usize = 32;

/// How a node fares, as far as it can be agreed on. Of two claims about the same incarnation the later one here wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Status {
    Alive,
    Leaving,
    Dead,
}

impl Status {
    pub fn state(self) -> State {
        match self {
            Status::Alive => State::Alive,
            Status::Leaving => State::Leaving,
            Status::Dead => State::Dead,
        }
    }
}

/// A claim about a node. Of two claims the greater one holds. Epochs have no order in time (they are random), so a
/// node that boots and is told of its former run takes an incarnation above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Claim {
    pub incarnation: u32,
    pub epoch: u32,
    pub status: Status,
}

/// A claim, and how to reach the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub node: u16,
    pub claim: Claim,
    pub addresses: Vec<SocketAddr>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// The sender, of itself. A goodbye is a message of a sender that calls itself dead.
    pub claim: Claim,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// I live, and the digest of what I believe is this.
    Heartbeat(u64),
    /// Our digests differ: this is what I believe. Tell me what you know better.
    Summary(Vec<(u16, Claim)>),
    /// Tell me all about these nodes.
    Want(Vec<u16>),
    /// What you may not know.
    Records(Vec<Record>),
    /// I do not hear these runs of these nodes. Do you?
    Ask(Vec<(u16, u32)>),
    /// I heard these runs of these nodes so many milliseconds ago.
    Vouch(Vec<(u16, u32, u32)>),
}

impl Message {
    pub fn write(&self) -> Vec<u8> {
        // Serializing plain data into memory cannot fail.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if MESSAGE_BYTES_MAX < bytes.len() {
            return Err(Malformed);
        }
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((message, [])) if message.body.is_bounded() => Ok(message),
            _ => Err(Malformed),
        }
    }
}

impl Body {
    fn is_bounded(&self) -> bool {
        let reachable = |record: &Record| (1..=ADDRESSES_MAX).contains(&record.addresses.len());
        match self {
            Body::Heartbeat(_) => true,
            Body::Summary(lines) => lines.len() <= MEMBERS_MAX,
            Body::Want(nodes) => nodes.len() <= MEMBERS_MAX,
            Body::Records(records) => records.len() <= RECORDS_MAX && records.iter().all(reachable),
            Body::Ask(runs) => runs.len() <= MEMBERS_MAX,
            Body::Vouch(runs) => runs.len() <= MEMBERS_MAX,
        }
    }
}
