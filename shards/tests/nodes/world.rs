//! Several nodes with their engines in one simulated world: everything real but the kernel and the clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_catalog::runner::LocalFuture;
use erlmcp_catalog::{Call, Catalog, Change, Handle, Resource, Tool, text};
use erlmcp_cluster::Spot;
use erlmcp_cluster::link::Identity;
use erlmcp_cluster::secret::Secrets;
use erlmcp_protocol::http::Access;
use erlmcp_protocol::mcp::LogLevel;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::{ClusterLimits, Limits};
use erlmcp_shards::engine::{Engine, EngineConfig, Held, Seat};
use erlmcp_shards::io::sim::{Faults, SimClient, SimIo, SimNet};
use erlmcp_shards::mail::{ForeignPost, Mailroom};
use erlmcp_shards::mesh::{MeshConfig, MeshSeat};
use erlmcp_shards::message::Mail;
use erlmcp_shards::serve::seated;
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};
use erlmcp_shards::stats::ShardSnapshot;
use serde_json::{Value, json};

use super::jobs::Jobs;

/// Shards of a node.
pub const SHARDS: u16 = 2;
/// What clients may subscribe to.
pub const URI: &str = "dock://1";

const SECRET: &str = "a secret that all of them share";
/// The first shards' port.
const PORT: u16 = 7_000;
/// The listener for clients.
const HTTP: u8 = 0;
/// The listener for links.
const MESH: u8 = 1;

pub struct Node {
    pub number: u16,
    pub posts: Vec<ForeignPost<Mail>>,
    /// Those that left are gone.
    pub shards: Vec<Option<Shard<SimIo, Engine>>>,
    pub is_stopped: bool,
    jobs: Arc<Jobs>,
    clock: Arc<AtomicU64>,
    futures: Vec<LocalFuture>,
}

pub struct World {
    pub net: SimNet,
    pub nodes: Vec<Node>,
    pub dice: Dice,
    pub cluster: ClusterLimits,
    runs: u32,
    /// How often, in percent, a shard is late by a turn.
    late: usize,
}

impl World {
    /// So many nodes that know of the first two.
    pub fn formed(seed: u64, faults: Faults, nodes: u16, cluster: ClusterLimits) -> Self {
        let late = if faults == Faults::none() { 0 } else { 25 };
        let (net, dice) = (SimNet::new(seed, faults), Dice(seed ^ 0x5EED));
        let mut world = Self { net, nodes: Vec::new(), dice, cluster, runs: 0, late };
        (1..=nodes).for_each(|number| world.boot(number));
        world.until_formed();
        world
    }

    /// Starts a node, or starts it again.
    pub fn boot(&mut self, number: u16) {
        self.runs += 1;
        let epoch = 100 * u32::from(number) + self.runs;
        let net = self.net.node(number);
        let mut room = Mailroom::new(SHARDS, net.foreign_bell());
        let foreign = |shard| room.foreign(shard).expect("there is such a shard");
        let posts: Vec<_> = (0..SHARDS).map(foreign).collect();
        let clock = Arc::new(AtomicU64::new(self.net.now()));
        let jobs = Arc::new(Jobs::new(clock.clone()));
        let limits = Limits::default();
        let engine = Arc::new(EngineConfig {
            limits: limits.clone(),
            access: Arc::new(Access::new(&[], &[]).expect("empty lists are valid")),
            keys: Arc::new(Keyring::new(SECRET.as_bytes())),
            epoch,
            lookout: None,
            cluster: Some(self.cluster.clone()),
        });
        let mesh = Arc::new(MeshConfig {
            listen: address(number, 0),
            seeds: vec![address(1, 0), address(2, 0)],
            secrets: Arc::new(Secrets::parse(SECRET.as_bytes()).expect("long enough")),
            epoch,
            heartbeat_ms: 200,
            node_timeout_ms: 1_500,
            queue_bytes_max: 1024 * 1024,
        });
        let addresses: Vec<_> = (0..SHARDS).map(|shard| address(number, shard)).collect();
        let handle = catalog();
        let shards = (0..SHARDS).map(|shard| {
            let me = Identity { node: number, epoch, shard, addresses: addresses.clone() };
            let facts = ShardConfig {
                index: shard,
                core: None,
                limits: limits.clone(),
                listeners: vec![ListenerKind::Http, ListenerKind::Mesh],
                mesh: Some(MeshSeat { me: Arc::new(me), config: mesh.clone() }),
            };
            let io = net.shard(2, 400);
            net.listen(shard, MESH, address(number, shard));
            let seat = Seat { at: Spot { node: number, shard }, shards: SHARDS };
            let own = posts[usize::from(shard)].clone();
            let engine = seated(seat, own, engine.clone(), handle.clone(), jobs.clone());
            let mail = room.take(shard).expect("taken once");
            Some(Shard::new(facts, io, engine, mail))
        });
        let shards = shards.collect();
        self.nodes.retain(|node| node.number != number);
        let (is_stopped, futures) = (false, Vec::new());
        self.nodes.push(Node { number, posts, shards, is_stopped, jobs, clock, futures });
        self.nodes.sort_by_key(|node| node.number);
    }

