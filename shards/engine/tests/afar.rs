//! Requests that come to another node than the one that has what they name.
//!
//! Three nodes of two shards each: the shards of node `n` have the indices `2 * n` and `2 * n + 1`.

use std::process::Command;

use erlmcp_cluster::Spot;
use erlmcp_cluster::letter::route::{Ask, Forward, HOPS_MAX, Origin, Reply, Route, Token};
use erlmcp_cluster::letter::{Letter, Urgency};
use erlmcp_cluster::view::State;
use erlmcp_protocol::seal::{Keyring, SessionToken};
use serde_json::{Value, json};

use super::ask::{Heard, Legacy, hello, modern, notification, request, response, tool};
use super::tasks::{Yard, declared};
use super::wire::LETTER_MESSAGE_BYTES_MAX;
use super::world::{LAYOUT, NODE, SECRET, Sent, Setup, World};
use crate::net::{CloseReason, Net, PipeKind, TimerKey};
use crate::service::Service;

const NOTHING: [String; 0] = [];
const URI: &str = "crane://7/state";
/// A shard of each node.
const NODES: [u16; 3] = [1, 2, 5];

fn setup() -> Setup {
    Setup { nodes: 3, shards: 2, ..Setup::default() }
}

fn cluster() -> World {
    World::with(setup())
}

/// What was told to who may ask again: the reason.
#[track_caller]
fn check_retryable(heard: &Heard, reason: &str, node: u16) {
    let last = heard.last();
    assert_eq!(last["error"]["code"], -32603, "{last}");
    let data = json!({ "retryable": true, "reason": reason, "node": node });
    assert_eq!(last["error"]["data"], data);
}

/// The same, of an exchange that had no byte of an answer.
#[track_caller]
fn check_busy(heard: &Heard, reason: &str, node: u16) {
    assert_eq!(heard.status, 503, "{heard:?}");
    let seconds = heard.header("retry-after").and_then(|text| text.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=3).contains(&seconds)), "{heard:?}");
    check_retryable(heard, reason, node);
}

#[track_caller]
fn check_nothing_left(world: &World) {
    assert_eq!(world.loose_ends(), NOTHING);
    assert_eq!(world.leftovers(), NOTHING);
}

// ---- Everything a client can ask, asked of every node ----

/// The whole suite again, with two nodes of one shard each in the place of two shards. What is left out is about
/// what only shards of one node share: a catalog, and mail that waits.
#[test]
fn what_holds_between_shards_holds_between_nodes() {
    if std::env::var_os(LAYOUT).is_some() {
        return;
    }
    let skipped = [
        "engine::tests::afar",
        "engine::tests::keep",
        "engine::tests::news_afar",
        "listen::a_change_of_the_catalog_is_served_when_it_is_announced",
        "listen::a_reader_that_leaves_while_it_lags_is_forgotten",
        "listen::news_that_overtake_each_other_leave_the_newest_catalog",
        "listen::the_acknowledgement_comes_first_and_says_what_was_accepted",
        "sessions::a_leaving_that_finds_no_room_is_heard_of_later",
        "sessions::a_session_is_served_from_every_shard",
        "sessions::answers_that_find_no_room_arrive_later_and_in_order",
        "unread::a_message_is_read_by_the_owner_alone",
    ];
    let mut tests = Command::new(std::env::current_exe().expect("this test is a program"));
    tests.arg("engine::tests::").env(LAYOUT, "nodes");
    for name in skipped {
        tests.args(["--skip", name]);
    }
    let done = tests.output().expect("it can be run");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("test result: ok. 2"), "some 200 tests were run: {said}");
}

