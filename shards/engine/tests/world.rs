//! Several engines, the mail between them, a clock, a runner, and clients: everything around an engine, and
//! nothing of it real. They are the shards of one node, or of several: then those of node `n` have the indices from
//! `n * shards` on, and letters travel between them (`mesh`).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use erlmcp_catalog::runner::LocalFuture;
use erlmcp_catalog::{Builder, Call, Catalog, Change, Handle, NoArguments, Reply, Tool};
use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Urgency;
use erlmcp_protocol::Parsed;
use erlmcp_protocol::http::{self, Access, RequestReader};
use erlmcp_protocol::seal::Keyring;
use serde_json::Value;

use super::ask::{Ask, Heard, Legacy};
use super::harbour::{Desk, harbour};
use super::jobs::Jobs;
use super::mesh::{Lane, Mesh};
use super::wire::{Clock, Lanes, PipeEnd, Said, Wire};
use crate::config::{ClusterLimits, Limits};
use crate::engine::{Engine, EngineConfig, EngineMail, Seat};
use crate::io::ConnId;
use crate::message::Announcement;
use crate::net::{CloseReason, Exchange, PipeKind};
use crate::service::Service;

/// What every world seals with.
pub const SECRET: &[u8] = b"sixteen bytes or more of a secret";

/// The number of every world's first node.
pub const NODE: u16 = 3;

/// How long a drain may take, milliseconds.
pub const DRAIN_MS: u64 = 20_000;

/// What a world is made of.
pub struct Setup {
    pub nodes: u16,
    /// Of each node.
    pub shards: u16,
    pub limits: Limits,
    /// `None`: what the builder makes of the desk, for each node.
    pub catalog: Option<Catalog>,
    pub builder: Rc<dyn Fn(&Desk) -> Builder>,
    /// Where the catalog puts its replies.
    pub desk: Desk,
    /// Of the first node; the others have the next ones.
    pub epoch: u32,
    /// Decides the order of mail from different shards, and all randomness.
    pub seed: u64,
    /// How sessions survive their node.
    pub cluster: Option<ClusterLimits>,
}

impl Default for Setup {
    fn default() -> Self {
        let (nodes, shards) = layout();
        Self {
            nodes,
            shards,
            limits: Limits::default(),
            catalog: None,
            builder: Rc::new(harbour),
            desk: Desk::default(),
            epoch: 7,
            seed: 0,
            cluster: None,
        }
    }
}

/// Nodes, and shards of each. `ERLMCP_TEST_LAYOUT=nodes`: what is two shards otherwise is two nodes of one each.
fn layout() -> (u16, u16) {
    match std::env::var(LAYOUT).as_deref() {
        Ok("nodes") => (2, 1),
        _ => (1, 2),
    }
}

/// See [`layout`].
pub const LAYOUT: &str = "ERLMCP_TEST_LAYOUT";

/// What a node is made of.
pub struct Node {
    pub handle: Handle,
    pub config: Arc<EngineConfig>,
}

/// An HTTP exchange of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub shard: u16,
    pub exchange: Exchange,
}

/// A pipe of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeId {
    pub shard: u16,
    pub conn: ConnId,
}

/// Mail from threads that are not shards.
#[derive(Default)]
struct Foreign(Mutex<Vec<(u16, EngineMail)>>);

impl Foreign {
    fn push(&self, shard: u16, mail: EngineMail) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((shard, mail));
    }

    fn forget(&self, shards: &std::ops::Range<u16>) {
        let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mail.retain(|(to, _)| !shards.contains(to));
    }

    fn take(&self) -> Vec<(u16, EngineMail)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct World {
    pub engines: Vec<Engine>,
    pub nodes: Vec<Node>,
    /// Of each node.
    pub shards: u16,
    pub wires: Vec<Wire>,
    pub handle: Handle,
    pub desk: Desk,
    pub jobs: Arc<Jobs>,
    /// Mail is delivered only by [`World::pump`].
    pub slow_mail: bool,
    pub mesh: Rc<RefCell<Mesh>>,
    cluster: Option<ClusterLimits>,
    builder: Rc<dyn Fn(&Desk) -> Builder>,
    clock: Clock,
    lanes: Rc<RefCell<Lanes>>,
    foreign: Arc<Foreign>,
    bells: Vec<Arc<AtomicBool>>,
    futures: Vec<LocalFuture>,
    slots: u32,
    random: u64,
    shuffled: bool,
}

