//! Leaving: nothing new begins, what runs may finish, and what only waits ends, paced ([`super::pace`]) and each
//! with its own time to come back.
//!
//! Invariants: what waits is ended exactly once, by its turn or because the last thing that kept it has ended; a
//! shard is not idle while anything waits for its turn, or a session for its next owner ([`super::handover`]).

use std::collections::VecDeque;

use erlmcp_protocol::sse;

use super::Engine;
use super::aways::Shown;
use super::handover::Handovers;
use super::listens::ListenOut;
use super::out;
use super::pace::Pace;
use super::sessions::Channel;
use super::slots::Key;
use crate::io::{ConnId, Millis};
use crate::net::{Exchange, Net, TimerKey};

/// Milliseconds after which the client of a stream that ends because we leave may come back, at least, and how
/// much is added at random.
const RETRY_MS_MIN: u32 = 1000;
const RETRY_MS_SPREAD: u32 = 3000;

/// Something that only waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// A `subscriptions/listen` stream over HTTP.
    Listen(Key),
    /// The GET streams of a session, or the stream that is one.
    Session(Key),
    /// A pipe, and what it listens to.
    Pipe(ConnId),
    /// A GET stream of a session that is elsewhere.
    Away(Exchange),
}

/// A shard that leaves.
pub struct Departure {
    /// When it will have left, done or not.
    pub until: Millis,
    /// What ends, in this order. Bounded by what could be opened before.
    waiting: VecDeque<Waiting>,
    pace: Pace,
    /// The sessions that find another owner.
    pub handovers: Handovers,
    /// The earliest timer that was asked for and has not fired.
    timer_at: Option<Millis>,
}

impl Engine {
    /// Begins to leave, or leaves sooner.
    pub(super) fn depart<N: Net>(&mut self, net: &mut N, until: Millis) {
        let now = net.now();
        match &mut self.departure {
            Some(departure) if departure.until <= until => return,
            Some(departure) => {
                departure.until = until;
                departure.pace = Pace::new(now, until, departure.waiting.len());
            }
            None => {
                let waiting = self.all_waiting();
                let pace = Pace::new(now, until, waiting.len());
                let (handovers, timer_at) = (Handovers::default(), None);
                let departure = Departure { until, waiting, pace, handovers, timer_at };
                self.departure = Some(Box::new(departure));
                self.ready_all();
            }
        }
        self.go_on_leaving(net);
    }

    /// Whether this shard leaves.
    pub(super) fn is_leaving(&self) -> bool {
        self.departure.is_some()
    }

    /// Whether nothing waits for its turn, and no session for its next owner.
    pub(super) fn has_departed(&self) -> bool {
        self.departure
            .as_ref()
            .is_none_or(|departure| departure.waiting.is_empty() && departure.handovers.is_done())
    }

    /// The departure's timer.
    pub(super) fn departure_timer<N: Net>(&mut self, net: &mut N) {
        let Some(departure) = &mut self.departure else { return };
        // One that was asked for and overtaken may still come.
        if departure.timer_at.is_some_and(|at| at <= net.now()) {
            departure.timer_at = None;
            self.go_on_leaving(net);
        }
    }

    /// Does what can be done now, and asks for the timer that goes on.
    pub(super) fn go_on_leaving<N: Net>(&mut self, net: &mut N) {
        let now = net.now();
        let Some(departure) = &mut self.departure else { return };
        let count = departure.pace.end(now).min(departure.waiting.len());
        let ending: Vec<Waiting> = departure.waiting.drain(..count).collect();
        for waiting in ending {
            self.end_waiting(net, waiting);
        }
        let handed_over = self.offer_sessions(net);
        let pace = self.departure.as_ref().and_then(|departure| departure.pace.next(now));
        let next = [pace, handed_over].into_iter().flatten().min();
        if let Some(at) = next {
            self.go_on_at(net, at);
        }
    }

