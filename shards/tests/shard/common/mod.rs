//! One real shard over a simulated kernel, serving an echo whose every word a test can foretell.

pub mod echo;
pub mod wire;

use std::rc::Rc;

use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{Faults, SimClient, SimIo, SimNet};
use erlmcp_shards::mail::{ForeignPost, Mailroom};
use erlmcp_shards::message::Mail;
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};

pub use echo::{Echo, Seen};

/// Index of the HTTP listener.
pub const HTTP: u8 = 0;
/// Index of the listener for lines.
pub const LINES: u8 = 1;

pub struct World {
    pub net: SimNet,
    pub shard: Shard<SimIo, Echo>,
    pub seen: Rc<Seen>,
    pub post: ForeignPost<Mail>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with(seed, faults, Limits::default(), 64)
    }

    pub fn with(seed: u64, faults: Faults, limits: Limits, capacity: u32) -> Self {
        let net = SimNet::new(seed, faults);
        let mut room = Mailroom::new(1, net.foreign_bell());
        let post = room.foreign(0).expect("one shard");
        let mail = room.take(0).expect("taken once");
        let seen = Rc::new(Seen::default());
        let config = ShardConfig {
            index: 0,
            core: None,
            limits,
            listeners: vec![ListenerKind::Http, ListenerKind::Lines],
            mesh: None,
        };
        let shard = Shard::new(config, net.shard(2, capacity), Echo::new(seen.clone()), mail);
        Self { net, shard, seen, post }
    }

    pub fn http(&self) -> SimClient {
        self.net.connect(0, HTTP)
    }

    pub fn lines(&self) -> SimClient {
        self.net.connect(0, LINES)
    }

    /// Turns until nothing is likely to move any more; 1 ms passes in each.
    pub fn settle(&mut self) {
        self.turns(if self.is_perfect() { 12 } else { 300 });
    }

    pub fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            if self.shard.is_over() {
                return;
            }
            self.net.advance(1);
            self.shard.turn();
        }
    }

    /// Lets time pass in steps, with a few turns after each.
    pub fn pass(&mut self, ms: u64) {
        let mut left = ms;
        while left != 0 {
            let step = left.min(50);
            self.net.advance(step);
            left -= step;
            for _ in 0..3 {
                if !self.shard.is_over() {
                    self.shard.turn();
                }
            }
        }
    }

    /// Turns until `done`, or panics with the seed.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..5_000 {
            if done(self) {
                return;
            }
            self.turns(1);
        }
        panic!("seed {}: {what} never happened", self.net.seed());
    }

    pub fn errors(&mut self, reason: &str) -> u64 {
        self.shard.snapshot().counters.errors.get(reason).copied().unwrap_or(0)
    }

    pub fn active(&mut self) -> [u64; 4] {
        self.shard.snapshot().counters.connections_active
    }

    pub fn ring(&mut self, name: &str) -> u64 {
        let ring = self.shard.snapshot().ring;
        ring.iter().find(|(given, _)| *given == name).map_or(0, |(_, value)| *value)
    }

    /// Nothing is left of anybody: no connection, no buffer, no exchange or pipe that was not ended.
    #[track_caller]
    pub fn assert_clean(&mut self) {
        let seed = self.net.seed();
        let summary = self.shard.summary();
        assert_eq!(summary.cut, 0, "seed {seed}: connections are left");
        assert_eq!(self.ring("buffers_lent"), 0, "seed {seed}: a buffer leaked");
        assert_eq!(self.ring("kept_bytes"), 0, "seed {seed}: kept input is miscounted");
        let snapshot = self.shard.snapshot();
        assert_eq!(snapshot.counters.connections_active, [0; 4], "seed {seed}");
        assert_eq!(self.seen.open_pipes.borrow().len(), 0, "seed {seed}: a pipe was not ended");
        assert_eq!(self.seen.owed.get(), 0, "seed {seed}: an exchange was not ended");
    }

    fn is_perfect(&self) -> bool {
        self.net.tally() == Default::default()
    }
}
