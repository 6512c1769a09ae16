//! HTTP on one connection: one exchange at a time, timeouts by phase, and errors that the client gets to read.

use erlmcp_protocol::Parsed;
use erlmcp_protocol::http::{
    CONTINUE, HttpError, Method, Phase, Request, RequestReader, ResponseHead, write_chunk,
    write_last_chunk, write_response, write_stream_head,
};

use super::feed::Step;
use super::record::{Conn, Flag, Speaks};
use super::{Conns, NEVER};
use crate::io::ConnId;
use crate::net::{Exchange, Headers};
use crate::service::Service;

impl Conns {
    /// Reads at most one request and has it served.
    pub(super) fn step_http<S: Service>(
        &mut self,
        service: &mut S,
        id: ConnId,
        input: &mut [u8],
    ) -> Step {
        let kept = self.get_mut(id).and_then(|conn| conn.lazy.as_mut());
        let mut reader = kept.map(|lazy| std::mem::take(&mut lazy.reader)).unwrap_or_default();
        let phase_before = reader.phase();
        let len = input.len();
        match reader.read(input, &self.http_limits) {
            Ok(Parsed::Complete(request, used)) => {
                self.serve(service, id, &request);
                Step::Consumed(used)
            }
            Ok(Parsed::Partial) if len == 0 => Step::Partial(0..0),
            Ok(Parsed::Partial) => {
                self.await_more(id, &mut reader, phase_before);
                Step::Partial(0..reader.reclaim().unwrap_or(len).min(len))
                    .storing(self.get_mut(id), reader)
            }
            Err(err) => {
                self.refuse_request(id, err);
                Step::Consumed(len)
            }
        }
    }

    fn serve<S: Service>(&mut self, service: &mut S, id: ConnId, request: &Request<'_>) {
        let is_draining = self.is_draining;
        let Some(conn) = self.get_mut(id) else { return };
        let head = &request.head;
        conn.seq = conn.seq.wrapping_add(1);
        conn.flags.set(Flag::Pending);
        conn.flags.put(Flag::CloseAfter, !head.keep_alive || is_draining);
        conn.flags.put(Flag::Http10, head.http_1_0);
        conn.flags.put(Flag::HeadOnly, head.method == Method::Head);
        conn.due = NEVER;
        let to = Exchange { conn: id, seq: conn.seq };
        service.handle_request(self, to, head, request.body);
    }

    /// A request has begun and is not whole: how long may the rest take?
    fn await_more(&mut self, id: ConnId, reader: &mut RequestReader, phase_before: Phase) {
        if reader.take_continue() {
            self.outbox(id).extend_from_slice(CONTINUE);
        }
        match (phase_before, reader.phase()) {
            // The whole head has one deadline, however often a byte of it drips in.
            (Phase::Idle, Phase::Head) => {
                self.set_due(id, self.now.saturating_add(self.limits.head_timeout_ms));
            }
            (_, Phase::Body) => {
                self.set_due(id, self.now.saturating_add(self.limits.body_timeout_ms));
            }
            _ => {}
        }
    }

    /// What the client sent is no request: say so, and read nothing more.
    fn refuse_request(&mut self, id: ConnId, err: HttpError) {
        self.counters.error(err.reason());
        self.say_and_finish(id, err.status(), None, format_args!("{err}"));
    }

    /// Answers outside of any exchange, in plain text, and closes.
    fn say_and_finish(
        &mut self,
        id: ConnId,
        status: u16,
        retry_after: Option<u32>,
        text: std::fmt::Arguments<'_>,
    ) {
        let date = self.date;
        let head = ResponseHead {
            status,
            content_type: Some("text/plain; charset=utf-8"),
            retry_after,
            date: Some(&date),
            ..ResponseHead::default()
        };
        write_response(self.outbox(id), &head, format!("{text}\n").as_bytes());
        self.finish(id);
    }

