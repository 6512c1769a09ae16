//! The connections as the service sees them.

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_protocol::http::write_upgrade;
use erlmcp_protocol::ws::{close, write_text};

use super::record::{Flag, Speaks, Stage};
use super::{Conns, Due};
use crate::engine::Envelopes;
use crate::io::{ConnId, Millis};
use crate::message::Mail;
use crate::net::{CloseReason, Exchange, Headers, Net, TimerKey};
use crate::stats::Counters;

impl Net for Conns {
    fn now(&self) -> Millis {
        self.now
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    fn micros(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn random(&mut self, out: &mut [u8]) {
        self.random.fill(out);
    }

    fn allow_origin(&mut self, to: Exchange, origin: &str) {
        self.set_origin(to, origin);
    }

    fn respond(&mut self, to: Exchange, status: u16, headers: Headers<'_>, body: &[u8]) {
        self.write_whole(to, status, headers, body);
    }

    fn stream_open(&mut self, to: Exchange, headers: Headers<'_>, first: &[u8]) {
        self.open_stream(to, headers, first);
    }

    fn stream_write(&mut self, to: Exchange, events: &[u8]) {
        self.write_stream(to, events);
    }

    fn stream_end(&mut self, to: Exchange, last: &[u8]) {
        self.end_stream(to, last);
    }

    fn upgrade(&mut self, to: Exchange, accept_key: &str, subprotocol: Option<&str>) {
        let date = self.date;
        self.switch_to_ws(to, |out| write_upgrade(out, accept_key, subprotocol, Some(&date)));
    }

    fn pipe_send(&mut self, to: ConnId, message: &[u8]) {
        let Some(conn) = self.get(to) else { return };
        let speaks = conn.speaks;
        if conn.stage != Stage::Open || !conn.flags.has(Flag::Piped) || !self.has_room(to) {
            return;
        }
        let out = self.outbox(to);
        match speaks {
            Speaks::WebSocket => write_text(out, message),
            Speaks::Lines | Speaks::Stdio | Speaks::Http | Speaks::Mesh => {
                debug_assert!(!message.contains(&b'\n'), "one message is one line");
                out.extend_from_slice(message);
                out.push(b'\n');
            }
        }
    }

    fn pipe_close(&mut self, to: ConnId, why: CloseReason) {
        let Some(conn) = self.get(to) else { return };
        if conn.stage != Stage::Open || !conn.flags.has(Flag::Piped) {
            return;
        }
        let (code, reason) = match why {
            CloseReason::Done => (close::NORMAL, ""),
            CloseReason::GoingAway => (close::GOING_AWAY, "the server is shutting down"),
            CloseReason::Policy => (close::POLICY, "the peer broke a rule"),
            CloseReason::SlowReader => (close::TRY_AGAIN_LATER, "the peer reads too slowly"),
        };
        match conn.speaks {
            Speaks::WebSocket => self.close_ws(to, code, reason),
            Speaks::Lines | Speaks::Stdio | Speaks::Http | Speaks::Mesh => self.finish(to),
        }
    }

    fn backlog(&self, conn: ConnId) -> usize {
        self.get(conn).map_or(0, super::Conn::backlog)
    }

    fn mail(&mut self, shard: u16, mail: Mail) -> bool {
        let sent = !self.unsent.holds(shard) && self.post_mail(shard, mail).is_ok();
        if !sent {
            self.counters.error("inbox_full");
        }
        sent
    }

    fn mail_surely(&mut self, shard: u16, mail: Mail) {
        let sent = if self.unsent.holds(shard) { Err(mail) } else { self.post_mail(shard, mail) };
        if let Err(mail) = sent {
            let waits = !self.post.is_gone(shard) && self.unsent.push(shard, mail);
            self.counters.error(if waits { "mail_delayed" } else { "mail_lost" });
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.texts.copy(bytes)
    }

    fn was_read(&mut self, text: Vec<u8>) {
        self.texts.keep(text);
    }

    fn envelopes(&mut self) -> &mut Envelopes {
        &mut self.envelopes
    }

    fn post(&mut self, to: Spot, letter: &Letter<'_>) -> bool {
        self.post_letter(to, letter)
    }

    fn letter_message_bytes_max(&self) -> usize {
        self.limits.message_bytes_max
    }

    fn timer(&mut self, at: Millis, key: TimerKey) {
        self.wheel.insert(at, Due::Service(key));
    }

    fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }
}

impl Conns {
    fn post_mail(&mut self, shard: u16, mail: Mail) -> Result<(), Mail> {
        if self.post.send(shard, mail)? {
            self.bells.push(shard);
        }
        Ok(())
    }

    /// Whether mail waits for room.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Tries again to send what found no room.
    pub(crate) fn send_unsent(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        unsent.flush(|shard, mail| match self.post_mail(shard, mail) {
            // Nobody will ever read it.
            Err(_) if self.post.is_gone(shard) => {
                self.counters.error("mail_lost");
                Ok(())
            }
            sent => sent,
        });
        self.unsent = unsent;
        if self.unsent.is_empty() {
            self.wake_links();
        }
    }

    /// Where bytes for this connection go; they leave at the end of the turn. The id must not be stale.
    pub(super) fn outbox(&mut self, id: ConnId) -> &mut Vec<u8> {
        self.touch(id.slot);
        let conn = &mut self.table[id.slot as usize];
        debug_assert_eq!(conn.generation, id.generation, "writing to a stale connection");
        if conn.out.capacity() == 0 {
            conn.out = self.pool.take();
        }
        &mut conn.out
    }

    /// Whether a peer may be sent one more message. If too much is queued already it is cut instead: the
    /// bound is checked before a message, so that one answer larger than it still gets through.
    pub(super) fn has_room(&mut self, id: ConnId) -> bool {
        let is_over = self.get(id).is_none_or(|conn| self.limits.outbox_bytes_max < conn.backlog());
        if is_over {
            self.sever(id, "slow_reader");
        }
        !is_over
    }
}
