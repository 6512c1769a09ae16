//! A client of 2024-11-05: everything is heard on one stream, everything is said by POST to whichever shard.

use std::collections::VecDeque;

use serde_json::Value;

use super::http::{Http, Seen, parse};
use super::ledger::{Expect, Heard, Ledger};
use super::say::{Asking, Era, http, initialize, initialized, sampled};
use super::talk::{Lanes, Talk};
use super::world::{Dice, World};

pub struct Sse {
    stream: Http,
    lanes: Lanes<()>,
    ledger: Ledger,
    endpoint: Option<String>,
    initializing: Option<String>,
    to_ask: Vec<Asking>,
    to_say: VecDeque<Value>,
    /// A POST died: what it carried may never have arrived.
    has_lost: bool,
    /// The server said that the session is over.
    has_died: bool,
    is_winding_down: bool,
}

impl Sse {
    pub fn new(world: &World, dice: &mut Dice) -> Self {
        let mut stream = Http::new(&world.net, dice.shard());
        stream.wire.say(&http("GET", "/sse", &[], ""));
        let mut to_ask: Vec<Asking> = (0..1 + dice.below(5)).map(|_| Asking::any(dice)).collect();
        if dice.percent(50) {
            to_ask.push(Asking::sampling(Era::Legacy, "What for"));
        }
        Self {
            stream,
            lanes: Lanes::new(1 + dice.below(3)),
            ledger: Ledger::default(),
            endpoint: None,
            initializing: None,
            to_ask,
            to_say: VecDeque::new(),
            has_lost: false,
            has_died: false,
            is_winding_down: false,
        }
    }

    fn hear(&mut self, seen: Seen, dice: &mut Dice) {
        let event = match seen {
            Seen::Open { session: None } => return,
            Seen::Event(event) => event,
            Seen::Whole { status: 503, .. } | Seen::End if self.is_winding_down => {
                return self.ledger.excuse_all();
            }
            other => panic!("{other:?} on the stream of a session"),
        };
        if self.endpoint.is_none() {
            assert_eq!(event.kind, "endpoint");
            self.endpoint = Some(event.data);
            let id = self.ledger.next_id(dice);
            self.ledger.asked(&id, Expect::Member("serverInfo"), false);
            self.initializing = Some(id.to_string());
            return self.to_say.push_back(initialize(&id, "2024-11-05"));
        }
        assert_eq!((&*event.kind, event.id), ("message", None));
        match self.ledger.hear(&parse(&event.data)) {
            Heard::Request(request) => self.to_say.push_back(sampled(&request)),
            Heard::Answer(id) if self.initializing.as_ref() == Some(&id) => {
                self.initializing = None;
                self.to_say.push_back(initialized());
            }
            Heard::Answer(_) | Heard::Notice => {}
            Heard::Questions(..) => panic!("a legacy client cannot be told to retry"),
        }
    }

    fn start(&mut self, world: &World, dice: &mut Dice) {
        let Some(endpoint) = self.endpoint.clone() else { return };
        let can_ask = self.initializing.is_none() && !self.is_winding_down;
        if self.to_say.is_empty() && (self.to_ask.is_empty() || !can_ask) {
            return;
        }
        let Some(lane) = self.lanes.free(world, dice) else { return };
        let message = self.to_say.pop_front().or_else(|| {
            let asking = self.to_ask.pop()?;
            let id = self.ledger.next_id(dice);
            self.ledger.asked(&id, asking.expect.clone(), asking.tracked);
            Some(asking.message(Era::Legacy, &id))
        });
        if let Some(message) = message {
            lane.http.wire.say(&http("POST", &endpoint, &[], &message.to_string()));
            lane.job = Some(());
        }
    }
}

impl Talk for Sse {
    fn go_on(&mut self, world: &World, dice: &mut Dice) {
        self.stream.go_on(dice);
        while let Some(seen) = self.stream.next() {
            self.hear(seen, dice);
        }
        if !self.stream.is_dead() && dice.percent(40) {
            self.start(world, dice);
        }
        for lane in &mut self.lanes.all {
            lane.http.go_on(dice);
            while let Some(seen) = lane.http.next() {
                match seen {
                    Seen::Whole { status: 202, .. } => {}
                    Seen::Whole { status: 503, .. } if self.is_winding_down => self.has_lost = true,
                    // The session ended with its stream, which will turn out to be dead.
                    Seen::Whole { status: 404, .. } => self.has_died = true,
                    other => panic!("{other:?} for a POST"),
                }
                assert!(lane.job.take().is_some(), "two answers to one POST");
            }
            if lane.http.is_dead() && lane.job.take().is_some() {
                self.has_lost = true;
            }
        }
        if self.has_lost || self.has_died || self.stream.is_dead() {
            self.ledger.excuse_all();
        }
        self.lanes.bury();
    }

    fn is_over(&self) -> bool {
        if self.has_died && !self.stream.is_dead() {
            return false;
        }
        let is_done = self.stream.is_dead() || self.has_lost || self.is_winding_down;
        (is_done || (self.to_ask.is_empty() && self.to_say.is_empty() && self.endpoint.is_some()))
            && self.ledger.is_settled()
    }

    fn is_complete(&self) -> bool {
        self.ledger.is_complete() && !self.has_lost && !self.stream.is_dead()
    }

    fn wind_down(&mut self) {
        self.is_winding_down = true;
        self.ledger.takes_refusals = true;
    }

    fn leave(&mut self, dice: &mut Dice) {
        self.stream.wire.leave(dice);
        self.lanes.leave(dice);
    }

    fn running(&self) -> Vec<String> {
        self.ledger.running()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
