//! What people read at a terminal.

use super::*;
use crate::cluster::SyncView;
use crate::control::{NodeReport, Role};

fn view() -> StatusView {
    let shard = ShardView {
        shard: Some(1),
        core: Some(5),
        capacity: 20_000,
        connections: 12,
        rate_in: 999.6,
        latency_us: LatencyView { count: 9, p50: 999, p95: 1_000, p99: 2_500_000 },
        ..ShardView::default()
    };
    StatusView {
        version: "1.2.3".into(),
        pid: 7,
        uptime_s: 3_661,
        draining: false,
        leaving: None,
        shards_expected: 2,
        total: ShardView { shard: None, core: None, ..shard.clone() },
        shards: vec![shard],
        cluster: None,
    }
}

#[test]
fn one_line_for_all_and_one_per_shard_when_asked() {
    let head = "erlmcp-shard 1.2.3  pid 7  up 1h01m  ready  1 of 2 shards answer\n";
    let short = table(&view(), false);
    assert!(short.starts_with(head), "{short}");
    assert_eq!(short.lines().count(), 3);
    let long = table(&view(), true);
    let last: Vec<&str> = long.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(
        last,
        ["1", "(core", "5)", "12", "20000", "0", "0", "1000", "0", "999us", "1.0ms", "2.5s", "0"]
    );
}

#[test]
fn a_server_on_its_way_out_says_what_it_waits_for() {
    let check = |stage, left_ms, expect: &str, together: &str| {
        let leaving = Some(LeavingView { stage, left_ms });
        let alone = table(&StatusView { draining: true, leaving, ..view() }, false);
        assert!(alone.contains(&format!("  up 1h01m  {expect}  1 of 2 ")), "{alone}");
        let nodes = table(&StatusView { draining: true, leaving, ..clustered() }, false);
        assert_eq!(nodes.lines().nth(1), Some(format!("node 1 is {together}").as_str()));
        assert_eq!(nodes.lines().count(), 8);
    };
    let notice = "draining: begins in 1.4s, serves until then";
    check(LeavingStage::Notice, 1_400, notice, notice);
    check(
        LeavingStage::Drain,
        900,
        "draining: waits for 0 calls, 12 connections, 900ms at most",
        "draining: waits for 0 calls, 0 sessions, 12 connections, 900ms at most",
    );
    let abort = "draining: leaves at once";
    check(LeavingStage::Abort, 0, abort, abort);
}

#[test]
fn durations_read_naturally() {
    let cases = [
        (0, "0s"),
        (59, "59s"),
        (60, "1m00s"),
        (3_599, "59m59s"),
        (3_600, "1h00m"),
        (90_000, "1d01h"),
    ];
    for (seconds, text) in cases {
        assert_eq!(duration(seconds), text);
    }
}

fn node(node: u16, state: &str, role: Role, last: Option<NodeReport>) -> NodeView {
    NodeView { node, state: state.into(), role, epoch: 1, address: None, last }
}

fn said(age_ms: u64, draining: bool) -> NodeReport {
    let StatusView { version, pid, uptime_s, total, shards, .. } = view();
    let sync = SyncView { lag_ms: 40, uncopied: 5, drops: 3, ..SyncView::default() };
    NodeReport { age_ms, version, pid, uptime_s, draining, shards_expected: 2, total, shards, sync }
}

fn clustered() -> StatusView {
    let nodes = vec![
        node(1, "alive", Role::This, Some(said(0, false))),
        node(2, "alive", Role::Seed, Some(said(999, true))),
        node(3, "dead", Role::Peer, Some(said(75_000, false))),
        node(4, "suspect", Role::Peer, None),
    ];
    let total = ShardView { connections: 24, ..ShardView::default() };
    StatusView { cluster: Some(ClusterView { node: 1, nodes, total }), ..view() }
}

#[track_caller]
fn words(text: &str, line: usize) -> Vec<&str> {
    text.lines().nth(line).expect("there is such a line").split_whitespace().collect()
}

#[test]
fn a_cluster_is_a_line_per_node_and_a_total() {
    let text = table(&clustered(), false);
    assert!(
        text.starts_with("erlmcp-shard 1.2.3  seen from node 1  2 alive, 1 suspect, 1 dead\n"),
        "{text}"
    );
    let numbers = ["12", "0", "0", "1000", "999us", "1.0ms", "2.5s", "40ms", "5", "3", "0"];
    let line = |head: &[&'static str], tail: &[&'static str]| -> Vec<&'static str> {
        [head, &numbers, tail].concat()
    };
    assert_eq!(words(&text, 2), line(&["1", "alive", "this", "1h01m"], &["now"]));
    assert_eq!(words(&text, 3), line(&["2", "draining", "seed", "1h01m"], &["0s", "ago"]));
    assert_eq!(words(&text, 4), line(&["3", "dead", "peer", "1h01m"], &["1m15s", "ago"]));
    let mut silent = vec!["4", "suspect", "peer"];
    silent.extend(["-"; 12]);
    silent.push("never");
    assert_eq!(words(&text, 5), silent);
    let total = ["total", "24", "0", "0", "0", "-", "-", "-", "40ms", "10", "6", "0"];
    assert_eq!(words(&text, 6), total);
    assert_eq!(text.lines().count(), 7);
}

#[test]
fn columns_stand_under_their_heads() {
    let text = table(&clustered(), true);
    let end_of = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
    let lines: Vec<&str> = text.lines().collect();
    for (word, under) in [("CONNS", "12"), ("P99", "2.5s"), ("NOCOPY", " 5"), ("DROPS", " 3")] {
        assert_eq!(end_of(lines[1], word), end_of(lines[2], under).max(end_of(lines[1], word)));
    }
    // One shard of each node that has said something.
    assert_eq!(lines.iter().filter(|line| line.starts_with(" 1 (core 5)")).count(), 3);
    assert!(lines.iter().all(|line| line.len() <= 130 && !line.ends_with(' ')), "{text}");
}