impl World {
    pub fn new() -> Self {
        Self::with(Setup::default())
    }

    /// A world with other limits.
    pub fn tuned(tune: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Setup::default();
        tune(&mut setup.limits);
        Self::with(setup)
    }

    /// A world that serves this catalog.
    pub fn serving(catalog: Catalog) -> Self {
        Self::with(Setup { catalog: Some(catalog), ..Setup::default() })
    }

    pub fn with(setup: Setup) -> Self {
        let Setup { nodes, shards, limits, catalog, builder, desk, epoch, seed, cluster } = setup;
        let clock = Arc::new(AtomicU64::new(1));
        let catalog =
            catalog.unwrap_or_else(|| builder(&desk).build().expect("the harbour can be served"));
        let jobs = Arc::new(Jobs::new(clock.clone()));
        let handle = catalog.into_handle();
        let mut world = Self {
            engines: Vec::new(),
            nodes: Vec::new(),
            shards,
            wires: Vec::new(),
            handle: handle.clone(),
            desk,
            jobs,
            slow_mail: false,
            mesh: Rc::new(RefCell::new(Mesh::new(shards))),
            cluster,
            builder,
            clock,
            lanes: Rc::new(RefCell::new(Lanes::default())),
            foreign: Arc::<Foreign>::default(),
            bells: Vec::new(),
            futures: Vec::new(),
            slots: 0,
            random: seed | 1,
            shuffled: seed != 0,
        };
        for node in 0..nodes {
            let handle = if node == 0 { handle.clone() } else { world.catalog() };
            world.boot(node, handle, limits.clone(), epoch + u32::from(node), seed);
        }
        if nodes > 1 {
            world.meet();
        }
        world
    }

    /// A catalog like that of every other node.
    pub fn catalog(&self) -> Handle {
        (self.builder)(&self.desk).build().expect("the harbour can be served").into_handle()
    }

    /// Makes the shards of a node, or makes them anew.
    pub fn boot(&mut self, node: u16, handle: Handle, limits: Limits, epoch: u32, seed: u64) {
        let access = Access::new(&["https://pier.example".into()], &["tools.example.net".into()]);
        let config = Arc::new(EngineConfig {
            limits,
            access: Arc::new(access.expect("valid lists")),
            keys: Arc::new(Keyring::new(SECRET)),
            epoch,
            lookout: None,
            cluster: self.cluster.clone(),
        });
        let shards = self.shards;
        let first = node * shards;
        for shard in 0..shards {
            let bell = Arc::new(AtomicBool::new(false));
            let rung = bell.clone();
            let wake = Arc::new(move || rung.store(true, Ordering::Relaxed));
            let at = Spot { node: NODE + node, shard };
            let seat = Seat { at, shards };
            let (config, jobs) = (config.clone(), self.jobs.clone());
            let engine = Engine::new(seat, config, handle.clone(), jobs, wake);
            let (clock, lanes, mesh) = (self.clock.clone(), self.lanes.clone(), self.mesh.clone());
            let wire = Wire::new(at, first + shard, seed, clock, lanes, mesh);
            let index = usize::from(first + shard);
            if index < self.engines.len() {
                (self.engines[index], self.wires[index], self.bells[index]) = (engine, wire, bell);
            } else {
                self.engines.push(engine);
                self.wires.push(wire);
                self.bells.push(bell);
            }
        }
        let posts = self.foreign.clone();
        handle.listen(Box::new(move |snapshot, changes| {
            for shard in first..first + shards {
                let snapshot = Some(snapshot.clone());
                let news = Announcement { snapshot, changes: changes.into() };
                posts.push(shard, EngineMail::Announce(news));
            }
        }));
        let made = Node { handle, config };
        match self.nodes.get_mut(usize::from(node)) {
            Some(known) => *known = made,
            None => self.nodes.push(made),
        }
    }

