//! What people read at a terminal.

use super::*;
use crate::control::LatencyView;

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

#[test]
fn a_server_that_is_not_there_is_an_error_with_advice() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let err = request(&address, "GET", "/status").unwrap_err();
    assert!(err.contains(&address) && err.contains("Is it running?"), "{err}");
}
