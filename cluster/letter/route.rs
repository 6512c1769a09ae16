//! Requests for what lives on another node, and what comes of them.
//!
//! Whoever holds the connection sends the request itself, over its own link, and is answered by the very shard it
//! sent it to; who got it and knows that it belongs elsewhere gives it back ([`Route::Elsewhere`]) instead of
//! passing it on. So the holder knows at each moment on which node its answer depends, and a node that is lost
//! leaves nobody waiting. Refused: passing on, and telling the holder (what the third node says, and its loss,
//! can overtake what the holder is told).

use serde::{Deserialize, Serialize};

use super::Urgency;
use crate::{SessionName, Spot};

/// How often one request may be sent, from its first owner to its last: ownership that changes faster is waited for.
pub const HOPS_MAX: u8 = 3;

/// An HTTP exchange, or a request of a pipe, that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The shard that holds the connection.
    pub at: Spot,
    /// Which run of its node: slots and generations begin anew with each.
    pub epoch: u32,
    /// The connection's slot.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
    /// Which request of it.
    pub seq: u32,
}

/// What the id of a session or task says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The shard that made it.
    pub at: Spot,
    /// Which run of its node.
    pub epoch: u32,
    /// The slot in that shard's table.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
    /// Its random part.
    pub name: SessionName,
}

/// A request for a session or a task of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward<'b> {
    /// Who waits.
    pub origin: Origin,
    /// Whose it is.
    pub token: Token,
    /// How often it was sent, this time included: 1 to [`HOPS_MAX`].
    pub hops: u8,
    /// What is asked.
    #[serde(borrow)]
    pub ask: Ask<'b>,
}

/// The kinds of requests that name an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask<'b> {
    /// POST `/mcp`.
    Post {
        /// What the client takes.
        takes: Takes,
        /// The message.
        #[serde(with = "serde_bytes")]
        body: &'b [u8],
    },
    /// GET `/mcp`.
    Get {
        /// `Last-Event-ID`.
        last_event_id: Option<&'b str>,
    },
    /// DELETE `/mcp`.
    Delete,
    /// POST `/messages`.
    Message {
        /// The message.
        #[serde(with = "serde_bytes")]
        body: &'b [u8],
    },
    /// A question about a task.
    Task {
        /// What the client takes.
        takes: Takes,
        /// It came down a pipe.
        on_pipe: bool,
        /// The raw request id.
        id: &'b str,
        /// The question.
        #[serde(borrow)]
        ask: TaskAsk<'b>,
    },
}

/// Which bodies a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takes {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub sse: bool,
}

/// What is asked of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskAsk<'b> {
    /// `tasks/get`.
    Get,
    /// `tasks/update`.
    Update {
        /// JSON of the answers, as the client wrote it.
        answers: &'b str,
    },
    /// `tasks/cancel`.
    Cancel,
}

/// What the holder of the connection is to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply<'b> {
    /// A whole response.
    Respond {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
        /// JSON, may be empty.
        #[serde(with = "serde_bytes")]
        body: &'b [u8],
    },
    /// Begin an SSE response.
    Open(#[serde(with = "serde_bytes")] &'b [u8]),
    /// More of it.
    Write(#[serde(with = "serde_bytes")] &'b [u8]),
    /// Its end.
    End(#[serde(with = "serde_bytes")] &'b [u8]),
}

impl Reply<'_> {
    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Reply::Respond { .. } | Reply::End(_))
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Route<'b> {
    /// A request.
    Forward(#[serde(borrow)] Forward<'b>),
    /// It is not the receiver's: send it there.
    Elsewhere {
        /// Where.
        to: Spot,
        /// What came.
        #[serde(borrow)]
        forward: Forward<'b>,
    },
    /// For an HTTP exchange.
    Reply {
        /// Which.
        to: Origin,
        /// What to write.
        #[serde(borrow)]
        reply: Reply<'b>,
    },
    /// The answer to a request of a pipe.
    PipeReply {
        /// Which.
        to: Origin,
        /// The message.
        #[serde(with = "serde_bytes")]
        message: &'b [u8],
    },
    /// The client of a forwarded exchange has gone.
    Gone(Origin),
    /// The sender, who lost a link, will not answer these exchanges any more.
    Dropped(Vec<Origin>),
    /// The sender has subscribers of these tasks of the receiver.
    Watch {
        /// Which.
        tasks: Vec<Token>,
        /// It said so before, over a link that broke: what it has heard of it need not hear again.
        again: bool,
    },
    /// A task of the sender has changed.
    TaskNews {
        /// Its id.
        id: &'b str,
        /// The members of the DetailedTask, without braces.
        #[serde(with = "serde_bytes")]
        members: &'b [u8],
    },
}

impl Route<'_> {
    /// How hard the mesh tries.
    pub fn urgency(&self) -> Urgency {
        match self {
            Route::Forward(_) | Route::Watch { .. } => Urgency::Request,
            Route::Elsewhere { .. }
            | Route::Reply { .. }
            | Route::PipeReply { .. }
            | Route::Gone(_)
            | Route::Dropped(_) => Urgency::Reply,
            // Who missed one is told when the link has room again.
            Route::TaskNews { .. } => Urgency::Sync,
        }
    }
}
