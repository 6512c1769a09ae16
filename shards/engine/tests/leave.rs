//! Leaving at a pace: a crowd of streams ends over a window, each told its own time to come back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ask::{hello, modern, request, tool};
use super::world::{DRAIN_MS, PipeId, Sent, Setup, World};
use crate::engine::pace::{AT_ONCE_MAX, WINDOW_MS_MAX};
use crate::net::{CloseReason, PipeKind};
use crate::service::Service;

const WINDOW_MS: u64 = if DRAIN_MS / 4 < WINDOW_MS_MAX { DRAIN_MS / 4 } else { WINDOW_MS_MAX };

fn single() -> World {
    World::with(Setup { nodes: 1, shards: 1, ..Setup::default() })
}

fn listening() -> Value {
    json!({ "notifications": { "toolsListChanged": true } })
}

fn listen(world: &mut World) -> Sent {
    world.modern("l", "subscriptions/listen", listening()).send()
}

fn get(world: &mut World) -> Sent {
    let session = world.initialize(0, "2025-11-25", json!({}));
    session.get(world).send()
}

fn open(world: &World, streams: &[Sent]) -> usize {
    streams.iter().filter(|stream| world.heard(**stream).open).count()
}

/// When its client is told to come back, milliseconds.
fn retry(world: &World, stream: Sent) -> u64 {
    let retries: Vec<u64> =
        world.heard(stream).events().into_iter().filter_map(|e| e.retry?.parse().ok()).collect();
    assert_eq!(retries.len(), 1, "{:?}", world.heard(stream));
    retries[0]
}

/// Opens so many streams of this kind on a node of their own, drains it, and looks how they end.
#[track_caller]
fn check_paced(count: usize, stream: fn(&mut World) -> Sent) {
    let mut world = single();
    let streams: Vec<Sent> = (0..count).map(|_| stream(&mut world)).collect();
    world.drain();
    let mut left = vec![open(&world, &streams)];
    for _ in 0..10 {
        assert_eq!(world.is_idle(), left.last() == Some(&0));
        world.advance(WINDOW_MS / 10);
        left.push(open(&world, &streams));
    }
    assert_eq!(left.last(), Some(&0), "{left:?}");
    let most = left.windows(2).map(|two| two[0] - two[1]).max().expect("ten steps");
    assert!(count - left[0] <= 1 && most <= count / 10 + 2, "in steps: {left:?}");
    let retries: Vec<u64> = streams.iter().map(|stream| retry(&world, *stream)).collect();
    assert!(retries.iter().all(|ms| (1000..=4000).contains(ms)), "{retries:?}");
    let different: BTreeSet<u64> = retries.iter().copied().collect();
    assert!(count * 3 / 4 < different.len(), "{retries:?}");
}

#[test]
fn a_crowd_of_streams_ends_spread_out_and_comes_back_spread_out() {
    check_paced(100, listen);
    check_paced(100, get);
    check_paced(100, |world| world.get("/sse").send());
}

#[test]
fn few_streams_end_at_once_and_one_more_does_not() {
    for (count, left) in [(AT_ONCE_MAX, 0), (AT_ONCE_MAX + 1, AT_ONCE_MAX)] {
        let mut world = single();
        let streams: Vec<Sent> = (0..count).map(|_| listen(&mut world)).collect();
        world.drain();
        assert_eq!((open(&world, &streams), world.is_idle()), (left, left == 0));
    }
}

#[test]
fn a_stream_is_served_until_its_turn_comes() {
    let mut world = single();
    let streams: Vec<Sent> = (0..50).map(|_| listen(&mut world)).collect();
    world.drain();
    world.advance(WINDOW_MS / 2);
    world.add_tool("news");
    let told = |stream: &&Sent| {
        let methods = world.heard(**stream).methods();
        methods.contains(&"notifications/tools/list_changed".to_owned())
    };
    let heard = streams.iter().filter(told).count();
    assert_eq!(heard, open(&world, &streams));
    assert!((20..=30).contains(&heard), "{heard}");
}

#[test]
fn a_pipe_that_is_refused_before_its_turn_is_closed_at_once() {
    let mut world = single();
    let pipes: Vec<PipeId> = (0..50).map(|_| world.pipe(0, PipeKind::WebSocket)).collect();
    world.drain();
    let last = pipes[49];
    assert_eq!(world.closed(last), None);
    let refused = world.tell(last, &modern(1, "server/discover", json!({})));
    assert_eq!(refused["error"]["code"], -32603);
    assert_eq!(world.closed(last), Some(CloseReason::GoingAway));
    world.advance(WINDOW_MS);
    assert!(pipes.iter().all(|pipe| world.closed(*pipe) == Some(CloseReason::GoingAway)));
    assert!(world.is_idle());
}

#[test]
fn whoever_leaves_sooner_hurries() {
    let mut world = single();
    let streams: Vec<Sent> = (0..100).map(|_| listen(&mut world)).collect();
    world.drain();
    let until = world.now() + 400;
    let (engine, wire) = world.at(0);
    engine.handle_drain(wire, until);
    world.advance(50);
    assert!((40..=60).contains(&open(&world, &streams)), "{}", open(&world, &streams));
    world.advance(50);
    assert!(world.is_idle());
}

#[test]
fn a_session_of_http_and_sse_goes_with_its_last_call() {
    let mut world = single();
    let sse = world.get("/sse").send();
    let endpoint = world.heard(sse).events()[0].data.clone().expect("an endpoint");
    world.post(&endpoint).json(request(0, "initialize", hello("2024-11-05", json!({})))).send();
    let call = request(1, "tools/call", tool("later", json!({ "key": "a" })));
    world.post(&endpoint).json(call).send();
    world.drain();
    world.advance(WINDOW_MS);
    assert!(world.heard(sse).open && !world.is_idle());
    world.finish("a", "done");
    assert!(!world.heard(sse).open && world.is_idle());
    assert!((1000..=4000).contains(&retry(&world, sse)));
}

#[test]
fn streams_held_for_sessions_of_other_nodes_end_too() {
    let mut world = World::with(Setup { nodes: 2, shards: 1, ..Setup::default() });
    let sessions: Vec<_> = (0..20).map(|_| world.initialize(1, "2025-11-25", json!({}))).collect();
    let gets: Vec<Sent> = sessions.iter().map(|s| s.get(&mut world).on(0).send()).collect();
    let call = sessions[0].call(&mut world, 1, "noisy", json!({ "key": "a" }));
    let call = call.on(0).meta("progressToken", json!(1)).send();
    world.drain_node(0);
    assert_eq!((open(&world, &gets), world.is_idle()), (19, false));
    world.advance(WINDOW_MS);
    assert_eq!(open(&world, &gets), 0);
    assert!(gets.iter().all(|get| (1000..=4000).contains(&retry(&world, *get))));
    assert!(world.heard(call).open, "what was asked is still answered");
    world.finish("a", "done");
    assert_eq!((world.heard(call).text().as_str(), world.heard(call).open), ("done", false));
    assert_eq!(world.loose_ends(), Vec::<String>::new());
    let open_there = world.engines[1].sessions.iter().filter(|(_, s)| s.is_busy()).count();
    assert_eq!(open_there, 0, "the owner knows");
}
