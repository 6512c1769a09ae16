//! Draining: what only waits is told to go, in steps, so that a crowd of clients does not come back all at once; what
//! runs may finish; nothing new begins.

use std::collections::VecDeque;

use super::Engine;
use super::slots::Key;
use crate::io::{ConnId, Millis};
use crate::net::{Net, TimerKey};

/// In how many steps everybody is told, at most.
const STEPS: usize = 20;
/// Between two steps, milliseconds: all are told within a second.
const STEP_MS: Millis = 50;
/// So many are told at once without a second thought: their return is no storm.
const STEP_MIN: usize = 256;

/// Who is still to be told.
#[derive(Default)]
pub(super) struct Farewells {
    waiting: VecDeque<Farewell>,
    step: usize,
}

enum Farewell {
    Listen(Key),
    Session(Key),
    Pipe(ConnId),
}

impl Farewells {
    /// Whether everybody has been told.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Engine {
    /// Begins to drain; once.
    pub(super) fn begin_drain<N: Net>(&mut self, net: &mut N) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let listens = self.listens.keys().into_iter().map(Farewell::Listen);
        let sessions = self.sessions.keys().into_iter().map(Farewell::Session);
        let pipes = self.pipes.conns().into_iter().map(Farewell::Pipe);
        let waiting: VecDeque<Farewell> = listens.chain(sessions).chain(pipes).collect();
        let step = waiting.len().div_ceil(STEPS).max(STEP_MIN);
        self.farewells = Farewells { waiting, step };
        self.say_farewells(net);
    }

    /// One step. Who has gone by himself meanwhile is not there to be told.
    pub(super) fn say_farewells<N: Net>(&mut self, net: &mut N) {
        for _ in 0..self.farewells.step {
            match self.farewells.waiting.pop_front() {
                None => return,
                Some(Farewell::Listen(key)) => self.end_listen(net, key),
                Some(Farewell::Session(key)) => self.drain_session(net, key),
                Some(Farewell::Pipe(conn)) => self.pipe_settle(net, conn),
            }
        }
        if !self.farewells.is_empty() {
            net.timer(net.now() + STEP_MS, TimerKey::Farewell);
        }
    }
}
