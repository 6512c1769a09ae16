//! The cluster as `/status` shows it.

use erlmcp_shards::lookout::Lookout;
use erlmcp_shards::stats::{Counters, ShardSnapshot};

use super::*;
use crate::control::Rates;
use erlmcp_cluster::view::View;
use std::sync::Arc;

fn report(epoch: u32, connections: u64, latencies: &[u64]) -> Report {
    let mut counters =
        Counters { connections_active: [connections, 0, 0, 0], ..Counters::default() };
    latencies.iter().for_each(|latency| counters.latency("ping", *latency));
    let shard =
        ShardSnapshot { shard: 0, core: None, capacity: 10, counters, mesh: None, ring: vec![] };
    Report::of(&[shard], &Rates::default(), 1, Duration::from_secs(5), false, epoch)
}

/// Node 1, which knows these nodes (number, epoch, state).
fn board(nodes: &[(u16, u32, State)]) -> Board {
    let board = Board::new(1, 9, vec!["127.0.0.1:7002".parse().unwrap()], |_| {});
    let mut view = View::alone(1, 9, 1);
    for (node, epoch, state) in nodes {
        view.members.push(Member {
            node: *node,
            epoch: *epoch,
            incarnation: 0,
            state: *state,
            addresses: vec![([127, 0, 0, 1], 7000 + *node).into()],
        });
    }
    board.handle_view(&Arc::new(view));
    board
}

fn hear(board: &Board, node: u16, report: &Report) {
    board.handle_status(node, &report.write().unwrap());
}

#[test]
fn percentiles_of_the_total_are_of_all_requests_and_not_of_percentiles() {
    let board = board(&[(2, 3, State::Alive)]);
    hear(&board, 2, &report(3, 1, &[1_000_000; 5]));
    let view = cluster_view(&board, report(9, 2, &[10; 95]), Instant::now());
    assert_eq!(view.total.connections, 3);
    assert_eq!(view.total.latency_us.count, 100);
    assert_eq!((view.total.latency_us.p50, view.total.latency_us.p95), (10, 10));
    assert!(900_000 < view.total.latency_us.p99);
    let p50s: Vec<u64> =
        view.nodes.iter().map(|node| node.last.as_ref().unwrap().total.latency_us.p50).collect();
    assert_eq!(p50s[0], 10);
    assert!(900_000 < p50s[1]);
}

#[test]
fn a_dead_node_shows_its_last_words_and_counts_no_more() {
    let board = board(&[(2, 3, State::Dead)]);
    hear(&board, 2, &report(3, 40, &[7]));
    let later = Instant::now() + Duration::from_secs(30);
    let view = cluster_view(&board, report(9, 2, &[]), later);
    let node = &view.nodes[1];
    let last = node.last.as_ref().unwrap();
    assert_eq!((node.state.as_str(), last.total.connections), ("dead", 40));
    assert!((29_000..=30_000).contains(&last.age_ms), "{}", last.age_ms);
    assert_eq!((view.total.connections, view.total.latency_us.count), (2, 0));
}

#[test]
fn what_nobody_said_is_absent() {
    let board = board(&[(2, 3, State::Alive), (3, 4, State::Alive), (4, 4, State::Suspect)]);
    // Of the run before.
    hear(&board, 3, &report(3, 40, &[]));
    board.handle_status(4, b"of another build");
    let view = cluster_view(&board, report(9, 2, &[]), Instant::now());
    assert!(view.nodes[0].last.is_some());
    assert!(view.nodes[1..].iter().all(|node| node.last.is_none()));
    assert_eq!(view.nodes[3].state, "suspect");
    assert_eq!(view.total.connections, 2);
}

#[test]
fn roles_are_what_nodes_are_to_the_one_that_was_asked() {
    let board = board(&[(2, 3, State::Alive), (3, 4, State::Alive)]);
    let view = cluster_view(&board, report(9, 0, &[]), Instant::now());
    let roles: Vec<Role> = view.nodes.iter().map(|node| node.role).collect();
    assert_eq!(roles, [Role::This, Role::Seed, Role::Peer]);
}

#[test]
fn the_view_is_json_that_the_command_reads() {
    let board = board(&[(2, 3, State::Alive)]);
    let view = cluster_view(&board, report(9, 1, &[5]), Instant::now());
    let json = serde_json::to_string(&view).unwrap();
    assert!(json.contains(r#""role":"this""#) && json.contains(r#""last":null"#), "{json}");
    assert_eq!(serde_json::from_str::<ClusterView>(&json).unwrap(), view);
}
