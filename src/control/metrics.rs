//! `/metrics`: snapshots of the shards as OpenMetrics text.
//!
//! The shards' counters are the only counters: nothing is registered and incremented here, a [`Collector`]
//! writes what the snapshots say. Labels are bounded: methods and reasons are static names, tools come from the
//! catalog, shards from the configuration.

use std::fmt;
use std::sync::Arc;

use erlmcp_cluster::view::View;
use erlmcp_shards::stats::{OutcomeKind, ShardSnapshot, Transport};
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::sample::merge_latency;

/// OpenMetrics 1.0: the media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency buckets, seconds: from one quick call to one slow tool.
const BUCKETS_S: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Ring numbers that go down again.
const LEVELS: [&str; 1] = ["buffers_lent"];

/// Everything there is to say, as OpenMetrics text.
pub fn render(
    shards: Vec<ShardSnapshot>,
    memory_bytes: Option<u64>,
    uptime_s: f64,
    cluster: Option<Arc<View>>,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { shards, memory_bytes, uptime_s, cluster }));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Resident memory of this process, from `/proc/self/statm`.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[derive(Debug)]
struct Scrape {
    shards: Vec<ShardSnapshot>,
    memory_bytes: Option<u64>,
    uptime_s: f64,
    cluster: Option<Arc<View>>,
}

pub(super) type Written = Result<(), fmt::Error>;

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Written {
        let to = &mut to;
        self.connections(to)?;
        self.messages(to)?;
        self.requests(to)?;
        self.sums(to)?;
        self.ring(to)?;
        self.durations(to)?;
        if let Some(view) = &self.cluster {
            super::mesh_metrics::encode(to, view, &self.shards)?;
        }
        self.process(to)
    }
}

impl Scrape {
    fn connections(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let each = || {
            self.shards.iter().flat_map(|shard| {
                Transport::ALL.map(|transport| {
                    let labels = [
                        ("shard", shard.shard.to_string()),
                        ("transport", transport.as_str().to_owned()),
                    ];
                    (labels, transport as usize, shard)
                })
            })
        };
        gauges(
            to,
            "erlmcp_connections_active",
            "Open connections",
            each().map(|(labels, at, shard)| (labels, shard.counters.connections_active[at])),
        )?;
        counters(
            to,
            "erlmcp_connections",
            "Connections accepted",
            each().map(|(labels, at, shard)| (labels, shard.counters.connections_total[at])),
        )?;
        gauges(
            to,
            "erlmcp_connections_capacity",
            "Connections that can be held",
            self.by_shard(|shard| u64::from(shard.capacity)),
        )
    }

    fn messages(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let sum = |of: fn(&ShardSnapshot) -> u64| self.shards.iter().map(of).sum::<u64>();
        let both = |inward, outward| {
            [([("direction", "in")], inward), ([("direction", "out")], outward)].into_iter()
        };
        counters(
            to,
            "erlmcp_messages_processed",
            "JSON-RPC messages",
            both(sum(|s| s.counters.messages_in), sum(|s| s.counters.messages_out)),
        )?;
        counters(
            to,
            "erlmcp_bytes",
            "Bytes on client connections",
            both(sum(|s| s.counters.bytes_in), sum(|s| s.counters.bytes_out)),
        )
    }

