//! `tasks/get`, `tasks/update`, `tasks/cancel`, and who hears of a task. A task id names the owner, as a
//! session id does: mine, serve; another shard's, forward what was asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use erlmcp_protocol::mcp::{
    self, InputResponses, Key as ParamKey, Method, Params, TASKS_EXTENSION, Version, errors,
};
use erlmcp_protocol::seal::{SessionToken, TaskToken};
use serde_json::Value;

use super::caller::{CallOut, Caller, Takes};
use super::legacy::{Forward, Forwarded};
use super::listens::{Filter, News};
use super::methods::{Failure, parse};
use super::out::Place;
use super::slots::Key;
use super::tasks::State;
use super::{Engine, EngineMail};
use crate::message::Mail;
use crate::net::{Exchange, Net};
use crate::stats::OutcomeKind;

/// What is asked of a task.
pub enum TaskAsk {
    /// `tasks/get`.
    Get,
    /// `tasks/update`.
    Update {
        /// The answers.
        answers: InputResponses,
        /// How long their text was.
        bytes: usize,
    },
    /// `tasks/cancel`.
    Cancel,
}

/// A question about a task, on its way to the shard where the task lives.
pub struct TaskForward {
    /// What the client takes.
    pub takes: Takes,
    /// The raw request id.
    pub id: Box<str>,
    /// Which of the three methods.
    pub method: Method,
    /// It came down a pipe: the connection of the place, which has no exchanges.
    pub on_pipe: bool,
    /// The question.
    pub ask: TaskAsk,
}

/// Whether a request only looks after work that was begun: it is served while the server drains.
pub fn looks_after_tasks(method: &str) -> bool {
    matches!(Method::parse(method), Method::TasksGet | Method::TasksUpdate | Method::TasksCancel)
}

