//! Requests for what lives on another node, and what comes of them.

use serde::{Deserialize, Serialize};

use super::Urgency;
use crate::Spot;

/// An HTTP exchange, or a pipe, of the node that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The shard that holds the connection.
    pub at: Spot,
    /// The connection's slot.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
    /// Which request of it; 0 for a pipe.
    pub seq: u32,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route<'b> {
    /// The client of a forwarded exchange has gone.
    Gone(Origin),
    /// A message for a pipe.
    PipeReply {
        /// Whose.
        to: Origin,
        /// The message.
        #[serde(with = "serde_bytes")]
        message: &'b [u8],
    },
}

impl Route<'_> {
    /// How hard the mesh tries.
    pub fn urgency(&self) -> Urgency {
        Urgency::Reply
    }
}
