//! Deadlines of connections. The record says when something is due; the wheel only reminds us to look.

use super::record::{Flag, Speaks, Stage};
use super::{Conns, Due, NEVER};
use crate::io::{ConnId, Millis};

impl Conns {
    /// Sets what the state of this connection waits for at most; [`NEVER`] for nothing.
    pub(super) fn set_due(&mut self, id: ConnId, due: Millis) {
        if let Some(conn) = self.get_mut(id) {
            conn.due = due;
            self.schedule(id);
        }
    }

    /// Sees that the wheel reminds us in time. A reminder that is early enough serves later deadlines too,
    /// so a busy connection inserts none.
    pub(super) fn schedule(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        let watched = if conn.flags.has(Flag::Watched) { conn.send_due } else { NEVER };
        let due = conn.due.min(watched);
        if due < conn.wheel_at {
            conn.wheel_at = due;
            self.wheel.insert(due, Due::Conn(id));
        }
    }

    /// A reminder set for `at` fired: look what, if anything, is due.
    pub(crate) fn handle_due(&mut self, id: ConnId, at: Millis) {
        let now = self.now;
        let Some(conn) = self.get_mut(id).filter(|conn| conn.wheel_at == at) else {
            return; // Gone, or an earlier reminder took its place.
        };
        conn.wheel_at = NEVER;
        if conn.flags.has(Flag::Watched) && conn.send_due <= now {
            self.sever(id, "send_stalled");
        } else if conn.due <= now {
            conn.due = NEVER;
            match (conn.stage, conn.speaks) {
                (Stage::Open, Speaks::Http) => self.handle_http_due(id),
                (Stage::Open, Speaks::WebSocket) => self.handle_ws_due(id),
                (Stage::Open, Speaks::Mesh) => self.handle_link_due(id),
                (Stage::Lingering, _) => self.end(id),
                _ => {}
            }
        }
        self.schedule(id);
    }
}
