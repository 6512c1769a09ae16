//! One failure at a time: what was promised is kept.

use erlmcp_shards::config::{ClusterLimits, Sync};
use erlmcp_shards::engine::Held;
use erlmcp_shards::io::sim::{ChunkLen, Faults};
use serde_json::json;

use super::client::{Asked, Outcome, Session, everywhere, levels_from};
use super::world::{World, seeds};

const LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "emergency"];
/// A client that is told to come again does so for so long, milliseconds.
const PATIENCE_MS: u64 = 4_000;

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// `kill -9`; it is started again after so many milliseconds.
    Killed(u64),
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stopped(u64),
    /// Nobody hears it and it hears nobody, for so many milliseconds.
    CutOff(u64),
    /// Its links to one other break.
    Reset,
    /// It is drained, leaves, and is started again.
    Drained,
}

struct Trial {
    world: World,
    sessions: Vec<Session>,
    over: Vec<Session>,
    nodes: u16,
}

impl Trial {
    fn new(seed: u64, faults: Faults, nodes: u16) -> Self {
        let replicas = 1 + usize::from(seed.is_multiple_of(3));
        // At rest both have said everything, so that both must keep everything.
        let sync = if seed % 4 == 1 { Sync::Lazy } else { Sync::Eager };
        // So few sessions are visited in one turn, or over many.
        let visit_units_per_ms = [usize::MAX, 1, 10][seed as usize % 7 % 3];
        let cluster =
            ClusterLimits { sync, replicas, visit_units_per_ms, ..ClusterLimits::default() };
        let world = World::formed(seed, faults, nodes, cluster);
        Self { world, sessions: Vec::new(), over: Vec::new(), nodes }
    }

    fn anywhere(&mut self) -> (u16, u16) {
        let places = everywhere(&self.world);
        self.world.dice.pick(&places)
    }

    /// A shard of a node that is not this one.
    fn elsewhere(&mut self, not: u16) -> (u16, u16) {
        let places: Vec<_> =
            everywhere(&self.world).into_iter().filter(|(node, _)| *node != not).collect();
        self.world.dice.pick(&places)
    }

    /// Clients come, change something, and go.
    #[track_caller]
    fn live(&mut self) {
        for _ in 0..4 {
            let at = self.anywhere();
            self.sessions.push(Session::open(&mut self.world, at));
        }
        for _ in 0..3 {
            let pick = self.world.dice.below(self.sessions.len());
            let (level, at) = (self.world.dice.pick(&LEVELS), self.anywhere());
            let params = json!({ "level": level });
            let outcome = self.sessions[pick].call(&mut self.world, at, "logging/setLevel", params);
            assert_eq!(outcome.status(), 200, "{outcome:?}");
            self.sessions[pick].level = level;
        }
        let pick = self.world.dice.below(self.sessions.len());
        let (session, at) = (self.sessions.swap_remove(pick), self.anywhere());
        assert_eq!(session.delete(&mut self.world, at).status(), 204);
        self.over.push(session);
    }

    /// Asks for some sessions while something is wrong with a node.
    #[track_caller]
    fn ask_meanwhile(&mut self, not: u16, what: Failure) {
        for _ in 0..3 {
            let pick = self.world.dice.below(self.sessions.len());
            let (session, at) = (self.sessions[pick].clone(), self.elsewhere(not));
            let outcome = session.ping(&mut self.world, at);
            assert!(
                matches!(outcome.status(), 200 | 503),
                "{what:?}, asked at {at:?}: {outcome:?}"
            );
            if outcome.status() == 503 {
                assert!(outcome.body().contains("\"retryable\":true"), "{outcome:?}");
            }
        }
    }

