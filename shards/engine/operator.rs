//! What operators see and want, between this node's control plane and the other nodes.
//!
//! The control plane mails [`EngineMail::Publish`] and [`EngineMail::Order`] to the node's first shard, whose links
//! carry them to the first shards of the others, which tell their [`crate::lookout::Lookout`].

use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::{Letter, Order};
use erlmcp_protocol::seal::Keyring;

use super::Engine;
use crate::net::Net;

/// The shard that speaks for its node.
const LEAD: u16 = 0;

impl Engine {
    /// Tells every other living node how this one fares. Who has no room misses it: the next is a second away.
    pub(super) fn publish<N: Net>(&mut self, net: &mut N, status: &[u8]) {
        for peer in self.view.peers() {
            net.post(Spot { node: peer.node, shard: LEAD }, &Letter::Status(status));
        }
    }

    /// Another node says how it fares.
    pub(super) fn status_heard(&self, from: Spot, status: &[u8]) {
        if let Some(lookout) = &self.config.lookout {
            lookout.handle_status(from.node, status);
        }
    }

    /// Another node passes on what an operator wants of us.
    pub(super) fn order_heard(&self, from: Spot, order: Order) {
        if let Some(lookout) = &self.config.lookout {
            lookout.handle_order(from.node, order);
        }
    }

    /// Whoever watches from outside hears of the view; once per node is enough.
    pub(super) fn view_seen(&self) {
        if self.me().shard == LEAD
            && let Some(lookout) = &self.config.lookout
        {
            lookout.handle_view(&self.view);
        }
    }

    /// Passes an order on; whether it left.
    pub(super) fn order<N: Net>(&mut self, net: &mut N, node: u16, order: Order) -> bool {
        net.post(Spot { node, shard: LEAD }, &Letter::Order(order))
    }

    /// From now on ids are sealed with these keys.
    pub(super) fn keys_changed(&mut self, keys: Arc<Keyring>) {
        Arc::make_mut(&mut self.config).keys = keys;
    }
}
