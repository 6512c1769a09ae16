//! Random histories: many clients of every kind do whatever they like, on one node or on several whose links break
//! and which die. Everybody who asked is answered, and when all have gone nothing may be left of them. A failure
//! prints its seed.

use erlmcp_catalog::ask::roots;
use std::collections::BTreeSet;
use std::rc::Rc;

use erlmcp_catalog::{IntoStep as _, NeedInput};
use erlmcp_cluster::view::State;
use serde_json::{Value, json};

use super::ask::{Legacy, META, hello, modern, notification, request, response, tool};
use super::harbour::{Desk, harbour, job};
use super::tasks::EXTENSION;
use super::world::{PipeId, Sent, Setup, World};
use crate::net::PipeKind;

const STEPS: usize = 1000;
const TOOLS: [&str; 14] = [
    "echo",
    "broken",
    "panic",
    "later",
    "noisy",
    "double",
    "defer_and_panic",
    "survey",
    "log_all",
    "lock_crane",
    "ask_many",
    "ask_then_later",
    "drop",
    "publish",
];
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// What all clients can do.
fn client() -> Value {
    let tasks = json!({ EXTENSION: {} });
    json!({ "elicitation": {}, "sampling": {}, "roots": {}, "extensions": tasks })
}

/// Everything the clients remember.
struct Crowd {
    world: World,
    sessions: Vec<Legacy>,
    /// `/sse` streams and where to post.
    ancients: Vec<(Sent, String)>,
    open: Vec<Sent>,
    /// Of those, requests that end with their answer.
    asked: Vec<Sent>,
    pipes: Vec<PipeId>,
    tasks: Vec<Value>,
    ids: u32,
    /// Pairs of nodes without links.
    apart: BTreeSet<(u16, u16)>,
}

impl Crowd {
    fn new(seed: u64, nodes: u16, shards: u16) -> Self {
        let builder = Rc::new(|desk: &Desk| harbour(desk).tool(job(desk)));
        let mut setup = Setup { nodes, shards, seed, builder, ..Setup::default() };
        setup.limits.sessions_max = 6;
        setup.limits.session_evict_after_ms = 500;
        setup.limits.session_idle_ms = 20_000;
        setup.limits.calls_max = 40;
        setup.limits.calls_per_client_max = 6;
        setup.limits.listens_max = 6;
        setup.limits.replay_events_max = 4;
        setup.limits.client_request_timeout_ms = 3_000;
        setup.limits.task_ttl_ms = 30_000;
        setup.limits.tasks_max = 5;
        let mut world = World::with(setup);
        world.slow_mail = true;
        let (sessions, ancients, open) = (Vec::new(), Vec::new(), Vec::new());
        let (pipes, tasks) = (Vec::new(), Vec::new());
        let (asked, apart) = (Vec::new(), BTreeSet::new());
        Self { world, sessions, ancients, open, asked, pipes, tasks, ids: 0, apart }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.world.draw(below)
    }

    fn shard(&mut self) -> u16 {
        self.draw(self.world.engines.len()) as u16
    }

    fn pick<T: Clone>(&mut self, of: fn(&Crowd) -> &Vec<T>) -> Option<T> {
        let count = of(self).len();
        let index = self.draw(count);
        of(self).get(index).cloned()
    }

    /// Mostly new ids, sometimes one that may be in flight.
    fn id(&mut self) -> u32 {
        if self.draw(4) > 0 {
            self.ids += 1;
        }
        self.ids
    }

    fn call(&mut self) -> Value {
        let name = TOOLS[self.draw(TOOLS.len())];
        let key = KEYS[self.draw(KEYS.len())];
        let keep = self.draw(2) == 0;
        let arguments =
            json!({ "key": key, "keep": keep, "noisy": keep, "uri": "crane://7/state" });
        let mut params = tool(name, arguments);
        params["_meta"] = json!({ "progressToken": 1 });
        params
    }

    /// A message of a legacy client.
    fn message(&mut self) -> Value {
        let id = self.id();
        let number = self.draw(6) + 1;
        match self.draw(12) {
            0 => notification("notifications/cancelled", json!({ "requestId": id })),
            1 | 2 => response(&json!(format!("s-{number}")), json!({ "action": "decline" })),
            3 => request(id, "resources/subscribe", json!({ "uri": "crane://7/state" })),
            4 => request(id, "ping", json!({})),
            5 => {
                let (first, second) = (self.call(), self.call());
                let first = request(id, "tools/call", first);
                json!([first, request(id + 1000, "tools/call", second), { "x": 1 }])
            }
            6 => request(id, "tools/list", json!({})),
            _ => {
                let call = self.call();
                request(id, "tools/call", call)
            }
        }
    }

