//! The loop of one shard: ring, connections, timers, mail, service. Lives: one per pinned thread.
//!
//! A turn runs in phases, each with a budget: reap, feed, fire, drain the inbox, transmit. Reaping only
//! sorts; nothing acts there. Everything produced leaves with the one syscall that begins the next turn.
//!
//! Invariants: a turn blocks only when no connection has input waiting, no mail is known and the inbox is
//! parked; every receive buffer goes back to the kernel in the turn it came; a receive that ended for want of
//! buffers is armed after that.

use crate::config::Limits;
use crate::conn::{Conns, Due, MeshMail, Speaks};
use crate::io::{Completion, Io, Millis};
use crate::mail::{Inbox, Post};
use crate::mesh::MeshSeat;
use crate::message::Mail;
use crate::net::Net;
use crate::service::Service;
use crate::stats::{Counters, ShardSnapshot};

/// Timer reminders looked at in one turn.
const TIMERS_PER_TURN: usize = 4096;
/// Letters read in one turn.
const LETTERS_PER_TURN: usize = 256;
/// No sleep is longer, milliseconds.
const SLEEP_MS_MAX: Millis = 60_000;
/// While a send is in flight that no timer watches yet, no sleep is longer, milliseconds.
const FLYING_SLEEP_MS_MAX: Millis = 1_000;
/// While mail waits for room at another shard, no sleep is longer, milliseconds.
const UNSENT_SLEEP_MS_MAX: Millis = 1;
/// How long an accept that failed for want of descriptors or memory rests, milliseconds.
const ACCEPT_REST_MS: Millis = 100;
/// Slots kept free of served connections, so that there is room to refuse the others politely.
const REFUSAL_SLOTS: u32 = 64;
/// Slots kept free altogether: a multishot accept is not stopped at once, and what it accepts into a full
/// table is lost.
const SPARE_SLOTS: u32 = 16;

/// What comes in on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// HTTP/1.1, WebSocket by upgrade.
    Http,
    /// Newline-delimited JSON.
    Lines,
    /// Links of other nodes.
    Mesh,
}

/// Plain facts about one shard.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard of the process.
    pub index: u16,
    /// Its core, when pinned.
    pub core: Option<usize>,
    /// Its limits.
    pub limits: Limits,
    /// What its listeners speak, in the order of the ring's [`crate::io::ListenerIndex`].
    pub listeners: Vec<ListenerKind>,
    /// Its place in a mesh, if it is in one.
    pub mesh: Option<MeshSeat>,
}

/// How a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Clients it ever accepted, refused ones included.
    pub accepted: u64,
    /// Connections cut because the drain's deadline passed, or because it was told to leave at once.
    pub cut: u32,
}

struct Listener {
    speaks: Speaks,
    state: Accepting,
}

/// What the ring does for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    /// Nothing; arm it when there is room.
    Off,
    /// Multishot accept armed.
    On,
    /// Its cancellation was submitted.
    Stopping,
    /// The kernel had no room: wait for a close, or a little.
    Resting,
    /// Closed for good.
    Closed,
}

/// One shard. [`Shard::run`] it on the thread that built its ring.
pub struct Shard<I: Io, S: Service> {
    io: I,
    service: S,
    conns: Conns,
    inbox: Inbox<Mail>,
    index: u16,
    core: Option<usize>,
    listeners: Vec<Listener>,
    /// Occupied slots from which on accepting stops.
    stop_at: u32,
    is_full: bool,
    /// Letters may be left from the last turn.
    has_mail: bool,
    drain_until: Option<Millis>,
    is_over: bool,
    accepted: u64,
    turns: u64,
    parked: u64,
    completions: Vec<Completion>,
    arrivals: Vec<Completion>,
    reminders: Vec<(Millis, Due)>,
    letters: Vec<Mail>,
}

impl<I: Io, S: Service> Shard<I, S> {
    /// A shard that accepts from its first turn on.
    pub fn new(
        config: ShardConfig,
        mut io: I,
        service: S,
        mail: (Post<Mail>, Inbox<Mail>),
    ) -> Self {
        let (post, inbox) = mail;
        let mut seed = [0; 32];
        io.random(&mut seed);
        let capacity = io.capacity();
        let refuse_at = capacity - REFUSAL_SLOTS.min(capacity / 4);
        let refuse_at = match config.limits.connections_max {
            0 => refuse_at,
            most => refuse_at.min(most),
        };
        let stop_at = capacity - SPARE_SLOTS.min(capacity / 8);
        let listeners = config.listeners.iter().map(|kind| Listener {
            speaks: match kind {
                ListenerKind::Http => Speaks::Http,
                ListenerKind::Lines => Speaks::Lines,
                ListenerKind::Mesh => Speaks::Mesh,
            },
            state: Accepting::Off,
        });
        let mut conns = Conns::new(config.limits, post, &seed, io.now(), refuse_at);
        if let Some(seat) = config.mesh {
            conns.join(seat);
        }
        Self {
            conns,
            service,
            inbox,
            index: config.index,
            core: config.core,
            listeners: listeners.collect(),
            stop_at,
            is_full: false,
            has_mail: false,
            drain_until: None,
            is_over: false,
            accepted: 0,
            turns: 0,
            parked: 0,
            completions: Vec::new(),
            arrivals: Vec::new(),
            reminders: Vec::new(),
            letters: Vec::new(),
            io,
        }
    }

