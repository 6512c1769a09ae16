//! `status` as people read it: one line for everything, and one per node or shard.

use std::fmt::Write as _;

use crate::control::{
    ClusterView, LatencyView, LeavingStage, LeavingView, NodeView, ShardView, StatusView,
};

/// What the server said, as lines.
pub fn table(view: &StatusView, with_shards: bool) -> String {
    match &view.cluster {
        None => alone(view, with_shards),
        Some(cluster) => together(view, cluster, with_shards),
    }
}

/// A server without a cluster: itself, and its shards if asked.
fn alone(view: &StatusView, with_shards: bool) -> String {
    let state = leaving(view).unwrap_or_else(|| "ready".to_owned());
    let mut out = format!(
        "erlmcp-shard {}  pid {}  up {}  {state}  {} of {} shards answer\n",
        view.version,
        view.pid,
        duration(view.uptime_s),
        view.shards.len(),
        view.shards_expected
    );
    let _ = writeln!(
        out,
        "{:<12} {:>9} {:>9} {:>8} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "CONNS", "ROOM", "SESSIONS", "STREAMS", "IN/S", "OUT/S", "P50", "P95", "P99", "ERRORS"
    );
    line(&mut out, "total", &view.total);
    if with_shards {
        for shard in &view.shards {
            line(&mut out, &shard_name(shard), shard);
        }
    }
    out
}

/// What a server on its way out waits for. Sessions are waited for where there are nodes to hand them to.
fn leaving(view: &StatusView) -> Option<String> {
    let LeavingView { stage, left_ms } = view.leaving?;
    let left = millis(left_ms);
    let ShardView { calls, connections, sessions, .. } = view.total;
    let sessions = match view.cluster {
        Some(_) => format!("{sessions} sessions, "),
        None => String::new(),
    };
    Some(match stage {
        LeavingStage::Notice => format!("draining: begins in {left}, serves until then"),
        LeavingStage::Drain => format!(
            "draining: waits for {calls} calls, {sessions}{connections} connections, {left} at most"
        ),
        LeavingStage::Abort => "draining: leaves at once".to_owned(),
    })
}

fn line(out: &mut String, name: &str, view: &ShardView) {
    let [p50, p95, p99] = percentiles(view.latency_us);
    let _ = writeln!(
        out,
        "{name:<12} {:>9} {:>9} {:>8} {:>7} {:>8.0} {:>8.0} {:>8} {:>8} {:>8} {:>8}",
        view.connections,
        view.capacity,
        view.sessions,
        view.streams,
        view.rate_in,
        view.rate_out,
        p50,
        p95,
        p99,
        view.errors
    );
}

/// All nodes as the asked one sees them. The total is of those that are not dead.
fn together(view: &StatusView, cluster: &ClusterView, with_shards: bool) -> String {
    let mut out = format!(
        "erlmcp-shard {}  seen from node {}  {}\n",
        view.version,
        cluster.node,
        census(cluster)
    );
    if let Some(leaving) = leaving(view) {
        let _ = writeln!(out, "node {} is {leaving}", cluster.node);
    }
    let head = [
        "NODE", "STATE", "ROLE", "UP", "CONNS", "SESSIONS", "STREAMS", "MSG/S", "P50", "P95",
        "P99", "LAG", "NOCOPY", "DROPS", "ERRORS", "SEEN",
    ];
    row(&mut out, &head.map(str::to_owned));
    for node in &cluster.nodes {
        row(&mut out, &node_cells(node));
        if with_shards && let Some(last) = &node.last {
            for shard in &last.shards {
                let name = format!(" {}", shard_name(shard));
                row(&mut out, &cells([&name, "", "", ""], Some(shard), [""; 4]));
            }
        }
    }
    let living: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|node| node.state != "dead")
        .filter_map(|node| node.last.as_ref())
        .collect();
    let lag = living.iter().map(|last| last.sync.lag_ms).max().unwrap_or_default();
    let drops: u64 = living.iter().map(|last| last.sync.drops).sum();
    let uncopied: u64 = living.iter().map(|last| last.sync.uncopied).sum();
    let sync = [&millis(lag), &uncopied.to_string(), &drops.to_string(), ""];
    row(&mut out, &cells(["total", "", "", ""], Some(&cluster.total), sync));
    out
}