    /// The request that is arriving is too large for the memory that is left.
    pub(super) fn refuse_unfinished(&mut self, id: ConnId, reason: &'static str) {
        self.counters.error(reason);
        let seconds = self.jitter_seconds();
        let text = format_args!("too many large requests at once: try again in {seconds} s");
        self.say_and_finish(id, 503, Some(seconds), text);
    }

    /// The deadline of an HTTP connection passed.
    pub(super) fn handle_http_due(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if conn.flags.has(Flag::Streaming) {
            return self.keep_stream_alive(id);
        }
        if conn.is_pending() {
            return;
        }
        match conn.lazy.as_ref().map_or(Phase::Idle, |lazy| lazy.reader.phase()) {
            Phase::Idle => {
                self.counters.error("idle_timeout");
                self.finish(id);
            }
            Phase::Head => {
                self.counters.error("head_timeout");
                self.say_and_finish(id, 408, None, format_args!("the request head took too long"));
            }
            Phase::Body => {
                self.counters.error("body_timeout");
                self.say_and_finish(id, 408, None, format_args!("the request body took too long"));
            }
        }
    }

    /// Proxies and clients drop a stream that is silent for long (digest b.14).
    fn keep_stream_alive(&mut self, id: ConnId) {
        let is_drained = self.get(id).is_some_and(|conn| conn.backlog() == 0);
        if is_drained {
            self.push_events(id, b":\n\n");
        }
        self.set_due(id, self.now.saturating_add(self.limits.stream_keepalive_ms));
    }