#[test]
fn a_session_is_served_from_every_shard_of_every_node() {
    let mut world = cluster();
    let session = world.initialize(2, "2025-11-25", json!({}));
    for shard in 0..6 {
        let text = format!("from {shard}");
        let heard =
            session.call(&mut world, shard, "echo", json!({ "text": text })).on(shard).reply();
        assert_eq!((heard.status, heard.text()), (200, text));
        let level = session.ask(&mut world, 1, "logging/setLevel", json!({ "level": "debug" }));
        assert_eq!(level.on(shard).reply().status, 200);
        let done = notification("notifications/initialized", json!({}));
        assert_eq!(session.post(&mut world, done).on(shard).reply().status, 202);
        let fly = session.ask(&mut world, 3, "no/such", json!({})).on(shard).reply();
        assert_eq!(fly.code(), -32601);
    }
    assert_eq!(world.letters(0, 1, "forward"), 8);
    assert_eq!(world.letters(2, 1, "forward"), 8);
    assert_eq!(world.letters(1, 0, "reply") + world.letters(1, 2, "reply"), 16);
    assert_eq!(session.delete(&mut world).on(5).reply().status, 204);
    for shard in 0..6 {
        let gone = session.ask(&mut world, 8, "tools/list", json!({})).on(shard).reply();
        assert_eq!((gone.status, &gone.last()["id"]), (404, &json!(8)));
        assert_eq!(session.get(&mut world).on(shard).reply().status, 404);
        assert_eq!(session.delete(&mut world).on(shard).reply().status, 404);
    }
    check_nothing_left(&world);
}

#[test]
fn a_call_speaks_to_the_node_it_came_to() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for (id, shard) in NODES.into_iter().enumerate() {
        let ask = session.call(&mut world, id, "noisy", json!({ "key": "a" })).on(shard);
        let sent = ask.meta("progressToken", json!("p")).send();
        let heard = world.heard(sent);
        assert_eq!(
            (heard.methods(), heard.open),
            (vec!["notifications/progress".to_owned()], true)
        );
        world.finish("a", "at last");
        let heard = world.heard(sent);
        assert_eq!((heard.text().as_str(), heard.open), ("at last", false));
        assert_eq!(heard.last()["id"], id);
    }
    session.delete(&mut world).send();
    check_nothing_left(&world);
}

#[test]
fn a_question_asked_on_one_node_is_answered_on_another() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({ "elicitation": {} }));
    for (id, (asks, answers)) in [(0, 2), (2, 4), (4, 0), (5, 3)].into_iter().enumerate() {
        let sent =
            session.call(&mut world, id, "lock_crane", json!({ "crane": 7 })).on(asks).send();
        let question = world.heard(sent).last();
        assert_eq!(question["method"], "elicitation/create");
        let answer = json!({ "action": "accept", "content": { "reason": "storm" } });
        let answer = response(&question["id"], answer);
        assert_eq!(session.post(&mut world, answer).on(answers).reply().status, 202);
        assert_eq!(world.heard(sent).text(), "Crane 7 locked: storm");
    }
}

#[test]
fn a_batch_is_answered_whole_on_any_node() {
    let mut world = cluster();
    let session = world.initialize(3, "2025-03-26", json!({}));
    let later = request(1, "tools/call", tool("later", json!({ "key": "a" })));
    let batch = json!([later, request(2, "ping", json!({}))]);
    let sent = session.post(&mut world, batch).on(0).send();
    assert_eq!(world.heard(sent).status, 0);
    world.finish("a", "done");
    let heard = world.heard(sent);
    assert_eq!((heard.status, heard.last().as_array().map(Vec::len)), (200, Some(2)));
}

#[test]
fn streams_are_held_and_resumed_on_any_node() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    session.ask(&mut world, 1, "resources/subscribe", json!({ "uri": URI })).on(2).send();
    let ids = |heard: &Heard| -> Vec<String> {
        heard.events().into_iter().filter_map(|event| event.id).collect()
    };
    let first = session.get(&mut world).on(5).send();
    world.publish(URI);
    world.publish(URI);
    assert_eq!(ids(&world.heard(first)), ["0-1", "0-2"]);
    world.leave(first);
    let held = &world.engines[0].waiters;
    assert!(held.is_empty(), "the owner knows that the stream has gone: {held:?}");
    world.publish(URI);
    let again = session.get(&mut world).on(2).header("Last-Event-ID", "0-1").send();
    assert_eq!(ids(&world.heard(again)), ["0-2", "0-3"]);
    world.publish(URI);
    assert_eq!(ids(&world.heard(again)), ["0-2", "0-3", "0-4"]);
    // A call's stream, begun on one node, lost, and resumed on another.
    let ask = session.call(&mut world, 2, "noisy", json!({ "key": "a" })).on(1);
    let call = ask.meta("progressToken", json!("p")).send();
    assert_eq!(ids(&world.heard(call)), ["1-1"]);
    world.leave(call);
    let resumed = session.get(&mut world).on(4).header("Last-Event-ID", "1-1").send();
    world.finish("a", "worth the wait");
    assert_eq!(world.heard(resumed).text(), "worth the wait");
    assert!(!world.heard(resumed).open);
    let lost = session.get(&mut world).on(3).header("Last-Event-ID", "9-9").reply();
    assert_eq!(lost.status, 400);
    world.leave(again);
    session.delete(&mut world).on(3).send();
    check_nothing_left(&world);
}

