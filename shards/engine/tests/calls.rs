//! Calls: inline and deferred, what they say on their way, and how they end early.

use erlmcp_catalog::demo;
use erlmcp_catalog::protocol::LogLevel;
use serde_json::{Value, json};

use super::ask::{Heard, Legacy, META, notification, tool};
use super::world::{Sent, World};

const NOTHING: [String; 0] = [];

fn later(world: &mut World, id: impl Into<Value>, key: &str) -> Sent {
    world.modern(id, "tools/call", tool("later", json!({ "key": key }))).send()
}

/// The progress values a client was told.
fn progress(heard: &Heard) -> Vec<f64> {
    let progress = |message: Value| message["params"]["progress"].as_f64();
    heard.messages().into_iter().filter_map(progress).collect()
}

#[test]
fn a_deferred_call_is_answered_with_json_if_nothing_came_first() {
    let mut world = World::new();
    let sent = later(&mut world, 1, "a");
    assert_eq!(world.heard(sent).status, 0);
    assert!(!world.is_idle());
    world.finish("a", "at last");
    let heard = world.heard(sent);
    assert_eq!((heard.text().as_str(), heard.is_stream()), ("at last", false));
    assert_eq!(world.leftovers(), NOTHING);
    assert!(world.is_idle());
}

#[test]
fn blocking_work_runs_off_the_shard() {
    let mut world = World::new();
    let sent = world.modern(1, "tools/call", tool("slow", json!({}))).send();
    assert_eq!(world.heard(sent).status, 0);
    world.run_jobs();
    assert_eq!(world.heard(sent).text(), "slow and steady");
    world.jobs.refuse();
    let refused = world.modern(2, "tools/call", tool("slow", json!({}))).reply();
    assert_eq!(refused.result()["isError"], true, "{refused:?}");
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn the_first_notification_turns_the_answer_into_a_stream() {
    let mut world = World::serving(demo().expect("the demo"));
    let call = tool("wait", json!({ "ms": 1000 }));
    let sent = world.modern(1, "tools/call", call.clone()).meta("progressToken", json!("p")).send();
    let quiet = world.modern(2, "tools/call", call).send();
    world.advance(99);
    assert_eq!(world.heard(sent).status, 0);
    world.advance(1);
    assert!(world.heard(sent).is_stream());
    assert_eq!(progress(&world.heard(sent)), [1.0]);
    world.advance(900);
    let heard = world.heard(sent);
    assert_eq!(progress(&heard), (1..=10).map(f64::from).collect::<Vec<_>>());
    assert_eq!((heard.text().as_str(), heard.open), ("Waited 1000 ms", false));
    assert_eq!(heard.methods().last().map(String::as_str), Some("="), "the answer comes last");
    assert!(!world.heard(quiet).is_stream(), "no token, no progress");
    assert_eq!(world.heard(quiet).text(), "Waited 1000 ms");
}

#[test]
fn progress_that_does_not_increase_is_dropped() {
    let mut world = World::new();
    let steps = json!({ "steps": [1, 1, 0.5, 2, -3, 2.5, 2.5] });
    let ask = world.modern(1, "tools/call", tool("progress", steps.clone()));
    let heard = ask.meta("progressToken", json!(1)).reply();
    assert_eq!(progress(&heard), [1.0, 2.0, 2.5]);
    assert_eq!(world.errors("progress_not_increasing"), 4);
    let session = world.initialize(0, "2025-06-18", json!({}));
    let ask = session.call(&mut world, 1, "progress", steps).on(1);
    let heard = ask.meta("progressToken", json!(1)).reply();
    assert_eq!(progress(&heard), [1.0, 2.0, 2.5]);
}

#[test]
fn tokens_and_ids_come_back_exactly_as_they_were() {
    let mut world = World::new();
    for raw in ["1", "\"1\"", "9007199254740993", "\"\\u0041\"", "-0", "1.0", "\"\""] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{raw},"method":"tools/call","params":{{"name":"survey","_meta":{{"{META}protocolVersion":"2026-07-28","{META}clientCapabilities":{{}},"progressToken":{raw}}}}}}}"#
        );
        let ask = world.modern(0, "tools/call", tool("survey", json!({}))).body(body);
        let heard = ask.reply();
        assert!(heard.body.contains(&format!("\"progressToken\":{raw},")), "{raw}: {}", heard.body);
        assert!(heard.body.contains(&format!("\"id\":{raw},")), "{raw}: {}", heard.body);
    }
}

