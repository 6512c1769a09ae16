//! The connection table of one shard. Lives: in the shard. View: shard.
//!
//! Bytes come in through `handle_*`, the service speaks through [`Net`](crate::net::Net), and whatever a
//! connection then needs of the ring is decided in one place, [`Conns::settle`], once per turn. So nothing
//! here but that one method sees [`Io`](crate::io::Io), and a service may write to any connection at any
//! time without caring what is in flight.
//!
//! Invariants: a slot index equals the ring's descriptor index; at most one send and one receive per
//! connection are pending; a slot is reused only after `Closed`; the service hears of an end through
//! [`Notice`]s, never from within a call it made itself.
//! Absent: fairness between connections within a turn. It is not needed: every receive buffer is consumed in
//! its turn, and what one buffer may cost is bounded by [`MESSAGES_PER_TURN`].

mod feed;
mod http;
mod lines;
mod mesh;
mod net;
mod pool;
mod random;
mod record;
mod settle;
mod timers;
mod unsent;
mod ws;

use std::collections::VecDeque;

use erlmcp_protocol::http as wire;

pub(crate) use self::mesh::MeshMail;
use self::mesh::Meshed;
use self::pool::{Pool, Texts};
use self::random::Random;
pub(crate) use self::record::NEVER;
pub(crate) use self::record::Speaks;
use self::record::{Conn, Flag, Lazy, Stage};
use self::unsent::Unsent;
use crate::config::Limits;
use crate::engine::Envelopes;
use crate::io::{ConnId, Millis, RecvEnd};
use crate::mail::Post;
use crate::message::Mail;
use crate::net::{Exchange, LinkEvent, PipeKind, TimerKey};
use crate::service::Service;
use crate::stats::Counters;
use crate::wheel::Wheel;

/// Requests or messages one connection may have served in one turn; the rest waits for the next.
pub(crate) const MESSAGES_PER_TURN: usize = 32;
/// How long a closing connection may take to notice our FIN, milliseconds.
pub(crate) const LINGER_MS: Millis = 2_000;
/// Bytes a closing connection may still send before it is cut.
pub(crate) const LINGER_BYTES_MAX: usize = 256 * 1024;
/// Pings a WebSocket may leave unanswered.
pub(crate) const UNANSWERED_PINGS_MAX: u8 = 2;
/// Largest messages (`message_bytes_max`) that may be unfinished on one shard at once, by their bytes.
pub(crate) const UNFINISHED_MESSAGES_MAX: usize = 16;
/// The slowest a reader may take a big answer, bytes per millisecond, on top of `send_stall_ms`.
pub(crate) const SEND_BYTES_PER_MS_MIN: u64 = 64;
/// Bits of a generation that travel in the ring.
const GENERATION_MASK: u32 = 0xFF_FFFF;

/// What the timer wheel reminds the shard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Look at this connection's deadlines.
    Conn(ConnId),
    /// The service asked.
    Service(TimerKey),
    /// Arm this listener again.
    Accept(u8),
    /// Look at what the mesh wants.
    Mesh,
}

const _: () = assert!(size_of::<Due>() <= 16, "one reminder waits per idle connection");

/// What the service must be told, after the call that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Gone(Exchange),
    PipeOpen(ConnId, PipeKind),
    PipeEof(ConnId),
    PipeClosed(ConnId),
    Link(u16, LinkEvent),
    View,
}

/// All connections of one shard.
pub(crate) struct Conns {
    table: Vec<Conn>,
    limits: Limits,
    http_limits: wire::Limits,
    now: Millis,
    unix_ms: u64,
    date: [u8; 29],
    date_second: u64,
    /// Slots to settle at the end of this turn, each once.
    dirty: Vec<u32>,
    /// Slots with input to be read next turn, each once.
    ready: Vec<u32>,
    /// Those whose turn it is.
    ready_now: Vec<u32>,
    /// Sends submitted in the last turn: those still in flight now get a deadline in the wheel.
    flying: Vec<ConnId>,
    notices: VecDeque<Notice>,
    /// Shards whose bell must be rung in this turn.
    bells: Vec<u16>,
    post: Post<Mail>,
    /// Mail that must arrive and found no room.
    unsent: Unsent<Mail>,
    pool: Pool,
    texts: Texts,
    envelopes: Envelopes,
    pub(crate) wheel: Wheel<Due>,
    random: Random,
    /// Durations are measured from here; deadlines are not (see `now`).
    started: std::time::Instant,
    counters: Counters,
    /// Slots in use, in whatever stage.
    occupied: u32,
    /// Occupied slots from which on new connections are refused.
    refuse_at: u32,
    /// Bytes of unfinished messages, all connections together.
    kept_bytes: usize,
    is_draining: bool,
    /// Completions for generations long gone.
    late: u64,
    /// Links to other nodes, when this shard is in a mesh.
    meshed: Option<Box<Meshed>>,
}

