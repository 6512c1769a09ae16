//! Sessions of a node that leaves: handed to their successors with all they have, while whoever asks for them is
//! served.
//!
//! Three nodes of two shards each: the shards of node `n` have the indices `2 * n` and `2 * n + 1`. The first leaves.

use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use serde_json::{Value, json};

use super::ask::{Legacy, notification, request, response, tool};
use super::world::{DRAIN_MS, Sent, Setup, World};
use crate::config::{ClusterLimits, Limits, Sync};
use crate::engine::handover::{HELD_MAX, LINGER_MS, UNDER_WAY_MAX};

const NOTHING: [String; 0] = [];
const URI: &str = "crane://7/state";
const UPDATED: &str = "notifications/resources/updated";
/// A shard of each node.
const NODES: [u16; 3] = [1, 2, 5];
/// Enough for every offer to be made again.
const AGAIN_MS: u64 = 1200;

fn setup() -> Setup {
    Setup { nodes: 3, shards: 2, cluster: Some(ClusterLimits::default()), ..Setup::default() }
}

fn cluster() -> World {
    World::with(setup())
}

/// The first node leaves, and the others know.
fn leave(world: &mut World) {
    for node in 0..3 {
        world.see(node, |other| if other == 0 { State::Leaving } else { State::Alive });
    }
    world.drain_node(0);
}

/// The first node is gone, as it is when it has left.
fn gone(world: &mut World) {
    assert!(world.node_is_idle(0));
    world.kill(0);
    for node in [1, 2] {
        world.see(node, |other| if other == 0 { State::Dead } else { State::Alive });
    }
}

/// So many sessions of the first node, on both of its shards.
fn open(world: &mut World, count: u16) -> Vec<Legacy> {
    (0..count).map(|each| world.initialize(each % 2, "2025-11-25", json!({}))).collect()
}

fn sessions_at(world: &World, node: u16) -> usize {
    let shards = usize::from(node) * 2..usize::from(node) * 2 + 2;
    world.engines[shards].iter().map(|engine| engine.sessions.len()).sum()
}

/// The node is served by whoever holds the connection.
#[track_caller]
fn check_served(world: &mut World, session: &Legacy, shards: &[u16]) {
    for shard in shards {
        let heard = session.ask(world, 7, "ping", json!({})).on(*shard).reply();
        assert_eq!((heard.status, &heard.last()["id"]), (200, &json!(7)), "at {shard}: {heard:?}");
    }
}

#[test]
fn sessions_go_to_their_successors_and_are_served_wherever_one_asks() {
    let mut world = cluster();
    let sessions = open(&mut world, 60);
    assert_eq!(sessions_at(&world, 0), 60);
    leave(&mut world);
    world.advance(LINGER_MS - 1);
    assert!(!world.node_is_idle(0), "who has not heard of it yet may still ask here");
    world.advance(1);
    assert!(world.node_is_idle(0));
    let after = [0, 1, 2].map(|node| sessions_at(&world, node));
    assert_eq!((after[0], after[1] + after[2]), (0, 60));
    assert!(10 < after[1] && 10 < after[2], "{after:?}");
    for session in &sessions {
        check_served(&mut world, session, &[0, 1, 2, 3, 4, 5]);
    }
    gone(&mut world);
    for session in &sessions {
        check_served(&mut world, session, &[2, 3, 4, 5]);
        assert_eq!(session.delete(&mut world).on(2).reply().status, 204);
    }
    world.advance(AGAIN_MS);
    assert_eq!((world.errors("handover_unfinished"), world.loose_ends()), (0, NOTHING.into()));
    assert_eq!([1, 2].map(|node| sessions_at(&world, node)), [0, 0]);
}

/// Sets the level, subscribes, and misses an event.
fn prepare(world: &mut World, session: &Legacy) -> String {
    for (method, params) in [
        ("logging/setLevel", json!({ "level": "error" })),
        ("resources/subscribe", json!({ "uri": URI })),
    ] {
        assert_eq!(session.ask(world, 1, method, params).reply().status, 200);
    }
    let get = session.get(world).on(0).send();
    world.publish(URI);
    let last = world.heard(get).events().last().and_then(|e| e.id.clone()).expect("an id");
    world.leave(get);
    world.publish(URI);
    last
}

