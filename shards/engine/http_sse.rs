//! HTTP+SSE of 2024-11-05: one stream per client, and the posts that belong to it (digest b.11).

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::route::Ask;
use erlmcp_protocol::http::{Head, is_json};
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{Refusal, errors};
use erlmcp_protocol::sse;

use super::caller::{CallOut, Takes};
use super::forwards::Onward;
use super::legacy::parse;
use super::out::{self, Answer, Place};
use super::sessions::Channel;
use super::slots::Key;
use super::whereabouts::Whereabouts;
use super::{Engine, Waiter};
use crate::net::{Exchange, Net};

impl Engine {
    pub(super) fn open_sse<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if self.refuse_while_draining(net, to) {
            return;
        }
        let place = self.here(to);
        if !head.accepts().sse {
            net.counters().error("accept");
            let error = errors::invalid_request("Accept must admit text/event-stream");
            return self.refuse(net, place, None, &Refusal::new(406, error));
        }
        let Some((key, token)) = self.open_session(net, to, Channel::Sse(place)) else { return };
        let token = self.config.keys.seal_session(&token);
        self.waiters.insert(place, Waiter::Sse(key));
        let mut first = Vec::with_capacity(128);
        let endpoint = format!("/messages?sessionId={}", &*token);
        sse::write_event(&mut first, Some("endpoint"), None, endpoint.as_bytes());
        out::open(net, self.me(), place, &first);
    }

    pub(super) fn post_message<N: Net>(
        &mut self,
        net: &mut N,
        to: Exchange,
        head: &Head<'_>,
        body: &[u8],
    ) {
        let place = self.here(to);
        if !is_json(&head.content_type) {
            net.counters().error("content_type");
            let error = errors::invalid_request("Content-Type must be application/json");
            return self.refuse(net, place, None, &Refusal::new(415, error));
        }
        // As on POST /mcp: what lets running calls finish still passes.
        let is_refused = self.is_leaving()
            && matches!(jsonrpc::parse(body), Ok(Message::Request { .. } | Message::Batch(_)));
        let Some(text) = head.query_value("sessionId") else {
            net.counters().error("session_missing");
            let error = errors::invalid_request("The sessionId of the endpoint event is missing");
            return self.refuse(net, place, None, &Refusal::bad_request(error));
        };
        let Some(token) = self.open_token(&text) else {
            return self.refuse_session(net, place, None);
        };
        match self.locate(net, &token, false, false) {
            Whereabouts::At(Spot { node, .. }) if is_refused && node == self.me().node => {
                self.refuse_leaving(net, place);
            }
            Whereabouts::Here(_) if is_refused => self.refuse_leaving(net, place),
            Whereabouts::Here(key) => self.session_posted(net, place, key, body),
            Whereabouts::At(to) => {
                let onward = Onward::new(place, token, Ask::Message { body });
                self.forward(net, to, onward, None);
            }
            Whereabouts::Moving => self.refuse_moving(net, place, None),
            Whereabouts::Nowhere => self.refuse_session(net, place, None),
        }
    }

    /// One message of an HTTP+SSE client: 202 here, whatever is to be said on its stream.
    pub(super) fn session_posted<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        key: Key,
        body: &[u8],
    ) {
        let (message, params) = match parse(body) {
            Ok(parsed) => parsed,
            Err(error) => {
                net.counters().error("malformed_message");
                return self.refuse(net, place, None, &Refusal::bad_request(error));
            }
        };
        net.counters().messages_in += 1;
        let now = net.now();
        self.sessions.touch(key, now);
        let accepted = Answer { status: 202, ..Answer::default() };
        out::respond(net, self.me(), place, accepted);
        match &message {
            Message::Request { id, method, .. } => {
                let out = CallOut::Session;
                self.session_request(net, key, out, Takes::BOTH, id.raw(), method, &params);
            }
            Message::Batch(bytes) => self.session_batch(net, key, None, bytes),
            Message::Notification { .. } | Message::Response { .. } => {
                self.session_say(net, key, &message, &params);
            }
        }
    }
}