    fn step(&mut self) {
        let (shard, id) = (self.shard(), self.id());
        match self.draw(26) {
            0 => {
                let version = ["2025-03-26", "2025-06-18", "2025-11-25"][self.draw(3)];
                let hello = request(id, "initialize", hello(version, client()));
                let heard = self.world.post("/mcp").on(shard).json(hello).reply();
                if let Some(id) = heard.header("mcp-session-id") {
                    self.sessions.push(Legacy { id: id.to_owned(), version });
                }
            }
            1 => {
                if let Some(session) = self.pick(|crowd| &crowd.sessions) {
                    let sent = session.delete(&mut self.world).on(shard).send();
                    self.asked.push(sent);
                }
            }
            2 => {
                if let Some(session) = self.pick(|crowd| &crowd.sessions) {
                    let sent = session.get(&mut self.world).on(shard).send();
                    self.open.push(sent);
                }
            }
            3 => {
                let last = format!("{}-{}", self.draw(4), self.draw(3));
                if let Some(session) = self.pick(|crowd| &crowd.sessions) {
                    let get = session.get(&mut self.world).on(shard).header("Last-Event-ID", &last);
                    let sent = get.send();
                    self.open.push(sent);
                }
            }
            4..=8 => {
                let message = self.message();
                if let Some(session) = self.pick(|crowd| &crowd.sessions) {
                    let sent = session.post(&mut self.world, message).on(shard).send();
                    self.asked.push(sent);
                }
            }
            9 | 10 => {
                let call = self.call();
                let ask = self.world.modern(id, "tools/call", call).client(client()).on(shard);
                let sent = ask.send();
                self.asked.push(sent);
            }
            11 => {
                let wanted = json!({ "notifications": {
                    "toolsListChanged": true, "resourceSubscriptions": ["crane://7/state"],
                } });
                let sent = self.world.modern(id, "subscriptions/listen", wanted).on(shard).send();
                self.open.push(sent);
            }
            12 => {
                let sent = self.world.get("/sse").on(shard).send();
                let heard = self.world.heard(sent);
                if heard.open {
                    let endpoint = heard.events()[0].data.clone().expect("an endpoint");
                    let hello = request(0, "initialize", hello("2025-03-26", client()));
                    self.world.post(&endpoint).on(shard).json(hello).send();
                    self.ancients.push((sent, endpoint));
                }
            }
            13 => {
                let message = self.message();
                if let Some((_, endpoint)) = self.pick(|crowd| &crowd.ancients) {
                    let sent = self.world.post(&endpoint).on(shard).json(message).send();
                    self.asked.push(sent);
                }
            }
            14 => {
                let kind = [PipeKind::Lines, PipeKind::Stdio, PipeKind::WebSocket][self.draw(3)];
                let pipe = self.world.pipe(shard, kind);
                self.pipes.push(pipe);
                if self.draw(2) == 0 {
                    let hello = request(0, "initialize", hello("2025-03-26", client()));
                    self.world.say(pipe, &hello);
                }
            }
            15 | 16 => {
                let message = match self.draw(3) {
                    0 => {
                        let call = self.call();
                        modern(id, "tools/call", call)
                    }
                    1 if self.draw(3) == 0 => modern(
                        id,
                        "subscriptions/listen",
                        json!({
                            "notifications": { "toolsListChanged": true },
                        }),
                    ),
                    _ => self.message(),
                };
                if let Some(pipe) = self.pick(|crowd| &crowd.pipes) {
                    self.world.say(pipe, &message);
                }
            }
            17 if self.draw(3) == 0 => {
                let count = self.asked.len();
                if count > 0 {
                    let index = self.draw(count);
                    let sent = self.asked.swap_remove(index);
                    self.world.leave(sent);
                }
            }
            17 => {
                let count = self.open.len();
                if count > 0 {
                    let index = self.draw(count);
                    let sent = self.open.swap_remove(index);
                    self.world.leave(sent);
                }
            }
            18 => self.answer_some(),
            19 => {
                let ms = [1, 50, 700, 4_000, 16_000][self.draw(5)];
                self.world.advance(ms);
            }
            20 => match self.draw(4) {
                0 => self.hang_up(),
                1 => {
                    if let Some(pipe) = self.pick(|crowd| &crowd.pipes) {
                        self.world.eof(pipe);
                    }
                }
                2 => {
                    let conn =
                        self.pick(|crowd| &crowd.open).map(|sent| (sent.shard, sent.exchange));
                    if let Some((shard, exchange)) = conn {
                        let bytes = self.draw(2) * 1_000_000;
                        self.world.set_backlog(shard, exchange.conn, bytes);
                    }
                }
                _ => {
                    let name = format!("tool_{id}_{}", self.ids);
                    if self.world.handle.snapshot().tool(&name).is_none() {
                        self.world.add_tool(&name);
                    }
                }
            },
            21 => {
                // A shard is overloaded for a while.
                let (to, blocked) = (self.shard(), self.draw(3) == 0);
                self.world.block_mail(shard, to, blocked);
            }
            22 => {
                let call = tool("job", json!({ "key": KEYS[self.draw(KEYS.len())] }));
                let ask = self.world.modern(id, "tools/call", call).client(client()).on(shard);
                let sent = ask.send();
                let heard = self.world.heard(sent);
                if heard.status == 200 && heard.code() == 0 {
                    self.tasks.push(heard.result()["taskId"].clone());
                }
                self.asked.push(sent);
            }
            23 | 24 => self.task_step(id, shard),
            25 if self.draw(3) > 0 => self.trouble(),
            _ => self.world.publish("crane://7/state"),
        }
        for _ in 0..self.draw(4) {
            self.world.step();
        }
    }

