//! The streams of a legacy session: each message on exactly one of them, and what is missed can be fetched.

use serde_json::{Value, json};

use super::ask::{Heard, Legacy, notification};
use super::world::{Sent, World};

const URI: &str = "crane://7/state";

/// A session that hears of a resource, whose changes number its messages.
fn subscribed(world: &mut World) -> Legacy {
    let session = world.initialize(0, "2025-11-25", json!({}));
    session.ask(world, 1, "resources/subscribe", json!({ "uri": URI })).send();
    session
}

fn updates(world: &mut World, count: usize) {
    for _ in 0..count {
        world.publish(URI);
    }
}

fn ids(heard: &Heard) -> Vec<String> {
    heard.events().into_iter().filter_map(|event| event.id).collect()
}

/// The session calls something that speaks `steps` times and then waits.
fn speaking(world: &mut World, session: &Legacy, shard: u16) -> Sent {
    let ask = session.call(world, 4, "noisy", json!({ "key": "a" })).on(shard);
    ask.meta("progressToken", json!("p")).send()
}

fn resume(world: &mut World, session: &Legacy, shard: u16, last: &str) -> Sent {
    session.get(world).on(shard).header("Last-Event-ID", last).send()
}

#[test]
fn a_get_hears_every_message_once() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = subscribed(&mut world);
        let get = session.get(&mut world).on(shard).send();
        updates(&mut world, 3);
        world.add_tool("crane_paint");
        let heard = world.heard(get);
        let updated = "notifications/resources/updated";
        let changed = "notifications/tools/list_changed";
        assert_eq!(heard.methods(), [updated, updated, updated, changed]);
        assert_eq!(heard.messages()[0]["params"], json!({ "uri": URI }));
        assert_eq!(ids(&heard), ["0-1", "0-2", "0-3", "0-4"]);
        session.ask(&mut world, 2, "resources/unsubscribe", json!({ "uri": URI })).on(shard).send();
        updates(&mut world, 1);
        assert_eq!(world.heard(get).messages().len(), 4);
    }
}

#[test]
fn what_happens_while_no_get_is_open_waits_for_the_next_one() {
    let mut world = World::new();
    let session = subscribed(&mut world);
    updates(&mut world, 2);
    let first = session.get(&mut world).on(1).send();
    assert_eq!(ids(&world.heard(first)), ["0-1", "0-2"]);
    world.leave(first);
    updates(&mut world, 1);
    let second = session.get(&mut world).on(0).send();
    assert_eq!(ids(&world.heard(second)), ["0-3"], "the others were delivered");
    updates(&mut world, 1);
    assert_eq!(ids(&world.heard(second)), ["0-3", "0-4"]);
}

#[test]
fn of_several_gets_the_newest_is_spoken_to() {
    let mut world = World::new();
    let session = subscribed(&mut world);
    let first = session.get(&mut world).on(0).send();
    let second = session.get(&mut world).on(1).send();
    updates(&mut world, 1);
    world.leave(second);
    updates(&mut world, 1);
    assert_eq!(ids(&world.heard(second)), ["0-1"]);
    assert_eq!(ids(&world.heard(first)), ["0-2"]);
}

#[test]
fn there_are_at_most_four_gets() {
    let mut world = World::new();
    let session = subscribed(&mut world);
    let gets: Vec<Sent> = (0..4).map(|n| session.get(&mut world).on(n % 2).send()).collect();
    assert!(gets.iter().all(|get| world.heard(*get).open));
    assert_eq!(session.get(&mut world).reply().status, 409);
    world.leave(gets[1]);
    assert_eq!(session.get(&mut world).on(1).reply().status, 200);
}

#[test]
fn a_standalone_stream_is_resumed_behind_the_last_event() {
    let mut world = World::new();
    let session = subscribed(&mut world);
    let get = session.get(&mut world).on(1).send();
    updates(&mut world, 5);
    world.leave(get);
    updates(&mut world, 1);
    for (last, expect) in [("0-4", vec!["0-5", "0-6"]), ("0-0", vec!["0-1"]), ("0-6", vec![])] {
        let again = resume(&mut world, &session, 0, last);
        let heard = ids(&world.heard(again));
        assert!(world.heard(again).open, "{last}");
        assert!(heard.starts_with(&expect.iter().map(|id| id.to_string()).collect::<Vec<_>>()));
        world.leave(again);
    }
    let again = resume(&mut world, &session, 0, "0-6");
    updates(&mut world, 1);
    assert_eq!(ids(&world.heard(again)), ["0-7"]);
}

