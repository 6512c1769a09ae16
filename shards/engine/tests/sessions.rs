//! Legacy sessions: found from any shard, never by a forged name, and gone when their time is over.

use erlmcp_protocol::seal::{Keyring, SessionToken};
use serde_json::json;

use super::ask::{Legacy, hello, notification, request};
use super::world::{NODE, SECRET, Setup, World};

const NOTHING: [String; 0] = [];

#[test]
fn a_session_is_served_from_every_shard() {
    let mut world = World::with(Setup { shards: 4, ..Setup::default() });
    let session = world.initialize(2, "2025-11-25", json!({}));
    for shard in 0..4 {
        let text = format!("from {shard}");
        let heard =
            session.call(&mut world, shard, "echo", json!({ "text": text })).on(shard).reply();
        assert_eq!(heard.text(), text);
        let level = session.ask(&mut world, 1, "logging/setLevel", json!({ "level": "debug" }));
        assert_eq!(level.on(shard).reply().status, 200);
    }
    let forwards: Vec<u64> = world.wires.iter().map(|wire| wire.counters.forwards_out).collect();
    assert_eq!(forwards, [2, 2, 0, 2]);
    assert_eq!(session.delete(&mut world).on(3).reply().status, 204);
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn a_deferred_answer_finds_its_way_back_to_the_shard_that_asked() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let near = session.call(&mut world, 1, "later", json!({ "key": "near" })).on(0).send();
    let far = session.call(&mut world, 2, "later", json!({ "key": "far" })).on(1).send();
    world.finish("far", "to the far one");
    world.finish("near", "to the near one");
    assert_eq!(world.heard(near).text(), "to the near one");
    assert_eq!(world.heard(far).text(), "to the far one");
    assert_eq!(world.heard(far).last()["id"], 2);
}

#[test]
fn names_we_did_not_give_are_unknown_whatever_is_done_with_them() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let keys = Keyring::new(SECRET);
    let token = keys.open_session(&session.id).expect("our own token");
    let sealed = |token: SessionToken| keys.seal_session(&token).to_string();
    let mut flipped = session.id.clone().into_bytes();
    flipped[20] ^= 1;
    let other_sse = world.get("/sse").on(1).reply();
    let endpoint = other_sse.events()[0].data.clone().expect("an endpoint");
    let of_sse = endpoint.split_once('=').expect("a session id").1.to_owned();
    assert_eq!(sealed(token), session.id, "what follows differs in one thing each");
    for (what, id) in [
        ("noise", "5f0c7a9e2b6d4c1e9a7b3d5f60718293".to_owned()),
        ("one bit flipped", String::from_utf8(flipped).expect("ASCII")),
        ("cut", session.id[..session.id.len() - 1].to_owned()),
        ("another cluster's", Keyring::new(b"another secret").seal_session(&token).to_string()),
        ("another node's", sealed(SessionToken { node: NODE + 1, ..token })),
        ("an earlier life's", sealed(SessionToken { epoch: token.epoch - 1, ..token })),
        ("a shard's that is not there", sealed(SessionToken { shard: 2, ..token })),
        ("another shard's", sealed(SessionToken { shard: 1, ..token })),
        ("an empty slot's", sealed(SessionToken { slot: 77, ..token })),
        ("an earlier tenant's", sealed(SessionToken { generation: 55, ..token })),
        ("a guess", sealed(SessionToken { random: [9; 16], ..token })),
        ("an HTTP+SSE session's", of_sse),
    ] {
        let forged = Legacy { id, version: "2025-11-25" };
        for shard in [0, 1] {
            let heard = forged.ask(&mut world, 8, "tools/list", json!({})).on(shard).reply();
            assert_eq!(heard.status, 404, "{what} on {shard}");
            assert_eq!(heard.last()["id"], 8, "{what}");
            assert_eq!(forged.get(&mut world).on(shard).reply().status, 404, "{what} on {shard}");
            assert_eq!(forged.delete(&mut world).on(shard).reply().status, 404, "{what}");
            let message = notification("notifications/initialized", json!({}));
            assert_eq!(forged.post(&mut world, message).on(shard).reply().status, 404, "{what}");
            let message = request(1, "ping", json!({}));
            let path = format!("/messages?sessionId={}", session.id);
            assert_eq!(world.post(&path).on(shard).json(message).reply().status, 404);
        }
    }
    assert_eq!(session.ask(&mut world, 1, "ping", json!({})).on(1).reply().status, 200);
}

