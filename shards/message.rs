//! What one shard says to another, and what the rest of the process says to a shard.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use erlmcp_catalog::{CallEvent, Change, Snapshot};
use erlmcp_cluster::Spot;
use erlmcp_cluster::secret::Secrets;
use erlmcp_cluster::view::View;

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
    /// A letter that came over another shard's link.
    Letter {
        /// Who says it.
        from: Spot,
        /// An [`erlmcp_cluster::letter::Letter`].
        bytes: Box<[u8]>,
    },
    /// The cluster has changed, says the first shard.
    View(Arc<View>),
    /// A link of another shard from or to this node broke.
    Lost {
        /// The node.
        node: u16,
    },
    /// End all links from and to this run of a node, says the first shard.
    Cut {
        /// The node.
        node: u16,
        /// Which run.
        epoch: u32,
    },
    /// A shard that drains has nothing left to do, or again something; to the first shard.
    Idle {
        /// Which.
        shard: u16,
        /// Whether it could leave.
        is_idle: bool,
    },
    /// All shards are done: close the links and leave, says the first shard.
    Farewell,
    /// The secrets were replaced; for handshakes from now on.
    Secrets(Arc<Secrets>),
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