#[test]
fn a_standalone_stream_that_cannot_be_resumed_begins_anew() {
    let mut world = World::tuned(|limits| limits.replay_events_max = 3);
    let session = subscribed(&mut world);
    let get = session.get(&mut world).send();
    updates(&mut world, 6);
    world.leave(get);
    for last in ["0-1", "0-99"] {
        let again = resume(&mut world, &session, 1, last);
        assert_eq!((world.heard(again).status, world.heard(again).open), (200, true), "{last}");
        assert_eq!(ids(&world.heard(again)), [""; 0], "{last}");
        world.leave(again);
    }
}

#[test]
fn only_so_much_is_kept_for_who_is_away() {
    let mut world = World::tuned(|limits| limits.replay_events_max = 3);
    let session = subscribed(&mut world);
    updates(&mut world, 10);
    let get = session.get(&mut world).send();
    assert_eq!(ids(&world.heard(get)), ["0-8", "0-9", "0-10"]);
    // The same in bytes: one update is a little less than 100.
    let mut world = World::tuned(|limits| limits.replay_bytes_max = 250);
    let session = subscribed(&mut world);
    updates(&mut world, 10);
    let get = session.get(&mut world).send();
    assert_eq!(ids(&world.heard(get)), ["0-9", "0-10"]);
}

#[test]
fn a_request_stream_is_resumed_and_goes_on() {
    for (shard, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let sent = speaking(&mut world, &session, shard);
        let seen = ids(&world.heard(sent)).pop().expect("an event");
        world.leave(sent);
        let progress = |heard: &Heard| -> Vec<Value> {
            heard.messages().iter().map(|m| m["params"]["progress"].clone()).collect()
        };
        let reply = world.desk.take("a");
        reply.progress(2.0, None, None);
        world.pump();
        let again = resume(&mut world, &session, other, &seen);
        assert_eq!(progress(&world.heard(again)), [json!(2)]);
        reply.progress(3.0, None, None);
        reply.done("done");
        world.pump();
        let heard = world.heard(again);
        assert_eq!((heard.text().as_str(), heard.open), ("done", false));
        assert_eq!(progress(&heard), [json!(2), json!(3), Value::Null]);
        assert!(world.is_idle());
    }
}

#[test]
fn a_finished_stream_is_kept_for_a_while() {
    let after = |ms: u64| {
        let mut world = World::tuned(|limits| limits.replay_ttl_ms = 1000);
        let session = world.initialize(0, "2025-11-25", json!({}));
        let sent = speaking(&mut world, &session, 1);
        let seen = ids(&world.heard(sent)).pop().expect("an event");
        world.leave(sent);
        world.finish("a", "done");
        world.advance(ms);
        let again = resume(&mut world, &session, 0, &seen);
        world.heard(again)
    };
    assert_eq!(after(999).text(), "done");
    assert_eq!((after(1000).status, after(1000).code()), (400, -32600));
}

#[test]
fn who_has_heard_everything_is_told_to_stop_coming_back() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let sent = speaking(&mut world, &session, 1);
    world.finish("a", "done");
    let last = ids(&world.heard(sent)).pop().expect("an event");
    let again = resume(&mut world, &session, 1, &last);
    assert_eq!((world.heard(again).status, world.heard(again).body.as_str()), (204, ""));
}

#[test]
fn ids_that_mean_nothing_and_gaps_get_400() {
    let mut world = World::tuned(|limits| limits.replay_events_max = 2);
    let session = world.initialize(0, "2025-11-25", json!({}));
    let other = world.initialize(0, "2025-11-25", json!({}));
    let sent = speaking(&mut world, &session, 0);
    world.leave(sent);
    world.complete("a", |reply| {
        for step in 2..6 {
            reply.progress(f64::from(step), None, None);
        }
        reply.done("done");
    });
    for (session, last, status) in [
        (&session, "1-4", 200),
        (&session, "1-3", 400),
        (&session, "1-0", 400),
        (&session, "1-7", 400),
        (&session, "2-1", 400),
        (&session, "r4-2", 400),
        (&session, "", 400),
        (&session, "1-", 400),
        (&session, "1-99999999999999999999", 400),
        (&other, "1-4", 400),
    ] {
        let again = resume(&mut world, session, 1, last);
        assert_eq!(world.heard(again).status, status, "{last}");
    }
}

