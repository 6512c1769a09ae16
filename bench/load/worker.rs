//! A thread of the load: several rings, the clients on them, and what they are told to do.
//!
//! A ring holds no more connections than a process may open descriptors, so a thread has as many rings as its
//! clients need. It sleeps in the first; the others ring that one's bell.
//!
//! Invariants: a client with a connection is the owner of its slot; an idle caller stands in `idle` once; a
//! call that is due waits in `late` only while no caller is idle.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use erlmcp_shards::io::{Completion, ConnId, Io, RecvEnd};
use rustix::time::{ClockId, clock_gettime};

use super::client::Client;
use super::kind::{Deal, Kind};
use super::plan::{Census, Command, Plan, Report, Roamed, Work};
use super::pulse::{Pulse, WINDOW_US, Window, add, take};
use super::rings::{Owner, Ring, dial_here, rings};
use super::roam::{Place, home, lend};
use super::schedule::Schedule;
use super::setup::TARGETS_MAX;
use super::talk::{Event, Talk};
use super::voice::Voice;

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
/// Calls that are due while no connection is free. More are missed, and counted.
const LATE_MAX: usize = 1_000_000;
/// Without anything due a thread sleeps no longer, so that it hears commands.
const SLEEP_US_MAX: u64 = 20_000;
/// What is due within this is waited for awake.
const AWAKE_US: u64 = 20;
/// Send buffers kept for reuse.
const POOL_MAX: usize = 4096;
/// Latest moment that is told apart.
const LATENCY_NOT_YET: u64 = u64::MAX;