impl Conns {
    pub(crate) fn new(
        limits: Limits,
        post: Post<Mail>,
        seed: &[u8; 32],
        now: Millis,
        refuse_at: u32,
    ) -> Self {
        let http_limits = wire::Limits {
            head_bytes_max: limits.head_bytes_max,
            body_bytes_max: limits.message_bytes_max,
        };
        Self {
            table: Vec::new(),
            limits,
            http_limits,
            now,
            unix_ms: 0,
            date: wire::http_date(0),
            date_second: 0,
            dirty: Vec::new(),
            ready: Vec::new(),
            ready_now: Vec::new(),
            flying: Vec::new(),
            notices: VecDeque::new(),
            bells: Vec::new(),
            post,
            unsent: Unsent::default(),
            pool: Pool::default(),
            texts: Texts::default(),
            envelopes: Envelopes::default(),
            wheel: Wheel::new(now),
            started: std::time::Instant::now(),
            random: Random::new(seed),
            counters: Counters::default(),
            occupied: 0,
            refuse_at,
            kept_bytes: 0,
            is_draining: false,
            late: 0,
            meshed: None,
        }
    }

    /// Begins a turn: time stands still until the next one.
    pub(crate) fn handle_time(&mut self, now: Millis, unix_ms: u64) {
        self.now = now;
        self.unix_ms = unix_ms;
        if unix_ms / 1000 != self.date_second {
            self.date_second = unix_ms / 1000;
            self.date = wire::http_date(self.date_second);
        }
    }

    /// Occupies a slot the ring filled, and starts to receive from it. A pipe is announced to the service.
    /// Without room, or while draining, the peer is told so and let go.
    pub(crate) fn open(&mut self, slot: u32, speaks: Speaks) {
        let is_refused = self.refuse_at <= self.clients() || self.is_draining;
        let id = self.occupy(slot, speaks);
        self.table[slot as usize].flags.put(Flag::Refused, is_refused);
        if is_refused {
            return self.refuse_connection(id);
        }
        if let Some(transport) = speaks.transport() {
            self.counters.connections_active[transport as usize] += 1;
            self.counters.connections_total[transport as usize] += 1;
        }
        match speaks {
            Speaks::Http => self.set_due(id, self.now.saturating_add(self.limits.idle_timeout_ms)),
            Speaks::Lines => self.announce(id, PipeKind::Lines),
            Speaks::Stdio => self.announce(id, PipeKind::Stdio),
            Speaks::WebSocket => unreachable!("a WebSocket begins as HTTP"),
            Speaks::Mesh => unreachable!("a link has no client"),
        }
    }

    /// Makes a record for a slot the ring filled.
    fn occupy(&mut self, slot: u32, speaks: Speaks) -> ConnId {
        let index = slot as usize;
        if self.table.len() <= index {
            self.table.resize_with(index + 1, Conn::default);
        }
        let conn = &mut self.table[index];
        assert!(
            conn.stage == Stage::Free,
            "the ring filled slot {slot}, which is {:?}",
            conn.stage
        );
        *conn = Conn {
            generation: conn.generation,
            stage: Stage::Open,
            speaks,
            due: NEVER,
            send_due: NEVER,
            wheel_at: NEVER,
            ..Conn::default()
        };
        let id = ConnId { slot, generation: conn.generation };
        self.occupied += 1;
        self.touch(slot);
        id
    }

    /// The ring closed the descriptor: the slot is free.
    pub(crate) fn handle_closed(&mut self, slot: u32) {
        let Some(conn) = self.table.get_mut(slot as usize) else {
            self.late += 1;
            return;
        };
        if conn.stage != Stage::Closed {
            self.late += 1;
            return;
        }
        debug_assert!(conn.out.capacity() == 0 && conn.lazy.is_none(), "a closed slot owns memory");
        let generation = (conn.generation + 1) & GENERATION_MASK;
        let was_link = conn.speaks == Speaks::Mesh;
        *conn = Conn { generation, ..Conn::default() };
        self.occupied -= 1;
        if was_link {
            self.free_link();
        }
    }

