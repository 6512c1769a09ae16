//! Nodes find each other, in whatever order they start, and come back.

use super::{Cluster, alive, members};
use crate::child::{eventually, run};

#[test]
fn nodes_find_each_other_in_any_order() {
    for order in [[1, 2, 3], [3, 1, 2], [3, 2, 1]] {
        let mut cluster = Cluster::new();
        for node in order {
            cluster.start(node);
        }
        cluster.agree();
    }
}

#[test]
fn one_peer_is_enough_and_tells_of_the_others() {
    let mut cluster = Cluster::new();
    // A chain: each knows only the one before; the first is named by nobody's list but the second's.
    cluster.start_with(1, &[]);
    for node in 2..=4 {
        let before = cluster.mesh(node - 1);
        cluster.start_with(node, &["--peer", &before]);
    }
    cluster.agree();
}

#[test]
fn a_node_waits_for_its_peers_as_long_as_it_takes() {
    let mut cluster = Cluster::new();
    let peer = cluster.mesh(1);
    cluster.start_with(2, &["--peer", &peer]);
    let alone = cluster.open(2);
    alone.echo(&cluster.node(2).http).expect("a node serves while it is alone");
    cluster.start_with(1, &[]);
    cluster.agree();
}

#[test]
fn a_killed_node_is_seen_dead_and_comes_back_as_a_new_run() {
    let mut cluster = Cluster::of(3, &[]);
    let epoch = |cluster: &Cluster| {
        let status = super::status(cluster.node(1));
        let nodes = status["cluster"]["nodes"].as_array().expect("a list").clone();
        nodes.iter().find(|node| node["node"] == 3).map(|node| node["epoch"].clone())
    };
    let before = epoch(&cluster);
    for _ in 0..3 {
        cluster.kill(3);
        cluster.all_see_dead(3);
        cluster.start(3);
        cluster.agree();
    }
    assert_ne!(before, epoch(&cluster));
}

#[test]
fn a_node_that_is_asked_to_go_says_so() {
    let mut cluster = Cluster::of(3, &[]);
    let leaver = cluster.take(2);
    leaver.signal("-TERM");
    let (ended, stderr) = leaver.wait();
    assert!(ended.success(), "{stderr}");
    cluster.all_see_dead(2);
    cluster.agree();
}

#[test]
fn any_node_tells_of_all_and_all_together() {
    let cluster = Cluster::of(3, &[]);
    for node in 1..=3 {
        let session = cluster.open(node);
        session.echo(&cluster.node(node).http).expect("it answers");
    }
    for (_, server) in cluster.running() {
        eventually("a node knows how many sessions all have", || {
            super::status(server)["cluster"]["total"]["sessions"] == 3
        });
        let (code, table, _) = run(&["status", "--admin", &server.admin]);
        assert_eq!(code, 0, "{table}");
        assert!(table.contains("total"), "{table}");
        let (_, json, _) = run(&["status", "--json", "--admin", &server.admin]);
        assert!(json.contains("\"cluster\""), "{json}");
        assert_eq!(members(server).len(), 3);
        assert!(alive(server).eq(1..=3));
    }
}
