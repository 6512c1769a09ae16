//! POSTs for a session of another shard of this node: they go there unread, and its owner reads them.
//!
//! A message is the dearest thing to read of a request, and a hop that reads it twice costs more than all its mail.
//! Only what is plainly of the legacy era goes unread (digest b.2): what could make a message modern has one of a few
//! words in it, or an escape that could hide one.
//! Refused for sessions of other nodes: whoever waits for them must know the request's id, should the node be lost.

use erlmcp_cluster::letter::route::Ask;
use erlmcp_protocol::http::Head;
use erlmcp_protocol::jsonrpc::Message;
use erlmcp_protocol::mcp::{self, HeaderField, Method, Params, Refusal, Version, errors};
use erlmcp_protocol::seal::SessionToken;
use memchr::memchr;
use memchr::memmem::Finder;

use super::Engine;
use super::caller::Takes;
use super::forwards::Onward;
use super::gate::header_field;
use super::out::Place;
use super::slots::Key;
use super::whereabouts::Whereabouts;
use crate::net::Net;

/// Looks for what a message of the legacy era inside a session does not have.
pub struct Legacy {
    words: [Finder<'static>; 3],
}

impl Default for Legacy {
    fn default() -> Self {
        let words = ["protocolVersion", Method::Discover.as_str(), Method::Listen.as_str()];
        Self { words: words.map(Finder::new) }
    }
}

impl Legacy {
    /// Whether the message, if it is one, is certainly of the legacy era; most that are, are known to be.
    fn is_plain(&self, version: &HeaderField<'_>, body: &[u8]) -> bool {
        let is_legacy_version = match version.as_version() {
            Some(version) => !Version::is_modern(version),
            None => *version == HeaderField::Absent,
        };
        is_legacy_version
            && memchr(b'\\', body).is_none()
            && self.words.iter().all(|word| word.find(body).is_none())
    }
}

impl Engine {
    /// Sends a POST to the shard of this node that has its session. `false`: it has to be read here.
    pub(super) fn pass_on<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        takes: Takes,
        token: &SessionToken,
        body: &[u8],
    ) -> bool {
        let me = self.me();
        if token.node != me.node || token.shard == me.shard || self.is_leaving() {
            return false;
        }
        if !self.legacy.is_plain(&header_field(head.mcp_protocol_version), body) {
            return false;
        }
        match self.locate(net, token, true, false) {
            Whereabouts::At(to) if to.node == me.node => {
                net.counters().messages_in += 1;
                let ask = Ask::Post { takes: takes.into(), body };
                self.forward(net, to, Onward::new(place, *token, ask), None);
                true
            }
            _ => false,
        }
    }

    /// Reads a POST that another shard has sent to its session here, and serves it.
    pub(super) fn session_forwarded<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        takes: Takes,
        key: Key,
        body: &[u8],
    ) {
        let mut params = Params::default();
        let (message, read) = match mcp::parse_message(body, &mut params) {
            Ok(read) => read,
            Err(malformed) => {
                net.counters().error("malformed_message");
                let refusal = Refusal::bad_request(malformed.error);
                return self.refuse(net, place, malformed.id.as_deref(), &refusal);
            }
        };
        let id = message.request_id();
        // What its sender would have refused, had it read it.
        let read = read.map_err(Refusal::bad_request).and_then(|()| {
            mcp::http_era(&message, Some(&params), &HeaderField::Absent)?;
            match &message {
                Message::Request { method, .. } if Method::parse(method) == Method::Initialize => {
                    Err(Refusal::bad_request(errors::already_initialized()))
                }
                _ => Ok(()),
            }
        });
        match read {
            Ok(()) => self.session_message(net, place, takes, key, &message, &params),
            Err(refusal) => self.refuse(net, place, id, &refusal),
        }
    }
}