    /// A send finished and its buffer comes home. The slot of a send in flight is never reused, so one that
    /// is not awaited is not ours.
    pub(crate) fn handle_sent(&mut self, id: ConnId, buffer: Vec<u8>, result: Result<usize, i32>) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.flags.has(Flag::Sending)) else {
            self.late += 1;
            return;
        };
        conn.flags.clear(Flag::Sending);
        conn.flags.clear(Flag::Watched);
        conn.send_due = NEVER;
        let flying_bytes = std::mem::take(&mut conn.flying_bytes) as usize;
        let is_alive = conn.is_alive();
        let sent_bytes = match result {
            Ok(bytes) => Some(bytes.min(flying_bytes)).filter(|&bytes| bytes != 0),
            Err(errno) if is_transient(errno) => Some(0),
            Err(_) => None,
        };
        let is_link = conn.speaks == Speaks::Mesh;
        if !is_link {
            self.counters.bytes_out += sent_bytes.unwrap_or(0) as u64;
        }
        match sent_bytes {
            Some(bytes) if bytes < flying_bytes && is_alive => self.requeue(id, buffer, bytes),
            _ => self.pool.give(buffer),
        }
        if sent_bytes.is_none() {
            self.sever(id, "send_failed");
        } else if is_link {
            self.handle_link_sent(id, sent_bytes.unwrap_or(0));
        }
        self.wake(id);
        self.touch(id.slot);
    }

    /// Puts what a short send left over before what was queued meanwhile.
    fn requeue(&mut self, id: ConnId, mut buffer: Vec<u8>, sent_bytes: usize) {
        let Some(conn) = self.get_mut(id) else { return };
        buffer.drain(..sent_bytes);
        buffer.extend_from_slice(&conn.out);
        let queued = std::mem::replace(&mut conn.out, buffer);
        self.pool.give(queued);
    }

    /// The receive is no longer armed.
    pub(crate) fn handle_recv_ended<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        why: RecvEnd,
    ) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.flags.has(Flag::Receiving)) else {
            self.late += 1;
            return;
        };
        conn.flags.clear(Flag::Receiving);
        conn.flags.clear(Flag::Stopping);
        match why {
            RecvEnd::Cancelled | RecvEnd::Rearm => {}
            RecvEnd::NoBuffers => self.counters.error("recv_no_buffers"),
            RecvEnd::Error(errno) if is_transient(errno) => {}
            RecvEnd::Eof => self.handle_fin(id),
            RecvEnd::Error(_) => {
                conn.flags.set(Flag::Ended);
                self.sever(id, "recv_failed");
            }
        }
        self.touch(id.slot);
        self.tell(service);
    }

    /// Sends what is queued, then FIN, then waits a little for the peer's. Reads nothing more.
    pub(crate) fn finish(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.stage == Stage::Open) else { return };
        conn.stage = Stage::Flushing;
        conn.due = NEVER;
        self.part(id);
    }

    /// Cuts a connection; what is queued is lost. Counted under `reason`.
    pub(crate) fn sever(&mut self, id: ConnId, reason: &'static str) {
        if self.get(id).is_some_and(Conn::is_alive) {
            self.counters.error(reason);
            self.end(id);
        }
    }

    /// The connection is over; the ring closes it when nothing is pending.
    fn end(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.is_alive()) else { return };
        conn.stage = Stage::Closing;
        conn.due = NEVER;
        conn.send_due = NEVER;
        let out = std::mem::take(&mut conn.out);
        if let Some(transport) = conn.speaks.transport()
            && !conn.flags.has(Flag::Refused)
        {
            self.counters.connections_active[transport as usize] -= 1;
        }
        self.pool.give(out);
        self.part(id);
    }

    /// Nothing more is read: frees what reading needed and tells the service, once.
    fn part(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        let exchange = Exchange { conn: id, seq: conn.seq };
        let was_pending = conn.flags.has(Flag::Pending);
        let was_streaming = conn.flags.has(Flag::Streaming);
        let was_pipe = conn.flags.has(Flag::Piped);
        let was_link = conn.speaks == Speaks::Mesh;
        for flag in [Flag::Pending, Flag::Streaming, Flag::Piped] {
            conn.flags.clear(flag);
        }
        if let Some(lazy) = conn.lazy.take() {
            self.kept_bytes -= lazy.kept_bytes();
            self.pool.give(lazy.input);
        }
        if was_streaming {
            self.counters.streams_active -= 1;
        }
        if was_pending {
            self.notices.push_back(Notice::Gone(exchange));
        }
        if was_pipe {
            self.notices.push_back(Notice::PipeClosed(id));
        }
        if was_link {
            self.handle_link_ended(id);
        }
        self.touch(id.slot);
    }

    /// Delivers notices until there are none; the service's answers may cause more.
    pub(crate) fn tell<S: Service>(&mut self, service: &mut S) {
        loop {
            if self.meshed.is_some() {
                self.run_mesh();
            }
            let Some(notice) = self.notices.pop_front() else { return };
            match notice {
                Notice::Gone(exchange) => service.handle_gone(self, exchange),
                Notice::PipeOpen(id, kind) => service.handle_pipe_open(self, id, kind),
                Notice::PipeEof(id) => service.handle_pipe_eof(self, id),
                Notice::PipeClosed(id) => service.handle_pipe_closed(self, id),
                Notice::Link(node, event) => service.handle_link(self, node, event),
                Notice::View => {
                    if let Some(view) = self.mesh_view() {
                        service.handle_view(self, &view);
                    }
                }
            }
        }
    }

    /// From now on every answer closes its connection, and idle HTTP connections end at once.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
        for index in 0..self.table.len() {
            let conn = &self.table[index];
            let id = ConnId { slot: index as u32, generation: conn.generation };
            // An answer still under way was written as one that keeps the connection: it must not.
            let is_idle =
                conn.speaks == Speaks::Http && !conn.is_pending() && conn.input_bytes() == 0;
            if conn.stage == Stage::Open && is_idle {
                self.finish(id);
            }
        }
    }

    fn announce(&mut self, id: ConnId, kind: PipeKind) {
        if let Some(conn) = self.get_mut(id) {
            conn.flags.set(Flag::Piped);
            self.notices.push_back(Notice::PipeOpen(id, kind));
        }
    }

    /// The connection needs a look at the end of this turn.
    fn touch(&mut self, slot: u32) {
        if let Some(conn) = self.table.get_mut(slot as usize)
            && !conn.flags.has(Flag::Dirty)
        {
            conn.flags.set(Flag::Dirty);
            self.dirty.push(slot);
        }
    }

    /// The record, unless the id is stale.
    fn get(&self, id: ConnId) -> Option<&Conn> {
        self.table
            .get(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && conn.stage != Stage::Free)
    }

    /// See [`Conns::get`].
    fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.table
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && conn.stage != Stage::Free)
    }

    /// The id of whoever has this slot now.
    fn id_of(&self, slot: u32) -> ConnId {
        ConnId { slot, generation: self.table[slot as usize].generation }
    }

    /// Connections served at once; more are refused.
    pub(crate) fn refuse_at(&self) -> u32 {
        self.refuse_at
    }

    /// Slots in use, closing ones included.
    pub(crate) fn occupied(&self) -> u32 {
        self.occupied
    }

    /// Whether some connection has input that need not wait for the kernel.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes of unfinished messages, all connections together.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Completions that came too late.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Buffers outside the pool: in flight, queued, or holding partial input.
    pub(crate) fn buffers_lent(&self) -> usize {
        self.pool.lent()
    }

    /// New entropy for [`Random`], when enough was used.
    pub(crate) fn wants_entropy(&self) -> bool {
        self.random.is_spent()
    }

    /// See [`Conns::wants_entropy`].
    pub(crate) fn handle_entropy(&mut self, fresh: &[u8; 32]) {
        self.random.reseed(fresh);
    }
}

impl Conn {
    /// The lazy part, made when it is first needed.
    fn lazy(&mut self) -> &mut Lazy {
        self.lazy.get_or_insert_default()
    }
}

/// Errors that say nothing about the connection: a signal, e.g. after the process was stopped and continued.
const fn is_transient(errno: i32) -> bool {
    matches!(errno, libc::EINTR | libc::EAGAIN)
}
