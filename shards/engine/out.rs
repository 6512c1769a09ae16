//! Where answers go: an exchange of this shard, one of another shard, reached by mail, or one of another node,
//! reached by letter.

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::{Origin, Reply, Route};
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{RpcError, codes};
use erlmcp_protocol::sse;
use serde_json::json;

use super::EngineMail;
use crate::io::ConnId;
use crate::message::Mail;
use crate::net::{Exchange, Headers, Net};

/// An HTTP exchange anywhere in the cluster; of a pipe, one of its requests that are answered elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The shard that holds the connection.
    pub at: Spot,
    /// Which run of its node: exchanges are counted anew in each.
    pub epoch: u32,
    /// The exchange there.
    pub exchange: Exchange,
}

impl Place {
    /// As letters say it.
    pub fn to_origin(self) -> Origin {
        let Exchange { conn: ConnId { slot, generation }, seq } = self.exchange;
        Origin { at: self.at, epoch: self.epoch, slot, generation, seq }
    }

    /// The inverse of [`Place::to_origin`].
    pub fn from_origin(origin: Origin) -> Self {
        let Origin { at, epoch, slot, generation, seq } = origin;
        Self { at, epoch, exchange: Exchange { conn: ConnId { slot, generation }, seq } }
    }
}

/// What the owner of a session asks another shard of its node to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyOp {
    /// A whole response.
    Respond {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
        /// JSON, may be empty.
        body: Vec<u8>,
    },
    /// Begin an SSE response.
    Open(Vec<u8>),
    /// More of it.
    Write(Vec<u8>),
    /// Its end.
    End(Vec<u8>),
}

impl ReplyOp {
    fn new<N: Net>(net: &mut N, reply: Reply<'_>) -> Self {
        match reply {
            Reply::Respond { status, retry_after, body } => {
                Self::Respond { status, retry_after, body: net.text(body) }
            }
            Reply::Open(first) => Self::Open(net.text(first)),
            Reply::Write(events) => Self::Write(net.text(events)),
            Reply::End(last) => Self::End(net.text(last)),
        }
    }

    /// What it carried.
    pub fn into_text(self) -> Vec<u8> {
        let (Self::Respond { body: text, .. }
        | Self::Open(text)
        | Self::Write(text)
        | Self::End(text)) = self;
        text
    }

    /// As it is applied, and as letters say it.
    pub fn reply(&self) -> Reply<'_> {
        match self {
            Self::Respond { status, retry_after, body } => {
                Reply::Respond { status: *status, retry_after: *retry_after, body }
            }
            Self::Open(first) => Reply::Open(first),
            Self::Write(events) => Reply::Write(events),
            Self::End(last) => Reply::End(last),
        }
    }
}

/// The media type of every JSON body.
pub const JSON: &str = "application/json";

/// Status, headers and body of a whole answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// JSON body, may be empty.
    pub body: &'a [u8],
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// `Mcp-Session-Id` (never of a remote exchange: sessions are opened where the connection is).
    pub session_id: Option<&'a str>,
}

/// Answers an exchange whole.
pub fn respond<N: Net>(net: &mut N, me: Spot, to: Place, answer: Answer<'_>) {
    let Answer { status, body, retry_after, session_id } = answer;
    if to.at == me {
        let content_type = (!body.is_empty()).then_some(JSON);
        let headers = Headers { content_type, session_id, retry_after, ..Headers::default() };
        net.respond(to.exchange, status, headers, body);
    } else {
        send(net, me, to, Reply::Respond { status, retry_after, body });
    }
}

/// Begins an SSE response. Whoever holds the connection counts the stream, so that it is counted once.
pub fn open<N: Net>(net: &mut N, me: Spot, to: Place, first: &[u8]) {
    if to.at == me {
        net.stream_open(to.exchange, Headers::default(), first);
    } else {
        send(net, me, to, Reply::Open(first));
    }
}

/// Appends SSE text.
pub fn write<N: Net>(net: &mut N, me: Spot, to: Place, events: &[u8]) {
    if to.at == me {
        net.stream_write(to.exchange, events);
    } else {
        send(net, me, to, Reply::Write(events));
    }
}

