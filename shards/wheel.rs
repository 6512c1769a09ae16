//! One timer wheel per shard: seven levels of 64 buckets, 8 ms the finest. Lives: in the shard. View: shard.
//!
//! Deadlines live with their owner (a connection, a session, a call). An entry here is only a reminder to
//! look; it cannot be cancelled, and the owner decides when it fires whether it still means anything.
//!
//! Invariants: nothing fires before its time; entries of different ticks fire in order; a bucket's entries
//! are a list threaded through one slab, so a steady state allocates nothing.
//! Refused: a binary heap (O(log n) and cold memory per insert), one timeout SQE per connection (a million
//! kernel timers), a `Vec` per bucket (each keeps the capacity of its worst moment).

use crate::io::Millis;

/// Granularity: an entry fires at most this long after its time, plus the turn it waits for.
pub const TICK_MS: Millis = 8;

/// Reminders of one shard, by time. Feed with [`Wheel::insert`]; each turn call [`Wheel::expire`], then sleep
/// no longer than [`Wheel::next_deadline`] says.
#[derive(Debug)]
pub struct Wheel<K: Copy> {
    levels: [Level; LEVELS],
    nodes: Vec<Node<K>>,
    free: u32,
    len: usize,
    /// Every tick before this one was dealt with.
    elapsed: u64,
    /// A bucket above level 0 that ran out of budget while being spread: it goes first.
    spreading: Option<(usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    occupied: u64,
    heads: [u32; BUCKETS],
}

#[derive(Debug, Clone, Copy)]
struct Node<K> {
    at: Millis,
    key: K,
    next: u32,
}

const LEVEL_BITS: usize = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 7;
/// 2^42 ticks of 8 ms: more than a thousand years. Later means never and is clamped.
const TICK_MAX: u64 = (1 << (LEVEL_BITS * LEVELS)) - 1;
const NONE: u32 = u32::MAX;

impl<K: Copy> Wheel<K> {
    /// A wheel whose clock stands at `now`.
    pub fn new(now: Millis) -> Self {
        Self {
            levels: [Level { occupied: 0, heads: [NONE; BUCKETS] }; LEVELS],
            nodes: Vec::new(),
            free: NONE,
            len: 0,
            elapsed: (now / TICK_MS).min(TICK_MAX),
            spreading: None,
        }
    }

    /// How many reminders are waiting.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reminds of `key` at `at` or soon after; a time already past fires at the next [`Wheel::expire`].
    pub fn insert(&mut self, at: Millis, key: K) {
        let node = Node { at, key, next: NONE };
        let index = if self.free == NONE {
            assert!(self.nodes.len() < NONE as usize, "the wheel holds 2^32 - 1 reminders");
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.len += 1;
        self.link(index);
    }

    /// Hands every reminder due at `now` to `fire` with the time it was set for, oldest tick first. `budget`
    /// bounds the entries touched (fired or moved to a finer level); what is left over goes next time.
    /// Returns how many were fired.
    pub fn expire(
        &mut self,
        now: Millis,
        budget: usize,
        fire: &mut impl FnMut(Millis, K),
    ) -> usize {
        let now_tick = (now / TICK_MS).min(TICK_MAX);
        let mut budget = budget;
        let mut fired = 0;
        while let Some((level, bucket, start)) = self.earliest() {
            if now_tick < start {
                break;
            }
            self.elapsed = self.elapsed.max(start);
            while let Some(index) = self.pop(level, bucket) {
                if budget == 0 {
                    // Put back: a bucket of a coarse level must be finished before a finer one is looked at.
                    self.push(level, bucket, index);
                    self.spreading = (0 < level).then_some((level, bucket));
                    return fired;
                }
                budget -= 1;
                if level == 0 {
                    let Node { at, key, .. } = self.nodes[index as usize];
                    self.nodes[index as usize].next = self.free;
                    self.free = index;
                    self.len -= 1;
                    fired += 1;
                    fire(at, key);
                } else {
                    self.link(index);
                }
            }
            self.spreading = None;
        }
        // Everything up to and including now is done; a later insert for this tick fires at the next call.
        self.elapsed = self.elapsed.max(now_tick);
        fired
    }

    /// When [`Wheel::expire`] next has something to do: never later than the earliest reminder's tick, and
    /// earlier when a coarse bucket must first be spread. `None` when nothing waits.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.earliest().map(|(_, _, start)| start * TICK_MS)
    }

    /// The bucket whose turn is next and the tick it begins at. Finer levels always come first: whatever sits
    /// in a coarse one shares no more than its high digits with the present.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        if let Some((level, bucket)) = self.spreading {
            return Some((level, bucket, self.elapsed));
        }
        self.levels.iter().enumerate().find(|(_, level)| level.occupied != 0).map(
            |(depth, level)| {
                let shift = depth * LEVEL_BITS;
                let bucket = level.occupied.trailing_zeros() as usize;
                let block = (self.elapsed >> shift) & !(BUCKETS as u64 - 1);
                (depth, bucket, (block | bucket as u64) << shift)
            },
        )
    }

    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].at.div_ceil(TICK_MS);
        let tick = due.clamp(self.elapsed, TICK_MAX);
        // The highest digit in which the tick differs from the present decides the level.
        let differs = (tick ^ self.elapsed) | 1;
        let level = (63 - differs.leading_zeros() as usize) / LEVEL_BITS;
        let bucket = (tick >> (level * LEVEL_BITS)) as usize & (BUCKETS - 1);
        self.push(level, bucket, index);
    }

    fn push(&mut self, level: usize, bucket: usize, index: u32) {
        let Level { occupied, heads } = &mut self.levels[level];
        self.nodes[index as usize].next = heads[bucket];
        heads[bucket] = index;
        *occupied |= 1 << bucket;
    }

    fn pop(&mut self, level: usize, bucket: usize) -> Option<u32> {
        let Level { occupied, heads } = &mut self.levels[level];
        let index = heads[bucket];
        if index == NONE {
            *occupied &= !(1 << bucket);
            return None;
        }
        heads[bucket] = self.nodes[index as usize].next;
        if heads[bucket] == NONE {
            *occupied &= !(1 << bucket);
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests;
