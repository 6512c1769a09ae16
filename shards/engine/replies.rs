//! Answers: a result or an error becomes one JSON-RPC message, and goes where its caller waits.

use erlmcp_catalog::{NeedInput, Outcome};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::{self, RpcError, codes};

use super::Engine;
use super::caller::{CallOut, Caller};
use super::calls::{ROUND_REQUESTS_MAX, ROUNDS_MAX, Target};
use super::gate::retry_after;
use super::methods::{capability_of, purpose};
use super::out::{self, Answer};
use super::rounds::may_ask;
use super::slots::Key;
use super::streams::event_id;
use crate::net::Net;
use crate::stats::OutcomeKind;

impl Engine {
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
            Target::Tool(_) | Target::Prompt(_) => 0,
            Target::Resource(found) => u64::from(found.ttl_ms()),
        };
        let took = self.answer(net, caller, kind, |out| match outcome {
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
        if let Target::Tool(tool) = target {
            net.counters().tool_latency(tool.name(), took);
        }
    }

    pub(super) fn answer_need_input<N: Net>(
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

    /// Answers with a result; returns how long the request took, microseconds.
    pub(super) fn answer<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        kind: OutcomeKind,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> u64 {
        let took = self.count_request(net, caller, kind);
        let mut text = self.take_scratch();
        jsonrpc::begin_result(&mut text, caller.id);
        write(&mut text);
        jsonrpc::end_result(&mut text);
        self.send_answer(net, caller, 200, &text);
        self.put_scratch(text);
        took
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
        let me = self.me();
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
            CallOut::Away(place) => out::pipe_reply(net, me, place, message),
            // Tasks end in `task_step`.
            CallOut::Task(_) => net.counters().error("answer_without_stream"),
        }
    }

    pub(super) fn end_request_stream<N: Net>(
        &mut self,
        net: &mut N,
        session: Option<Key>,
        number: u32,
        message: &[u8],
    ) {
        let now = net.now();
        let me = self.me();
        let Some(key) = session else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        let data = std::rc::Rc::from(message);
        let pushed = session.streams().push(number, &data, now, &self.bounds);
        session.streams().finish(number, now);
        if let Some((seq, Some(place))) = pushed {
            self.waiters.remove(&place);
            out::end(net, me, place, &out::event(message, Some(&event_id(number, seq))));
        }
        self.session_changed(net, key);
    }

    /// Counts a request as ended; returns how long it took, microseconds.
    pub(super) fn count_request<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        kind: OutcomeKind,
    ) -> u64 {
        let took = net.micros().saturating_sub(caller.started_us);
        net.counters().request(caller.method.as_str(), kind);
        net.counters().latency(caller.method.as_str(), took);
        took
    }

    pub(super) fn count_tool<N: Net>(&mut self, net: &mut N, caller: &Caller<'_>, name: &str) {
        let took = net.micros().saturating_sub(caller.started_us);
        net.counters().tool_latency(name, took);
    }
}
