//! What `/status` says of the cluster: every node that this one knows of.
//!
//! This node's numbers are of now, the others' of their last report, at most a second old while they live. A node
//! that is gone keeps its last numbers, with their age, and counts no more in the total.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use erlmcp_cluster::view::{Member, State};
use serde::{Deserialize, Serialize};

use super::sample::empty_latency;
use super::status::ShardView;
use crate::cluster::{Board, Report, SyncView};

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The node that was asked.
    pub node: u16,
    /// All nodes it knows of, by number.
    pub nodes: Vec<NodeView>,
    /// The nodes that are not dead together; latencies are of the merged histograms.
    pub total: ShardView,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its number.
    pub node: u16,
    /// `alive`, `suspect`, `leaving` or `dead`, as the asked node sees it.
    pub state: String,
    /// What it is to the asked node.
    pub role: Role,
    /// Which run of it.
    pub epoch: u32,
    /// Where its first shard listens for other nodes.
    pub address: Option<SocketAddr>,
    /// What it said last; absent when it has not said anything, or in words of another build.
    pub last: Option<NodeReport>,
}

/// What a node is to the one that was asked. All serve alike: there is no leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The asked node itself.
    This,
    /// Named in its configuration.
    Seed,
    /// Heard of through others.
    Peer,
}

impl Role {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::This => "this",
            Role::Seed => "seed",
            Role::Peer => "peer",
        }
    }
}

/// What a node said of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// How long ago, milliseconds; 0 for the asked node.
    pub age_ms: u64,
    /// Its build.
    pub version: String,
    /// Its process id, on its host.
    pub pid: u32,
    /// Since its start, seconds.
    pub uptime_s: u64,
    /// On its way out: not ready for new clients. While it is alive all the same, it gives notice and still serves.
    pub draining: bool,
    /// Shards there should be.
    pub shards_expected: u16,
    /// All its shards together.
    pub total: ShardView,
    /// One by one.
    pub shards: Vec<ShardView>,
    /// How it keeps up with the other nodes.
    pub sync: SyncView,
}

/// As `/status` and `/metrics` name it.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Alive => "alive",
        State::Suspect => "suspect",
        State::Leaving => "leaving",
        State::Dead => "dead",
    }
}

/// Puts together what this node says of itself and what the others said last.
pub fn cluster_view(board: &Board, own: Report, now: Instant) -> ClusterView {
    let view = board.view();
    let mut heard = board.reports(now);
    let mut own = Some(own);
    let mut latency = empty_latency();
    let mut nodes = Vec::new();
    for member in &view.members {
        let (role, last) = if member.node == board.me() {
            (Role::This, own.take().map(|report| (Duration::ZERO, report)))
        } else {
            let is_seed = member.addresses.iter().any(|address| board.is_seed(address));
            let last = heard.remove(&member.node);
            let last = last.and_then(|last| Some((last.age, last.report?)));
            // A report of an earlier run says nothing of this one.
            let last = last.filter(|(_, report)| report.epoch == member.epoch);
            (if is_seed { Role::Seed } else { Role::Peer }, last)
        };
        if let Some((_, report)) = &last
            && member.owns()
        {
            // Cannot fail: the sum resizes itself.
            let _ = latency.add(report.latency());
        }
        nodes.push(node_view(member, role, last));
    }
    let living = nodes.iter().filter(|node| node.state != state_name(State::Dead));
    let totals = living.filter_map(|node| node.last.as_ref()).map(|last| &last.total);
    let total = ShardView::total(totals, &latency);
    ClusterView { node: board.me(), nodes, total }
}

fn node_view(member: &Member, role: Role, last: Option<(Duration, Report)>) -> NodeView {
    NodeView {
        node: member.node,
        state: state_name(member.state).to_owned(),
        role,
        epoch: member.epoch,
        address: member.addresses.first().copied(),
        last: last.map(|(age, report)| {
            let total = ShardView::total(&report.shards, &report.latency());
            let Report { version, pid, uptime_s, draining, shards_expected, shards, sync, .. } =
                report;
            NodeReport {
                age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                version,
                pid,
                uptime_s,
                draining,
                shards_expected,
                total,
                shards,
                sync,
            }
        }),
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