#[test]
fn a_session_takes_all_it_has_with_it() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let last = prepare(&mut world, &session);
    // So long a node remembers news for whoever turns out to want them.
    world.advance(1000);
    leave(&mut world);
    world.advance(AGAIN_MS);
    gone(&mut world);
    let get = session.get(&mut world).on(2).header("Last-Event-ID", &last).send();
    assert_eq!(world.heard(get).methods(), [UPDATED], "what was missed is replayed");
    world.publish_at(1, URI);
    world.publish_at(2, URI);
    assert_eq!(world.heard(get).methods(), [UPDATED; 3], "and what comes is heard");
    let call = session.call(&mut world, 5, "log_all", json!({})).on(4);
    let heard = call.meta("progressToken", json!("p")).reply();
    let levels: Vec<Value> =
        heard.messages().iter().map(|message| message["params"]["level"].clone()).collect();
    assert_eq!(levels[0], "error", "{levels:?}");
}

#[test]
fn a_call_in_flight_finishes_and_its_session_follows() {
    for shard in NODES {
        let mut world = cluster();
        let session = world.initialize(0, "2025-11-25", json!({ "roots": {} }));
        let ask = session.call(&mut world, 1, "ask_then_later", json!({ "key": "a" })).on(shard);
        let asked = ask.send();
        let later = session.call(&mut world, 2, "later", json!({ "key": "b" })).on(shard).send();
        leave(&mut world);
        world.advance(AGAIN_MS);
        assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (1, false));
        let refused = session.ask(&mut world, 3, "ping", json!({})).on(shard).reply();
        assert_eq!(refused.status, 503, "nothing new begins on a session that stays");
        let id = world.heard(asked).last()["id"].clone();
        let answer = response(&id, json!({ "roots": [] }));
        assert_eq!(session.post(&mut world, answer).on(shard).reply().status, 202);
        world.finish("a", "answered");
        assert_eq!(world.heard(asked).text(), "answered");
        assert_eq!(sessions_at(&world, 0), 1, "one call still runs");
        world.finish("b", "done");
        assert_eq!(world.heard(later).text(), "done");
        world.advance(1);
        assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (0, false));
        world.advance(LINGER_MS);
        assert!(world.node_is_idle(0));
        check_served(&mut world, &session, &NODES);
        gone(&mut world);
        check_served(&mut world, &session, &NODES[1..]);
    }
}

#[test]
fn what_is_asked_of_a_session_under_way_waits_and_follows() {
    for shard in NODES {
        let mut world = cluster();
        let session = world.initialize(0, "2025-11-25", json!({}));
        world.slow_mail = true;
        leave(&mut world);
        let sent: Vec<Sent> = [
            request(1, "ping", json!({})),
            request(2, "tools/call", tool("echo", json!({ "text": "hello" }))),
            notification("notifications/roots/list_changed", json!({})),
            json!([request(3, "ping", json!({}))]),
        ]
        .into_iter()
        .map(|message| session.post(&mut world, message).on(shard).send())
        .collect();
        world.slow_mail = false;
        world.pump();
        let statuses: Vec<u16> = sent.iter().map(|sent| world.heard(*sent).status).collect();
        assert_eq!(statuses, [200, 200, 202, 400], "a batch is none of this revision");
        assert_eq!(world.heard(sent[1]).text(), "hello");
        assert_eq!(sessions_at(&world, 0), 0);
        assert_eq!(world.loose_ends(), NOTHING);
    }
}

#[test]
fn a_session_that_is_asked_for_does_not_wait_for_its_turn() {
    let mut world = cluster();
    let sessions = open(&mut world, 40);
    let gets: Vec<Sent> = sessions.iter().map(|s| s.get(&mut world).on(4).send()).collect();
    leave(&mut world);
    let last = &sessions[39];
    assert!(world.heard(gets[39]).open && !world.node_is_idle(0));
    check_served(&mut world, last, &NODES);
    assert!(!world.heard(gets[39]).open, "its stream has ended");
    world.advance(DRAIN_MS / 4 + LINGER_MS);
    assert!(gets.iter().all(|get| !world.heard(*get).open));
    assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (0, true));
}

