//! Bytes in: what arrived is read where it lies; only what cannot be served yet is copied and kept.

use std::ops::Range;

use erlmcp_protocol::ws::close;

use super::mesh::LETTERS_PER_TURN;
use super::pool::KEPT_BYTES_MAX;
use super::record::{Conn, Flag, Lazy, Speaks, Stage};
use super::{Conns, LINGER_BYTES_MAX, MESSAGES_PER_TURN, Notice, UNFINISHED_MESSAGES_MAX};
use crate::io::ConnId;
use crate::service::Service;

/// How far one step of a parser came.
pub(super) enum Step {
    /// One request, message or frame was served; so many bytes are used up.
    Consumed(usize),
    /// What is there is not whole yet: only this part of it must be kept.
    Partial(Range<usize>),
}

impl Conns {
    /// Bytes arrived. They may be changed in place; what must outlive the turn is copied.
    pub(crate) fn handle_received<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        bytes: &mut [u8],
    ) {
        let Some(conn) = self.get_mut(id) else {
            self.late += 1;
            return;
        };
        match conn.stage {
            Stage::Open => {}
            Stage::Flushing | Stage::Lingering => return self.discard(id, bytes.len()),
            Stage::Free | Stage::Closing | Stage::Closed => return,
        }
        let waits = conn.flags.has(Flag::Ready) || conn.input_bytes() != 0;
        if conn.speaks == Speaks::Mesh {
            self.handle_link_heard(bytes.len());
        } else {
            self.counters.bytes_in += bytes.len() as u64;
        }
        if waits {
            self.keep(id, bytes);
            // Input that waits for its turn, or for its exchange, goes on waiting.
            if self.get(id).is_some_and(|conn| !conn.flags.has(Flag::Ready)) {
                self.consume_kept(service, id);
            }
        } else {
            let rest = self.consume(service, id, bytes);
            if !rest.is_empty() {
                self.keep(id, &bytes[rest]);
            }
        }
    }

    /// Serves connections whose input had to wait, each for one budget's worth.
    pub(crate) fn feed_ready<S: Service>(&mut self, service: &mut S) {
        std::mem::swap(&mut self.ready, &mut self.ready_now);
        for index in 0..self.ready_now.len() {
            let id = self.id_of(self.ready_now[index]);
            if let Some(conn) = self.get_mut(id) {
                conn.flags.clear(Flag::Ready);
                let is_link = conn.speaks == Speaks::Mesh;
                self.consume_kept(service, id);
                if is_link {
                    // Letters are read without being answered here: see whether more is wanted.
                    self.touch(id.slot);
                }
                self.after_feed(id);
                self.tell(service);
            }
        }
        self.ready_now.clear();
    }

    /// Reads on in the kept input.
    fn consume_kept<S: Service>(&mut self, service: &mut S, id: ConnId) {
        let Some(lazy) = self.get_mut(id).and_then(|conn| conn.lazy.as_mut()) else { return };
        // The input leaves the record while the service may write to it.
        let mut input = std::mem::take(&mut lazy.input);
        self.kept_bytes -= input.len();
        let rest = self.consume(service, id, &mut input);
        input.truncate(rest.end);
        input.drain(..rest.start);
        match self.get_mut(id).filter(|conn| conn.stage == Stage::Open) {
            Some(conn) if !input.is_empty() => {
                let bytes = input.len();
                conn.lazy().input = input;
                self.kept_bytes += bytes;
            }
            _ => {
                self.pool.give(input);
                self.trim(id);
            }
        }
    }

    /// Serves what `input` holds, as far as budget and backpressure allow; returns what must be kept.
    fn consume<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        input: &mut [u8],
    ) -> Range<usize> {
        let end = input.len();
        let mut used = 0;
        let mut steps = 0;
        loop {
            let Some(conn) = self.get(id).filter(|conn| conn.stage == Stage::Open) else {
                return end..end; // It ended meanwhile: the rest means nothing.
            };
            if self.is_held(conn) {
                return used..end;
            }
            if steps_per_turn(conn.speaks) <= steps {
                if used < end {
                    self.mark_ready(id);
                }
                return used..end;
            }
            let rest = &mut input[used..];
            let step = match conn.speaks {
                Speaks::Http => self.step_http(service, id, rest),
                Speaks::WebSocket => self.step_ws(service, id, rest),
                Speaks::Lines | Speaks::Stdio => self.step_lines(service, id, rest),
                Speaks::Mesh => self.step_mesh(service, id, rest),
            };
            self.tell(service);
            match step {
                Step::Consumed(bytes) => used += bytes,
                Step::Partial(kept) => return used + kept.start..used + kept.end,
            }
            steps += 1;
        }
    }

    /// Copies input that cannot be served yet behind what is kept already.
    fn keep(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self
            .table
            .get_mut(id.slot as usize)
            .filter(|conn| conn.generation == id.generation && conn.stage == Stage::Open)
        else {
            return;
        };
        let lazy = conn.lazy.get_or_insert_default();
        if lazy.input.capacity() == 0 {
            lazy.input = self.pool.take();
        }
        lazy.input.extend_from_slice(bytes);
        let is_large = KEPT_BYTES_MAX < lazy.kept_bytes();
        self.kept_bytes += bytes.len();
        self.touch(id.slot);
        if is_large && self.is_overloaded() {
            self.refuse_message(id);
        }
    }

    /// Whether unfinished messages take more memory than the shard has for them.
    pub(super) fn is_overloaded(&self) -> bool {
        self.limits.message_bytes_max.saturating_mul(UNFINISHED_MESSAGES_MAX) < self.kept_bytes
    }

    /// Lets go of a connection whose large message finds no memory; small ones go on.
    pub(super) fn refuse_message(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let reason = "input_memory";
        match conn.speaks {
            Speaks::Http if !conn.is_pending() => self.refuse_unfinished(id, reason),
            Speaks::WebSocket => {
                self.counters.error(reason);
                self.close_ws(id, close::TRY_AGAIN_LATER, "no memory for a message this large");
            }
            Speaks::Http | Speaks::Lines | Speaks::Stdio => self.sever(id, reason),
            // Who has a link is trusted with one letter, and has no other way to say it.
            Speaks::Mesh => {}
        }
    }

    /// Bytes on a connection that is closing: they only show that the peer is still there.
    fn discard(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.get_mut(id) else { return };
        let lazy = conn.lazy();
        lazy.discarded_bytes = lazy.discarded_bytes.saturating_add(bytes);
        if LINGER_BYTES_MAX < lazy.discarded_bytes {
            self.sever(id, "linger_flooded");
        }
    }

    /// After reading went as far as it can: a peer that said FIN has said everything.
    pub(super) fn after_feed(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if !conn.flags.has(Flag::Ended) {
            return;
        }
        if matches!(conn.stage, Stage::Flushing | Stage::Lingering) {
            return self.touch(id.slot);
        }
        let has_more = conn.flags.has(Flag::Ready) || self.is_throttled(conn);
        if conn.stage != Stage::Open || (has_more && !conn.is_pending()) {
            return;
        }
        match conn.speaks {
            // The response has nobody left to read it: clients of this protocol cancel by closing.
            Speaks::Http => self.finish(id),
            Speaks::WebSocket => self.finish(id),
            Speaks::Mesh => self.after_link(id),
            Speaks::Lines | Speaks::Stdio => {
                let conn = &mut self.table[id.slot as usize];
                if !conn.flags.has(Flag::EofTold) {
                    conn.flags.set(Flag::EofTold);
                    self.notices.push_back(Notice::PipeEof(id));
                }
            }
        }
    }

    /// Something that held input back is gone: read on next turn.
    pub(super) fn wake(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        let waits = conn.input_bytes() != 0 || conn.flags.has(Flag::Ended);
        if conn.stage == Stage::Open && waits && !self.is_held(conn) {
            self.mark_ready(id);
        }
    }

    pub(super) fn mark_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.get_mut(id)
            && !conn.flags.has(Flag::Ready)
        {
            conn.flags.set(Flag::Ready);
            self.ready.push(id.slot);
        }
    }

    /// Whether the next message must wait: one exchange at a time, and none for a peer that does not read.
    fn is_held(&self, conn: &Conn) -> bool {
        match conn.speaks {
            // Letters for shards whose inboxes are full would pile up here.
            Speaks::Mesh => !self.unsent.is_empty(),
            _ => conn.is_pending() || self.is_throttled(conn),
        }
    }

    /// Whether more is queued to the peer than it seems to want.
    fn is_throttled(&self, conn: &Conn) -> bool {
        self.limits.outbox_pause_bytes < conn.backlog() && conn.speaks != Speaks::Mesh
    }

    /// Whether more should be received.
    pub(super) fn wants_input(&self, conn: &Conn) -> bool {
        if conn.flags.has(Flag::Ended) {
            return false;
        }
        match conn.stage {
            Stage::Open => {
                let waits = conn.flags.has(Flag::Ready) || self.is_held(conn);
                let is_full = self.limits.outbox_pause_bytes < conn.input_bytes();
                let is_enough = waits && is_full;
                !is_enough && !self.is_throttled(conn)
            }
            Stage::Flushing | Stage::Lingering => true,
            Stage::Free | Stage::Closing | Stage::Closed => false,
        }
    }

    /// Frees the lazy part when nothing in it means anything.
    pub(super) fn trim(&mut self, id: ConnId) {
        if let Some(conn) = self.get_mut(id)
            && conn.lazy.as_ref().is_some_and(|lazy| lazy.is_spent())
        {
            conn.lazy = None;
        }
    }
}

/// Requests, messages or letters of one connection in one turn.
const fn steps_per_turn(speaks: Speaks) -> usize {
    match speaks {
        Speaks::Mesh => LETTERS_PER_TURN,
        _ => MESSAGES_PER_TURN,
    }
}

impl Lazy {
    /// Whether a fresh one would be the same.
    fn is_spent(&self) -> bool {
        self.input.is_empty()
            && self.ws.is_none()
            && self.origin.is_none()
            && self.discarded_bytes == 0
            && !self.lines.is_skipping()
    }
}
