//! Who asked: everything about a request that its answer depends on.

use erlmcp_protocol::mcp::{ClientCapabilities, LogLevel, Method, Version};

use super::out::Place;
use super::slots::Key;
use crate::io::ConnId;

/// Where a request's answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOut {
    /// A modern POST.
    Modern {
        /// Its exchange.
        place: Place,
        /// The SSE response has begun.
        open: bool,
    },
    /// A POST of a Streamable HTTP session.
    Request {
        /// Its exchange; `None` once the client has gone (which does not cancel, digest b.10).
        place: Option<Place>,
        /// The session's stream, once the SSE response has begun.
        stream: Option<u32>,
    },
    /// The one stream of an HTTP+SSE session.
    Session,
    /// A pipe.
    Pipe(ConnId),
    /// One item of a 2025-03-26 batch.
    Batch(Key),
    /// A task: whoever called has been answered.
    Task(Key),
    /// A pipe of another shard, which is the place's connection.
    Away(Place),
}

/// Which body types the caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub sse: bool,
}

impl Takes {
    /// Both, as clients must.
    pub const BOTH: Takes = Takes { json: true, sse: true };
}

/// A request's context, borrowed while it is served inline.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'m> {
    /// Where the answer goes.
    pub out: CallOut,
    /// What the exchange takes (always both on pipes).
    pub takes: Takes,
    /// The raw id.
    pub id: &'m str,
    /// What was asked.
    pub method: Method,
    /// The revision the answer is written in.
    pub version: Version,
    /// What the client can do.
    pub client: ClientCapabilities,
    /// The legacy conversation.
    pub session: Option<Key>,
    /// The raw progress token.
    pub progress_token: Option<&'m str>,
    /// Modern: the level asked for. Legacy: the session's.
    pub log_level: Option<LogLevel>,
    /// When the request came, microseconds.
    pub started_us: u64,
}