    /// Kills a node's process.
    pub fn kill(&mut self, number: u16) {
        self.nodes.retain(|node| node.number != number);
        self.net.node(number).crash();
    }

    pub fn node(&mut self, number: u16) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.number == number).expect("it runs")
    }

    pub fn numbers(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.number).collect()
    }

    /// A connection to a shard.
    pub fn connect(&self, number: u16, shard: u16) -> SimClient {
        self.net.node(number).connect(shard, HTTP)
    }

    /// So many milliseconds pass; then each shard turns once, unless it is late.
    pub fn step(&mut self, ms: u64) {
        self.net.advance(ms);
        let now = self.net.now();
        for node in self.nodes.iter_mut().filter(|node| !node.is_stopped) {
            node.clock.store(now, Ordering::Relaxed);
            for slot in &mut node.shards {
                if self.dice.below(100) < self.late {
                    continue;
                }
                if let Some(shard) = slot {
                    shard.turn();
                    if shard.is_over() {
                        *slot = None;
                    }
                }
            }
            node.jobs.run(&mut node.futures);
        }
    }

    pub fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step(1));
    }

    /// Runs until `done`, for so many milliseconds at most; returns how long it took.
    #[track_caller]
    pub fn until(&mut self, ms: u64, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> u64 {
        let start = self.net.now();
        while !done(self) {
            let passed = self.net.now() - start;
            assert!(passed < ms, "seed {}: {what} did not happen", self.net.seed());
            self.step(1);
        }
        self.net.now() - start
    }

    pub fn snapshots(&mut self) -> Vec<ShardSnapshot> {
        let shards = self.nodes.iter_mut().flat_map(|node| node.shards.iter_mut().flatten());
        shards.map(Shard::snapshot).collect()
    }

    /// All links between all nodes stand.
    pub fn is_formed(&mut self) -> bool {
        let others = self.nodes.len() as u64 - 1;
        let expect = others * u64::from(SHARDS);
        self.nodes.iter_mut().all(|node| {
            let mut links_in = 0;
            let is_linked = node.shards.iter_mut().flatten().all(|shard| {
                let mesh = shard.snapshot().mesh.expect("it has a mesh");
                links_in += mesh.links_in;
                mesh.links_out == others
            });
            is_linked && links_in == expect
        })
    }

    #[track_caller]
    pub fn until_formed(&mut self) {
        self.until(20_000, "formation", |world| world.is_formed());
    }

    /// All nodes see each other, and every session has its copies.
    #[track_caller]
    pub fn until_at_rest(&mut self) {
        self.until_formed();
        self.until(15_000, "rest", |world| {
            let all = world.snapshots();
            all.iter().all(|one| one.counters.sync_lag_ms == 0 && one.counters.sync_waiting == 0)
        });
        self.run(20);
    }

    /// What all engines hold, those of stopped nodes among them.
    pub fn held(&self) -> Vec<Held> {
        let shards = self.nodes.iter().flat_map(|node| node.shards.iter().flatten());
        shards.map(|shard| shard.service().held()).collect()
    }

    /// How often this reason was counted, by all who run.
    pub fn errors(&mut self, reason: &str) -> u64 {
        let count = |one: &ShardSnapshot| one.counters.errors.get(reason).copied().unwrap_or(0);
        self.snapshots().iter().map(count).sum()
    }

    /// Tells every shard of a node to drain.
    pub fn drain(&mut self, number: u16, deadline_ms: u64) {
        for post in &self.node(number).posts {
            assert!(post.send(Mail::Drain { deadline_ms }).is_ok());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of seed {0}; again with SEED={0}", self.net.seed());
        }
    }
}

fn address(number: u16, shard: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8], PORT + shard))
}

/// What each node serves. A change on one is no change of another's catalog.
fn catalog() -> Handle {
    let tool = |name: &str| Tool::new(name).input_schema(json!({ "type": "object" }));
    let catalog = Catalog::builder()
        .tool(tool("publish").handler(|_: Value, call: &mut Call| {
            call.publish(Change::Resource(URI.to_owned()));
            text("published")
        }))
        .tool(tool("log_all").handler(|_: Value, call: &mut Call| {
            for level in LogLevel::ALL {
                call.log(level, None, level.as_str().into());
            }
            text("logged")
        }))
        .resource(Resource::text(URI, "dock", "empty"));
    catalog.build().expect("it can be served").into_handle()
}

/// So many seeds; `SEED=n` runs that one alone, `SEEDS=n` so many.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, given) => 0..given.unwrap_or(count),
    }
}

/// A test's own dice: the world's belong to the world.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