    fn go_on_at<N: Net>(&mut self, net: &mut N, at: Millis) {
        let Some(departure) = &mut self.departure else { return };
        // Unless an earlier one comes anyway.
        if departure.timer_at.is_none_or(|earlier| at < earlier) {
            departure.timer_at = Some(at);
            net.timer(at, TimerKey::Departure);
        }
    }

    fn all_waiting(&self) -> VecDeque<Waiting> {
        let over_http = |key: &Key| {
            self.listens.get(*key).is_some_and(|listen| matches!(listen.out, ListenOut::Http(_)))
        };
        let listens = self.listens.keys().into_iter().filter(over_http).map(Waiting::Listen);
        let sessions = self.sessions.iter().filter(|(_, session)| match session.channel {
            Channel::Streamable => session.streams.as_ref().is_some_and(|s| s.has_gets()),
            Channel::Sse(_) => true,
            Channel::Pipe(_) => false,
        });
        let sessions = sessions.map(|(key, _)| Waiting::Session(key));
        let pipes = self.pipes.conns().into_iter().map(Waiting::Pipe);
        let aways = self.aways.iter().filter(|(_, away)| away.is_get);
        let aways = aways.map(|(exchange, _)| Waiting::Away(*exchange));
        listens.chain(sessions).chain(aways).chain(pipes).collect()
    }

    fn end_waiting<N: Net>(&mut self, net: &mut N, waiting: Waiting) {
        match waiting {
            Waiting::Listen(key) => {
                let last = last_words(net);
                self.end_listen(net, key, &last);
            }
            Waiting::Session(key) => self.end_waiting_session(net, key),
            Waiting::Pipe(conn) => self.leave_pipe(net, conn),
            Waiting::Away(exchange) => {
                let place = self.here(exchange);
                let Some(away) = self.aways.remove(&exchange) else { return };
                self.tell_gone(net, away.at, place);
                if away.shown == Shown::Stream {
                    let last = last_words(net);
                    net.stream_end(exchange, &last);
                } else {
                    self.refuse_while_draining(net, exchange);
                }
            }
        }
    }

    /// Ends what a pipe listens to, and the pipe if nothing runs on it.
    pub(super) fn leave_pipe<N: Net>(&mut self, net: &mut N, conn: ConnId) {
        for key in self.pipes.listens_of(conn) {
            self.end_listen(net, key, b"");
        }
        self.pipe_settle(net, conn);
    }

    /// Ends what a session waits with.
    pub(super) fn end_waiting_session<N: Net>(&mut self, net: &mut N, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.channel {
            Channel::Streamable => {
                let gets = session.streams.as_mut().map(|s| s.take_gets()).unwrap_or_default();
                for place in gets {
                    self.waiters.remove(&place);
                    let last = last_words(net);
                    out::end(net, self.me(), place, &last);
                }
                self.ready(key);
            }
            Channel::Sse(place) if session.calls.is_empty() => {
                if self.waiters.contains_key(&place) {
                    let last = last_words(net);
                    out::write(net, self.me(), place, &last);
                }
                self.end_session(net, key);
            }
            Channel::Sse(_) | Channel::Pipe(_) => {}
        }
    }

    /// A call of this session has ended while we leave.
    pub(super) fn leaving_session_settled<N: Net>(&mut self, net: &mut N, key: Key) {
        match self.sessions.get(key).map(|session| session.channel) {
            Some(Channel::Sse(_)) => self.end_waiting_session(net, key),
            Some(Channel::Streamable) => {
                self.ready(key);
                // Not now: its end may be what ended the call.
                self.go_on_at(net, net.now());
            }
            Some(Channel::Pipe(_)) | None => {}
        }
    }
}

/// What an ended stream tells its client about coming back: each something else.
fn last_words<N: Net>(net: &mut N) -> Vec<u8> {
    let mut random = [0; 4];
    net.random(&mut random);
    let ms = RETRY_MS_MIN + u32::from_le_bytes(random) % (RETRY_MS_SPREAD + 1);
    let mut last = Vec::with_capacity(16);
    sse::write_retry(&mut last, ms);
    last
}
