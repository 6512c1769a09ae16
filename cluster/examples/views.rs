//! What a change of the cluster costs the turns of a shard that owns 100,000 sessions, and how long it takes in all.
//!
//! `cargo run --release -p erlmcp-cluster --example views`. Printed for each event: the longest turn, how many turns of a
//! millisecond it takes until every session was visited, and what they cost together. A turn visits what it may, and says as much as the
//! engine does; acknowledgements come in the next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_cluster::letter::route::Token;
use erlmcp_cluster::replicas::{Replicas, Say};
use erlmcp_cluster::view::{Member, State, View};
use erlmcp_cluster::{SessionName, Spot};

const SESSIONS: u64 = 100_000;

/// Times each event is measured; the best round is shown, the one in which nobody else used the core.
const ROUNDS: usize = 5;

/// Letters an engine says in a turn.
const SAYS_PER_TURN: usize = 256;

fn main() {
    println!("nodes  event         longest turn   turns   together");
    for nodes in [4, 16, 64] {
        let mut shard = Shard::new(nodes);
        let steps: [(&str, Event); 5] = [
            ("link lost", |shard| shard.replicas.handle_lost(2)),
            ("node dies", |shard| shard.replicas.handle_view(&view(shard.nodes, Some(2)))),
            ("node joins", |shard| shard.replicas.handle_view(&view(shard.nodes, None))),
            ("link up", |shard| shard.replicas.handle_up(2)),
            ("look", |shard| shard.replicas.handle_timeout()),
        ];
        let mut measured: Vec<Vec<(Duration, usize, Duration)>> = vec![Vec::new(); steps.len()];
        for _ in 0..ROUNDS {
            for (results, (_, event)) in measured.iter_mut().zip(steps) {
                results.push(shard.measure(event));
                shard.settle();
            }
        }
        for (results, (name, _)) in measured.iter_mut().zip(steps) {
            results.sort_unstable();
            let (longest, turns, together) = results[0];
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "{nodes:5}  {name:12} {:8.2} ms {turns:9} {:7.0} ms",
                ms(longest),
                ms(together)
            );
        }
    }
}

type Event = fn(&mut Shard);

struct Shard {
    nodes: u16,
    replicas: Replicas,
    now: u64,
}

impl Shard {
    fn new(nodes: u16) -> Self {
        let mut shard = Self { nodes, replicas: Replicas::new(1, view(nodes, None)), now: 1 };
        (2..=nodes).for_each(|node| shard.replicas.handle_up(node));
        let at = Spot { node: 1, shard: 0 };
        for number in 0..SESSIONS {
            let name = name(number);
            shard.replicas.insert(Token { at, epoch: 1, slot: 0, generation: 0, name }, 0);
        }
        shard.settle();
        shard
    }

    /// The longest turn, how many there were, and all of them together.
    fn measure(&mut self, event: Event) -> (Duration, usize, Duration) {
        let (mut longest, mut turns, mut together) = (Duration::ZERO, 0, Duration::ZERO);
        let mut is_first = true;
        loop {
            self.now += 1;
            let begun = Instant::now();
            self.replicas.handle_time(self.now);
            if std::mem::take(&mut is_first) {
                event(self);
            }
            let goes_on = self.replicas.visit();
            let said: Vec<Say> =
                std::iter::from_fn(|| self.replicas.poll()).take(SAYS_PER_TURN).collect();
            let took = begun.elapsed();
            (longest, turns, together) = (longest.max(took), turns + 1, together + took);
            self.keep(&said);
            if !goes_on {
                return (longest, turns, together);
            }
        }
    }

    /// Everything is visited, said and kept.
    fn settle(&mut self) {
        loop {
            self.now += 1;
            self.replicas.handle_time(self.now);
            let goes_on = self.replicas.visit();
            let said: Vec<Say> = std::iter::from_fn(|| self.replicas.poll()).collect();
            self.keep(&said);
            if !goes_on && said.is_empty() {
                return;
            }
        }
    }

    fn keep(&mut self, said: &[Say]) {
        for say in said {
            if let Say::Copy { to, name, rev, .. } = say {
                self.replicas.handle_kept(to.node, name, *rev);
            }
        }
    }
}

fn view(nodes: u16, dead: Option<u16>) -> Arc<View> {
    let member = |node| Member {
        node,
        epoch: 1,
        incarnation: 0,
        state: if Some(node) == dead { State::Dead } else { State::Alive },
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], node)); 2],
    };
    Arc::new(View { me: 1, version: 1, members: (1..=nodes).map(member).collect() })
}

fn name(number: u64) -> SessionName {
    let mut name = [0; 16];
    name[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    name[8..].copy_from_slice(&number.to_be_bytes());
    name
}
