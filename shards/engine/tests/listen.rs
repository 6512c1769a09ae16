//! `subscriptions/listen` (digest c.10).

use serde_json::{Value, json};

use super::ask::{Heard, META, modern, notification, tool};
use super::harbour::cranes;
use super::world::{Sent, World};
use crate::net::PipeKind;

const URI: &str = "crane://7/state";

fn listen(world: &mut World, id: impl Into<Value>, shard: u16, wanted: Value) -> Sent {
    let params = json!({ "notifications": wanted });
    world.modern(id, "subscriptions/listen", params).on(shard).send()
}

fn everything() -> Value {
    json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourcesListChanged": true,
        "resourceSubscriptions": [URI],
    })
}

/// The id a message is stamped with.
fn stamp(message: &Value) -> &Value {
    &message["params"]["_meta"][format!("{META}subscriptionId")]
}

#[track_caller]
fn check_stamps(heard: &Heard, id: &Value) {
    for message in heard.messages() {
        assert_eq!(stamp(&message), id, "{message}");
    }
}

#[test]
fn the_acknowledgement_comes_first_and_says_what_was_accepted() {
    let mut world = World::serving(cranes().build().expect("a catalog"));
    for (wanted, accepted) in [
        (
            everything(),
            json!({
                "toolsListChanged": true,
                "resourcesListChanged": true,
                "resourceSubscriptions": [URI],
            }),
        ),
        (json!({}), json!({})),
        (json!({ "toolsListChanged": false, "resourceSubscriptions": [] }), json!({})),
        (json!({ "promptsListChanged": true }), json!({})),
        (json!({ "taskIds": ["t"], "unheardOf": 5 }), json!({})),
        (
            json!({ "resourceSubscriptions": ["x://b", "x://a", "x://b"] }),
            json!({ "resourceSubscriptions": ["x://a", "x://b"] }),
        ),
    ] {
        let sent = listen(&mut world, 21, 1, wanted.clone());
        let heard = world.heard(sent);
        assert!(heard.is_stream() && heard.open, "{wanted}");
        assert_eq!(heard.methods(), ["notifications/subscriptions/acknowledged"]);
        assert_eq!(heard.messages()[0]["params"]["notifications"], accepted, "{wanted}");
        check_stamps(&heard, &json!(21));
        assert!(heard.events().iter().all(|event| event.id.is_none()), "no resumption");
    }
}

#[test]
fn every_message_is_stamped_with_the_id_as_it_was() {
    let mut world = World::new();
    for id in [json!(21), json!("21"), json!(9_007_199_254_740_993_u64), json!("\u{f6} \"q\"")] {
        let sent = listen(&mut world, id.clone(), 0, everything());
        world.publish(URI);
        world.drain();
        let messages = world.heard(sent).messages();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert_eq!((stamp(&messages[0]), stamp(&messages[1])), (&id, &id));
        assert_eq!(messages[2]["id"], id);
        assert_eq!(messages[2]["result"]["_meta"][format!("{META}subscriptionId")], id);
        world = World::new();
    }
}

#[test]
fn events_reach_the_streams_of_every_shard_once_and_only_who_asked() {
    let mut world = World::new();
    let all = [listen(&mut world, 1, 0, everything()), listen(&mut world, 1, 1, everything())];
    let tools = listen(&mut world, 1, 1, json!({ "toolsListChanged": true }));
    let other = listen(&mut world, 1, 0, json!({ "resourceSubscriptions": ["crane://8/state"] }));
    world.publish(URI);
    world.add_tool("crane_paint");
    // A handler on one shard speaks to all of them.
    let call = tool("publish", json!({ "uri": URI }));
    assert_eq!(world.modern(5, "tools/call", call).on(1).reply().text(), "published");
    let updated = "notifications/resources/updated";
    let changed = "notifications/tools/list_changed";
    for sent in all {
        let heard = world.heard(sent);
        assert_eq!(heard.methods()[1..], [updated, changed, updated]);
        assert_eq!(heard.messages()[1]["params"]["uri"], URI);
    }
    assert_eq!(world.heard(tools).methods()[1..], [changed]);
    assert_eq!(world.heard(other).methods().len(), 1);
}

#[test]
fn a_change_of_the_catalog_is_served_when_it_is_announced() {
    let mut world = World::new();
    let sent = listen(&mut world, 1, 1, json!({ "toolsListChanged": true }));
    world.add_tool("crane_paint");
    assert_eq!(world.heard(sent).methods().len(), 2);
    for shard in [0, 1] {
        let heard = world.modern(2, "tools/call", tool("crane_paint", json!({}))).on(shard).reply();
        assert_eq!(heard.text(), "new here");
    }
}

#[test]
fn news_that_overtake_each_other_leave_the_newest_catalog() {
    let mut world = World::new();
    for name in ["first", "second"] {
        let tool = erlmcp_catalog::Tool::new(name)
            .handler(|_: erlmcp_catalog::NoArguments, _: &mut erlmcp_catalog::Call| "here");
        world.handle.update(|draft| draft.add_tool(tool)).expect("can be served");
    }
    for (shard, news) in world.take_foreign().into_iter().rev() {
        world.deliver(shard, news);
    }
    for (name, shard) in [("first", 0), ("second", 0), ("first", 1), ("second", 1)] {
        let heard = world.modern(1, "tools/call", tool(name, json!({}))).on(shard).reply();
        assert_eq!(heard.text(), "here", "{name} on {shard}");
    }
}