    #[track_caller]
    fn fail(&mut self, number: u16, what: Failure) {
        match what {
            Failure::Killed(ms) => {
                self.world.kill(number);
                self.ask_meanwhile(number, what);
                self.world.run(ms);
                self.world.boot(number);
            }
            Failure::Stopped(ms) => {
                self.world.node(number).is_stopped = true;
                self.world.run(ms);
                self.ask_meanwhile(number, what);
                self.world.node(number).is_stopped = false;
            }
            Failure::CutOff(ms) => {
                let others: Vec<u16> = (1..=self.nodes).filter(|other| *other != number).collect();
                self.world.net.partition(&[number], &others);
                self.ask_meanwhile(number, what);
                self.world.run(ms);
                self.ask_meanwhile(number, what);
                // Whoever is alone may know nothing of a session, and must not know wrong.
                let session = self.sessions[0].clone();
                session.ping(&mut self.world, (number, 0));
                self.world.net.heal();
            }
            Failure::Reset => {
                let (other, _) = self.elsewhere(number);
                self.world.net.reset_between(number, other);
                self.ask_meanwhile(0, what);
            }
            Failure::Drained => {
                self.world.drain(number, 10_000);
                self.ask_meanwhile(number, what);
                self.world.until(12_000, "leaving", |world| {
                    world.node(number).shards.iter().all(Option::is_none)
                });
                assert_eq!(self.world.errors("handover_unfinished"), 0);
                self.world.kill(number);
                self.ask_meanwhile(number, what);
                self.world.boot(number);
            }
        }
    }

    /// Everything is well again: each session is served everywhere, has one owner, and what was promised of it.
    #[track_caller]
    fn check(&mut self, what: &str) {
        self.world.until_at_rest();
        for session in self.sessions.clone() {
            for at in everywhere(&self.world) {
                let outcome = self.patiently(&session, at);
                assert_eq!(outcome.status(), 200, "{what}, asked at {at:?}: {outcome:?}");
            }
            let at = self.anywhere();
            let logs = session.logs(&mut self.world, at);
            assert_eq!(logs, levels_from(session.level), "{what}: {session:?}");
        }
        for session in self.over.clone() {
            let at = self.anywhere();
            assert_eq!(self.patiently(&session, at).status(), 404, "{what}, asked at {at:?}");
        }
        let owned: usize = self.world.held().iter().map(|held| held.sessions).sum();
        assert_eq!(owned, self.sessions.len(), "{what}: as many owners as sessions");
        let copies: u64 = self.world.snapshots().iter().map(|one| one.counters.copies_active).sum();
        let each = self.world.cluster.replicas.min(usize::from(self.nodes) - 1);
        assert_eq!(copies as usize, self.sessions.len() * each, "{what}: copies");
    }

    /// A client that is told to come again comes again.
    #[track_caller]
    fn patiently(&mut self, session: &Session, at: (u16, u16)) -> Outcome {
        let until = self.world.net.now() + PATIENCE_MS;
        loop {
            let outcome = session.ping(&mut self.world, at);
            if outcome.status() != 503 || until < self.world.net.now() {
                return outcome;
            }
            self.world.run(200);
        }
    }

    /// Updates published anywhere reach a stream opened anywhere, each once.
    #[track_caller]
    fn check_news(&mut self) {
        const NEWS: &str = "notifications/resources/updated";
        let mut streams: Vec<Asked> = Vec::new();
        for session in self.sessions.clone().iter().take(3) {
            let at = self.anywhere();
            assert_eq!(session.subscribe(&mut self.world, at).status(), 200);
            let at = self.anywhere();
            streams.push(session.listen(&self.world, at));
        }
        // What was missed while nobody listened comes first.
        self.world.until(5_000, "open streams", |_| {
            streams.iter_mut().all(|stream| stream.heard().contains(": open"))
        });
        self.world.run(100);
        let before: Vec<usize> =
            streams.iter_mut().map(|stream| stream.heard().matches(NEWS).count()).collect();
        for number in self.world.numbers() {
            let publish = json!({ "name": "publish", "arguments": {} });
            let outcome =
                self.sessions[0].call(&mut self.world, (number, 1), "tools/call", publish);
            assert_eq!(outcome.status(), 200);
        }
        self.world.run(100);
        for (stream, before) in streams.iter_mut().zip(before) {
            assert!(stream.is_open());
            let heard = stream.heard().matches(NEWS).count() - before;
            assert_eq!(heard, self.world.nodes.len(), "seed {}", self.world.net.seed());
            stream.close();
        }
        self.world.run(50);
    }

