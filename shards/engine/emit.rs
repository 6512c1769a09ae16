//! What a call says before its answer: progress, log messages, and the SSE stream they travel on.
//!
//! A POST is answered with plain JSON unless something is said first, or silence grows longer than a proxy
//! bears; then its response becomes a stream (digest b.15).

use erlmcp_cluster::letter::session::EventRecord;
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::{self, Version};
use erlmcp_protocol::sse;
use serde_json::Value;

use super::Engine;
use super::caller::CallOut;
use super::out;
use super::slots::Key;
use super::streams::event_id;
use crate::net::Net;

impl Engine {
    /// Begins the SSE response of a call, if that is how it can speak; `false` when it cannot.
    pub(super) fn open_call_stream<N: Net>(&mut self, net: &mut N, key: Key) -> bool {
        let me = self.me();
        let now = net.now();
        let Some(record) = self.calls.get_mut(key) else { return false };
        if !record.takes.sse {
            return false;
        }
        match &mut record.out {
            CallOut::Modern { open: true, .. } | CallOut::Request { stream: Some(_), .. } => true,
            CallOut::Modern { place, open } => {
                *open = true;
                out::open(net, me, *place, b"");
                true
            }
            CallOut::Request { place: Some(place), stream } => {
                let Some(session) = record.session.and_then(|s| self.sessions.get_mut(s)) else {
                    return false;
                };
                let Some(number) = session.streams().open_request(key, *place, now, &self.bounds)
                else {
                    net.counters().error("session_streams_full");
                    return false;
                };
                *stream = Some(number);
                out::open(net, me, *place, b"");
                if let Some(session) = record.session {
                    self.session_changed(net, session);
                }
                true
            }
            CallOut::Request { place: None, .. } => false,
            CallOut::Session | CallOut::Pipe(_) => true,
            CallOut::Batch(_) | CallOut::Task(_) | CallOut::Away(_) => false,
        }
    }

    /// Sends a message that belongs to a call, before its answer. `false` when the call has no way to speak.
    pub(super) fn emit<N: Net>(&mut self, net: &mut N, key: Key, message: &[u8]) -> bool {
        if !self.open_call_stream(net, key) {
            return false;
        }
        let Some(record) = self.calls.get(key) else { return false };
        let (out, session) = (record.out, record.session);
        net.counters().messages_out += 1;
        match out {
            CallOut::Modern { place, .. } => {
                out::write(net, self.me(), place, &out::event(message, None));
            }
            CallOut::Request { stream: Some(number), .. } => {
                self.push_event(net, session, number, message);
            }
            CallOut::Session => self.send_to_session(net, session, message),
            CallOut::Pipe(conn) => out::pipe(net, conn, message),
            CallOut::Request { stream: None, .. }
            | CallOut::Batch(_)
            | CallOut::Task(_)
            | CallOut::Away(_) => return false,
        }
        true
    }

    /// Appends a message to a session's stream and writes it where the stream is attached.
    pub(super) fn push_event<N: Net>(
        &mut self,
        net: &mut N,
        session: Option<Key>,
        number: u32,
        message: &[u8],
    ) {
        let now = net.now();
        let Some(key) = session else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        let data = std::rc::Rc::from(message);
        let pushed = session.streams().push(number, &data, now, &self.bounds);
        let Some((seq, place)) = pushed else { return };
        if let Some(place) = place {
            let event = out::event(message, Some(&event_id(number, seq)));
            out::write(net, self.me(), place, &event);
        }
        self.session_pushed(net, key, number, place.is_some(), EventRecord { seq, message });
    }

    pub(super) fn finish_stream<N: Net>(&mut self, net: &mut N, session: Option<Key>, number: u32) {
        let now = net.now();
        let Some(key) = session else { return };
        if let Some(session) = self.sessions.get_mut(key) {
            session.streams().finish(number, now);
            self.session_changed(net, key);
        }
    }

    pub(super) fn emit_progress<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        progress: f64,
        total: Option<f64>,
        message: Option<&str>,
    ) {
        let Some(record) = self.calls.get_mut(key) else { return };
        if let (CallOut::Task(task), Some(message)) = (record.out, message) {
            // Digest c.15: a task has no progress notifications. Who looks at it sees what was said.
            let now_unix_ms = net.unix_ms();
            return self.tasks.get_mut(task).into_iter().for_each(|t| t.say(message, now_unix_ms));
        }
        let Some(token) = record.progress_token.clone() else { return };
        // Digest c.8: progress strictly increases. What does not is dropped, not corrected.
        if !progress.is_finite() || record.last_progress.is_some_and(|last| progress <= last) {
            return net.counters().error("progress_not_increasing");
        }
        record.last_progress = Some(progress);
        let version = record.version;
        let mut params = Vec::with_capacity(96);
        mcp::write_progress(&mut params, &token, progress, total, message, version);
        let mut text = self.take_scratch();
        jsonrpc::write_notification(&mut text, "notifications/progress", &params);
        self.emit(net, key, &text);
        self.put_scratch(text);
    }

    pub(super) fn emit_log<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        level: mcp::LogLevel,
        logger: Option<&str>,
        data: &Value,
    ) {
        let Some(record) = self.calls.get(key) else { return };
        // Legacy sessions may change their level while a call runs.
        let minimum = match record.session.and_then(|s| self.sessions.get(s)) {
            Some(session) => Some(session.log_level),
            None => record.log_level,
        };
        if minimum.is_none_or(|minimum| level < minimum) {
            return;
        }
        let mut params = Vec::with_capacity(96);
        mcp::write_log(&mut params, level, logger, data);
        let mut text = self.take_scratch();
        jsonrpc::write_notification(&mut text, "notifications/message", &params);
        self.emit(net, key, &text);
        self.put_scratch(text);
    }

    /// Gives a client of a stream without events an id to come back with (digest b.10). Older revisions
    /// crash on an event without data.
    pub(super) fn prime_call_stream<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(record) = self.calls.get(key) else { return };
        let CallOut::Request { place: Some(place), stream: Some(number) } = record.out else {
            return;
        };
        if record.version < Version::V2025_11_25 {
            return;
        }
        let session = record.session.and_then(|session| self.sessions.get_mut(session));
        if !session.is_some_and(|session| session.streams().prime(number)) {
            return;
        }
        let mut first = Vec::with_capacity(32);
        sse::write_priming(&mut first, &event_id(number, 0));
        out::write(net, self.me(), place, &first);
        if let Some(session) = record.session {
            self.session_changed(net, session);
        }
    }

    /// 2025-11-25 polling (digest b.10): prime the client, say when to come back, end the stream.
    pub(super) fn drop_stream<N: Net>(&mut self, net: &mut N, key: Key, retry_ms: u32) {
        let Some(record) = self.calls.get(key) else { return };
        if record.version < Version::V2025_11_25 || !matches!(record.out, CallOut::Request { .. }) {
            return;
        }
        if !self.open_call_stream(net, key) {
            return;
        }
        self.prime_call_stream(net, key);
        let Some(record) = self.calls.get_mut(key) else { return };
        let CallOut::Request { place, stream: Some(number) } = &mut record.out else { return };
        let (number, attached) = (*number, place.take());
        if let Some(session) = record.session.and_then(|s| self.sessions.get_mut(s)) {
            session.streams().detach(number);
        }
        if let Some(place) = attached {
            self.waiters.remove(&place);
            let mut last = Vec::with_capacity(48);
            sse::write_retry(&mut last, retry_ms);
            out::end(net, self.me(), place, &last);
        }
    }
}
