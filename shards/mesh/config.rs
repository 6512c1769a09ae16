//! What a shard must know to have links to other nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use erlmcp_cluster::link::Identity;
use erlmcp_cluster::secret::Secrets;

use crate::io::Millis;

/// The cluster this node is in.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Where the first shard listens for links of other nodes; each further shard on the next port. Port 0 lets the
    /// kernel choose for each. An address that others can reach, so not 0.0.0.0.
    pub listen: SocketAddr,
    /// First shards of other nodes; one that can be reached suffices.
    pub seeds: Vec<SocketAddr>,
    /// What proves that a node belongs here. Replaced at run time with [`crate::message::Mail::Secrets`].
    pub secrets: Arc<Secrets>,
    /// Which run of this node: the same that its tokens carry.
    pub epoch: u32,
    /// How often each node is told that we live, milliseconds.
    pub heartbeat_ms: Millis,
    /// How long a node may be silent, milliseconds.
    pub node_timeout_ms: Millis,
    /// Bytes that may wait for one link. New requests may use half of it, synchronisation a quarter.
    pub queue_bytes_max: usize,
}

/// Room of a link unless the operator says otherwise, bytes.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One shard's place in the mesh.
#[derive(Debug, Clone)]
pub struct MeshSeat {
    /// Who it is.
    pub me: Arc<Identity>,
    /// What holds for all shards of the node.
    pub config: Arc<MeshConfig>,
}
