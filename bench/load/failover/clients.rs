//! Clients of a cluster: they open sessions, use them over any node, try again as they are told to, and find their way
//! round a node that is down as a load balancer does: by its `/health`.
//!
//! Order of use: [`Clients::open`], [`Clients::load`], [`Clients::probe`] or [`Clients::sweep`] say what shall be done;
//! [`Clients::turn`], again and again, does it. What came of it stands in the book.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::book::{Attempt, Book, Ending, Session};
use super::dice::Dice;
use super::exchange::Answer;
use super::lines::{Event, Lines};
use crate::load::check::{Checker, Verdict};
use crate::load::kind::Kind;
use crate::load::pulse::{Clock, Window};
use crate::load::roam::home;
use crate::load::say::Say;
use crate::load::schedule::Schedule;
use crate::load::target::Target;
use crate::request::ID_FIRST;

/// No answer for so long, and the connection is given up.
const ANSWER_PATIENCE_US: u64 = 2_000_000;
/// A call is tried for so long.
const CALL_PATIENCE_US: u64 = 30_000_000;
/// Where the server does not say when to come again.
const AGAIN_US: u64 = 100_000;
/// A probe does not wait for what it is told: it shall find out when a session answers.
const PROBE_AGAIN_US: u64 = 50_000;
/// Between two attempts to reach a node that is down.
const TRIAL_US: u64 = 250_000;
/// Calls that wait for a connection.
const READY_MAX: usize = 200_000;
/// Probes under way at once.
const PROBES_MAX: usize = 64;
/// The longest turn.
const TURN_MAX: Duration = Duration::from_millis(2);
/// What is due within this is waited for awake.
const AWAKE_US: u64 = 50;

/// Why a session is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The steady load.
    Load,
    /// To find out whether a session of the node that failed answers.
    Probe,
    /// To find out whether every session is there.
    Sweep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A new session.
    Open,
    /// A session's `notifications/initialized`.
    Acknowledge(u32),
    /// A call in a session.
    Call(u32, Purpose),
    /// Whether the node is well.
    Health,
}

/// Something to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    what: What,
    /// Only there.
    at: Option<u16>,
    due_us: u64,
    sent_us: u64,
    id: u64,
}

/// A node as its clients see it.
#[derive(Debug)]
struct Node {
    health: Vec<u8>,
    idle: Vec<u32>,
    /// Lines that stand or are about to.
    lines: u32,
    is_up: bool,
    /// A node that is down is tried again then.
    trial_us: u64,
}

/// See the module.
pub struct Clients {
    /// What came of it.
    pub book: Book,
    /// Latencies of the load since it was last taken.
    pub window: Window,
    /// Connections that stand.
    pub connected: u64,
    clock: Clock,
    lines: Lines,
    per_node: u32,
    nodes: Vec<Node>,
    says: Vec<Say>,
    checker: Checker,
    dice: Dice,
    /// By line.
    asks: Vec<Option<Ask>>,
    ready: VecDeque<Ask>,
    later: BinaryHeap<Reverse<(u64, Ask)>>,
    load: Option<Schedule>,
    /// Sessions in the order in which the load uses them.
    order: Vec<u32>,
    next: usize,
    probe: Option<Schedule>,
    to_probe: VecDeque<u32>,
    probing: usize,
    sweeping: usize,
    opening: usize,
    next_id: u64,
    events: Vec<Event>,
    /// Lines given up in this turn.
    hung_up: Vec<u32>,
}

impl Clients {
    /// Clients of these nodes, with so many connections to each.
    pub fn new(
        clock: Clock,
        targets: &[Target],
        says: Vec<Say>,
        per_node: u32,
        seed: u64,
    ) -> Result<Self, String> {
        let addresses = targets.iter().map(|target| target.http).collect();
        let capacity = per_node * targets.len() as u32 * 2 + 64;
        let lines =
            Lines::new(addresses, capacity).map_err(|err| format!("cannot build a ring: {err}"))?;
        let node = |target: &Target| Node {
            health: format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", target.host).into_bytes(),
            idle: Vec::new(),
            lines: 0,
            is_up: true,
            trial_us: 0,
        };
        Ok(Self {
            book: Book::default(),
            window: Window::default(),
            connected: 0,
            clock,
            lines,
            per_node,
            nodes: targets.iter().map(node).collect(),
            checker: Checker::new(&says[0].shape),
            says,
            dice: Dice::new(seed),
            asks: Vec::new(),
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            load: None,
            order: Vec::new(),
            next: 0,
            probe: None,
            to_probe: VecDeque::new(),
            probing: 0,
            sweeping: 0,
            opening: 0,
            next_id: ID_FIRST,
            events: Vec::new(),
            hung_up: Vec::new(),
        })
    }

