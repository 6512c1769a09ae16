//! Snapshots put together: sums, merged histograms and rates.

use std::time::{Duration, Instant};

use erlmcp_shards::stats::{Counters, ShardSnapshot, Transport};
use hdrhistogram::Histogram;

/// What rates are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// Received.
    pub inward: u64,
    /// Sent.
    pub outward: u64,
}

impl Messages {
    fn of(counters: &Counters) -> Self {
        Self { inward: counters.messages_in, outward: counters.messages_out }
    }
}

/// Messages per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Received.
    pub inward: f64,
    /// Sent.
    pub outward: f64,
}

/// Turns counts into rates: feed it a sample a second.
#[derive(Debug, Default)]
pub struct Rates {
    last: Option<(Instant, Vec<(u16, Messages)>)>,
    now: Vec<(u16, Rate)>,
}

impl Rates {
    /// Takes in what was counted until `at`.
    pub fn handle_sample(&mut self, at: Instant, shards: &[ShardSnapshot]) {
        let counts: Vec<(u16, Messages)> =
            shards.iter().map(|shard| (shard.shard, Messages::of(&shard.counters))).collect();
        if let Some((before, old)) = &self.last {
            let seconds = at.saturating_duration_since(*before).max(SHORTEST).as_secs_f64();
            self.now = counts
                .iter()
                .filter_map(|(shard, new)| {
                    let (_, old) = old.iter().find(|(other, _)| other == shard)?;
                    let rate = Rate {
                        inward: new.inward.saturating_sub(old.inward) as f64 / seconds,
                        outward: new.outward.saturating_sub(old.outward) as f64 / seconds,
                    };
                    Some((*shard, rate))
                })
                .collect();
        }
        self.last = Some((at, counts));
    }

    /// Of one shard; 0 before its second sample.
    pub fn shard(&self, shard: u16) -> Rate {
        self.now
            .iter()
            .find(|(other, _)| *other == shard)
            .map_or(Rate::default(), |(_, rate)| *rate)
    }
}

/// Two samples closer than this would make absurd rates of single messages.
const SHORTEST: Duration = Duration::from_millis(100);

/// All of a shard's requests in one histogram, microseconds.
pub fn merge_latency<'h>(parts: impl Iterator<Item = &'h Histogram<u64>>) -> Histogram<u64> {
    let mut merged: Option<Histogram<u64>> = None;
    for part in parts {
        match &mut merged {
            None => merged = Some(widened(part)),
            // Cannot fail: the sum resizes itself.
            Some(sum) => drop(sum.add(part)),
        }
    }
    merged.unwrap_or_else(empty_latency)
}

/// A copy that grows with whatever is added to it.
fn widened(part: &Histogram<u64>) -> Histogram<u64> {
    let mut copy = part.clone();
    copy.auto(true);
    copy
}

/// No request yet; grows with whatever is recorded.
pub fn empty_latency() -> Histogram<u64> {
    // Two digits are within the documented range, so this cannot fail.
    Histogram::new(2).unwrap_or_else(|_| unreachable!("2 significant digits are allowed"))
}

/// Open connections of one transport.
pub fn connections(counters: &Counters, transport: Transport) -> u64 {
    counters.connections_active[transport as usize]
}
