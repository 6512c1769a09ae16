//! Clients of a cluster: they open sessions, use them over any node, try again as they are told to, and find their way
//! round a node that is down as a load balancer does: by its `/health`.
//!
//! Order of use: [`Clients::open`], [`Clients::load`], [`Clients::probe`] or [`Clients::sweep`] say what shall be done;
//! [`Clients::turn`], again and again, does it. What came of it stands in the book.

use std::collections::VecDeque;
use std::time::Duration;

use super::agenda::Agenda;
use super::ask::{Ask, Fate, Purpose, What};
use super::book::{Attempt, Book, Ending, Session};
use super::dice::Dice;
use super::exchange::Answer;
use super::lines::{Event, Lines};
use crate::load::check::Checker;
use crate::load::kind::Kind;
use crate::load::pulse::{Clock, Window};
use crate::load::roam::home;
use crate::load::say::Say;
use crate::load::schedule::Schedule;
use crate::load::target::Target;
use crate::request::ID_FIRST;

/// No answer for so long, and the connection is given up.
const ANSWER_PATIENCE_US: u64 = 2_000_000;
/// Between two attempts to reach a node that is down.
const TRIAL_US: u64 = 250_000;
/// The longest turn.
const TURN_MAX: Duration = Duration::from_millis(2);
/// What is due within this is waited for awake.
const AWAKE_US: u64 = 50;

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
    agenda: Agenda,
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
            agenda: Agenda::default(),
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
            self.agenda.open(at.or(spread), now);
        }
    }

    /// Sessions that are not there yet.
    pub fn opening(&self) -> usize {
        self.agenda.opening()
    }

    /// Uses sessions in turns, in any order, at this rate from now on; `None`: no longer.
    pub fn load(&mut self, per_s: Option<f64>) {
        let mut order: Vec<u32> = (0..self.book.sessions.len() as u32).collect();
        self.dice.shuffle(&mut order);
        self.agenda.load(order, per_s.map(|per_s| Schedule::new(self.clock.us(), per_s)));
    }

    /// Asks each session of the node that failed until it answers, at this rate.
    pub fn probe(&mut self, per_s: f64) {
        let mut sessions: Vec<u32> = self.book.of_victim().map(|(index, _)| index).collect();
        self.dice.shuffle(&mut sessions);
        self.agenda.probe(sessions, Schedule::new(self.clock.us(), per_s));
    }

    /// Uses these sessions once more, anywhere or on one node.
    pub fn sweep(&mut self, sessions: impl IntoIterator<Item = u32>, at: Option<u16>) {
        let now = self.clock.us();
        sessions.into_iter().for_each(|session| self.agenda.sweep(session, at, now));
    }

    /// Sessions of sweeps that are not through.
    pub fn sweeping(&self) -> usize {
        self.agenda.sweeping()
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
        self.agenda.gather(&mut self.book, now);
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
        let due = self.agenda.next_us().unwrap_or(u64::MAX);
        let wait = Duration::from_micros(due.saturating_sub(now)).min(TURN_MAX);
        let is_busy = self.agenda.is_ready() && self.nodes.iter().any(|node| !node.idle.is_empty());
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

    /// Gives what is ready to idle lines; what finds none keeps its place.
    fn place(&mut self, now: u64) {
        let mut left = VecDeque::new();
        while let Some(next) = self.agenda.take() {
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
        self.agenda.put_back(left);
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
                self.say(line, Ask::new(What::Health, None, now), now);
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
        let ending = asked.judge(answer, &mut self.checker);
        self.conclude(asked, index, ending, answer, now);
    }

    fn hang_up(&mut self, line: u32, node: u16) {
        self.connected -= 1;
        self.nodes[usize::from(node)].lines -= 1;
        self.lines.close(line);
        self.hung_up.push(line);
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
        if asked.what == What::Health {
            return;
        }
        let attempt = Attempt { session: asked.session(), target: node, sent_us: asked.sent_us };
        self.book.end(attempt, &ending, asked.due_us, now);
        match asked.fate(&ending, now) {
            Fate::Again(at) => return self.agenda.again(at, asked),
            Fate::GivenUp => self.book.given_up += 1,
            Fate::Done => match (asked.what, &answer.session) {
                (What::Open, None) => self.book.given_up += 1,
                (What::Open, Some(id)) => {
                    let index = self.book.sessions.len() as u32;
                    self.book.sessions.push(Session {
                        home: home(id),
                        id: id.clone(),
                        target: node,
                        answered_us: None,
                        attempts: 0,
                        refusal: None,
                        is_lost: false,
                    });
                    return self.agenda.acknowledge(index, now);
                }
                (What::Call(_, Purpose::Load), _) if ending == Ending::Right => {
                    self.window.call(Kind::Session, now.saturating_sub(asked.due_us));
                }
                _ => {}
            },
        }
        self.agenda.done(asked.what);
    }
}

/// Where there was no answer.
fn nothing() -> Answer {
    Answer { status: 0, session: None, retry_after_s: None, is_last: true, message: Vec::new() }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
