//! Rounds of input in the legacy era: a handler's questions become real requests on the call's own stream,
//! and the handler is called again with the answers (digest c.11).

use erlmcp_catalog::{Call, NeedInput, Outcome, Step};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::{self, InputRequest, InputResponses, RpcError, Version, codes};
use serde_json::Value;

use super::Engine;
use super::calls::{ROUND_REQUESTS_MAX, ROUNDS_MAX, Round, Target};
use super::sessions::Pending;
use super::slots::Key;
use crate::net::{Net, TimerKey};

impl Engine {
    pub(super) fn begin_round<N: Net>(&mut self, net: &mut N, key: Key, need: NeedInput) {
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

    pub(super) fn ask_client<N: Net>(
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

    pub(super) fn round_timed_out<N: Net>(&mut self, net: &mut N, key: Key) {
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

    pub(super) fn resume_call<N: Net>(
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
    pub(super) fn fail_call<N: Net>(&mut self, net: &mut N, key: Key, text: &str) {
        let Some(record) = self.calls.get(key) else { return };
        let step = match record.target {
            Target::Tool(_) => Step::Done(Outcome::Tool(erlmcp_catalog::failed(text))),
            Target::Prompt(_) | Target::Resource(_) => {
                Step::Error(RpcError::new(codes::INTERNAL_ERROR, text.to_owned()))
            }
        };
        self.handle_step(net, key, step);
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