    /// Opens so many sessions more: evenly over the nodes that are up, or at one of them.
    pub fn open(&mut self, count: usize, at: Option<u16>) {
        let now = self.clock.us();
        let up: Vec<u16> = (0..self.nodes.len() as u16).filter(|node| self.is_up(*node)).collect();
        for number in 0..count {
            let spread = up.get(number % up.len().max(1)).copied();
            self.opening += 1;
            self.ready.push_back(ask(What::Open, at.or(spread), now));
        }
    }

    /// Sessions that are not there yet.
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// Uses sessions in turns, in any order, at this rate from now on; `None`: no longer.
    pub fn load(&mut self, per_s: Option<f64>) {
        self.order = (0..self.book.sessions.len() as u32).collect();
        self.dice.shuffle(&mut self.order);
        self.load = per_s.map(|per_s| Schedule::new(self.clock.us(), per_s));
    }

    /// Asks each session of the node that failed until it answers, at this rate.
    pub fn probe(&mut self, per_s: f64) {
        let mut sessions: Vec<u32> = self.book.of_victim().map(|(index, _)| index).collect();
        self.dice.shuffle(&mut sessions);
        self.to_probe = sessions.into();
        self.probe = Some(Schedule::new(self.clock.us(), per_s));
    }

    /// Uses these sessions once more, anywhere or on one node.
    pub fn sweep(&mut self, sessions: impl IntoIterator<Item = u32>, at: Option<u16>) {
        let now = self.clock.us();
        for session in sessions {
            self.sweeping += 1;
            self.ready.push_back(ask(What::Call(session, Purpose::Sweep), at, now));
        }
    }

    /// Sessions of sweeps that are not through.
    pub fn sweeping(&self) -> usize {
        self.sweeping
    }

