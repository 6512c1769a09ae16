//! All shards of a process: booted together or not at all, reached by mail, drained and joined.
//!
//! Invariants: every listener stands before any shard accepts; an error of one shard's boot ends all of them
//! and is the one that is reported; a shard that panics takes the others down, because a host that serves
//! half of its ports looks healthy and is not.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use erlmcp_cluster::Spot;
use erlmcp_cluster::link::{ADDRESSES_MAX, Identity};

use crate::config::Limits;
use crate::io::bells::Bells;
use crate::io::listen::{self, Claim, ListenOptions};
use crate::io::probe::{self, Missing};
use crate::io::uring::{Uring, UringConfig};
use crate::mail::{ForeignPost, Inbox, Mailroom, Post};
use crate::mesh::{MeshConfig, MeshSeat};
use crate::message::Mail;
use crate::service::Service;
use crate::shard::{ListenerKind, Shard, ShardConfig, Summary};
use crate::stats::ShardSnapshot;

/// Descriptors of the process that are not connections: listeners, eventfds, rings, files.
const OTHER_DESCRIPTORS: u64 = 256;
/// The kernel's own bound on a ring's descriptor table.
const RING_SLOTS_MAX: u64 = 1 << 20;
/// Slots beyond `connections_max`, in which the rest is refused.
const SLOTS_ABOVE_LIMIT: u32 = 128;
/// Slots for links to other nodes, theirs and ours.
const MESH_SLOTS: u32 = crate::mesh::SLOTS_MAX;
/// Links of other nodes that wait to be accepted.
const MESH_BACKLOG: u32 = 128;
/// With fewer descriptors than this a shard is not worth starting.
const RING_SLOTS_MIN: u32 = 64;

/// Where one shard runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardPlace {
    /// The core it is pinned to; `None` leaves that to the kernel.
    pub core: Option<usize>,
}

/// What [`start`] needs to know.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// One per shard.
    pub shards: Vec<ShardPlace>,
    /// This node's number in its cluster; 0 when it is in none.
    pub node: u16,
    /// HTTP and WebSocket; port 0 lets the kernel choose.
    pub http: Option<SocketAddr>,
    /// Newline-delimited TCP; port 0 as above.
    pub tcp: Option<SocketAddr>,
    /// The cluster; `None`: this node is alone.
    pub mesh: Option<MeshConfig>,
    /// Limits of each shard.
    pub limits: Limits,
    /// How listeners are made.
    pub listen: ListenOptions,
    /// Sizes of each ring. `capacity` is an upper bound: RLIMIT_NOFILE decides. `no_sqarray` is probed.
    pub ring: UringConfig,
}

/// What a shard's service gets to know when it is made, on the shard's thread.
pub struct ShardSeat {
    /// Which shard of which node.
    pub at: Spot,
    /// How many there are.
    pub count: u16,
    /// Post to every shard, for threads that are not shards.
    pub posts: Arc<[ForeignPost<Mail>]>,
}

/// The addresses that are served, with their real ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// HTTP and WebSocket.
    pub http: Option<SocketAddr>,
    /// Newline-delimited TCP.
    pub tcp: Option<SocketAddr>,
}

/// Why nothing was started.
#[derive(Debug)]
pub enum BootError {
    /// No shard was asked for, or more than 65,535.
    ShardCount(usize),
    /// The kernel cannot do what a ring needs.
    Kernel(Missing),
    /// An address cannot be listened on.
    Listen(io::Error),
    /// The process may open too few descriptors: how many, how many are needed.
    Descriptors(u64, u64),
    /// The doorbells could not be made.
    Bells(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// A shard could not be pinned to its core.
    Pin(u16, usize),
    /// A shard's ring could not be built.
    Ring(u16, io::Error),
    /// More shards than other nodes can link with.
    MeshShards(u16),
    /// A shard panicked while it booted.
    Panicked(u16, String),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShardCount(count) => {
                write!(f, "{count} shards were asked for: ask for 1 to {}", u16::MAX)
            }
            Self::Kernel(missing) => missing.fmt(f),
            Self::Listen(err) => err.fmt(f),
            Self::Descriptors(have, need) => write!(
                f,
                "this process may open {have} descriptors and needs at least {need}: \
                 raise RLIMIT_NOFILE (systemd: LimitNOFILE=, shell: ulimit -n)"
            ),
            Self::Bells(err) => write!(f, "cannot make the shards' doorbells: {err}"),
            Self::Thread(err) => write!(f, "cannot start a shard's thread: {err}"),
            Self::Pin(shard, core) => write!(
                f,
                "cannot pin shard {shard} to core {core}: does it exist, is it online, and does the \
                 cpuset of this process allow it?"
            ),
            Self::Ring(shard, err) => write!(f, "cannot build the ring of shard {shard}: {err}"),
            Self::MeshShards(count) => {
                write!(
                    f,
                    "{count} shards were asked for: a node of a cluster has at most {ADDRESSES_MAX}"
                )
            }
            Self::Panicked(shard, what) => write!(f, "shard {shard} panicked at boot: {what}"),
        }
    }
}

