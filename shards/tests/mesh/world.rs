//! Several nodes of several shards in one simulated world: everything real but the kernel and the clock.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::link::Identity;
use erlmcp_cluster::secret::Secrets;
use erlmcp_cluster::view::{Member, State};
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::{Faults, SimClient, SimIo, SimNet};
use erlmcp_shards::mail::{ForeignPost, Mailroom};
use erlmcp_shards::mesh::{MeshConfig, MeshSeat, MeshStats};
use erlmcp_shards::message::Mail;
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};

use super::scribe::{Desk, Scribe};

/// The first shards' port.
const PORT: u16 = 7_000;
/// How often nodes say that they live, milliseconds.
pub const HEARTBEAT_MS: u64 = 200;
/// How long one may be silent, milliseconds.
pub const NODE_TIMEOUT_MS: u64 = 1_500;
/// The listener for clients.
const HTTP: u8 = 0;
/// The listener for links.
pub const MESH: u8 = 1;

/// How a node is set up.
#[derive(Clone)]
pub struct Plan {
    pub node: u16,
    pub shards: u16,
    pub epoch: u32,
    pub seeds: Vec<SocketAddr>,
    pub secret: &'static str,
    pub queue_bytes_max: usize,
    pub message_bytes_max: usize,
    /// Where it listens, when not at its number.
    pub host: u16,
}

impl Plan {
    /// A node that knows of the first one.
    pub fn new(node: u16, shards: u16) -> Self {
        Self {
            node,
            shards,
            epoch: 100 * u32::from(node),
            seeds: vec![address(1, 0)],
            secret: "a secret that all of them share",
            queue_bytes_max: 1024 * 1024,
            message_bytes_max: 256 * 1024,
            host: node,
        }
    }

    pub fn seeds(mut self, nodes: &[u16]) -> Self {
        self.seeds = nodes.iter().map(|node| address(*node, 0)).collect();
        self
    }
}

pub fn address(host: u16, shard: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], PORT + shard))
}

pub fn spot(node: u16, shard: u16) -> Spot {
    Spot { node, shard }
}

pub struct Node {
    pub plan: Plan,
    pub desks: Vec<Rc<Desk>>,
    pub posts: Vec<ForeignPost<Mail>>,
    /// Those that left are gone.
    pub shards: Vec<Option<Shard<SimIo, Scribe>>>,
    /// Which shards are stopped: all of them as by SIGSTOP.
    pub stopped: Vec<bool>,
}

