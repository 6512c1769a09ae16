//! A started server: what happens to it, in one loop, until its last shard has left.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use erlmcp_catalog::{Catalog, Handle};
use erlmcp_cluster::letter::Order;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::fleet::{Fleet, Panicked};
use erlmcp_shards::mail::ForeignPost;
use erlmcp_shards::message::Mail;
use erlmcp_shards::shard::Summary;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle as SignalHandle, Signals};

use crate::cluster::{ClusterSeat, Nudge};
use crate::config::Config;
use crate::control::Control;
use crate::leaving::{Ask, Leaving, Plan, Stage, Step};

/// How long stdout may take to swallow the last replies.
const STDIO_GRACE: Duration = Duration::from_secs(2);

/// Events that may wait. They are rare: signals, orders, changes of the cluster.
pub const EVENTS_MAX: usize = 1024;

/// What happens to a running server.
pub enum Event {
    /// A signal arrived.
    Signal(i32),
    /// Somebody asked for a drain.
    Drain,
    /// The cluster has changed, or wants something.
    Cluster(Nudge),
    /// The pipe to stdin and stdout is at its end.
    StdioClosed,
    /// The last shard left.
    FleetEnded(Result<Summary, Panicked>),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Drained as asked; calls in flight at the deadline were cut.
    Drained,
    /// This signal came while it was leaving already: it left at once.
    Aborted(i32),
    /// A shard died.
    ShardDied,
}

impl Exit {
    /// What a process exits with: 0, 128 + signal, or 70 (EX_SOFTWARE).
    pub fn code(self) -> u8 {
        match self {
            Exit::Drained => 0,
            Exit::Aborted(signal) => 128_u8.wrapping_add(signal as u8),
            Exit::ShardDied => 70,
        }
    }
}

/// Where a running server can be reached, with real ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// HTTP, SSE, WebSocket.
    pub http: Option<SocketAddr>,
    /// Newline-delimited JSON.
    pub tcp: Option<SocketAddr>,
    /// Metrics, health, status, drain.
    pub admin: Option<SocketAddr>,
    /// The first shard's links to other nodes.
    pub mesh: Option<SocketAddr>,
}

impl Addresses {
    /// `listening http 127.0.0.1:8080` and so on: scripts parse these.
    pub fn lines(&self) -> Vec<String> {
        let named =
            [("http", self.http), ("tcp", self.tcp), ("admin", self.admin), ("mesh", self.mesh)];
        named
            .into_iter()
            .filter_map(|(name, address)| Some(format!("listening {name} {}", address?)))
            .collect()
    }
}

/// A started server. Dropping it ends it at once; [`Running::stop`] drains first.
pub struct Running {
    addresses: Addresses,
    catalog: Handle,
    catalog_file: Option<PathBuf>,
    posts: Arc<[ForeignPost<Mail>]>,
    control: Control,
    cluster: Option<ClusterSeat>,
    leaving: Leaving,
    events: Sender<Event>,
    on_event: Receiver<Event>,
    /// Waits for the shards' threads.
    joiner: Option<JoinHandle<()>>,
    signals: Option<SignalHandle>,
    /// Serves stdin and stdout, which must have been flushed before the process ends.
    stdio_open: bool,
}

