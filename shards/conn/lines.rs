//! Newline-delimited messages: TCP and stdio.

use erlmcp_protocol::lines::Line;

use super::Conns;
use super::feed::Step;
use super::record::{Flag, Speaks};
use crate::io::ConnId;
use crate::service::Service;

impl Conns {
    /// Reads at most one line and has it served.
    pub(super) fn step_lines<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        input: &mut [u8],
    ) -> Step {
        let len = input.len();
        let kept = self.get_mut(id).and_then(|conn| conn.lazy.as_mut());
        let mut reader = kept.map(|lazy| std::mem::take(&mut lazy.lines)).unwrap_or_default();
        let step = match reader.read(input, self.limits.message_bytes_max) {
            Line::Complete(line, used) => {
                service.handle_pipe_message(self, id, line);
                return Step::Consumed(used);
            }
            Line::TooLong(used) => {
                self.counters.error("line_too_long");
                service.handle_pipe_oversize(self, id);
                Step::Consumed(used)
            }
            Line::Partial(used) => Step::Partial(used..len),
        };
        if let Some(conn) = self.get_mut(id)
            && (reader.is_skipping() || matches!(&step, Step::Partial(kept) if !kept.is_empty()))
        {
            conn.lazy().lines = reader;
        }
        step
    }

    /// The peer sent FIN.
    pub(super) fn handle_fin(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        conn.flags.set(Flag::Ended);
        let is_lines = matches!(conn.speaks, Speaks::Lines | Speaks::Stdio);
        if is_lines
            && let Some(lazy) = conn.lazy.as_mut()
            && !lazy.input.is_empty()
        {
            // The end of input ends the last line too.
            lazy.input.push(b'\n');
            self.kept_bytes += 1;
            self.mark_ready(id);
        }
        self.after_feed(id);
    }
}
