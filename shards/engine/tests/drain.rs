//! Draining: what only waits ends at once, what runs may finish, and nothing new begins.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ask::{hello, modern, notification, request, response, tool};
use super::world::World;
use crate::net::{CloseReason, PipeKind};

fn later(key: &str) -> Value {
    tool("later", json!({ "key": key }))
}

#[test]
fn new_requests_are_told_when_to_come_back_and_not_all_at_once() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    world.drain();
    let mut seconds = BTreeSet::new();
    for round in 0..50 {
        let shard = round % 2;
        let answers = [
            world.modern(1, "server/discover", json!({})).on(shard).reply(),
            session.ask(&mut world, 1, "ping", json!({})).on(shard).reply(),
            session.get(&mut world).on(shard).reply(),
            world.post("/mcp").on(shard).json(request(1, "initialize", json!({}))).reply(),
            world.get("/sse").on(shard).reply(),
            session.post(&mut world, json!([request(1, "ping", json!({}))])).on(shard).reply(),
        ];
        for heard in answers {
            assert_eq!(heard.status, 503, "{heard:?}");
            assert_eq!(heard.header("connection"), Some("close"));
            let after = heard.header("retry-after").expect("when to come back");
            seconds.insert(after.parse::<u32>().expect("seconds"));
        }
    }
    assert_eq!(seconds.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    let health = world.get("/health").reply();
    assert_eq!((health.status, health.body.as_str()), (503, r#"{"status":"draining"}"#));
}

#[test]
fn a_notice_is_seen_by_who_asks_for_it_and_by_nobody_else() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let listen = json!({ "notifications": { "toolsListChanged": true } });
    let waiting = [
        session.get(&mut world).on(0).send(),
        world.get("/sse").on(1).send(),
        world.modern("l", "subscriptions/listen", listen.clone()).on(1).send(),
    ];
    let pipe = world.pipe(1, PipeKind::Lines);
    let health = |world: &mut World, shard| {
        let heard = world.get("/health").on(shard).reply();
        assert_ne!(heard.header("connection"), Some("close"));
        (heard.status, heard.body)
    };
    for shard in [0, 1] {
        assert_eq!(health(&mut world, shard), (200, r#"{"status":"ok"}"#.to_owned()));
    }
    world.give_notice();
    for shard in [0, 1] {
        assert_eq!(health(&mut world, shard), (503, r#"{"status":"draining"}"#.to_owned()));
        let hello = request(1, "initialize", hello("2025-11-25", json!({})));
        let answers = [
            world.modern(1, "server/discover", json!({})).on(shard).reply(),
            session.ask(&mut world, 1, "ping", json!({})).on(shard).reply(),
            world.post("/mcp").on(shard).json(hello).reply(),
        ];
        for heard in answers {
            assert_eq!((heard.status, heard.header("connection")), (200, None), "{heard:?}");
        }
        let fresh = world.get("/sse").on(shard).send();
        assert!(world.heard(fresh).open, "a stream may be opened");
    }
    assert!(waiting.iter().all(|sent| world.heard(*sent).open), "streams stay");
    assert_eq!(world.tell(pipe, &modern(3, "server/discover", json!({})))["id"], 3);
    // Then the drain is what it is without a notice.
    world.drain();
    assert!(!waiting.iter().any(|sent| world.heard(*sent).open));
    assert_eq!(world.modern(1, "server/discover", json!({})).reply().status, 503);
    assert_eq!(health(&mut world, 0).0, 503);
}

#[test]
fn running_calls_finish_and_their_answers_are_sent() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let modern_call = world.modern(1, "tools/call", later("a")).send();
    let legacy_call = session.call(&mut world, 1, "later", json!({ "key": "b" })).on(1).send();
    let ask = session.call(&mut world, 2, "noisy", json!({ "key": "c" })).on(1);
    let streaming = ask.meta("progressToken", json!(1)).send();
    world.drain();
    assert!(!world.is_idle());
    assert!(world.heard(streaming).open, "the stream of a running call stays");
    for key in ["a", "b", "c"] {
        world.complete(key, |reply| {
            assert!(!reply.is_cancelled());
            reply.done("finished");
        });
    }
    for sent in [modern_call, legacy_call, streaming] {
        assert_eq!(
            (world.heard(sent).text().as_str(), world.heard(sent).open),
            ("finished", false)
        );
    }
    assert!(world.is_idle());
}

#[test]
fn streams_that_only_wait_end_and_say_when_to_come_back() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let gets = [session.get(&mut world).on(0).send(), session.get(&mut world).on(1).send()];
    let sse = world.get("/sse").on(1).send();
    let listen = json!({ "notifications": { "toolsListChanged": true } });
    let listening = world.modern("l", "subscriptions/listen", listen).on(1).send();
    world.drain();
    for get in gets {
        assert!(!world.heard(get).open);
        assert!(world.heard(get).events().last().is_some_and(|event| event.retry.is_some()));
    }
    assert!(!world.heard(sse).open && !world.heard(listening).open);
    assert_eq!(world.heard(listening).result()["resultType"], "complete");
    assert_eq!(world.wires.iter().map(|wire| wire.counters.streams_active).sum::<u64>(), 0);
}

#[test]
fn what_running_calls_wait_for_still_passes() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({ "roots": {} }));
        let call = session.call(&mut world, 1, "ask_then_later", json!({ "key": "a" })).on(shard);
        let asked = call.send();
        let other = session.call(&mut world, 2, "later", json!({ "key": "b" })).on(shard).send();
        let sse = world.get("/sse").on(0).send();
        let endpoint = world.heard(sse).events()[0].data.clone().expect("an endpoint");
        let hello = request(0, "initialize", hello("2024-11-05", json!({ "roots": {} })));
        world.post(&endpoint).on(shard).json(hello).send();
        let ask = request(1, "tools/call", tool("ask_then_later", json!({ "key": "c" })));
        world.post(&endpoint).on(shard).json(ask).send();
        world.drain();

        let id = world.heard(asked).last()["id"].clone();
        let answer = response(&id, json!({ "roots": [] }));
        assert_eq!(session.post(&mut world, answer).on(shard).reply().status, 202);
        world.finish("a", "answered");
        assert_eq!(world.heard(asked).text(), "answered");
        let cancel = notification("notifications/cancelled", json!({ "requestId": 2 }));
        assert_eq!(session.post(&mut world, cancel).on(shard).reply().status, 202);
        assert!(!world.heard(other).open);

        assert!(world.heard(sse).open, "its call still runs");
        let ping = request(5, "ping", json!({}));
        assert_eq!(world.post(&endpoint).on(shard).json(ping).reply().status, 503);
        let id = world.heard(sse).last()["id"].clone();
        let answer = response(&id, json!({ "roots": [] }));
        assert_eq!(world.post(&endpoint).on(shard).json(answer).reply().status, 202);
        world.finish("c", "answered too");
        assert_eq!(
            (world.heard(sse).text().as_str(), world.heard(sse).open),
            ("answered too", false)
        );
        assert_eq!(session.delete(&mut world).on(shard).reply().status, 204);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn idle_pipes_are_closed_and_busy_ones_when_they_are_done() {
    for kind in [PipeKind::Lines, PipeKind::WebSocket] {
        let mut world = World::new();
        let idle = world.pipe(0, kind);
        let (busy, batch) = (world.pipe(1, kind), world.pipe(1, kind));
        world.say(busy, &modern(1, "tools/call", later("a")));
        world.say(busy, &modern(2, "subscriptions/listen", json!({ "notifications": {} })));
        world.told(busy);
        world.say(batch, &request(0, "initialize", hello("2025-03-26", json!({}))));
        world.say(batch, &json!([request(1, "tools/call", later("b"))]));
        world.drain();
        assert_eq!(world.closed(idle), Some(CloseReason::GoingAway));
        assert_eq!((world.closed(busy), world.closed(batch)), (None, None));
        let told = world.told(busy);
        assert_eq!((told.len(), &told[0]["id"]), (1, &json!(2)), "the subscription ends: {told:?}");
        let refused = world.tell(busy, &modern(3, "tools/call", later("c")));
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(-32603), &json!(3)));
        let refused = world.tell(batch, &json!([request(4, "ping", json!({}))]));
        assert_eq!(refused["error"]["code"], -32603);
        let alive = world.tell(batch, &request(5, "ping", json!({})));
        assert_eq!(alive["result"], json!({}), "it is still there");
        world.finish("a", "done");
        assert_eq!(world.told(busy)[0]["id"], 1);
        assert_eq!(world.closed(busy), Some(CloseReason::GoingAway));
        world.finish("b", "done");
        assert_eq!(world.closed(batch), Some(CloseReason::GoingAway));
    }
}

#[test]
fn draining_twice_is_draining_once() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let get = session.get(&mut world).on(1).send();
    world.drain();
    let body = world.heard(get).body;
    world.drain();
    assert_eq!(world.heard(get).body, body);
}
