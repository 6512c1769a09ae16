//! The legacy era over HTTP (2024-11-05 … 2025-11-25): sessions, their streams, and requests for sessions
//! that live on another shard.
//!
//! A session id is a sealed token that names its owner. Whoever gets a request looks at the token: mine, serve;
//! another shard's, forward the body with the exchange as return address; not ours at all, 404.

use erlmcp_protocol::http::{Head, is_json};
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{
    self, ClientNotification, Key as ParamKey, LogLevel, Method, Params, Refusal, RpcError,
    Version, codes, errors,
};
use erlmcp_protocol::seal::SessionToken;
use erlmcp_protocol::sse;
use serde_json::Value;

use super::caller::{CallOut, Caller, Takes};
use super::gate::{header_field, is_modern_header, no_params, refuse_modern_method};
use super::listens::Subscriber;
use super::methods::Failure;
use super::out::{self, Answer, JSON, Place};
use super::sessions::{Channel, Full, Session};
use super::slots::Key;
use super::streams::{Resume, STANDALONE, event_id};
use super::task_methods::TaskForward;
use super::{Engine, EngineMail, Waiter};
use crate::message::Mail;
use crate::net::{Exchange, Headers, Net, TimerKey};
use crate::stats::OutcomeKind;

/// What an ended GET stream tells its client about coming back, milliseconds.
const RETRY_MS: u32 = 1000;

/// A request for a session or a task of another shard.
pub struct Forward {
    /// The exchange that waits for the answer.
    pub place: Place,
    /// Whose.
    pub token: SessionToken,
    /// What is asked of it.
    pub what: Forwarded,
}

/// The kinds of requests that name an owner.
pub enum Forwarded {
    /// POST `/mcp`, with its body.
    Post {
        /// What the client takes.
        takes: Takes,
        /// The message.
        body: Box<[u8]>,
    },
    /// GET `/mcp`.
    Get {
        /// `Last-Event-ID`.
        last_event_id: Option<Box<str>>,
    },
    /// DELETE `/mcp`.
    Delete,
    /// POST `/messages`, with its body.
    Message {
        /// The message.
        body: Box<[u8]>,
    },
    /// Modern: a question about a task. Its id names the owner as a session's does.
    Task(TaskForward),
}

impl Forwarded {
    /// Whether it begins something, rather than letting what runs finish.
    fn asks(&self) -> bool {
        match self {
            Forwarded::Get { .. } => true,
            Forwarded::Post { body, .. } | Forwarded::Message { body } => {
                matches!(jsonrpc::parse(body), Ok(Message::Request { .. } | Message::Batch(_)))
            }
            Forwarded::Delete | Forwarded::Task(_) => false,
        }
    }
}

impl Engine {
    // ---- At the connection: whose session is it? ----