impl std::error::Error for BootError {}

/// A shard panicked; the others were told to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// Which.
    pub shard: u16,
    /// What it said.
    pub message: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} panicked: {}", self.shard, self.message)
    }
}

impl std::error::Error for Panicked {}

/// A shard's thread said that it ended, and how.
type Ended = (u16, Result<Summary, String>);

/// The running shards.
pub struct Fleet {
    addresses: Addresses,
    mesh: Vec<SocketAddr>,
    posts: Arc<[ForeignPost<Mail>]>,
    threads: Vec<JoinHandle<()>>,
    ended: Receiver<Ended>,
    capacity: u32,
    /// Keeps the addresses ours until the last shard is gone.
    _claims: Vec<Claim>,
}

/// What a shard's thread takes with it.
struct Berth {
    config: ShardConfig,
    ring: UringConfig,
    listeners: Vec<OwnedFd>,
    bells: Arc<Bells>,
    mail: (Post<Mail>, Inbox<Mail>),
    seat: ShardSeat,
}

/// Boots all shards and returns when each of them is ready to accept.
pub fn start<S: Service + 'static>(
    config: FleetConfig,
    make: impl Fn(ShardSeat) -> S + Send + Sync + 'static,
) -> Result<Fleet, BootError> {
    let count = u16::try_from(config.shards.len())
        .ok()
        .filter(|count| *count != 0)
        .ok_or(BootError::ShardCount(config.shards.len()))?;
    let features = probe::probe().map_err(BootError::Kernel)?;
    let ring = UringConfig {
        capacity: ring_capacity(&config)?,
        no_sqarray: config.ring.no_sqarray && features.no_sqarray,
        ..config.ring
    };
    let claim = |addr: Option<SocketAddr>| addr.map(listen::claim).transpose();
    let http = claim(config.http).map_err(BootError::Listen)?;
    let tcp = claim(config.tcp).map_err(BootError::Listen)?;
    let addresses =
        Addresses { http: http.as_ref().map(Claim::addr), tcp: tcp.as_ref().map(Claim::addr) };

    if config.mesh.is_some() {
        probe::probe_connect().map_err(BootError::Kernel)?;
    }
    let mesh = config.mesh.as_ref().map(|mesh| claim_mesh(count, mesh)).transpose()?;
    let mesh_claims = mesh.unwrap_or_default();
    let mesh_addresses: Vec<SocketAddr> = mesh_claims.iter().map(Claim::addr).collect();
    let mesh_config = config.mesh.clone().map(Arc::new);
    let config_node = config.node;
    let seat = |shard: u16| {
        let config = mesh_config.clone()?;
        let (node, epoch, addresses) = (config_node, config.epoch, mesh_addresses.clone());
        Some(MeshSeat { me: Arc::new(Identity { node, epoch, shard, addresses }), config })
    };

    let bells = Bells::new(count).map_err(BootError::Bells)?;
    let ringer = bells.clone();
    let mut room = Mailroom::new(count, move |shard| ringer.ring(shard));
    let posts: Arc<[_]> = (0..count).filter_map(|shard| room.foreign(shard)).collect();

    let mut berths = Vec::new();
    for (index, place) in (0..count).zip(&config.shards) {
        let mut listeners = Vec::new();
        let mut kinds = Vec::new();
        let served = [(addresses.http, ListenerKind::Http), (addresses.tcp, ListenerKind::Lines)];
        for (addr, kind) in served {
            if let Some(addr) = addr {
                listeners.push(listen::bind(addr, &config.listen).map_err(BootError::Listen)?);
                kinds.push(kind);
            }
        }
        if let Some(addr) = mesh_addresses.get(usize::from(index)) {
            let options = mesh_listen(&config.listen);
            listeners.push(listen::bind(*addr, &options).map_err(BootError::Listen)?);
            kinds.push(ListenerKind::Mesh);
        }
        let Some(mail) = room.take(index) else { break };
        berths.push(Berth {
            config: ShardConfig {
                index,
                core: place.core,
                limits: config.limits.clone(),
                listeners: kinds,
                mesh: seat(index),
            },
            ring,
            listeners,
            bells: bells.clone(),
            mail,
            seat: ShardSeat {
                at: Spot { node: config.node, shard: index },
                count,
                posts: posts.clone(),
            },
        });
    }

    let (threads, ended) = launch(berths, Arc::new(make))?;
    let claims = [http, tcp].into_iter().flatten().chain(mesh_claims).collect();
    let (mesh, capacity) = (mesh_addresses, ring.capacity);
    Ok(Fleet { addresses, mesh, posts, threads, ended, capacity, _claims: claims })
}