    fn requests(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let mut methods: Vec<&'static str> =
            self.shards.iter().flat_map(|s| s.counters.requests.keys().copied()).collect();
        methods.sort_unstable();
        methods.dedup();
        let each = methods.into_iter().flat_map(|method| {
            OutcomeKind::ALL.into_iter().filter_map(move |outcome| {
                let count: u64 = self
                    .shards
                    .iter()
                    .filter_map(|s| s.counters.requests.get(method))
                    .map(|counts| counts[outcome as usize])
                    .sum();
                (count != 0).then_some(([("method", method), ("outcome", outcome.as_str())], count))
            })
        });
        counters(to, "erlmcp_requests", "Requests answered", each)?;
        let mut reasons: Vec<&'static str> =
            self.shards.iter().flat_map(|s| s.counters.errors.keys().copied()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        let each = reasons.into_iter().map(|reason| {
            let count: u64 = self.shards.iter().filter_map(|s| s.counters.errors.get(reason)).sum();
            ([("reason", reason)], count)
        });
        counters(to, "erlmcp_errors", "Errors and refusals", each)
    }

    fn sums(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        gauges(
            to,
            "erlmcp_sessions_active",
            "Legacy sessions",
            self.by_shard(|s| s.counters.sessions_active),
        )?;
        gauges(
            to,
            "erlmcp_streams_active",
            "Open event streams",
            self.by_shard(|s| s.counters.streams_active),
        )?;
        gauges(
            to,
            "erlmcp_calls_active",
            "Calls waiting for a slow handler or for the client",
            self.by_shard(|s| s.counters.calls_active),
        )?;
        gauges(
            to,
            "erlmcp_tasks_active",
            "Tasks kept, running or ended",
            self.by_shard(|s| s.counters.tasks_active),
        )?;
        counters(
            to,
            "erlmcp_sessions_opened",
            "Legacy sessions opened",
            self.by_shard(|s| s.counters.sessions_total),
        )?;
        counters(
            to,
            "erlmcp_notifications",
            "Notifications fanned out to subscribers",
            self.by_shard(|s| s.counters.notifications_out),
        )?;
        counters(
            to,
            "erlmcp_forwards",
            "Requests handed to the shard that owns the session or task",
            self.by_shard(|s| s.counters.forwards_out),
        )
    }

    fn ring(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let each = |is_level: bool| {
            self.shards.iter().flat_map(move |shard| {
                let kind = shard.ring.iter().filter(move |(n, _)| LEVELS.contains(n) == is_level);
                kind.map(|(name, value)| {
                    ([("shard", shard.shard.to_string()), ("event", (*name).to_owned())], *value)
                })
            })
        };
        counters(to, "erlmcp_ring_events", "What happened in the ring", each(false))?;
        gauges(to, "erlmcp_ring_level", "What is in the ring now", each(true))
    }

    fn durations(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let mut methods: Vec<&'static str> =
            self.shards.iter().flat_map(|s| s.counters.latency_us.keys().copied()).collect();
        methods.sort_unstable();
        methods.dedup();
        let mut tools: Vec<&str> = self
            .shards
            .iter()
            .flat_map(|s| s.counters.tool_latency_us.keys().map(String::as_str))
            .collect();
        tools.sort_unstable();
        tools.dedup();
        let of_tool = |tool: &str| {
            merge_latency(self.shards.iter().filter_map(|s| s.counters.tool_latency_us.get(tool)))
        };
        let tools: Vec<(&str, Histogram<u64>)> =
            tools.into_iter().map(|tool| (tool, of_tool(tool))).collect();
        let of_method = methods.into_iter().map(|method| {
            let parts = self.shards.iter().filter_map(|s| s.counters.latency_us.get(method));
            let mut rest = merge_latency(parts);
            if method == TOOLS_CALL {
                // Calls of a tool stand under its name; here stay those of names the catalog does not have,
                // so that a sum over all series counts every call once.
                for (_, histogram) in &tools {
                    subtract(&mut rest, histogram);
                }
            }
            (vec![("method", method)], rest)
        });
        let of_tools = tools.iter().map(|(tool, histogram)| {
            (vec![("method", TOOLS_CALL), ("tool", *tool)], histogram.clone())
        });
        histograms(
            to,
            "mcp_server_operation_duration",
            "From a request's arrival to its answer",
            of_method.chain(of_tools),
        )
    }

    fn process(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        if let Some(bytes) = self.memory_bytes {
            gauge(to, "erlmcp_memory", "Resident memory", Some(&Unit::Bytes), bytes as f64)?;
        }
        gauge(to, "erlmcp_uptime", "Since the start", Some(&Unit::Seconds), self.uptime_s)?;
        let mut family =
            to.encode_descriptor("erlmcp_build", "This build", None, MetricType::Info)?;
        family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn by_shard<'s>(
        &'s self,
        of: impl Fn(&ShardSnapshot) -> u64 + 's,
    ) -> impl Iterator<Item = ([(&'static str, String); 1], u64)> + 's {
        self.shards.iter().map(move |shard| ([("shard", shard.shard.to_string())], of(shard)))
    }
}

/// Takes `part` out of `sum`. Counts that are not in `sum` (the snapshots of two shards are not of one moment)
/// leave it as it is.
fn subtract(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    let mut rest = sum.clone();
    if rest.subtract(part).is_ok() {
        *sum = rest;
    }
}

const TOOLS_CALL: &str = "tools/call";

pub(super) fn counters<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    each: impl Iterator<Item = (L, u64)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in each {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(super) fn gauges<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    each: impl Iterator<Item = (L, u64)>,
) -> Written {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in each {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(super) fn gauge(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Written {
    let family = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(family)
}

fn histograms<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    each: impl Iterator<Item = (L, Histogram<u64>)>,
) -> Written {
    let unit = Unit::Seconds;
    let mut family = to.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    for (labels, histogram) in each {
        encode_histogram(family.encode_family(&labels)?, &histogram)?;
    }
    Ok(())
}

/// Fixed buckets out of an HDR histogram. The sum is that of the buckets' middles, off by under 1 %.
fn encode_histogram(mut to: MetricEncoder<'_>, histogram: &Histogram<u64>) -> Written {
    let mut buckets: Vec<(f64, u64)> = BUCKETS_S.iter().map(|&bound| (bound, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    let mut sum_us = 0.0;
    for step in histogram.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
        sum_us += histogram.median_equivalent(value) as f64 * count as f64;
        let seconds = value as f64 / 1e6;
        let bucket = buckets.partition_point(|(bound, _)| *bound < seconds);
        if let Some((_, counted)) = buckets.get_mut(bucket) {
            *counted += count;
        }
    }
    to.encode_histogram::<NoLabelSet>(sum_us / 1e6, histogram.len(), &buckets, None)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
