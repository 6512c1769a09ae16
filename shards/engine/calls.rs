//! Calls: a handler's steps, from the first to the answer.
//!
//! Most calls finish inline and never get a record. One that emits something first, needs input, or answers
//! later gets a [`CallRecord`] and lives in the table until it is answered, cancelled, or its caller has gone.
//!
//! Invariants: a record is in its session's or pipe's list of calls exactly as long as it is in the table;
//! progress strictly increases; nothing is written after the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use erlmcp_catalog::{
    Call, CallEvent, Found, NeedInput, Outcome, ServedPrompt, ServedTool, Step, TaskSupport,
    TraceContext,
};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::{self, InputRequest, InputResponses, RpcError, Version, codes};
use erlmcp_protocol::sse;
use serde_json::Value;

use super::caller::{CallOut, Caller, Takes};
use super::gate::retry_after;
use super::methods::{capability_of, purpose};
use super::out::{self, Answer, Place};
use super::sessions::Pending;
use super::slots::Key;
use super::streams::event_id;
use super::task_calls::{becomes_task, hints_for};
use super::{Engine, EngineMail, Waiter, commit_after};
use crate::io::Millis;
use crate::message::Mail;
use crate::net::{Net, TimerKey};
use crate::stats::OutcomeKind;

/// Rounds of input a call may ask for.
pub const ROUNDS_MAX: u32 = 16;

/// Requests one round may hold.
pub const ROUND_REQUESTS_MAX: usize = 32;

/// What is called.
#[derive(Clone)]
pub enum Target {
    /// `tools/call`.
    Tool(Arc<ServedTool>),
    /// `prompts/get`.
    Prompt(Arc<ServedPrompt>),
    /// `resources/read`.
    Resource(Found),
}

impl Target {
    pub(super) fn run(&self, call: &mut Call) -> Step {
        match self {
            Target::Tool(tool) => tool.run(call),
            Target::Prompt(prompt) => prompt.run(call),
            Target::Resource(resource) => resource.run(call),
        }
    }

    fn check(&self, step: Step) -> Step {
        match self {
            Target::Tool(tool) => tool.check(step),
            Target::Prompt(prompt) => prompt.check(step),
            Target::Resource(found) => found.check(step),
        }
    }
}

/// A call about to be made.
pub struct Invocation<'m> {
    /// What.
    pub target: Target,
    /// The name or URI, as the client wrote it.
    pub name: Arc<str>,
    /// Arguments; a resource has its own.
    pub arguments: Value,
    /// Responses of the last round.
    pub responses: InputResponses,
    /// The handler's state of the last round.
    pub state: Option<Value>,
    /// Rounds so far.
    pub rounds: u32,
    /// The trace the request is part of.
    pub trace: Option<Box<TraceContext>>,
    /// The arguments once more, should they be needed again: a legacy handler is called again with them, a
    /// modern caller's state is bound to them. As text, which costs a call that needs neither nothing.
    pub again: &'m str,
}

/// A round of requests that a legacy client is working on.
struct Round {
    outstanding: usize,
    responses: InputResponses,
    state: Option<Value>,
    deadline: Millis,
}

/// A call in flight.
pub struct CallRecord {
    pub(super) out: CallOut,
    pub(super) takes: Takes,
    pub(super) id: Box<str>,
    method: mcp::Method,
    pub(super) version: Version,
    pub(super) client: mcp::ClientCapabilities,
    session: Option<Key>,
    pub(super) progress_token: Option<Box<str>>,
    pub(super) log_level: Option<mcp::LogLevel>,
    started_us: u64,
    pub(super) target: Target,
    pub(super) name: Arc<str>,
    pub(super) again: Box<str>,
    pub(super) trace: Option<Box<TraceContext>>,
    pub(super) rounds: u32,
    round: Option<Round>,
    last_progress: Option<f64>,
    pub(super) cancelled: Option<Arc<AtomicBool>>,
    commit_at: Millis,
}

impl CallRecord {
    /// The raw request id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            out: self.out,
            takes: self.takes,
            id: &self.id,
            method: self.method,
            version: self.version,
            client: self.client,
            session: self.session,
            progress_token: self.progress_token.as_deref(),
            log_level: self.log_level,
            started_us: self.started_us,
        }
    }
}

