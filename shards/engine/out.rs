//! Where answers go: an exchange of this shard, or one of another shard, reached by mail.

use erlmcp_cluster::Spot;
use erlmcp_protocol::sse;

use super::EngineMail;
use crate::io::ConnId;
use crate::message::Mail;
use crate::net::{Exchange, Headers, Net};

/// An HTTP exchange anywhere in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The shard that holds the connection.
    pub at: Spot,
    /// The exchange there.
    pub exchange: Exchange,
}

/// What the owner of a session asks the holder of the connection to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyOp {
    /// A whole response.
    Respond {
        /// HTTP status.
        status: u16,
        /// `Content-Type: application/json`, when the body is not empty.
        json: bool,
        /// `Allow`.
        allow: Option<&'static str>,
        /// `Retry-After`, seconds.
        retry_after: Option<u32>,
        /// Body.
        body: Box<[u8]>,
    },
    /// Begin an SSE response.
    Open(Box<[u8]>),
    /// More of it.
    Write(Box<[u8]>),
    /// Its end.
    End(Box<[u8]>),
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
    /// `Allow`, for 405.
    pub allow: Option<&'static str>,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
    /// `Mcp-Session-Id` (never of a remote exchange: sessions are opened where the connection is).
    pub session_id: Option<&'a str>,
}

/// Answers an exchange whole.
pub fn respond<N: Net>(net: &mut N, me: Spot, to: Place, answer: Answer<'_>) {
    let Answer { status, body, allow, retry_after, session_id } = answer;
    if to.at == me {
        let headers = Headers {
            content_type: (!body.is_empty()).then_some(JSON),
            session_id,
            allow,
            retry_after,
            ..Headers::default()
        };
        net.respond(to.exchange, status, headers, body);
        return;
    }
    let op =
        ReplyOp::Respond { status, json: !body.is_empty(), allow, retry_after, body: body.into() };
    mail(net, to, op);
}

/// Begins an SSE response. Whoever holds the connection counts the stream, so that it is counted once.
pub fn open<N: Net>(net: &mut N, me: Spot, to: Place, first: &[u8]) {
    if to.at == me {
        net.stream_open(to.exchange, Headers::default(), first);
    } else {
        mail(net, to, ReplyOp::Open(first.into()));
    }
}

/// Appends SSE text.
pub fn write<N: Net>(net: &mut N, me: Spot, to: Place, events: &[u8]) {
    if to.at == me {
        net.stream_write(to.exchange, events);
    } else {
        mail(net, to, ReplyOp::Write(events.into()));
    }
}

/// Ends an SSE response.
pub fn end<N: Net>(net: &mut N, me: Spot, to: Place, last: &[u8]) {
    if to.at == me {
        net.stream_end(to.exchange, last);
    } else {
        mail(net, to, ReplyOp::End(last.into()));
    }
}

/// Applies what another shard asked for to one of our exchanges.
pub fn apply<N: Net>(net: &mut N, to: Exchange, op: &ReplyOp) {
    match op {
        ReplyOp::Respond { status, json, allow, retry_after, body } => {
            let headers = Headers {
                content_type: json.then_some(JSON),
                allow: *allow,
                retry_after: *retry_after,
                ..Headers::default()
            };
            net.respond(to, *status, headers, body);
        }
        ReplyOp::Open(first) => net.stream_open(to, Headers::default(), first),
        ReplyOp::Write(events) => net.stream_write(to, events),
        ReplyOp::End(last) => net.stream_end(to, last),
    }
}

fn mail<N: Net>(net: &mut N, to: Place, op: ReplyOp) {
    let mail = Mail::Engine(EngineMail::Reply { exchange: to.exchange, op });
    net.mail_surely(to.at.shard, mail);
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