    /// Serves until drained or told to leave.
    pub fn run(mut self) -> Summary {
        while !self.is_over() {
            self.turn();
        }
        // What the last turn said to the other shards may be what they wait for: their bells are still to be rung.
        self.transmit();
        self.io.turn(None, &mut self.completions);
        self.summary()
    }

    /// One turn of the loop.
    pub fn turn(&mut self) {
        self.transmit();
        let wait = self.sleep();
        self.io.turn(wait, &mut self.completions);
        self.inbox.unpark();
        self.turns += 1;
        self.conns.handle_time(self.io.now(), self.io.unix_ms());
        self.conns.send_unsent();
        self.reap();
        self.feed();
        self.fire();
        self.read_mail();
        self.check_drain();
    }

    /// Whether the shard is done: drained, past the drain's deadline, or told to leave.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// What is served.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// How it went.
    pub fn summary(&self) -> Summary {
        Summary { accepted: self.accepted, cut: self.conns.clients() }
    }

    /// How long this turn may block: `None` when there is work that needs no completion.
    fn sleep(&mut self) -> Option<Millis> {
        if self.conns.has_ready() || self.has_mail || !self.inbox.park() {
            return None;
        }
        self.parked += 1;
        let now = self.conns.now();
        let longest = match (self.conns.has_unsent(), self.conns.has_flying()) {
            (true, _) => UNSENT_SLEEP_MS_MAX,
            (false, true) => FLYING_SLEEP_MS_MAX,
            (false, false) => SLEEP_MS_MAX,
        };
        let wake_at = [self.conns.wheel.next_deadline(), self.drain_until]
            .into_iter()
            .flatten()
            .fold(now.saturating_add(longest), Millis::min);
        Some(wake_at.saturating_sub(now))
    }

    /// Sorts completions. What carries bytes or an end of bytes waits for its phase, in order.
    fn reap(&mut self) {
        for completion in self.completions.drain(..) {
            match completion {
                Completion::Received { .. } | Completion::RecvEnded { .. } => {
                    self.arrivals.push(completion);
                }
                Completion::Sent { id, buffer, result } => {
                    self.conns.handle_sent(id, buffer, result);
                }
                Completion::Closed { slot } => {
                    self.conns.handle_closed(slot);
                    for listener in &mut self.listeners {
                        if listener.state == Accepting::Resting {
                            listener.state = Accepting::Off;
                        }
                    }
                }
                Completion::Accepted { listener, slot } => {
                    match self.listeners[usize::from(listener)].speaks {
                        Speaks::Mesh => {
                            let from = self.io.caller(slot);
                            self.conns.handle_caller(slot, from);
                        }
                        speaks => {
                            self.accepted += 1;
                            self.conns.open(slot, speaks);
                        }
                    }
                }
                Completion::AcceptEnded { listener, errno } => {
                    let state = &mut self.listeners[usize::from(listener)].state;
                    *state = match errno {
                        _ if *state == Accepting::Closed => Accepting::Closed,
                        0 | libc::ECANCELED => Accepting::Off,
                        _ => {
                            let at = self.conns.now().saturating_add(ACCEPT_REST_MS);
                            self.conns.wheel.insert(at, Due::Accept(listener));
                            self.conns.counters().error("accept_failed");
                            Accepting::Resting
                        }
                    };
                }
                Completion::Connected { token, result } => {
                    self.conns.handle_connected(token, result);
                }
                Completion::Bell => {}
            }
        }
        self.conns.tell(&mut self.service);
    }

    /// Bytes → requests and messages → service. First those who waited for their turn.
    fn feed(&mut self) {
        self.conns.feed_ready(&mut self.service);
        for arrival in self.arrivals.drain(..) {
            match arrival {
                Completion::Received { id, chunk } => {
                    let bytes = self.io.bytes(&chunk);
                    self.conns.handle_received(&mut self.service, id, bytes);
                    self.io.recycle(chunk);
                }
                Completion::RecvEnded { id, why } => {
                    self.conns.handle_recv_ended(&mut self.service, id, why);
                }
                _ => {}
            }
        }
    }

    /// Whatever is due.
    fn fire(&mut self) {
        let now = self.conns.now();
        let reminders = &mut self.reminders;
        self.conns.wheel.expire(now, TIMERS_PER_TURN, &mut |at, due| reminders.push((at, due)));
        for (at, due) in self.reminders.drain(..) {
            match due {
                Due::Conn(id) => self.conns.handle_due(id, at),
                Due::Service(key) => self.service.handle_timer(&mut self.conns, key),
                Due::Mesh => self.conns.handle_mesh_due(at),
                Due::Accept(listener) => {
                    let state = &mut self.listeners[usize::from(listener)].state;
                    if *state == Accepting::Resting {
                        *state = Accepting::Off;
                    }
                }
            }
            self.conns.tell(&mut self.service);
        }
    }

