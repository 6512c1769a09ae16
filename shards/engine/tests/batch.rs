//! Batches, which sessions of 2025-03-26 have (digest a.5).

use serde_json::{Value, json};

use super::ask::{Legacy, hello, notification, request, response, tool};
use super::world::World;
use crate::net::PipeKind;

fn session(world: &mut World) -> Legacy {
    world.initialize(0, "2025-03-26", json!({}))
}

/// Ids and error codes of a batch's answers (0: a result), sorted.
fn answers(body: &Value) -> Vec<(String, i64)> {
    let items = body.as_array().unwrap_or_else(|| panic!("no array: {body}"));
    let mut answers: Vec<_> = items
        .iter()
        .map(|item| {
            let id = item.get("id").map_or("none".to_owned(), Value::to_string);
            (id, item["error"]["code"].as_i64().unwrap_or_default())
        })
        .collect();
    answers.sort();
    answers
}

/// A batch, and what is answered: `None` for nothing at all.
type Case = (Value, Option<Vec<(&'static str, i64)>>);

fn cases() -> Vec<Case> {
    let ping = |id: i32| request(id, "ping", json!({}));
    let done = notification("notifications/initialized", json!({}));
    vec![
        (json!([ping(1)]), Some(vec![("1", 0)])),
        (
            json!([ping(1), done, request(2, "no/such", json!({}))]),
            Some(vec![("1", 0), ("2", -32601)]),
        ),
        (json!([done, done]), None),
        (json!([done, response(&json!("s-1"), json!({}))]), None),
        (json!([5]), Some(vec![("none", -32600)])),
        (json!([5, "x", null]), Some(vec![("none", -32600); 3])),
        (json!([[ping(1)], ping(2)]), Some(vec![("2", 0), ("none", -32600)])),
        (
            json!([request(1, "initialize", hello("2025-11-25", json!({}))), ping(2)]),
            Some(vec![("1", -32600), ("2", 0)]),
        ),
        (
            json!([request(1, "tools/list", json!([])), ping(2)]),
            Some(vec![("1", -32602), ("2", 0)]),
        ),
        (json!([request(1, "tools/call", tool("survey", json!({})))]), Some(vec![("1", 0)])),
        (json!([request(1, "tools/call", tool("lock_crane", json!({})))]), Some(vec![("1", 0)])),
    ]
}

#[test]
fn every_request_of_a_batch_is_answered_in_one_array() {
    for (batch, expect) in cases() {
        for shard in [0, 1] {
            let mut world = World::new();
            let session = session(&mut world);
            let heard = session.post(&mut world, batch.clone()).on(shard).reply();
            match &expect {
                None => assert_eq!((heard.status, heard.body.as_str()), (202, ""), "{batch}"),
                Some(expect) => {
                    assert_eq!(heard.status, 200, "{batch}");
                    let expect: Vec<_> =
                        expect.iter().map(|(id, code)| (id.to_string(), *code)).collect();
                    assert_eq!(answers(&heard.last()), expect, "{batch}");
                }
            }
            session.delete(&mut world).send();
            assert_eq!(world.leftovers(), Vec::<String>::new(), "{batch}");
        }
    }
}

#[test]
fn on_a_pipe_it_is_the_same_and_nothing_is_nothing() {
    for (batch, expect) in cases() {
        let mut world = World::new();
        let pipe = world.pipe(0, PipeKind::Lines);
        world.tell(pipe, &request(0, "initialize", hello("2025-03-26", json!({}))));
        world.say(pipe, &batch);
        let told = world.told(pipe);
        match expect {
            None => assert_eq!(told, Vec::<Value>::new(), "{batch}"),
            Some(expect) => {
                let expect: Vec<_> =
                    expect.iter().map(|(id, code)| (id.to_string(), *code)).collect();
                assert_eq!(told.len(), 1, "{batch}");
                assert_eq!(answers(&told[0]), expect, "{batch}");
            }
        }
    }
}

#[test]
fn an_empty_batch_and_one_that_is_too_long_get_one_error() {
    let ping = |id: usize| request(id, "ping", json!({}));
    let mut world = World::new();
    let session = session(&mut world);
    let pipe = world.pipe(0, PipeKind::WebSocket);
    world.tell(pipe, &request(0, "initialize", hello("2025-03-26", json!({}))));
    for (count, code) in [(0, -32600), (100, 0), (101, -32600)] {
        let batch = Value::from((0..count).map(ping).collect::<Vec<_>>());
        let heard = session.post(&mut world, batch.clone()).reply();
        let told = world.tell(pipe, &batch);
        if code == 0 {
            assert_eq!(heard.last().as_array().map(Vec::len), Some(count));
            assert_eq!(told.as_array().map(Vec::len), Some(count));
        } else {
            assert_eq!((heard.status, heard.code()), (400, code), "{count}");
            assert_eq!(told["error"]["code"], code, "{count}");
        }
    }
}

#[test]
fn pipes_of_other_versions_know_no_batches() {
    for version in [None, Some("2024-11-05"), Some("2025-06-18"), Some("2025-11-25")] {
        let mut world = World::new();
        let pipe = world.pipe(0, PipeKind::Lines);
        if let Some(version) = version {
            world.tell(pipe, &request(0, "initialize", hello(version, json!({}))));
        }
        let told = world.tell(pipe, &json!([request(1, "ping", json!({}))]));
        assert_eq!(told["error"]["code"], -32600, "{version:?}");
    }
}

#[test]
fn a_batch_waits_for_its_slowest_call() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = session(&mut world);
        let later =
            |id: i32, key: &str| request(id, "tools/call", tool("later", json!({ "key": key })));
        let batch = json!([later(1, "a"), request(2, "ping", json!({})), later(3, "b")]);
        let sent = session.post(&mut world, batch).on(shard).send();
        world.finish("b", "b");
        assert_eq!(world.heard(sent).status, 0);
        let twice = session.call(&mut world, 1, "echo", json!({})).reply();
        assert_eq!(twice.code(), -32600, "its ids are in flight");
        world.finish("a", "a");
        assert_eq!(answers(&world.heard(sent).last()).len(), 3);
        assert!(world.is_idle());
    }
}