    #[allow(clippy::too_many_arguments)] // The parts of one request, each needed whole.
    pub(super) fn legacy_post<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
        takes: Takes,
        message: &Message<'_>,
        params: Option<Params<'_>>,
        body: &[u8],
    ) {
        let params = params.unwrap_or_else(no_params);
        if let Message::Request { id, method, .. } = message
            && Method::parse(method) == Method::Initialize
        {
            if !head.mcp_session_id.is_absent() {
                let refusal = Refusal::bad_request(errors::already_initialized());
                return self.refuse(net, place, Some(id.raw()), &refusal);
            }
            return self.initialize_http(net, place, takes, id.raw(), &params);
        }
        let id = match message {
            Message::Request { id, .. } => Some(id.raw()),
            _ => None,
        };
        let Some(token) = self.session_token(net, place, head, id) else { return };
        if token.shard == self.seat.shard {
            self.session_message(net, place, takes, &token, message, &params);
        } else {
            let what = Forwarded::Post { takes, body: body.into() };
            self.forward(net, Forward { place, token, what });
        }
    }

    pub(super) fn get<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if is_modern_header(head) {
            return refuse_modern_method(net, to);
        }
        if self.refuse_while_draining(net, to) {
            return;
        }
        let place = self.here(to);
        if !head.accepts().sse {
            net.counters().error("accept");
            let error = errors::invalid_request("Accept must admit text/event-stream");
            return self.refuse(net, place, None, &Refusal::new(406, error));
        }
        let Some(token) = self.session_token(net, place, head, None) else { return };
        let last_event_id = head.last_event_id.as_str();
        if token.shard == self.seat.shard {
            self.session_get(net, place, &token, last_event_id);
        } else {
            let what = Forwarded::Get { last_event_id: last_event_id.map(Into::into) };
            self.forward(net, Forward { place, token, what });
        }
    }

    pub(super) fn delete<N: Net>(&mut self, net: &mut N, to: Exchange, head: &Head<'_>) {
        if is_modern_header(head) {
            return refuse_modern_method(net, to);
        }
        let place = self.here(to);
        let Some(token) = self.session_token(net, place, head, None) else { return };
        if token.shard == self.seat.shard {
            self.session_delete(net, place, &token);
        } else {
            self.forward(net, Forward { place, token, what: Forwarded::Delete });
        }
    }

    /// The token of a request that must name a session; answers the exchange itself when it does not.
    fn session_token<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        head: &Head<'_>,
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
        let token = head.mcp_session_id.as_str().and_then(|text| self.open_token(text));
        if token.is_none() {
            self.refuse_session(net, place, id);
        }
        token
    }

    /// Digest b.9: unknown, expired, deleted, forged: always 404, so that clients initialize anew.
    fn refuse_session<N: Net>(&mut self, net: &mut N, place: Place, id: Option<&str>) {
        net.counters().error("session_unknown");
        self.refuse(net, place, id, &Refusal::new(404, errors::session_not_found()));
    }

    fn open_token(&self, text: &str) -> Option<SessionToken> {
        let token = self.config.keys.open_session(text)?;
        let ours = token.node == self.config.node
            && token.epoch == self.config.epoch
            && token.shard < self.seat.shards;
        ours.then_some(token)
    }

    pub(super) fn forward<N: Net>(&mut self, net: &mut N, forward: Forward) {
        let Forward { place, token, .. } = &forward;
        let (place, shard) = (*place, token.shard);
        net.counters().forwards_out += 1;
        self.waiters.insert(place, Waiter::Away(shard));
        if !net.mail(shard, Mail::Engine(EngineMail::Forward(Box::new(forward)))) {
            self.waiters.remove(&place);
            net.counters().error("forward_refused");
            self.refuse_busy(
                net,
                place.exchange,
                "The shard it lives on is overloaded; retry in a moment",
            );
        }
    }

    // ---- At the owner ----

    pub(super) fn forwarded<N: Net>(&mut self, net: &mut N, forward: Forward) {
        let Forward { place, token, what } = forward;
        // The connection's shard may have heard of the drain later than this one, or not yet.
        if self.draining && what.asks() {
            return self.refuse_forwarded(net, place);
        }
        match what {
            Forwarded::Get { last_event_id } => {
                self.session_get(net, place, &token, last_event_id.as_deref());
            }
            Forwarded::Delete => self.session_delete(net, place, &token),
            Forwarded::Message { body } => self.session_posted(net, place, &token, &body),
            Forwarded::Task(forward) => self.task_forwarded(net, place, &token, forward),
            Forwarded::Post { takes, body } => match parse(&body) {
                Ok((message, params)) => {
                    self.session_message(net, place, takes, &token, &message, &params);
                }
                Err(error) => self.refuse(net, place, None, &Refusal::bad_request(error)),
            },
        }
    }

    /// The living session a token names, if it is reached the way the token was used.
    fn find_session(&self, token: &SessionToken, streamable: bool) -> Option<Key> {
        let key = Key { slot: token.slot, generation: token.generation };
        let session = self.sessions.get(key)?;
        let reached = matches!(session.channel, Channel::Streamable) == streamable;
        (session.random == token.random && reached).then_some(key)
    }

    fn session_message<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        takes: Takes,
        token: &SessionToken,
        message: &Message<'_>,
        params: &Params<'_>,
    ) {
        let id = match message {
            Message::Request { id, .. } => Some(id.raw()),
            _ => None,
        };
        let Some(key) = self.find_session(token, true) else {
            return self.refuse_session(net, place, id);
        };
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
                out::respond(net, self.seat.shard, place, accepted);
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

    fn legacy_request<N: Net>(
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
                if let Some(session) = self.sessions.get_mut(key) {
                    session.log_level = level;
                }
            }
            Method::ResourcesSubscribe => self.subscribe(net, key, caller, params)?,
            Method::ResourcesUnsubscribe => {
                let uri = params.require(ParamKey::Uri, &params.uri)?;
                if let Some(session) = self.sessions.get_mut(key) {
                    session.subscriptions.retain(|subscribed| **subscribed != **uri);
                }
                self.listens.unsubscribe(uri, Subscriber::Session(key));
            }
            _ => {
                self.serve(net, caller, params, None);
                return Ok(());
            }
        }
        self.answer(net, caller, OutcomeKind::Ok, |out| {
            mcp::write_empty_result(out, caller.version, None);
        });
        Ok(())
    }

    fn subscribe<N: Net>(
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

    // ---- initialize ----

    fn initialize_http<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        takes: Takes,
        id: &str,
        params: &Params<'_>,
    ) {
        let Some((key, token)) = self.open_session(net, place.exchange, Channel::Streamable) else {
            return;
        };
        let out = CallOut::Request { place: Some(place), stream: None };
        let caller = self.initialize_caller(net, key, out, takes, id);
        if let Err(error) = self.settle_version(key, params) {
            self.answer_error(net, &caller, 400, &error);
            return self.end_session(net, key);
        }
        self.count_request(net, &caller, OutcomeKind::Ok);
        net.counters().messages_out += 1;
        let mut text = self.take_scratch();
        self.write_initialized(&mut text, key, id);
        let headers = Headers { session_id: Some(&token), ..Headers::default() };
        if takes.json {
            let headers = Headers { content_type: Some(JSON), ..headers };
            net.respond(place.exchange, 200, headers, &text);
        } else {
            net.stream_open(place.exchange, headers, b"");
            out::end(net, self.seat.shard, place, &out::event(&text, None));
        }
        self.put_scratch(text);
    }

    /// `initialize` inside an existing conversation: HTTP+SSE and pipes.
    pub(super) fn negotiate<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), RpcError> {
        self.settle_version(key, params)?;
        self.count_request(net, caller, OutcomeKind::Ok);
        let mut text = self.take_scratch();
        self.write_initialized(&mut text, key, caller.id);
        self.send_answer(net, caller, 200, &text);
        self.put_scratch(text);
        Ok(())
    }

    pub(super) fn initialize_caller<'m, N: Net>(
        &self,
        net: &N,
        key: Key,
        out: CallOut,
        takes: Takes,
        id: &'m str,
    ) -> Caller<'m> {
        Caller {
            out,
            takes,
            id,
            method: Method::Initialize,
            version: Version::NEWEST_LEGACY,
            client: Default::default(),
            session: Some(key),
            progress_token: None,
            log_level: None,
            started_us: net.micros(),
        }
    }

    fn settle_version(&mut self, key: Key, params: &Params<'_>) -> Result<(), RpcError> {
        let requested = params.require(ParamKey::ProtocolVersion, &params.protocol_version)?;
        params.check(ParamKey::ClientInfo)?;
        let client = match params.optional(ParamKey::Capabilities, &params.capabilities)? {
            Some(raw) => mcp::parse_capabilities(*raw)?,
            None => Default::default(),
        };
        if let Some(session) = self.sessions.get_mut(key) {
            session.version = Version::negotiate(requested);
            // Digest c.15: the extension belongs to the modern era, where each request declares it.
            session.client = mcp::ClientCapabilities { tasks: false, ..client };
            session.negotiated = true;
            session.log_level = LogLevel::Info;
        }
        Ok(())
    }

    fn write_initialized(&self, out: &mut Vec<u8>, key: Key, id: &str) {
        let version =
            self.sessions.get(key).map_or(Version::NEWEST_LEGACY, |session| session.version);
        jsonrpc::begin_result(out, id);
        mcp::write_initialize(
            out,
            version,
            self.snapshot.capabilities_json(version),
            self.snapshot.server_info_json(),
            self.snapshot.instructions(),
        );
        jsonrpc::end_result(out);
    }

    // ---- Sessions ----

    /// Makes a session and its id; at the cap an idle one makes room, or the exchange is refused.
    fn open_session<N: Net>(
        &mut self,
        net: &mut N,
        to: Exchange,
        channel: Channel,
    ) -> Option<(Key, erlmcp_protocol::seal::TokenText)> {
        let Ok(key) = self.make_session(net, channel) else {
            self.refuse_busy(net, to, "Too many sessions; retry later");
            return None;
        };
        let random = self.sessions.get(key).map(|session| session.random).unwrap_or_default();
        let token = SessionToken {
            node: self.config.node,
            shard: self.seat.shard,
            slot: key.slot,
            generation: key.generation,
            epoch: self.config.epoch,
            random,
        };
        Some((key, self.config.keys.seal_session(&token)))
    }

    pub(super) fn make_session<N: Net>(
        &mut self,
        net: &mut N,
        channel: Channel,
    ) -> Result<Key, Full> {
        let limits = &self.config.limits;
        let (now, idle) = (net.now(), limits.session_idle_ms);
        match self.sessions.room(limits.sessions_max, now, limits.session_evict_after_ms) {
            Ok(None) => {}
            Ok(Some(victim)) => {
                net.counters().error("session_evicted");
                self.end_session(net, victim);
            }
            Err(full) => {
                net.counters().error("sessions_full");
                return Err(full);
            }
        }
        let mut random = [0; 16];
        net.random(&mut random);
        let key = self.sessions.insert(Session::new(channel, random, now));
        net.counters().sessions_total += 1;
        net.counters().sessions_active += 1;
        if matches!(channel, Channel::Streamable) {
            net.timer(now + idle, TimerKey::Session(key.slot, key.generation));
        }
        Ok(key)
    }

    /// Ends a session: its calls are cancelled, its streams closed, its subscriptions forgotten.
    pub(super) fn end_session<N: Net>(&mut self, net: &mut N, key: Key) {
        let calls = match self.sessions.get_mut(key) {
            Some(session) => std::mem::take(&mut session.calls),
            None => return,
        };
        for call in calls {
            self.cancel_call(net, call);
        }
        let Some(mut session) = self.sessions.remove(key) else { return };
        net.counters().sessions_active -= 1;
        for uri in &session.subscriptions {
            self.listens.unsubscribe(uri, Subscriber::Session(key));
        }
        let mut places = session.streams.as_mut().map(|s| s.take_places()).unwrap_or_default();
        if let Channel::Sse(place) = session.channel {
            places.extend(self.waiters.contains_key(&place).then_some(place));
        }
        for place in places {
            self.waiters.remove(&place);
            out::end(net, self.seat.shard, place, b"");
        }
    }

    /// The idle timer of a session.
    pub(super) fn session_timer<N: Net>(&mut self, net: &mut N, key: Key) {
        let now = net.now();
        let idle = self.config.limits.session_idle_ms;
        let Some(session) = self.sessions.get(key) else { return };
        // Open streams and running calls are activity (digest b.10).
        let due = if session.is_busy() { now + idle } else { session.last_active + idle };
        if due <= now {
            net.counters().error("session_expired");
            self.end_session(net, key);
        } else {
            net.timer(due, TimerKey::Session(key.slot, key.generation));
        }
    }

    /// The server drains: streams that only wait end now, those of running calls when the calls do.
    pub(super) fn drain_session<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.channel {
            Channel::Streamable => {
                let gets = session.streams.as_mut().map(|s| s.take_gets()).unwrap_or_default();
                let mut last = Vec::new();
                sse::write_retry(&mut last, RETRY_MS);
                for place in gets {
                    self.waiters.remove(&place);
                    out::end(net, self.seat.shard, place, &last);
                }
            }
            Channel::Sse(_) if session.calls.is_empty() => self.end_session(net, key),
            Channel::Sse(_) | Channel::Pipe(_) => {}
        }
    }

    fn session_delete<N: Net>(&mut self, net: &mut N, place: Place, token: &SessionToken) {
        let Some(key) = self.find_session(token, true) else {
            return self.refuse_session(net, place, None);
        };
        self.end_session(net, key);
        out::respond(net, self.seat.shard, place, Answer { status: 204, ..Answer::default() });
    }

    // ---- GET streams ----

    fn session_get<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        token: &SessionToken,
        last_event_id: Option<&str>,
    ) {
        let Some(key) = self.find_session(token, true) else {
            return self.refuse_session(net, place, None);
        };
        let now = net.now();
        self.sessions.touch(key, now);
        let bounds = self.bounds;
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(id) = last_event_id {
            match session.streams().resume(id, place, now, &bounds) {
                Resume::Replay { events, number, finished, replaced } => {
                    // A client that comes back has left, even if we have not heard of it yet.
                    if let Some(old) = replaced {
                        self.waiters.remove(&old);
                        out::end(net, self.seat.shard, old, b"");
                    }
                    return self.replay(net, key, place, number, &events, finished);
                }
                // What was missed on the standalone stream is gone; what comes is still worth having.
                Resume::Unknown if id.starts_with("0-") => {}
                Resume::Unknown => {
                    net.counters().error("resume_unknown");
                    let error =
                        errors::invalid_request("Last-Event-ID is unknown or too old to resume");
                    return self.refuse(net, place, None, &Refusal::bad_request(error));
                }
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.streams().attach_get(place) {
            net.counters().error("session_gets_full");
            let error = errors::invalid_request("This session has too many GET streams");
            return self.refuse(net, place, None, &Refusal::new(409, error));
        }
        let missed = session.streams().take_undelivered();
        self.waiters.insert(place, Waiter::Stream(key));
        let mut first = b": open\n\n".to_vec();
        write_events(&mut first, STANDALONE, &missed);
        out::open(net, self.seat.shard, place, &first);
    }

    fn replay<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        place: Place,
        number: u32,
        events: &[(u32, std::rc::Rc<[u8]>)],
        finished: bool,
    ) {
        let me = self.seat.shard;
        if finished && events.is_empty() {
            // 204 tells an EventSource to stop; a 200 that ends at once would bring it back for ever.
            return out::respond(net, me, place, Answer { status: 204, ..Answer::default() });
        }
        let mut text = b": resumed\n\n".to_vec();
        write_events(&mut text, number, events);
        out::open(net, me, place, &text);
        if finished {
            return out::end(net, me, place, b"");
        }
        let call = self.sessions.get(key).and_then(|session| {
            session.streams.as_ref().and_then(|streams| streams.get(number)).and_then(|s| s.call)
        });
        match call {
            Some(call) => self.reattach_call(call, place),
            None => {
                self.waiters.insert(place, Waiter::Stream(key));
            }
        }
    }

    /// A stream of a session has gone with its client; the session lives on.
    pub(super) fn stream_gone<N: Net>(&mut self, net: &mut N, key: Key, place: Place) {
        let now = net.now();
        if let Some(session) = self.sessions.get_mut(key) {
            session.streams().handle_gone(place);
            self.sessions.touch(key, now);
        }
    }

    /// Sends a message that belongs to no request.
    pub(super) fn send_to_session<N: Net>(
        &mut self,
        net: &mut N,
        key: Option<Key>,
        message: &[u8],
    ) {
        let Some(channel) = key.and_then(|key| self.sessions.get(key)).map(|s| s.channel) else {
            return;
        };
        match channel {
            Channel::Streamable => self.push_event(net, key, STANDALONE, message),
            Channel::Sse(place) => {
                out::write(net, self.seat.shard, place, &out::legacy_event(message));
            }
            Channel::Pipe(conn) => out::pipe(net, conn, message),
        }
    }

    // ---- HTTP+SSE of 2024-11-05 (digest b.11) ----

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
        self.waiters.insert(place, Waiter::Sse(key));
        let mut first = Vec::with_capacity(128);
        let endpoint = format!("/messages?sessionId={}", &*token);
        sse::write_event(&mut first, Some("endpoint"), None, endpoint.as_bytes());
        out::open(net, self.seat.shard, place, &first);
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
        let asks = matches!(jsonrpc::parse(body), Ok(Message::Request { .. } | Message::Batch(_)));
        if self.draining && asks {
            self.refuse_while_draining(net, to);
            return;
        }
        let Some(text) = head.query_value("sessionId") else {
            net.counters().error("session_missing");
            let error = errors::invalid_request("The sessionId of the endpoint event is missing");
            return self.refuse(net, place, None, &Refusal::bad_request(error));
        };
        let Some(token) = self.open_token(&text) else {
            return self.refuse_session(net, place, None);
        };
        if token.shard == self.seat.shard {
            self.session_posted(net, place, &token, body);
        } else {
            let what = Forwarded::Message { body: body.into() };
            self.forward(net, Forward { place, token, what });
        }
    }

    /// One message of an HTTP+SSE client: 202 here, whatever is to be said on its stream.
    fn session_posted<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        token: &SessionToken,
        body: &[u8],
    ) {
        let Some(key) = self.find_session(token, false) else {
            return self.refuse_session(net, place, None);
        };
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
        out::respond(net, self.seat.shard, place, accepted);
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

/// Reads a message and its params.
fn parse(body: &[u8]) -> Result<(Message<'_>, Params<'_>), RpcError> {
    let message = jsonrpc::parse(body).map_err(|malformed| malformed.error)?;
    let params = match &message {
        Message::Request { params, .. } | Message::Notification { params, .. } => {
            mcp::parse_params(*params)?
        }
        Message::Response { .. } | Message::Batch(_) => no_params(),
    };
    Ok((message, params))
}

fn write_events(text: &mut Vec<u8>, number: u32, events: &[(u32, std::rc::Rc<[u8]>)]) {
    for (seq, message) in events {
        sse::write_event(text, None, Some(&event_id(number, *seq)), message);
    }
}