#[test]
fn a_client_that_comes_back_before_its_leaving_was_noticed_takes_the_stream_over() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let old = speaking(&mut world, &session, 0);
    let seen = ids(&world.heard(old)).pop().expect("an event");
    let new = resume(&mut world, &session, 1, &seen);
    assert!(!world.heard(old).open, "one stream, one place");
    // Now it is noticed, and must not take the new place away.
    world.leave(old);
    world.finish("a", "done");
    assert_eq!(world.heard(new).text(), "done");
    assert!(!world.heard(new).open);
    session.delete(&mut world).send();
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_dropped_stream_primes_the_client_and_is_fetched_later() {
    for (noisy, shard, other) in [(false, 0, 1), (false, 1, 0), (true, 0, 0), (true, 1, 1)] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let arguments = json!({ "key": "a", "noisy": noisy });
        let ask = session.call(&mut world, 4, "drop", arguments).on(shard);
        let sent = ask.meta("progressToken", json!("p")).send();
        let heard = world.heard(sent);
        assert!(heard.is_stream() && !heard.open, "{heard:?}");
        let events = heard.events();
        assert_eq!(events.last().and_then(|event| event.retry.as_deref()), Some("1500"));
        if !noisy {
            assert_eq!(events[0].data.as_deref(), Some(""), "the priming event");
        }
        let last = ids(&heard).pop().expect("something to resume from");
        let early = resume(&mut world, &session, other, &last);
        assert!(world.heard(early).open);
        world.leave(early);
        world.finish("a", "fetched");
        let again = resume(&mut world, &session, other, &last);
        assert_eq!(
            (world.heard(again).text().as_str(), world.heard(again).open),
            ("fetched", false)
        );
        session.delete(&mut world).send();
        assert_eq!(world.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn clients_that_do_not_know_of_dropped_streams_keep_theirs() {
    for version in ["2025-03-26", "2025-06-18"] {
        let mut world = World::new();
        let session = world.initialize(0, version, json!({}));
        let sent = session.call(&mut world, 4, "drop", json!({ "key": "a" })).send();
        assert_eq!(world.heard(sent).status, 0, "{version}");
        world.finish("a", "direct");
        assert_eq!(world.heard(sent).text(), "direct", "{version}");
    }
    let mut world = World::new();
    let sent =
        world.modern(1, "tools/call", super::ask::tool("drop", json!({ "key": "a" }))).send();
    world.finish("a", "direct");
    assert_eq!(world.heard(sent).text(), "direct");
}

#[test]
fn streams_cancelled_while_their_client_was_away_are_over() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    // More than a session remembers: none of them may stay behind.
    for round in 0..40 {
        let sent = speaking(&mut world, &session, round % 2);
        let seen = ids(&world.heard(sent)).pop().unwrap_or_else(|| panic!("round {round}"));
        world.leave(sent);
        let cancel = notification("notifications/cancelled", json!({ "requestId": 4 }));
        session.post(&mut world, cancel).send();
        drop(world.desk.take("a"));
        let again = resume(&mut world, &session, 0, &seen);
        assert_eq!(world.heard(again).status, 204, "nothing more will come");
    }
    assert!(world.is_idle());
}

#[test]
fn a_session_has_a_bound_of_streams_and_calls_beyond_it_answer_with_json() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let mut open = Vec::new();
    for id in 0..33 {
        let ask = session.call(&mut world, id, "noisy", json!({ "key": "a" }));
        open.push(ask.meta("progressToken", json!(1)).send());
    }
    assert!(open[..32].iter().all(|sent| world.heard(*sent).open));
    assert_eq!(world.heard(open[32]).status, 0);
    assert_eq!(world.errors("session_streams_full"), 1);
    for sent in open {
        world.finish("a", "done");
        assert_eq!(world.heard(sent).text(), "done");
    }
}
