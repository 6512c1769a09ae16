//! Nodes with their meshes, memberships and engines in one simulated world: everything real but the kernel and
//! the clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use erlmcp_catalog::runner::LocalFuture;
use erlmcp_catalog::{Call, Change, Handle, Runner, Tool, everything, text};
use erlmcp_cluster::Spot;
use erlmcp_cluster::link::Identity;
use erlmcp_cluster::secret::Secrets;
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::{ClusterLimits, Limits, Sync};
use erlmcp_shards::engine::{Engine, EngineConfig, Held, Seat};
use erlmcp_shards::io::sim::{Faults, SimIo, SimNet};
use erlmcp_shards::mail::{ForeignPost, Mailroom};
use erlmcp_shards::mesh::{MeshConfig, MeshSeat};
use erlmcp_shards::message::{Announcement, Mail};
use erlmcp_shards::serve::{announce, seated};
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};
use erlmcp_shards::stats::ShardSnapshot;
use serde_json::Value;

use super::jobs::Jobs;

/// Index of the listener for clients.
pub const HTTP: u8 = 0;
/// Index of the listener for links.
const MESH: u8 = 1;
/// The first shards' port.
const PORT: u16 = 7_000;

/// A test's own dice: the world's belong to the world.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below.max(1) as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub struct Node {
    pub epoch: u32,
    pub is_stopped: bool,
    shards: Vec<Shard<SimIo, Engine>>,
}

pub struct World {
    pub net: SimNet,
    /// Those whose process runs.
    pub nodes: BTreeMap<u16, Node>,
    pub dice: Dice,
    pub shards: u16,
    epoch: u32,
    jobs: Arc<Jobs>,
    clock: Arc<AtomicU64>,
    futures: Vec<LocalFuture>,
    /// How often, in percent, a shard is late by a turn.
    late: usize,
}

impl World {
    /// So many nodes of so many shards that know each other.
    pub fn formed(seed: u64, faults: Faults, nodes: u16, shards: u16) -> Self {
        let net = SimNet::new(seed, faults);
        let clock = Arc::new(AtomicU64::new(net.now()));
        let mut world = Self {
            net,
            nodes: BTreeMap::new(),
            dice: Dice(seed ^ 0x5EED),
            shards,
            epoch: 0,
            jobs: Arc::new(Jobs::new(clock.clone())),
            clock,
            futures: Vec::new(),
            late: if faults == Faults::none() { 0 } else { 25 },
        };
        (1..=nodes).for_each(|node| world.boot(node));
        world.until_formed();
        world
    }

    /// Starts a node, or starts it again.
    pub fn boot(&mut self, number: u16) {
        self.epoch += 1;
        let (epoch, shards) = (self.epoch, self.shards);
        let net = self.net.node(number);
        let mut room = Mailroom::new(shards, net.foreign_bell());
        let foreign = |shard| room.foreign(shard).expect("there is such a shard");
        let posts: Arc<[_]> = (0..shards).map(foreign).collect();
        let handle = serve_to(number, posts.clone(), self.jobs.clone());
        let limits = Limits::default();
        let mesh = Arc::new(MeshConfig {
            listen: address(number, 0),
            seeds: vec![address(1, 0), address(2, 0)],
            secrets: Arc::new(Secrets::parse(SECRET).expect("long enough")),
            epoch,
            heartbeat_ms: 200,
            node_timeout_ms: 1_500,
            queue_bytes_max: 1024 * 1024,
        });
        let config = Arc::new(EngineConfig {
            limits: limits.clone(),
            access: Arc::new(Access::new(&[], &[]).expect("empty lists are valid")),
            keys: Arc::new(Keyring::new(SECRET)),
            epoch,
            lookout: None,
            cluster: Some(ClusterLimits {
                sync: Sync::Eager,
                replicas: 1,
                ..ClusterLimits::default()
            }),
        });
        let addresses: Vec<_> = (0..shards).map(|shard| address(number, shard)).collect();
        let start = |shard: u16| {
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
            let seat = Seat { at: Spot { node: number, shard }, shards };
            let own = posts[usize::from(shard)].clone();
            let engine = seated(seat, own, config.clone(), handle.clone(), self.jobs.clone());
            Shard::new(facts, io, engine, room.take(shard).expect("taken once"))
        };
        let shards = (0..shards).map(start).collect();
        self.nodes.insert(number, Node { epoch, is_stopped: false, shards });
    }

