//! What one shard says to another, and what the rest of the process says to a shard.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use erlmcp_catalog::{CallEvent, Change, Snapshot};

use crate::engine::EngineMail;
use crate::stats::ShardSnapshot;

/// Everything that can lie in a shard's inbox.
pub enum Mail {
    /// For the MCP engine: forwarded requests, their replies, changes, answers of deferred calls.
    Engine(EngineMail),
    /// Serve this socket as a newline-delimited pipe (stdio).
    Adopt(OwnedFd),
    /// Report counters.
    Snapshot(crossbeam_channel::Sender<ShardSnapshot>),
    /// Stop accepting, end streams, finish calls in flight; leave at the deadline whatever happened.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u64,
    },
    /// Leave now.
    Abort,
}

/// A change of the catalog or of a resource, on its way to every shard.
#[derive(Clone)]
pub struct Announcement {
    /// The new catalog, when lists changed.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What changed.
    pub changes: Arc<[Change]>,
}

/// The answer path of deferred calls.
pub struct CallMail {
    /// The engine's name for the call.
    pub ticket: u64,
    /// What happened.
    pub event: CallEvent,
}
