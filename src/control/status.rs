//! What `/status` says of this process, as one JSON document; `erlmcp-shard status` reads the same type. What it
//! says of the other nodes stands in [`super::nodes`].

use std::time::{Duration, Instant};

use erlmcp_shards::stats::{ShardSnapshot, Transport};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::nodes::ClusterView;
use super::sample::{Rates, connections, merge_latency};
use crate::leaving::Stage;

/// The whole process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// This build.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Since the control plane started, seconds.
    pub uptime_s: u64,
    /// On its way out: not ready for new clients. `leaving` says how far it is.
    pub draining: bool,
    /// What it does on its way out; absent while it is ready.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaving: Option<LeavingView>,
    /// Shards there should be; fewer in `shards` means some did not answer.
    pub shards_expected: usize,
    /// All shards together; latencies are of the merged histograms.
    pub total: ShardView,
    /// One by one.
    pub shards: Vec<ShardView>,
    /// All nodes, this one among them; absent when there is no cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<ClusterView>,
}

/// A server on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingView {
    /// What it does.
    pub stage: LeavingStage,
    /// For how long it does that yet, at most, milliseconds.
    pub left_ms: u64,
}

/// What a server does on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeavingStage {
    /// Says that it is not ready, and serves as before.
    Notice,
    /// Takes nothing new, finishes what is in flight.
    Drain,
    /// Cuts what is left.
    Abort,
}

impl LeavingView {
    /// What this stage looks like from outside.
    pub fn of(stage: Stage, now: Instant) -> Option<Self> {
        let (stage, until) = match stage {
            Stage::Serving => return None,
            Stage::Notice { until } => (LeavingStage::Notice, until),
            Stage::Drain { until } => (LeavingStage::Drain, until),
            Stage::Abort => (LeavingStage::Abort, now),
        };
        let left = until.saturating_duration_since(now);
        Some(Self { stage, left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) })
    }
}

/// One shard, or all of them together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ShardView {
    /// Which; absent in the total.
    pub shard: Option<u16>,
    /// Its core, when pinned.
    pub core: Option<usize>,
    /// Connections it can hold.
    pub capacity: u64,
    /// Open connections of all transports.
    pub connections: u64,
    /// Of HTTP.
    pub http: u64,
    /// Of WebSocket.
    pub websocket: u64,
    /// Of newline-delimited TCP.
    pub tcp: u64,
    /// Of stdin and stdout.
    pub stdio: u64,
    /// Legacy sessions.
    pub sessions: u64,
    /// Open event streams.
    pub streams: u64,
    /// Calls that wait for a slow handler or for the client.
    pub calls: u64,
    /// Messages received since the start.
    pub messages_in: u64,
    /// Messages sent since the start.
    pub messages_out: u64,
    /// Messages received per second, over the last second.
    pub rate_in: f64,
    /// Messages sent per second, over the last second.
    pub rate_out: f64,
    /// Errors and refusals since the start.
    pub errors: u64,
    /// From a request's arrival to its answer, since the start.
    pub latency_us: LatencyView,
}

/// Percentiles, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyView {
    /// Requests measured.
    pub count: u64,
    /// Half were faster.
    pub p50: u64,
    /// 95 of 100 were faster.
    pub p95: u64,
    /// 99 of 100 were faster.
    pub p99: u64,
}

impl LatencyView {
    /// Of these requests.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.50),
            p95: histogram.value_at_quantile(0.95),
            p99: histogram.value_at_quantile(0.99),
        }
    }
}

/// Puts the document together.
pub fn view(
    shards: &[ShardSnapshot],
    rates: &Rates,
    shards_expected: usize,
    uptime: Duration,
    leaving: Option<LeavingView>,
) -> StatusView {
    let views = shard_views(shards, rates);
    let every = shards.iter().flat_map(|shard| shard.counters.latency_us.values());
    let total = ShardView::total(&views, &merge_latency(every));
    StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: uptime.as_secs(),
        draining: leaving.is_some(),
        leaving,
        shards_expected,
        total,
        shards: views,
        cluster: None,
    }
}

/// One by one.
pub fn shard_views(shards: &[ShardSnapshot], rates: &Rates) -> Vec<ShardView> {
    shards.iter().map(|shard| shard_view(shard, rates)).collect()
}

fn shard_view(shard: &ShardSnapshot, rates: &Rates) -> ShardView {
    let counters = &shard.counters;
    let rate = rates.shard(shard.shard);
    ShardView {
        shard: Some(shard.shard),
        core: shard.core,
        capacity: u64::from(shard.capacity),
        connections: counters.connections_active.iter().sum(),
        http: connections(counters, Transport::Http),
        websocket: connections(counters, Transport::WebSocket),
        tcp: connections(counters, Transport::Tcp),
        stdio: connections(counters, Transport::Stdio),
        sessions: counters.sessions_active,
        streams: counters.streams_active,
        calls: counters.calls_active,
        messages_in: counters.messages_in,
        messages_out: counters.messages_out,
        rate_in: rate.inward,
        rate_out: rate.outward,
        errors: counters.errors.values().sum(),
        latency_us: LatencyView::of(&merge_latency(counters.latency_us.values())),
    }
}

impl ShardView {
    /// All of them together. Percentiles cannot be added: they are of `latency`, in which all requests are.
    pub fn total<'v>(
        views: impl IntoIterator<Item = &'v ShardView>,
        latency: &Histogram<u64>,
    ) -> Self {
        let mut total = Self::default();
        views.into_iter().for_each(|view| total.add(view));
        total.latency_us = LatencyView::of(latency);
        total
    }

    fn add(&mut self, other: &ShardView) {
        self.capacity += other.capacity;
        self.connections += other.connections;
        self.http += other.http;
        self.websocket += other.websocket;
        self.tcp += other.tcp;
        self.stdio += other.stdio;
        self.sessions += other.sessions;
        self.streams += other.streams;
        self.calls += other.calls;
        self.messages_in += other.messages_in;
        self.messages_out += other.messages_out;
        self.rate_in += other.rate_in;
        self.rate_out += other.rate_out;
        self.errors += other.errors;
    }
}
