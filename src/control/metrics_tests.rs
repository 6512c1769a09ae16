//! What a scraper reads.

use std::collections::BTreeSet;

use hdrhistogram::Histogram;

use super::*;

fn shard(number: u16) -> ShardSnapshot {
    ShardSnapshot {
        shard: number,
        core: Some(usize::from(number)),
        capacity: 1000,
        mesh: None,
        counters: Default::default(),
        ring: vec![("enters", 10), ("buffers_lent", 3)],
    }
}

fn histogram(values: &[u64]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap();
    values.iter().for_each(|&value| histogram.saturating_record(value));
    histogram
}

/// A document of a node that is in a cluster of its own.
#[track_caller]
fn check_clustered(shards: Vec<ShardSnapshot>, lines: &[&str]) {
    let view = Arc::new(View::alone(1, 7, 2));
    let text = render(shards, None, 1.5, Some(view)).unwrap();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn a_cluster_says_which_sessions_have_their_copies() {
    let (mut a, b) = (shard(0), shard(1));
    a.counters.sessions_copied = [7, 2, 1];
    a.counters.sync_repeats = 4;
    a.counters.sync_lag_ms = 1_500;
    check_clustered(
        vec![a, b],
        &[
            "erlmcp_sessions_copied{shard=\"0\",copies=\"all\"} 7",
            "erlmcp_sessions_copied{shard=\"0\",copies=\"some\"} 2",
            "erlmcp_sessions_copied{shard=\"0\",copies=\"none\"} 1",
            "erlmcp_sessions_copied{shard=\"1\",copies=\"none\"} 0",
            "erlmcp_sync_repeats_total{shard=\"0\"} 4",
            "erlmcp_sync_lag_seconds 1.5",
        ],
    );
}

/// The names of a row of a table that begins with metrics.
fn names(row: &str) -> impl Iterator<Item = &str> {
    let first = row.split('|').nth(1).unwrap_or_default();
    first.split('`').skip(1).step_by(2)
}

#[test]
fn the_readme_names_what_there_is_and_nothing_else() {
    let readme = include_str!("../../README.md");
    let rows = readme.lines().skip_while(|line| !line.starts_with("| Metric |"));
    let told: BTreeSet<&str> =
        rows.take_while(|line| line.starts_with('|')).flat_map(names).collect();
    let mut a = shard(0);
    a.counters.request("ping", OutcomeKind::Ok);
    a.counters.error("head_timeout");
    a.counters.latency("ping", 5);
    a.mesh = Some(Default::default());
    let text = render(vec![a], Some(1), 1.5, Some(Arc::new(View::alone(1, 7, 1)))).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let there: BTreeSet<String> = types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            // Its one value is 1, and its labels say the rest.
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    assert_eq!(told, there);
}

#[track_caller]
fn check(shards: Vec<ShardSnapshot>, lines: &[&str]) {
    let text = render(shards, Some(4096), 1.5, None).unwrap();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn counters_of_shards_are_added_or_labelled() {
    let (mut a, mut b) = (shard(0), shard(1));
    a.counters.connections_active[Transport::WebSocket as usize] = 3;
    a.counters.messages_in = 5;
    b.counters.messages_in = 7;
    a.counters.request("tools/call", OutcomeKind::Ok);
    b.counters.request("tools/call", OutcomeKind::Ok);
    b.counters.request("ping", OutcomeKind::RpcError);
    a.counters.error("head_timeout");
    check(
        vec![a, b],
        &[
            "erlmcp_connections_active{shard=\"0\",transport=\"websocket\"} 3",
            "erlmcp_connections_active{shard=\"1\",transport=\"websocket\"} 0",
            "erlmcp_connections_total{shard=\"1\",transport=\"http\"} 0",
            "erlmcp_messages_processed_total{direction=\"in\"} 12",
            "erlmcp_requests_total{method=\"tools/call\",outcome=\"ok\"} 2",
            "erlmcp_requests_total{method=\"ping\",outcome=\"rpc_error\"} 1",
            "erlmcp_errors_total{reason=\"head_timeout\"} 1",
            "erlmcp_sessions_active{shard=\"0\"} 0",
            "erlmcp_streams_active{shard=\"0\"} 0",
            "erlmcp_ring_events_total{shard=\"0\",event=\"enters\"} 10",
            "erlmcp_ring_level{shard=\"0\",event=\"buffers_lent\"} 3",
            "erlmcp_memory_bytes 4096.0",
        ],
    );
}

#[test]
fn durations_are_cumulative_buckets_of_merged_histograms() {
    let (mut a, mut b) = (shard(0), shard(1));
    a.counters.latency_us.insert("ping", histogram(&[10, 100]));
    b.counters.latency_us.insert("ping", histogram(&[1000, 20_000_000]));
    check(
        vec![a, b],
        &[
            "mcp_server_operation_duration_seconds_count{method=\"ping\"} 4",
            "mcp_server_operation_duration_seconds_bucket{le=\"0.00001\",method=\"ping\"} 1",
            "mcp_server_operation_duration_seconds_bucket{le=\"0.0001\",method=\"ping\"} 2",
            "mcp_server_operation_duration_seconds_bucket{le=\"10.0\",method=\"ping\"} 3",
            "mcp_server_operation_duration_seconds_bucket{le=\"+Inf\",method=\"ping\"} 4",
        ],
    );
}

#[test]
fn a_tool_call_is_counted_once_under_its_name() {
    let mut a = shard(0);
    a.counters.latency_us.insert("tools/call", histogram(&[10, 20, 30]));
    a.counters.tool_latency_us.insert("echo".into(), histogram(&[10, 20]));
    check(
        vec![a],
        &[
            "mcp_server_operation_duration_seconds_count{method=\"tools/call\",tool=\"echo\"} 2",
            "mcp_server_operation_duration_seconds_count{method=\"tools/call\"} 1",
        ],
    );
}

#[test]
fn a_hostile_tool_name_cannot_forge_a_line() {
    let mut a = shard(0);
    a.counters.tool_latency_us.insert("a\"} 1\nevil 2 #".into(), histogram(&[1]));
    let text = render(vec![a], None, 0.0, None).unwrap();
    assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
}

#[test]
fn no_shard_still_makes_a_whole_document() {
    check(vec![], &["erlmcp_messages_processed_total{direction=\"in\"} 0"]);
}
