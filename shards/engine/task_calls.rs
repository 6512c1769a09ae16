//! Calls that are tasks: how one begins, asks, goes on, and ends.
//!
//! What a handler asks before it left the shard is asked as `input_required`, and there is no task yet; what
//! it asks later is asked by the task. So a tool decides by the way it is written which it does.

use erlmcp_catalog::{Call, CallEvent, NeedInput, Outcome, Step, TaskHints, TaskSupport};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::mcp::{self, InputResponses, RpcError, Version, codes, errors};
use erlmcp_protocol::seal::{SessionToken, TaskToken};
use serde_json::Value;

use super::Engine;
use super::caller::{CallOut, Caller, Takes};
use super::calls::{CallRecord, ROUND_REQUESTS_MAX, ROUNDS_MAX, Target};
use super::methods::capability_of;
use super::rounds::may_ask;
use super::slots::Key;
use super::tasks::{Parked, State, Task};
use crate::net::{Net, TimerKey};
use crate::stats::OutcomeKind;

/// How this call becomes a task, if it may: the tool can, and the client knows of tasks.
pub fn hints_for(caller: &Caller<'_>, target: &Target) -> Option<TaskHints> {
    let Target::Tool(tool) = target else { return None };
    tool.task().copied().filter(|_| caller.version.is_modern() && caller.client.tasks)
}

/// Whether a call that took this step becomes a task.
pub fn becomes_task(hints: &TaskHints, step: &Step) -> bool {
    match step {
        Step::Later => true,
        Step::Done(_) => hints.support == TaskSupport::Required,
        // Asked before there is a task; and what is wrong with the request itself needs none.
        Step::NeedInput(_) | Step::Error(_) => false,
    }
}

impl Engine {
    /// Whether one more task with arguments of this size can be kept; counted when not.
    pub(super) fn has_room_for_task<N: Net>(&self, net: &mut N, again: &str) -> bool {
        let room = self.tasks.has_room(&self.config.limits, again.len());
        if !room {
            net.counters().error("tasks_full");
        }
        room
    }

