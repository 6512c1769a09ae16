//! Answers that wait until what they promise is safe on other nodes (eager). Lives: with the session's owner.
//!
//! Invariants: an answer leaves when all keepers have acknowledged the revision it speaks of, when nobody is left to
//! keep it, when nobody has room for it or it is too large, or when it has waited `eager_wait_ms`, whatever is first; at most [`WITHHELD_MAX`] wait, the
//! next ones leave at once and are counted like those that waited in vain.

use std::collections::VecDeque;

use erlmcp_cluster::replicas::Standing;
use erlmcp_cluster::{SessionName, Table};
use erlmcp_protocol::jsonrpc;
use erlmcp_protocol::seal::TokenText;

use super::Engine;
use super::aways::Setback;
use super::caller::{CallOut, Caller, Takes};
use super::out::{self, JSON, Place};
use super::replicate::Keeping;
use super::sessions::Channel;
use super::slots::Key;
use crate::config::Sync;
use crate::io::Millis;
use crate::net::{Headers, Net, TimerKey};

/// Answers of a shard that may wait.
pub const WITHHELD_MAX: usize = 16_384;

/// What leaves when it is safe.
#[derive(Debug)]
pub enum Promise {
    /// The answer to `initialize`, with the session's id. Its exchange is of this shard.
    Opened {
        /// The exchange.
        place: Place,
        /// It takes JSON; otherwise a stream.
        json: bool,
        /// The session's id.
        token: TokenText,
    },
    /// The answer to a request of a session.
    Answer {
        /// Where it goes.
        out: CallOut,
        /// What the exchange takes.
        takes: Takes,
    },
}

#[derive(Debug)]
struct Waiting {
    session: Key,
    promise: Promise,
    /// Its raw id.
    id: Box<str>,
    message: Box<[u8]>,
    rev: u32,
    due: Millis,
}

/// All that wait.
#[derive(Debug, Default)]
pub struct Withheld {
    answers: Table<SessionName, Vec<Waiting>>,
    count: usize,
    has_timer: bool,
}

impl Withheld {
    /// Whether an answer waits for the copies of this session.
    pub fn waits(&self, name: &SessionName) -> bool {
        self.answers.contains_key(name)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The sessions for whose copies they wait.
    pub fn names(&self) -> VecDeque<SessionName> {
        self.answers.keys().copied().collect()
    }

    fn take(&mut self, name: &SessionName, leaves: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(all) = self.answers.get_mut(name) else { return Vec::new() };
        let (leaving, staying): (Vec<_>, Vec<_>) =
            std::mem::take(all).into_iter().partition(leaves);
        if staying.is_empty() {
            self.answers.remove(name);
        } else {
            *all = staying;
        }
        self.count -= leaving.len();
        leaving
    }
}

impl Engine {
    /// Sends the answer to what has changed a session, now or when it is safe.
    pub(super) fn promise<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        id: &str,
        promise: Promise,
        message: &[u8],
    ) {
        if !self.must_wait(net, session) {
            return self.keep_promise(net, session, id, &promise, message);
        }
        let name = self.sessions.get(session).map(|session| session.random);
        let (Some(keeping), Some(name)) = (&mut self.keeping, name) else { return };
        let due = net.now() + keeping.limits.eager_wait_ms;
        let rev = keeping.replicas.rev(&name).unwrap_or_default();
        let (id, message) = (id.into(), message.into());
        let waiting = Waiting { session, promise, id, message, rev, due };
        let withheld = &mut keeping.withheld;
        withheld.answers.entry(name).or_default().push(waiting);
        withheld.count += 1;
        net.counters().answers_withheld = withheld.count as u64;
        if !std::mem::replace(&mut withheld.has_timer, true) {
            net.timer(due, TimerKey::Withheld);
        }
    }

    fn must_wait<N: Net>(&mut self, net: &mut N, session: Key) -> bool {
        let Some(keeping) = &mut self.keeping else { return false };
        let Some(session) = self.sessions.get(session) else { return false };
        let is_eager = keeping.limits.sync == Sync::Eager;
        if !is_eager || session.channel != Channel::Streamable {
            return false;
        }
        let name = &session.random;
        let Some(rev) = keeping.replicas.rev(name) else { return false };
        keeping.replicas.hurry(name);
        let waits = match keeping.replicas.standing(name, rev) {
            Standing::Safe => return false,
            Standing::Awaited => keeping.withheld.count < WITHHELD_MAX,
            Standing::Missing => false,
        };
        keeping.is_due = true;
        if !waits {
            net.counters().error("eager_unacknowledged");
        }
        waits
    }

