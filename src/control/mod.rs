//! The control plane: one glommio executor on a thread of its own, beside the shards.
//!
//! It serves the admin listener and runs the slow work of handlers ([`GlommioRunner`]). Async code is the
//! natural way to write both, and nothing here is on the path of a message (ARCHITECTURE.md: glommio costs a
//! shard's thread +80 % at partial load, so it is not there).
//!
//! Invariants: the executor's thread never waits for a shard (snapshots are awaited on glommio's blocking
//! thread); every queue into it is bounded; a panic of a handler's future ends that future only.

mod admin;
mod future_queue;
mod mesh_metrics;
mod metrics;
mod nodes;
mod orders;
mod pool;
mod pulse;
mod runner;
mod sample;
mod status;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Sender, TryRecvError};
use erlmcp_protocol::http::Access;
use erlmcp_shards::mail::ForeignPost;
use erlmcp_shards::message::Mail;
use erlmcp_shards::stats::ShardSnapshot;
use glommio::{LocalExecutorBuilder, Placement};

use crate::cluster::Board;
use crate::leaving::Stage;
use future_queue::FutureQueue;
pub use nodes::{ClusterView, NodeReport, NodeView, Role};
pub use runner::GlommioRunner;
pub use sample::{Rates, empty_latency, merge_latency};
pub use status::{LatencyView, LeavingStage, LeavingView, ShardView, StatusView, shard_views};

/// Asks every shard for its counters and waits, bounded; shards that did not answer are missing.
pub type Collect = Arc<dyn Fn() -> Vec<ShardSnapshot> + Send + Sync>;

/// How far the server is on its way out: written by the main thread, read by the control plane.
type SharedStage = ArcSwap<Stage>;

/// What the control plane needs to watch the shards, and to serve its listener.
pub struct AdminSeat {
    /// Bound, listening; `None`: nobody may ask, but the other nodes are told.
    pub listener: Option<TcpListener>,
    /// Who may call.
    pub access: Access,
    /// Where counters come from.
    pub collect: Collect,
    /// Shards there should be.
    pub shards: usize,
    /// Somebody POSTed `/drain`.
    pub on_drain: Box<dyn Fn() + Send>,
    /// The cluster, if there is one.
    pub cluster: Option<ClusterSeat>,
}

/// How the control plane hears of the cluster, and speaks to it.
pub struct ClusterSeat {
    /// What is known.
    pub board: Arc<Board>,
    /// The first shard, whose links carry reports and orders.
    pub lead: ForeignPost<Mail>,
}

/// The running control plane.
pub struct Control {
    runner: Arc<GlommioRunner>,
    queue: Arc<FutureQueue>,
    stage: Arc<SharedStage>,
    thread: Option<JoinHandle<()>>,
    started: Instant,
}

impl Control {
    /// Starts the executor. Its thread is not pinned: the kernel finds it a core with room.
    pub fn start() -> io::Result<Self> {
        let queue = Arc::new(FutureQueue::new());
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let on_thread = queue.clone();
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || run_executor(&on_thread, &ready))?;
        match is_ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(io::Error::other(why)),
            Err(_) => return Err(io::Error::other("the control plane's thread died at its start")),
        }
        Ok(Self {
            runner: Arc::new(GlommioRunner::new(queue.clone())),
            queue,
            stage: Arc::default(),
            thread: Some(thread),
            started: Instant::now(),
        })
    }

    /// Runs slow work of handlers.
    pub fn runner(&self) -> Arc<GlommioRunner> {
        self.runner.clone()
    }

    /// Begins to watch the shards and to serve the admin listener. Returns its address.
    pub fn serve_admin(&self, seat: AdminSeat) -> io::Result<Option<SocketAddr>> {
        let address = seat.listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let stage = self.stage.clone();
        let started = self.started;
        let serve: erlmcp_catalog::runner::FutureJob =
            Box::new(move || Box::pin(admin::serve(seat, stage, started)));
        self.queue.push(serve).map_err(|_| io::Error::other("the control plane is gone"))?;
        Ok(address)
    }

    /// Tells systemd, again and again, that every shard lives; does nothing where there is no systemd.
    pub fn beat(&self, collect: Collect, shards: usize) -> io::Result<()> {
        if !crate::notify::is_heard() {
            return Ok(());
        }
        let stage = self.stage.clone();
        let patience = crate::notify::watchdog_patience();
        let beat: erlmcp_catalog::runner::FutureJob =
            Box::new(move || Box::pin(pulse::beat(collect, shards, stage, patience)));
        self.queue.push(beat).map_err(|_| io::Error::other("the control plane is gone"))
    }

    /// How far the server is on its way out. Unless it serves, `/readyz` says 503, so that load balancers look
    /// elsewhere.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(Arc::new(stage));
    }

    /// Ends the executor: what runs on it is dropped, its listener closes.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

/// How often the executor looks whether the shards have answered.
const LOOK: Duration = Duration::from_millis(1);

/// The shards' answers, waited for on a thread of its own, so that the executor goes on meanwhile. Not on glommio's
/// blocking thread: that one panics when the executor ends before it has answered.
async fn snapshots(collect: &Collect) -> Vec<ShardSnapshot> {
    let (done, answer) = crossbeam_channel::bounded(1);
    let collect = collect.clone();
    let thread = std::thread::Builder::new().name("collect".to_owned()).spawn(move || {
        // Nobody waits any more: the control plane has ended.
        let _ = done.send(collect());
    });
    if let Err(err) = thread {
        log::warn!("cannot ask the shards: {err}");
    }
    loop {
        match answer.try_recv() {
            Ok(shards) => return shards,
            Err(TryRecvError::Disconnected) => return Vec::new(),
            Err(TryRecvError::Empty) => glommio::timer::sleep(LOOK).await,
        }
    }
}

/// Submission entries of the executor's rings: admin requests and child processes, not messages.
const RING_DEPTH: usize = 128;
/// glommio's registered memory, bytes: its smallest. It serves direct file I/O, which nobody does here, and
/// counts against RLIMIT_MEMLOCK three times.
const IO_MEMORY_BYTES: usize = 64 * 1024;

fn run_executor(queue: &FutureQueue, ready: &Sender<Result<(), String>>) {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY_BYTES)
        .make();
    match executor {
        Ok(executor) => {
            let _ = ready.send(Ok(()));
            executor.run(queue.run());
        }
        Err(err) => {
            let why = format!(
                "the control plane cannot start its executor: {err}. It needs io_uring and 512 KiB of locked \
                 memory; see `erlmcp-shard tune check`"
            );
            let _ = ready.send(Err(why));
        }
    }
}