/// Ends an SSE response.
pub fn end<N: Net>(net: &mut N, me: Spot, to: Place, last: &[u8]) {
    if to.at == me {
        net.stream_end(to.exchange, last);
    } else {
        send(net, me, to, Reply::End(last));
    }
}

/// Answers a request that came down a pipe of another shard.
pub fn pipe_reply<N: Net>(net: &mut N, me: Spot, to: Place, message: &[u8]) {
    if to.at.node == me.node {
        let mail = EngineMail::PipeReply {
            from: me.shard,
            exchange: to.exchange,
            message: net.text(message),
        };
        net.mail_surely(to.at.shard, Mail::Engine(mail));
        return;
    }
    let refusal = (message.len() > net.letter_message_bytes_max()).then(|| too_large(net, message));
    let (message, to_there) = (refusal.as_deref().unwrap_or(message), to.to_origin());
    net.post(to.at, &Letter::Route(Route::PipeReply { to: to_there, message }));
}

/// Applies what another shard asked for to one of our exchanges.
pub fn apply<N: Net>(net: &mut N, to: Exchange, reply: Reply<'_>) {
    match reply {
        Reply::Respond { status, retry_after, body } => {
            let content_type = (!body.is_empty()).then_some(JSON);
            let headers = Headers { content_type, retry_after, ..Headers::default() };
            net.respond(to, status, headers, body);
        }
        Reply::Open(first) => net.stream_open(to, Headers::default(), first),
        Reply::Write(events) => net.stream_write(to, events),
        Reply::End(last) => net.stream_end(to, last),
    }
}

/// What finds no link is lost, and so is the link that the request came by: its sender tells its client.
fn send<N: Net>(net: &mut N, me: Spot, to: Place, reply: Reply<'_>) {
    if to.at.node == me.node {
        let op = ReplyOp::new(net, reply);
        let envelope = net.envelopes().take();
        let mail = EngineMail::Reply { from: me.shard, exchange: to.exchange, op, envelope };
        let mail = Mail::Engine(mail);
        net.mail_surely(to.at.shard, mail);
        return;
    }
    let there = to.to_origin();
    let post = |net: &mut N, reply| {
        net.post(to.at, &Letter::Route(Route::Reply { to: there, reply }));
    };
    let (Reply::Respond { body: text, .. }
    | Reply::Open(text)
    | Reply::Write(text)
    | Reply::End(text)) = reply;
    if text.len() <= net.letter_message_bytes_max() {
        return post(net, reply);
    }
    match reply {
        Reply::Respond { body, .. } => {
            let body = &too_large(net, body);
            post(net, Reply::Respond { status: 500, retry_after: None, body });
        }
        Reply::End(last) => {
            let data = last.windows(6).position(|six| six == b"data: ").map_or(0, |at| at + 6);
            let message = last[data..].split(|byte| *byte == b'\n').next().unwrap_or_default();
            let last = event(&too_large(net, message), None);
            post(net, Reply::End(&last));
        }
        // What is left out was only to be known meanwhile.
        Reply::Open(_) => post(net, Reply::Open(b"")),
        Reply::Write(_) => net.counters().error("reply_too_large"),
    }
}

/// In the place of an answer that no letter can carry: an error with its id. Asked on its own node, it is given.
fn too_large<N: Net>(net: &mut N, message: &[u8]) -> Vec<u8> {
    net.counters().error("reply_too_large");
    let id = match jsonrpc::parse(message) {
        Ok(Message::Response { id, .. }) => Some(id),
        _ => None,
    };
    let why = "The answer is too large to travel between nodes";
    let error = RpcError::new(codes::INTERNAL_ERROR, why).with_data(json!({ "retryable": false }));
    let mut text = Vec::with_capacity(160);
    jsonrpc::write_error(&mut text, id.as_ref().map(|id| id.raw()), &error);
    text
}

/// One SSE event around a message.
pub fn event(message: &[u8], id: Option<&str>) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + 32);
    sse::write_event(&mut text, None, id, message);
    text
}

/// One `event: message` around a message, as HTTP+SSE of 2024-11-05 wants it.
pub fn legacy_event(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + 32);
    sse::write_event(&mut text, Some("message"), None, message);
    text
}

/// Sends one message down a pipe.
pub fn pipe<N: Net>(net: &mut N, to: ConnId, message: &[u8]) {
    net.pipe_send(to, message);
}
