//! A thread of the load: several rings, the clients on them, and what they are told to do.
//!
//! A ring holds no more connections than a process may open descriptors, so a thread has as many rings as its
//! clients need. It sleeps in the first; the others ring that one's bell.
//!
//! [`arrivals`] and [`calls`] say who is next, without a socket; here that is done; [`traffic`] is what the kernel
//! answers, [`orders`] what the crew commands.
//!
//! Invariant: a client with a connection is the owner of its slot.

mod arrivals;
mod calls;
mod orders;
mod traffic;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use erlmcp_shards::io::{Completion, Io};
use rustix::time::{ClockId, clock_gettime};

use super::client::Client;
use super::kind::Kind;
use super::plan::{Command, Plan, Report, Work};
use super::pulse::{Pulse, WINDOW_US, Window, add};
use super::rings::{Ring, dial_here, rings};
use super::setup::TARGETS_MAX;
use super::talk::{Event, Talk};
use super::voice::Voice;
use arrivals::{Arrival, Arrivals};
use calls::Calls;

/// Faults told by one thread.
const FAULTS_TOLD: u32 = 5;
/// Connections under way at once, of one thread: fewer than a listener's backlog.
const CONNECTING_MAX: u64 = 512;
/// Connections begun in one turn.
const OPENS_PER_TURN: u32 = 128;
/// Connections begun in one turn where the kernel cannot do it in the ring.
const DIALS_PER_TURN: u32 = 32;
/// Calls begun in one turn of a closed loop that starts.
const STARTS_PER_TURN: usize = 2048;
/// Without anything due a thread sleeps no longer, so that it hears commands.
const SLEEP_US_MAX: u64 = 20_000;
/// What is due within this is waited for awake.
const AWAKE_US: u64 = 20;
/// The thread's state; lives on the thread.
pub struct Worker {
    plan: Arc<Plan>,
    pulse: Arc<Pulse>,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    can_connect: bool,
    rings: Vec<Ring>,
    clients: Vec<Client>,
    /// One for each target.
    voices: Vec<Voice>,
    arrivals: Arrivals,
    calls: Calls,
    window: Window,
    window_index: u64,
    faults_told: u32,
    completions: Vec<Completion>,
    pool: Vec<Vec<u8>>,
    events: Vec<Event>,
    now: u64,
}