    fn task_step(&mut self, id: u32, shard: u16) {
        let Some(task) = self.pick(|crowd| &crowd.tasks) else { return };
        let method = ["tasks/get", "tasks/update", "tasks/cancel", "subscriptions/listen"];
        let method = method[self.draw(method.len())];
        let round = self.draw(3) + 1;
        let params = match method {
            "subscriptions/listen" => json!({ "notifications": { "taskIds": [task] } }),
            "tasks/update" => {
                let key = format!("roots-{round}");
                json!({ "taskId": task, "inputResponses": { key: { "roots": [] } } })
            }
            _ => json!({ "taskId": task }),
        };
        if self.draw(3) == 0
            && let Some(pipe) = self.pick(|crowd| &crowd.pipes)
        {
            let mut message = modern(id, method, params);
            message["params"]["_meta"][format!("{META}clientCapabilities")] = client();
            return self.world.say(pipe, &message);
        }
        let sent = self.world.modern(id, method, params).client(client()).on(shard).send();
        let list = if method == "subscriptions/listen" { &mut self.open } else { &mut self.asked };
        list.push(sent);
    }

    /// What happens between nodes, if there are several.
    fn trouble(&mut self) {
        let nodes = self.world.nodes.len() as u16;
        if nodes < 2 {
            return;
        }
        let one = self.draw(usize::from(nodes)) as u16;
        let other = (one + 1 + self.draw(usize::from(nodes) - 1) as u16) % nodes;
        let pair = (one.min(other), one.max(other));
        match self.draw(8) {
            0..=2 => {
                self.world.lose_link(one, other);
                self.apart.insert(pair);
            }
            3..=5 => {
                let Some(pair) = self.apart.pop_first() else { return };
                self.world.link(pair.0, pair.1);
            }
            // Taken for dead, rightly or not.
            6 => {
                self.world.lose_link(one, other);
                self.apart.insert(pair);
                self.world.see(one, |node| if node == other { State::Dead } else { State::Alive });
            }
            _ => {
                self.world.kill(one);
                let shards = self.world.shards * one..self.world.shards * (one + 1);
                let lives = |shard: u16| !shards.contains(&shard);
                self.open.retain(|sent| lives(sent.shard));
                self.asked.retain(|sent| lives(sent.shard));
                self.pipes.retain(|pipe| lives(pipe.shard));
                self.ancients.retain(|(stream, _)| lives(stream.shard));
                self.apart.extend(
                    (0..nodes)
                        .filter(|node| *node != one)
                        .map(|node| (one.min(node), one.max(node))),
                );
                if self.draw(2) == 0 {
                    self.meet();
                }
            }
        }
    }