#[test]
fn modern_clients_hear_the_levels_they_asked_for() {
    let mut world = World::new();
    for (index, level) in LogLevel::ALL.into_iter().enumerate() {
        let ask = world.modern(1, "tools/call", tool("log_all", json!({})));
        let heard = ask.meta(&format!("{META}logLevel"), json!(level.as_str())).reply();
        let levels: Vec<Value> =
            heard.messages().iter().map(|message| message["params"]["level"].clone()).collect();
        let expect = LogLevel::ALL[index..].iter().map(|level| json!(level.as_str()));
        assert_eq!(levels, expect.chain([Value::Null]).collect::<Vec<_>>());
    }
    let heard = world.modern(1, "tools/call", tool("log_all", json!({}))).reply();
    assert!(!heard.is_stream(), "no level, no messages");
}

#[test]
fn legacy_sessions_hear_from_info_up_until_they_set_a_level_of_their_own() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let other = world.initialize(0, "2025-11-25", json!({}));
    let count = |world: &mut World, session: &Legacy| {
        session.call(world, 1, "log_all", json!({})).on(1).reply().messages().len() - 1
    };
    assert_eq!(count(&mut world, &session), 7);
    for (index, level) in LogLevel::ALL.into_iter().enumerate() {
        let params = json!({ "level": level.as_str() });
        session.ask(&mut world, 1, "logging/setLevel", params).on(index as u16 % 2).send();
        assert_eq!(count(&mut world, &session), 8 - index);
    }
    assert_eq!(count(&mut world, &other), 7, "a level is of one session");
}

#[test]
fn a_level_set_while_a_call_runs_counts() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let sent = session.call(&mut world, 1, "later", json!({ "key": "a" })).send();
    session.ask(&mut world, 2, "logging/setLevel", json!({ "level": "error" })).send();
    world.complete("a", |reply| {
        reply.log(LogLevel::Warning, None, "unheard".into());
        reply.log(LogLevel::Error, None, "heard".into());
        reply.done("done");
    });
    let heard = world.heard(sent);
    assert_eq!(heard.methods(), ["notifications/message", "="]);
    assert_eq!(heard.messages()[0]["params"]["data"], "heard");
}

#[test]
fn a_call_that_is_silent_for_long_gets_its_stream_opened() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let modern = later(&mut world, 1, "a");
    let legacy = session.call(&mut world, 1, "later", json!({ "key": "b" })).on(1).send();
    let ask = world.modern(2, "tools/call", tool("later", json!({ "key": "c" })));
    let json_only = ask.header("Accept", "application/json").send();
    world.advance(14_999);
    for sent in [modern, legacy, json_only] {
        assert_eq!(world.heard(sent).status, 0);
    }
    world.advance(1);
    for sent in [modern, legacy] {
        assert!(world.heard(sent).is_stream() && world.heard(sent).open);
    }
    assert_eq!(world.heard(json_only).status, 0, "it can wait only");
    for key in ["a", "b", "c"] {
        world.finish(key, "done");
    }
    for sent in [modern, legacy, json_only] {
        assert_eq!((world.heard(sent).text().as_str(), world.heard(sent).open), ("done", false));
    }
    assert!(!world.heard(json_only).is_stream());
}

#[test]
fn an_error_after_the_stream_began_travels_in_the_stream() {
    let mut world = World::new();
    let ask = world.modern(1, "tools/call", tool("noisy", json!({ "key": "a" })));
    let sent = ask.meta("progressToken", json!(1)).send();
    world.complete("a", drop);
    let heard = world.heard(sent);
    assert_eq!((heard.status, heard.code(), heard.open), (200, -32603, false));
    assert!(heard.is_stream());
}

#[test]
fn a_modern_client_that_leaves_has_cancelled() {
    for noisy in [false, true] {
        let mut world = World::new();
        let name = if noisy { "noisy" } else { "later" };
        let ask = world.modern(1, "tools/call", tool(name, json!({ "key": "a" })));
        let sent = ask.meta("progressToken", json!(1)).send();
        assert_eq!(world.heard(sent).open, noisy);
        world.leave(sent);
        assert_eq!(world.leftovers(), NOTHING);
        world.complete("a", |reply| {
            assert!(reply.is_cancelled());
            assert!(!reply.done("too late"));
        });
        assert!(world.is_idle());
    }
}

