//! Message pipes: newline-delimited TCP, stdio, WebSocket. The connection is the conversation: modern requests
//! are served statelessly between legacy ones, and closing it ends everything on it (digest d).

use erlmcp_cluster::Spot;
use erlmcp_protocol::jsonrpc::{self, Message};
use erlmcp_protocol::mcp::{self, Params, PipeRoute, RpcError, codes, errors};

use super::Engine;
use super::caller::{CallOut, Takes};
use super::out;
use super::sessions::Channel;
use super::slots::Key;
use super::task_methods::looks_after_tasks;
use crate::io::ConnId;
use crate::net::{CloseReason, Exchange, Net, PipeKind};

/// One pipe.
struct Pipe {
    conn: ConnId,
    kind: PipeKind,
    /// After a legacy handshake.
    session: Option<Key>,
    /// Calls in flight, of both eras.
    calls: Vec<Key>,
    /// Requests that another shard answers: the `seq` of each.
    away: Vec<u32>,
    last_away: u32,
    /// `subscriptions/listen` streams.
    listens: Vec<Key>,
    /// The peer has said its last word.
    eof: bool,
}

/// All pipes of a shard, by connection slot.
#[derive(Default)]
pub struct Pipes(Vec<Option<Box<Pipe>>>);

impl Pipes {
    /// A pipe opened.
    pub fn open(&mut self, conn: ConnId, kind: PipeKind) {
        let slot = conn.slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        let (calls, listens) = (Vec::new(), Vec::new());
        self.0[slot] = Some(Box::new(Pipe {
            conn,
            kind,
            session: None,
            calls,
            away: Vec::new(),
            last_away: 0,
            listens,
            eof: false,
        }));
    }

    fn get(&self, conn: ConnId) -> Option<&Pipe> {
        self.0.get(conn.slot as usize)?.as_deref().filter(|pipe| pipe.conn == conn)
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Pipe> {
        self.0.get_mut(conn.slot as usize)?.as_deref_mut().filter(|pipe| pipe.conn == conn)
    }

    fn remove(&mut self, conn: ConnId) -> Option<Box<Pipe>> {
        self.get(conn)?;
        self.0.get_mut(conn.slot as usize)?.take()
    }

    /// All open pipes.
    pub fn conns(&self) -> Vec<ConnId> {
        self.0.iter().flatten().map(|pipe| pipe.conn).collect()
    }

    /// A call runs on it.
    pub fn add_call(&mut self, conn: ConnId, call: Key) {
        if let Some(pipe) = self.get_mut(conn) {
            pipe.calls.push(call);
        }
    }

    /// A call has ended.
    pub fn remove_call(&mut self, conn: ConnId, call: Key) {
        if let Some(pipe) = self.get_mut(conn) {
            pipe.calls.retain(|running| *running != call);
        }
    }

    /// A name for a request of it that another shard is to answer.
    pub fn next_away(&mut self, conn: ConnId) -> Option<Exchange> {
        let pipe = self.get_mut(conn)?;
        pipe.last_away = pipe.last_away.wrapping_add(1);
        Some(Exchange { conn, seq: pipe.last_away })
    }

    /// Another shard answers a request of it.
    pub fn add_away(&mut self, exchange: Exchange) {
        if let Some(pipe) = self.get_mut(exchange.conn) {
            pipe.away.push(exchange.seq);
        }
    }

    /// A listen stream runs on it.
    pub fn add_listen(&mut self, conn: ConnId, listen: Key) {
        if let Some(pipe) = self.get_mut(conn) {
            pipe.listens.push(listen);
        }
    }

    /// A listen stream has ended.
    pub fn remove_listen(&mut self, conn: ConnId, listen: Key) {
        if let Some(pipe) = self.get_mut(conn) {
            pipe.listens.retain(|running| *running != listen);
        }
    }

    /// How many listen streams it has.
    pub fn listens(&self, conn: ConnId) -> usize {
        self.get(conn).map_or(0, |pipe| pipe.listens.len())
    }

    /// The same, one by one.
    pub fn listens_of(&self, conn: ConnId) -> Vec<Key> {
        self.get(conn).map(|pipe| pipe.listens.clone()).unwrap_or_default()
    }
}

impl Engine {
    pub(super) fn pipe_message<N: Net>(&mut self, net: &mut N, conn: ConnId, bytes: &[u8]) {
        let Some(pipe) = self.pipes.get(conn) else { return };
        let (kind, session) = (pipe.kind, pipe.session);
        net.counters().messages_in += 1;
        let mut params = Params::default();
        let (message, read) = match mcp::parse_message(bytes, &mut params) {
            Ok(read) => read,
            Err(malformed) => {
                net.counters().error("malformed_message");
                // Digest d.1: an answer to noise on a pipe between two programs could start a storm.
                let noise = malformed.error.code == codes::PARSE_ERROR && kind == PipeKind::Stdio;
                if !noise {
                    self.pipe_error(net, conn, malformed.id.as_deref(), &malformed.error);
                }
                return;
            }
        };
        let id = message.request_id();
        let method = match &message {
            Message::Request { method, .. } | Message::Notification { method, .. } => &**method,
            Message::Response { .. } | Message::Batch(_) => "",
        };
        match read {
            Ok(()) => {}
            Err(error) if id.is_some() => return self.pipe_error(net, conn, id, &error),
            Err(_) => return net.counters().error("malformed_message"),
        }
        let route = mcp::pipe_era(&message, Some(&params), session.is_some());
        // What runs may end; new work would keep the pipe from ever being done.
        let is_work = match route {
            PipeRoute::Modern => id.is_some() && !looks_after_tasks(method),
            PipeRoute::Initialize | PipeRoute::Legacy => id.is_some(),
            PipeRoute::Batch => true,
            _ => false,
        };
        if self.is_leaving() && is_work {
            net.counters().error("refused_draining");
            let error = RpcError::new(codes::INTERNAL_ERROR, "The server is draining");
            self.pipe_error(net, conn, id, &error);
            // It would only be refused more: an idle one need not wait for its turn.
            return self.leave_pipe(net, conn);
        }
        match route {
            PipeRoute::Modern => self.pipe_modern(net, conn, id, method, &params),
            PipeRoute::Initialize => self.pipe_initialize(net, conn, id, &params),
            PipeRoute::Ping => {
                let Some(id) = id else { return };
                let mut text = self.take_scratch();
                jsonrpc::write_result(&mut text, id, b"{}");
                net.counters().messages_out += 1;
                out::pipe(net, conn, &text);
                self.put_scratch(text);
            }
            PipeRoute::Cancelled => self.pipe_cancelled(net, conn, &params),
            PipeRoute::Refuse(error) => self.pipe_error(net, conn, id, &error),
            PipeRoute::Ignore => {}
            PipeRoute::Legacy => {
                let Some(session) = session else { return };
                match id {
                    Some(id) => {
                        let out = CallOut::Pipe(conn);
                        self.session_request(net, session, out, Takes::BOTH, id, method, &params);
                    }
                    None => self.session_say(net, session, &message, &params),
                }
            }
            PipeRoute::Response => {
                if let Some(session) = session {
                    self.session_say(net, session, &message, &params);
                }
            }
            PipeRoute::Batch => {
                if let (Some(session), Message::Batch(items)) = (session, &message) {
                    self.session_batch(net, session, None, items);
                }
            }
        }
    }