/// The thread's state; lives on the thread.
pub struct Worker {
    plan: Arc<Plan>,
    pulse: Arc<Pulse>,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    can_connect: bool,
    rings: Vec<Ring>,
    clients: Vec<Client>,
    deal: Deal,
    /// One for each target.
    voices: Vec<Voice>,
    spread: Spread,
    work: Work,
    schedule: Option<Schedule>,
    idle: VecDeque<u32>,
    late: VecDeque<u64>,
    /// Clients that shall connect again.
    back: VecDeque<u32>,
    wanted: u32,
    pace: Option<Schedule>,
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
            spread: Spread::new(number, plan.targets.len()),
            deal: plan.mix.deal(),
            window_index: plan.clock.us() / WINDOW_US,
            now: plan.clock.us(),
            plan,
            pulse,
            commands,
            reports,
            rings,
            clients: Vec::new(),
            work: Work::Rest,
            schedule: None,
            idle: VecDeque::new(),
            late: VecDeque::new(),
            back: VecDeque::new(),
            wanted: 0,
            pace: None,
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

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { clients, per_s } => {
                self.wanted = clients;
                self.pace = per_s.map(|per_s| Schedule::new(self.now, per_s));
            }
            Command::Work(work) => {
                self.work = work;
                self.late.clear();
                self.schedule = match work {
                    Work::Rate { from_us, per_s } => Some(Schedule::new(from_us, per_s)),
                    _ => None,
                };
                if work == Work::Churn {
                    for client in std::mem::take(&mut self.idle) {
                        self.leave(client);
                    }
                }
            }
            Command::Deafen(count) => self.deafen(count),
            Command::Hear => {
                for client in self.clients.iter_mut().filter(|client| client.is_deaf()) {
                    client.read_again(&mut self.rings[usize::from(client.ring)].io);
                }
            }
            Command::Close => {
                self.work = Work::Rest;
                self.wanted = 0;
                self.back.clear();
                self.late.clear();
                self.schedule = None;
                for client in 0..self.clients.len() as u32 {
                    self.leave(client);
                }
            }
            Command::Roam(place) => {
                let roamed = self.roam(place);
                let _ = self.reports.send(Report::Roamed(roamed));
            }
            Command::Count => {
                let targets = vec![0; self.plan.targets.len()];
                let mut census = Census { targets, ..Census::default() };
                for client in self.clients.iter().filter(|client| client.is_open()) {
                    if client.talk.is_settled() {
                        census.ready[client.talk.kind() as usize] += 1;
                        census.targets[usize::from(client.target)] += 1;
                        let unused = self.now.saturating_sub(client.used_us);
                        census.unused_us_max = census.unused_us_max.max(unused);
                    }
                }
                // Nobody to tell means that the run is over.
                let _ = self.reports.send(Report::Census(census));
            }
        }
    }

    /// Lends sessions among the connections of this thread.
    fn roam(&mut self, place: Place) -> Roamed {
        let own = |client: &Client| home(client.talk.session().filter(|_| client.is_open())?);
        let (mut indices, mut homes) = (Vec::new(), Vec::new());
        let busy = self.clients.iter().filter(|one| one.is_open() && one.talk.is_busy());
        let mut roamed = Roamed { busy: busy.count() as u64, ..Roamed::default() };
        if roamed.busy != 0 {
            return roamed;
        }
        let callers = self.clients.iter().enumerate();
        for (index, client) in callers.filter(|(_, client)| client.talk.is_idle()) {
            match own(client) {
                Some(home) => (indices.push(index), homes.push(home)),
                None => ((), roamed.left += 1),
            };
        }
        for (index, owner) in indices.iter().zip(lend(&homes, place)) {
            let owner = owner.map(|owner| indices[owner]);
            roamed.placed += u64::from(owner.is_some());
            roamed.left += u64::from(owner.is_none());
            let lender = owner.filter(|owner| owner != index);
            let session = lender.and_then(|owner| self.clients[owner].talk.session());
            let session = session.map(Box::from);
            self.clients[*index].talk.borrow(session);
        }
        roamed
    }

    fn deafen(&mut self, count: u32) {
        let Self { clients, rings, .. } = self;
        let listeners = clients.iter_mut().filter(|client| {
            client.is_open() && client.talk.is_settled() && !client.talk.kind().is_caller()
        });
        for client in listeners.take(count as usize) {
            client.stop_reading(&mut rings[usize::from(client.ring)].io);
        }
    }

    /// Begins connections, as many as may be under way.
    fn open_more(&mut self) {
        let budget = if self.can_connect { OPENS_PER_TURN } else { DIALS_PER_TURN };
        for _ in 0..budget {
            let connecting = self.pulse.connecting.load(Ordering::Relaxed);
            let is_new = (self.clients.len() as u32) < self.wanted;
            if CONNECTING_MAX <= connecting || (!is_new && self.back.is_empty()) {
                return;
            }
            if let Some(pace) = &mut self.pace
                && pace.take(self.now).is_none()
            {
                return;
            }
            let client = match self.back.pop_front() {
                Some(client) => client,
                None => {
                    let client = self.clients.len() as u32;
                    let kind = self.deal.next().unwrap_or(Kind::Http);
                    let ring = (client as usize % self.rings.len()) as u16;
                    let target = self.spread.next(kind);
                    self.clients.push(Client::new(Talk::new(kind), ring, target));
                    client
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
        if self.work == Work::Closed {
            for _ in 0..STARTS_PER_TURN {
                let Some(client) = self.next_idle() else { return };
                self.call(client, self.now);
            }
        }
        let Some(schedule) = &mut self.schedule else { return };
        let mut due = Vec::new();
        while let Some(at) = schedule.take(self.now) {
            self.window.lag(self.now - at);
            due.push(at);
        }
        for at in due {
            match self.next_idle() {
                Some(client) => self.call(client, at),
                None if self.late.len() < LATE_MAX => self.late.push_back(at),
                None => add(&self.pulse.missed, 1),
            }
        }
    }

    /// The caller that has waited longest.
    fn next_idle(&mut self) -> Option<u32> {
        loop {
            let client = self.idle.pop_front()?;
            let state = &self.clients[client as usize];
            if state.is_open() && state.talk.is_idle() {
                return Some(client);
            }
        }
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
            && ((self.clients.len() as u32) < self.wanted || !self.back.is_empty());
        let is_starting = self.work == Work::Closed && !self.idle.is_empty();
        if is_starting || (can_open && self.pace.is_none()) {
            return None;
        }
        let now = self.plan.clock.us();
        let pace = self.pace.filter(|_| can_open);
        let due = [self.schedule, pace].into_iter().flatten().map(|one| one.next_us()).min();
        let until = due.unwrap_or(LATENCY_NOT_YET).min((self.window_index + 1) * WINDOW_US);
        let wait = until.saturating_sub(now).min(SLEEP_US_MAX);
        (AWAKE_US <= wait).then(|| Duration::from_micros(wait))
    }

    fn complete(&mut self, ring: usize, completion: Completion) {
        match completion {
            Completion::Received { id, chunk } => {
                let Some(client) = self.owner(ring, id) else {
                    return self.rings[ring].io.recycle(chunk);
                };
                let io = &mut self.rings[ring].io;
                let state = &mut self.clients[client as usize];
                let target = state.target;
                state.used_us = self.now;
                let heard = hear(
                    state,
                    &mut self.voices[usize::from(target)],
                    io.bytes(&chunk),
                    &mut self.pool,
                    &mut self.events,
                );
                io.recycle(chunk);
                self.heard(client, heard);
            }
            Completion::Sent { id, mut buffer, result } => {
                let whole = buffer.len();
                if self.pool.len() < POOL_MAX {
                    buffer.clear();
                    self.pool.push(buffer);
                }
                let Some(client) = self.owner(ring, id) else { return };
                let state = &mut self.clients[client as usize];
                let was_open = state.is_open();
                state.sent(&mut self.rings[ring].io);
                if was_open && result != Ok(whole) {
                    self.end(client, &format!("a send ended with {result:?}"));
                } else {
                    let state = &mut self.clients[client as usize];
                    state.transmit(&mut self.rings[ring].io);
                }
            }
            Completion::RecvEnded { id, why } => {
                let Some(client) = self.owner(ring, id) else { return };
                let state = &mut self.clients[client as usize];
                let is_open = state.is_open();
                match why {
                    RecvEnd::NoBuffers | RecvEnd::Rearm if is_open && !state.is_deaf() => {
                        self.rings[ring].rearm.push(id);
                    }
                    why => {
                        state.deafened(&mut self.rings[ring].io);
                        let is_meant = state.is_deaf()
                            && matches!(
                                why,
                                RecvEnd::Cancelled | RecvEnd::NoBuffers | RecvEnd::Rearm
                            );
                        if is_open && !is_meant {
                            self.end(client, &format!("the server ended a connection: {why:?}"));
                        }
                    }
                }
            }
            Completion::Connected { token, result } => self.connected(ring, token, result),
            Completion::Closed { slot } => {
                let Some(owner) = self.rings[ring].owners.get(slot as usize) else { return };
                let client = owner.client;
                self.clients[client as usize].closed();
                if self.work == Work::Churn {
                    self.back.push_back(client);
                }
            }
            Completion::Accepted { .. } | Completion::AcceptEnded { .. } | Completion::Bell => {}
        }
    }

    fn owner(&self, ring: usize, id: ConnId) -> Option<u32> {
        let owner = self.rings[ring].owners.get(id.slot as usize)?;
        (owner.generation == id.generation).then_some(owner.client)
    }

    fn connected(&mut self, ring: usize, client: u32, result: Result<u32, i32>) {
        take(&self.pulse.connecting, 1);
        let slot = match result {
            Ok(slot) => slot,
            Err(errno) => {
                add(&self.pulse.failed, 1);
                self.fault(&format!("cannot connect: {}", io::Error::from_raw_os_error(errno)));
                if self.work == Work::Churn {
                    self.back.push_back(client);
                }
                return;
            }
        };
        let Ring { io, owners, .. } = &mut self.rings[ring];
        let index = slot as usize;
        if owners.len() <= index {
            owners.resize(index + 1, Owner::default());
        }
        let generation = owners[index].generation.wrapping_add(1) & GENERATION_MASK;
        owners[index] = Owner { client, generation };
        let state = &mut self.clients[client as usize];
        state.opened(io, ConnId { slot, generation });
        let voice = &mut self.voices[usize::from(state.target)];
        let is_ready = state.talk.begin(voice, &mut state.out);
        state.transmit(io);
        if is_ready {
            self.arrived(client);
        }
    }

    /// Acts on what a client heard.
    fn heard(&mut self, client: u32, heard: Result<(), String>) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Quiet => {}
                Event::Ready => self.arrived(client),
                Event::Right => {
                    let state = &self.clients[client as usize];
                    let us = self.now.saturating_sub(state.asked_us);
                    self.window.call(state.talk.kind(), us);
                    add(&self.pulse.right, 1);
                    self.rest(client);
                }
                Event::Wrong(why) => {
                    self.window.wrong += 1;
                    add(&self.pulse.wrong, 1);
                    self.fault(&why);
                    self.rest(client);
                }
                Event::Updates(count) => {
                    let since =
                        self.now.saturating_sub(self.plan.published_us.load(Ordering::Relaxed));
                    (0..count).for_each(|_| self.window.update(since));
                    add(&self.pulse.updates, u64::from(count));
                    self.pulse.update_last_us.store(self.now, Ordering::Relaxed);
                }
            }
        }
        match heard {
            Ok(()) => {
                let state = &mut self.clients[client as usize];
                state.transmit(&mut self.rings[usize::from(state.ring)].io);
            }
            Err(why) => self.end(client, &why),
        }
    }

    fn arrived(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        self.window.connect(self.now.saturating_sub(state.asked_us));
        state.used_us = self.now;
        add(&self.pulse.ready, 1);
        add(&self.pulse.arrived, 1);
        if state.talk.kind().is_caller() {
            self.rest(client);
        } else if self.work == Work::Churn {
            self.leave(client);
        }
    }

    /// A caller is free: what is next?
    fn rest(&mut self, client: u32) {
        match self.work {
            Work::Rest => self.idle.push_back(client),
            Work::Closed => self.call(client, self.now),
            Work::Rate { .. } => match self.late.pop_front() {
                Some(at) => self.call(client, at),
                None => self.idle.push_back(client),
            },
            Work::Churn => self.leave(client),
        }
    }

    /// A client leaves of its own will.
    fn leave(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        let was_ready = state.talk.is_settled();
        if state.close(&mut self.rings[usize::from(state.ring)].io) && was_ready {
            take(&self.pulse.ready, 1);
        }
    }

    /// A client's conversation ended against its will.
    fn end(&mut self, client: u32, why: &str) {
        let state = &mut self.clients[client as usize];
        let (was_ready, was_busy) = (state.talk.is_settled(), state.talk.is_busy());
        if !state.close(&mut self.rings[usize::from(state.ring)].io) {
            return;
        }
        if was_ready {
            take(&self.pulse.ready, 1);
            add(&self.pulse.lost, 1);
        } else {
            add(&self.pulse.failed, 1);
        }
        if was_busy {
            self.window.wrong += 1;
            add(&self.pulse.wrong, 1);
        }
        let kind = self.clients[client as usize].talk.kind().as_str();
        self.fault(&format!("{kind}: {why}"));
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

/// Lets a client take what arrived; keeps what it did not take.
fn hear(
    client: &mut Client,
    voice: &mut Voice,
    bytes: &[u8],
    pool: &mut Vec<Vec<u8>>,
    events: &mut Vec<Event>,
) -> Result<(), String> {
    if !client.is_open() {
        return Ok(());
    }
    if client.out.capacity() == 0 {
        client.out = pool.pop().unwrap_or_default();
    }
    let mut kept = std::mem::take(&mut client.kept);
    let mut input = bytes;
    if !kept.is_empty() {
        kept.extend_from_slice(bytes);
        input = &kept;
    }
    while !input.is_empty() {
        let (used, event) = client.talk.read(voice, input, &mut client.out)?;
        if event != Event::Quiet {
            events.push(event);
        }
        if used == 0 {
            break;
        }
        input = &input[used..];
    }
    if !input.is_empty() {
        client.kept = input.to_vec();
    }
    if client.out.is_empty() && pool.len() < POOL_MAX {
        pool.push(std::mem::take(&mut client.out));
    }
    Ok(())
}

/// Whom each client of a thread talks to: of every kind as many to each target, and threads do not all begin
/// with the same.
#[derive(Debug)]
struct Spread {
    next: [usize; 6],
    targets: usize,
}

impl Spread {
    fn new(thread: usize, targets: usize) -> Self {
        Self { next: std::array::from_fn(|kind| thread + kind), targets }
    }

    fn next(&mut self, kind: Kind) -> u16 {
        let next = &mut self.next[kind as usize];
        let target = *next % self.targets;
        *next += 1;
        target as u16
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
/// Generations travel in 24 bits.
const GENERATION_MASK: u32 = 0xFF_FFFF;