#[test]
fn a_legacy_client_that_leaves_has_not() {
    for shard in [0, 1] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let ask = session.call(&mut world, 4, "noisy", json!({ "key": "a" })).on(shard);
        let sent = ask.meta("progressToken", json!(1)).send();
        let last = world.heard(sent).events().pop().and_then(|event| event.id).expect("an id");
        world.leave(sent);
        world.complete("a", |reply| {
            assert!(!reply.is_cancelled());
            assert!(reply.done("worth coming back for"));
        });
        let heard = session.get(&mut world).on(1 - shard).header("Last-Event-ID", &last).reply();
        assert_eq!((heard.text().as_str(), heard.open), ("worth coming back for", false));
        assert_eq!(heard.last()["id"], 4);
        assert!(world.is_idle());
    }
}

#[test]
fn a_legacy_client_that_leaves_before_a_stream_began_loses_the_answer_and_nothing_else() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let sent = session.call(&mut world, 1, "later", json!({ "key": "a" })).on(1).send();
    world.leave(sent);
    world.advance(20_000);
    world.complete("a", |reply| {
        assert!(!reply.is_cancelled());
        reply.progress(1.0, None, None);
        reply.done("nobody");
    });
    assert_eq!(world.errors("answer_without_stream"), 1);
    session.delete(&mut world).send();
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn a_cancelled_call_is_answered_with_silence() {
    for (shard, name) in [(0, "later"), (1, "later"), (0, "noisy"), (1, "noisy")] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", json!({}));
        let ask = session.call(&mut world, "x", name, json!({ "key": "a" })).on(shard);
        let sent = ask.meta("progressToken", json!(1)).send();
        for wrong in [json!(5), json!("y"), json!(null), json!({}), json!([1])] {
            let message = notification("notifications/cancelled", json!({ "requestId": wrong }));
            assert_eq!(session.post(&mut world, message).reply().status, 202);
        }
        assert!(!world.is_idle());
        let params = json!({ "requestId": "x", "reason": "tired" });
        let message = notification("notifications/cancelled", params);
        assert_eq!(session.post(&mut world, message).on(1 - shard).reply().status, 202);
        let heard = world.heard(sent);
        assert_eq!((heard.status, heard.open), (200, false), "{heard:?}");
        assert!(!heard.methods().contains(&"=".to_owned()), "{heard:?}");
        assert!(world.is_idle());
        world.complete("a", |reply| {
            assert!(reply.is_cancelled());
            assert!(!reply.done("too late"));
        });
        assert_eq!(world.heard(sent).body, heard.body);
    }
}

#[test]
fn one_session_cannot_cancel_the_calls_of_another_nor_a_modern_post_any() {
    let mut world = World::new();
    let (mine, theirs) = (
        world.initialize(0, "2025-11-25", json!({})),
        world.initialize(0, "2025-11-25", json!({})),
    );
    let legacy = mine.call(&mut world, 1, "later", json!({ "key": "a" })).send();
    let modern = later(&mut world, 1, "b");
    let message = notification("notifications/cancelled", json!({ "requestId": 1 }));
    theirs.post(&mut world, message.clone()).send();
    let ask = world.post("/mcp").json(message).header("MCP-Protocol-Version", "2026-07-28");
    assert_eq!(ask.reply().status, 202);
    world.finish("a", "mine");
    world.finish("b", "modern");
    assert_eq!(
        (world.heard(legacy).text(), world.heard(modern).text()),
        ("mine".into(), "modern".into())
    );
}

#[test]
fn the_same_id_may_be_in_flight_on_many_connections_and_never_mixes() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let keys = ["a", "b", "c", "d"];
    let mut sent: Vec<Sent> = keys[..3].iter().map(|key| later(&mut world, 1, key)).collect();
    sent.push(session.call(&mut world, 1, "later", json!({ "key": "d" })).send());
    world.finish("c", "for c");
    world.leave(sent[0]);
    world.finish("d", "for d");
    world.finish("b", "for b");
    assert_eq!(world.heard(sent[0]).status, 0);
    for (sent, text) in sent[1..].iter().zip(["for b", "for c", "for d"]) {
        assert_eq!(world.heard(*sent).text(), text);
    }
}