    fn keep_promise<N: Net>(
        &mut self,
        net: &mut N,
        session: Key,
        id: &str,
        promise: &Promise,
        message: &[u8],
    ) {
        match promise {
            Promise::Opened { place, json, token } => {
                net.counters().messages_out += 1;
                let headers = Headers { session_id: Some(token), ..Headers::default() };
                if *json {
                    let headers = Headers { content_type: Some(JSON), ..headers };
                    net.respond(place.exchange, 200, headers, message);
                } else {
                    net.stream_open(place.exchange, headers, b"");
                    out::end(net, self.me(), *place, &out::event(message, None));
                }
            }
            Promise::Answer { out, takes } => {
                let caller = self.initialize_caller(net, session, *out, *takes, id);
                self.send_answer(net, &caller, 200, message);
            }
        }
    }

    fn let_go<N: Net>(&mut self, net: &mut N, leaving: Vec<Waiting>) {
        if let Some(keeping) = &self.keeping {
            net.counters().answers_withheld = keeping.withheld.count as u64;
        }
        for Waiting { session, promise, id, message, .. } in leaving {
            self.keep_promise(net, session, &id, &promise, &message);
        }
    }

    /// Something has happened to the copies of a session: what they make safe leaves, and, counted, what nobody will keep
    /// for now.
    pub(super) fn release_settled<N: Net>(&mut self, net: &mut N, name: &SessionName) {
        let Some(keeping) = &mut self.keeping else { return };
        let Keeping { replicas, withheld, .. } = &mut **keeping;
        if !withheld.waits(name) {
            return;
        }
        let mut vain = 0;
        let leaving = withheld.take(name, |waiting| match replicas.standing(name, waiting.rev) {
            Standing::Safe => true,
            Standing::Awaited => false,
            Standing::Missing => {
                vain += 1;
                true
            }
        });
        for _ in 0..vain {
            net.counters().error("eager_unacknowledged");
        }
        if !leaving.is_empty() {
            self.let_go(net, leaving);
        }
    }

    /// The session is over: nothing is left that could be lost.
    pub(super) fn release_ended<N: Net>(&mut self, net: &mut N, name: &SessionName) {
        let Some(keeping) = &mut self.keeping else { return };
        let leaving = keeping.withheld.take(name, |_| true);
        if !leaving.is_empty() {
            self.let_go(net, leaving);
        }
    }

    /// Another node owns the session, and may never have heard of what these promise.
    pub(super) fn refuse_withheld<N: Net>(&mut self, net: &mut N, name: &SessionName) {
        let Some(keeping) = &mut self.keeping else { return };
        let leaving = keeping.withheld.take(name, |_| true);
        net.counters().answers_withheld = keeping.withheld.count as u64;
        for Waiting { session, promise, id, .. } in leaving {
            let error = Setback::Moving.error();
            net.counters().error(Setback::Moving.reason());
            match promise {
                Promise::Opened { place, .. } => {
                    self.refuse_retryable(net, place.exchange, Some(&id), &error);
                }
                Promise::Answer { out, takes } => {
                    let mut text = Vec::with_capacity(128);
                    jsonrpc::write_error(&mut text, Some(&id), &error);
                    let caller: Caller<'_> = self.initialize_caller(net, session, out, takes, &id);
                    self.send_answer(net, &caller, 503, &text);
                }
            }
        }
    }

    /// Some may have waited long enough.
    pub(super) fn withheld_timer<N: Net>(&mut self, net: &mut N) {
        let now = net.now();
        let Some(keeping) = &mut self.keeping else { return };
        let withheld = &mut keeping.withheld;
        withheld.has_timer = false;
        let is_due = |all: &Vec<Waiting>| all.iter().any(|waiting| waiting.due <= now);
        let names = withheld.answers.iter().filter(|(_, all)| is_due(all));
        let names: Vec<SessionName> = names.map(|(name, _)| *name).collect();
        let mut leaving = Vec::new();
        for name in names {
            leaving.extend(withheld.take(&name, |waiting| waiting.due <= now));
        }
        let next = withheld.answers.values().flatten().map(|waiting| waiting.due).min();
        if let Some(next) = next {
            withheld.has_timer = true;
            net.timer(next, TimerKey::Withheld);
        }
        for _ in &leaving {
            net.counters().error("eager_unacknowledged");
        }
        self.let_go(net, leaving);
    }
}
