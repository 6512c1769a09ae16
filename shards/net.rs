//! What the MCP engine may ask of connections, and what one HTTP request is to it.
//!
//! The engine decides *what* is said; the connection layer decides *when bytes move*. Nothing here touches
//! the ring: writes go to a connection's queue and are sent in the shard's transmit phase.

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;

use crate::engine::Envelopes;
use crate::io::{ConnId, Millis};
use crate::message::Mail;

/// One HTTP request waiting for its answer on a connection. Stale ones are ignored by every method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// The connection.
    pub conn: ConnId,
    /// Counts requests on that connection.
    pub seq: u32,
}

/// Headers of a whole response beyond the always-present ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// `Content-Type`, absent for empty bodies.
    pub content_type: Option<&'a str>,
    /// `Mcp-Session-Id`.
    pub session_id: Option<&'a str>,
    /// `Allow`, for 405.
    pub allow: Option<&'a str>,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
    /// Extra fields, e.g. of a CORS preflight.
    pub extra: &'a [(&'a str, &'a str)],
    /// Close the connection after this response.
    pub close: bool,
}

/// What kind of duplex message pipe a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipeKind {
    /// Newline-delimited JSON over TCP.
    Lines,
    /// The same over this process's stdin and stdout.
    Stdio,
    /// One message per WebSocket text frame.
    WebSocket,
}

/// Why the engine closes a pipe or a stream's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// All said.
    Done,
    /// The server is draining (WebSocket 1001).
    GoingAway,
    /// The peer broke a rule (WebSocket 1008).
    Policy,
    /// The peer does not read (WebSocket 1013).
    SlowReader,
}

/// What the engine is called back for, at the time it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimerKey {
    /// A running call (slot, generation).
    Call(u32, u32),
    /// A task whose time is over (slot, generation).
    Task(u32, u32),
    /// A session (slot, generation).
    Session(u32, u32),
    /// Changes of sessions are said to those who keep their copies.
    Replicas,
    /// More sessions are to be visited.
    Visit,
    /// What was said of sessions and not acknowledged is looked at.
    Unkept,
    /// Copies are acknowledged to the owners of their sessions.
    Kept,
    /// Answers that have waited long enough for copies leave.
    Withheld,
    /// Sessions whose owners are gone are taken over, or handed to who takes them.
    Orphans,
    /// What owners that are long gone owned is forgotten.
    Directory,
    /// What this shard wants to hear of is confirmed with the other nodes.
    Interest,
    /// What is left to do before this shard leaves.
    Departure,
    /// Housekeeping.
    Sweep,
}

/// What happened to the links between this shard's node and another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEvent {
    /// This shard's own link to the node stands: say again what the other side must know.
    Up,
    /// A link of this shard was short of room, and has room again.
    Drained,
    /// A link between the nodes broke, in either direction: letters under way may be lost, answers among them.
    Lost,
}

/// The connections, as the engine sees them.
pub trait Net {
    /// Monotonic time of this turn.
    fn now(&self) -> Millis;
    /// Wall clock of this turn, milliseconds since 1970.
    fn unix_ms(&self) -> u64;
    /// A clock for durations, microseconds, read now (not once per turn).
    fn micros(&self) -> u64;
    /// Cryptographic randomness.
    fn random(&mut self, out: &mut [u8]);
    /// The allowed `Origin` of this exchange's request: echoed on its response head (CORS).
    fn allow_origin(&mut self, to: Exchange, origin: &str);
    /// Answers an exchange whole.
    fn respond(&mut self, to: Exchange, status: u16, headers: Headers<'_>, body: &[u8]);
    /// Starts an SSE response (200, `text/event-stream`, no-cache, unbuffered). `first` is SSE text, may be empty.
    fn stream_open(&mut self, to: Exchange, headers: Headers<'_>, first: &[u8]);
    /// Appends SSE text (whole events).
    fn stream_write(&mut self, to: Exchange, events: &[u8]);
    /// Appends SSE text and ends the response properly; the connection stays usable.
    fn stream_end(&mut self, to: Exchange, last: &[u8]);
    /// Answers a WebSocket upgrade with 101; from now on the connection is a pipe.
    fn upgrade(&mut self, to: Exchange, accept_key: &str, subprotocol: Option<&str>);
    /// Sends one JSON-RPC message down a pipe, framed as its transport wants.
    fn pipe_send(&mut self, to: ConnId, message: &[u8]);
    /// Closes a pipe after what is queued was sent.
    fn pipe_close(&mut self, to: ConnId, why: CloseReason);
    /// Bytes queued for a connection and not yet sent; 0 for stale ids.
    fn backlog(&self, conn: ConnId) -> usize;
    /// Sends mail to another shard of this process. `false` when its inbox is full (counted).
    fn mail(&mut self, shard: u16, mail: Mail) -> bool;
    /// Sends mail that must arrive: when the inbox is full it waits, in order, and [`Net::mail`] to that shard
    /// is refused until it has left.
    fn mail_surely(&mut self, shard: u16, mail: Mail);
    /// The same bytes, to travel in mail.
    fn text(&mut self, bytes: &[u8]) -> Vec<u8>;
    /// The bytes of mail that was read, to be used again.
    fn was_read(&mut self, text: Vec<u8>);
    /// Boxes for forwards.
    fn envelopes(&mut self) -> &mut Envelopes;
    /// Sends a letter to a shard of another node, over this shard's link. `false` when there is no link, not enough
    /// room for what it is ([`erlmcp_cluster::letter::Urgency`]), or the letter is larger than a frame; counted. A
    /// reply waits for a link that is not up yet; when the link does not come, or has no room, all links with the
    /// node break, and [`LinkEvent::Lost`] follows; one that is too large breaks nothing, so that something shorter
    /// can be said instead. Letters of one shard to one node arrive in order at each of its shards, each at most
    /// once, and all of them unless `Lost` is told.
    fn post(&mut self, to: Spot, letter: &Letter<'_>) -> bool;
    /// Bytes of a message that a letter carries at most; with more [`Net::post`] refuses it, however urgent.
    fn letter_message_bytes_max(&self) -> usize;
    /// Calls [`crate::engine::Engine::handle_timer`] at or soon after `at`. Not cancellable: check when it fires.
    fn timer(&mut self, at: Millis, key: TimerKey);
    /// This shard's counters.
    fn counters(&mut self) -> &mut crate::stats::Counters;
}
