//! A WebSocket on one connection: frames in, pings, and a close that says why.

use erlmcp_protocol::Parsed;
use erlmcp_protocol::ws::{Event, close, write_close, write_ping, write_pong};

use super::feed::Step;
use super::pool::KEPT_BYTES_MAX;
use super::record::{Flag, Speaks, WebSocket};
use super::{Conns, UNANSWERED_PINGS_MAX};
use crate::io::ConnId;
use crate::net::{Exchange, PipeKind};
use crate::service::Service;
use crate::stats::Transport;

impl Conns {
    /// See [`crate::net::Net::upgrade`].
    pub(super) fn switch_to_ws(&mut self, to: Exchange, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.waiting(to) else { return };
        conn.flags.clear(Flag::Pending);
        let before = Transport::Http as usize;
        let after = Transport::WebSocket as usize;
        conn.speaks = Speaks::WebSocket;
        let lazy = conn.lazy();
        lazy.origin = None;
        lazy.ws = Some(Box::new(WebSocket::default()));
        self.counters.connections_active[before] -= 1;
        self.counters.connections_active[after] += 1;
        self.counters.connections_total[after] += 1;
        write(self.outbox(to.conn));
        self.announce(to.conn, PipeKind::WebSocket);
        self.set_due(to.conn, self.now.saturating_add(self.limits.ws_ping_ms));
        self.wake(to.conn);
    }

    /// Reads at most one frame and has its message served.
    pub(super) fn step_ws<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        input: &mut [u8],
    ) -> Step {
        let len = input.len();
        let now = self.now;
        // The decoder leaves the record while the service may write to the connection.
        let Some(mut ws) = self.get_mut(id).and_then(|conn| conn.lazy.as_mut()?.ws.take()) else {
            return Step::Partial(0..len);
        };
        if len != 0 {
            ws.unanswered_pings = 0;
            ws.heard_at = now;
        }
        let max = self.limits.message_bytes_max;
        self.kept_bytes -= ws.decoder.assembled_bytes();
        let step = match ws.decoder.read(input, max) {
            Ok(Parsed::Partial) => Step::Partial(0..len),
            Ok(Parsed::Complete(event, used)) => {
                match event {
                    Event::Text(text) => service.handle_pipe_message(self, id, text.as_bytes()),
                    Event::Binary(_) => {
                        self.counters.error("ws_binary");
                        self.close_ws(id, close::UNSUPPORTED, "text messages only");
                    }
                    Event::Ping(payload) => write_pong(self.outbox(id), payload),
                    Event::Pong(_) | Event::Fragment => {}
                    // RFC 6455 §5.5.1: the answer typically echoes the code.
                    Event::Close { code, .. } => {
                        self.close_ws(id, code.unwrap_or(close::NO_STATUS), "");
                    }
                }
                Step::Consumed(used)
            }
            Err(err) => {
                self.counters.error(err.reason());
                self.close_ws(id, err.close_code(), &err.to_string());
                Step::Consumed(len)
            }
        };
        if ws.decoder.assembled_bytes() != 0 && !ws.decoder.is_mid_message() {
            // Frees the message that was just served; there is nothing to read.
            let _ = ws.decoder.read(&mut [], max);
        }
        let assembled_bytes = ws.decoder.assembled_bytes();
        if let Some(lazy) = self.get_mut(id).and_then(|conn| conn.lazy.as_mut()) {
            lazy.ws = Some(ws);
            self.kept_bytes += assembled_bytes;
            if KEPT_BYTES_MAX < assembled_bytes && self.is_overloaded() {
                self.refuse_message(id);
            }
        }
        step
    }

    /// Sends a close frame behind what is queued, then FIN; waits for the peer's a little.
    pub(super) fn close_ws(&mut self, id: ConnId, code: u16, reason: &str) {
        write_close(self.outbox(id), code, reason);
        self.finish(id);
    }

    /// The time for a ping has come, unless the peer was heard meanwhile.
    pub(super) fn handle_ws_due(&mut self, id: ConnId) {
        let (now, interval) = (self.now, self.limits.ws_ping_ms);
        let Some(ws) = self.get_mut(id).and_then(|conn| conn.lazy.as_mut()?.ws.as_mut()) else {
            return;
        };
        let quiet_until = ws.heard_at.saturating_add(interval);
        if now < quiet_until {
            return self.set_due(id, quiet_until);
        }
        if UNANSWERED_PINGS_MAX <= ws.unanswered_pings {
            return self.sever(id, "ws_ping_timeout");
        }
        ws.unanswered_pings += 1;
        write_ping(self.outbox(id), b"");
        self.set_due(id, now.saturating_add(interval));
    }
}