    /// No room: say when to come back.
    pub(super) fn refuse_connection(&mut self, id: ConnId) {
        self.counters.error("connections_refused");
        let seconds = self.jitter_seconds();
        match self.get(id).map(|conn| conn.speaks) {
            Some(Speaks::Http) => self.say_and_finish(
                id,
                503,
                Some(seconds),
                format_args!("too many connections: try again in {seconds} s"),
            ),
            Some(_) => {
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"error\":{{\"code\":-32603,\"message\":\
                     \"Too many connections: try again in {seconds} s\"}}}}\n"
                );
                self.outbox(id).extend_from_slice(line.as_bytes());
                self.finish(id);
            }
            None => {}
        }
    }

    /// 1 to 5: those who were refused together shall not come back together.
    fn jitter_seconds(&mut self) -> u32 {
        let mut byte = [0];
        self.random.fill(&mut byte);
        1 + u32::from(byte[0] % 5)
    }

    /// The record of an exchange that still waits for its response to begin.
    pub(super) fn waiting(&mut self, to: Exchange) -> Option<&mut Conn> {
        self.get_mut(to.conn).filter(|conn| {
            conn.seq == to.seq && conn.is_pending() && !conn.flags.has(Flag::Streaming)
        })
    }

    /// The record of an exchange whose stream is open.
    fn streaming(&mut self, to: Exchange) -> Option<&mut Conn> {
        self.get_mut(to.conn).filter(|conn| conn.seq == to.seq && conn.flags.has(Flag::Streaming))
    }

    /// See [`crate::net::Net::allow_origin`].
    pub(super) fn set_origin(&mut self, to: Exchange, origin: &str) {
        if let Some(conn) = self.waiting(to) {
            conn.lazy().origin = Some(origin.into());
        }
    }

    /// See [`crate::net::Net::respond`].
    pub(super) fn write_whole(
        &mut self,
        to: Exchange,
        status: u16,
        headers: Headers<'_>,
        body: &[u8],
    ) {
        let is_draining = self.is_draining;
        let Some(conn) = self.waiting(to) else { return };
        if headers.close || is_draining {
            conn.flags.set(Flag::CloseAfter);
        }
        let is_head_only =
            conn.flags.has(Flag::HeadOnly) && !matches!(status, 100..=199 | 204 | 304);
        self.write_with_head(to.conn, status, headers, |out, head| {
            write_response(out, head, body);
            if is_head_only {
                out.truncate(out.len() - body.len()); // RFC 9110 §9.3.2: the length, not the content.
            }
        });
        self.end_exchange(to.conn);
    }

    /// See [`crate::net::Net::stream_open`].
    pub(super) fn open_stream(&mut self, to: Exchange, headers: Headers<'_>, first: &[u8]) {
        let Some(conn) = self.waiting(to) else { return };
        conn.flags.set(Flag::Streaming);
        if headers.close || conn.flags.has(Flag::Http10) {
            conn.flags.set(Flag::CloseAfter);
        }
        self.counters.streams_active += 1;
        self.write_with_head(to.conn, 200, headers, write_stream_head);
        self.push_events(to.conn, first);
        self.set_due(to.conn, self.now.saturating_add(self.limits.stream_keepalive_ms));
    }

    /// See [`crate::net::Net::stream_write`].
    pub(super) fn write_stream(&mut self, to: Exchange, events: &[u8]) {
        if self.streaming(to).is_none() || !self.has_room(to.conn) {
            return;
        }
        self.push_events(to.conn, events);
        self.set_due(to.conn, self.now.saturating_add(self.limits.stream_keepalive_ms));
    }

    /// See [`crate::net::Net::stream_end`].
    pub(super) fn end_stream(&mut self, to: Exchange, last: &[u8]) {
        let is_draining = self.is_draining;
        if self.streaming(to).is_none() || !self.has_room(to.conn) {
            return;
        }
        self.push_events(to.conn, last);
        let Some(conn) = self.streaming(to) else { return };
        conn.flags.clear(Flag::Streaming);
        if is_draining {
            conn.flags.set(Flag::CloseAfter);
        }
        if !conn.flags.has(Flag::Http10) {
            write_last_chunk(self.outbox(to.conn));
        }
        self.counters.streams_active -= 1;
        self.end_exchange(to.conn);
    }

    /// SSE text, framed as the client's version of HTTP wants it.
    fn push_events(&mut self, id: ConnId, events: &[u8]) {
        let is_chunked = self.get(id).is_some_and(|conn| !conn.flags.has(Flag::Http10));
        let out = self.outbox(id);
        if is_chunked {
            write_chunk(out, events);
        } else {
            out.extend_from_slice(events);
        }
    }

    /// Writes something that begins with a response head, to the connection's own outbox.
    fn write_with_head(
        &mut self,
        id: ConnId,
        status: u16,
        headers: Headers<'_>,
        write: impl FnOnce(&mut Vec<u8>, &ResponseHead<'_>),
    ) {
        let Some(conn) = self.get_mut(id) else { return };
        let origin = conn.lazy.as_mut().and_then(|lazy| lazy.origin.take());
        let keep_alive = !conn.flags.has(Flag::CloseAfter);
        let http_1_0 = conn.flags.has(Flag::Http10);
        let date = self.date;
        let head = ResponseHead {
            status,
            content_type: headers.content_type,
            session_id: headers.session_id,
            allow: headers.allow,
            retry_after: headers.retry_after,
            extra: headers.extra,
            allow_origin: origin.as_deref(),
            date: Some(&date),
            keep_alive,
            http_1_0,
        };
        write(self.outbox(id), &head);
        self.trim(id);
    }

    /// The response is queued whole: the connection is free for the next request, or done.
    fn end_exchange(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else { return };
        conn.flags.clear(Flag::Pending);
        if conn.flags.has(Flag::CloseAfter) {
            return self.finish(id);
        }
        self.set_due(id, self.now.saturating_add(self.limits.idle_timeout_ms));
        self.wake(id);
    }
}

impl Step {
    /// Puts the reader of an unfinished request where the next bytes will find it.
    fn storing(self, conn: Option<&mut Conn>, reader: RequestReader) -> Self {
        if let Some(conn) = conn {
            conn.lazy().reader = reader;
        }
        self
    }
}
