//! Bytes out, and everything else a connection needs of the ring: decided once per turn, in one place.

use super::record::{Flag, Stage};
use super::{Conns, LINGER_MS, SEND_BYTES_PER_MS_MIN};
use crate::io::{ConnId, Io};

impl Conns {
    /// Settles every connection that something happened to. Nothing is submitted yet: that is the next turn.
    pub(crate) fn transmit<I: Io>(&mut self, io: &mut I) {
        self.watch_flying();
        while let Some(slot) = self.dirty.pop() {
            self.settle(io, slot);
        }
        if self.is_meshed() {
            self.dial(io);
        }
        for shard in self.bells.drain(..) {
            io.ring_bell(shard);
        }
    }

    /// Most sends are over before the turn is: only those that outlive one are worth a timer.
    fn watch_flying(&mut self) {
        for index in 0..self.flying.len() {
            let id = self.flying[index];
            if let Some(conn) = self.get_mut(id)
                && conn.flags.has(Flag::Sending)
                && !conn.flags.has(Flag::Watched)
            {
                conn.flags.set(Flag::Watched);
                self.schedule(id);
            }
        }
        self.flying.clear();
    }

    /// Whether a send was submitted that no timer watches yet.
    pub(crate) fn has_flying(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Brings what the ring does for a connection in line with what the connection wants.
    fn settle<I: Io>(&mut self, io: &mut I, slot: u32) {
        let id = self.id_of(slot);
        let conn = &mut self.table[slot as usize];
        conn.flags.clear(Flag::Dirty);
        if matches!(conn.stage, Stage::Open | Stage::Flushing)
            && !conn.flags.has(Flag::Sending)
            && !conn.out.is_empty()
        {
            let buffer = std::mem::take(&mut conn.out);
            let bytes = buffer.len() as u64;
            let patience_ms =
                self.limits.send_stall_ms.saturating_add(bytes / SEND_BYTES_PER_MS_MIN);
            conn.flying_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            conn.send_due = self.now.saturating_add(patience_ms);
            conn.flags.set(Flag::Sending);
            io.send(id, buffer, 0);
            self.flying.push(id);
        }
        self.advance(io, id);
        let conn = &self.table[slot as usize];
        let wants_input = self.wants_input(conn);
        let conn = &mut self.table[slot as usize];
        match (wants_input, conn.flags.has(Flag::Receiving)) {
            (true, false) => {
                conn.flags.set(Flag::Receiving);
                io.recv(id);
            }
            (false, true) if conn.stage == Stage::Open && !conn.flags.has(Flag::Stopping) => {
                conn.flags.set(Flag::Stopping);
                io.recv_stop(id);
            }
            _ => {}
        }
    }

    /// Moves a closing connection on: flushed → FIN → the peer's FIN → nothing pending → closed.
    fn advance<I: Io>(&mut self, io: &mut I, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        let is_sending = conn.flags.has(Flag::Sending);
        if conn.stage == Stage::Flushing && !is_sending && conn.out.is_empty() {
            if conn.flags.has(Flag::Ended) {
                self.end(id);
            } else {
                conn.stage = Stage::Lingering;
                io.shutdown_write(id);
                self.set_due(id, self.now.saturating_add(LINGER_MS));
            }
        }
        let Some(conn) = self.get(id) else { return };
        if conn.stage == Stage::Lingering && conn.flags.has(Flag::Ended) {
            self.end(id);
        }
        let Some(conn) = self.get_mut(id).filter(|conn| conn.stage == Stage::Closing) else {
            return;
        };
        if conn.flags.has(Flag::Receiving) || is_sending {
            if !conn.flags.has(Flag::Shut) {
                conn.flags.set(Flag::Shut);
                io.shutdown(id);
            }
        } else {
            conn.stage = Stage::Closed;
            io.close(id);
        }
    }
}
