//! A modern client that listens on one shard to what is published on any.

use serde_json::{Value, json};

use super::http::{Http, Seen, parse};
use super::ledger::{Expect, Ledger};
use super::modern::Modern;
use super::say::{Asking, modern_post};
use super::talk::Talk;
use super::world::{Dice, World};

pub struct Listener {
    stream: Http,
    id: Value,
    uri: String,
    ledger: Ledger,
    is_acknowledged: bool,
    has_ended: bool,
    /// Publishes so many times.
    publications: u64,
    publisher: Option<Modern>,
    is_winding_down: bool,
}

impl Listener {
    pub fn new(world: &World, number: usize, dice: &mut Dice) -> Self {
        let mut ledger = Ledger::default();
        let uri = format!("any://{number}");
        let id = ledger.next_id(dice);
        let params = json!({ "notifications": { "resourceSubscriptions": [uri] } });
        let (method, expect) = ("subscriptions/listen", Expect::Nothing);
        let asking = Asking { method, params, expect: expect.clone(), tracked: false };
        ledger.asked(&id, expect, false);
        // Answered only when the server ends it.
        ledger.excuse(&id.to_string());
        let mut stream = Http::new(&world.net, dice.shard());
        stream.wire.say(&modern_post(&asking, &id));
        Self {
            stream,
            id,
            uri,
            ledger,
            is_acknowledged: false,
            has_ended: false,
            publications: dice.below(6) as u64,
            publisher: None,
            is_winding_down: false,
        }
    }

    fn hear(&mut self, message: &Value) {
        self.ledger.hear(message);
        let stamp = "io.modelcontextprotocol/subscriptionId";
        match message["method"].as_str() {
            Some("notifications/subscriptions/acknowledged") => {
                assert!(!self.is_acknowledged, "acknowledged twice");
                self.is_acknowledged = true;
                let asking = Asking::publish(&self.uri);
                if self.is_winding_down {
                    return;
                }
                self.publisher = Some(Modern::asking(vec![asking; self.publications as usize]));
            }
            Some("notifications/resources/updated") => {
                assert!(self.is_acknowledged, "{message} before the acknowledgement");
                assert_eq!(message["params"]["uri"], *self.uri);
            }
            None if self.is_winding_down => {
                assert_eq!(message["result"]["resultType"], "complete", "{message}");
                return;
            }
            _ => panic!("{message} on a listen stream"),
        }
        assert_eq!(message["params"]["_meta"][stamp], self.id, "{message}");
    }
}

impl Talk for Listener {
    fn go_on(&mut self, world: &World, dice: &mut Dice) {
        self.stream.go_on(dice);
        while let Some(seen) = self.stream.next() {
            match seen {
                Seen::Open { session: None } => {}
                Seen::Event(event) => self.hear(&parse(&event.data)),
                Seen::End | Seen::Whole { status: 503, .. } if self.is_winding_down => {
                    self.has_ended = true;
                }
                other => panic!("{other:?} on a listen stream"),
            }
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.go_on(world, dice);
            // One lost and asked again is published twice; never more often than it was asked.
            let heard = self.ledger.updates(&self.uri);
            let asked = publisher.ledger().asked_count();
            assert!(heard <= asked, "{heard} notifications of {asked} publications");
        }
    }

    fn is_over(&self) -> bool {
        let is_done = self.stream.is_dead() || self.has_ended || self.is_winding_down;
        match &self.publisher {
            Some(publisher) => {
                let published = publisher.ledger().answered_count();
                let is_heard = published <= self.ledger.updates(&self.uri);
                publisher.is_over() && (is_heard || is_done)
            }
            None => is_done,
        }
    }

    fn is_complete(&self) -> bool {
        self.publisher.as_ref().is_some_and(Modern::is_complete)
            && self.ledger.updates(&self.uri) == self.publications
            && !self.stream.is_dead()
    }

    fn wind_down(&mut self) {
        self.is_winding_down = true;
        self.ledger.takes_refusals = true;
        if let Some(publisher) = &mut self.publisher {
            publisher.wind_down();
        }
    }

    fn leave(&mut self, dice: &mut Dice) {
        self.stream.wire.leave(dice);
        if let Some(publisher) = &mut self.publisher {
            publisher.leave(dice);
        }
    }

    fn running(&self) -> Vec<String> {
        Vec::new()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
