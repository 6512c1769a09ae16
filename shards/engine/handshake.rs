//! `initialize`: which revision a conversation speaks, and the life of the session it opens (digest b.5, b.10).

use erlmcp_protocol::jsonrpc::{self};
use erlmcp_protocol::mcp::{self, Key as ParamKey, LogLevel, Method, Params, RpcError, Version};
use erlmcp_protocol::seal::SessionToken;

use super::Engine;
use super::caller::{CallOut, Caller, Takes};
use super::forwards::to_letter;
use super::listens::Subscriber;
use super::out::{self, Answer, Place};
use super::sessions::{Channel, Full, Session};
use super::slots::Key;
use super::withheld::Promise;
use crate::net::{Exchange, Net, TimerKey};
use crate::stats::OutcomeKind;

impl Engine {
    pub(super) fn initialize_http<N: Net>(
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
        self.session_made(net, key, to_letter(&token), 0);
        let mut text = self.take_scratch();
        self.write_initialized(&mut text, key, id);
        let token = self.config.keys.seal_session(&token);
        let promise = Promise::Opened { place, json: takes.json, token };
        self.promise(net, key, id, promise, &text);
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

    pub(super) fn settle_version(&mut self, key: Key, params: &Params<'_>) -> Result<(), RpcError> {
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

    pub(super) fn write_initialized(&self, out: &mut Vec<u8>, key: Key, id: &str) {
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

    /// Makes a session and its id; at the cap an idle one makes room, or the exchange is refused.
    pub(super) fn open_session<N: Net>(
        &mut self,
        net: &mut N,
        to: Exchange,
        channel: Channel,
    ) -> Option<(Key, SessionToken)> {
        let Ok(key) = self.make_session(net, channel) else {
            self.refuse_busy(net, to, "Too many sessions; retry later");
            return None;
        };
        let random = self.sessions.get(key).map(|session| session.random).unwrap_or_default();
        let token = SessionToken {
            node: self.me().node,
            shard: self.me().shard,
            slot: key.slot,
            generation: key.generation,
            epoch: self.config.epoch,
            random,
        };
        Some((key, token))
    }

    pub(super) fn make_session<N: Net>(
        &mut self,
        net: &mut N,
        channel: Channel,
    ) -> Result<Key, Full> {
        self.make_room(net)?;
        let mut random = [0; 16];
        net.random(&mut random);
        net.counters().sessions_total += 1;
        let session = Session::new(channel, random, net.now());
        Ok(self.store_session(net, session))
    }

    /// Room for one more session.
    pub(super) fn make_room<N: Net>(&mut self, net: &mut N) -> Result<(), Full> {
        let limits = &self.config.limits;
        let now = net.now();
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
        Ok(())
    }

    /// Stores a session for which there is room.
    pub(super) fn store_session<N: Net>(&mut self, net: &mut N, session: Session) -> Key {
        let due = net.now() + self.config.limits.session_idle_ms;
        let channel = session.channel;
        let key = self.sessions.insert(session);
        net.counters().sessions_active += 1;
        if matches!(channel, Channel::Streamable) {
            net.timer(due, TimerKey::Session(key.slot, key.generation));
        }
        key
    }

    /// Ends a session: its calls are cancelled, its streams closed, its subscriptions forgotten.
    pub(super) fn end_session<N: Net>(&mut self, net: &mut N, key: Key) {
        self.session_over(net, key);
        self.close_session(net, key, b"");
    }

    /// The same on this shard only. `last`: what its streams end with.
    pub(super) fn close_session<N: Net>(&mut self, net: &mut N, key: Key, last: &[u8]) {
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
            out::end(net, self.me(), place, last);
        }
    }

    /// The idle timer of a session.
    pub(super) fn session_timer<N: Net>(&mut self, net: &mut N, key: Key) {
        let now = net.now();
        let idle = self.config.limits.session_idle_ms;
        let is_held = self.is_leaving() && self.is_offered(key);
        let Some(session) = self.sessions.get(key) else { return };
        // Open streams and running calls are activity (digest b.10).
        let due =
            if session.is_busy() || is_held { now + idle } else { session.last_active + idle };
        if due <= now {
            net.counters().error("session_expired");
            self.end_session(net, key);
        } else {
            net.timer(due, TimerKey::Session(key.slot, key.generation));
        }
    }

    pub(super) fn session_delete<N: Net>(&mut self, net: &mut N, place: Place, key: Key) {
        self.end_session(net, key);
        out::respond(net, self.me(), place, Answer { status: 204, ..Answer::default() });
    }
}