/// `3 alive, 1 dead`.
fn census(cluster: &ClusterView) -> String {
    let count = |state: &str| cluster.nodes.iter().filter(|node| node.state == state).count();
    let states = ["alive", "suspect", "leaving", "dead"].map(|state| (count(state), state));
    let some = states.iter().filter(|(count, _)| *count != 0);
    some.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn node_cells(node: &NodeView) -> Cells {
    let number = node.node.to_string();
    let role = node.role.as_str();
    let Some(last) = &node.last else {
        return cells([&number, &node.state, role, "-"], None, ["-", "-", "-", "never"]);
    };
    let seen = match (role, last.age_ms) {
        ("this", _) => "now".to_owned(),
        (_, ms) => format!("{} ago", duration(ms / 1_000)),
    };
    let up = duration(last.uptime_s);
    // `draining` is said by the node itself, before the others have heard that it leaves.
    let state = if last.draining && node.state == "alive" { "draining" } else { &node.state };
    let (uncopied, drops) = (last.sync.uncopied.to_string(), last.sync.drops.to_string());
    let sync = [&millis(last.sync.lag_ms), &uncopied, &drops, seen.as_str()];
    cells([&number, state, role, &up], Some(&last.total), sync)
}

type Cells = [String; 16];

/// Name, state, role and uptime; a node's or shard's numbers; lag, sessions without a copy, drops and when it was seen.
fn cells(who: [&str; 4], view: Option<&ShardView>, sync: [&str; 4]) -> Cells {
    let numbers = view.map_or_else(
        || std::array::from_fn(|_| "-".to_owned()),
        |view| {
            let [p50, p95, p99] = percentiles(view.latency_us);
            [
                view.connections.to_string(),
                view.sessions.to_string(),
                view.streams.to_string(),
                format!("{:.0}", view.rate_in + view.rate_out),
                p50,
                p95,
                p99,
                view.errors.to_string(),
            ]
        },
    );
    let [name, state, role, up] = who.map(str::to_owned);
    let [lag, uncopied, drops, seen] = sync.map(str::to_owned);
    let [conns, sessions, streams, rate, p50, p95, p99, errors] = numbers;
    [
        name, state, role, up, conns, sessions, streams, rate, p50, p95, p99, lag, uncopied, drops,
        errors, seen,
    ]
}

fn row(out: &mut String, cells: &Cells) {
    let [name, state, role, rest @ ..] = cells;
    let _ = write!(out, "{name:<11} {state:<8} {role:<4}");
    let widths = [6, 8, 7, 8, 8, 7, 7, 6, 6, 6, 6, 7, 9];
    for (cell, width) in rest.iter().zip(widths) {
        let _ = write!(out, " {cell:>width$}");
    }
    // A line that ends in blanks wraps for nothing.
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

fn shard_name(shard: &ShardView) -> String {
    let number = shard.shard.map_or_else(String::new, |shard| shard.to_string());
    match shard.core {
        Some(core) => format!("{number} (core {core})"),
        None => number,
    }
}

/// Of no request there are none.
fn percentiles(latency: LatencyView) -> [String; 3] {
    match latency.count {
        0 => std::array::from_fn(|_| "-".to_owned()),
        _ => [latency.p50, latency.p95, latency.p99].map(micros),
    }
}

fn micros(value: u64) -> String {
    match value {
        0..1_000 => format!("{value}us"),
        1_000..1_000_000 => format!("{:.1}ms", value as f64 / 1e3),
        _ => format!("{:.1}s", value as f64 / 1e6),
    }
}

fn millis(value: u64) -> String {
    match value {
        0..1_000 => format!("{value}ms"),
        _ => format!("{:.1}s", value as f64 / 1e3),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