impl Engine {
    pub(super) fn task_method<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        params: &Params<'_>,
    ) -> Result<(), Failure> {
        if !self.snapshot.has_tasks() {
            return Err(Failure::new(404, errors::method_not_found(caller.method.as_str())));
        }
        require_tasks(caller)?;
        let id = params.require(ParamKey::TaskId, &params.task_id)?;
        let ask = match caller.method {
            Method::TasksGet => TaskAsk::Get,
            Method::TasksCancel => TaskAsk::Cancel,
            _ => {
                let raw = params.require(ParamKey::InputResponses, &params.input_responses)?;
                let answers: serde_json::Map<String, Value> = parse(raw)?;
                TaskAsk::Update { answers, bytes: raw.get().len() }
            }
        };
        let at = self.open_task(id).ok_or_else(errors::unknown_task)?.at;
        if at.shard == self.me().shard {
            self.task_asked(net, caller, &at, ask)
        } else {
            self.forward_task(net, caller, at, ask)
        }
    }

    /// What a task id says, if it is of this life of this node.
    fn open_task(&self, id: &str) -> Option<TaskToken> {
        let token = self.config.keys.open_task(id)?;
        let SessionToken { node, epoch, shard, .. } = token.at;
        let ours = node == self.me().node && epoch == self.config.epoch;
        (ours && shard < self.seat.shards).then_some(token)
    }

    fn forward_task<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        at: SessionToken,
        ask: TaskAsk,
    ) -> Result<(), Failure> {
        let (place, on_pipe) = match caller.out {
            CallOut::Modern { place, .. } => (place, false),
            CallOut::Pipe(conn) => (self.here(Exchange { conn, seq: 0 }), true),
            _ => return Err(errors::internal_error().into()),
        };
        let (takes, id, method) = (caller.takes, caller.id.into(), caller.method);
        let what = Forwarded::Task(TaskForward { takes, id, method, on_pipe, ask });
        let shard = at.shard;
        let forward = Forward { place, token: at, what };
        if !on_pipe {
            self.forward(net, forward);
            return Ok(());
        }
        net.counters().forwards_out += 1;
        if !net.mail(shard, Mail::Engine(EngineMail::Forward(Box::new(forward)))) {
            net.counters().error("forward_refused");
            let why = "The task's shard is overloaded; retry in a moment";
            return Err(mcp::RpcError::new(mcp::codes::INTERNAL_ERROR, why).into());
        }
        self.pipes.add_away(place.exchange.conn);
        Ok(())
    }

    /// A question that came to another shard.
    pub(super) fn task_forwarded<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        at: &SessionToken,
        forward: TaskForward,
    ) {
        let TaskForward { takes, id, method, on_pipe, ask } = forward;
        let out = match on_pipe {
            true => CallOut::Away(place),
            false => CallOut::Modern { place, open: false },
        };
        let caller = Caller {
            out,
            takes,
            id: &id,
            method,
            version: Version::V2026_07_28,
            client: Default::default(),
            session: None,
            progress_token: None,
            log_level: None,
            started_us: net.micros(),
        };
        if let Err(Failure { status, error }) = self.task_asked(net, &caller, at, ask) {
            self.answer_error(net, &caller, status, &error);
        }
    }

    /// At the owner.
    fn task_asked<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        at: &SessionToken,
        ask: TaskAsk,
    ) -> Result<(), Failure> {
        let key = self.tasks.find(at).ok_or_else(errors::unknown_task)?;
        match ask {
            TaskAsk::Get => {
                let Some(task) = self.tasks.get(key) else { return Ok(()) };
                let members = task.members();
                let snapshot = self.snapshot.clone();
                self.answer(net, caller, OutcomeKind::Ok, |out| {
                    mcp::write_task_result(out, &members, Some(snapshot.server_info_json()));
                });
                return Ok(());
            }
            TaskAsk::Update { answers, bytes } => self.update_task(net, key, answers, bytes)?,
            TaskAsk::Cancel => self.cancel_task(net, key),
        }
        let snapshot = self.snapshot.clone();
        self.answer(net, caller, OutcomeKind::Ok, |out| {
            let info = Some(snapshot.server_info_json());
            mcp::write_empty_result(out, Version::V2026_07_28, info);
        });
        Ok(())
    }

    // ---- Subscribers ----

    /// Of the ids a client wants to hear of, those of living tasks. Ids that are not are left out.
    pub(super) fn accepted_tasks<N: Net>(&self, net: &N, ids: Box<[Box<str>]>) -> Box<[Box<str>]> {
        let lives = |id: &str| match self.open_task(id) {
            None => false,
            Some(TaskToken { at, .. }) if at.shard == self.me().shard => {
                self.tasks.find(&at).is_some()
            }
            // Only the owner knows, but what the id says is as good as its word.
            Some(TaskToken { expires_unix_ms, .. }) => net.unix_ms() < expires_unix_ms,
        };
        ids.into_iter().filter(|id| lives(id)).collect()
    }

    /// Asks the owners of other shards' tasks to tell us of them; who cannot be asked is left out.
    pub(super) fn watch_tasks<N: Net>(&mut self, net: &mut N, filter: &mut Filter) {
        let mut away: BTreeMap<u16, Vec<SessionToken>> = BTreeMap::new();
        for TaskToken { at, .. } in filter.tasks.iter().filter_map(|id| self.open_task(id)) {
            if at.shard != self.me().shard {
                away.entry(at.shard).or_default().push(at);
            }
        }
        let watcher = self.me().shard;
        for (shard, tasks) in away {
            if net.mail(shard, Mail::Engine(EngineMail::Watch { watcher, tasks })) {
                continue;
            }
            net.counters().error("watch_refused");
            let tasks = std::mem::take(&mut filter.tasks);
            let elsewhere = |id: &str| self.open_task(id).is_some_and(|it| it.at.shard != shard);
            filter.tasks = tasks.into_iter().filter(|id| elsewhere(id)).collect();
        }
    }

    /// A subscriber begins to hear of tasks. What is not working any more, or not now, it hears at once:
    /// the change may have come just before.
    pub(super) fn tell_tasks<N: Net>(&mut self, net: &mut N, listen: Key, ids: &[Box<str>]) {
        for id in ids {
            let here = self.open_task(id).filter(|token| token.at.shard == self.me().shard);
            let key = here.and_then(|token| self.tasks.find(&token.at));
            let task = key.and_then(|key| self.tasks.get(key));
            let Some(task) = task.filter(|task| !matches!(task.state, State::Working(_))) else {
                continue;
            };
            let news = News::Task { id: task.id.clone(), members: task.members() };
            self.tell_listen(net, listen, &news);
        }
    }

    /// Another shard has subscribers of tasks of ours.
    pub(super) fn watched<N: Net>(&mut self, net: &mut N, watcher: u16, tasks: &[SessionToken]) {
        for at in tasks {
            let Some(task) = self.tasks.find(at).and_then(|key| self.tasks.get_mut(key)) else {
                continue;
            };
            if !task.watchers.contains(&watcher) {
                task.watchers.push(watcher);
            }
            if !matches!(task.state, State::Working(_)) {
                let (id, members) = (task.id.clone(), task.members());
                mail_news(net, watcher, id, members);
            }
        }
    }

    /// Tells everyone who waits for it that a task has changed.
    pub(super) fn task_changed<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(task) = self.tasks.get(key) else { return };
        if task.watchers.is_empty() && !self.listens.is_task_heard(&task.id) {
            return;
        }
        let (id, members, watchers) = (task.id.clone(), task.members(), task.watchers.clone());
        for watcher in watchers {
            mail_news(net, watcher, id.clone(), members.clone());
        }
        self.fan_out_task(net, id, members);
    }
}

/// News that found no room wait: a subscriber that missed the end of a task would wait for ever.
fn mail_news<N: Net>(net: &mut N, watcher: u16, id: Box<str>, members: Arc<[u8]>) {
    net.mail_surely(watcher, Mail::Engine(EngineMail::TaskNews { id, members }));
}

/// Digest c.15: whoever does not declare the extension has no tasks.
pub fn require_tasks(caller: &Caller<'_>) -> Result<(), Failure> {
    if caller.client.tasks {
        return Ok(());
    }
    Err(Failure::new(400, errors::missing_capability(&[TASKS_EXTENSION])))
}