#[test]
fn a_cancelled_call_of_a_batch_is_left_out() {
    let mut world = World::new();
    let session = session(&mut world);
    let pipe = world.pipe(0, PipeKind::Lines);
    world.tell(pipe, &request(0, "initialize", hello("2025-03-26", json!({}))));
    let later = request(1, "tools/call", tool("later", json!({ "key": "a" })));
    let cancel = notification("notifications/cancelled", json!({ "requestId": 1 }));
    let mixed = json!([later, request(2, "ping", json!({}))]);
    for (batch, expect) in [(mixed, 1), (json!([later]), 0)] {
        let sent = session.post(&mut world, batch.clone()).on(1).send();
        world.say(pipe, &batch);
        session.post(&mut world, cancel.clone()).send();
        world.say(pipe, &cancel);
        assert!(world.is_idle());
        let heard = world.heard(sent);
        assert_eq!(heard.status, if expect == 0 { 202 } else { 200 });
        let told = world.told(pipe);
        assert_eq!(told.len(), expect);
        for array in heard.messages().iter().chain(&told) {
            assert_eq!(answers(array), [("2".to_owned(), 0)]);
        }
    }
}

#[test]
fn a_batch_whose_client_left_leaves_nothing() {
    let mut world = World::new();
    let session = session(&mut world);
    let later = request(1, "tools/call", tool("later", json!({ "key": "a" })));
    let sent = session.post(&mut world, json!([later])).on(1).send();
    world.leave(sent);
    world.finish("a", "nobody");
    session.delete(&mut world).send();
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_batch_may_be_answered_as_a_stream() {
    let mut world = World::new();
    let session = session(&mut world);
    let batch = json!([request(1, "ping", json!({})), request(2, "ping", json!({}))]);
    let heard = session.post(&mut world, batch).header("Accept", "text/event-stream").reply();
    assert!(heard.is_stream() && !heard.open);
    assert_eq!(answers(&heard.last()).len(), 2);
}
