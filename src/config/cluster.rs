//! `[cluster]`: which node this is, where it is reached by the others, and whom it looks for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use erlmcp_cluster::link::ADDRESSES_MAX;

use super::{Config, Problem};

/// Where the node's first shard listens for other nodes; its next shard on the next port, and so on.
pub const DEFAULT_MESH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7946);
/// Peers in one list: a mesh of more nodes than this is not what we are made for.
pub const PEERS_MAX: usize = 256;
/// A node that may miss fewer heartbeats than this is dead at every hiccup.
const HEARTBEATS_MIN: u64 = 3;

/// `[cluster]`. A server without it is alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// This node's number, unique in the cluster; it must be given.
    pub node: Option<u16>,
    /// Where the first shard listens for other nodes; port 0 lets the kernel choose for each shard.
    pub listen: SocketAddr,
    /// Nodes to look for. One that is there is enough: it tells of the others.
    pub peers: Vec<SocketAddr>,
    /// The secret all nodes share; it must be given.
    pub secret_file: Option<PathBuf>,
    /// When a session's copy is made.
    pub sync: SyncMode,
    /// Between two signs of life, milliseconds.
    pub heartbeat_ms: u64,
    /// Silence after which a node is dead, milliseconds.
    pub node_timeout_ms: u64,
    /// Nodes that keep a copy of each session, besides its owner.
    pub replicas: u8,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            node: None,
            listen: DEFAULT_MESH,
            peers: Vec::new(),
            secret_file: None,
            sync: SyncMode::Lazy,
            heartbeat_ms: 200,
            node_timeout_ms: 1_500,
            replicas: 1,
        }
    }
}

/// When a session's copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// In batches, within a second.
    Lazy,
    /// Before the client is answered.
    Eager,
}

impl SyncMode {
    /// `lazy` or `eager`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "lazy" => Ok(SyncMode::Lazy),
            "eager" => Ok(SyncMode::Eager),
            _ => Err(format!("{text:?} is neither \"lazy\" nor \"eager\"")),
        }
    }
}

/// The address of a node's mesh. Names are refused: who a peer is must not depend on who answers for a name, and
/// when.
pub fn parse_mesh(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not IP:PORT, like 10.0.0.1:7946 or [::1]:7946"))
}

/// A node's number.
pub fn parse_node(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(node @ 1..) => Ok(node),
        _ => Err(format!("{text:?} is not a number from 1 to 65535")),
    }
}

impl ClusterConfig {
    /// The peers without this node itself, and whether it was among them. The same list may stand on every node.
    pub fn seeds(&self, shards: usize) -> (Vec<SocketAddr>, bool) {
        let is_own = |peer: &SocketAddr| {
            let port = usize::from(peer.port());
            let first = usize::from(self.listen.port());
            first != 0 && peer.ip() == self.listen.ip() && (first..first + shards).contains(&port)
        };
        let mut seeds: Vec<SocketAddr> = self.peers.clone();
        seeds.retain(|peer| !is_own(peer));
        let names_itself = seeds.len() < self.peers.len();
        seeds.sort_unstable();
        seeds.dedup();
        (seeds, names_itself)
    }

    /// Whether the section fits itself and the rest. `shards` is how many this node will have.
    pub(super) fn problems(&self, config: &Config, shards: usize, problems: &mut Vec<Problem>) {
        let mut problem = |key: &str, why: String| {
            problems.push(Problem::of(&format!("cluster.{key}"), why));
        };
        if self.node.is_none() {
            problem(
                "node",
                "missing: give each node a number of its own, from 1 to 65535 (--node)".to_owned(),
            );
        }
        if self.secret_file.is_none() {
            problem(
                "secret_file",
                "missing: nodes know each other by a secret. Make one with `erlmcp-shard secret FILE`, give \
                 every node a copy, and name it here (--secret-file)"
                    .to_owned(),
            );
        }
        if config.server.stdio {
            problem("node", "--stdio serves one local client and joins no cluster".to_owned());
        }
        let (ip, port) = (self.listen.ip(), usize::from(self.listen.port()));
        if ip.is_unspecified() {
            problem(
                "listen",
                format!(
                    "the other nodes cannot be told to dial {ip}: name the address of this host under which \
                     they reach it"
                ),
            );
        }
        if port != 0 && usize::from(u16::MAX) < port + shards - 1 {
            problem(
                "listen",
                format!("{shards} shards listen on ports from {port} on, which go beyond 65535"),
            );
        }
        if ADDRESSES_MAX < shards {
            problem(
                "listen",
                format!("{shards} shards; a node of a cluster has at most {ADDRESSES_MAX}"),
            );
        }
        if ip.is_loopback()
            && let Some(peer) = self.peers.iter().find(|peer| !peer.ip().is_loopback())
        {
            problem(
                "listen",
                format!(
                    "{peer} is on another machine, which cannot reach {}: listen on an address of this host \
                     (--mesh-listen)",
                    self.listen
                ),
            );
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.port() == 0) {
            problem("peers", format!("{peer}: a peer has a port"));
        }
        if let Some(peer) = self.peers.iter().find(|peer| peer.ip().is_unspecified()) {
            problem("peers", format!("{peer} is nobody's address"));
        }
        if PEERS_MAX < self.peers.len() {
            problem("peers", format!("{} peers; there may be {PEERS_MAX}", self.peers.len()));
        }
        if self.node_timeout_ms < HEARTBEATS_MIN * self.heartbeat_ms {
            problem(
                "node_timeout_ms",
                format!(
                    "{} is less than {HEARTBEATS_MIN} heartbeats of {} ms: nodes would be declared dead for \
                     nothing",
                    self.node_timeout_ms, self.heartbeat_ms
                ),
            );
        }
    }

    /// What works and deserves a second look.
    pub(super) fn warnings(&self) -> Option<String> {
        (!self.listen.ip().is_loopback()).then(|| {
            format!(
                "nodes prove who they are on {}, but what they say to each other is not encrypted: keep that \
                 network private",
                self.listen
            )
        })
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