#[test]
fn an_http_sse_client_posts_to_any_node() {
    let mut world = cluster();
    let stream = world.get("/sse").on(1).send();
    let endpoint = world.heard(stream).events()[0].data.clone().expect("an endpoint");
    let hello = request(0, "initialize", hello("2024-11-05", json!({})));
    assert_eq!(world.post(&endpoint).on(4).json(hello).reply().status, 202);
    for (id, shard) in (1..).zip(NODES) {
        let call = request(id, "tools/call", tool("echo", json!({ "text": "x" })));
        assert_eq!(world.post(&endpoint).on(shard).json(call).reply().status, 202);
        assert_eq!(world.heard(stream).last()["id"], id);
    }
    let noise = world.post(&endpoint).on(3).body(b"{".to_vec()).reply();
    assert_eq!((noise.status, noise.code()), (400, -32700));
    world.leave(stream);
    let late = request(9, "ping", json!({}));
    assert_eq!(world.post(&endpoint).on(3).json(late).reply().status, 404);
    check_nothing_left(&world);
}

#[test]
fn tasks_are_looked_after_from_any_node_and_pipe() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(3, "may");
    assert_eq!(yard.get(&id)["status"], "working");
    let pipe = yard.world.pipe(0, PipeKind::Lines);
    let get = |number| modern(number, "tasks/get", declared(json!({ "taskId": id })));
    assert_eq!(yard.world.tell(pipe, &get(1))["result"]["status"], "working");
    yard.ask([super::tasks::form("a")], None);
    assert_eq!(yard.world.tell(pipe, &get(2))["result"]["status"], "input_required");
    yard.update(5, &id, json!({ "a-1": super::tasks::accept(1) }));
    assert_eq!(yard.get(&id)["status"], "completed");
    let wrong = json!({ "taskId": id, "inputResponses": 5 });
    assert_eq!(yard.reply(0, "tasks/update", wrong).code(), -32602);
    let second = yard.begin(1, "may");
    yard.cancel(4, &second);
    assert_eq!(yard.get(&second)["status"], "cancelled");
    yard.world.hang_up(pipe);
    yard.world.advance(4_000_000);
    yard.check_unknown(&id);
    check_nothing_left(&yard.world);
}

#[test]
fn states_and_cursors_of_one_node_are_good_on_another() {
    let mut setup = setup();
    setup.limits.page_size = 5;
    let mut world = World::with(setup);
    let call = tool("lock_crane", json!({ "crane": 7 }));
    let asked = world.modern(1, "tools/call", call).client(json!({ "elicitation": {} })).reply();
    let mut again = tool("lock_crane", json!({ "crane": 7 }));
    again["requestState"] = asked.result()["requestState"].clone();
    again["inputResponses"] =
        json!({ "reason": { "action": "accept", "content": { "reason": "storm" } } });
    let answer = world.modern(2, "tools/call", again).client(json!({ "elicitation": {} })).on(4);
    assert_eq!(answer.reply().text(), "Crane 7 locked: storm");
    let (mut names, mut params) = (Vec::new(), json!({}));
    for shard in (0..6).cycle() {
        let page = world.modern(3, "tools/list", params).on(shard).reply().result();
        names.extend(page["tools"].as_array().expect("tools").iter().map(|t| t["name"].clone()));
        let Some(cursor) = page.get("nextCursor") else { break };
        params = json!({ "cursor": cursor });
    }
    let count = names.len();
    names.sort_by_key(Value::to_string);
    names.dedup();
    assert!(count > 10 && names.len() == count, "{names:?}");
}

// ---- What cannot be reached, or is lost ----