impl Engine {
    /// Runs a handler's first step (or, modern, the step of a later round).
    pub(super) fn invoke<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        invocation: Invocation<'_>,
    ) {
        if self.calls.len() >= self.config.limits.calls_max as usize {
            net.counters().error("calls_full");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "Too many calls in flight; retry in a moment");
            return self.answer_error(net, caller, 503, &error);
        }
        let key = self.calls.next_key();
        let Invocation { target, name, arguments, responses, state, rounds, trace, again } =
            invocation;
        let hints = hints_for(caller, &target);
        let must = hints.is_some_and(|hints| hints.support == TaskSupport::Required);
        if must && !self.has_room_for_task(net, again) {
            let error = RpcError::new(codes::INTERNAL_ERROR, "Too many tasks; retry later");
            return self.answer_error(net, caller, 503, &error);
        }
        let mut call = Call::new(
            self.context.clone(),
            key.to_u64(),
            name.clone(),
            arguments,
            caller.version,
            caller.client,
        )
        .resumed(responses, state)
        .traced(trace.clone());
        let step = target.run(&mut call);
        let events = std::mem::take(&mut call.events);
        // A tool that may do without a task does, if there is no room for one.
        let hints = hints.filter(|hints| {
            becomes_task(hints, &step) && (must || self.has_room_for_task(net, again))
        });
        if events.is_empty() && hints.is_none() {
            if call.is_deferred() && !matches!(step, Step::Later) {
                self.retire_ticket(key);
            }
            match &step {
                Step::Done(outcome) => return self.answer_outcome(net, caller, outcome, &target),
                Step::Error(error) => return self.answer_error(net, caller, 200, error),
                Step::NeedInput(need) if caller.version.is_modern() => {
                    return self.answer_need_input(net, caller, need, rounds, &name, again);
                }
                Step::NeedInput(_) | Step::Later => {}
            }
        }
        let commit_at = net.now() + commit_after(&self.config.limits);
        let cancelled = self.answers.take_flag(key);
        let record = CallRecord {
            out: caller.out,
            takes: caller.takes,
            id: caller.id.into(),
            method: caller.method,
            version: caller.version,
            client: caller.client,
            session: caller.session,
            progress_token: caller.progress_token.map(Into::into),
            log_level: caller.log_level,
            started_us: caller.started_us,
            target,
            name,
            again: again.into(),
            trace,
            rounds,
            round: None,
            last_progress: None,
            cancelled,
            commit_at,
        };
        if let Some(hints) = hints {
            return self.begin_task(net, caller, hints, record, events, step);
        }
        self.calls.insert(record);
        net.counters().calls_active += 1;
        self.adopt_call(key, caller);
        net.timer(commit_at, TimerKey::Call(key.slot, key.generation));
        self.after_step(net, key, events, step);
    }

    /// A handler took a reply and answered without it. What is said through that reply must not reach the
    /// call that would have been next to get this ticket.
    fn retire_ticket(&mut self, key: Key) {
        if let Some(flag) = self.answers.take_flag(key) {
            flag.store(true, Ordering::Relaxed);
        }
        self.calls.skip_key();
    }

    /// Registers a call with whoever can end it.
    fn adopt_call(&mut self, key: Key, caller: &Caller<'_>) {
        if let Some(session) = caller.session.and_then(|session| self.sessions.get_mut(session)) {
            session.calls.push(key);
        }
        match caller.out {
            CallOut::Modern { place, .. } | CallOut::Request { place: Some(place), .. } => {
                self.waiters.insert(place, Waiter::Call(key));
            }
            CallOut::Pipe(conn) => self.pipes.add_call(conn, key),
            CallOut::Request { place: None, .. }
            | CallOut::Session
            | CallOut::Batch(_)
            | CallOut::Task(_)
            | CallOut::Away(_) => {}
        }
    }

    pub(super) fn after_step<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        events: Vec<CallEvent>,
        step: Step,
    ) {
        for event in events {
            self.handle_call_event(net, key, event);
        }
        self.handle_call_event(net, key, CallEvent::Step(step));
    }

    /// Takes what deferred calls have said since the last look.
    pub(super) fn drain_answers<N: Net>(&mut self, net: &mut N) {
        for _ in 0..self.answers.waiting() {
            let Some(mail) = self.answers.next() else { return };
            let key = Key::from_u64(mail.ticket);
            let event = match (mail.event, self.calls.get(key)) {
                (CallEvent::Step(step), Some(record)) => CallEvent::Step(record.target.check(step)),
                (event, _) => event,
            };
            self.handle_call_event(net, key, event);
        }
    }

    fn handle_call_event<N: Net>(&mut self, net: &mut N, key: Key, event: CallEvent) {
        match event {
            // A change is a change even if nobody waits for the call any more.
            CallEvent::Publish(change) => self.announce(net, vec![change], None),
            CallEvent::Progress { progress, total, message } => {
                self.emit_progress(net, key, progress, total, message.as_deref());
            }
            CallEvent::Log { level, logger, data } => {
                self.emit_log(net, key, level, logger.as_deref(), &data);
            }
            CallEvent::DropStream { retry_ms } => self.drop_stream(net, key, retry_ms),
            CallEvent::Step(step) => self.handle_step(net, key, step),
        }
    }

    fn handle_step<N: Net>(&mut self, net: &mut N, key: Key, step: Step) {
        if let Some(&CallRecord { out: CallOut::Task(task), .. }) = self.calls.get(key) {
            return self.task_step(net, key, task, step);
        }
        match step {
            Step::Later => {}
            Step::NeedInput(need) => {
                let Some(record) = self.calls.get(key) else { return };
                if !record.version.is_modern() {
                    return self.begin_round(net, key, need);
                }
                let Some(record) = self.take_call(net, key) else { return };
                let CallRecord { rounds, name, again, .. } = &record;
                self.answer_need_input(net, &record.caller(), &need, *rounds, name, again);
                self.call_settled(net, &record);
            }
            Step::Done(outcome) => {
                let Some(record) = self.take_call(net, key) else { return };
                self.answer_outcome(net, &record.caller(), &outcome, &record.target);
                self.call_settled(net, &record);
            }
            Step::Error(error) => {
                let Some(record) = self.take_call(net, key) else { return };
                self.answer_error(net, &record.caller(), 200, &error);
                self.call_settled(net, &record);
            }
        }
    }

    /// Takes a call out of the table and of every list it is in.
    pub(super) fn take_call<N: Net>(&mut self, net: &mut N, key: Key) -> Option<CallRecord> {
        let record = self.calls.remove(key)?;
        net.counters().calls_active -= 1;
        if let Some(session) = record.session.and_then(|session| self.sessions.get_mut(session)) {
            session.calls.retain(|call| *call != key);
            session.pending.retain(|pending| pending.call != key);
        }
        match record.out {
            CallOut::Modern { place, .. } | CallOut::Request { place: Some(place), .. } => {
                self.waiters.remove(&place);
            }
            CallOut::Pipe(conn) => self.pipes.remove_call(conn, key),
            CallOut::Request { place: None, .. }
            | CallOut::Session
            | CallOut::Batch(_)
            | CallOut::Task(_)
            | CallOut::Away(_) => {}
        }
        if let Some(flag) = record.cancelled.clone().or_else(|| self.answers.take_flag(key)) {
            flag.store(true, Ordering::Relaxed);
        }
        Some(record)
    }

    /// A call has ended: whoever waited for the last one may go.
    fn call_settled<N: Net>(&mut self, net: &mut N, record: &CallRecord) {
        if let Some(session) = record.session {
            let now = net.now();
            self.sessions.touch(session, now);
            if self.draining {
                self.drain_session(net, session);
            }
        }
        if let CallOut::Pipe(conn) = record.out {
            self.pipe_settle(net, conn);
        }
    }

    /// Ends a call without an answer (digest c.9).
    pub(super) fn cancel_call<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(record) = self.take_call(net, key) else { return };
        self.count_request(net, &record.caller(), OutcomeKind::Cancelled);
        match record.out {
            // The exchange must end somehow: an empty stream says nothing, which is what is wanted.
            CallOut::Request { place: Some(place), stream } => {
                let me = self.seat.shard;
                match stream {
                    Some(number) => self.finish_stream(net, record.session, number),
                    None => out::open(net, me, place, b""),
                }
                out::end(net, me, place, b"");
            }
            // Nobody is attached; who comes back for it must not wait for ever.
            CallOut::Request { place: None, stream: Some(number) } => {
                self.finish_stream(net, record.session, number);
            }
            CallOut::Batch(batch) => self.batch_done(net, batch, b""),
            _ => {}
        }
        self.call_settled(net, &record);
    }

    /// The exchange of a call has gone.
    pub(super) fn caller_gone<N: Net>(&mut self, net: &mut N, key: Key, place: Place) {
        let Some(record) = self.calls.get_mut(key) else { return };
        match &mut record.out {
            // Digest c.9: modern, leaving is cancelling.
            CallOut::Modern { .. } => self.cancel_call(net, key),
            // Legacy: it is not; the answer waits in the stream's ring, if the client knows one.
            CallOut::Request { place: attached, .. } => {
                *attached = None;
                if let Some(session) = record.session.and_then(|s| self.sessions.get_mut(s)) {
                    session.streams().handle_gone(place);
                }
            }
            _ => {}
        }
    }

    /// A client came back for the stream of a call that still runs.
    pub(super) fn reattach_call(&mut self, key: Key, place: Place) {
        let Some(record) = self.calls.get_mut(key) else { return };
        if let CallOut::Request { place: attached, .. } = &mut record.out {
            *attached = Some(place);
            self.waiters.insert(place, Waiter::Call(key));
        }
    }

    /// A call's timer: open the stream so that keep-alives can flow, or give up on the client's answers.
    pub(super) fn call_timer<N: Net>(&mut self, net: &mut N, key: Key) {
        let now = net.now();
        let Some(record) = self.calls.get(key) else { return };
        if record.round.as_ref().is_some_and(|round| round.deadline <= now) {
            return self.round_timed_out(net, key);
        }
        let silent = matches!(
            record.out,
            CallOut::Modern { open: false, .. } | CallOut::Request { place: Some(_), stream: None }
        );
        if silent && record.takes.sse && record.commit_at <= now && self.open_call_stream(net, key)
        {
            self.prime_call_stream(net, key);
        }
        let Some(record) = self.calls.get(key) else { return };
        if let Some(round) = &record.round {
            net.timer(round.deadline, TimerKey::Call(key.slot, key.generation));
        }
    }

    /// Begins the SSE response of a call, if that is how it can speak; `false` when it cannot.
    fn open_call_stream<N: Net>(&mut self, net: &mut N, key: Key) -> bool {
        let me = self.seat.shard;
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
                true
            }
            CallOut::Request { place: None, .. } => false,
            CallOut::Session | CallOut::Pipe(_) => true,
            CallOut::Batch(_) | CallOut::Task(_) | CallOut::Away(_) => false,
        }
    }

    /// Sends a message that belongs to a call, before its answer. `false` when the call has no way to speak.
    fn emit<N: Net>(&mut self, net: &mut N, key: Key, message: &[u8]) -> bool {
        if !self.open_call_stream(net, key) {
            return false;
        }
        let Some(record) = self.calls.get(key) else { return false };
        let (out, session) = (record.out, record.session);
        net.counters().messages_out += 1;
        match out {
            CallOut::Modern { place, .. } => {
                out::write(net, self.seat.shard, place, &out::event(message, None));
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
        let Some(session) = session.and_then(|s| self.sessions.get_mut(s)) else { return };
        let data = std::rc::Rc::from(message);
        let pushed = session.streams().push(number, &data, now, &self.bounds);
        if let Some((seq, Some(place))) = pushed {
            let event = out::event(message, Some(&event_id(number, seq)));
            out::write(net, self.seat.shard, place, &event);
        }
    }

    pub(super) fn finish_stream<N: Net>(&mut self, net: &mut N, session: Option<Key>, number: u32) {
        let now = net.now();
        if let Some(session) = session.and_then(|s| self.sessions.get_mut(s)) {
            session.streams().finish(number, now);
        }
    }

    fn emit_progress<N: Net>(
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

    fn emit_log<N: Net>(
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
    fn prime_call_stream<N: Net>(&mut self, net: &mut N, key: Key) {
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
        out::write(net, self.seat.shard, place, &first);
    }

    /// 2025-11-25 polling (digest b.10): prime the client, say when to come back, end the stream.
    fn drop_stream<N: Net>(&mut self, net: &mut N, key: Key, retry_ms: u32) {
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
            out::end(net, self.seat.shard, place, &last);
        }
    }

    // ---- Rounds of input, legacy: real requests on the call's own stream (digest c.11) ----

    fn begin_round<N: Net>(&mut self, net: &mut N, key: Key, need: NeedInput) {
        let Some(record) = self.calls.get_mut(key) else { return };
        record.rounds += 1;
        if record.rounds > ROUNDS_MAX || need.requests.len() > ROUND_REQUESTS_MAX {
            net.counters().error("input_rounds_exceeded");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "The handler asked for too much input");
            return self.handle_step(net, key, Step::Error(error));
        }
        let (version, client) = (record.version, record.client);
        let refused = need.requests.iter().find(|request| !may_ask(request, version, &client));
        if let Some(request) = refused {
            let text =
                format!("This client did not declare what `{}` needs", request.method.as_str());
            return self.fail_call(net, key, &text);
        }
        if need.requests.is_empty() {
            return self.resume_call(net, key, InputResponses::new(), need.state);
        }
        let deadline = net.now() + self.config.limits.client_request_timeout_ms;
        let outstanding = need.requests.len();
        let responses = InputResponses::new();
        record.round = Some(Round { outstanding, responses, state: need.state, deadline });
        net.timer(deadline, TimerKey::Call(key.slot, key.generation));
        for request in need.requests {
            if !self.ask_client(net, key, request, version) {
                let text = "This call cannot ask the client: it has no stream to the client";
                return self.fail_call(net, key, text);
            }
        }
    }

    fn ask_client<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        request: InputRequest,
        version: Version,
    ) -> bool {
        let Some(record) = self.calls.get(key) else { return false };
        let Some(session) = record.session.and_then(|s| self.sessions.get_mut(s)) else {
            return false;
        };
        let number = session.next_request;
        session.next_request += 1;
        session.pending.push(Pending { number, call: key, key: request.key.clone() });
        let method = request.method;
        let mut params = Vec::with_capacity(256);
        let elicitation = format!("e-{number}");
        mcp::write_input_params(&mut params, &request, version, Some(&elicitation));
        let mut text = self.take_scratch();
        let id = format!("\"s-{number}\"");
        jsonrpc::write_request(&mut text, &id, method.as_str(), &params);
        let sent = self.emit(net, key, &text);
        self.put_scratch(text);
        sent
    }

    /// A client's answer to a request of ours. Nobody waiting for it is normal: it is dropped.
    pub(super) fn client_answered<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        id: &str,
        answer: Result<Value, Value>,
    ) {
        let number = id
            .strip_prefix("\"s-")
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|digits| digits.parse::<u64>().ok());
        let Some(waiting) = self.sessions.get_mut(session) else { return };
        let found = waiting.pending.iter().position(|pending| Some(pending.number) == number);
        let Some(index) = found else {
            return net.counters().error("client_response_unexpected");
        };
        let Pending { call: key, key: name, .. } = waiting.pending.swap_remove(index);
        let Some(round) = self.calls.get_mut(key).and_then(|record| record.round.as_mut()) else {
            return;
        };
        match answer {
            Ok(result) => {
                round.responses.insert(name, result);
                round.outstanding -= 1;
                if round.outstanding == 0 {
                    let record = self.calls.get_mut(key).and_then(|record| record.round.take());
                    if let Some(Round { responses, state, .. }) = record {
                        self.resume_call(net, key, responses, state);
                    }
                }
            }
            Err(error) => {
                let said = error.get("message").and_then(Value::as_str).unwrap_or("no message");
                let text = format!("The client refused a request of this call: {said}");
                self.fail_call(net, key, &text);
            }
        }
    }

    fn round_timed_out<N: Net>(&mut self, net: &mut N, key: Key) {
        net.counters().error("client_request_timeout");
        let Some(session) = self.calls.get(key).and_then(|record| record.session) else { return };
        let numbers: Vec<u64> = match self.sessions.get(session) {
            Some(session) => {
                session.pending.iter().filter(|p| p.call == key).map(|p| p.number).collect()
            }
            None => Vec::new(),
        };
        // Digest c.9: whoever gives up on its own request says so on the same stream.
        for number in numbers {
            let params = format!("{{\"requestId\":\"s-{number}\",\"reason\":\"timed out\"}}");
            let mut text = self.take_scratch();
            jsonrpc::write_notification(&mut text, "notifications/cancelled", params.as_bytes());
            self.emit(net, key, &text);
            self.put_scratch(text);
        }
        self.fail_call(net, key, "The client did not answer in time");
    }

    fn resume_call<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        responses: InputResponses,
        state: Option<Value>,
    ) {
        let Some(record) = self.calls.get_mut(key) else { return };
        record.round = None;
        let mut call = Call::new(
            self.context.clone(),
            key.to_u64(),
            record.name.clone(),
            serde_json::from_str(&record.again).unwrap_or_default(),
            record.version,
            record.client,
        )
        .resumed(responses, state)
        .traced(record.trace.clone());
        let target = record.target.clone();
        let step = target.run(&mut call);
        if let Some(flag) = self.answers.take_flag(key)
            && let Some(record) = self.calls.get_mut(key)
        {
            record.cancelled = Some(flag);
        }
        let events = std::mem::take(&mut call.events);
        self.after_step(net, key, events, step);
    }

    /// Ends a call with a failure that the model can read.
    fn fail_call<N: Net>(&mut self, net: &mut N, key: Key, text: &str) {
        let Some(record) = self.calls.get(key) else { return };
        let step = match record.target {
            Target::Tool(_) => Step::Done(Outcome::Tool(erlmcp_catalog::failed(text))),
            Target::Prompt(_) | Target::Resource(_) => {
                Step::Error(RpcError::new(codes::INTERNAL_ERROR, text.to_owned()))
            }
        };
        self.handle_step(net, key, step);
    }

    // ---- Answers ----

    pub(super) fn answer_outcome<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        outcome: &Outcome,
        target: &Target,
    ) {
        let snapshot = self.snapshot.clone();
        let info = caller.version.is_modern().then(|| snapshot.server_info_json());
        let kind = match outcome {
            Outcome::Tool(result) if result.is_error => OutcomeKind::ToolError,
            _ => OutcomeKind::Ok,
        };
        let ttl = match target {
            Target::Tool(tool) => {
                self.count_tool(net, caller, tool.name());
                0
            }
            Target::Prompt(_) => 0,
            Target::Resource(found) => u64::from(found.ttl_ms()),
        };
        self.answer(net, caller, kind, |out| match outcome {
            Outcome::Tool(result) => mcp::write_tool_result(out, result, caller.version, info),
            Outcome::Prompt(result) => mcp::write_prompt_result(out, result, caller.version, info),
            Outcome::Resource(contents) => {
                mcp::write_read_result(
                    out,
                    contents,
                    caller.version,
                    ttl,
                    mcp::CacheScope::Private,
                    info,
                );
            }
        });
    }

    fn answer_need_input<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        need: &NeedInput,
        rounds: u32,
        name: &str,
        again: &str,
    ) {
        let undeclared: Vec<_> = need
            .requests
            .iter()
            .filter(|request| !may_ask(request, caller.version, &caller.client))
            .map(|request| capability_of(request.method))
            .collect();
        if !undeclared.is_empty() {
            let error = mcp::errors::missing_capability(&undeclared);
            return self.answer_error(net, caller, 400, &error);
        }
        let nothing = need.requests.is_empty() && need.state.is_none();
        if nothing || rounds >= ROUNDS_MAX || need.requests.len() > ROUND_REQUESTS_MAX {
            net.counters().error("input_rounds_exceeded");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "The handler asked for too much input");
            return self.answer_error(net, caller, 200, &error);
        }
        let state = match &need.state {
            None => None,
            Some(state) => {
                match self.seal_state(net, state, rounds + 1, &purpose(caller.method, name, again))
                {
                    Ok(state) => Some(state),
                    Err(error) => return self.answer_error(net, caller, 200, &error),
                }
            }
        };
        let snapshot = self.snapshot.clone();
        let info = snapshot.server_info_json();
        self.answer(net, caller, OutcomeKind::InputRequired, |out| {
            mcp::write_input_required(out, &need.requests, state.as_deref(), Some(info));
        });
    }

    /// Answers with a result.
    pub(super) fn answer<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        kind: OutcomeKind,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.count_request(net, caller, kind);
        let mut text = self.take_scratch();
        jsonrpc::begin_result(&mut text, caller.id);
        write(&mut text);
        jsonrpc::end_result(&mut text);
        self.send_answer(net, caller, 200, &text);
        self.put_scratch(text);
    }

    /// Answers with an error. `status` matters only if no byte of the response was sent and the era says so.
    pub(super) fn answer_error<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        status: u16,
        error: &RpcError,
    ) {
        self.count_request(net, caller, OutcomeKind::RpcError);
        let mut text = self.take_scratch();
        jsonrpc::write_error(&mut text, Some(caller.id), error);
        self.send_answer(net, caller, status, &text);
        self.put_scratch(text);
    }

    /// Sends the last message of a request where its caller waits.
    pub(super) fn send_answer<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        status: u16,
        message: &[u8],
    ) {
        let me = self.seat.shard;
        net.counters().messages_out += 1;
        match caller.out {
            CallOut::Modern { place, open: true } => {
                out::end(net, me, place, &out::event(message, None));
            }
            CallOut::Modern { place, open: false }
            | CallOut::Request { place: Some(place), stream: None } => {
                if caller.takes.json || status != 200 {
                    let retry_after = (status == 503).then(|| retry_after(net));
                    let answer = Answer { status, body: message, retry_after, ..Answer::default() };
                    out::respond(net, me, place, answer);
                } else {
                    out::open(net, me, place, b"");
                    out::end(net, me, place, &out::event(message, None));
                }
            }
            CallOut::Request { stream: Some(number), .. } => {
                self.end_request_stream(net, caller.session, number, message);
            }
            CallOut::Request { place: None, stream: None } => {
                net.counters().error("answer_without_stream");
            }
            CallOut::Session => self.send_to_session(net, caller.session, message),
            CallOut::Pipe(conn) => out::pipe(net, conn, message),
            CallOut::Batch(batch) => self.batch_done(net, batch, message),
            CallOut::Away(place) => {
                let conn = place.exchange.conn;
                let reply = EngineMail::PipeReply { conn, message: message.into() };
                net.mail_surely(place.shard, Mail::Engine(reply));
            }
            // Tasks end in `task_step`.
            CallOut::Task(_) => net.counters().error("answer_without_stream"),
        }
    }

    fn end_request_stream<N: Net>(
        &mut self,
        net: &mut N,
        session: Option<Key>,
        number: u32,
        message: &[u8],
    ) {
        let now = net.now();
        let me = self.seat.shard;
        let Some(session) = session.and_then(|s| self.sessions.get_mut(s)) else { return };
        let data = std::rc::Rc::from(message);
        let pushed = session.streams().push(number, &data, now, &self.bounds);
        session.streams().finish(number, now);
        if let Some((seq, Some(place))) = pushed {
            self.waiters.remove(&place);
            out::end(net, me, place, &out::event(message, Some(&event_id(number, seq))));
        }
    }

    pub(super) fn count_request<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        kind: OutcomeKind,
    ) {
        let took = net.micros().saturating_sub(caller.started_us);
        net.counters().request(caller.method.as_str(), kind);
        net.counters().latency(caller.method.as_str(), took);
    }

    pub(super) fn count_tool<N: Net>(&mut self, net: &mut N, caller: &Caller<'_>, name: &str) {
        let took = net.micros().saturating_sub(caller.started_us);
        net.counters().tool_latency(name, took);
    }
}

/// Whether a client of this revision can be asked this.
pub fn may_ask(request: &InputRequest, version: Version, client: &mcp::ClientCapabilities) -> bool {
    let known = match request.method {
        mcp::InputMethod::ElicitForm => version >= Version::V2025_06_18,
        mcp::InputMethod::ElicitUrl => version >= Version::V2025_11_25,
        mcp::InputMethod::Sample | mcp::InputMethod::Roots => true,
    };
    known && request.method.allowed_by(client)
}
