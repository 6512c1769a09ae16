//! The service of these tests: it posts what it is told to, and writes down what it hears.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::route::{Ask, Forward, Origin, Reply, Route, Takes, Token};
use erlmcp_cluster::letter::{Letter, Urgency};
use erlmcp_cluster::view::{Member, View};
use erlmcp_protocol::http::Head;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::io::ConnId;
use erlmcp_shards::net::{Exchange, LinkEvent, Net, PipeKind, TimerKey};
use erlmcp_shards::service::Service;

/// How often a scribe looks at its desk, milliseconds.
const LOOK_MS: u64 = 1;

/// What lies between a test and the scribe of one shard.
#[derive(Default)]
pub struct Desk {
    /// To be posted.
    pub outgoing: RefCell<VecDeque<(Spot, Urgency, Vec<u8>)>>,
    /// Posted, by urgency: taken, refused.
    pub posted: RefCell<BTreeMap<Urgency, (u64, u64)>>,
    /// What came, and whose it was.
    pub heard: RefCell<Vec<(Spot, Vec<u8>)>>,
    /// What happened to links.
    pub links: RefCell<Vec<(u16, LinkEvent)>>,
    /// The last view.
    pub view: RefCell<Option<Arc<View>>>,
    /// Something is in flight.
    pub is_busy: Cell<bool>,
    /// Told to drain.
    pub is_draining: Cell<bool>,
    /// Requests are answered at once, with their own words.
    pub answers: Cell<bool>,
    /// Requests that were taken, and that nobody has answered or given up.
    pub waiting: RefCell<BTreeMap<Vec<u8>, u16>>,
    /// Requests that were answered.
    pub answered: Cell<u64>,
    /// Whoever it is linked to is greeted, on every shard, in the name of this run.
    pub greets: Cell<Option<u32>>,
    /// Greetings of runs that were not seen alive then.
    pub strangers: Cell<u64>,
}

impl Desk {
    pub fn post(&self, to: Spot, urgency: Urgency, bytes: &[u8]) {
        self.outgoing.borrow_mut().push_back((to, urgency, bytes.to_vec()));
    }

    /// How often this happened to links with the node.
    pub fn links(&self, node: u16, event: LinkEvent) -> usize {
        self.links.borrow().iter().filter(|seen| **seen == (node, event)).count()
    }

    /// Letters of this urgency: taken, refused.
    pub fn posted(&self, urgency: Urgency) -> (u64, u64) {
        self.posted.borrow().get(&urgency).copied().unwrap_or_default()
    }
}

pub struct Scribe {
    desk: Rc<Desk>,
    is_awake: bool,
}

impl Scribe {
    pub fn new(desk: Rc<Desk>) -> Self {
        Self { desk, is_awake: false }
    }
}

/// A letter of this urgency with these bytes in it.
fn letter(urgency: Urgency, bytes: &[u8]) -> Letter<'_> {
    let at = Spot { node: 0, shard: 0 };
    let origin = Origin { at, epoch: 0, slot: 0, generation: 0, seq: 0 };
    let token = Token { at, epoch: 0, slot: 0, generation: 0, name: [0; 16] };
    match urgency {
        Urgency::Sync => Letter::Status(bytes),
        Urgency::Request => {
            let ask = Ask::Post { takes: Takes { json: true, sse: true }, body: bytes };
            Letter::Route(Route::Forward(Forward { origin, token, hops: 1, ask }))
        }
        Urgency::Reply => Letter::Route(Route::Reply { to: origin, reply: Reply::Write(bytes) }),
    }
}

fn words<'b>(letter: &Letter<'b>) -> Option<&'b [u8]> {
    match letter {
        Letter::Status(bytes) => Some(bytes),
        Letter::Route(Route::Forward(Forward { ask: Ask::Post { body, .. }, .. })) => Some(body),
        Letter::Route(Route::Reply { reply: Reply::Write(bytes), .. }) => Some(bytes),
        _ => None,
    }
}

impl Service for Scribe {
    fn handle_letter<N: Net>(&mut self, net: &mut N, from: Spot, heard: Letter<'_>) {
        let bytes = words(&heard).expect("only scribes write here");
        if self.desk.greets.get().is_some() {
            let epoch = u32::from_be_bytes(*bytes.first_chunk().expect("a greeting"));
            let view = self.desk.view.borrow();
            let known = view.as_ref().and_then(|view| view.home(from.node, epoch));
            let strangers = self.desk.strangers.get() + u64::from(known.is_none());
            self.desk.strangers.set(strangers);
        }
        if self.desk.answers.get() {
            match heard.urgency() {
                Urgency::Request => _ = net.post(from, &letter(Urgency::Reply, bytes)),
                Urgency::Reply if self.desk.waiting.borrow_mut().remove(bytes).is_some() => {
                    self.desk.answered.set(self.desk.answered.get() + 1);
                }
                _ => {}
            }
        }
        self.desk.heard.borrow_mut().push((from, bytes.to_vec()));
    }

    fn handle_link<N: Net>(&mut self, net: &mut N, node: u16, event: LinkEvent) {
        self.desk.links.borrow_mut().push((node, event));
        if let (Some(epoch), LinkEvent::Up) = (self.desk.greets.get(), event) {
            let view = self.desk.view.borrow();
            let shards = view.as_ref().and_then(|view| view.member(node)).map_or(0, Member::shards);
            for shard in 0..shards {
                net.post(Spot { node, shard }, &letter(Urgency::Sync, &epoch.to_be_bytes()));
            }
        }
        if event == LinkEvent::Lost {
            self.desk.waiting.borrow_mut().retain(|_, of| *of != node);
        }
    }

    fn handle_view<N: Net>(&mut self, net: &mut N, view: &Arc<View>) {
        *self.desk.view.borrow_mut() = Some(view.clone());
        if !std::mem::replace(&mut self.is_awake, true) {
            net.timer(net.now(), TimerKey::Sweep);
        }
    }

    fn handle_timer<N: Net>(&mut self, net: &mut N, _: TimerKey) {
        while let Some((to, urgency, bytes)) = self.desk.outgoing.borrow_mut().pop_front() {
            let is_taken = net.post(to, &letter(urgency, &bytes));
            let mut posted = self.desk.posted.borrow_mut();
            let (taken, refused) = posted.entry(urgency).or_default();
            *if is_taken { taken } else { refused } += 1;
            if is_taken && urgency == Urgency::Request {
                self.desk.waiting.borrow_mut().insert(bytes, to.node);
            }
        }
        net.timer(net.now() + LOOK_MS, TimerKey::Sweep);
    }

    fn handle_drain<N: Net>(&mut self, _: &mut N, _: u64) {
        self.desk.is_draining.set(true);
    }

    fn is_idle(&self) -> bool {
        !self.desk.is_busy.get()
    }

    fn handle_request<N: Net>(&mut self, _: &mut N, _: Exchange, _: &Head<'_>, _: &[u8]) {}
    fn handle_gone<N: Net>(&mut self, _: &mut N, _: Exchange) {}
    fn handle_pipe_open<N: Net>(&mut self, _: &mut N, _: ConnId, _: PipeKind) {}
    fn handle_pipe_message<N: Net>(&mut self, _: &mut N, _: ConnId, _: &[u8]) {}
    fn handle_pipe_oversize<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_eof<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_pipe_closed<N: Net>(&mut self, _: &mut N, _: ConnId) {}
    fn handle_mail<N: Net>(&mut self, _: &mut N, _: EngineMail) {}
}
