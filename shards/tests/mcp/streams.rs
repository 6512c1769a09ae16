//! Streams between shards in a perfect world, one thing at a time: who is told, how often, and who counts.

use erlmcp_catalog::Change;
use erlmcp_shards::config::Limits;
use erlmcp_shards::io::sim::Faults;
use serde_json::{Value, json};

use super::http::{Http, Seen, parse};
use super::ledger::Expect;
use super::say::{Asking, http, initialize, letters, modern_post};
use super::world::{Dice, SHARDS, World, limits};

/// One request on one connection; what came back within a few turns.
#[track_caller]
fn ask(world: &mut World, shard: u16, request: &[u8]) -> (Http, Vec<Seen>) {
    let mut http = Http::new(&world.net, shard);
    http.wire.say(request);
    let seen = hear(world, &mut http);
    (http, seen)
}

fn hear(world: &mut World, http: &mut Http) -> Vec<Seen> {
    let mut seen = Vec::new();
    for _ in 0..60 {
        http.go_on_steadily();
        seen.extend(std::iter::from_fn(|| http.next()));
        world.turn();
    }
    seen
}

fn listen(uri: &str) -> Vec<u8> {
    let wanted = json!({ "resourceSubscriptions": [uri], "toolsListChanged": true });
    let params = json!({ "notifications": wanted });
    let (method, expect) = ("subscriptions/listen", Expect::Nothing);
    modern_post(&Asking { method, params, expect, tracked: false }, &json!("l"))
}

/// A session of one shard: its `Mcp-Session-Id`.
fn session(world: &mut World, shard: u16) -> String {
    let hello = initialize(&json!(1), "2025-11-25").to_string();
    let (_, seen) = ask(world, shard, &http("POST", "/mcp", &[], &hello));
    match &seen[..] {
        [Seen::Whole { status: 200, session: Some(token), .. }] => token.clone(),
        other => panic!("{other:?}"),
    }
}

fn get(token: &str) -> Vec<u8> {
    http("GET", "/mcp", &[("Mcp-Session-Id", token)], "")
}

fn messages(seen: &[Seen]) -> Vec<Value> {
    let event = |seen: &Seen| match seen {
        Seen::Event(event) => Some(parse(&event.data)),
        _ => None,
    };
    seen.iter().filter_map(event).collect()
}

fn streams(world: &mut World) -> Vec<u64> {
    world.snapshots().iter().map(|one| one.counters.streams_active).collect()
}

#[test]
fn a_stream_is_counted_where_its_connection_is_whoever_owns_the_session() {
    let mut world = World::new(1, Faults::none());
    let token = session(&mut world, 0);
    let (mut away, seen) = ask(&mut world, 1, &get(&token));
    assert_eq!(seen, [Seen::Open { session: None }]);
    assert_eq!(streams(&mut world), [0, 1]);
    let (mut here, _) = ask(&mut world, 0, &get(&token));
    assert_eq!(streams(&mut world), [1, 1]);
    let mut dice = Dice::new(1);
    away.wire.leave(&mut dice);
    world.turns(20);
    assert_eq!(streams(&mut world), [1, 0]);
    let fields = [("Mcp-Session-Id", &*token)];
    let (_, seen) = ask(&mut world, 1, &http("DELETE", "/mcp", &fields, ""));
    assert!(matches!(seen[..], [Seen::Whole { status: 204, .. }]), "{seen:?}");
    assert_eq!(hear(&mut world, &mut here), [Seen::End]);
    assert_eq!(streams(&mut world), [0, 0]);
}

#[test]
fn a_change_of_a_list_is_heard_once_by_everybody_on_every_shard() {
    let mut world = World::new(1, Faults::none());
    let mut ears = Vec::new();
    for shard in 0..SHARDS {
        let token = session(&mut world, shard);
        ears.push(ask(&mut world, 1 - shard, &get(&token)).0);
        let (http, seen) = ask(&mut world, shard, &listen("any://thing"));
        assert_eq!(messages(&seen).len(), 1, "the acknowledgement");
        ears.push(http);
    }
    for change in [Change::Tools, Change::Tools] {
        world.handle.publish(change);
        for ear in &mut ears {
            let heard = messages(&hear(&mut world, ear));
            assert_eq!(heard.len(), 1, "{heard:?}");
            assert_eq!(heard[0]["method"], "notifications/tools/list_changed");
        }
    }
}