    /// Kills a node's process.
    pub fn kill(&mut self, number: u16) {
        self.nodes.remove(&number);
        self.net.node(number).crash();
    }

    /// Some node that is not stopped, and one of its shards.
    pub fn somewhere(&self, dice: &mut Dice) -> (u16, u16) {
        let awake: Vec<u16> =
            self.nodes.iter().filter(|(_, node)| !node.is_stopped).map(|(at, _)| *at).collect();
        (awake[dice.below(awake.len())], dice.below(self.shards.into()) as u16)
    }

    /// Whether this run of the node still lives.
    pub fn runs(&self, number: u16, epoch: u32) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.epoch == epoch)
    }

    /// A millisecond passes; each shard turns once, unless it is late.
    pub fn step(&mut self) {
        self.net.advance(1);
        self.clock.store(self.net.now(), Ordering::Relaxed);
        for node in self.nodes.values_mut().filter(|node| !node.is_stopped) {
            for shard in &mut node.shards {
                if self.dice.below(100) < self.late {
                    continue;
                }
                shard.turn();
            }
        }
        self.jobs.run(&mut self.futures);
    }

    pub fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Every shard has its link to every other node, and no other.
    fn is_formed(&mut self) -> bool {
        let others = self.nodes.len() as u64 - 1;
        let links_in = others * u64::from(self.shards);
        self.nodes.values_mut().all(|node| {
            let stats = node.shards.iter_mut().map(|shard| shard.snapshot().mesh);
            let stats: Vec<_> = stats.map(|mesh| mesh.expect("it has a mesh")).collect();
            stats.iter().all(|mesh| mesh.links_out == others)
                && stats.iter().map(|mesh| mesh.links_in).sum::<u64>() == links_in
        })
    }

    #[track_caller]
    pub fn until_formed(&mut self) {
        let start = self.net.now();
        while !self.is_formed() {
            assert!(self.net.now() - start < 20_000, "the cluster never formed");
            self.run(10);
        }
    }

    pub fn snapshots(&mut self) -> Vec<ShardSnapshot> {
        self.nodes.values_mut().flat_map(|node| &mut node.shards).map(Shard::snapshot).collect()
    }

    pub fn held(&self) -> Vec<Held> {
        let shards = self.nodes.values().flat_map(|node| &node.shards);
        shards.map(|shard| shard.service().held()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of seed {0}; again with SEED={0}", self.net.seed());
        }
    }
}

const SECRET: &[u8] = b"a secret that all of them share";

fn address(node: u16, shard: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], PORT + shard))
}

/// Whom changes of a node's catalog are told, in the world of the moment.
type Audience = Arc<Mutex<Option<(Arc<[ForeignPost<Mail>]>, Arc<dyn Runner>)>>>;

thread_local! {
    /// Compiling a catalog's schemas takes longer than a seed, so that a thread's worlds share one per node.
    static SERVED: RefCell<BTreeMap<u16, (Handle, Audience)>> = const { RefCell::new(BTreeMap::new()) };
}

/// `everything`, and the tools below, with news for the shards of this node.
fn serve_to(node: u16, posts: Arc<[ForeignPost<Mail>]>, runner: Arc<dyn Runner>) -> Handle {
    SERVED.with_borrow_mut(|served| {
        let (handle, audience) = served.entry(node).or_insert_with(|| {
            let audience = Audience::default();
            let told = audience.clone();
            let handle = everything().expect("a built-in catalog can be served").into_handle();
            let tools = [echo(), publish()];
            let added =
                handle.update(|draft| tools.into_iter().for_each(|tool| draft.add_tool(tool)));
            added.expect("their names are free");
            handle.listen(Box::new(move |snapshot, changes| {
                let told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((posts, runner)) = &*told {
                    let changes = changes.into();
                    let news = Announcement { snapshot: Some(snapshot), changes };
                    announce(posts, &news, runner);
                }
            }));
            (handle, audience)
        });
        *audience.lock().unwrap_or_else(PoisonError::into_inner) = Some((posts, runner));
        handle.clone()
    })
}

fn word(args: &Value, name: &str) -> String {
    args[name].as_str().unwrap_or_default().to_owned()
}

/// Answers with `text`, at once.
fn echo() -> Tool {
    Tool::new("echo").handler(|args: Value, _: &mut Call| text(word(&args, "text")))
}

/// Says that `uri` has changed.
fn publish() -> Tool {
    Tool::new("publish").handler(|args: Value, call: &mut Call| {
        call.publish(Change::Resource(word(&args, "uri")));
        text("Published")
    })
}
