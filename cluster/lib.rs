//! What nodes of a cluster tell each other: who is a member, whose a session is, who keeps its copy, who wants
//! to hear of what, and the bytes all that travels in. No socket, no clock, no thread: time and randomness are
//! arguments, so a test can live a year in a millisecond.
//!
//! The path of a letter: an engine says [`letter::Letter`] to a [`Spot`] → the mesh link of its shard → the link's
//! end on the other node → the shard it is for → that shard's engine.

pub mod copies;
pub mod directory;
pub mod frame;
pub mod interest;
pub mod letter;
pub mod link;
pub mod membership;
mod order;
pub mod replicas;
pub mod secret;
pub mod view;
pub mod world;

use foldhash::quality::FixedState;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// Milliseconds of a monotonic clock.
pub type Millis = u64;

/// One shard of one node: where a letter goes and comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// The node's number, unique in its cluster.
    pub node: u16,
    /// The shard there.
    pub shard: u16,
}

/// A map whose order depends on nothing but what was done to it, so that what is done in that order happens again when
/// a simulation is repeated. Its hasher is fast and has no secret: for keys that no client can choose.
pub type Table<K, V> = HashMap<K, V, FixedState>;

/// The same without values.
pub type Set<K> = HashSet<K, FixedState>;

/// The random part of a session id. It names the session wherever it lives.
pub type SessionName = [u8; 16];