#[test]
fn ids_of_an_earlier_life_are_unknown_even_if_the_slot_is_taken_again() {
    let mut before = World::with(Setup { epoch: 1, ..Setup::default() });
    let old = before.initialize(0, "2025-11-25", json!({}));
    let mut after = World::with(Setup { epoch: 2, ..Setup::default() });
    after.initialize(0, "2025-11-25", json!({}));
    assert_eq!(old.ask(&mut after, 1, "ping", json!({})).reply().status, 404);
}

#[test]
fn an_idle_session_ends_exactly_when_its_time_is_over() {
    let idle = |ms: u64| {
        let mut world = World::tuned(|limits| limits.session_idle_ms = 1000);
        let session = world.initialize(0, "2025-11-25", json!({}));
        world.advance(ms);
        session.ask(&mut world, 1, "ping", json!({})).on(1).reply().status
    };
    assert_eq!((idle(999), idle(1000)), (200, 404));
}

#[test]
fn use_and_open_streams_and_running_calls_keep_a_session_alive() {
    let mut world = World::tuned(|limits| limits.session_idle_ms = 1000);
    let used = world.initialize(0, "2025-11-25", json!({}));
    let streaming = world.initialize(0, "2025-11-25", json!({}));
    let calling = world.initialize(0, "2025-11-25", json!({}));
    let stream = streaming.get(&mut world).on(1).send();
    let call = calling.call(&mut world, 1, "later", json!({ "key": "a" })).on(1).send();
    for _ in 0..5 {
        world.advance(600);
        assert_eq!(used.ask(&mut world, 1, "ping", json!({})).reply().status, 200);
    }
    assert!(world.heard(stream).open);
    world.finish("a", "done");
    assert_eq!(world.heard(call).text(), "done");
    world.leave(stream);
    // Their last activity was just now.
    world.advance(999);
    for session in [&streaming, &calling] {
        assert_eq!(session.ask(&mut world, 1, "ping", json!({})).reply().status, 200);
    }
    world.advance(2000);
    assert_eq!(world.leftovers(), NOTHING);
    assert_eq!(world.errors("session_expired"), 3);
}

#[test]
fn at_the_cap_the_least_recently_used_idle_session_makes_room_or_nobody_does() {
    let mut world = World::tuned(|limits| {
        limits.sessions_max = 2;
        limits.session_evict_after_ms = 100;
    });
    let open = |world: &mut World| {
        let hello = request(1, "initialize", hello("2025-11-25", json!({})));
        world.post("/mcp").json(hello).reply()
    };
    let first = world.initialize(0, "2025-11-25", json!({}));
    world.advance(10);
    let second = world.initialize(0, "2025-11-25", json!({}));
    let refused = open(&mut world);
    assert_eq!(refused.status, 503, "both were used a moment ago");
    assert!(refused.header("retry-after").is_some());
    world.advance(50);
    assert_eq!(first.ask(&mut world, 1, "ping", json!({})).reply().status, 200);
    world.advance(49);
    assert_eq!(open(&mut world).status, 503);
    world.advance(1);
    assert_eq!(open(&mut world).status, 200, "the second was idle for 100 ms");
    assert_eq!(first.ask(&mut world, 1, "ping", json!({})).reply().status, 200);
    assert_eq!(second.ask(&mut world, 1, "ping", json!({})).reply().status, 404);
    assert_eq!((world.errors("session_evicted"), world.errors("sessions_full")), (1, 2));
}

#[test]
fn busy_sessions_are_never_evicted() {
    let mut world = World::tuned(|limits| {
        limits.sessions_max = 2;
        limits.session_evict_after_ms = 0;
    });
    let streaming = world.initialize(0, "2025-11-25", json!({}));
    let calling = world.initialize(0, "2025-11-25", json!({}));
    let stream = streaming.get(&mut world).send();
    calling.call(&mut world, 1, "later", json!({ "key": "a" })).send();
    world.advance(1000);
    let hello = request(1, "initialize", hello("2025-11-25", json!({})));
    assert_eq!(world.post("/mcp").json(hello.clone()).reply().status, 503);
    world.leave(stream);
    assert_eq!(world.post("/mcp").json(hello).reply().status, 200);
    assert_eq!(calling.ask(&mut world, 2, "ping", json!({})).reply().status, 200);
}