    /// Makes a task of a call that took its first step, and answers the caller with its id.
    pub(super) fn begin_task<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        hints: TaskHints,
        mut record: CallRecord,
        events: Vec<CallEvent>,
        step: Step,
    ) {
        let limits = &self.config.limits;
        let (limit_ms, bytes_max) = (limits.task_ttl_ms, limits.tasks_bytes_max);
        let ttl_ms = hints.ttl_ms.map_or(limit_ms, |ttl_ms| ttl_ms.min(limit_ms));
        let (task, call) = (self.tasks.next_key(), self.calls.next_key());
        let mut random = [0; 16];
        net.random(&mut random);
        let now_unix_ms = net.unix_ms();
        let id = self.config.keys.seal_task(&TaskToken {
            at: SessionToken {
                node: self.me().node,
                shard: self.me().shard,
                slot: task.slot,
                generation: task.generation,
                epoch: self.config.epoch,
                random,
            },
            expires_unix_ms: now_unix_ms + ttl_ms,
        });
        let mut made = Task::new(id.into(), random, now_unix_ms, ttl_ms);
        made.state = State::Working(call);
        made.poll_interval_ms = hints.poll_interval_ms;
        let kept = record.again.len();
        record.become_task(task);
        self.tasks.insert(made);
        self.tasks.charge(task, kept, bytes_max);
        self.calls.insert(record);
        net.counters().calls_active += 1;
        net.counters().tasks_active += 1;
        net.timer(net.now() + ttl_ms, TimerKey::Task(task.slot, task.generation));
        let snapshot = self.snapshot.clone();
        let mut created = Vec::with_capacity(512);
        if let Some(task) = self.tasks.get(task) {
            mcp::write_created_task(&mut created, &task.head(), Some(snapshot.server_info_json()));
        }
        self.answer(net, caller, OutcomeKind::Task, |out| out.extend_from_slice(&created));
        self.after_step(net, call, events, step);
    }

    /// A step of a call that is a task.
    pub(super) fn task_step<N: Net>(&mut self, net: &mut N, call: Key, task: Key, step: Step) {
        if matches!(step, Step::Later) {
            return;
        }
        let Some(record) = self.take_call(net, call) else { return };
        match step {
            Step::NeedInput(need) => self.park_task(net, task, record, need),
            Step::Done(Outcome::Tool(result)) => {
                self.count_tool(net, &record.caller(), &record.name);
                let mut json = Vec::new();
                mcp::write_tool_result(&mut json, &result, Version::V2026_07_28, None);
                self.end_task(net, task, State::Completed(json.into()));
            }
            Step::Error(error) => self.fail_task(net, task, &error),
            Step::Done(_) | Step::Later => self.fail_task(net, task, &errors::internal_error()),
        }
    }

    /// The task needs its client's answers: it asks, and its call leaves the table.
    fn park_task<N: Net>(
        &mut self,
        net: &mut N,
        task: Key,
        mut record: CallRecord,
        need: NeedInput,
    ) {
        let NeedInput { mut requests, state } = need;
        record.rounds += 1;
        if record.rounds > ROUNDS_MAX || requests.len() > ROUND_REQUESTS_MAX {
            net.counters().error("input_rounds_exceeded");
            let error =
                RpcError::new(codes::INTERNAL_ERROR, "The handler asked for too much input");
            return self.fail_task(net, task, &error);
        }
        let refused =
            |request: &&mcp::InputRequest| !may_ask(request, record.version, &record.client);
        let undeclared: Vec<_> =
            requests.iter().filter(refused).map(|request| capability_of(request.method)).collect();
        if !undeclared.is_empty() {
            return self.fail_task(net, task, &errors::missing_capability(&undeclared));
        }
        if requests.is_empty() {
            return self.resume_task(net, task, record, InputResponses::new(), state);
        }
        // Digest c.15: a key is never used again within a task, and handlers may ask the same twice.
        let mut kept = record.again.len();
        for request in &mut requests {
            request.key = wire_key(&request.key, record.rounds);
            kept += request.key.len() + request.params.to_string().len();
        }
        kept += state.as_ref().map_or(0, |state| state.to_string().len());
        if !self.tasks.charge(task, kept, self.config.limits.tasks_bytes_max) {
            let error = too_large(net);
            return self.fail_task(net, task, &error);
        }
        let parked = Parked { record, open: requests, responses: InputResponses::new(), state };
        self.set_state(net, task, State::InputRequired(Box::new(parked)));
    }

    /// Runs the next round of a task.
    fn resume_task<N: Net>(
        &mut self,
        net: &mut N,
        task: Key,
        mut record: CallRecord,
        responses: InputResponses,
        state: Option<Value>,
    ) {
        let call_key = self.calls.next_key();
        let mut call = Call::new(
            self.context.clone(),
            call_key.to_u64(),
            record.name.clone(),
            serde_json::from_str(&record.again).unwrap_or_default(),
            record.version,
            record.client,
        )
        .resumed(responses, state)
        .traced(record.trace.clone());
        let step = record.target.run(&mut call);
        record.cancelled = self.answers.take_flag(call_key);
        let events = std::mem::take(&mut call.events);
        self.calls.insert(record);
        net.counters().calls_active += 1;
        if let Some(task) = self.tasks.get_mut(task) {
            task.state = State::Working(call_key);
            task.updated_unix_ms = net.unix_ms();
        }
        self.after_step(net, call_key, events, step);
    }

    /// `tasks/update`: takes the answers that are waited for, ignores all others.
    pub(super) fn update_task<N: Net>(
        &mut self,
        net: &mut N,
        key: Key,
        mut answers: InputResponses,
        bytes: usize,
    ) -> Result<(), RpcError> {
        let (kept, bytes_max) = (self.tasks.charged(key), self.config.limits.tasks_bytes_max);
        let now_unix_ms = net.unix_ms();
        let Some(task) = self.tasks.get_mut(key) else { return Ok(()) };
        let State::InputRequired(parked) = &mut task.state else { return Ok(()) };
        answers.retain(|name, _| parked.open.iter().any(|request| request.key == *name));
        if answers.is_empty() {
            return Ok(());
        }
        if answers.values().any(|answer| !answer.is_object()) {
            return Err(errors::invalid_params("inputResponses must be an object of objects"));
        }
        if !self.tasks.charge(key, kept + bytes, bytes_max) {
            return Err(too_large(net));
        }
        let Some(task) = self.tasks.get_mut(key) else { return Ok(()) };
        let State::InputRequired(parked) = &mut task.state else { return Ok(()) };
        task.updated_unix_ms = now_unix_ms;
        let rounds = parked.record.rounds;
        for (name, answer) in answers {
            parked.open.retain(|request| request.key != name);
            parked.responses.insert(handler_key(&name, rounds).to_owned(), answer);
        }
        if !parked.open.is_empty() {
            return Ok(());
        }
        let State::InputRequired(parked) = std::mem::replace(&mut task.state, State::Cancelled)
        else {
            return Ok(());
        };
        let Parked { record, responses, state, .. } = *parked;
        self.resume_task(net, key, record, responses, state);
        // Whatever else it may be by now was told already.
        if self.tasks.get(key).is_some_and(|task| matches!(task.state, State::Working(_))) {
            self.task_changed(net, key);
        }
        Ok(())
    }

    /// `tasks/cancel`: the handler is told, its answer not waited for. What has ended stays as it is.
    pub(super) fn cancel_task<N: Net>(&mut self, net: &mut N, key: Key) {
        match self.tasks.get(key).map(|task| &task.state) {
            Some(&State::Working(call)) => {
                self.take_call(net, call);
            }
            Some(State::InputRequired(_)) => {}
            Some(State::Completed(_) | State::Failed(_) | State::Cancelled) | None => return,
        }
        self.end_task(net, key, State::Cancelled);
    }

    /// The time of a task is over, whatever it does.
    pub(super) fn task_timer<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(task) = self.tasks.remove(key) else { return };
        net.counters().tasks_active -= 1;
        if let State::Working(call) = task.state {
            net.counters().error("task_expired");
            self.take_call(net, call);
        }
    }

    fn fail_task<N: Net>(&mut self, net: &mut N, key: Key, error: &RpcError) {
        let mut json = Vec::new();
        jsonrpc::write_error_object(&mut json, error);
        self.end_task(net, key, State::Failed(json.into()));
    }

    fn end_task<N: Net>(&mut self, net: &mut N, key: Key, end: State) {
        let kept = match &end {
            State::Completed(json) | State::Failed(json) => json.len(),
            State::Working(_) | State::InputRequired(_) | State::Cancelled => 0,
        };
        if self.tasks.charge(key, kept, self.config.limits.tasks_bytes_max) {
            return self.set_state(net, key, end);
        }
        let mut json = Vec::new();
        jsonrpc::write_error_object(&mut json, &too_large(net));
        // These few bytes are kept uncounted.
        self.tasks.charge(key, 0, 0);
        self.set_state(net, key, State::Failed(json.into()));
    }

    fn set_state<N: Net>(&mut self, net: &mut N, key: Key, state: State) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if !matches!(state, State::InputRequired(_)) {
            // What it was doing when it ended is no news any more.
            task.message = None;
        }
        task.state = state;
        task.updated_unix_ms = net.unix_ms();
        self.task_changed(net, key);
    }
}

impl CallRecord {
    /// From now on this call answers to its task alone: who called has been answered, and a task has
    /// neither progress notifications nor log messages.
    fn become_task(&mut self, task: Key) {
        self.out = CallOut::Task(task);
        self.takes = Takes::BOTH;
        self.id = "".into();
        self.progress_token = None;
        self.log_level = None;
    }
}

fn too_large<N: Net>(net: &mut N) -> RpcError {
    net.counters().error("task_too_large");
    RpcError::new(codes::INTERNAL_ERROR, "The task needs more memory than is left for tasks")
}

fn wire_key(key: &str, round: u32) -> String {
    format!("{key}-{round}")
}

fn handler_key(key: &str, round: u32) -> &str {
    key.strip_suffix(&format!("-{round}")).unwrap_or(key)
}