/// An address of its own for each shard's links: a link is to one shard.
fn claim_mesh(count: u16, mesh: &MeshConfig) -> Result<Vec<Claim>, BootError> {
    if ADDRESSES_MAX < usize::from(count) {
        return Err(BootError::MeshShards(count));
    }
    let invalid =
        |what: String| BootError::Listen(io::Error::new(io::ErrorKind::InvalidInput, what));
    let listen = mesh.listen;
    if listen.ip().is_unspecified() {
        let what =
            format!("cannot listen on {listen} for links: other nodes must be able to reach it");
        return Err(invalid(what));
    }
    let claim = |shard: u16| {
        let port = match listen.port() {
            0 => Some(0),
            first => first.checked_add(shard),
        };
        let no_port = || invalid(format!("no port is left for shard {shard} after {listen}"));
        let addr = SocketAddr::new(listen.ip(), port.ok_or_else(no_port)?);
        listen::claim(addr).map_err(BootError::Listen)
    };
    (0..count).map(claim).collect()
}

/// Links are few, and full of traffic: the kernel may tune their buffers.
fn mesh_listen(clients: &ListenOptions) -> ListenOptions {
    let (recv_buffer_bytes, send_buffer_bytes) = (None, None);
    ListenOptions { backlog: MESH_BACKLOG, recv_buffer_bytes, send_buffer_bytes, ..*clients }
}

/// Starts the threads, waits until all are ready, and lets them go; or ends those that are.
fn launch<S: Service + 'static>(
    berths: Vec<Berth>,
    make: Arc<impl Fn(ShardSeat) -> S + Send + Sync + 'static>,
) -> Result<(Vec<JoinHandle<()>>, Receiver<Ended>), BootError> {
    let count = berths.len();
    let (ready, is_ready) = bounded(count);
    let (end, ended) = bounded(count);
    let mut threads = Vec::new();
    // Dropping the other ends is "go home"; a letter is "go".
    let mut starts = Vec::new();
    for berth in berths {
        let (start, is_started) = bounded::<()>(1);
        let (ready, end, make) = (ready.clone(), end.clone(), make.clone());
        let index = berth.config.index;
        let thread = std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || live(berth, &*make, &ready, &is_started, &end))
            .map_err(BootError::Thread)?;
        threads.push(thread);
        starts.push(start);
    }
    drop(ready);
    for _ in 0..count {
        let outcome = is_ready.recv().unwrap_or_else(|_| {
            let (shard, what) = match ended.try_recv() {
                Ok((shard, Err(what))) => (shard, what),
                _ => (0, "its thread ended".to_owned()),
            };
            Err(BootError::Panicked(shard, what))
        });
        if let Err(err) = outcome {
            drop(starts);
            threads.into_iter().for_each(|thread| drop(thread.join()));
            return Err(err);
        }
    }
    for start in starts {
        // A shard that died since reports its end instead.
        let _ = start.send(());
    }
    Ok((threads, ended))
}

/// A shard's whole life, on its thread.
fn live<S: Service>(
    berth: Berth,
    make: &impl Fn(ShardSeat) -> S,
    ready: &Sender<Result<(), BootError>>,
    is_started: &Receiver<()>,
    end: &Sender<Ended>,
) {
    let index = berth.config.index;
    let life = catch_unwind(AssertUnwindSafe(|| {
        let shard = match board(berth, make) {
            Ok(shard) => shard,
            Err(err) => {
                let _ = ready.send(Err(err));
                return Summary::default();
            }
        };
        let _ = ready.send(Ok(()));
        match is_started.recv() {
            Ok(()) => shard.run(),
            Err(_) => Summary::default(),
        }
    }));
    let life = life.map_err(|panic| panic_message(&*panic));
    if let Err(what) = &life {
        // Counts only while booting; afterwards nobody listens.
        let _ = ready.try_send(Err(BootError::Panicked(index, what.clone())));
    }
    let _ = end.send((index, life));
}

/// Pins the thread, then builds what must be built on it.
fn board<S: Service>(
    berth: Berth,
    make: &impl Fn(ShardSeat) -> S,
) -> Result<Shard<Uring, S>, BootError> {
    let Berth { config, ring, listeners, bells, mail, seat } = berth;
    // Before the ring: its memory and its deferred work belong to the core that makes it.
    if let Some(core) = config.core
        && !pin(core)
    {
        return Err(BootError::Pin(config.index, core));
    }
    let index = config.index;
    let mut io =
        Uring::new(&ring, listeners, index, bells).map_err(|err| BootError::Ring(index, err))?;
    for (listener, kind) in (0..).zip(&config.listeners) {
        if *kind == ListenerKind::Mesh {
            io.remember_callers(listener);
        }
    }
    let service = make(seat);
    Ok(Shard::new(config, io, service, mail))
}