    fn pipe_modern<N: Net>(
        &mut self,
        net: &mut N,
        conn: ConnId,
        id: Option<&str>,
        method: &str,
        params: &Params<'_>,
    ) {
        let Some(id) = id else { return };
        if let Err(refusal) = mcp::check_modern(method, params, None) {
            net.counters().error("modern_gate");
            return self.pipe_error(net, conn, Some(id), &refusal.error);
        }
        if self.pipe_has_id(conn, id) {
            let error = errors::invalid_request("This id is in flight already");
            return self.pipe_error(net, conn, Some(id), &error);
        }
        let calls = self.pipes.get(conn).map_or(0, |pipe| pipe.calls.len() + pipe.away.len());
        if calls >= self.config.limits.calls_per_client_max as usize {
            net.counters().error("client_calls_full");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "Too many calls in flight on this connection");
            return self.pipe_error(net, conn, Some(id), &error);
        }
        let caller = self.modern_caller(net, CallOut::Pipe(conn), Takes::BOTH, id, method, params);
        self.modern_request(net, &caller, params, None);
    }

    /// Whether a request with this id is in flight on a pipe, of whichever era: to cancel it must have one
    /// meaning.
    pub(super) fn pipe_has_id(&self, conn: ConnId, id: &str) -> bool {
        let Some(pipe) = self.pipes.get(conn) else { return false };
        let call = |key: &Key| self.calls.get(*key).is_some_and(|call| call.id() == id);
        let listen = |key: &Key| self.listens.get(*key).is_some_and(|listen| &*listen.id == id);
        let session = pipe.session.and_then(|session| self.sessions.get(session));
        let away = |seq: &u32| {
            let away = self.aways.get(&Exchange { conn, seq: *seq });
            away.is_some_and(|away| away.id.as_deref() == Some(id))
        };
        pipe.calls.iter().any(call)
            || pipe.away.iter().any(away)
            || pipe.listens.iter().any(listen)
            || session.is_some_and(|session| session.calls.iter().any(call))
    }