#[test]
fn a_client_that_goes_while_its_request_waits_leaves_nothing_behind() {
    for shard in NODES {
        let mut world = cluster();
        let session = world.initialize(0, "2025-11-25", json!({}));
        world.slow_mail = true;
        leave(&mut world);
        let later = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(shard).send();
        world.leave(later);
        world.slow_mail = false;
        world.pump();
        check_served(&mut world, &session, &NODES);
        assert_eq!(world.loose_ends(), NOTHING);
        let aways: usize = world.engines.iter().map(|engine| engine.aways.len()).sum();
        assert_eq!(aways, 0);
    }
}

#[test]
fn an_offer_that_is_lost_is_made_again() {
    let mut world = cluster();
    let sessions = open(&mut world, 20);
    world.slow_mail = true;
    leave(&mut world);
    world.mesh.borrow_mut().forget_letters();
    for node in [1, 2] {
        world.lose_link(0, node);
    }
    world.slow_mail = false;
    world.pump();
    assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (20, false));
    world.link(0, 1);
    world.link(0, 2);
    world.advance(AGAIN_MS);
    assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (0, true));
    for session in &sessions {
        check_served(&mut world, session, &NODES);
    }
}

#[test]
fn an_acknowledgement_that_is_lost_is_asked_for_again() {
    let mut world = cluster();
    let sessions = open(&mut world, 20);
    for node in [1, 2] {
        world.narrow(node, 0, Urgency::Reply);
    }
    leave(&mut world);
    assert_eq!([0, 1, 2].map(|node| sessions_at(&world, node)).iter().sum::<usize>(), 40);
    for node in [1, 2] {
        world.narrow(node, 0, Urgency::Sync);
    }
    world.advance(AGAIN_MS);
    assert_eq!([0, 1, 2].map(|node| sessions_at(&world, node)).iter().sum::<usize>(), 20);
    assert!(world.node_is_idle(0));
    for session in &sessions {
        check_served(&mut world, session, &NODES);
    }
}

#[test]
fn a_link_without_room_is_waited_for() {
    let mut world = cluster();
    let sessions = open(&mut world, 20);
    world.narrow(0, 1, Urgency::Reply);
    leave(&mut world);
    let left = sessions_at(&world, 0);
    assert!(0 < left && left < 20, "{left} wait for the second node");
    world.narrow(0, 1, Urgency::Sync);
    world.advance(LINGER_MS);
    assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (0, true));
    for session in &sessions {
        check_served(&mut world, session, &NODES);
    }
}

#[test]
fn who_has_no_room_is_passed_over() {
    let limits = Limits { sessions_max: 20, ..Limits::default() };
    let mut world = World::with(Setup { limits, ..setup() });
    // Both shards of the second node are full of sessions that were just used.
    let full: Vec<Legacy> =
        (0..40).map(|each| world.initialize(2 + each % 2, "2025-11-25", json!({}))).collect();
    let sessions = open(&mut world, 10);
    leave(&mut world);
    world.advance(3 * AGAIN_MS);
    assert_eq!([0, 1, 2].map(|node| sessions_at(&world, node)), [0, 40, 10]);
    assert!(world.node_is_idle(0));
    for session in sessions.iter().chain(&full) {
        check_served(&mut world, session, &NODES[1..]);
    }
}

#[test]
fn a_successor_that_dies_is_replaced() {
    let mut world = cluster();
    let sessions = open(&mut world, 20);
    world.slow_mail = true;
    leave(&mut world);
    world.kill(1);
    for node in [0, 2] {
        let state = |other| [State::Leaving, State::Dead, State::Alive][usize::from(other)];
        world.see(node, state);
    }
    world.slow_mail = false;
    world.pump();
    world.advance(AGAIN_MS);
    assert_eq!([0, 2].map(|node| sessions_at(&world, node)), [0, 20]);
    for session in &sessions {
        check_served(&mut world, session, &[1, 5]);
    }
}

#[test]
fn nodes_that_leave_one_after_the_other_pass_everything_on() {
    let mut world = cluster();
    let sessions = open(&mut world, 30);
    leave(&mut world);
    world.advance(LINGER_MS);
    gone(&mut world);
    for node in [1, 2] {
        world.see(node, |other| [State::Dead, State::Leaving, State::Alive][usize::from(other)]);
    }
    world.drain_node(1);
    world.advance(AGAIN_MS);
    assert!(world.node_is_idle(1));
    assert_eq!([1, 2].map(|node| sessions_at(&world, node)), [0, 30]);
    for session in &sessions {
        check_served(&mut world, session, &[2, 4]);
    }
}