impl Worker {
    /// On the thread that will run it.
    pub fn new(
        plan: Arc<Plan>,
        pulse: Arc<Pulse>,
        number: usize,
        commands: Receiver<Command>,
        reports: Sender<Report>,
    ) -> Result<Self, String> {
        if !plan.cores.is_empty() {
            let id = plan.cores[number % plan.cores.len()];
            if !core_affinity::set_for_current(core_affinity::CoreId { id }) {
                return Err(format!("cannot run on core {id}"));
            }
        }
        // Timers of this thread shall fire when they are due and not when it suits the kernel; without the
        // right to ask for it calls are a little later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let rings = rings(plan.rings, plan.ring_capacity).map_err(|err| {
            format!("cannot build {} rings of {}: {err}", plan.rings, plan.ring_capacity)
        })?;
        let first_id = number as u64 * IDS_PER_THREAD;
        Ok(Self {
            can_connect: rings.iter().all(|ring| ring.io.can_connect()),
            voices: voices(&plan, first_id),
            arrivals: Arrivals::new(&plan.mix, number, plan.targets.len()),
            calls: Calls::new(),
            window_index: plan.clock.us() / WINDOW_US,
            now: plan.clock.us(),
            plan,
            pulse,
            commands,
            reports,
            rings,
            clients: Vec::new(),
            window: Window::default(),
            faults_told: 0,
            completions: Vec::new(),
            pool: Vec::new(),
            events: Vec::new(),
        })
    }

    /// Until nobody commands any more.
    pub fn run(mut self) {
        loop {
            self.now = self.plan.clock.us();
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.open_more();
            self.call_due();
            self.turn();
            self.close_window();
        }
    }

    /// Begins connections, as many as may be under way.
    fn open_more(&mut self) {
        let budget = if self.can_connect { OPENS_PER_TURN } else { DIALS_PER_TURN };
        for _ in 0..budget {
            if CONNECTING_MAX <= self.pulse.connecting.load(Ordering::Relaxed) {
                return;
            }
            let there = self.clients.len() as u32;
            let client = match self.arrivals.next(there, self.now) {
                None => return,
                Some(Arrival::Again(client)) => client,
                Some(Arrival::New(kind, target)) => {
                    let ring = (there as usize % self.rings.len()) as u16;
                    self.clients.push(Client::new(Talk::new(kind), ring, target));
                    there
                }
            };
            self.connect(client);
        }
    }

    fn connect(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        state.talk = Talk::new(state.talk.kind());
        state.asked_us = self.now;
        state.used_us = self.now;
        let ring = usize::from(state.ring);
        let target = &self.plan.targets[usize::from(state.target)];
        let target = match (state.talk.kind(), target.tcp) {
            (Kind::Tcp, Some(tcp)) => tcp,
            _ => target.http,
        };
        let dial = self.plan.dials.fetch_add(1, Ordering::Relaxed);
        let source = self.plan.sources.of(dial, target);
        add(&self.pulse.connecting, 1);
        if self.can_connect {
            return self.rings[ring].io.connect(client, target, source, None);
        }
        let adopted =
            dial_here(target, source).and_then(|socket| self.rings[ring].io.adopt(socket.into()));
        let result = adopted
            .map_err(|err| err.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error()));
        self.connected(ring, client, result);
    }

    /// Begins the calls that are due, or that a closed loop has not begun yet.
    fn call_due(&mut self) {
        if self.calls.work() == Work::Closed {
            for _ in 0..STARTS_PER_TURN {
                let Some(client) = self.next_idle() else { return };
                self.call(client, self.now);
            }
        }
        while let Some(at) = self.calls.due(self.now) {
            self.window.lag(self.now - at);
            match self.next_idle() {
                Some(client) => self.call(client, at),
                None if self.calls.wait(at) => {}
                None => add(&self.pulse.missed, 1),
            }
        }
    }

    fn next_idle(&mut self) -> Option<u32> {
        let Self { calls, clients, .. } = self;
        calls.next_idle(|client| {
            let client = &clients[client as usize];
            client.is_open() && client.talk.is_idle()
        })
    }

    fn call(&mut self, client: u32, at_us: u64) {
        let state = &mut self.clients[client as usize];
        let unused = self.now.saturating_sub(state.used_us);
        if self.pulse.unused_us_max.load(Ordering::Relaxed) < unused {
            self.pulse.unused_us_max.store(unused, Ordering::Relaxed);
        }
        (state.asked_us, state.used_us) = (at_us, self.now);
        if state.out.capacity() == 0 {
            state.out = self.pool.pop().unwrap_or_default();
        }
        state.talk.call(&mut self.voices[usize::from(state.target)], &mut state.out);
        state.transmit(&mut self.rings[usize::from(state.ring)].io);
    }

    /// Turns every ring once; waits in the first if there is nothing else to do.
    fn turn(&mut self) {
        let mut busy = false;
        for ring in (0..self.rings.len()).rev() {
            let wait = if ring == 0 && !busy { self.sleep() } else { None };
            let mut completions = std::mem::take(&mut self.completions);
            self.rings[ring].io.turn_within(wait, &mut completions);
            busy |= !completions.is_empty();
            self.now = self.plan.clock.us();
            for completion in completions.drain(..) {
                self.complete(ring, completion);
            }
            self.completions = completions;
            for id in std::mem::take(&mut self.rings[ring].rearm) {
                let Some(client) = self.owner(ring, id) else { continue };
                let (state, io) = (&mut self.clients[client as usize], &mut self.rings[ring].io);
                // It may have been closed since, by what came after in the same turn.
                if state.is_open() { io.recv(id) } else { state.deafened(io) }
            }
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Option<Duration> {
        let can_open = self.pulse.connecting.load(Ordering::Relaxed) < CONNECTING_MAX
            && self.arrivals.is_open(self.clients.len() as u32);
        let next_arrival = self.arrivals.next_us();
        if self.calls.is_starting() || (can_open && next_arrival.is_none()) {
            return None;
        }
        let now = self.plan.clock.us();
        let due = [self.calls.next_us(), next_arrival.filter(|_| can_open)];
        let window_end = (self.window_index + 1) * WINDOW_US;
        let until = due.into_iter().flatten().fold(window_end, u64::min);
        let wait = until.saturating_sub(now).min(SLEEP_US_MAX);
        (AWAKE_US <= wait).then(|| Duration::from_micros(wait))
    }

    fn fault(&mut self, why: &str) {
        self.faults_told += 1;
        if self.faults_told <= FAULTS_TOLD {
            let _ = self.reports.send(Report::Fault(why.to_owned()));
        }
    }

    /// Tells of a window when it is over.
    fn close_window(&mut self) {
        let index = self.now / WINDOW_US;
        if index == self.window_index {
            return;
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
        self.pulse.cpu_ns.store(cpu_ns, Ordering::Relaxed);
        let window = std::mem::take(&mut self.window);
        if !window.is_empty() {
            let _ = self.reports.send(Report::Window(self.window_index, Box::new(window)));
        }
        self.window_index = index;
        // After what it told: who reads this has it all.
        self.pulse.window.store(index, Ordering::Release);
    }
}

/// What a thread says to each target; ids are nowhere the same.
fn voices(plan: &Plan, first_id: u64) -> Vec<Voice> {
    let ids = (0..).map(|target| first_id + target * IDS_PER_TARGET);
    plan.says.iter().zip(ids).map(|(say, id)| Voice::new(say.clone(), plan.greets, id)).collect()
}

/// Ids of one thread.
const IDS_PER_THREAD: u64 = 10_000_000_000;
/// Ids of one target of a thread.
const IDS_PER_TARGET: u64 = IDS_PER_THREAD / TARGETS_MAX as u64;
