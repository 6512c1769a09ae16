//! How one node fares, as it tells the others once a second: [`erlmcp_cluster::letter::Letter::Status`].
//!
//! A format byte, then postcard. A node of another build that writes another format shows up without numbers
//! rather than with wrong ones.

use std::time::Duration;

use erlmcp_cluster::replicas::Copied;
use erlmcp_shards::stats::{LATENCY_MICROS_MAX, ShardSnapshot};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::control::{Rates, ShardView, empty_latency, merge_latency, shard_views};

/// First byte of a report.
const FORMAT: u8 = 2;
/// A report is no longer, bytes: 256 shards with their numbers need a third of it.
pub const REPORT_BYTES_MAX: usize = 64 * 1024;

/// What the mesh calls a letter that was dropped because no link stands.
const NO_LINK: &str = "no_link";

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its build.
    pub version: String,
    /// Its process id, on its host.
    pub pid: u32,
    /// Which run of it.
    pub epoch: u32,
    /// Since its start, seconds.
    pub uptime_s: u64,
    /// On its way out: not ready for new clients, perhaps still serving as before.
    pub draining: bool,
    /// Shards there should be; fewer in `shards` means some did not answer.
    pub shards_expected: u16,
    /// One by one.
    pub shards: Vec<ShardView>,
    /// Its links and its copies.
    pub sync: SyncView,
    /// Latencies of all its requests, to be merged: (bucket, count), each bucket by its distance from the one
    /// before.
    latency: Vec<(u64, u64)>,
}

/// How a node keeps up with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncView {
    /// Links on which it sends.
    pub links_out: u64,
    /// Links on which it receives.
    pub links_in: u64,
    /// Links that broke, since the start.
    pub links_lost: u64,
    /// Letters sent since the start.
    pub letters_out: u64,
    /// Letters received since the start.
    pub letters_in: u64,
    /// Bytes sent since the start.
    pub bytes_out: u64,
    /// Bytes received since the start.
    pub bytes_in: u64,
    /// Bytes that wait to be sent.
    pub queue_bytes: u64,
    /// Letters that found no room on their link, since the start.
    pub drops: u64,
    /// Letters that found no link: it was not up yet, or broken already; since the start.
    pub unlinked: u64,
    /// Links refused, by either end, since the start.
    pub refused: u64,
    /// Copies of other nodes' sessions.
    pub copies: u64,
    /// Sessions taken over from other nodes, since the start.
    pub adopted: u64,
    /// How long the oldest change of a session waits to be copied, milliseconds.
    pub lag_ms: u64,
    /// Sessions with fewer copies than configured, those without among them.
    pub short: u64,
    /// Sessions without a copy: they end with this node.
    pub uncopied: u64,
    /// How often a session was said again because its keeper had not acknowledged it, since the start.
    pub repeats: u64,
}

impl Report {
    /// Of this node, from what its shards have counted.
    pub fn of(
        shards: &[ShardSnapshot],
        rates: &Rates,
        shards_expected: usize,
        uptime: Duration,
        draining: bool,
        epoch: u32,
    ) -> Self {
        let every = shards.iter().flat_map(|shard| shard.counters.latency_us.values());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            epoch,
            uptime_s: uptime.as_secs(),
            draining,
            shards_expected: u16::try_from(shards_expected).unwrap_or(u16::MAX),
            shards: shard_views(shards, rates),
            sync: SyncView::of(shards),
            latency: pack(&merge_latency(every)),
        }
    }

    /// As bytes; `None` when they would be too many, which no number of shards that can be configured reaches.
    pub fn write(&self) -> Option<Box<[u8]>> {
        let bytes = postcard::to_extend(self, vec![FORMAT]).ok()?;
        (bytes.len() <= REPORT_BYTES_MAX).then(|| bytes.into_boxed_slice())
    }

    /// What those bytes say; `None` when it is not a report of this format.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        if *format != FORMAT || REPORT_BYTES_MAX < bytes.len() {
            return None;
        }
        match postcard::take_from_bytes(rest) {
            Ok((report, [])) => Some(report),
            _ => None,
        }
    }

    /// Latencies of all its requests, microseconds.
    pub fn latency(&self) -> Histogram<u64> {
        unpack(&self.latency)
    }
}

impl SyncView {
    fn of(shards: &[ShardSnapshot]) -> Self {
        let mut sum = Self::default();
        for mesh in shards.iter().filter_map(|shard| shard.mesh.as_ref()) {
            sum.links_out += mesh.links_out;
            sum.links_in += mesh.links_in;
            sum.links_lost += mesh.links_lost;
            sum.letters_out += mesh.letters_out;
            sum.letters_in += mesh.letters_in;
            sum.bytes_out += mesh.bytes_out;
            sum.bytes_in += mesh.bytes_in;
            sum.queue_bytes += mesh.queue_bytes;
            let unlinked = mesh.dropped.get(NO_LINK).copied().unwrap_or_default();
            sum.unlinked += unlinked;
            sum.drops += mesh.dropped.values().sum::<u64>() - unlinked;
            sum.refused += mesh.refused.values().sum::<u64>() + mesh.refused_by_peers;
        }
        for counters in shards.iter().map(|shard| &shard.counters) {
            sum.copies += counters.copies_active;
            sum.adopted += counters.sessions_adopted;
            sum.lag_ms = sum.lag_ms.max(counters.sync_lag_ms);
            sum.short += counters.sessions_copied[1..].iter().sum::<u64>();
            sum.uncopied += counters.sessions_copied[Copied::None as usize];
            sum.repeats += counters.sync_repeats;
        }
        sum
    }
}

fn pack(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut before = 0;
    let recorded = histogram.iter_recorded();
    recorded
        .map(|step| {
            let value = step.value_iterated_to();
            let distance = value - before;
            before = value;
            (distance, step.count_since_last_iteration())
        })
        .collect()
}

fn unpack(packed: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = empty_latency();
    let mut value: u64 = 0;
    for (distance, count) in packed {
        value = value.saturating_add(*distance);
        // Cannot fail: it resizes itself, and the value is bounded.
        let _ = histogram.record_n(value.min(LATENCY_MICROS_MAX), *count);
    }
    histogram
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