    /// All nodes see each other and have links.
    fn meet(&mut self) {
        if self.world.nodes.len() > 1 {
            self.apart.clear();
            self.world.meet();
        }
    }

    fn answer_some(&mut self) {
        let key = KEYS[self.draw(KEYS.len())];
        let Some(reply) = self.world.desk.find(key) else { return };
        match self.draw(5) {
            0 => drop(reply),
            2 => _ = reply.step(NeedInput::ask([roots("roots")]).into_step()),
            1 => {
                reply.progress(5.0, None, None);
                reply.done("said something before");
            }
            _ => _ = reply.done("done"),
        }
    }

    fn hang_up(&mut self) {
        let count = self.pipes.len();
        if count > 0 {
            let index = self.draw(count);
            let pipe = self.pipes.swap_remove(index);
            self.world.hang_up(pipe);
        }
    }

    /// Nobody does anything more, and nothing is in the way of answers: everybody has one.
    fn wait(&mut self, seed: u64) {
        let shards = self.world.engines.len() as u16;
        for (from, to) in (0..shards * shards).map(|lane| (lane / shards, lane % shards)) {
            self.world.block_mail(from, to, false);
        }
        self.meet();
        self.world.pump();
        // Calls that wait for a client's answer give up, after which they may want to be answered.
        for _ in 0..20 {
            for key in KEYS {
                while let Some(reply) = self.world.desk.find(key) {
                    reply.done("at last");
                }
            }
            self.world.pump();
            self.world.advance(1000);
        }
        self.world.pump();
        for sent in &self.asked {
            let heard = self.world.heard(*sent);
            assert!(heard.status != 0 && !heard.open, "seed {seed}: {sent:?} waits: {heard:?}");
        }
    }

    /// Every client goes, in its own way, and time passes.
    fn disperse(&mut self) {
        while !self.pipes.is_empty() {
            self.hang_up();
        }
        for sent in std::mem::take(&mut self.open) {
            self.world.leave(sent);
        }
        for (stream, _) in std::mem::take(&mut self.ancients) {
            self.world.leave(stream);
        }
        self.world.pump();
        // Idle sessions end, and tasks whose time is over.
        self.world.advance(100_000);
        self.world.pump();
    }
}

#[track_caller]
fn check(seed: u64, nodes: u16, shards: u16) {
    let mut crowd = Crowd::new(seed, nodes, shards);
    for step in 0..STEPS {
        crowd.step();
        let faults: Vec<&String> = crowd.world.wires.iter().flat_map(|wire| &wire.faults).collect();
        assert!(faults.is_empty(), "seed {seed}, step {step}: {faults:?}");
        let loose = crowd.world.loose_ends();
        assert!(loose.is_empty(), "seed {seed}, step {step}: {loose:?}");
    }
    crowd.wait(seed);
    crowd.disperse();
    let left = crowd.world.leftovers();
    assert!(left.is_empty(), "seed {seed}: {left:?}");
    assert!(crowd.world.is_idle(), "seed {seed}");
    // Something did happen, even if not all of it was counted by who is still there.
    let counters = crowd.world.wires.iter().map(|wire| wire.counters.messages_in).sum::<u64>();
    let expect = if nodes == 1 { STEPS as u64 / 4 } else { STEPS as u64 / 50 };
    assert!(counters > expect, "seed {seed}: {counters} messages");
    assert_eq!(nodes > 1, crowd.world.all_letters("forward") > 0, "seed {seed}");
}

/// `ERLMCP_TEST_SEEDS=first..last` looks at other histories.
fn seeds() -> std::ops::Range<u64> {
    let named = std::env::var("ERLMCP_TEST_SEEDS").unwrap_or_default();
    match named.split_once("..").map(|(first, last)| (first.parse(), last.parse())) {
        Some((Ok(first), Ok(last))) => first..last,
        _ => 1..11,
    }
}

#[test]
fn whatever_clients_do_nothing_is_left_of_them() {
    for seed in seeds() {
        check(seed, 1, 3);
    }
}

#[test]
fn whatever_clients_and_nodes_do_nothing_is_left_of_them() {
    for seed in seeds() {
        check(seed, 3, 2);
    }
}
