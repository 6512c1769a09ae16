//! `tasks/get`, `tasks/update`, `tasks/cancel`, and who hears of a task. A task id names the owner, as a
//! session id does: mine, serve; another shard's, here or on another node, forward what was asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::Letter;
use erlmcp_cluster::letter::route::{Ask, Route, TaskAsk};
use erlmcp_protocol::mcp::{
    self, InputResponses, Key as ParamKey, Method, Params, RpcError, TASKS_EXTENSION, Version,
    errors,
};
use erlmcp_protocol::seal::{SessionToken, TaskToken};

use super::aways::{Away, Setback, Shown};
use super::caller::{CallOut, Caller, Takes};
use super::forwards::{Onward, to_letter};
use super::listens::{Filter, News};
use super::methods::Failure;
use super::out::Place;
use super::slots::Key;
use super::tasks::{State, Watcher};
use super::whereabouts::TaskWhereabouts;
use super::{Engine, EngineMail};
use crate::message::Mail;
use crate::net::Net;
use crate::stats::OutcomeKind;

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
                TaskAsk::Update { answers: raw.get() }
            }
        };
        let token = self.config.keys.open_task(id).ok_or_else(errors::unknown_task)?.at;
        match self.locate_task(&token) {
            TaskWhereabouts::Here => self.task_asked(net, caller, &token, ask),
            TaskWhereabouts::At(to) => self.forward_task(net, caller, to, token, ask),
            TaskWhereabouts::Lost => Err(setback(net, Setback::NodeUnreachable(token.node))),
            TaskWhereabouts::Nowhere => Err(errors::unknown_task().into()),
        }
    }

    fn forward_task<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        to: Spot,
        token: SessionToken,
        ask: TaskAsk<'_>,
    ) -> Result<(), Failure> {
        let asked = |on_pipe| Ask::Task { takes: caller.takes.into(), on_pipe, id: caller.id, ask };
        let conn = match caller.out {
            CallOut::Modern { place, .. } => {
                let onward = Onward::new(place, token, asked(false));
                self.forward(net, to, onward, Some(caller.id));
                return Ok(());
            }
            CallOut::Pipe(conn) => conn,
            _ => return Err(errors::internal_error().into()),
        };
        let exchange = self.pipes.next_away(conn).ok_or_else(errors::internal_error)?;
        let onward = Onward::new(self.here(exchange), token, asked(true));
        self.send_onward(net, to, onward).map_err(|why| setback(net, why))?;
        let away = Away { at: to, id: Some(caller.id.into()), shown: Shown::Pipe, is_get: false };
        self.aways.insert(exchange, away);
        self.pipes.add_away(exchange);
        Ok(())
    }

    /// A question that came to another shard.
    #[allow(clippy::too_many_arguments)] // The parts of one request, each needed whole.
    pub(super) fn task_forwarded<N: Net>(
        &mut self,
        net: &mut N,
        place: Place,
        token: &SessionToken,
        takes: Takes,
        on_pipe: bool,
        id: &str,
        ask: TaskAsk<'_>,
    ) {
        let out = match on_pipe {
            true => CallOut::Away(place),
            false => CallOut::Modern { place, open: false },
        };
        let method = match ask {
            TaskAsk::Get => Method::TasksGet,
            TaskAsk::Update { .. } => Method::TasksUpdate,
            TaskAsk::Cancel => Method::TasksCancel,
        };
        let caller = Caller {
            out,
            takes,
            id,
            method,
            version: Version::V2026_07_28,
            client: Default::default(),
            session: None,
            progress_token: None,
            log_level: None,
            started_us: net.micros(),
        };
        if let Err(Failure { status, error }) = self.task_asked(net, &caller, token, ask) {
            self.answer_error(net, &caller, status, &error);
        }
    }

    /// At the owner.
    fn task_asked<N: Net>(
        &mut self,
        net: &mut N,
        caller: &Caller<'_>,
        token: &SessionToken,
        ask: TaskAsk<'_>,
    ) -> Result<(), Failure> {
        let answers = match ask {
            TaskAsk::Update { answers } => Some((parse_text(answers)?, answers.len())),
            TaskAsk::Get | TaskAsk::Cancel => None,
        };
        let here = self.locate_task(token) == TaskWhereabouts::Here;
        let found = here.then(|| self.tasks.find(token)).flatten();
        let key = found.ok_or_else(errors::unknown_task)?;
        match (ask, answers) {
            (TaskAsk::Get, _) => {
                let Some(task) = self.tasks.get(key) else { return Ok(()) };
                let members = task.members();
                let snapshot = self.snapshot.clone();
                self.answer(net, caller, OutcomeKind::Ok, |out| {
                    mcp::write_task_result(out, &members, Some(snapshot.server_info_json()));
                });
                return Ok(());
            }
            (_, Some((answers, bytes))) => self.update_task(net, key, answers, bytes)?,
            (_, None) => self.cancel_task(net, key),
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
        let lives = |id: &str| {
            let Some(TaskToken { at, expires_unix_ms }) = self.config.keys.open_task(id) else {
                return false;
            };
            match self.locate_task(&at) {
                TaskWhereabouts::Here => self.tasks.find(&at).is_some(),
                // Only the owner knows, but what the id says is as good as its word.
                TaskWhereabouts::At(_) => net.unix_ms() < expires_unix_ms,
                TaskWhereabouts::Lost | TaskWhereabouts::Nowhere => false,
            }
        };
        ids.into_iter().filter(|id| lives(id)).collect()
    }

    /// The task of an id, and where it is, if that is another shard.
    fn task_away(&self, id: &str) -> Option<(Spot, SessionToken)> {
        let token = self.config.keys.open_task(id)?.at;
        match self.locate_task(&token) {
            TaskWhereabouts::At(spot) => Some((spot, token)),
            _ => None,
        }
    }

    /// Asks the owners of other shards' tasks to tell us of them; who cannot be asked is left out.
    pub(super) fn watch_tasks<N: Net>(&mut self, net: &mut N, filter: &mut Filter) {
        let mut away: BTreeMap<Spot, Vec<SessionToken>> = BTreeMap::new();
        for (spot, token) in filter.tasks.iter().filter_map(|id| self.task_away(id)) {
            away.entry(spot).or_default().push(token);
        }
        for (owner, tasks) in away {
            if self.send_watch(net, owner, tasks, false) {
                continue;
            }
            net.counters().error("watch_refused");
            let tasks = std::mem::take(&mut filter.tasks);
            let elsewhere = |id: &str| self.task_away(id).is_none_or(|(spot, _)| spot != owner);
            filter.tasks = tasks.into_iter().filter(|id| elsewhere(id)).collect();
        }
    }

    fn send_watch<N: Net>(
        &self,
        net: &mut N,
        owner: Spot,
        tasks: Vec<SessionToken>,
        again: bool,
    ) -> bool {
        let me = self.me();
        if owner.node == me.node {
            let mail = EngineMail::Watch { watcher: me.shard, tasks };
            return net.mail(owner.shard, Mail::Engine(mail));
        }
        let tasks = tasks.iter().map(to_letter).collect();
        net.post(owner, &Letter::Route(Route::Watch { tasks, again }))
    }

    /// The link to a node stands again: it may have forgotten who waits for its tasks.
    pub(super) fn watch_again<N: Net>(&mut self, net: &mut N, node: u16) {
        let mut away: BTreeMap<Spot, Vec<SessionToken>> = BTreeMap::new();
        for (spot, token) in self.listens.tasks().filter_map(|id| self.task_away(id)) {
            if spot.node == node {
                away.entry(spot).or_default().push(token);
            }
        }
        for (owner, tasks) in away {
            if !self.send_watch(net, owner, tasks, true) {
                net.counters().error("watch_refused");
            }
        }
    }

    /// A subscriber begins to hear of tasks. What is not working any more, or not now, it hears at once:
    /// the change may have come just before.
    pub(super) fn tell_tasks<N: Net>(&mut self, net: &mut N, listen: Key, ids: &[Box<str>]) {
        for id in ids {
            let token = self.config.keys.open_task(id).map(|token| token.at);
            let here = token.filter(|token| self.locate_task(token) == TaskWhereabouts::Here);
            let key = here.and_then(|token| self.tasks.find(&token));
            let task = key.and_then(|key| self.tasks.get(key));
            let Some(task) = task.filter(|task| !matches!(task.state, State::Working(_))) else {
                continue;
            };
            let news = News::Task { id: task.id.clone(), members: task.members() };
            self.tell_listen(net, listen, &news);
        }
    }

    /// Another shard has subscribers of tasks of ours; if it says so again, it only hears what it missed.
    pub(super) fn watched<N: Net>(
        &mut self,
        net: &mut N,
        watcher: Spot,
        tasks: &[SessionToken],
        again: bool,
    ) {
        let me = self.me();
        for token in tasks {
            if self.locate_task(token) != TaskWhereabouts::Here {
                continue;
            }
            let Some(task) = self.tasks.find(token).and_then(|key| self.tasks.get_mut(key)) else {
                continue;
            };
            let known = task.watchers.iter().find(|known| again && known.at == watcher);
            let works = matches!(task.state, State::Working(_));
            let is_news = known.map_or(!works, |known| known.missed);
            let told = !is_news || send_news(net, me, watcher, &task.id, task.members());
            task.add_watcher(watcher, told);
        }
    }

    /// Tells everyone who waits for it that a task has changed.
    pub(super) fn task_changed<N: Net>(&mut self, net: &mut N, key: Key) {
        let me = self.me();
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.watchers.is_empty() && !self.listens.is_task_heard(&task.id) {
            return;
        }
        let (id, members) = (task.id.clone(), task.members());
        for watcher in &mut task.watchers {
            watcher.missed = !send_news(net, me, watcher.at, &id, members.clone());
        }
        self.fan_out_task(net, id, members);
    }

    /// Tells the subscribers on a node what the link had no room for, or lost.
    pub(super) fn tell_watchers_again<N: Net>(&mut self, net: &mut N, node: u16) {
        let me = self.me();
        for key in self.tasks.keys() {
            let Some(task) = self.tasks.get_mut(key) else { continue };
            let missed = |watcher: &Watcher| watcher.missed && watcher.at.node == node;
            if !task.watchers.iter().any(missed) {
                continue;
            }
            let members = task.members();
            for watcher in task.watchers.iter_mut().filter(|watcher| missed(watcher)) {
                watcher.missed = !send_news(net, me, watcher.at, &task.id, members.clone());
            }
        }
    }

    /// What was under way to the subscribers on a node may be lost.
    pub(super) fn doubt_watchers(&mut self, node: u16) {
        for task in self.tasks.iter_mut() {
            for watcher in task.watchers.iter_mut().filter(|watcher| watcher.at.node == node) {
                watcher.missed = true;
            }
        }
    }

    /// A node is dead: if it comes back, it says anew what it waits for.
    pub(super) fn forget_watchers(&mut self, node: u16) {
        for task in self.tasks.iter_mut() {
            task.watchers.retain(|watcher| watcher.at.node != node);
        }
    }
}

/// Tells another shard's subscribers; `false` if they have to be told again. Within a node news that found no
/// room wait: a subscriber that missed the end of a task would wait for ever.
fn send_news<N: Net>(net: &mut N, me: Spot, to: Spot, id: &str, members: Arc<[u8]>) -> bool {
    if to.node == me.node {
        let mail = EngineMail::TaskNews { id: id.into(), members };
        net.mail_surely(to.shard, Mail::Engine(mail));
        return true;
    }
    net.post(to, &Letter::Route(Route::TaskNews { id, members: &members }))
}

fn setback<N: Net>(net: &mut N, why: Setback) -> Failure {
    net.counters().error(why.reason());
    Failure::new(503, why.error())
}

fn parse_text(answers: &str) -> Result<InputResponses, RpcError> {
    serde_json::from_str(answers)
        .map_err(|error| errors::invalid_params(format!("params cannot be read: {error}")))
}

/// Digest c.15: whoever does not declare the extension has no tasks.
pub fn require_tasks(caller: &Caller<'_>) -> Result<(), Failure> {
    if caller.client.tasks {
        return Ok(());
    }
    Err(Failure::new(400, errors::missing_capability(&[TASKS_EXTENSION])))
}
