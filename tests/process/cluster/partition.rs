//! Nodes in network namespaces: the wire between them is cut and mended, and clients see all of it.
//!
//! Each node has two wires: one to the clients, one to the bridge that is the mesh. Needs root and `ip`; where they
//! are not there the tests say that they were not run.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::client::{Session, Stream, publish};
use super::{Cluster, alive, status};
use crate::child::{Server, command, eventually};

/// A bridge, and a namespace for each node; gone with the test.
struct Wires {
    name: String,
    /// Second and third byte of the addresses in it.
    net: (u32, u32),
    nodes: u16,
}

fn ip(words: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Wires {
    /// `None`, and said so, where it cannot be done.
    fn lay(nodes: u16) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // Names of interfaces have at most 15 characters.
        let name = format!("em{}n{number}", id % 100_000);
        let wires = Self { name, net: (64 + id % 64, (id / 64 + number * 7) % 256), nodes };
        if wires.lay_all() {
            return Some(wires);
        }
        eprintln!("NOT RUN: no network namespaces here (they need root and `ip`)");
        None
    }

    fn lay_all(&self) -> bool {
        let bridge = self.name.as_str();
        let mut good =
            ip(&["link", "add", bridge, "type", "bridge"]) && ip(&["link", "set", bridge, "up"]);
        for node in 1..=self.nodes {
            let (space, mesh, near) =
                (self.space(node), self.mesh_end(node), self.client_end(node));
            let own = format!("10.{}.{}.{node}/24", self.net.0, self.net.1);
            let client = format!("{}/30", self.client_address(node, 2));
            let gate = format!("{}/30", self.client_address(node, 1));
            let steps: [&[&str]; 11] = [
                &["netns", "add", &space],
                &["link", "add", &mesh, "type", "veth", "peer", "name", "mesh", "netns", &space],
                &["link", "set", &mesh, "master", bridge],
                &["link", "set", &mesh, "up"],
                &["link", "add", &near, "type", "veth", "peer", "name", "client", "netns", &space],
                &["addr", "add", &gate, "dev", &near],
                &["link", "set", &near, "up"],
                &["-n", &space, "addr", "add", &own, "dev", "mesh"],
                &["-n", &space, "addr", "add", &client, "dev", "client"],
                &["-n", &space, "link", "set", "mesh", "up"],
                &["-n", &space, "link", "set", "client", "up"],
            ];
            good = good
                && steps.iter().all(|step| ip(step))
                && ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        good
    }

    fn space(&self, node: u16) -> String {
        format!("{}s{node}", self.name)
    }

    fn mesh_end(&self, node: u16) -> String {
        format!("{}m{node}", self.name)
    }

    fn client_end(&self, node: u16) -> String {
        format!("{}c{node}", self.name)
    }

    fn mesh_address(&self, node: u16) -> String {
        format!("10.{}.{}.{node}:{}", self.net.0, self.net.1, super::MESH_PORT)
    }

    fn client_address(&self, node: u16, end: u16) -> String {
        format!("10.{}.{}.{}", 128 + self.net.0 % 64, self.net.1, 4 * node + end)
    }

    /// Starts a node in its namespace.
    fn start(&self, cluster: &mut Cluster, node: u16) {
        let client = format!("{}:0", self.client_address(node, 2));
        let mut command = Command::new("ip");
        let binary = command_of_the_server();
        command.args(["netns", "exec", &self.space(node), &binary]);
        command.args(["--public", "--listen", &client, "--tcp", &client, "--admin", &client]);
        command.args(["--allow-host", "localhost"]);
        command.args(["--cores", "0", "--shards-per-core", "2", "--sync", "eager"]);
        command.args(["--node", &node.to_string(), "--mesh-listen", &self.mesh_address(node)]);
        for peer in 1..=self.nodes {
            command.args(["--peer", &self.mesh_address(peer)]);
        }
        command.args(["--secret-file", cluster.secret.path()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        cluster.nodes.insert(node, Server::spawn(command));
    }

    /// Nobody reaches this node over the mesh any more, nor it anybody; nothing tells them.
    fn cut(&self, node: u16) {
        assert!(ip(&["link", "set", &self.mesh_end(node), "down"]), "a wire can be cut");
    }

    fn mend(&self, node: u16) {
        assert!(ip(&["link", "set", &self.mesh_end(node), "up"]), "a wire can be mended");
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            ip(&["link", "del", &self.mesh_end(node)]);
            ip(&["link", "del", &self.client_end(node)]);
            ip(&["netns", "del", &self.space(node)]);
        }
        ip(&["link", "del", &self.name]);
    }
}

fn command_of_the_server() -> String {
    command(&[]).get_program().to_str().expect("the path is text").to_owned()
}

/// Three nodes that see each other, and a session on node 3.
fn three() -> Option<(Wires, Cluster, Vec<Session>)> {
    let wires = Wires::lay(3)?;
    let mut cluster = Cluster::new();
    (1..=3).for_each(|node| wires.start(&mut cluster, node));
    cluster.agree();
    let sessions = (0..8).map(|_| cluster.open(3)).collect();
    Some((wires, cluster, sessions))
}

#[test]
fn a_partition_heals_and_every_session_has_one_owner_again() {
    let Some((wires, cluster, sessions)) = three() else { return };
    wires.cut(3);
    eventually("the majority sees the silence", || alive(cluster.node(1)).eq([1, 2]));
    eventually("the other side sees it too", || alive(cluster.node(3)).eq([3]));
    for session in &sessions {
        // Both sides serve it: a partition cannot be told from a death. What they do to it, they do apart.
        for node in 1..=3 {
            eventually("both sides serve", || session.echo(&cluster.node(node).http).is_ok());
        }
    }
    wires.mend(3);
    cluster.agree();
    eventually("each session has one owner", || {
        let owned = |(_, server)| status(server)["total"]["sessions"].as_u64();
        cluster.running().filter_map(owned).sum::<u64>() == sessions.len() as u64
    });
    for session in &sessions {
        for (_, server) in cluster.running() {
            eventually("it answers over every node", || session.echo(&server.http).is_ok());
        }
    }
    // And news come once.
    let session = &sessions[0];
    session.subscribe(&cluster.node(1).http, "demo://clock");
    let mut streams = vec![session.listen(&cluster.node(2).http)];
    streams
        .extend((1..=3).map(|node| Stream::of_updates(&cluster.node(node).http, "demo://clock")));
    for (_, server) in cluster.running() {
        publish(&server.http, "demo://clock");
    }
    session.subscribe(&cluster.node(1).http, "demo://greeting");
    for (number, stream) in streams.iter_mut().enumerate() {
        (0..3).for_each(|_| assert_eq!(stream.next_update(), "demo://clock", "stream {number}"));
    }
    publish(&cluster.node(3).http, "demo://greeting");
    assert_eq!(streams[0].next_update(), "demo://greeting", "nothing came twice");
}

#[test]
fn a_short_cut_of_the_wire_changes_nothing() {
    let Some((wires, cluster, sessions)) = three() else { return };
    for _ in 0..3 {
        wires.cut(3);
        // Shorter than anybody could suspect anything: as long as it takes to ask.
        sessions[0].echo(&cluster.node(3).http).expect("its own node serves it");
        wires.mend(3);
        for session in &sessions {
            eventually("it answers over every node", || {
                cluster.running().all(|(_, server)| session.echo(&server.http).is_ok())
            });
        }
    }
    cluster.agree();
}