#[test]
fn without_a_link_a_request_is_refused_and_was_not_run() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let stream = world.get("/sse").send();
    let endpoint = world.heard(stream).events()[0].data.clone().expect("an endpoint");
    world.lose_link(0, 1);
    let call = session.call(&mut world, 7, "later", json!({ "key": "a" })).on(2).reply();
    check_busy(&call, "node_unreachable", NODE);
    assert_eq!(call.last()["id"], 7);
    assert!(world.desk.find("a").is_none(), "it was not run");
    check_busy(&session.get(&mut world).on(3).reply(), "node_unreachable", NODE);
    check_busy(&session.delete(&mut world).on(3).reply(), "node_unreachable", NODE);
    let ping = request(1, "ping", json!({}));
    let posted = world.post(&endpoint).on(2).json(ping).reply();
    check_busy(&posted, "node_unreachable", NODE);
    // From elsewhere it can be reached, and from here when the link is back.
    assert_eq!(session.ask(&mut world, 8, "ping", json!({})).on(4).reply().status, 200);
    world.link(0, 1);
    assert_eq!(session.ask(&mut world, 9, "ping", json!({})).on(2).reply().status, 200);
    world.leave(stream);
    session.delete(&mut world).on(2).send();
    check_nothing_left(&world);
}

#[test]
fn a_link_without_room_for_requests_is_as_good_as_none() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(0, "may");
    let pipe = yard.world.pipe(2, PipeKind::Lines);
    yard.world.narrow(1, 0, Urgency::Reply);
    check_busy(&yard.reply(2, "tasks/get", json!({ "taskId": id })), "node_unreachable", NODE);
    let get = modern(1, "tasks/get", declared(json!({ "taskId": id })));
    let told = yard.world.tell(pipe, &get);
    assert_eq!(told["error"]["data"]["reason"], "node_unreachable", "{told}");
    assert_eq!(told["id"], 1);
    yard.world.narrow(1, 0, Urgency::Request);
    assert_eq!(yard.world.tell(pipe, &get)["result"]["status"], "working");
    yard.world.eof(pipe);
    assert_eq!(yard.world.closed(pipe), Some(CloseReason::Done));
}

/// A client of node 1, the owner on node 0; what happens to the client when the link breaks.
#[test]
fn who_waits_for_a_lost_node_is_told_at_once() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let silent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(2).send();
    let ask = session.call(&mut world, 2, "noisy", json!({ "key": "b" })).on(3);
    let speaking = ask.meta("progressToken", json!("p")).send();
    let get = session.get(&mut world).on(2).send();
    let other = session.call(&mut world, 3, "later", json!({ "key": "c" })).on(4).send();
    assert!(world.heard(get).open && world.heard(speaking).open);
    world.lose_link(0, 1);
    check_busy(&world.heard(silent), "node_lost", NODE);
    assert_eq!(world.heard(silent).last()["id"], 1);
    let heard = world.heard(speaking);
    assert_eq!((heard.methods().len(), heard.open), (2, false));
    check_retryable(&heard, "node_lost", NODE);
    assert_eq!(heard.last()["id"], 2);
    let heard = world.heard(get);
    assert!(heard.messages().is_empty() && !heard.open);
    for sent in [get, speaking] {
        let retry = world.heard(sent).events().into_iter().find_map(|event| event.retry);
        let retry: u32 = retry.and_then(|text| text.parse().ok()).expect("when to come back");
        assert!((250..1250).contains(&retry), "{retry}");
    }
    // The third node's clients wait on, and what the owner finds out is of no interest any more.
    assert_eq!(world.heard(other).status, 0);
    world.link(0, 1);
    for key in ["a", "b", "c"] {
        world.finish(key, "too late for some");
    }
    assert_eq!(world.heard(other).text(), "too late for some");
    check_busy(&world.heard(silent), "node_lost", NODE);
    // What was said on the stream is kept for who comes back.
    let resumed = session.get(&mut world).on(2).header("Last-Event-ID", "1-1").reply();
    assert_eq!((resumed.text().as_str(), resumed.open), ("too late for some", false));
    session.delete(&mut world).on(2).send();
    check_nothing_left(&world);
}