    /// Digest b.5: a second `initialize` is a renegotiation.
    fn pipe_initialize<N: Net>(
        &mut self,
        net: &mut N,
        conn: ConnId,
        id: Option<&str>,
        params: &Params<'_>,
    ) {
        let Some(id) = id else { return };
        let known = self.pipes.get(conn).and_then(|pipe| pipe.session);
        let key = match known {
            Some(key) => key,
            None => match self.make_session(net, Channel::Pipe(conn)) {
                Ok(key) => key,
                Err(_) => {
                    let error =
                        RpcError::new(codes::INTERNAL_ERROR, "Too many sessions; retry later");
                    return self.pipe_error(net, conn, Some(id), &error);
                }
            },
        };
        let caller = self.initialize_caller(net, key, CallOut::Pipe(conn), Takes::BOTH, id);
        match self.negotiate(net, key, &caller, params) {
            Ok(()) => {
                if let Some(pipe) = self.pipes.get_mut(conn) {
                    pipe.session = Some(key);
                }
            }
            Err(error) => {
                self.answer_error(net, &caller, 400, &error);
                if known.is_none() {
                    self.end_session(net, key);
                }
            }
        }
    }

    /// Digest c.9: stop, and send nothing further. Unknown, finished, malformed: ignored.
    fn pipe_cancelled<N: Net>(&mut self, net: &mut N, conn: ConnId, params: &Params<'_>) {
        let Some(id) = params.request_id.map(|id| id.raw()) else { return };
        let Some(pipe) = self.pipes.get(conn) else { return };
        let named = |key: &&Key| self.calls.get(**key).is_some_and(|call| call.id() == id);
        if let Some(call) = pipe.calls.iter().find(named).copied() {
            return self.cancel_call(net, call);
        }
        let named = |key: &&Key| self.listens.get(**key).is_some_and(|listen| &*listen.id == id);
        if let Some(listen) = pipe.listens.iter().find(named).copied() {
            self.listens.remove(listen);
            self.pipes.remove_listen(conn, listen);
            net.counters().streams_active -= 1;
            return;
        }
        // Calls of a batch are known to the session only.
        if let Some(session) = pipe.session {
            self.session_cancelled(net, session, id);
        }
    }

    fn pipe_error<N: Net>(
        &mut self,
        net: &mut N,
        conn: ConnId,
        id: Option<&str>,
        error: &RpcError,
    ) {
        net.counters().request("refused", crate::stats::OutcomeKind::RpcError);
        let mut text = self.take_scratch();
        jsonrpc::write_error(&mut text, id, error);
        net.counters().messages_out += 1;
        out::pipe(net, conn, &text);
        self.put_scratch(text);
    }

    pub(super) fn pipe_oversize<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        net.counters().error("message_too_large");
        let limit = self.config.limits.message_bytes_max;
        let error = errors::invalid_request(format!("A message may have at most {limit} bytes"));
        self.pipe_error(net, conn, None, &error);
    }

    /// The peer will say no more: what runs may finish, then the pipe closes.
    pub(super) fn pipe_eof<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        if let Some(pipe) = self.pipes.get_mut(conn) {
            pipe.eof = true;
        }
        self.pipe_settle(net, conn);
    }

    /// Closes a pipe that has nothing left to wait for.
    pub(super) fn pipe_settle<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        let Some(pipe) = self.pipes.get(conn) else { return };
        // Those of a batch are known to the session only.
        let session = pipe.session.and_then(|session| self.sessions.get(session));
        let idle = pipe.calls.is_empty()
            && pipe.away.is_empty()
            && session.is_none_or(|s| s.calls.is_empty());
        if idle && pipe.eof {
            net.pipe_close(conn, CloseReason::Done);
        } else if idle && self.is_leaving() {
            net.pipe_close(conn, CloseReason::GoingAway);
        }
    }

    /// Another shard has answered a request of a pipe.
    pub(super) fn pipe_replied<N: Net>(
        &mut self,
        net: &mut N,
        from: Spot,
        exchange: Exchange,
        message: &[u8],
    ) {
        if self.awaited(net, from, exchange).is_some() {
            self.aways.remove(&exchange);
            self.pipe_answered(net, exchange, message);
        }
    }

    /// A request of a pipe that was away has its answer.
    pub(super) fn pipe_answered<N: Net>(
        &mut self,
        net: &mut N,
        exchange: Exchange,
        message: &[u8],
    ) {
        let Exchange { conn, seq } = exchange;
        let Some(pipe) = self.pipes.get_mut(conn) else { return };
        pipe.away.retain(|away| *away != seq);
        out::pipe(net, conn, message);
        self.pipe_settle(net, conn);
    }

    pub(super) fn pipe_closed<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        let Some(pipe) = self.pipes.remove(conn) else { return };
        for seq in pipe.away {
            self.aways.remove(&Exchange { conn, seq });
        }
        for call in pipe.calls {
            self.cancel_call(net, call);
        }
        for listen in pipe.listens {
            if self.listens.remove(listen).is_some() {
                net.counters().streams_active -= 1;
            }
        }
        if let Some(session) = pipe.session {
            self.end_session(net, session);
        }
    }
}
