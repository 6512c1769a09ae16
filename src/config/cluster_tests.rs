//! `[cluster]`: what it sets, what is wrong with it, and whom a node looks for.

use std::path::Path;

use super::*;
use crate::config::apply_file;

const GOOD: &str = "[cluster]\nnode = 2\nsecret_file = \"s\"\n";

#[track_caller]
fn read(text: &str) -> ClusterConfig {
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, Path::new("/etc/erlmcp/c.toml"), text), []);
    config.cluster.expect("there is a section")
}

/// Expects exactly these complaints about the whole, of a node with two shards.
#[track_caller]
fn check(more: &str, expect: &[&str]) {
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, Path::new("c.toml"), &format!("{GOOD}{more}")), []);
    let lines: Vec<String> = config.problems(&[0, 1]).iter().map(Problem::to_string).collect();
    assert_eq!(lines, expect);
}

#[test]
fn every_key_is_read() {
    let cluster = read(
        r#"
        [cluster]
        node = 65_535
        listen = "10.0.0.1:7000"
        peers = ["10.0.0.2:7000", "[fe80::1]:7000"]
        secret_file = "cluster.secret"
        sync = "eager"
        heartbeat_ms = 100
        node_timeout_ms = 1_000
        replicas = 3
        "#,
    );
    let expect = ClusterConfig {
        node: Some(65_535),
        listen: "10.0.0.1:7000".parse().unwrap(),
        peers: vec!["10.0.0.2:7000".parse().unwrap(), "[fe80::1]:7000".parse().unwrap()],
        // Beside the file that names it.
        secret_file: Some("/etc/erlmcp/cluster.secret".into()),
        sync: SyncMode::Eager,
        heartbeat_ms: 100,
        node_timeout_ms: 1_000,
        replicas: 3,
    };
    assert_eq!(cluster, expect);
}

#[test]
fn a_server_is_alone_unless_told() {
    assert_eq!(Config::default().cluster, None);
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, Path::new("c.toml"), "[server]\n"), []);
    assert_eq!(config.cluster, None);
}

#[test]
fn a_first_node_needs_no_peers() {
    check("", &[]);
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "[cluster]\nnode = 0\nlisten = \"node-a:7946\"\npeers = [\"10.0.0.2\", 7]\nsync = \"often\"\n\
                heartbeat_ms = 19\nnode_timeout_ms = 60_001\nreplicas = 4\nseeds = []\n";
    let problems = apply_file(&mut Config::default(), Path::new("c.toml"), text);
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let there_are =
        "there are node, listen, peers, secret_file, sync, heartbeat_ms, node_timeout_ms, replicas";
    let expect = [
        "c.toml:2: cluster.node: 0 is not from 1 to 65535",
        "c.toml:3: cluster.listen: \"node-a:7946\" is not IP:PORT, like 10.0.0.1:7946 or [::1]:7946",
        "c.toml:4: cluster.peers: \"10.0.0.2\" is not IP:PORT, like 10.0.0.1:7946 or [::1]:7946",
        "c.toml:4: cluster.peers: must be a string, found integer",
        "c.toml:5: cluster.sync: \"often\" is neither \"lazy\" nor \"eager\"",
        "c.toml:6: cluster.heartbeat_ms: 19 is not from 20 to 5000",
        "c.toml:7: cluster.node_timeout_ms: 60001 is not from 100 to 60000",
        "c.toml:8: cluster.replicas: 4 is not from 0 to 3",
        &format!("c.toml:9: cluster.seeds: unknown key; {there_are}"),
    ];
    assert_eq!(lines, expect);
}

#[test]
fn a_number_and_a_secret_must_be_given() {
    let mut config = Config::default();
    assert_eq!(apply_file(&mut config, Path::new("c.toml"), "[cluster]\n"), []);
    let lines: Vec<String> = config.problems(&[0]).iter().map(Problem::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("--node") && lines[1].contains("erlmcp-shard secret"), "{lines:?}");
}