    /// All clients go: nothing is left of them on any node. Returns a tally of what happened in this world.
    #[track_caller]
    fn finish(mut self) -> String {
        for session in std::mem::take(&mut self.sessions) {
            let at = self.anywhere();
            assert_eq!(session.delete(&mut self.world, at).status(), 204);
        }
        // Whatever owners that are gone said is forgotten after a minute.
        for _ in 0..1_500 {
            self.world.step(50);
        }
        self.world.until_at_rest();
        for (shard, held) in self.world.held().into_iter().enumerate() {
            assert_eq!(held, Held::default(), "shard {shard}");
        }
        for snapshot in self.world.snapshots() {
            let (shard, counters) = (snapshot.shard, snapshot.counters);
            assert_eq!(counters.copies_active, 0, "shard {shard}: copies");
            assert_eq!(counters.copies_bytes, 0, "shard {shard}: bytes of copies");
            assert_eq!(counters.directory_entries, 0, "shard {shard}: directory");
            assert_eq!(counters.answers_withheld, 0, "shard {shard}: answers");
        }
        let snapshots = self.world.snapshots();
        let counters: Vec<_> = snapshots
            .iter()
            .map(|one| (one.counters.bytes_out, &one.counters.errors, &one.ring, &one.mesh))
            .collect();
        format!("{:?} {counters:?}", self.world.net.tally())
    }
}

#[track_caller]
fn check(seed: u64, faults: Faults, pick: fn(&mut World) -> Failure) -> String {
    check_nodes(seed, faults, 3 + (seed % 3) as u16, pick)
}

#[track_caller]
fn check_nodes(seed: u64, faults: Faults, nodes: u16, pick: fn(&mut World) -> Failure) -> String {
    let mut trial = Trial::new(seed, faults, nodes);
    for round in 0..4 {
        trial.live();
        trial.check("while all is well");
        trial.check_news();
        let number = 1 + trial.world.dice.below(usize::from(trial.nodes)) as u16;
        let what = pick(&mut trial.world);
        trial.fail(number, what);
        trial.check(&format!("round {round}, node {number}, {what:?}"));
    }
    trial.check_news();
    trial.finish()
}

#[test]
fn sessions_outlive_killed_nodes() {
    for seed in seeds(8) {
        check(seed, Faults::none(), |world| {
            Failure::Killed([0, 5, 300, 4_000][world.dice.below(4)])
        });
    }
}

#[test]
fn sessions_outlive_stopped_nodes() {
    for seed in seeds(8) {
        check(seed, Faults::none(), |world| {
            Failure::Stopped([100, 1_000, 1_500, 1_700, 5_000][world.dice.below(5)])
        });
    }
}

#[test]
fn sessions_outlive_partitions_and_links_that_break() {
    for seed in seeds(8) {
        check(seed, Faults::none(), |world| match world.dice.below(3) {
            0 => Failure::Reset,
            _ => Failure::CutOff([50, 1_500, 1_700, 6_000][world.dice.below(4)]),
        });
    }
}

#[test]
fn sessions_are_handed_over_by_nodes_that_leave() {
    for seed in seeds(8) {
        check(seed, Faults::none(), |_| Failure::Drained);
    }
}

const ROUGH: Faults = Faults { chunk: ChunkLen::Random(3_000), ..Faults::rough() };

/// Any failure, of any length.
fn any(world: &mut World) -> Failure {
    match world.dice.below(5) {
        0 => Failure::Killed(world.dice.below(3_000) as u64),
        1 => Failure::Stopped(world.dice.below(5_000) as u64),
        2 => Failure::CutOff(world.dice.below(5_000) as u64),
        3 => Failure::Reset,
        _ => Failure::Drained,
    }
}

#[test]
fn sessions_outlive_whatever_happens_on_a_rough_network() {
    for seed in seeds(10) {
        check(seed, ROUGH, any);
    }
}

#[test]
fn sessions_of_many_nodes_outlive_one() {
    for seed in seeds(2) {
        check_nodes(seed, Faults::none(), 10, any);
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in seeds(2) {
        assert_eq!(check(seed, ROUGH, any), check(seed, ROUGH, any), "seed {seed}");
    }
}