    /// Mail from other shards and threads.
    fn read_mail(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        let taken = self.inbox.drain(LETTERS_PER_TURN, |mail| letters.push(mail));
        self.has_mail = taken == LETTERS_PER_TURN;
        for mail in letters.drain(..) {
            match mail {
                Mail::Engine(mail) => self.service.handle_mail(&mut self.conns, mail),
                Mail::Adopt(socket) => match self.io.adopt(socket) {
                    Ok(slot) => {
                        self.conns.open(slot, Speaks::Stdio);
                    }
                    Err(_) => self.conns.counters().error("adopt_failed"),
                },
                Mail::Snapshot(to) => {
                    // Whoever asked may have stopped waiting.
                    let _ = to.try_send(self.snapshot());
                }
                Mail::Drain { deadline_ms } => self.begin_drain(deadline_ms),
                Mail::Abort => self.is_over = true,
                Mail::Letter { from, bytes } => {
                    self.conns.serve_letter(&mut self.service, from, &bytes);
                }
                Mail::View(view) => self.conns.handle_mesh_mail(MeshMail::View(view)),
                Mail::Lost { node } => self.conns.handle_mesh_mail(MeshMail::Lost(node)),
                Mail::Cut { node, epoch } => {
                    self.conns.handle_mesh_mail(MeshMail::Cut(node, epoch));
                }
                Mail::Idle { shard, is_idle } => {
                    self.conns.handle_mesh_mail(MeshMail::Idle(shard, is_idle));
                }
                Mail::Farewell => self.conns.handle_mesh_mail(MeshMail::Farewell),
                Mail::Secrets(secrets) => {
                    self.conns.handle_mesh_mail(MeshMail::Secrets(secrets));
                }
            }
            self.conns.tell(&mut self.service);
        }
        self.letters = letters;
    }

    /// Queues everything connections and listeners want from the ring.
    fn transmit(&mut self) {
        if self.conns.wants_entropy() {
            let mut fresh = [0; 32];
            self.io.random(&mut fresh);
            self.conns.handle_entropy(&fresh);
        }
        self.conns.transmit(&mut self.io);
        self.settle_listeners();
    }

    fn settle_listeners(&mut self) {
        let occupied = self.conns.occupied();
        // Half of the spare slots must be free again, or a busy boundary would arm and cancel all day.
        let resume_at = self.stop_at.saturating_sub(SPARE_SLOTS / 2).max(1);
        self.is_full = if self.is_full { resume_at <= occupied } else { self.stop_at <= occupied };
        let is_draining = self.drain_until.is_some();
        let is_mesh_closing = self.conns.is_mesh_closing();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let index = index as u8;
            // Whoever drains still answers other nodes.
            let is_draining = match listener.speaks {
                Speaks::Mesh => is_mesh_closing,
                _ => is_draining,
            };
            match listener.state {
                Accepting::On if is_draining || self.is_full => {
                    self.io.accept_stop(index);
                    listener.state = Accepting::Stopping;
                }
                Accepting::Off | Accepting::Resting if is_draining => {
                    self.io.listener_close(index);
                    listener.state = Accepting::Closed;
                }
                Accepting::Off if !self.is_full => {
                    self.io.accept(index);
                    listener.state = Accepting::On;
                }
                _ => {}
            }
        }
    }

    fn begin_drain(&mut self, deadline_ms: u64) {
        let until = self.conns.now().saturating_add(deadline_ms);
        // A second order may shorten the first, never lengthen it.
        let before = self.drain_until;
        if before.is_some_and(|before| before <= until) {
            return;
        }
        self.drain_until = Some(until);
        if before.is_none() {
            self.conns.drain();
            self.conns.leave_mesh();
        }
        self.service.handle_drain(&mut self.conns, until);
    }

    fn check_drain(&mut self) {
        let Some(until) = self.drain_until else { return };
        let is_idle = self.conns.clients() == 0 && self.service.is_idle();
        let is_parted = self.conns.part_from_mesh(is_idle);
        let is_empty = is_parted && is_idle && !self.conns.has_unsent();
        if is_empty || until <= self.conns.now() {
            self.is_over = true;
        }
    }

    /// What [`Mail::Snapshot`] reports.
    pub fn snapshot(&mut self) -> ShardSnapshot {
        let mut ring = vec![
            ("turns", self.turns),
            ("parked", self.parked),
            ("late", self.conns.late()),
            ("buffers_lent", self.conns.buffers_lent() as u64),
            ("kept_bytes", self.conns.kept_bytes() as u64),
        ];
        self.io.health(&mut ring);
        let sync_lag_ms = self.service.sync_lag_ms(self.conns.now());
        let counters = Counters { sync_lag_ms, ..self.conns.counters().clone() };
        ShardSnapshot {
            shard: self.index,
            core: self.core,
            capacity: self.conns.refuse_at(),
            counters,
            mesh: self.conns.mesh_stats(),
            ring,
        }
    }
}
