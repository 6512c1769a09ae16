//! Two shards with their engines, the mail between them, and a runner, in virtual time: everything real but
//! the kernel and the clock.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use erlmcp_catalog::runner::LocalFuture;
use erlmcp_catalog::{Call, Change, Handle, Runner, Tool, everything, failed, text};
use erlmcp_protocol::http::Access;
use erlmcp_protocol::seal::Keyring;
use erlmcp_shards::config::Limits;
use erlmcp_shards::engine::{Engine, EngineConfig, Held, Seat};
use erlmcp_shards::io::sim::{Faults, SimIo, SimNet};
use erlmcp_shards::mail::{ForeignPost, Mailroom};
use erlmcp_shards::message::{Announcement, Mail};
use erlmcp_shards::serve::{announce, seated};
use erlmcp_shards::shard::{ListenerKind, Shard, ShardConfig};
use erlmcp_shards::stats::ShardSnapshot;
use serde_json::Value;

use super::jobs::Jobs;

/// Shards of a world.
pub const SHARDS: u16 = 2;
/// Index of the HTTP listener.
pub const HTTP: u8 = 0;
/// Index of the listener for lines.
pub const LINES: u8 = 1;
/// Turns after which something that had to happen never will.
const PATIENCE_TURNS: usize = 20_000;

/// A test's own dice: the world's belong to the world.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % below as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn shard(&mut self) -> u16 {
        self.below(usize::from(SHARDS)) as u16
    }
}

pub struct World {
    pub net: SimNet,
    pub dice: Dice,
    pub posts: Arc<[ForeignPost<Mail>]>,
    pub handle: Handle,
    /// Those that left are gone, with what was in their inboxes.
    shards: Vec<Option<Shard<SimIo, Engine>>>,
    jobs: Arc<Jobs>,
    clock: Arc<AtomicU64>,
    futures: Vec<LocalFuture>,
    seed: u64,
    is_perfect: bool,
}

/// Short enough that every timer fires in a test now and then.
pub fn limits() -> Limits {
    Limits {
        message_bytes_max: 20_000,
        outbox_pause_bytes: 4_000,
        outbox_bytes_max: 200_000,
        stream_keepalive_ms: 40,
        session_idle_ms: 3_000,
        client_request_timeout_ms: 4_000,
        ws_ping_ms: 400,
        replay_ttl_ms: 2_000,
        ..Limits::default()
    }
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::with(seed, faults, limits(), 48)
    }

    pub fn with(seed: u64, faults: Faults, limits: Limits, capacity: u32) -> Self {
        let net = SimNet::new(seed, faults);
        let mut room = Mailroom::new(SHARDS, net.foreign_bell());
        let posts: Arc<[_]> =
            (0..SHARDS).map(|shard| room.foreign(shard).expect("there is such a shard")).collect();
        let clock = Arc::new(AtomicU64::new(net.now()));
        let jobs = Arc::new(Jobs::new(clock.clone()));
        let handle = serve_to(posts.clone(), jobs.clone());
        let config = Arc::new(EngineConfig {
            limits: limits.clone(),
            access: Arc::new(Access::new(&[], &[]).expect("empty lists are valid")),
            keys: Arc::new(Keyring::new(b"sixteen bytes or more of a secret")),
            epoch: 9,
            lookout: None,
            cluster: None,
        });
        let shards = (0..SHARDS).map(|index| {
            let facts = ShardConfig {
                index,
                core: None,
                limits: limits.clone(),
                listeners: vec![ListenerKind::Http, ListenerKind::Lines],
                mesh: None,
            };
            let seat = Seat { at: erlmcp_cluster::Spot { node: 1, shard: index }, shards: SHARDS };
            let own = posts[usize::from(index)].clone();
            let engine = seated(seat, own, config.clone(), handle.clone(), jobs.clone());
            let mail = room.take(index).expect("taken once");
            Some(Shard::new(facts, net.shard(2, capacity), engine, mail))
        });
        let shards = shards.collect();
        let dice = Dice::new(seed ^ 0x5EED);
        let is_perfect = faults == Faults::none();
        Self {
            net,
            dice,
            posts,
            handle,
            shards,
            jobs,
            clock,
            futures: Vec::new(),
            seed,
            is_perfect,
        }
    }

    /// A millisecond passes; each shard turns, or, in a world with faults, is late now and then.
    pub fn turn(&mut self) {
        self.net.advance(1);
        self.clock.store(self.net.now(), Ordering::Relaxed);
        let first = self.dice.below(self.shards.len());
        for index in 0..self.shards.len() {
            let slot = (first + index) % self.shards.len();
            if !self.is_perfect && self.dice.percent(25) {
                continue;
            }
            if let Some(shard) = &mut self.shards[slot] {
                shard.turn();
                if shard.is_over() {
                    self.shards[slot] = None;
                }
            }
            self.jobs.run(&mut self.futures);
        }
    }

    pub fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn();
        }
    }

    /// Lets time pass in steps, with some turns after each.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.net.advance(100);
            self.turns(3);
        }
    }

    /// Turns until `done`.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..PATIENCE_TURNS {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("{what} never happened: {:#?}", self.held());
    }

    /// The shards that have not left.
    pub fn living(&self) -> impl Iterator<Item = &Shard<SimIo, Engine>> {
        self.shards.iter().flatten()
    }

    pub fn is_over(&self) -> bool {
        self.living().next().is_none()
    }

    pub fn drain(&self, shard: u16, deadline_ms: u64) {
        // A shard that has left needs no order.
        let _ = self.posts[usize::from(shard)].send(Mail::Drain { deadline_ms });
    }

    /// Connections that are not closed yet.
    pub fn occupied(&self) -> u32 {
        self.living().map(|shard| shard.summary().cut).sum()
    }

    pub fn held(&self) -> Vec<Held> {
        self.living().map(|shard| shard.service().held()).collect()
    }

    pub fn snapshots(&mut self) -> Vec<ShardSnapshot> {
        self.shards.iter_mut().flatten().map(Shard::snapshot).collect()
    }

    pub fn errors(&mut self, reason: &str) -> u64 {
        let count = |one: &ShardSnapshot| one.counters.errors.get(reason).copied().unwrap_or(0);
        self.snapshots().iter().map(count).sum()
    }

    /// All clients have gone: lets sessions expire, then looks for anything that is left of anybody.
    #[track_caller]
    pub fn assert_clean(&mut self) {
        self.until("the end of all connections", |world| world.occupied() == 0);
        self.pass(10_000);
        self.turns(20);
        for (shard, held) in self.held().into_iter().enumerate() {
            assert_eq!(held, Held::default(), "shard {shard}");
        }
        for snapshot in self.snapshots() {
            let (shard, counters) = (snapshot.shard, snapshot.counters);
            assert_eq!(counters.connections_active, [0; 4], "shard {shard}: connections");
            assert_eq!(counters.calls_active, 0, "shard {shard}: calls");
            assert_eq!(counters.streams_active, 0, "shard {shard}: streams");
            assert_eq!(counters.sessions_active, 0, "shard {shard}: sessions");
            let lent = snapshot.ring.iter().find(|(name, _)| *name == "buffers_lent");
            assert_eq!(lent, Some(&("buffers_lent", 0)), "shard {shard}: buffers");
        }
        assert!(self.futures.is_empty(), "{} handlers still run", self.futures.len());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world of seed {0}; again with SEED={0}", self.seed);
        }
    }
}

