//! HTTP+SSE of 2024-11-05 (digest b.11): one stream is the session.

use serde_json::{Value, json};

use super::ask::{Ask, Heard, hello, notification, request, response, tool};
use super::world::{Sent, World};

const NOTHING: [String; 0] = [];

/// A client with its stream open and where it posts to.
struct Ancient {
    stream: Sent,
    endpoint: String,
}

impl Ancient {
    #[track_caller]
    fn open(world: &mut World, shard: u16) -> Ancient {
        let stream = world.get("/sse").on(shard).send();
        let heard = world.heard(stream);
        assert!(heard.is_stream() && heard.open, "{heard:?}");
        let first = heard.events().remove(0);
        assert_eq!(first.kind.as_deref(), Some("endpoint"));
        let endpoint = first.data.expect("where to post");
        assert!(endpoint.starts_with("/messages?sessionId="), "{endpoint}");
        Ancient { stream, endpoint }
    }

    fn post<'w>(&self, world: &'w mut World, message: Value) -> Ask<'w> {
        world.post(&self.endpoint).json(message)
    }

    #[track_caller]
    fn initialize(&self, world: &mut World, shard: u16, client: Value) {
        let hello = request(0, "initialize", hello("2024-11-05", client));
        assert_eq!(self.post(world, hello).on(shard).reply().status, 202);
        assert_eq!(self.heard(world).result()["protocolVersion"], "2024-11-05");
        self.post(world, notification("notifications/initialized", json!({}))).on(shard).send();
    }

    fn heard(&self, world: &World) -> Heard {
        world.heard(self.stream)
    }
}

#[test]
fn answers_come_on_the_stream_whatever_shard_was_posted_to() {
    for (shard, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::new();
        let client = Ancient::open(&mut world, shard);
        client.initialize(&mut world, other, json!({}));
        for (id, name) in [(1, "echo"), (2, "broken"), (3, "survey"), (4, "panic"), (5, "fly")] {
            let call = request(id, "tools/call", tool(name, json!({ "text": "x" })));
            let posted = client.post(&mut world, call).on(other).reply();
            assert_eq!(posted.status, 202, "{name}");
            assert_eq!(client.heard(&world).last()["id"], id, "{name}");
        }
        let kinds: Vec<_> = client.heard(&world).events().into_iter().map(|e| e.kind).collect();
        assert!(kinds[1..].iter().all(|kind| kind.as_deref() == Some("message")), "{kinds:?}");
        world.leave(client.stream);
        assert_eq!(world.leftovers(), NOTHING);
    }
}

#[test]
fn posts_that_cannot_be_taken_get_a_status_and_nothing_on_the_stream() {
    let mut world = World::new();
    let client = Ancient::open(&mut world, 0);
    let before = client.heard(&world).body;
    let ping = request(1, "ping", json!({}));
    for shard in [0, 1] {
        let bad = client.post(&mut world, ping.clone()).on(shard).body("{").reply();
        assert_eq!((bad.status, bad.code()), (400, -32700));
        let bad = client.post(&mut world, json!(5)).on(shard).reply();
        assert_eq!((bad.status, bad.code()), (400, -32600));
        let text =
            client.post(&mut world, ping.clone()).on(shard).header("Content-Type", "text/plain");
        assert_eq!(text.reply().status, 415);
        let evil = client.post(&mut world, ping.clone()).header("Origin", "https://evil.example");
        assert_eq!(evil.on(shard).reply().status, 403);
        let nobody = world.post("/messages?sessionId=nobody").json(ping.clone()).on(shard).reply();
        assert_eq!(nobody.status, 404);
        let missing = world.post("/messages").json(ping.clone()).on(shard).reply();
        assert_eq!(missing.status, 400);
    }
    assert_eq!(client.heard(&world).body, before);
    assert_eq!(world.get("/sse").header("Accept", "application/json").reply().status, 406);
}

#[test]
fn the_stream_is_the_session() {
    for other in [0, 1] {
        let mut world = World::new();
        let client = Ancient::open(&mut world, 1);
        client.initialize(&mut world, other, json!({}));
        let call = request(1, "tools/call", tool("later", json!({ "key": "a" })));
        client.post(&mut world, call).on(other).send();
        world.leave(client.stream);
        assert!(world.desk.take("a").is_cancelled());
        let late = client.post(&mut world, request(2, "ping", json!({}))).on(other).reply();
        assert_eq!(late.status, 404);
        assert_eq!(world.leftovers(), NOTHING);
    }
}

#[test]
fn everything_else_works_as_in_any_conversation() {
    let mut world = World::new();
    let client = Ancient::open(&mut world, 0);
    client.initialize(&mut world, 1, json!({ "roots": {} }));
    // Subscriptions, and changes.
    let subscribe = request(1, "resources/subscribe", json!({ "uri": "crane://7/state" }));
    client.post(&mut world, subscribe).send();
    world.publish("crane://7/state");
    assert_eq!(client.heard(&world).last()["method"], "notifications/resources/updated");
    // Requests to the client.
    let call = request(2, "tools/call", tool("ask_then_later", json!({ "key": "a" })));
    client.post(&mut world, call).on(1).send();
    let asked = client.heard(&world).last();
    assert_eq!(asked["method"], "roots/list");
    client.post(&mut world, response(&asked["id"], json!({ "roots": [] }))).on(1).send();
    world.finish("a", "thank you");
    assert_eq!(client.heard(&world).text(), "thank you");
    // Cancelling.
    let call = request(3, "tools/call", tool("later", json!({ "key": "b" })));
    client.post(&mut world, call).send();
    let body = client.heard(&world).body;
    let cancel = notification("notifications/cancelled", json!({ "requestId": 3 }));
    client.post(&mut world, cancel).on(1).send();
    assert!(world.desk.take("b").is_cancelled());
    assert_eq!(client.heard(&world).body, body);
    // The stream never idles out.
    world.advance(24 * 3600 * 1000);
    assert!(client.heard(&world).open);
}

#[test]
fn a_batch_is_answered_on_the_stream() {
    let mut world = World::new();
    let client = Ancient::open(&mut world, 0);
    let hello = request(0, "initialize", hello("2025-03-26", json!({})));
    client.post(&mut world, hello).send();
    let batch = json!([request(1, "ping", json!({})), request(2, "no/such", json!({}))]);
    assert_eq!(client.post(&mut world, batch).on(1).reply().status, 202);
    assert_eq!(client.heard(&world).last().as_array().map(Vec::len), Some(2));
}

#[test]
fn the_cap_of_sessions_holds_here_too() {
    let mut world = World::tuned(|limits| limits.sessions_max = 1);
    let client = Ancient::open(&mut world, 0);
    world.advance(60_000);
    let refused = world.get("/sse").reply();
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    world.leave(client.stream);
    Ancient::open(&mut world, 0);
}