#[test]
fn a_pipe_that_waits_for_a_lost_node_is_told_and_can_end() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(0, "may");
    yard.world.slow_mail = true;
    let pipe = yard.world.pipe(2, PipeKind::Lines);
    let get = |number| modern(number, "tasks/get", declared(json!({ "taskId": id })));
    yard.world.say(pipe, &get(1));
    yard.world.say(pipe, &get(2));
    yard.world.say(pipe, &get(1));
    let told = yard.world.told(pipe);
    assert_eq!(told.len(), 1, "an id in flight is not used twice: {told:?}");
    assert_eq!(told[0]["error"]["code"], -32600);
    yard.world.eof(pipe);
    assert_eq!(yard.world.closed(pipe), None);
    yard.world.lose_link(0, 1);
    yard.world.pump();
    let told = yard.world.told(pipe);
    let mut ids: Vec<_> = told.iter().map(|message| message["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    for message in told {
        let data = json!({ "retryable": true, "reason": "node_lost", "node": NODE });
        assert_eq!(message["error"]["data"], data);
    }
    assert_eq!(yard.world.closed(pipe), Some(CloseReason::Done));
    yard.world.hang_up(pipe);
    yard.world.advance(4_000_000);
    check_nothing_left(&yard.world);
}

#[test]
fn a_reply_that_finds_no_room_breaks_the_link_and_is_not_waited_for() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let sent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(2).send();
    world.mesh.borrow_mut().close(0, 1);
    world.finish("a", "does not get through");
    check_busy(&world.heard(sent), "node_lost", NODE);
    world.link(0, 1);
    assert_eq!(session.ask(&mut world, 2, "ping", json!({})).on(2).reply().status, 200);
}

#[test]
fn a_client_that_leaves_is_forgotten_where_its_answer_is_made() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    // Gone before the request arrives; the owner begins a stream for nobody, and is told.
    let get = session.get(&mut world).on(2).send();
    world.leave(get);
    world.pump();
    assert_eq!(world.engines[0].waiters.len(), 0);
    // The same, when the news of its leaving is lost with the link: the request may arrive or not.
    let get = session.get(&mut world).on(2).send();
    world.leave(get);
    world.lose_link(0, 1);
    world.link(0, 1);
    world.pump();
    assert_eq!(world.engines[0].waiters.len(), 0);
    world.slow_mail = false;
    // In the middle of a call: it goes on, and can be fetched.
    let ask = session.call(&mut world, 1, "noisy", json!({ "key": "a" })).on(2);
    let sent = ask.meta("progressToken", json!("p")).send();
    world.leave(sent);
    world.finish("a", "kept");
    let resumed = session.get(&mut world).on(5).header("Last-Event-ID", "1-1").reply();
    assert_eq!(resumed.text(), "kept");
    session.delete(&mut world).send();
    check_nothing_left(&world);
}

#[test]
fn an_owner_that_writes_to_nobody_is_told_so() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    session.ask(&mut world, 1, "resources/subscribe", json!({ "uri": URI })).send();
    let get = session.get(&mut world).on(2).send();
    // As if the news had been lost by some fault of ours.
    world.engines[2].aways.remove(&get.exchange);
    world.publish(URI);
    assert_eq!(world.engines[0].waiters.len(), 0);
    assert_eq!(world.errors("reply_late"), 1);
    world.leave(get);
}

#[test]
fn a_node_that_was_killed_leaves_no_client_waiting_and_no_place_held() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let here = world.initialize(2, "2025-11-25", json!({}));
    let waiting = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(2).send();
    let its_get = here.get(&mut world).on(0).send();
    assert!(world.heard(its_get).open);
    assert_eq!(world.engines[2].waiters.len(), 1);
    world.kill(0);
    check_busy(&world.heard(waiting), "node_lost", NODE);
    assert_eq!(world.engines[2].waiters.len(), 0, "its clients went with it");
    // Suspected or not: as long as nobody knows better, its sessions may come back.
    let again = session.ask(&mut world, 2, "ping", json!({})).on(2).reply();
    check_busy(&again, "node_unreachable", NODE);
    world.meet();
    // The run that made it is over, and in the new one nothing is mistaken for it.
    let other = world.initialize(0, "2025-11-25", json!({}));
    for shard in NODES {
        assert_eq!(other.ask(&mut world, 3, "ping", json!({})).on(shard).reply().status, 200);
        assert_eq!(here.ask(&mut world, 3, "ping", json!({})).on(shard).reply().status, 200);
    }
    drop(world.desk.find("a"));
    here.delete(&mut world).send();
    other.delete(&mut world).send();
    check_nothing_left(&world);
}