pub struct World {
    pub net: SimNet,
    pub nodes: Vec<Node>,
    pub dice: Dice,
    /// How often, in percent, a shard is late by a turn.
    pub late: usize,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let late = if faults == Faults::none() { 0 } else { 25 };
        Self { net: SimNet::new(seed, faults), nodes: Vec::new(), dice: Dice(seed ^ 0x5EED), late }
    }

    /// So many nodes of so many shards that know of the first.
    pub fn formed(seed: u64, faults: Faults, nodes: u16, shards: u16) -> Self {
        let mut world = Self::new(seed, faults);
        (1..=nodes).for_each(|node| world.boot(Plan::new(node, shards)));
        world.until_formed();
        world
    }

    /// Starts a node, or starts it again.
    pub fn boot(&mut self, plan: Plan) {
        let net = self.net.node(plan.host);
        let mut room = Mailroom::new(plan.shards, net.foreign_bell());
        let foreign = |shard| room.foreign(shard).expect("there is such a shard");
        let posts: Vec<_> = (0..plan.shards).map(foreign).collect();
        let desks: Vec<Rc<Desk>> = (0..plan.shards).map(|_| Rc::default()).collect();
        let addresses: Vec<_> = (0..plan.shards).map(|shard| address(plan.host, shard)).collect();
        let config = Arc::new(MeshConfig {
            listen: addresses[0],
            seeds: plan.seeds.clone(),
            secrets: secrets(plan.secret),
            epoch: plan.epoch,
            heartbeat_ms: HEARTBEAT_MS,
            node_timeout_ms: NODE_TIMEOUT_MS,
            queue_bytes_max: plan.queue_bytes_max,
        });
        let limits = Limits { message_bytes_max: plan.message_bytes_max, ..Limits::default() };
        let shards = (0..plan.shards).map(|shard| {
            let addresses = addresses.clone();
            let me = Identity { node: plan.node, epoch: plan.epoch, shard, addresses };
            let facts = ShardConfig {
                index: shard,
                core: None,
                limits: limits.clone(),
                listeners: vec![ListenerKind::Http, ListenerKind::Mesh],
                mesh: Some(MeshSeat { me: Arc::new(me), config: config.clone() }),
            };
            let io = net.shard(2, 400);
            net.listen(shard, MESH, address(plan.host, shard));
            let mail = room.take(shard).expect("taken once");
            let scribe = Scribe::new(desks[usize::from(shard)].clone());
            Some(Shard::new(facts, io, scribe, mail))
        });
        let shards = shards.collect();
        self.nodes.retain(|node| node.plan.host != plan.host);
        let stopped = vec![false; usize::from(plan.shards)];
        self.nodes.push(Node { plan, desks, posts, shards, stopped });
        self.nodes.sort_by_key(|node| node.plan.host);
    }

    /// Kills a node's process.
    pub fn kill(&mut self, host: u16) {
        self.nodes.retain(|node| node.plan.host != host);
        self.net.node(host).crash();
    }

    pub fn node(&mut self, host: u16) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.plan.host == host).expect("it runs")
    }

    pub fn desk(&self, host: u16, shard: u16) -> &Rc<Desk> {
        let node = self.nodes.iter().find(|node| node.plan.host == host).expect("it runs");
        &node.desks[usize::from(shard)]
    }

    /// A stranger at the mesh listener of a shard.
    pub fn stranger(&self, host: u16, shard: u16) -> SimClient {
        self.net.node(host).connect(shard, MESH)
    }

    /// A client.
    pub fn client(&self, host: u16, shard: u16) -> SimClient {
        self.net.node(host).connect(shard, HTTP)
    }

    /// So many milliseconds pass; then each shard turns once, unless it is late.
    pub fn step(&mut self, ms: u64) {
        self.net.advance(ms);
        for node in &mut self.nodes {
            for (slot, is_stopped) in node.shards.iter_mut().zip(&node.stopped) {
                if *is_stopped || self.dice.below(100) < self.late {
                    continue;
                }
                if let Some(shard) = slot {
                    shard.turn();
                    if shard.is_over() {
                        *slot = None;
                    }
                }
            }
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
            assert!(
                passed < ms,
                "seed {}: {what} did not happen:\n{}",
                self.net.seed(),
                self.told()
            );
            self.step(1);
        }
        self.net.now() - start
    }

    /// Every shard sees all nodes alive and no other, and all links between them stand.
    pub fn is_formed(&mut self) -> bool {
        let nodes: Vec<(u16, u16)> =
            self.nodes.iter().map(|node| (node.plan.node, node.plan.shards)).collect();
        self.nodes.iter_mut().all(|node| {
            let sees_all =
                node.desks.iter().all(|desk| {
                    let view = desk.view.borrow();
                    let Some(view) = view.as_ref() else { return false };
                    let mut alive: Vec<u16> = Vec::new();
                    alive.extend(view.members.iter().filter_map(|member| {
                        (member.state == State::Alive).then_some(member.node)
                    }));
                    let owners = view.members.iter().filter(|member| member.owns()).count();
                    owners == nodes.len() && nodes.iter().all(|(node, _)| alive.contains(node))
                });
            let others = nodes.iter().filter(|(other, _)| *other != node.plan.node);
            let in_all: u64 = others.map(|(_, shards)| u64::from(*shards)).sum();
            let out_each = nodes.len() as u64 - 1;
            let mut links_in = 0;
            sees_all
                && node.shards.iter_mut().flatten().all(|shard| {
                    let stats = shard.snapshot().mesh.expect("it has a mesh");
                    links_in += stats.links_in;
                    stats.links_out == out_each
                })
                && links_in == in_all
        })
    }

    #[track_caller]
    pub fn until_formed(&mut self) -> u64 {
        self.until(20_000, "formation", |world| world.is_formed())
    }

    /// How a node sees another, on all its shards; `None` when they differ.
    pub fn state(&self, host: u16, of: u16) -> Option<State> {
        let node = self.nodes.iter().find(|node| node.plan.host == host)?;
        let state = |desk: &Rc<Desk>| Some(desk.view.borrow().as_ref()?.member(of)?.state);
        let first = state(&node.desks[0])?;
        node.desks.iter().all(|desk| state(desk) == Some(first)).then_some(first)
    }

    pub fn stats(&mut self, host: u16, shard: u16) -> MeshStats {
        let shard = self.node(host).shards[usize::from(shard)].as_mut().expect("it has not left");
        shard.snapshot().mesh.expect("it has a mesh")
    }

    /// Stops a node, or lets it go on.
    pub fn stop(&mut self, host: u16, is_stopped: bool) {
        self.node(host).stopped.fill(is_stopped);
    }

    /// Tells every shard of a node to drain.
    pub fn drain(&mut self, host: u16, deadline_ms: u64) {
        for post in &self.node(host).posts {
            assert!(post.send(Mail::Drain { deadline_ms }).is_ok());
        }
    }

    /// Refusals of all shards of a node, by reason.
    pub fn refused(&mut self, host: u16, reason: &str) -> u64 {
        let shards = self.node(host).shards.iter_mut().flatten();
        shards.filter_map(|shard| shard.snapshot().mesh?.refused.get(reason).copied()).sum()
    }

    /// For messages: how each shard sees the others.
    fn told(&mut self) -> String {
        let mut told = String::new();
        for node in &mut self.nodes {
            for shard in node.shards.iter_mut().flatten() {
                told += &format!("{:?}\n", shard.snapshot().mesh);
            }
            for (shard, desk) in node.desks.iter().enumerate() {
                let view = desk.view.borrow();
                let members = view.as_ref().map(|view| {
                    let of = |member: &Member| (member.node, member.epoch, member.state);
                    view.members.iter().map(of).collect::<Vec<_>>()
                });
                told += &format!("{}.{shard} {members:?}\n", node.plan.host);
            }
        }
        told
    }
}

pub fn secrets(text: &str) -> Arc<Secrets> {
    Arc::new(Secrets::parse(text.as_bytes()).expect("long enough"))
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
}
