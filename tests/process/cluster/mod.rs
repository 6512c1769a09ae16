//! Several built binaries that act as one server.
//!
//! Every node has a loopback address of its own for its mesh, so tests need no free ports and a node that comes back is
//! found where it was. Tests that start clusters run one after the other: each is a handful of processes.

mod failing;
mod files;
mod forming;
mod news;
mod partition;
mod sessions;
mod strangers;
mod tokens;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::child::{Server, eventually};

mod client;
pub mod secret;

use client::Session;
use secret::Secret;

/// Where every node's mesh listens, each on an address of its own.
const MESH_PORT: u16 = 7946;

/// Nodes that share a secret, and a part of 127.0.0.0/8.
pub struct Cluster {
    secret: Secret,
    network: u32,
    /// More words for every node.
    words: Vec<String>,
    nodes: BTreeMap<u16, Server>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// No node yet.
    pub fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A test that failed says nothing of the next.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // 127.64.0.0 and above: 14 bits of the process, so that two runs at once do not meet.
        let network =
            (127 << 24) | (64 << 16) | ((std::process::id() & 0xff) << 14) | (number << 6);
        Self {
            secret: Secret::new(),
            network,
            words: Vec::new(),
            nodes: BTreeMap::new(),
            _turn: turn,
        }
    }

    /// These nodes, which have seen each other.
    pub fn of(nodes: u16, words: &[&str]) -> Self {
        let mut cluster = Self::new();
        cluster.words = words.iter().map(|word| (*word).to_owned()).collect();
        for node in 1..=nodes {
            cluster.start(node);
        }
        cluster.agree();
        cluster
    }

    /// Where a node's mesh listens.
    pub fn mesh(&self, node: u16) -> String {
        format!("{}:{MESH_PORT}", Ipv4Addr::from(self.network + u32::from(node)))
    }

    /// Starts a node that looks for nodes 1 and 2, itself perhaps among them.
    pub fn start(&mut self, node: u16) {
        let (one, two) = (self.mesh(1), self.mesh(2));
        self.start_with(node, &["--peer", &one, "--peer", &two]);
    }

    /// Starts a node that looks for whom these words say.
    pub fn start_with(&mut self, node: u16, words: &[&str]) {
        let (number, mesh) = (node.to_string(), self.mesh(node));
        let mut all = vec!["--cores", "0", "--shards-per-core", "2", "--sync", "eager"];
        all.extend(["--node", &number, "--mesh-listen", &mesh]);
        all.extend(["--secret-file", self.secret.path()]);
        all.extend(self.words.iter().map(String::as_str));
        all.extend(words);
        let server = Server::start(&all);
        assert_eq!(server.mesh, mesh, "it says where its mesh is");
        self.nodes.insert(node, server);
    }

    /// A node that runs.
    pub fn node(&self, node: u16) -> &Server {
        &self.nodes[&node]
    }

    /// All that run.
    pub fn running(&self) -> impl Iterator<Item = (u16, &Server)> {
        self.nodes.iter().map(|(node, server)| (*node, server))
    }

    /// Its process is gone at once.
    pub fn kill(&mut self, node: u16) {
        // Dropped is killed, and waited for.
        drop(self.take(node));
    }

    /// A node that the test looks after from now on.
    pub fn take(&mut self, node: u16) -> Server {
        self.nodes.remove(&node).expect("the node runs")
    }

    /// Until every node that runs sees exactly these as alive: those that run.
    #[track_caller]
    pub fn agree(&self) {
        for (by, server) in self.running() {
            eventually(&format!("node {by} sees all that run"), || {
                self.running().map(|(node, _)| node).eq(alive(server))
            });
        }
    }

    /// Until everyone else who runs sees this node as dead, or not at all.
    #[track_caller]
    pub fn all_see_dead(&self, node: u16) {
        for (by, server) in self.running().filter(|(by, _)| *by != node) {
            eventually(&format!("node {by} sees that {node} is gone"), || {
                matches!(members(server).get(&node).map(String::as_str), None | Some("dead"))
            });
        }
    }

    /// A session opened at this node.
    pub fn open(&self, node: u16) -> Session {
        Session::open(&self.node(node).http)
    }
}

/// What a node says of the members of its cluster.
pub fn members(server: &Server) -> BTreeMap<u16, String> {
    let nodes = status(server)["cluster"]["nodes"].clone();
    let nodes: Vec<Value> =
        serde_json::from_value(nodes).expect("a node of a cluster says who is in it");
    let pair = |node: &Value| {
        let number = node["node"].as_u64().and_then(|node| u16::try_from(node).ok());
        Some((number?, node["state"].as_str()?.to_owned()))
    };
    nodes.iter().map(|node| pair(node).expect("each has a number and a state")).collect()
}

/// Those that it sees alive, in order.
pub fn alive(server: &Server) -> impl Iterator<Item = u16> {
    members(server).into_iter().filter(|(_, state)| state == "alive").map(|(node, _)| node)
}

/// A node's `/status`.
pub fn status(server: &Server) -> Value {
    let answer = server.admin("GET", "/status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    serde_json::from_str(body).expect("the status is JSON")
}

/// The sum of a metric over its labels that contain this text.
pub fn metric(server: &Server, name: &str, label: &str) -> f64 {
    let metrics = server.admin("GET", "/metrics");
    let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