impl Running {
    pub(crate) fn new(
        fleet: Fleet,
        control: Control,
        (catalog, catalog_file): (Handle, Option<PathBuf>),
        cluster: Option<ClusterSeat>,
        admin: Option<SocketAddr>,
        config: &Config,
        (events, on_event): (Sender<Event>, Receiver<Event>),
    ) -> Self {
        let addresses = Addresses {
            http: fleet.addresses().http,
            tcp: fleet.addresses().tcp,
            admin,
            mesh: fleet.mesh_addresses().first().copied(),
        };
        let posts = fleet.posts().clone();
        let ended = events.clone();
        let join = move || drop(ended.send(Event::FleetEnded(fleet.join())));
        // If there is no thread to be had the closure is dropped, and the fleet in it ends itself.
        let joiner = std::thread::Builder::new().name("joiner".to_owned()).spawn(join);
        if let Err(err) = &joiner {
            log::error!("cannot watch the shards: {err}");
        }
        Self {
            addresses,
            catalog,
            catalog_file,
            posts,
            control,
            cluster,
            leaving: Leaving::new(Plan::of(&config.server)),
            events,
            on_event,
            joiner: joiner.ok(),
            signals: None,
            stdio_open: config.server.stdio,
        }
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The running catalog, to change it.
    pub fn catalog(&self) -> &Handle {
        &self.catalog
    }

    /// From now on SIGTERM and SIGINT drain, SIGHUP reads the catalog file and the cluster's secret anew.
    pub fn handle_signals(&mut self) {
        let mut signals = match Signals::new([SIGTERM, SIGINT, SIGHUP]) {
            Ok(signals) => signals,
            Err(err) => return log::error!("cannot handle signals: {err}"),
        };
        self.signals = Some(signals.handle());
        let events = self.events.clone();
        let watch = move || signals.forever().for_each(|s| drop(events.send(Event::Signal(s))));
        if let Err(err) = std::thread::Builder::new().name("signals".to_owned()).spawn(watch) {
            log::error!("cannot handle signals: {err}");
        }
    }

    /// Asks for a drain, which begins after the notice that is configured; [`Running::wait`] returns when it is over.
    pub fn drain(&self) {
        let _ = self.events.send(Event::Drain);
    }

    /// Drains and waits.
    pub fn stop(self) -> Exit {
        self.drain();
        self.wait()
    }

    /// Serves until it ends, one way or another.
    pub fn wait(mut self) -> Exit {
        loop {
            let event = match self.leaving.poll_timeout() {
                None => self.on_event.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.on_event.recv_deadline(at),
            };
            let ended = match event {
                Ok(Event::FleetEnded(outcome)) => Some(self.fleet_ended(outcome)),
                Ok(Event::Signal(SIGHUP)) => {
                    // Who drains begins nothing that could be served from what is new.
                    if !self.leaving.stage().has_begun_to_drain() {
                        self.reload();
                    }
                    None
                }
                Ok(Event::Signal(signal)) => self.ask(Ask::Signal(signal), name(signal)),
                Ok(Event::Drain) => self.ask(Ask::Order, "asked to drain"),
                Ok(Event::Cluster(nudge)) => match self.handle_nudge(nudge) {
                    Some((from, Order::Drain)) => {
                        self.ask(Ask::Order, &format!("asked through node {from} to drain"))
                    }
                    None => None,
                },
                Ok(Event::StdioClosed) => {
                    self.stdio_open = false;
                    self.ask(Ask::StdinEnd, "stdin is at its end")
                }
                Err(RecvTimeoutError::Timeout) => {
                    let step = self.leaving.handle_timeout(Instant::now());
                    step.and_then(|step| self.take(step, "the notice is over"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    log::error!("the shards left unasked");
                    Some(Exit::ShardDied)
                }
            };
            if let Some(exit) = ended {
                return exit;
            }
        }
    }

    /// Somebody wants it to leave. `why` is for the log.
    fn ask(&mut self, ask: Ask, why: &str) -> Option<Exit> {
        let Some(step) = self.leaving.handle_ask(Instant::now(), ask) else {
            if matches!(ask, Ask::Signal(_)) && self.leaving.stage() != Stage::Abort {
                log::info!("{why}: it is leaving already; once more to leave at once");
            }
            return None;
        };
        self.take(step, why)
    }

    /// The next step on the way out. `Some`: it was the last.
    fn take(&mut self, step: Step, why: &str) -> Option<Exit> {
        let (stage, plan) = (self.leaving.stage(), self.leaving.plan());
        // First of all: what is refused from here on must not look ready.
        self.control.set_stage(stage);
        match step {
            Step::Notice => {
                log::info!(
                    "{why}: not ready any more; serving for {} ms as before, then draining",
                    plan.notice.as_millis()
                );
                crate::notify::stopping(plan.rest(stage));
                self.tell_all(|| Mail::Engine(EngineMail::Notice));
            }
            Step::Drain => {
                log::info!("{why}: draining for at most {} ms", plan.drain.as_millis());
                crate::notify::stopping(plan.rest(stage));
                let deadline_ms = u64::try_from(plan.drain.as_millis()).unwrap_or(u64::MAX);
                self.tell_all(|| Mail::Drain { deadline_ms });
            }
            Step::Abort => {
                match self.leaving.exit() {
                    Exit::Aborted(_) => log::warn!("{why} again: leaving at once"),
                    _ => log::warn!("shards did not leave in time"),
                }
                self.tell_all(|| Mail::Abort);
            }
            Step::GiveUp => {
                log::error!("shards do not leave; leaving without them");
                // Joining them would wait as long as they hang.
                self.joiner = None;
                return Some(self.leaving.exit());
            }
        }
        None
    }

    /// The last shard has left.
    fn fleet_ended(&mut self, outcome: Result<Summary, Panicked>) -> Exit {
        let is_asked = self.leaving.stage().has_begun_to_drain();
        match outcome {
            Ok(summary) if is_asked => {
                log::info!("drained; {} connections were cut", summary.cut);
                self.flush_stdio();
                self.leaving.exit()
            }
            Ok(_) => {
                log::error!("the shards left unasked");
                Exit::ShardDied
            }
            Err(panicked) if is_asked => {
                log::error!("{panicked}, while draining");
                Exit::ShardDied
            }
            Err(panicked) => {
                log::error!(
                    "{panicked}; the whole server stops, because half of one looks healthy"
                );
                Exit::ShardDied
            }
        }
    }

    /// The shard closed the pipe; its last bytes may still be on their way through us.
    fn flush_stdio(&mut self) {
        let deadline = Instant::now() + STDIO_GRACE;
        while self.stdio_open {
            match self.on_event.recv_deadline(deadline) {
                Ok(Event::StdioClosed) | Err(_) => self.stdio_open = false,
                Ok(_) => {}
            }
        }
    }

    /// Reads the catalog file and the cluster's secret anew; what is wrong with one of them changes nothing.
    fn reload(&mut self) {
        crate::notify::reloading();
        match &self.catalog_file {
            None => log::info!("SIGHUP: the catalog is built in, there is nothing to read anew"),
            Some(path) => {
                match Catalog::load(path).and_then(|catalog| self.catalog.replace(catalog)) {
                    Ok(()) => log::info!("SIGHUP: serving {} as it is now", path.display()),
                    Err(err) => log::error!("SIGHUP: still serving the old catalog: {err}"),
                }
            }
        }
        self.reload_secret();
        crate::notify::ready();
    }

    fn reload_secret(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        match cluster.reread() {
            Ok(false) if cluster.is_secret_a_credential() => log::info!(
                "SIGHUP: the cluster's secret is what it was when the unit started (LoadCredential=): a new one \
                 needs a restart of the unit"
            ),
            Ok(false) => log::info!("SIGHUP: the cluster's secret is what it was"),
            Ok(true) => {
                let (secrets, keys) = (cluster.secrets().clone(), cluster.keyring());
                log::info!(
                    "SIGHUP: the cluster's secret was replaced: {secrets:?}, the first one seals"
                );
                self.tell_all(|| Mail::Secrets(secrets.clone()));
                self.tell_all(|| Mail::Engine(EngineMail::Keys(keys.clone())));
            }
            Err(err) => log::error!("SIGHUP: still using the old secret: {err}"),
        }
    }

    fn handle_nudge(&mut self, nudge: Nudge) -> Option<(u16, Order)> {
        self.cluster.as_mut()?.handle_nudge(nudge)
    }

    fn tell_all(&self, letter: impl Fn() -> Mail) {
        erlmcp_shards::fleet::post_all(&self.posts, letter);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(signals) = self.signals.take() {
            signals.close();
        }
        if let Some(joiner) = self.joiner.take() {
            if !joiner.is_finished() {
                self.tell_all(|| Mail::Abort);
            }
            let _ = joiner.join();
        }
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP",
        _ => "a signal",
    }
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
