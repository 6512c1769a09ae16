//! Message pipes (digest d): one connection, both eras, and the end of it the end of everything on it.

use serde_json::{Value, json};

use super::ask::{hello, modern, notification, request, response, tool};
use super::world::{PipeId, World};
use crate::net::{CloseReason, PipeKind};

const KINDS: [PipeKind; 3] = [PipeKind::Lines, PipeKind::Stdio, PipeKind::WebSocket];
const NOTHING: [Value; 0] = [];

fn legacy(world: &mut World, kind: PipeKind, version: &str, client: Value) -> PipeId {
    let pipe = world.pipe(0, kind);
    let told = world.tell(pipe, &request(0, "initialize", hello(version, client)));
    assert_eq!(told["result"]["protocolVersion"], version);
    world.say(pipe, &notification("notifications/initialized", json!({})));
    assert_eq!(world.told(pipe), NOTHING);
    pipe
}

fn later(key: &str) -> Value {
    tool("later", json!({ "key": key }))
}

#[test]
fn a_probe_leaves_the_pipe_open_for_the_handshake_and_for_modern_requests() {
    for kind in KINDS {
        let mut world = World::new();
        let pipe = world.pipe(0, kind);
        let probe = modern("p", "server/discover", json!({}));
        assert_eq!(world.tell(pipe, &probe)["result"]["resultType"], "complete");
        let broken = world.tell(pipe, &request("q", "server/discover", json!({})));
        assert_eq!((&broken["error"]["code"], &broken["id"]), (&json!(-32602), &json!("q")));
        assert!(world.leftovers().iter().all(|line| line.ends_with("pipes")));
        let hello = request(1, "initialize", hello("2025-06-18", json!({})));
        assert_eq!(world.tell(pipe, &hello)["result"]["protocolVersion"], "2025-06-18");
        assert_eq!(world.tell(pipe, &probe)["result"]["resultType"], "complete");
        let legacy = world.tell(pipe, &request(2, "tools/list", json!({})));
        assert!(legacy["result"].get("resultType").is_none());
        world.hang_up(pipe);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn before_the_handshake_only_pings_and_enveloped_requests_are_served() {
    let mut world = World::new();
    let pipe = world.pipe(0, PipeKind::Lines);
    assert_eq!(world.tell(pipe, &request(1, "ping", json!({})))["result"], json!({}));
    for method in ["tools/list", "tools/call", "no/such"] {
        let told = world.tell(pipe, &request(2, method, json!({})));
        assert_eq!(told["error"]["code"], -32602, "{method}");
        let said = told["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains("_meta"), "{method}: {said}");
    }
    for silent in [
        notification("notifications/initialized", json!({})),
        notification("notifications/cancelled", json!({ "requestId": 4 })),
        response(&json!("s-1"), json!({})),
    ] {
        world.say(pipe, &silent);
        assert_eq!(world.told(pipe), NOTHING, "{silent}");
    }
    for method in ["ping", "initialize", "resources/subscribe"] {
        let told = world.tell(pipe, &modern(3, method, hello("2025-11-25", json!({}))));
        assert_eq!(told["error"]["code"], -32601, "{method}");
    }
}

#[test]
fn eras_interleave_and_answers_find_their_ids() {
    let mut world = World::new();
    let pipe = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({}));
    world.say(pipe, &request("l", "tools/call", later("legacy")));
    world.say(pipe, &modern("m", "tools/call", later("modern")));
    let echo = tool("echo", json!({ "text": "x" }));
    assert_eq!(world.tell(pipe, &request(1, "tools/call", echo.clone()))["id"], 1);
    assert_eq!(world.tell(pipe, &modern(2, "tools/call", echo))["id"], 2);
    world.finish("modern", "modern");
    world.finish("legacy", "legacy");
    let told = world.told(pipe);
    assert_eq!((&told[0]["id"], &told[1]["id"]), (&json!("m"), &json!("l")));
    assert_eq!(told[0]["result"]["resultType"], "complete");
    assert!(told[1]["result"].get("resultType").is_none());
}

#[test]
fn an_id_in_flight_is_refused_in_either_era() {
    type Write = fn(i32, Value) -> Value;
    let write: [Write; 2] =
        [|id, p| request(id, "tools/call", p), |id, p| modern(id, "tools/call", p)];
    for first in write {
        for second in write {
            let mut world = World::new();
            let pipe = legacy(&mut world, PipeKind::WebSocket, "2025-11-25", json!({}));
            world.say(pipe, &first(1, later("a")));
            let told = world.tell(pipe, &second(1, later("b")));
            assert_eq!((&told["error"]["code"], &told["id"]), (&json!(-32600), &json!(1)));
            world.finish("a", "done");
            assert_eq!(world.told(pipe)[0]["result"]["content"][0]["text"], "done");
            world.say(pipe, &second(1, later("b")));
            world.finish("b", "again");
            assert_eq!(world.told(pipe).len(), 1);
        }
    }
}

#[test]
fn a_cancelled_call_of_either_era_is_silent() {
    for era in ["legacy", "modern"] {
        let mut world = World::new();
        let pipe = legacy(&mut world, PipeKind::Stdio, "2025-11-25", json!({}));
        world.say(
            pipe,
            &match era {
                "legacy" => request(3, "tools/call", later("a")),
                _ => modern(3, "tools/call", later("a")),
            },
        );
        world.say(pipe, &notification("notifications/cancelled", json!({ "requestId": "3" })));
        assert!(!world.is_idle(), "a string is another id");
        world.say(pipe, &notification("notifications/cancelled", json!({ "requestId": 3 })));
        assert!(world.is_idle());
        world.complete("a", |reply| {
            assert!(reply.is_cancelled());
            reply.done("too late");
        });
        assert_eq!(world.told(pipe), NOTHING);
    }
}

#[test]
fn progress_logs_and_requests_come_between_the_answers() {
    let mut world = World::new();
    let pipe = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({ "elicitation": {} }));
    let mut survey = tool("survey", json!({}));
    survey["_meta"] = json!({ "progressToken": 9 });
    world.say(pipe, &request(1, "tools/call", survey));
    let methods: Vec<Value> = world.told(pipe).iter().map(|m| m["method"].clone()).collect();
    let (progress, log) = ("notifications/progress", "notifications/message");
    assert_eq!(methods, [json!(progress), json!(log), json!(progress), Value::Null]);
    let asked =
        world.tell(pipe, &request(2, "tools/call", tool("lock_crane", json!({ "crane": 7 }))));
    assert_eq!(asked["method"], "elicitation/create");
    let answer = json!({ "action": "accept", "content": { "reason": "storm" } });
    let told = world.tell(pipe, &response(&asked["id"], answer));
    assert_eq!(told["result"]["content"][0]["text"], "Crane 7 locked: storm");
    // Modern calls on the same pipe never get a request of ours.
    let lock = tool("lock_crane", json!({ "crane": 7 }));
    assert_eq!(world.tell(pipe, &modern(3, "tools/call", lock))["error"]["code"], -32021);
}

#[test]
fn a_legacy_pipe_hears_of_changes_and_a_modern_one_only_if_it_listens() {
    let mut world = World::new();
    let old = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({}));
    let new = world.pipe(1, PipeKind::Lines);
    world.tell(new, &modern(1, "server/discover", json!({})));
    let subscribe = request(1, "resources/subscribe", json!({ "uri": "crane://7/state" }));
    assert_eq!(world.tell(old, &subscribe)["result"], json!({}));
    world.publish("crane://7/state");
    world.publish("crane://8/state");
    world.add_tool("crane_paint");
    let methods: Vec<Value> = world.told(old).iter().map(|m| m["method"].clone()).collect();
    assert_eq!(methods, ["notifications/resources/updated", "notifications/tools/list_changed"]);
    assert_eq!(world.told(new), NOTHING);
}