#[test]
fn the_tasks_of_a_dead_node_may_come_back_until_it_does_without_them() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(0, "may");
    for node in [1, 2] {
        yard.world.see(node, |other| if other == 0 { State::Dead } else { State::Alive });
    }
    let heard = yard.reply(2, "tasks/get", json!({ "taskId": id }));
    check_busy(&heard, "node_unreachable", NODE);
    let listen = json!({ "notifications": { "taskIds": [id] } });
    let sent = yard.send(2, "subscriptions/listen", listen);
    let accepted = yard.world.heard(sent).messages()[0]["params"]["notifications"].clone();
    assert_eq!(accepted, json!({}), "nobody can promise to hear of it");
    yard.world.leave(sent);
    // It was not dead after all.
    yard.world.meet();
    assert_eq!(yard.get(&id)["status"], "working");
    yard.world.kill(0);
    yard.world.meet();
    yard.check_unknown(&id);
}

#[test]
fn names_of_nodes_that_are_not_there_are_unknown() {
    let mut world = cluster();
    let session = world.initialize(2, "2025-11-25", json!({}));
    let keys = Keyring::new(SECRET);
    let token = keys.open_session(&session.id).expect("our own token");
    for (what, token) in [
        ("no member's", SessionToken { node: NODE + 7, ..token }),
        ("an earlier run's", SessionToken { epoch: token.epoch - 1, ..token }),
        ("a shard's that is not there", SessionToken { shard: 2, ..token }),
        ("another node's", SessionToken { node: NODE, epoch: 7, ..token }),
        ("an empty slot's", SessionToken { slot: 77, ..token }),
        ("a guess", SessionToken { random: [9; 16], ..token }),
    ] {
        let forged = Legacy { id: keys.seal_session(&token).to_string(), version: "2025-11-25" };
        for shard in 0..6 {
            let heard = forged.ask(&mut world, 8, "tools/list", json!({})).on(shard).reply();
            assert_eq!((heard.status, &heard.last()["id"]), (404, &json!(8)), "{what} on {shard}");
            assert_eq!(forged.get(&mut world).on(shard).reply().status, 404, "{what} on {shard}");
        }
    }
}

#[test]
fn an_answer_that_no_letter_can_carry_is_an_error_and_not_a_silence() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for (length, fits) in
        [(LETTER_MESSAGE_BYTES_MAX - 200, true), (LETTER_MESSAGE_BYTES_MAX, false)]
    {
        let text = "x".repeat(length);
        let echo = |world: &mut World, id, shard| {
            session.call(world, id, "echo", json!({ "text": text })).on(shard).reply()
        };
        assert_eq!(echo(&mut world, 1, 0).text().len(), length, "on its own node");
        let heard = echo(&mut world, 2, 2);
        assert_eq!((heard.status, heard.code()), if fits { (200, 0) } else { (500, -32603) });
        assert_eq!(heard.last()["id"], 2);
        // On a stream.
        let ask = session.call(&mut world, 3, "noisy", json!({ "key": "a" })).on(3);
        let sent = ask.meta("progressToken", json!("p")).send();
        let long = text.clone();
        world.complete("a", move |reply| _ = reply.done(long));
        let heard = world.heard(sent);
        assert_eq!((heard.open, heard.code()), (false, if fits { 0 } else { -32603 }));
        assert_eq!(heard.last()["id"], 3);
    }
    assert_eq!(world.errors("reply_too_large"), 2);
}

// ---- Letters that should not come ----

/// The request of a client of node 1 for the session of node 0, as it travels.
fn forward(world: &World, session: &Legacy, sent: Sent, hops: u8) -> (Spot, Forward<'static>) {
    let token = Keyring::new(SECRET).open_session(&session.id).expect("our own token");
    let at = Spot { node: token.node, shard: token.shard };
    let SessionToken { epoch, slot, generation, random, .. } = token;
    let token = Token { at, epoch, slot, generation, name: random };
    let from = world.wires[usize::from(sent.shard)].at;
    let conn = sent.exchange.conn;
    let epoch = world.nodes[usize::from(from.node - NODE)].config.epoch;
    let (slot, generation, seq) = (conn.slot, conn.generation, sent.exchange.seq);
    let origin = Origin { at: from, epoch, slot, generation, seq };
    (from, Forward { origin, token, hops, ask: Ask::Get { last_event_id: None } })
}

