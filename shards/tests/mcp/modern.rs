//! A modern client over HTTP: requests on several connections, now and then several in a row on one, retries
//! with the answers the server asked for.

use std::collections::VecDeque;

use serde_json::Value;

use super::http::{Seen, parse};
use super::ledger::{Heard, Ledger};
use super::say::{Asking, Era, modern_post, retried};
use super::talk::{Lanes, Talk};
use super::world::{Dice, World};

/// Requests one connection may have under way: they are answered in order.
const PIPELINED_MAX: usize = 4;

pub struct Modern {
    lanes: Lanes<VecDeque<(String, Asking)>>,
    ledger: Ledger,
    to_ask: Vec<Asking>,
    is_winding_down: bool,
}

impl Modern {
    pub fn new(dice: &mut Dice) -> Self {
        let mut to_ask: Vec<Asking> = (0..1 + dice.below(6)).map(|_| Asking::any(dice)).collect();
        if dice.percent(50) {
            to_ask.push(Asking::sampling(Era::Modern, "What is the capital"));
        }
        let lanes = Lanes::new(1 + dice.below(3));
        Self { lanes, ledger: Ledger::default(), to_ask, is_winding_down: false }
    }

    /// A client that makes just these requests.
    pub fn asking(to_ask: Vec<Asking>) -> Self {
        Self { lanes: Lanes::new(1), ledger: Ledger::default(), to_ask, is_winding_down: false }
    }

    fn ask(&mut self, world: &World, dice: &mut Dice) {
        let Some(lane) = self.lanes.free(world, dice) else { return };
        let count = if dice.percent(20) { 1 + dice.below(PIPELINED_MAX) } else { 1 };
        let mut job = VecDeque::new();
        for asking in self.to_ask.split_off(self.to_ask.len().saturating_sub(count)) {
            let id = self.ledger.next_id(dice);
            self.ledger.asked(&id, asking.expect.clone(), asking.tracked);
            lane.http.wire.say(&modern_post(&asking, &id));
            job.push_back((id.to_string(), asking));
        }
        lane.job = (!job.is_empty()).then_some(job);
    }

    /// A message on the connection of these requests.
    fn hear(&mut self, job: &mut VecDeque<(String, Asking)>, message: &Value, is_last: bool) {
        let heard = self.ledger.hear(message);
        let (id, asking) = job.front().expect("a request waits");
        match heard {
            Heard::Notice => assert!(!is_last, "{message} instead of an answer"),
            Heard::Request(request) => panic!("modern clients are not asked: {request}"),
            Heard::Answer(answered) => assert_eq!(answered, *id),
            Heard::Questions(answered, questions) => {
                assert_eq!(answered, *id);
                self.to_ask.push(retried(asking, &questions));
            }
        }
    }
}

impl Talk for Modern {
    fn go_on(&mut self, world: &World, dice: &mut Dice) {
        if !self.to_ask.is_empty() && !self.is_winding_down && dice.percent(30) {
            self.ask(world, dice);
        }
        for index in 0..self.lanes.all.len() {
            let lane = &mut self.lanes.all[index];
            lane.http.go_on(dice);
            let mut job = lane.job.take().unwrap_or_default();
            while let Some(seen) = self.lanes.all[index].http.next() {
                match seen {
                    Seen::Whole { status: 503, .. } if self.is_winding_down => {
                        let (id, _) = job.pop_front().expect("a request waits");
                        self.ledger.excuse(&id);
                    }
                    Seen::Whole { status, body, .. } => {
                        self.hear(&mut job, &parse(&body), true);
                        let (_, asking) = job.pop_front().expect("a request waits");
                        assert_eq!(status, 200, "{asking:?}: {body}");
                    }
                    Seen::Open { .. } => {}
                    Seen::Event(event) => {
                        assert_eq!((&*event.kind, event.id), ("message", None));
                        self.hear(&mut job, &parse(&event.data), false);
                    }
                    Seen::End => {
                        let (id, _) = job.pop_front().expect("a request waits");
                        assert!(self.ledger.is_answered(&id), "a stream ended before its answer");
                    }
                }
            }
            let lane = &mut self.lanes.all[index];
            if lane.http.is_dead() {
                for (id, asking) in job.drain(..) {
                    let is_answered = self.ledger.is_answered(&id);
                    self.ledger.excuse(&id);
                    // Leaving is cancelling, so that it may be asked again; some do.
                    if !is_answered && dice.percent(50) {
                        self.to_ask.push(asking);
                    }
                }
            }
            let lane = &mut self.lanes.all[index];
            lane.job = (!job.is_empty()).then_some(job);
        }
        self.lanes.bury();
    }

    fn is_over(&self) -> bool {
        (self.to_ask.is_empty() || self.is_winding_down) && self.ledger.is_settled()
    }

    fn is_complete(&self) -> bool {
        self.ledger.is_complete()
    }

    fn wind_down(&mut self) {
        self.is_winding_down = true;
        self.ledger.takes_refusals = true;
    }

    fn leave(&mut self, dice: &mut Dice) {
        self.lanes.leave(dice);
    }

    fn running(&self) -> Vec<String> {
        self.ledger.running()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
