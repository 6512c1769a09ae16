//! A cluster that is described in files, as an operator does it.

use super::Cluster;
use super::secret::Secret;
use crate::child::{Scratch, Server, command, run};

fn config(node: u16, cluster: &Cluster, secret: &str) -> Scratch {
    let peers: Vec<String> = (1..=3).map(|peer| format!("{:?}", cluster.mesh(peer))).collect();
    Scratch::new(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ncores = \"0\"\n\
         \n[cluster]\nnode = {node}\nlisten = {:?}\npeers = [{}]\nsecret_file = {secret:?}\nsync = \"eager\"\n\
         heartbeat_ms = 100\nnode_timeout_ms = 1000\nreplicas = 2\n",
        cluster.mesh(node),
        peers.join(", "),
    ))
}

#[test]
fn the_same_list_of_peers_may_stand_in_every_file() {
    let mut cluster = Cluster::new();
    let secret = Secret::new();
    for node in 1..=3 {
        let file = config(node, &cluster, secret.path());
        let checked = run(&["--check-config", "--config", file.path()]);
        assert_eq!((checked.0, checked.1.as_str()), (0, "config ok\n"), "{}", checked.2);
        let server = Server::spawn(command(&["--config", file.path()]));
        cluster.nodes.insert(node, server);
    }
    cluster.agree();
    let session = cluster.open(1);
    session.echo(&cluster.node(3).http).expect("a session of node 1 is used on node 3");
}

#[test]
fn faults_of_a_file_are_told_before_anything_starts() {
    let cluster = Cluster::new();
    let secret = Secret::new();
    let good = std::fs::read_to_string(config(1, &cluster, secret.path()).path());
    let good = good.expect("a scratch file can be read");
    let check = |from: &str, to: &str, expect: &str| {
        assert!(good.contains(from), "{good}");
        let file = Scratch::new(&good.replace(from, to));
        let (code, _, stderr) = run(&["--check-config", "--config", file.path()]);
        assert_eq!(code, 2, "{to}: {stderr}");
        assert!(stderr.contains(expect), "{to}: {stderr}");
    };
    check("node = 1\n", "", "node");
    check("node = 1\n", "node = 0\n", "node");
    check("node = 1\n", "node = 65536\n", "node");
    check("sync = \"eager\"", "sync = \"sometimes\"", "lazy");
    check("replicas = 2", "replicas = 4", "replicas");
    check("heartbeat_ms = 100", "heartbeat_ms = 900", "node_timeout_ms");
}