#[test]
fn a_request_is_not_sent_for_ever() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    let sent = session.get(&mut world).on(2).send();
    // Everybody it comes to says that it is the other's.
    let (_, mut forward) = forward(&world, &session, sent, 1);
    let shards = [Spot { node: NODE, shard: 0 }, Spot { node: NODE, shard: 1 }];
    let mut sends = 1;
    while world.heard(sent).status == 0 {
        let (from, to) = (shards[(sends + 1) % 2], shards[sends % 2]);
        forward.hops = sends as u8;
        let (engine, wire) = world.at(2);
        engine.handle_letter(wire, from, Letter::Route(Route::Elsewhere { to, forward }));
        sends += 1;
        assert!(sends < 10, "it goes on and on");
    }
    assert_eq!(sends, usize::from(HOPS_MAX) + 1);
    let heard = world.heard(sent);
    assert_eq!((heard.status, heard.code()), (503, -32603));
    let data = json!({ "retryable": true, "reason": "session_moving" });
    assert_eq!(heard.last()["error"]["data"], data);
    world.pump();
    session.delete(&mut world).on(2).send();
    world.pump();
    check_nothing_left(&world);
}

#[test]
fn a_request_at_the_wrong_shard_is_given_back_and_finds_the_right_one() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    for (hops, status) in [(1, 200), (HOPS_MAX - 1, 200), (HOPS_MAX, 503), (u8::MAX, 503)] {
        let sent = session.get(&mut world).on(2).send();
        let (from, forward) = forward(&world, &session, sent, hops);
        // The letter goes to the other shard of the node instead.
        world.mesh.borrow_mut().forget_letters();
        let wrong = Spot { node: NODE, shard: 1 };
        world.engines[2].aways.get_mut(&sent.exchange).expect("it waits").at = wrong;
        let (engine, wire) = world.at(1);
        engine.handle_letter(wire, from, Letter::Route(Route::Forward(forward)));
        world.pump();
        assert_eq!(world.heard(sent).status, status, "after {hops} hops");
        world.leave(sent);
        world.pump();
    }
    session.delete(&mut world).on(2).send();
    world.pump();
    check_nothing_left(&world);
}

#[test]
fn what_is_not_for_us_changes_nothing() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let sent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(2).send();
    let (me, forward) = forward(&world, &session, sent, 1);
    let origin = forward.origin;
    let owner = Spot { node: NODE, shard: 0 };
    let answer = Reply::Respond { status: 200, retry_after: None, body: b"{}" };
    let reply = |to| Letter::Route(Route::Reply { to, reply: answer });
    let before = (world.errors("letter_unexpected"), world.errors("reply_late"));
    let strangers: Vec<(Spot, Letter<'_>)> = vec![
        // Another node's, another life's, another client's, and by somebody who was not asked.
        (owner, reply(Origin { at: owner, ..origin })),
        (owner, reply(Origin { epoch: origin.epoch - 1, ..origin })),
        (owner, reply(Origin { slot: origin.slot + 50, ..origin })),
        (owner, reply(Origin { seq: origin.seq + 1, ..origin })),
        (Spot { shard: 1, ..owner }, reply(origin)),
        (Spot { node: NODE + 2, shard: 0 }, reply(origin)),
        (owner, Letter::Route(Route::PipeReply { to: origin, message: b"{}" })),
        (owner, Letter::Route(Route::Forward(forward))),
        (owner, Letter::Route(Route::Gone(origin))),
        (Spot { shard: 1, ..owner }, Letter::Route(Route::Elsewhere { to: me, forward })),
    ];
    let count = strangers.len() as u64;
    for (from, letter) in strangers {
        let is_pipe = matches!(letter, Letter::Route(Route::PipeReply { .. }));
        let (engine, wire) = world.at(2);
        if is_pipe {
            // A pipe's answer for an exchange of HTTP: only a fault of ours would send it.
            continue;
        }
        engine.handle_letter(wire, from, letter);
        assert_eq!(world.heard(sent).status, 0);
    }
    let after = (world.errors("letter_unexpected"), world.errors("reply_late"));
    assert_eq!(after.0 - before.0 + after.1 - before.1, count - 1);
    world.finish("a", "the very answer");
    assert_eq!(world.heard(sent).text(), "the very answer");
}

#[test]
fn timers_of_a_lone_node_are_those_it_had_before() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    session.ask(&mut world, 1, "resources/subscribe", json!({ "uri": URI })).send();
    let timers: Vec<TimerKey> = world.wires[0].timers.values().copied().collect();
    assert!(matches!(timers[..], [TimerKey::Session(..)]), "{timers:?}");
    assert_eq!(world.wires[0].now(), 1);
}