    /// Connections that there should be.
    pub fn wanted(&self) -> u64 {
        u64::from(self.per_node) * self.nodes.len() as u64
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> u16 {
        self.nodes.len() as u16
    }

    /// Whether clients use this node.
    pub fn is_up(&self, node: u16) -> bool {
        self.nodes[usize::from(node)].is_up
    }

    /// One turn: what is due is said, what was answered is judged.
    pub fn turn(&mut self) {
        let now = self.clock.us();
        self.keep_lines(now);
        self.gather(now);
        self.place(now);
        let mut events = std::mem::take(&mut self.events);
        self.lines.turn(self.sleep(), &mut events);
        let now = self.clock.us();
        self.hung_up.clear();
        for event in events.drain(..) {
            match event {
                // It happened before we gave the line up, and came to be told after.
                Event::Opened(line) | Event::Answered(line, _) | Event::Ended(line, _)
                    if self.hung_up.contains(&line) => {}
                Event::Opened(line) => self.opened(line),
                Event::Answered(line, answer) => self.answered(line, &answer, now),
                Event::Ended(line, why) => self.ended(line, why, now),
            }
        }
        self.events = events;
        self.give_up_late(now);
    }

    fn sleep(&self) -> Option<Duration> {
        let now = self.clock.us();
        let due = [self.load, self.probe.filter(|_| !self.to_probe.is_empty())];
        let due = due.into_iter().flatten().map(|one| one.next_us()).min().unwrap_or(u64::MAX);
        let wait = Duration::from_micros(due.saturating_sub(now)).min(TURN_MAX);
        let is_busy = !self.ready.is_empty() && self.nodes.iter().any(|node| !node.idle.is_empty());
        (!is_busy && Duration::from_micros(AWAKE_US) <= wait).then_some(wait)
    }

    /// Dials what is missing; a node that is down is tried with one line.
    fn keep_lines(&mut self, now: u64) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let wanted = match node.is_up {
                true => self.per_node,
                false if node.trial_us <= now => 1,
                false => 0,
            };
            while node.lines < wanted {
                node.lines += 1;
                node.trial_us = now + TRIAL_US;
                self.lines.dial(index as u16);
            }
        }
    }

    /// Everything that is due becomes ready.
    fn gather(&mut self, now: u64) {
        while let Some(at) = self.load.as_mut().and_then(|load| load.take(now)) {
            if self.order.is_empty() || READY_MAX <= self.ready.len() {
                self.book.missed += 1;
                continue;
            }
            let session = self.order[self.next % self.order.len()];
            self.next = self.next.wrapping_add(1);
            self.ready.push_back(ask(What::Call(session, Purpose::Load), None, at));
        }
        while self.later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, again))) = self.later.pop() else { break };
            // Who has waited goes first.
            self.ready.push_front(again);
        }
        while self.probing < PROBES_MAX && !self.to_probe.is_empty() {
            let Some(at) = self.probe.as_mut().and_then(|probe| probe.take(now)) else { break };
            let Some(session) = self.to_probe.pop_front() else { break };
            // The load may have found it first.
            if self.book.sessions[session as usize].answered_us.is_none() {
                self.probing += 1;
                self.ready.push_back(ask(What::Call(session, Purpose::Probe), None, at));
            }
        }
    }

    /// Gives what is ready to idle lines; what finds none keeps its place.
    fn place(&mut self, now: u64) {
        let mut left = VecDeque::new();
        while let Some(next) = self.ready.pop_front() {
            if self.nodes.iter().all(|node| node.idle.is_empty()) {
                left.push_back(next);
                break;
            }
            // Whether a session answers elsewhere is not asked of the node that failed.
            let avoid = match next.what {
                What::Call(_, Purpose::Probe) => self.book.fault.map(|fault| fault.target),
                _ => None,
            };
            match self.line_for(next.at, avoid) {
                Some(line) => self.say(line, next, now),
                None => left.push_back(next),
            }
        }
        while let Some(ask) = left.pop_back() {
            self.ready.push_front(ask);
        }
    }

    fn line_for(&mut self, at: Option<u16>, avoid: Option<u16>) -> Option<u32> {
        let node = match at {
            Some(node) => node,
            None => {
                let is_there = |index: &u16| {
                    let node = &self.nodes[usize::from(*index)];
                    node.is_up && !node.idle.is_empty() && Some(*index) != avoid
                };
                let up: Vec<u16> = (0..self.nodes.len() as u16).filter(is_there).collect();
                *up.get(self.dice.below(up.len()))?
            }
        };
        self.nodes[usize::from(node)].idle.pop()
    }

    fn say(&mut self, line: u32, mut next: Ask, now: u64) {
        self.next_id += 1;
        (next.id, next.sent_us) = (self.next_id, now);
        let node = usize::from(self.lines.node(line));
        let (say, health) = (&self.says[node], &self.nodes[node].health);
        let session = |index: u32| &*self.book.sessions[index as usize].id;
        self.lines.send(line, |out| match next.what {
            What::Open => say.initialize.write(next.id, out),
            What::Acknowledge(index) => say.initialized.write(session(index), 0, out),
            What::Call(index, _) => say.session_call.write(session(index), next.id, out),
            What::Health => out.extend_from_slice(health),
        });
        self.keep(line, Some(next));
    }

    /// What is asked on a line; returns what was.
    fn keep(&mut self, line: u32, ask: Option<Ask>) -> Option<Ask> {
        if self.asks.len() <= line as usize {
            self.asks.resize(line as usize + 1, None);
        }
        std::mem::replace(&mut self.asks[line as usize], ask)
    }

    fn opened(&mut self, line: u32) {
        self.connected += 1;
        let node = &mut self.nodes[usize::from(self.lines.node(line))];
        match node.is_up {
            true => node.idle.push(line),
            false => {
                let now = self.clock.us();
                self.say(line, ask(What::Health, None, now), now);
            }
        }
    }

    fn answered(&mut self, line: u32, answer: &Answer, now: u64) {
        let index = self.lines.node(line);
        let Some(asked) = self.keep(line, None) else {
            return self.hang_up(line, index);
        };
        if asked.what == What::Health && answer.status == 200 {
            self.nodes[usize::from(index)].is_up = true;
        }
        if answer.is_last || !self.is_up(index) {
            self.hang_up(line, index);
        } else {
            self.nodes[usize::from(index)].idle.push(line);
        }
        let ending = self.judge(&asked, answer);
        self.conclude(asked, index, ending, answer, now);
    }

    fn hang_up(&mut self, line: u32, node: u16) {
        self.connected -= 1;
        self.nodes[usize::from(node)].lines -= 1;
        self.lines.close(line);
        self.hung_up.push(line);
    }

    fn judge(&mut self, asked: &Ask, answer: &Answer) -> Ending {
        match (asked.what, answer.status) {
            (_, 429 | 503) => Ending::Again(answer.retry_after_s, answer.complaint()),
            (What::Open | What::Health, 200) => Ending::Right,
            (What::Acknowledge(_), 200..=299) => Ending::Right,
            (What::Call(..), 200) => match self.checker.check(&answer.message, asked.id) {
                Verdict::Right => Ending::Right,
                _ if answer.is_retryable() => {
                    Ending::Again(answer.retry_after_s, answer.complaint())
                }
                Verdict::Wrong(why) => Ending::Wrong(why),
                Verdict::Other => Ending::Wrong("a stream without the answer".to_owned()),
            },
            (What::Call(..) | What::Acknowledge(_), 404) => Ending::Gone(answer.complaint()),
            _ if answer.is_retryable() => Ending::Again(answer.retry_after_s, answer.complaint()),
            _ => Ending::Wrong(answer.complaint()),
        }
    }

    fn ended(&mut self, line: u32, why: String, now: u64) {
        let index = self.lines.node(line);
        let asked = self.keep(line, None);
        let node = &mut self.nodes[usize::from(index)];
        node.lines -= 1;
        let was_idle = node.idle.iter().position(|idle| *idle == line);
        let stood = was_idle.is_some() || asked.is_some();
        self.connected -= u64::from(stood);
        if let Some(at) = was_idle {
            node.idle.swap_remove(at);
        }
        if !stood {
            // It was refused: nobody is there.
            node.is_up = false;
        }
        if let Some(asked) = asked {
            self.conclude(asked, index, Ending::Cut(why), &nothing(), now);
        }
    }

    /// Connections on which no answer comes are given up, and so is their node.
    fn give_up_late(&mut self, now: u64) {
        for line in 0..self.asks.len() as u32 {
            let Some(asked) = self.asks[line as usize] else { continue };
            if now < asked.sent_us + ANSWER_PATIENCE_US {
                continue;
            }
            let index = self.lines.node(line);
            self.keep(line, None);
            self.hang_up(line, index);
            let node = &mut self.nodes[usize::from(index)];
            (node.is_up, node.trial_us) = (false, now + TRIAL_US);
            for idle in std::mem::take(&mut node.idle) {
                self.hang_up(idle, index);
            }
            self.conclude(asked, index, Ending::Late, &nothing(), now);
        }
    }

    /// An attempt is over: the book is told, and what failed is tried again.
    fn conclude(&mut self, asked: Ask, node: u16, ending: Ending, answer: &Answer, now: u64) {
        let session = match asked.what {
            What::Health => return,
            What::Open => None,
            What::Acknowledge(session) | What::Call(session, _) => Some(session),
        };
        let attempt = Attempt { session, target: node, sent_us: asked.sent_us };
        self.book.end(attempt, &ending, asked.due_us, now);
        match (asked.what, &ending) {
            (What::Open, Ending::Right) => match answer.session.clone() {
                None => self.book.given_up += 1,
                Some(id) => {
                    let index = self.book.sessions.len() as u32;
                    self.book.sessions.push(Session {
                        home: home(&id),
                        id,
                        target: node,
                        answered_us: None,
                        attempts: 0,
                        refusal: None,
                        is_lost: false,
                    });
                    self.ready.push_front(ask(What::Acknowledge(index), None, now));
                    return;
                }
            },
            (What::Call(_, Purpose::Load), Ending::Right) => {
                self.window.call(Kind::Session, now.saturating_sub(asked.due_us));
            }
            (_, Ending::Right) => {}
            // A client whose session is gone has nothing to try again.
            (What::Call(_, Purpose::Load | Purpose::Sweep), Ending::Gone(_)) => {}
            (_, ending) if now < asked.due_us + CALL_PATIENCE_US => {
                let wait = match (asked.what, ending) {
                    (What::Call(_, Purpose::Probe), _) => PROBE_AGAIN_US,
                    (_, Ending::Again(Some(seconds), _)) => u64::from(*seconds) * 1_000_000,
                    (_, Ending::Cut(_) | Ending::Late) => 0,
                    _ => AGAIN_US,
                };
                return self.later.push(Reverse((now + wait, asked)));
            }
            _ => self.book.given_up += 1,
        }
        match asked.what {
            What::Open | What::Acknowledge(_) => self.opening -= 1,
            What::Call(_, Purpose::Probe) => self.probing -= 1,
            What::Call(_, Purpose::Sweep) => self.sweeping -= 1,
            What::Call(_, Purpose::Load) | What::Health => {}
        }
    }
}

fn ask(what: What, at: Option<u16>, due_us: u64) -> Ask {
    Ask { what, at, due_us, sent_us: 0, id: 0 }
}

/// Where there was no answer.
fn nothing() -> Answer {
    Answer { status: 0, session: None, retry_after_s: None, is_last: true, message: Vec::new() }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
