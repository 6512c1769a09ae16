//! Batches, which only a session of 2025-03-26 has (digest a.5): every request in it is answered, in one
//! array, when the last one is.

use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{self, Method, Refusal, RpcError, Version, errors};

use super::Engine;
use super::Waiter;
use super::caller::{CallOut, Takes};
use super::out::{self, Answer, Place};
use super::sessions::Channel;
use super::slots::Key;
use crate::net::Net;

/// A batch whose requests are not all answered yet.
pub struct Batch {
    session: Key,
    /// The POST that waits; `None` on pipes and HTTP+SSE.
    place: Option<(Place, Takes)>,
    waiting: usize,
    body: Vec<u8>,
}

impl Engine {
    pub(super) fn session_batch<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        place: Option<(Place, Takes)>,
        bytes: &[u8],
    ) {
        let known = self.sessions.get(session).is_some_and(|s| s.version == Version::V2025_03_26);
        let items = if known {
            jsonrpc::batch_items(bytes)
        } else {
            Err(errors::invalid_request("Batches exist in protocol version 2025-03-26 only"))
        };
        let items = match items {
            Ok(items) => items,
            Err(error) => return self.refuse_batch(net, session, place, error),
        };
        // One more than its requests, so that inline answers cannot end it before all items were looked at.
        let key = self.batches.insert(Batch { session, place, waiting: 1, body: Vec::new() });
        if let Some((place, _)) = place {
            self.waiters.insert(place, Waiter::Batch(key));
        }
        for item in items {
            self.batch_item(net, session, key, item);
        }
        self.batch_done(net, key, b"");
    }

    fn batch_item<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        batch: Key,
        item: jsonrpc::Raw<'_>,
    ) {
        let message = match jsonrpc::parse_item(item) {
            Ok(message) => message,
            Err(malformed) => {
                return self.batch_error(net, batch, malformed.id.as_deref(), &malformed.error);
            }
        };
        let (id, raw) = match &message {
            Message::Request { id, params, .. } => (Some(id.raw()), *params),
            Message::Notification { params, .. } => (None, *params),
            Message::Response { .. } | Message::Batch(_) => (None, None),
        };
        let params = match mcp::parse_params(raw) {
            Ok(params) => params,
            Err(error) if id.is_some() => return self.batch_error(net, batch, id, &error),
            Err(_) => mcp::Params::default(),
        };
        match &message {
            Message::Request { id, method, .. } if Method::parse(method) == Method::Initialize => {
                let error = errors::invalid_request("initialize must not be part of a batch");
                self.batch_error(net, batch, Some(id.raw()), &error);
            }
            Message::Request { id, method, .. } => {
                if let Some(batch) = self.batches.get_mut(batch) {
                    batch.waiting += 1;
                }
                let out = CallOut::Batch(batch);
                let takes = Takes { json: true, sse: false };
                self.session_request(net, session, out, takes, id.raw(), method, &params);
            }
            _ => self.session_say(net, session, &message, &params),
        }
    }

    fn batch_error<N: Net>(&mut self, net: &mut N, batch: Key, id: Option<&str>, error: &RpcError) {
        let mut text = Vec::with_capacity(128);
        jsonrpc::write_error(&mut text, id, error);
        if let Some(batch) = self.batches.get_mut(batch) {
            batch.waiting += 1;
        }
        self.batch_done(net, batch, &text);
    }

    /// One request of a batch has ended; `message` is empty when there is nothing to answer.
    pub(super) fn batch_done<N: Net>(&mut self, net: &mut N, key: Key, message: &[u8]) {
        let Some(batch) = self.batches.get_mut(key) else { return };
        if !message.is_empty() {
            batch.body.push(if batch.body.is_empty() { b'[' } else { b',' });
            batch.body.extend_from_slice(message);
        }
        batch.waiting -= 1;
        if batch.waiting > 0 {
            return;
        }
        let Some(Batch { session, place, mut body, .. }) = self.batches.remove(key) else { return };
        if !body.is_empty() {
            body.push(b']');
        }
        match place {
            Some((place, takes)) => {
                self.waiters.remove(&place);
                let me = self.me();
                if body.is_empty() || takes.json {
                    let status = if body.is_empty() { 202 } else { 200 };
                    out::respond(
                        net,
                        me,
                        place,
                        Answer { status, body: &body, ..Answer::default() },
                    );
                } else {
                    out::open(net, me, place, b"");
                    out::end(net, me, place, &out::event(&body, None));
                }
            }
            None if body.is_empty() => {}
            None => self.send_to_session(net, Some(session), &body),
        }
        if let Some(Channel::Pipe(conn)) = self.sessions.get(session).map(|s| s.channel) {
            self.pipe_settle(net, conn);
        }
    }

    fn refuse_batch<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        place: Option<(Place, Takes)>,
        error: RpcError,
    ) {
        net.counters().error("batch_refused");
        match place {
            Some((place, _)) => self.refuse(net, place, None, &Refusal::bad_request(error)),
            None => {
                let mut text = Vec::with_capacity(128);
                jsonrpc::write_error(&mut text, None, &error);
                self.send_to_session(net, Some(session), &text);
            }
        }
    }
}
