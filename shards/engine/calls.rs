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
    Call, CallEvent, Found, ServedPrompt, ServedTool, Step, TaskSupport, TraceContext,
};
use erlmcp_protocol::mcp::{self, InputResponses, RpcError, Version, codes};
use serde_json::Value;

use super::caller::{CallOut, Caller, Takes};
use super::out::{self, Place};
use super::slots::Key;
use super::task_calls::{becomes_task, hints_for};
use super::{Engine, Waiter, commit_after};
use crate::io::Millis;
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

    pub(super) fn check(&self, step: Step) -> Step {
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
pub(super) struct Round {
    pub(super) outstanding: usize,
    pub(super) responses: InputResponses,
    pub(super) state: Option<Value>,
    pub(super) deadline: Millis,
}

/// A call in flight.
pub struct CallRecord {
    pub(super) out: CallOut,
    pub(super) takes: Takes,
    pub(super) id: Box<str>,
    pub(super) method: mcp::Method,
    pub(super) version: Version,
    pub(super) client: mcp::ClientCapabilities,
    pub(super) session: Option<Key>,
    pub(super) progress_token: Option<Box<str>>,
    pub(super) log_level: Option<mcp::LogLevel>,
    pub(super) started_us: u64,
    pub(super) target: Target,
    pub(super) name: Arc<str>,
    pub(super) again: Box<str>,
    pub(super) trace: Option<Box<TraceContext>>,
    pub(super) rounds: u32,
    pub(super) round: Option<Round>,
    pub(super) last_progress: Option<f64>,
    pub(super) cancelled: Option<Arc<AtomicBool>>,
    pub(super) commit_at: Millis,
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
    pub(super) fn retire_ticket(&mut self, key: Key) {
        if let Some(flag) = self.answers.take_flag(key) {
            flag.store(true, Ordering::Relaxed);
        }
        self.calls.skip_key();
    }

    /// Registers a call with whoever can end it.
    pub(super) fn adopt_call(&mut self, key: Key, caller: &Caller<'_>) {
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

    pub(super) fn handle_call_event<N: Net>(&mut self, net: &mut N, key: Key, event: CallEvent) {
        match event {
            // A change is a change even if nobody waits for the call any more.
            CallEvent::Publish(change) => self.announce(net, vec![change]),
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

    pub(super) fn handle_step<N: Net>(&mut self, net: &mut N, key: Key, step: Step) {
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
    pub(super) fn call_settled<N: Net>(&mut self, net: &mut N, record: &CallRecord) {
        if let Some(session) = record.session {
            let now = net.now();
            self.sessions.touch(session, now);
            if self.is_leaving() {
                self.leaving_session_settled(net, session);
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
                let me = self.me();
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
}