/// What a reader that lags has to know is that something changed, not how often.
#[test]
fn a_reader_that_stops_hears_of_the_last_change_when_it_goes_on_and_keeps_nobody_waiting() {
    let limits = Limits { outbox_pause_bytes: 1_000, outbox_bytes_max: 20_000, ..limits() };
    let mut world = World::with(1, Faults::none(), limits, 48);
    let (mut slow, _) = ask(&mut world, 0, &listen("any://thing"));
    let (mut quick, _) = ask(&mut world, 0, &listen("any://thing"));
    slow.wire.client.stop_reading();
    let mut heard_quick = 0;
    let mut publisher = Http::new(&world.net, 1);
    for round in 0..60 {
        publisher.wire.say(&modern_post(&Asking::publish("any://thing"), &json!(round)));
        let seen = hear(&mut world, &mut publisher);
        assert!(matches!(seen[..], [Seen::Whole { status: 200, .. }]), "{round}: {seen:?}");
        heard_quick += messages(&hear(&mut world, &mut quick)).len();
        assert_eq!(heard_quick, round + 1);
    }
    assert!(0 < world.errors("notification_coalesced"));
    assert_eq!(world.errors("slow_reader"), 0);
    slow.wire.client.resume_reading();
    world.turns(200);
    let before = messages(&hear(&mut world, &mut slow)).len();
    assert!((1..60).contains(&before), "{before}");
    world.turns(200);
    assert_eq!(messages(&hear(&mut world, &mut slow)), [] as [Value; 0]);
}

#[test]
fn an_answer_under_way_when_a_drain_begins_is_sent_and_its_connection_ends() {
    let mut world = World::new(1, Faults::none());
    let mut http = Http::new(&world.net, 0);
    http.wire.client.stop_reading();
    let text = letters(3_000);
    let asking = Asking::tool("echo", json!({ "text": text }), Expect::Text(text));
    http.wire.say(&modern_post(&asking, &json!(1)));
    for _ in 0..10 {
        http.go_on_steadily();
        world.turn();
    }
    world.drain(0, 60_000);
    world.turns(10);
    http.wire.client.resume_reading();
    let seen = hear(&mut world, &mut http);
    assert!(matches!(seen[..], [Seen::Whole { status: 200, .. }]), "{seen:?}");
    assert!(http.is_dead(), "the server said FIN");
    http.wire.leave(&mut Dice::new(1));
    world.turns(20);
    assert_eq!(world.living().count(), 1, "the drained shard is over");
}

#[test]
fn a_draining_owner_refuses_what_begins_and_takes_what_ends() {
    let mut world = World::new(1, Faults::none());
    let token = session(&mut world, 0);
    let fields = [("Mcp-Session-Id", &*token)];
    let wait = Asking::wait(900, false).message(super::say::Era::Legacy, &json!(2)).to_string();
    let mut running = Http::new(&world.net, 1);
    running.wire.say(&http("POST", "/mcp", &fields, &wait));
    hear(&mut world, &mut running);
    world.drain(0, 60_000);
    world.turns(5);
    for request in
        [get(&token), http("POST", "/mcp", &fields, &wait.replace("\"id\":2", "\"id\":3"))]
    {
        let (_, seen) = ask(&mut world, 1, &request);
        assert!(matches!(seen[..], [Seen::Whole { status: 503, .. }]), "{seen:?}");
    }
    let note = super::say::initialized().to_string();
    let (_, seen) = ask(&mut world, 1, &http("POST", "/mcp", &fields, &note));
    assert!(matches!(seen[..], [Seen::Whole { status: 202, .. }]), "{seen:?}");
    world.turns(900);
    let seen = hear(&mut world, &mut running);
    assert_eq!(messages(&seen).len(), 1, "{seen:?}");
    world.pass(3_000); // Its first client never said FIN.
    assert_eq!(world.living().count(), 1, "the drained shard is over");
    let (_, seen) = ask(&mut world, 1, &get(&token));
    assert!(matches!(seen[..], [Seen::Whole { status: 503, .. }]), "its owner has left: {seen:?}");
}
