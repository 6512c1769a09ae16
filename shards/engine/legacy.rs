//! The legacy era over HTTP (2024-11-05 … 2025-11-25): sessions, their streams, and requests for sessions
//! that live on another shard.
//!
//! A session id is a sealed token that names its owner. Whoever gets a request looks at the token (`whereabouts`):
//! mine, serve; another shard's, here or on another node, forward the body with the exchange as return address
//! (`forwards`); nobody's, 404.

use erlmcp_cluster::letter::route::Ask;
use erlmcp_protocol::http::Head;
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{
    self, ClientNotification, Key as ParamKey, LogLevel, Method, Params, Refusal, RpcError,
    Version, codes, errors,
};
use erlmcp_protocol::seal::SessionToken;
use serde_json::Value;

use super::Engine;
use super::caller::{CallOut, Caller, Takes};
use super::forwards::{Onward, only_waits};
use super::gate::{header_field, is_modern_header, refuse_modern_method};
use super::listens::Subscriber;
use super::methods::Failure;
use super::out::{self, Answer, Place};
use super::slots::Key;
use super::whereabouts::Whereabouts;
use super::withheld::Promise;
use crate::net::{Exchange, Net};
use crate::stats::OutcomeKind;

impl Engine {
    // ---- At the connection: whose session is it? ----