#[test]
fn an_id_in_flight_in_a_session_cannot_be_used_again() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({}));
    let first = session.call(&mut world, 1, "later", json!({ "key": "a" })).send();
    let twice = session.call(&mut world, 1, "echo", json!({ "text": "x" })).on(1).reply();
    assert_eq!((twice.status, twice.code()), (400, -32600));
    let other = session.call(&mut world, "1", "echo", json!({ "text": "x" })).reply();
    assert_eq!(other.text(), "x", "a string is another id");
    world.finish("a", "done");
    assert_eq!(world.heard(first).text(), "done");
    assert_eq!(session.call(&mut world, 1, "echo", json!({ "text": "x" })).reply().text(), "x");
}

#[test]
fn a_session_has_its_own_bound_of_calls() {
    let mut world = World::tuned(|limits| limits.calls_per_client_max = 2);
    let session = world.initialize(0, "2025-11-25", json!({}));
    for id in [1, 2] {
        session.call(&mut world, id, "later", json!({ "key": "a" })).send();
    }
    let third = session.call(&mut world, 3, "echo", json!({ "text": "x" })).on(1).reply();
    assert_eq!((third.status, third.code()), (503, -32603));
    assert!(third.header("retry-after").is_some());
    let other = world.initialize(0, "2025-11-25", json!({}));
    assert_eq!(other.call(&mut world, 3, "echo", json!({ "text": "x" })).reply().text(), "x");
    world.finish("a", "done");
    assert_eq!(session.call(&mut world, 3, "echo", json!({ "text": "x" })).reply().text(), "x");
}

#[test]
fn a_handler_that_panics_harms_its_own_caller_only() {
    for name in ["panic", "defer_and_panic"] {
        let mut world = World::new();
        let before = later(&mut world, 1, "before");
        world.slow_mail = true;
        let broken = world.modern(2, "tools/call", tool(name, json!({}))).send();
        // The ticket of the broken call is free again, and something was said through its reply.
        let after = later(&mut world, 3, "after");
        world.slow_mail = false;
        world.pump();
        assert_eq!(world.heard(broken).code(), -32603);
        assert_eq!((world.heard(before).status, world.heard(after).status), (0, 0), "{name}");
        world.finish("before", "before");
        world.finish("after", "after");
        assert_eq!(world.heard(before).text(), "before");
        assert_eq!(world.heard(after).text(), "after");
    }
}

#[test]
fn a_reply_that_was_not_needed_cannot_answer_for_another_call() {
    let mut world = World::new();
    let double = tool("double", json!({ "key": "stale", "keep": true }));
    let first = world.modern(1, "tools/call", double).reply();
    assert_eq!(first.text(), "answered at once");
    let sent = later(&mut world, 2, "a");
    world.complete("stale", |reply| {
        assert!(reply.is_cancelled());
        reply.done("of somebody else");
    });
    assert_eq!(world.heard(sent).status, 0);
    world.finish("a", "mine");
    assert_eq!(world.heard(sent).text(), "mine");
}

#[test]
fn a_reply_that_is_dropped_is_an_internal_error() {
    let mut world = World::new();
    let sent = later(&mut world, 1, "a");
    world.complete("a", drop);
    let heard = world.heard(sent);
    assert_eq!((heard.status, heard.code()), (200, -32603));
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn events_after_the_answer_are_not_written() {
    let mut world = World::new();
    let ask = world.modern(1, "tools/call", tool("noisy", json!({ "key": "a" })));
    let sent = ask.meta("progressToken", json!(1)).send();
    world.leave(sent);
    world.complete("a", |reply| {
        reply.progress(2.0, None, None);
        reply.done("x");
    });
    assert_eq!(progress(&world.heard(sent)), [1.0]);
}

#[test]
fn what_is_counted_is_what_happened() {
    let mut world = World::new();
    world.modern(1, "tools/call", tool("echo", json!({ "text": "x" }))).send();
    world.modern(2, "tools/call", tool("broken", json!({}))).send();
    world.modern(3, "tools/call", tool("fly", json!({}))).send();
    world
        .modern(4, "tools/call", tool("lock_crane", json!({ "crane": 7 })))
        .client(json!({ "elicitation": {} }))
        .send();
    let sent = later(&mut world, 5, "a");
    world.leave(sent);
    let counted = world.wires[0].counters.requests["tools/call"];
    assert_eq!(counted[..5], [1; 5], "ok, tool_error, rpc_error, cancelled, input_required");
    let tools: Vec<&String> = world.wires[0].counters.tool_latency_us.keys().collect();
    assert_eq!(tools, ["broken", "echo"]);
}