#[test]
fn with_nobody_to_take_them_sessions_go_with_their_node() {
    let alone = Setup { nodes: 1, ..setup() };
    let mut world = World::with(alone);
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.drain();
    assert!(world.is_idle());
    assert_eq!(session.ask(&mut world, 1, "ping", json!({})).on(1).reply().status, 503);

    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    for node in 0..3 {
        world.see(node, |_| State::Leaving);
    }
    world.drain_node(0);
    assert!(world.node_is_idle(0));
    for shard in NODES {
        assert_eq!(session.ask(&mut world, 1, "ping", json!({})).on(shard).reply().status, 503);
    }
    world.advance(DRAIN_MS);
    assert_eq!(world.errors("handover_unfinished"), 0);
}

#[test]
fn at_the_deadline_the_rest_goes_as_it_is() {
    let mut world = cluster();
    let sessions = open(&mut world, 20);
    let running = sessions[0].call(&mut world, 1, "later", json!({ "key": "a" })).on(4).send();
    for node in [1, 2] {
        world.narrow(0, node, Urgency::Reply);
    }
    leave(&mut world);
    world.advance(DRAIN_MS - 101);
    assert_eq!((sessions_at(&world, 0), world.errors("handover_unfinished")), (20, 0));
    world.advance(1);
    assert_eq!(world.errors("handover_unfinished"), 20);
    assert!(!world.node_is_idle(0), "a call still runs");
    world.finish("a", "just in time");
    assert_eq!(world.heard(running).text(), "just in time");
    assert!(world.node_is_idle(0));
}

#[test]
fn a_request_that_waited_in_vain_is_told_to_come_again() {
    let mut world = cluster();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    leave(&mut world);
    let ping = session.ask(&mut world, 1, "ping", json!({})).on(0).send();
    world.mesh.borrow_mut().forget_letters();
    for node in [1, 2] {
        world.narrow(0, node, Urgency::Reply);
    }
    world.slow_mail = false;
    world.pump();
    world.advance(DRAIN_MS);
    let heard = world.heard(ping);
    assert_eq!((heard.status, &heard.last()["error"]["data"]["retryable"]), (503, &json!(true)));
    assert!(heard.header("retry-after").is_some());
}

#[test]
fn sessions_under_way_and_requests_that_wait_are_bounded() {
    let mut world = World::with(Setup { shards: 1, ..setup() });
    let count = UNDER_WAY_MAX as u16 * 2;
    let sessions: Vec<Legacy> =
        (0..count).map(|_| world.initialize(0, "2025-11-25", json!({}))).collect();
    let before = world.all_letters("session");
    world.slow_mail = true;
    world.drain_node(0);
    assert_eq!(world.all_letters("session") - before, UNDER_WAY_MAX);
    let sent: Vec<Sent> = (0..HELD_MAX + 1)
        .map(|each| sessions[0].ask(&mut world, each, "ping", json!({})).on(0).send())
        .collect();
    let refused = sent.iter().filter(|sent| world.heard(**sent).status == 503).count();
    assert_eq!(refused, 1);
    world.slow_mail = false;
    world.pump();
    let served = sent.iter().filter(|sent| world.heard(**sent).status == 200).count();
    assert_eq!(served, HELD_MAX);
    world.advance(AGAIN_MS);
    assert_eq!(world.engines[0].sessions.len(), 0);
}

#[test]
fn an_answer_that_waits_for_copies_keeps_its_session() {
    let cluster = Some(ClusterLimits { sync: Sync::Eager, ..ClusterLimits::default() });
    let mut world = World::with(Setup { cluster, ..setup() });
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    let level = json!({ "level": "error" });
    let answer = session.ask(&mut world, 1, "logging/setLevel", level).on(0).send();
    world.drain_node(0);
    world.slow_mail = false;
    world.pump();
    world.advance(AGAIN_MS);
    assert_eq!(world.heard(answer).status, 200);
    assert_eq!((sessions_at(&world, 0), world.node_is_idle(0)), (0, true));
    check_served(&mut world, &session, &NODES);
}