#[test]
fn the_end_of_a_session_cancels_its_calls_and_closes_its_streams() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let other = world.initialize(0, "2025-11-25", json!({}));
        let stream = session.get(&mut world).on(shard).send();
        let silent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(shard).send();
        let ask = session.call(&mut world, 2, "noisy", json!({ "key": "b" })).on(shard);
        let speaking = ask.meta("progressToken", json!(1)).send();
        let foreign = other.call(&mut world, 1, "later", json!({ "key": "c" })).on(shard).send();
        let subscribe = json!({ "uri": "crane://7/state" });
        session.ask(&mut world, 3, "resources/subscribe", subscribe).send();
        assert_eq!(session.delete(&mut world).on(1 - shard).reply().status, 204);
        for sent in [stream, silent, speaking] {
            let heard = world.heard(sent);
            assert!(!heard.open && heard.status == 200, "{heard:?}");
            assert!(!heard.methods().contains(&"=".to_owned()), "{heard:?}");
        }
        for key in ["a", "b"] {
            assert!(world.desk.take(key).is_cancelled());
        }
        world.publish("crane://7/state");
        world.finish("c", "still here");
        assert_eq!(world.heard(foreign).text(), "still here");
        other.delete(&mut world).send();
        assert_eq!(world.leftovers(), NOTHING);
    }
}

#[test]
fn a_full_inbox_of_the_owner_is_said_with_503_and_leaves_nothing() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.block_mail(1, 0, true);
    for _ in 0..20 {
        let heard = session.ask(&mut world, 1, "ping", json!({})).on(1).reply();
        assert_eq!((heard.status, heard.code()), (503, -32603));
        let seconds = heard.header("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(seconds.is_some_and(|seconds| (1..=3).contains(&seconds)), "{seconds:?}");
        assert_eq!(session.get(&mut world).on(1).reply().status, 503);
        assert_eq!(session.delete(&mut world).on(1).reply().status, 503);
    }
    world.block_mail(1, 0, false);
    assert_eq!(session.ask(&mut world, 1, "ping", json!({})).on(1).reply().status, 200);
    session.delete(&mut world).on(0).send();
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn a_client_that_leaves_before_the_owner_has_answered_leaves_nothing() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.slow_mail = true;
    let request = session.ask(&mut world, 1, "tools/list", json!({})).on(1).send();
    let get = session.get(&mut world).on(1).send();
    world.leave(request);
    world.leave(get);
    world.pump();
    world.slow_mail = false;
    session.delete(&mut world).send();
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn answers_that_find_no_room_arrive_later_and_in_order() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let silent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(1).send();
    let ask = session.call(&mut world, 2, "noisy", json!({ "key": "b" })).on(1);
    let speaking = ask.meta("progressToken", json!(1)).send();
    world.block_mail(0, 1, true);
    world.complete("b", |reply| {
        reply.progress(2.0, None, None);
        reply.progress(3.0, None, None);
        reply.done("in order");
    });
    world.finish("a", "late");
    assert_eq!((world.heard(silent).status, world.heard(speaking).messages().len()), (0, 1));
    world.block_mail(0, 1, false);
    world.pump();
    assert_eq!(world.heard(silent).text(), "late");
    let heard = world.heard(speaking);
    let steps: Vec<_> = heard.messages().iter().map(|m| m["params"]["progress"].as_f64()).collect();
    assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0), None]);
    assert_eq!((heard.text().as_str(), heard.open), ("in order", false));
}

#[test]
fn a_leaving_that_finds_no_room_is_heard_of_later() {
    let mut world = World::tuned(|limits| limits.session_idle_ms = 1000);
    let session = world.initialize(0, "2025-11-25", json!({}));
    let get = session.get(&mut world).on(1).send();
    world.block_mail(1, 0, true);
    world.leave(get);
    world.advance(10_000);
    world.block_mail(1, 0, false);
    world.pump();
    assert_eq!(session.ask(&mut world, 1, "ping", json!({})).on(1).reply().status, 200);
    world.advance(2_000);
    assert_eq!(world.leftovers(), NOTHING, "the session has no stream and can expire");
}