/// Binds the calling thread to a core; `false` when that is not possible.
fn pin(core: usize) -> bool {
    // Beyond the kernel's bitmap core_affinity would abort the process.
    let is_possible = core < libc::CPU_SETSIZE as usize;
    is_possible && core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// How many descriptors each ring's table gets. The kernel checks RLIMIT_NOFILE per ring, not in sum.
fn ring_capacity(config: &FleetConfig) -> Result<u32, BootError> {
    let limit = raise_descriptor_limit();
    let shards = config.shards.len() as u64;
    let need = OTHER_DESCRIPTORS + 8 * shards;
    if limit < need {
        return Err(BootError::Descriptors(limit, need));
    }
    let mut capacity = limit.min(RING_SLOTS_MAX).min(u64::from(config.ring.capacity)) as u32;
    if config.limits.connections_max != 0 {
        let links = if config.mesh.is_some() { MESH_SLOTS } else { 0 };
        let wanted = config.limits.connections_max.saturating_add(SLOTS_ABOVE_LIMIT + links);
        capacity = capacity.min(wanted);
    }
    Ok(capacity.max(RING_SLOTS_MIN))
}

/// Soft limit up to the hard one; returns what holds then.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

impl Fleet {
    /// Where clients connect.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where each shard listens for links of other nodes; empty without a mesh.
    pub fn mesh_addresses(&self) -> &[SocketAddr] {
        &self.mesh
    }

    /// Post to every shard, by index.
    pub fn posts(&self) -> &Arc<[ForeignPost<Mail>]> {
        &self.posts
    }

    /// Descriptors each shard's ring can hold.
    pub fn ring_capacity(&self) -> u32 {
        self.capacity
    }

    /// The shards' counters, in order of index. A shard that does not answer in time is missing.
    pub fn snapshots(&self, timeout: Duration) -> Vec<ShardSnapshot> {
        snapshots(&self.posts, timeout)
    }

    /// Has the first shard serve this socket as a newline-delimited pipe. Gives it back when the shard is
    /// gone or its inbox is full.
    pub fn adopt(&self, socket: OwnedFd) -> Result<(), OwnedFd> {
        match self.posts[0].send(Mail::Adopt(socket)) {
            Err(Mail::Adopt(socket)) => Err(socket),
            _ => Ok(()),
        }
    }

    /// Tells all shards to finish what they have, within so many milliseconds.
    pub fn drain(&self, deadline_ms: u64) {
        post_all(&self.posts, || Mail::Drain { deadline_ms });
    }

    /// Tells all shards to leave at once.
    pub fn abort(&self) {
        post_all(&self.posts, || Mail::Abort);
    }

    /// Waits until all shards ended. If one panicked, the others are told to leave and the panic is returned.
    pub fn join(mut self) -> Result<Summary, Panicked> {
        let mut total = Summary::default();
        let mut panicked = None;
        let threads = std::mem::take(&mut self.threads);
        for _ in 0..threads.len() {
            let Ok((shard, life)) = self.ended.recv() else { break };
            match life {
                Ok(summary) => {
                    total.accepted += summary.accepted;
                    total.cut += summary.cut;
                }
                Err(message) => {
                    panicked.get_or_insert(Panicked { shard, message });
                    self.abort();
                }
            }
        }
        for thread in threads {
            // Panics were caught inside.
            let _ = thread.join();
        }
        panicked.map_or(Ok(total), Err)
    }
}

/// A fleet that nobody joined is told to leave, and waited for.
impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.abort();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Asks all shards for their counters; for threads that have the posts but not the [`Fleet`].
pub fn snapshots(posts: &[ForeignPost<Mail>], timeout: Duration) -> Vec<ShardSnapshot> {
    let deadline = Instant::now() + timeout;
    let (answer, answers) = bounded(posts.len());
    let asked =
        posts.iter().filter(|post| post.send(Mail::Snapshot(answer.clone())).is_ok()).count();
    drop(answer);
    let mut snapshots: Vec<ShardSnapshot> =
        (0..asked).map_while(|_| answers.recv_deadline(deadline).ok()).collect();
    snapshots.sort_by_key(|snapshot| snapshot.shard);
    snapshots
}

/// Sends to every shard; insists where an inbox is full, because these orders must arrive.
pub fn post_all(posts: &[ForeignPost<Mail>], mut letter: impl FnMut() -> Mail) {
    for post in posts {
        let deadline = Instant::now() + INSIST_FOR;
        let mut is_refused = post.send(letter()).is_err();
        while is_refused && Instant::now() < deadline {
            std::thread::yield_now();
            is_refused = post.send(letter()).is_err();
        }
    }
}

/// A shard that has not emptied its inbox after this long is gone.
const INSIST_FOR: Duration = Duration::from_secs(1);