    #[allow(clippy::too_many_arguments)] // The parts of one request, each needed whole.
    pub(super) fn legacy_post<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        takes: Takes,
        token: Option<SessionToken>,
        message: &Message<'_>,
        params: &Params<'_>,
        body: &[u8],
    ) {
        if let Message::Request { id, method, .. } = message
            && Method::parse(method) == Method::Initialize
        {
            if !head.mcp_session_id.is_absent() {
                let refusal = Refusal::bad_request(errors::already_initialized());
                return self.refuse(net, place, Some(id.raw()), &refusal);
            }
            return self.initialize_http(net, place, takes, id.raw(), params);
        }
        let id = match message {
            Message::Request { id, .. } => Some(id.raw()),
            _ => None,
        };
        let Some(token) = self.require_session(net, place, head, token, id) else { return };
        match self.locate(net, &token, true, false) {
            Whereabouts::Here(key) => {
                let onward = Onward::new(place, token, Ask::Post { takes: takes.into(), body });
                if !self.is_leaving() || !self.leaves_with(net, key, onward) {
                    self.session_message(net, place, takes, key, message, params);
                }
            }
            Whereabouts::At(to) => {
                let onward = Onward::new(place, token, Ask::Post { takes: takes.into(), body });
                self.forward(net, to, onward, id);
            }
            Whereabouts::Moving => self.refuse_moving(net, place, id),
            Whereabouts::Nowhere => self.refuse_session(net, place, id),
        }
    }

    pub(super) fn get<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if is_modern_header(head) {
            return refuse_modern_method(net, to);
        }
        let last_event_id = head.last_event_id.as_str();
        let may_follow = !only_waits(last_event_id) && self.may_follow();
        if !may_follow && self.refuse_while_draining(net, to) {
            return;
        }
        let place = self.here(to);
        if !head.accepts().sse {
            net.counters().error("accept");
            let error = errors::invalid_request("Accept must admit text/event-stream");
            return self.refuse(net, place, None, &Refusal::new(406, error));
        }
        let Some(token) = self.session_token(net, place, head, None) else { return };
        let onward = Onward::new(place, token, Ask::Get { last_event_id });
        match self.locate(net, &token, true, false) {
            Whereabouts::Here(key) => {
                if !self.is_leaving() || !self.leaves_with(net, key, onward) {
                    self.session_get(net, place, key, last_event_id);
                }
            }
            Whereabouts::At(to) => self.forward(net, to, onward, None),
            Whereabouts::Moving => self.refuse_moving(net, place, None),
            Whereabouts::Nowhere => self.refuse_session(net, place, None),
        }
    }

    pub(super) fn delete<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if is_modern_header(head) {
            return refuse_modern_method(net, to);
        }
        let place = self.here(to);
        let Some(token) = self.session_token(net, place, head, None) else { return };
        let onward = Onward::new(place, token, Ask::Delete);
        match self.locate(net, &token, true, false) {
            Whereabouts::Here(key) => {
                if !self.is_leaving() || !self.leaves_with(net, key, onward) {
                    self.session_delete(net, place, key);
                }
            }
            Whereabouts::At(to) => self.forward(net, to, onward, None),
            Whereabouts::Moving => self.refuse_moving(net, place, None),
            Whereabouts::Nowhere => self.refuse_session(net, place, None),
        }
    }

    /// The token of a request that must name a session; answers the exchange itself when it does not.
    pub(super) fn session_token<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        id: Option<&str>,
    ) -> Option<SessionToken> {
        self.require_session(net, place, head, self.named_session(head), id)
    }

    /// What the session id of a request says, if there is one and we made it.
    pub(super) fn named_session(&self, head: &Head<'_>) -> Option<SessionToken> {
        head.mcp_session_id.as_str().and_then(|text| self.open_token(text))
    }

    /// The same as [`Engine::session_token`], of a request whose token was looked at before.
    fn require_session<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        token: Option<SessionToken>,
        id: Option<&str>,
    ) -> Option<SessionToken> {
        let version = header_field(head.mcp_protocol_version);
        if version != mcp::HeaderField::Absent
            && version.as_text().and_then(Version::parse).is_none_or(Version::is_modern)
        {
            net.counters().error("version_header");
            let error =
                errors::invalid_request("MCP-Protocol-Version is not a version served here");
            self.refuse(net, place, id, &Refusal::bad_request(error));
            return None;
        }
        if head.mcp_session_id.is_absent() {
            net.counters().error("session_missing");
            self.refuse(net, place, id, &Refusal::bad_request(errors::session_required()));
            return None;
        }
        if token.is_none() {
            self.refuse_session(net, place, id);
        }
        token
    }

    /// Digest b.9: unknown, expired, deleted, forged: always 404, so that clients initialize anew.
    pub(super) fn refuse_session<N: Net>(&mut self, net: &mut N, place: Place, id: Option<&str>) {
        net.counters().error("session_unknown");
        self.refuse(net, place, id, &Refusal::new(404, errors::session_not_found()));
    }

    /// What a session id says, if a node of this cluster made it.
    pub(super) fn open_token(&self, text: &str) -> Option<SessionToken> {
        self.config.keys.open_session(text)
    }

    // ---- At the owner ----

    pub(super) fn session_message<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        takes: Takes,
        key: Key,
        message: &Message<'_>,
        params: &Params<'_>,
    ) {
        let now = net.now();
        self.sessions.touch(key, now);
        match message {
            Message::Request { id, method, .. } => {
                let out = CallOut::Request { place: Some(place), stream: None };
                self.session_request(net, key, out, takes, id.raw(), method, params);
            }
            Message::Batch(bytes) => self.session_batch(net, key, Some((place, takes)), bytes),
            Message::Notification { .. } | Message::Response { .. } => {
                self.session_say(net, key, message, params);
                let accepted = Answer { status: 202, ..Answer::default() };
                out::respond(net, self.me(), place, accepted);
            }
        }
    }

    /// A request inside a conversation, wherever its answer goes.
    #[allow(clippy::too_many_arguments)] // The parts of one request, each needed whole.
    pub(super) fn session_request<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        out: CallOut,
        takes: Takes,
        id: &str,
        method: &str,
        params: &Params<'_>,
    ) {
        let Some(session) = self.sessions.get(key) else { return };
        let caller = Caller {
            out,
            takes,
            id,
            method: Method::parse(method),
            version: session.version,
            client: session.client,
            session: Some(key),
            progress_token: params.meta.progress_token,
            log_level: Some(session.log_level),
            started_us: net.micros(),
        };
        let in_flight = |call: &Key| self.calls.get(*call).is_some_and(|call| call.id() == id);
        let on_pipe = matches!(out, CallOut::Pipe(conn) if self.pipe_has_id(conn, id));
        if on_pipe || session.calls.iter().any(in_flight) {
            let error = errors::invalid_request("This id is in flight already");
            return self.answer_error(net, &caller, 400, &error);
        }
        if session.calls.len() >= self.config.limits.calls_per_client_max as usize {
            net.counters().error("client_calls_full");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "Too many calls in flight in this session");
            return self.answer_error(net, &caller, 503, &error);
        }
        if let Err(Failure { status, error }) = self.legacy_request(net, &caller, params) {
            self.answer_error(net, &caller, status, &error);
        }
    }

    pub(super) fn legacy_request<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        if !caller.method.served_by(caller.version) {
            return Err(errors::method_not_found(caller.method.as_str()).into());
        }
        let Some(key) = caller.session else { return Err(errors::internal_error().into()) };
        match caller.method {
            Method::Initialize => {
                return self.negotiate(net, key, caller, params).map_err(Failure::from);
            }
            Method::Ping => {}
            Method::SetLevel => {
                let name = params.require(ParamKey::Level, &params.level)?;
                let level = LogLevel::parse(name).ok_or_else(|| errors::invalid_level(name))?;
                let session = self.sessions.get_mut(key);
                if session.is_some_and(|s| std::mem::replace(&mut s.log_level, level) != level) {
                    self.session_changed(net, key);
                }
            }
            Method::ResourcesSubscribe => self.subscribe(net, key, caller, params)?,
            Method::ResourcesUnsubscribe => {
                let uri = params.require(ParamKey::Uri, &params.uri)?;
                if let Some(session) = self.sessions.get_mut(key) {
                    let before = session.subscriptions.len();
                    session.subscriptions.retain(|subscribed| **subscribed != **uri);
                    if session.subscriptions.len() != before {
                        self.session_changed(net, key);
                    }
                }
                self.listens.unsubscribe(uri, Subscriber::Session(key));
            }
            _ => {
                self.serve(net, caller, params, None);
                return Ok(());
            }
        }
        let write = |out: &mut Vec<u8>| mcp::write_empty_result(out, caller.version, None);
        if caller.method == Method::Ping {
            self.answer(net, caller, OutcomeKind::Ok, write);
            return Ok(());
        }
        // What has changed the session is acknowledged when it is as safe as it is to be.
        self.count_request(net, caller, OutcomeKind::Ok);
        let mut text = self.take_scratch();
        jsonrpc::begin_result(&mut text, caller.id);
        write(&mut text);
        jsonrpc::end_result(&mut text);
        let promise = Promise::Answer { out: caller.out, takes: caller.takes };
        self.promise(net, key, caller.id, promise, &text);
        self.put_scratch(text);
        Ok(())
    }

    pub(super) fn subscribe<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), RpcError> {
        if !self.snapshot.has_resources() {
            return Err(errors::method_not_found(caller.method.as_str()));
        }
        let uri = params.require(ParamKey::Uri, &params.uri)?;
        if self.snapshot.resource(uri).is_none() {
            return Err(errors::resource_not_found(caller.version, uri));
        }
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        if session.subscriptions.iter().any(|subscribed| **subscribed == **uri) {
            return Ok(());
        }
        if session.subscriptions.len() >= self.config.limits.subscriptions_max as usize {
            net.counters().error("session_subscriptions_full");
            return Err(RpcError::new(
                codes::INTERNAL_ERROR,
                "Too many subscriptions in this session",
            ));
        }
        session.subscriptions.push(uri.as_ref().into());
        self.listens.subscribe(uri, Subscriber::Session(key));
        self.session_changed(net, key);
        Ok(())
    }

    /// A notification or a response: nothing is answered.
    pub(super) fn session_say<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        message: &Message<'_>,
        params: &Params<'_>,
    ) {
        match message {
            Message::Response { id, result, error } => {
                let value =
                    |raw: &jsonrpc::Raw<'_>| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
                let answer = match (result, error) {
                    (Some(result), _) => Ok(value(result)),
                    (None, Some(error)) => Err(value(error)),
                    (None, None) => Err(Value::Null),
                };
                self.client_answered(net, key, id.raw(), answer);
            }
            Message::Notification { method, .. } => {
                if ClientNotification::parse(method) == ClientNotification::Cancelled
                    && let Some(id) = params.request_id
                {
                    self.session_cancelled(net, key, id.raw());
                }
            }
            Message::Request { .. } | Message::Batch(_) => {}
        }
    }

    /// Digest c.9: unknown and finished ids are ignored.
    pub(super) fn session_cancelled<N: Net>(&mut self, net: &mut N, key: Key, id: &str) {
        let named = |call: &&Key| self.calls.get(**call).is_some_and(|call| call.id() == id);
        let calls = self.sessions.get(key).map(|session| session.calls.as_slice());
        if let Some(call) = calls.unwrap_or_default().iter().find(named).copied() {
            self.cancel_call(net, call);
        }
    }
}

/// Reads a message and its params.
pub(super) fn parse(body: &[u8]) -> Result<(Message<'_>, Params<'_>), RpcError> {
    let mut params = Params::default();
    let read = mcp::parse_message(body, &mut params).map_err(|malformed| malformed.error);
    let (message, read) = read?;
    read.map(|()| (message, params))
}
