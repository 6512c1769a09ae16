//! Who is in the cluster: one machine per node, on its first shard.
//!
//! Feed it what happened, then poll until it has nothing to say, and wake it at `poll_timeout`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::Millis;
use crate::link::Identity;
use crate::view::View;

/// How a node watches the others.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// Who this node is; `shard` is 0.
    pub me: Identity,
    /// First shards of other nodes; one that can be reached suffices. Dialled for ever.
    pub seeds: Vec<SocketAddr>,
    /// How often each node is told that we live.
    pub heartbeat_ms: Millis,
    /// How long a node may be silent.
    pub node_timeout_ms: Millis,
}

/// Why a link of ours is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlinked {
    /// The other end closed or reset it, or it could not be written to: maybe the process is gone.
    Broken,
    /// We ended it ourselves: no evidence of anything.
    Cut,
}

/// Why a dial made no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailed {
    /// Nobody listens there (ECONNREFUSED): evidence that a process is gone.
    ConnectionRefused,
    /// No connection in time, or another error of the network.
    Unreachable,
    /// A handshake that was refused, by either end. Never retried hot.
    Handshake,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send on the link of our first shard to the first shard of that node: a `Frame::Member`. No link: drop it.
    Send {
        /// The node.
        to: u16,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Connect our first shard there. The answer is `handle_linked` or `handle_dial_failed`, in any case.
    Dial(SocketAddr),
    /// End all links from and to that node, of all shards.
    Cut {
        /// The node.
        node: u16,
    },
    /// [`Membership::view`] has changed: tell all shards.
    View,
}

/// What arrived is no message of members: end the link it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The members, as one node sees them.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    view: Arc<View>,
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A node that knows nobody yet. `seed` spreads what nodes would otherwise do all at once.
    pub fn new(config: MembershipConfig, now: Millis, seed: u64) -> Self {
        let _ = (now, seed);
        let view = Arc::new(View::alone(config.me.node, config.me.epoch, 1));
        Self { config, view, outputs: VecDeque::new() }
    }

    /// A link of ours is up: from our first shard to that node's, by this dial. `false`: it is not wanted, because
    /// there is one already or the node lives in another run; close it, and do not report its end.
    pub fn handle_linked(&mut self, now: Millis, dialled: SocketAddr, peer: &Identity) -> bool {
        let _ = (now, dialled, peer);
        true
    }

    /// The link of ours to that node is no more.
    pub fn handle_unlinked(&mut self, now: Millis, node: u16, why: Unlinked) {
        let _ = (now, node, why);
    }

    /// A dial made no link.
    pub fn handle_dial_failed(&mut self, now: Millis, dialled: SocketAddr, why: DialFailed) {
        let _ = (now, dialled, why);
    }

    /// A `Frame::Member` of that node's first shard.
    pub fn handle_message(
        &mut self,
        now: Millis,
        from: u16,
        bytes: &[u8],
    ) -> Result<(), Malformed> {
        let _ = (now, from, bytes);
        Ok(())
    }

    /// Something else arrived from that node, on any link of this shard: it lives.
    pub fn handle_heard(&mut self, now: Millis, node: u16) {
        let _ = (now, node);
    }

    /// It is [`Membership::poll_timeout`], or later.
    pub fn handle_timeout(&mut self, now: Millis) {
        let _ = now;
    }

    /// From now on this node takes nothing new, and everybody knows.
    pub fn leave(&mut self, now: Millis) {
        let _ = now;
    }

    /// This node is gone: everybody is told once, and nothing more is said. Its links may be closed when what was
    /// polled is sent.
    pub fn goodbye(&mut self, now: Millis) {
        let _ = now;
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Membership::handle_timeout`].
    pub fn poll_timeout(&self) -> Millis {
        self.config.heartbeat_ms
    }

    /// Who is in the cluster.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }
}
