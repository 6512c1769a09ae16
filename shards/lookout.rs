//! What shards tell the rest of their process about the cluster.
//!
//! Called on a shard's thread, so an implementation must not block, and drops what it has no room for. Only the
//! node's first shard hears what is told here: views are made there, and other nodes write there.

use std::sync::Arc;

use erlmcp_cluster::letter::Order;
use erlmcp_cluster::view::View;

/// Whoever watches the cluster from outside the shards: logs, status, metrics.
pub trait Lookout: Send + Sync {
    /// The cluster has changed.
    fn handle_view(&self, view: &Arc<View>);
    /// How another node fares, in bytes that node's control plane made.
    fn handle_status(&self, from: u16, bytes: &[u8]);
    /// An operator wants this of us, and said so to that node.
    fn handle_order(&self, from: u16, order: Order);
}