/// Whom changes of the catalog are told, in the world of the moment.
type Audience = Arc<Mutex<Option<(Arc<[ForeignPost<Mail>]>, Arc<dyn Runner>)>>>;

thread_local! {
    /// Compiling a catalog's schemas takes longer than a seed, so that a thread's worlds share one.
    static SERVED: RefCell<Option<(Handle, Audience)>> = const { RefCell::new(None) };
}

/// `everything`, and the tools below, with news for these shards.
fn serve_to(posts: Arc<[ForeignPost<Mail>]>, runner: Arc<dyn Runner>) -> Handle {
    SERVED.with_borrow_mut(|served| {
        let (handle, audience) = served.get_or_insert_with(|| {
            let audience = Audience::default();
            let told = audience.clone();
            let handle = everything().expect("a built-in catalog can be served").into_handle();
            let tools = [echo(), wait(), publish(), grind()];
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

/// Answers after `ms`, with progress at each tenth.
fn wait() -> Tool {
    Tool::new("wait").future(|args: Value, mut call: Call| async move {
        let ms = args["ms"].as_u64().unwrap_or_default();
        let runner = call.runner().clone();
        for tenth in 1..=STEPS {
            let pause_ms = ms * tenth / STEPS - ms * (tenth - 1) / STEPS;
            runner.sleep(std::time::Duration::from_millis(pause_ms)).await;
            if call.is_cancelled() {
                return failed("Cancelled");
            }
            call.progress(tenth as f64, Some(STEPS as f64), None);
        }
        text(format!("Waited {ms} ms"))
    })
}

/// Progress notifications of one `wait`.
pub const STEPS: u64 = 10;

/// Says that `uri` has changed.
fn publish() -> Tool {
    Tool::new("publish").handler(|args: Value, call: &mut Call| {
        call.publish(Change::Resource(word(&args, "uri")));
        text("Published")
    })
}

/// Answers with `text`, from a thread that may block.
fn grind() -> Tool {
    Tool::new("grind").blocking(|args: Value, _: Call| text(word(&args, "text")))
}