    /// What lay in the inboxes of a node's shards goes with it.
    pub fn forget_mail(&mut self, node: u16) {
        let shards = node * self.shards..(node + 1) * self.shards;
        let mut lanes = self.lanes.borrow_mut();
        lanes.queues.retain(|(_, to), _| !shards.contains(to));
        lanes.unsent.retain(|(_, to), _| !shards.contains(to));
        self.foreign.forget(&shards);
    }

    // ---- Time and mail ----

    pub fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Delivers all mail, and what it causes.
    pub fn pump(&mut self) {
        while self.step() {}
    }

    /// Delivers one letter; `false` when there is none.
    pub fn step(&mut self) -> bool {
        for (shard, mail) in self.foreign.take() {
            self.deliver(shard, mail);
        }
        for shard in 0..self.bells.len() {
            if self.bells[shard].swap(false, Ordering::Relaxed) {
                self.deliver(shard as u16, EngineMail::Answers);
            }
        }
        self.break_links();
        let waiting: Vec<Lane> = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.flush();
            let full = lanes.queues.iter().filter(|(_, queue)| !queue.is_empty());
            let mail = full.map(|(lane, _)| Lane::Mail(*lane));
            self.mesh.borrow().waiting().chain(mail).collect()
        };
        if waiting.is_empty() {
            return false;
        }
        let pick = if self.shuffled { self.draw(waiting.len()) } else { 0 };
        let Lane::Mail(lane) = waiting[pick] else {
            self.deliver_letter(waiting[pick]);
            return true;
        };
        let mail = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.queues.get_mut(&lane).and_then(|queue| queue.pop_front())
        };
        if let Some(mail) = mail {
            self.deliver(lane.1, mail);
        }
        true
    }

    pub fn deliver(&mut self, shard: u16, mail: EngineMail) {
        let (engine, wire) = self.at(shard);
        engine.handle_mail(wire, mail);
    }

    /// Announcements of the catalog that were not delivered yet.
    pub fn take_foreign(&mut self) -> Vec<(u16, EngineMail)> {
        self.foreign.take()
    }

    /// From now on the lane between these shards takes nothing, or takes mail again.
    pub fn block_mail(&mut self, from: u16, to: u16, blocked: bool) {
        let (one, other) = (from / self.shards, to / self.shards);
        if one != other {
            let least = if blocked { Urgency::Reply } else { Urgency::Sync };
            return self.narrow(one, other, least);
        }
        let mut lanes = self.lanes.borrow_mut();
        if blocked {
            lanes.blocked.insert((from, to));
        } else {
            lanes.blocked.remove(&(from, to));
        }
    }

    pub fn settle(&mut self) {
        if !self.slow_mail {
            self.pump();
        }
    }

    /// Lets time pass: timers and sleepers in their order.
    pub fn advance(&mut self, ms: u64) {
        let until = self.now() + ms;
        self.run_jobs();
        loop {
            let timers = self.wires.iter().filter_map(|wire| wire.timers.keys().next());
            let due = timers.map(|(at, _)| *at).chain(self.jobs.next_alarm()).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.clock.fetch_max(due, Ordering::Relaxed);
            self.fire();
            self.run_jobs();
        }
        self.clock.store(until, Ordering::Relaxed);
    }

    fn fire(&mut self) {
        let now = self.now();
        for shard in 0..self.wires.len() as u16 {
            while let Some(entry) = self.wires[usize::from(shard)].timers.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let key = entry.remove();
                let (engine, wire) = self.at(shard);
                engine.handle_timer(wire, key);
                self.settle();
            }
        }
    }

    /// Runs what handlers have given to the runner.
    pub fn run_jobs(&mut self) {
        self.jobs.clone().run(&mut self.futures);
        self.settle();
    }

    /// Has a deferred call completed by another thread.
    #[track_caller]
    pub fn complete(&mut self, key: &str, complete: impl FnOnce(Reply) + Send + 'static) {
        let reply = self.desk.take(key);
        std::thread::spawn(move || complete(reply)).join().expect("completing does not panic");
        self.settle();
    }

    /// Has a deferred call answered with a text.
    #[track_caller]
    pub fn finish(&mut self, key: &str, answer: &'static str) {
        self.complete(key, move |reply| _ = reply.done(answer));
    }

    /// Tells everyone that a resource has changed.
    pub fn publish(&mut self, uri: &str) {
        self.handle.publish(Change::Resource(uri.to_owned()));
        self.settle();
    }

    /// The same of another node's.
    pub fn publish_at(&mut self, node: u16, uri: &str) {
        let handle = &self.nodes[usize::from(node)].handle;
        handle.publish(Change::Resource(uri.to_owned()));
        self.settle();
    }

    /// Adds a tool, which changes the list of tools.
    pub fn add_tool(&mut self, name: &str) {
        let tool = Tool::new(name).handler(|_: NoArguments, _: &mut Call| "new here");
        self.handle.update(|draft| draft.add_tool(tool)).expect("a tool that can be served");
        self.settle();
    }

    /// All nodes say that they will drain.
    pub fn give_notice(&mut self) {
        for shard in 0..self.engines.len() as u16 {
            let (engine, wire) = self.at(shard);
            engine.handle_mail(wire, EngineMail::Notice);
        }
        self.settle();
    }

    /// All nodes drain.
    pub fn drain(&mut self) {
        for node in 0..self.nodes.len() as u16 {
            self.drain_node(node);
        }
    }

    /// One node drains.
    pub fn drain_node(&mut self, node: u16) {
        let until = self.now() + DRAIN_MS;
        for shard in node * self.shards..(node + 1) * self.shards {
            let (engine, wire) = self.at(shard);
            engine.handle_drain(wire, until);
        }
        self.settle();
    }

    /// Whether a node that drains could leave.
    pub fn node_is_idle(&self, node: u16) -> bool {
        let shards = usize::from(node * self.shards)..usize::from((node + 1) * self.shards);
        self.engines[shards].iter().all(Engine::is_idle)
    }

    pub fn is_idle(&self) -> bool {
        self.engines.iter().all(Engine::is_idle)
    }

    /// A number below `below`, from the seed.
    pub fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) as usize % below.max(1)
    }

    pub fn at(&mut self, shard: u16) -> (&mut Engine, &mut Wire) {
        let shard = usize::from(shard);
        (&mut self.engines[shard], &mut self.wires[shard])
    }

    /// How often this reason was counted, on all shards.
    pub fn errors(&self, reason: &str) -> u64 {
        self.wires.iter().map(|wire| wire.error_count(reason)).sum()
    }

    // ---- HTTP ----

    pub fn post(&mut self, path: &str) -> Ask<'_> {
        Ask::new(self, "POST", path)
    }

    pub fn get(&mut self, path: &str) -> Ask<'_> {
        Ask::new(self, "GET", path)
    }

    pub fn ask(&mut self, method: &str, path: &str) -> Ask<'_> {
        Ask::new(self, method, path)
    }

    /// A modern request with its envelope and headers, all of which can be changed.
    pub fn modern(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Ask<'_> {
        Ask::modern(self, id.into(), method, params)
    }

    /// Opens a Streamable HTTP session.
    #[track_caller]
    pub fn initialize(&mut self, shard: u16, version: &'static str, client: Value) -> Legacy {
        Legacy::open(self, shard, version, client)
    }

    /// Sends a request as it stands.
    #[track_caller]
    pub fn raw(&mut self, shard: u16, bytes: &[u8]) -> Sent {
        self.slots += 1;
        let exchange = Exchange { conn: ConnId { slot: self.slots, generation: 0 }, seq: 1 };
        let mut bytes = bytes.to_vec();
        let mut reader = RequestReader::default();
        let read = reader.read(&mut bytes, &http::Limits::default());
        let Ok(Parsed::Complete(request, _)) = read else {
            panic!("not one whole request: {read:?}")
        };
        let (engine, wire) = self.at(shard);
        wire.exchanges.insert(exchange, Said::default());
        engine.handle_request(wire, exchange, &request.head, request.body);
        self.settle();
        Sent { shard, exchange }
    }

    /// What an exchange has heard so far.
    pub fn heard(&self, sent: Sent) -> Heard {
        let said = &self.wires[usize::from(sent.shard)].exchanges[&sent.exchange];
        Heard::new(said)
    }

    /// The client closes the connection of this exchange.
    pub fn leave(&mut self, sent: Sent) {
        let (engine, wire) = self.at(sent.shard);
        if wire.leave(sent.exchange) {
            engine.handle_gone(wire, sent.exchange);
        }
        self.settle();
    }

    /// The client of this exchange does not read: so many bytes wait for it.
    pub fn set_backlog(&mut self, shard: u16, conn: ConnId, bytes: usize) {
        self.wires[usize::from(shard)].backlog.insert(conn, bytes);
    }

    // ---- Pipes ----

    pub fn pipe(&mut self, shard: u16, kind: PipeKind) -> PipeId {
        self.slots += 1;
        let conn = ConnId { slot: self.slots, generation: 0 };
        let (engine, wire) = self.at(shard);
        let end = PipeEnd { messages: Default::default(), closed: None };
        wire.pipes.insert(conn, end);
        engine.handle_pipe_open(wire, conn, kind);
        PipeId { shard, conn }
    }

    pub fn say(&mut self, pipe: PipeId, message: &Value) {
        self.say_text(pipe, &message.to_string());
    }

    pub fn say_text(&mut self, pipe: PipeId, message: &str) {
        let (engine, wire) = self.at(pipe.shard);
        engine.handle_pipe_message(wire, pipe.conn, message.as_bytes());
        self.settle();
    }

    /// Everything that came down the pipe since the last look.
    pub fn told(&mut self, pipe: PipeId) -> Vec<Value> {
        let (_, wire) = self.at(pipe.shard);
        wire.pipes
            .get_mut(&pipe.conn)
            .map(|end| end.messages.drain(..).collect())
            .unwrap_or_default()
    }

    /// Says something and takes the one answer.
    #[track_caller]
    pub fn tell(&mut self, pipe: PipeId, message: &Value) -> Value {
        self.told(pipe);
        self.say(pipe, message);
        let mut told = self.told(pipe);
        assert_eq!(told.len(), 1, "not one answer: {told:?}");
        told.remove(0)
    }

    pub fn oversize(&mut self, pipe: PipeId) {
        let (engine, wire) = self.at(pipe.shard);
        engine.handle_pipe_oversize(wire, pipe.conn);
        self.settle();
    }

    pub fn eof(&mut self, pipe: PipeId) {
        let (engine, wire) = self.at(pipe.shard);
        engine.handle_pipe_eof(wire, pipe.conn);
        self.settle();
    }

    /// Whether the engine closed the pipe, and why.
    pub fn closed(&self, pipe: PipeId) -> Option<CloseReason> {
        self.wires[usize::from(pipe.shard)].pipes.get(&pipe.conn).and_then(|end| end.closed)
    }

    /// The pipe is gone for good.
    pub fn hang_up(&mut self, pipe: PipeId) {
        let (engine, wire) = self.at(pipe.shard);
        if wire.pipes.remove(&pipe.conn).is_some() {
            engine.handle_pipe_closed(wire, pipe.conn);
        }
        self.settle();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_faults();
        }
    }
}
