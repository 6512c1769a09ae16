//! What is remembered of one connection. Lives: one per slot of the ring's descriptor table. View: shard.
//!
//! Invariants: the record fits 80 bytes; an idle HTTP or line connection owns nothing on the heap; what
//! only some connections need, some of the time, is boxed in [`Lazy`] and freed when it is empty.

use erlmcp_protocol::{http, lines, ws};

use crate::io::Millis;
use crate::stats::Transport;

/// Where a connection is in its life. It only ever moves forward, until `Closed` frees the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stage {
    /// The slot is not in use.
    #[default]
    Free,
    /// Both directions work.
    Open,
    /// Nothing more is read; what is queued is still sent, then FIN follows.
    Flushing,
    /// FIN is sent; what the peer still sends is discarded, so that it sees our answer and not a reset.
    Lingering,
    /// Over: waits until neither receive nor send is pending in the ring.
    Closing,
    /// The close was submitted; the slot is free when the ring says so.
    Closed,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Speaks {
    /// HTTP/1.1 requests and responses, SSE among them.
    #[default]
    Http,
    /// Newline-delimited JSON over TCP.
    Lines,
    /// The same over stdin and stdout.
    Stdio,
    /// WebSocket frames.
    WebSocket,
    /// Frames between nodes.
    Mesh,
}

impl Speaks {
    /// How a client is counted; `None`: it is none.
    pub(crate) const fn transport(self) -> Option<Transport> {
        match self {
            Speaks::Http => Some(Transport::Http),
            Speaks::Lines => Some(Transport::Tcp),
            Speaks::Stdio => Some(Transport::Stdio),
            Speaks::WebSocket => Some(Transport::WebSocket),
            Speaks::Mesh => None,
        }
    }
}

/// Yes-or-no facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u32);

/// One of [`Flags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Flag {
    /// A multishot receive is armed in the ring.
    Receiving = 1,
    /// Its cancellation was submitted.
    Stopping = 1 << 1,
    /// A send is in flight.
    Sending = 1 << 2,
    /// On the list of connections to settle at the end of this turn.
    Dirty = 1 << 3,
    /// On the list of connections with buffered input to be read next turn.
    Ready = 1 << 4,
    /// The peer will send nothing more: FIN or an error.
    Ended = 1 << 5,
    /// An HTTP exchange waits for its response to begin or end.
    Pending = 1 << 6,
    /// The response of that exchange is an open SSE stream.
    Streaming = 1 << 7,
    /// Close once the exchange is over.
    CloseAfter = 1 << 8,
    /// The client speaks HTTP/1.0: a stream ends where the connection does.
    Http10 = 1 << 9,
    /// The request was HEAD: the response has no body.
    HeadOnly = 1 << 10,
    /// Shutdown was submitted.
    Shut = 1 << 11,
    /// The service knows this connection as a pipe and must be told of its end.
    Piped = 1 << 12,
    /// `send_due` is in the wheel's care.
    Watched = 1 << 13,
    /// The peer's FIN on a pipe was told to the service.
    EofTold = 1 << 14,
    /// Accepted only to be told that there is no room; not counted among the active.
    Refused = 1 << 15,
}

impl Flags {
    pub(crate) const fn has(self, flag: Flag) -> bool {
        self.0 & flag as u32 != 0
    }

    pub(crate) const fn set(&mut self, flag: Flag) {
        self.0 |= flag as u32;
    }

    pub(crate) const fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u32);
    }

    pub(crate) const fn put(&mut self, flag: Flag, on: bool) {
        if on { self.set(flag) } else { self.clear(flag) }
    }
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Conn {
    /// How often the slot was reused; 24 bits.
    pub generation: u32,
    /// Counts HTTP requests on this connection.
    pub seq: u32,
    /// Bytes of the send in flight.
    pub flying_bytes: u32,
    /// Bytes to send next.
    pub out: Vec<u8>,
    /// When the peer must have done, or we must do, what the state asks for; [`NEVER`] if nothing.
    pub due: Millis,
    /// When the send in flight must have made progress; [`NEVER`] without one.
    pub send_due: Millis,
    /// When the earliest valid entry in the timer wheel fires; [`NEVER`] without one.
    pub wheel_at: Millis,
    /// What only some connections need.
    pub lazy: Option<Box<Lazy>>,
    /// See [`Flag`].
    pub flags: Flags,
    /// Where in its life.
    pub stage: Stage,
    /// What is spoken.
    pub speaks: Speaks,
}

/// No deadline.
pub(crate) const NEVER: Millis = Millis::MAX;

const _: () = assert!(size_of::<Conn>() <= 80, "100,000 idle connections must stay cheap");

/// What only some connections need, some of the time.
#[derive(Debug, Default)]
pub(crate) struct Lazy {
    /// Bytes received and not yet consumed.
    pub input: Vec<u8>,
    /// How far the request at the start of `input` has been read.
    pub reader: http::RequestReader,
    /// How far the line at the start of `input` has been read.
    pub lines: lines::LineReader,
    /// The WebSocket's frame and message state; only while it is a WebSocket.
    pub ws: Option<Box<WebSocket>>,
    /// `Access-Control-Allow-Origin` of the exchange.
    pub origin: Option<Box<str>>,
    /// Bytes discarded since the connection began to close.
    pub discarded_bytes: usize,
}

/// A WebSocket's own state.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    pub decoder: ws::Decoder,
    /// Pings sent since the peer was last heard.
    pub unanswered_pings: u8,
    /// When the peer was last heard.
    pub heard_at: Millis,
}

impl Lazy {
    /// Bytes of unfinished messages.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.input.len() + self.ws.as_ref().map_or(0, |ws| ws.decoder.assembled_bytes())
    }
}

impl Conn {
    /// Bytes queued and not yet sent.
    pub(crate) fn backlog(&self) -> usize {
        self.out.len() + self.flying_bytes as usize
    }

    /// Bytes received and not yet consumed.
    pub(crate) fn input_bytes(&self) -> usize {
        self.lazy.as_ref().map_or(0, |lazy| lazy.input.len())
    }

    /// Whether it is accepted and not yet over.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Flushing | Stage::Lingering)
    }

    /// Whether an HTTP exchange is under way.
    pub(crate) fn is_pending(&self) -> bool {
        self.flags.has(Flag::Pending)
    }
}