#[test]
fn who_leaves_hears_nothing_and_leaves_nothing() {
    let mut world = World::new();
    let sent = listen(&mut world, 1, 1, everything());
    let before = world.heard(sent).body;
    assert_eq!(world.wires[1].counters.streams_active, 1);
    world.leave(sent);
    world.publish(URI);
    assert_eq!(world.heard(sent).body, before);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn who_cannot_take_a_stream_cannot_listen() {
    let mut world = World::new();
    let params = json!({ "notifications": everything() });
    let ask = world.modern(1, "subscriptions/listen", params);
    let heard = ask.header("Accept", "application/json").reply();
    assert_eq!((heard.status, heard.code()), (406, -32600));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn streams_and_uris_are_bounded() {
    let mut world = World::tuned(|limits| {
        limits.listens_max = 2;
        limits.subscriptions_max = 3;
    });
    let uris = |count: usize| {
        let uris: Vec<String> = (0..count).map(|n| format!("crane://{n}/state")).collect();
        json!({ "resourceSubscriptions": uris })
    };
    let too_many = listen(&mut world, 1, 0, uris(4));
    assert_eq!((world.heard(too_many).status, world.heard(too_many).code()), (200, -32602));
    let first = listen(&mut world, 1, 0, uris(3));
    listen(&mut world, 2, 0, everything());
    let refused = listen(&mut world, 3, 0, everything());
    assert_eq!((world.heard(refused).status, world.heard(refused).code()), (200, -32603));
    assert!(!world.heard(refused).is_stream());
    let elsewhere = listen(&mut world, 3, 1, everything());
    assert!(world.heard(elsewhere).open, "the bound is of one shard");
    world.leave(first);
    let again = listen(&mut world, 3, 0, everything());
    assert!(world.heard(again).open);
}

#[test]
fn a_reader_that_lags_gets_each_change_once_when_it_reads_again() {
    let mut world = World::new();
    let slow = listen(&mut world, 1, 0, everything());
    let quick = listen(&mut world, 1, 0, everything());
    let pause = crate::config::Limits::default().outbox_pause_bytes;
    world.set_backlog(0, slow.exchange.conn, pause + 1);
    for _ in 0..5 {
        world.publish(URI);
    }
    world.add_tool("crane_paint");
    world.add_tool("crane_wash");
    assert_eq!(world.heard(slow).methods().len(), 1);
    assert_eq!(world.heard(quick).methods().len(), 8);
    assert_eq!(world.errors("notification_coalesced"), 5);
    world.advance(1000);
    assert_eq!(world.heard(slow).methods().len(), 1, "it still does not read");
    world.set_backlog(0, slow.exchange.conn, pause);
    world.advance(50);
    let told = world.heard(slow).methods();
    assert_eq!(told[1..], ["notifications/resources/updated", "notifications/tools/list_changed"]);
    world.publish(URI);
    assert_eq!(world.heard(slow).methods().len(), 4);
}

#[test]
fn a_reader_that_leaves_while_it_lags_is_forgotten() {
    let mut world = World::new();
    let slow = listen(&mut world, 1, 0, everything());
    world.set_backlog(0, slow.exchange.conn, usize::MAX);
    world.publish(URI);
    world.leave(slow);
    world.advance(1000);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert!(world.wires[0].timers.is_empty(), "nobody is looked after any more");
}

#[test]
fn a_drain_ends_every_stream_with_its_result() {
    let mut world = World::new();
    let sent = [listen(&mut world, "a", 0, everything()), listen(&mut world, "b", 1, everything())];
    world.drain();
    for (sent, id) in sent.into_iter().zip(["a", "b"]) {
        let heard = world.heard(sent);
        assert!(!heard.open);
        assert_eq!(heard.last()["id"], id);
        assert_eq!(heard.result()["resultType"], "complete");
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn several_subscriptions_on_one_pipe_get_a_copy_each() {
    for kind in [PipeKind::Lines, PipeKind::Stdio, PipeKind::WebSocket] {
        let mut world = World::new();
        let pipe = world.pipe(1, kind);
        let ask = |id: Value| {
            modern(id, "subscriptions/listen", json!({ "notifications": everything() }))
        };
        for id in [json!(1), json!("1"), json!(2)] {
            let told = world.tell(pipe, &ask(id.clone()));
            assert_eq!(told["method"], "notifications/subscriptions/acknowledged");
            assert_eq!(*stamp(&told), id);
        }
        let twice = world.tell(pipe, &ask(json!(2)));
        assert_eq!(
            (twice["error"]["code"].clone(), twice["id"].clone()),
            (json!(-32600), json!(2))
        );
        world.publish(URI);
        let mut stamps: Vec<Value> = world.told(pipe).iter().map(|m| stamp(m).clone()).collect();
        stamps.sort_by_key(Value::to_string);
        assert_eq!(stamps, [json!("1"), json!(1), json!(2)]);
        world.say(pipe, &notification("notifications/cancelled", json!({ "requestId": 1 })));
        assert_eq!(world.told(pipe), Vec::<Value>::new(), "silence");
        world.publish(URI);
        assert_eq!(world.told(pipe).len(), 2);
        assert_eq!(world.wires[1].counters.streams_active, 2);
        world.hang_up(pipe);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_pipe_has_its_own_bound_of_subscriptions() {
    let mut world = World::tuned(|limits| limits.subscriptions_max = 2);
    let pipe = world.pipe(0, PipeKind::Lines);
    let ask = |id: i32| modern(id, "subscriptions/listen", json!({ "notifications": {} }));
    for id in [1, 2] {
        assert!(world.tell(pipe, &ask(id)).get("method").is_some());
    }
    assert_eq!(world.tell(pipe, &ask(3))["error"]["code"], -32603);
    world.say(pipe, &notification("notifications/cancelled", json!({ "requestId": 1 })));
    assert!(world.tell(pipe, &ask(3)).get("method").is_some());
}