#[test]
fn a_second_initialize_renegotiates() {
    let mut world = World::new();
    let pipe = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({}));
    world.tell(pipe, &request(1, "logging/setLevel", json!({ "level": "emergency" })));
    let wrong = world.tell(pipe, &request(2, "initialize", json!({})));
    assert_eq!(wrong["error"]["code"], -32602);
    let again = world.tell(pipe, &request(3, "initialize", hello("2024-11-05", json!({}))));
    assert_eq!(again["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(world.wires[0].counters.sessions_active, 1);
    world.say(pipe, &request(4, "tools/call", tool("log_all", json!({}))));
    assert_eq!(world.told(pipe).len(), 8, "the level begins anew");
}

#[test]
fn noise_is_answered_except_on_stdio() {
    for kind in KINDS {
        let mut world = World::new();
        let pipe = world.pipe(0, kind);
        world.say_text(pipe, "what?");
        let told = world.told(pipe);
        if kind == PipeKind::Stdio {
            assert_eq!(told, NOTHING);
        } else {
            assert_eq!((told.len(), &told[0]["error"]["code"]), (1, &json!(-32700)));
            assert!(told[0].get("id").is_none());
        }
        // JSON of a wrong shape is answered everywhere, with the id if there is one.
        for (text, id) in
            [("5", None), ("{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"x\"}", Some(7))]
        {
            world.say_text(pipe, text);
            let told = world.told(pipe);
            assert_eq!((told.len(), &told[0]["error"]["code"]), (1, &json!(-32600)), "{text}");
            assert_eq!(told[0].get("id"), id.map(Value::from).as_ref(), "{text}");
        }
        world.oversize(pipe);
        let told = world.told(pipe);
        assert_eq!(told[0]["error"]["code"], -32600);
        assert_eq!(world.tell(pipe, &request(1, "ping", json!({})))["result"], json!({}));
    }
}

#[test]
fn a_pipe_whose_peer_said_its_last_word_closes_when_all_is_answered() {
    for era in ["legacy", "modern", "batch"] {
        let mut world = World::new();
        let pipe = legacy(&mut world, PipeKind::Lines, "2025-03-26", json!({}));
        world.say(
            pipe,
            &match era {
                "legacy" => request(1, "tools/call", later("a")),
                "modern" => modern(1, "tools/call", later("a")),
                _ => json!([request(1, "tools/call", later("a"))]),
            },
        );
        world.eof(pipe);
        assert_eq!(world.closed(pipe), None, "{era}");
        world.finish("a", "done");
        assert_eq!(world.told(pipe).len(), 1, "{era}");
        assert_eq!(world.closed(pipe), Some(CloseReason::Done), "{era}");
        world.hang_up(pipe);
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{era}");
    }
    let mut world = World::new();
    let idle = world.pipe(0, PipeKind::Stdio);
    world.tell(idle, &modern(1, "subscriptions/listen", json!({ "notifications": {} })));
    world.eof(idle);
    assert_eq!(world.closed(idle), Some(CloseReason::Done), "who listens only waits for nothing");
}

#[test]
fn a_pipe_that_breaks_cancels_everything_on_it() {
    let mut world = World::new();
    let pipe = legacy(&mut world, PipeKind::Lines, "2025-03-26", json!({}));
    world.say(pipe, &request(1, "tools/call", later("a")));
    world.say(pipe, &modern(2, "tools/call", later("b")));
    world.say(pipe, &json!([request(3, "tools/call", later("c")), request(4, "ping", json!({}))]));
    world.say(pipe, &modern(5, "subscriptions/listen", json!({ "notifications": {} })));
    let other = world.pipe(0, PipeKind::Lines);
    world.say(other, &modern(1, "tools/call", later("d")));
    world.hang_up(pipe);
    for key in ["a", "b", "c"] {
        assert!(world.desk.take(key).is_cancelled(), "{key}");
    }
    world.finish("d", "of another pipe");
    assert_eq!(world.told(other).len(), 1);
    world.hang_up(other);
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_pipe_has_its_own_bound_of_calls() {
    for era in ["legacy", "modern"] {
        let mut world = World::tuned(|limits| limits.calls_per_client_max = 2);
        let pipe = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({}));
        let call = |id: i32| match era {
            "legacy" => request(id, "tools/call", later("a")),
            _ => modern(id, "tools/call", later("a")),
        };
        world.say(pipe, &call(1));
        world.say(pipe, &call(2));
        assert_eq!(world.tell(pipe, &call(3))["error"]["code"], -32603, "{era}");
        world.finish("a", "done");
        world.told(pipe);
        world.say(pipe, &call(3));
        assert_eq!(world.told(pipe), NOTHING, "{era}");
    }
}

#[test]
fn sessions_of_pipes_count_too() {
    let mut world = World::tuned(|limits| limits.sessions_max = 1);
    let first = legacy(&mut world, PipeKind::Lines, "2025-11-25", json!({}));
    let second = world.pipe(0, PipeKind::Lines);
    let hello = request(1, "initialize", hello("2025-11-25", json!({})));
    world.advance(60_000);
    assert_eq!(world.tell(second, &hello)["error"]["code"], -32603, "a pipe is never evicted");
    assert_eq!(world.tell(second, &modern(2, "server/discover", json!({})))["id"], 2);
    world.hang_up(first);
    assert!(world.tell(second, &hello).get("result").is_some());
}
