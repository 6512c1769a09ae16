//! The seam between the connection layer and what is served over it. The MCP engine implements it; the
//! loop's own tests use a small echo service.

use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::view::View;
use erlmcp_protocol::http::Head;

use crate::engine::EngineMail;
use crate::io::{ConnId, Millis};
use crate::net::{Exchange, LinkEvent, Net, PipeKind, TimerKey};

/// What a shard serves. Called from the shard's thread only; must not block.
pub trait Service {
    /// A whole HTTP request.
    fn handle_request<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>, body: &[u8]);
    /// The peer left before this exchange's response ended.
    fn handle_gone<N: Net>(&mut self, net: &mut N, to: Exchange);
    /// A message pipe opened.
    fn handle_pipe_open<N: Net>(&mut self, net: &mut N, conn: ConnId, kind: PipeKind);
    /// One message of a pipe.
    fn handle_pipe_message<N: Net>(&mut self, net: &mut N, conn: ConnId, message: &[u8]);
    /// A line longer than the limit was dropped.
    fn handle_pipe_oversize<N: Net>(&mut self, net: &mut N, conn: ConnId);
    /// The peer sent FIN: finish what is in flight, then [`Net::pipe_close`].
    fn handle_pipe_eof<N: Net>(&mut self, net: &mut N, conn: ConnId);
    /// The pipe is gone for good.
    fn handle_pipe_closed<N: Net>(&mut self, net: &mut N, conn: ConnId);
    /// Mail for the service.
    fn handle_mail<N: Net>(&mut self, net: &mut N, mail: EngineMail);
    /// A letter from a shard of another node.
    fn handle_letter<N: Net>(&mut self, _net: &mut N, _from: Spot, _letter: Letter<'_>) {}
    /// Something happened to the links to another node.
    fn handle_link<N: Net>(&mut self, _net: &mut N, _node: u16, _event: LinkEvent) {}
    /// The cluster has changed.
    fn handle_view<N: Net>(&mut self, _net: &mut N, _view: &Arc<View>) {}
    /// A timer asked for with [`Net::timer`].
    fn handle_timer<N: Net>(&mut self, net: &mut N, key: TimerKey);
    /// End streams, refuse new work: the shard leaves when it is idle, and at `until` whatever happens. Comes again
    /// when it is to leave sooner.
    fn handle_drain<N: Net>(&mut self, net: &mut N, until: Millis);
    /// For how long the oldest change has waited that other nodes are to know of, milliseconds.
    fn sync_lag_ms(&self, _now: Millis) -> Millis {
        0
    }
    /// While it drains: nothing is left that must still be done.
    fn is_idle(&self) -> bool;
}