#[test]
fn the_mesh_listens_where_others_can_dial_it() {
    check("listen = '10.0.0.1:7946'\npeers = ['10.0.0.2:7946']", &[]);
    check("listen = '127.0.0.1:0'\npeers = ['127.0.0.1:7946']", &[]);
    let any = "cluster.listen: the other nodes cannot be told to dial 0.0.0.0: name the address of this host under \
               which they reach it";
    check("listen = '0.0.0.0:7946'", &[any]);
    check(
        "peers = ['10.0.0.2:7946']",
        &[
            "cluster.listen: 10.0.0.2:7946 is on another machine, which cannot reach 127.0.0.1:7946: listen on an \
           address of this host (--mesh-listen)",
        ],
    );
    check("listen = '127.0.0.1:65534'", &[]);
    check(
        "listen = '127.0.0.1:65535'",
        &["cluster.listen: 2 shards listen on ports from 65535 on, which go beyond 65535"],
    );
    check("peers = ['127.0.0.1:0']", &["cluster.peers: 127.0.0.1:0: a peer has a port"]);
    check(
        "peers = ['0.0.0.0:7946']",
        &[
            "cluster.listen: 0.0.0.0:7946 is on another machine, which cannot reach 127.0.0.1:7946: listen on an \
         address of this host (--mesh-listen)",
            "cluster.peers: 0.0.0.0:7946 is nobody's address",
        ],
    );
}

#[test]
fn a_node_may_miss_a_heartbeat() {
    check("heartbeat_ms = 500\nnode_timeout_ms = 1500", &[]);
    check(
        "heartbeat_ms = 500\nnode_timeout_ms = 1499",
        &[
            "cluster.node_timeout_ms: 1499 is less than 3 heartbeats of 500 ms: nodes would be declared dead for \
           nothing",
        ],
    );
}

#[test]
fn a_cluster_and_a_local_pipe_exclude_each_other() {
    let mut config = Config::default();
    apply_file(&mut config, Path::new("c.toml"), GOOD);
    config.server.stdio = true;
    assert_eq!(config.problems(&[0]).len(), 1);
}

#[test]
fn shards_are_as_many_as_the_others_can_know() {
    let problems = |per_core: u16, cores: usize| {
        let mut config = Config::default();
        apply_file(&mut config, Path::new("c.toml"), GOOD);
        config.server.shards_per_core = per_core;
        config.problems(&(0..cores).collect::<Vec<_>>()).len()
    };
    assert_eq!((problems(64, 4), problems(52, 5)), (0, 1));
}

#[test]
fn the_same_list_may_stand_on_every_node() {
    let cluster = read(
        "[cluster]\nlisten = '127.0.0.1:7946'\n\
         peers = ['127.0.0.1:7962', '127.0.0.1:7946', '127.0.0.1:7947', '127.0.0.1:7962', '127.0.0.2:7946']",
    );
    let addresses = |peers: &[&str]| -> Vec<SocketAddr> {
        peers.iter().map(|peer| peer.parse().unwrap()).collect()
    };
    // One shard: the next port is somebody else's.
    let others = addresses(&["127.0.0.1:7947", "127.0.0.1:7962", "127.0.0.2:7946"]);
    assert_eq!(cluster.seeds(1), (others, true));
    assert_eq!(cluster.seeds(2), (addresses(&["127.0.0.1:7962", "127.0.0.2:7946"]), true));
    let free = ClusterConfig { listen: "127.0.0.1:0".parse().unwrap(), ..cluster };
    assert!(!free.seeds(1).1);
}

#[test]
fn an_open_network_is_warned_about() {
    assert_eq!(read(GOOD).warnings(), None);
    let open = read(&format!("{GOOD}listen = '10.0.0.1:7946'")).warnings();
    assert!(open.is_some_and(|warning| warning.contains("not encrypted")));
}
