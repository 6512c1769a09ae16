//! Calls that ask their client something (digest c.11): by `input_required` in the modern era, by real
//! requests on the call's own stream in the legacy one. The same handlers serve both.

use serde_json::{Value, json};

use super::ask::{Heard, Legacy, notification, response, tool};
use super::world::{Setup, World};

const NOTHING: [String; 0] = [];

fn forms() -> Value {
    json!({ "elicitation": {} })
}

fn accepted(reason: &str) -> Value {
    json!({ "action": "accept", "content": { "reason": reason } })
}

/// The first round of `lock_crane`, and its state.
#[track_caller]
fn first_round(world: &mut World) -> (Heard, String) {
    let ask = world.modern(30, "tools/call", tool("lock_crane", json!({ "crane": 7, "by": "me" })));
    let heard = ask.client(forms()).reply();
    let state = heard.result()["requestState"].as_str().expect("a state").to_owned();
    (heard, state)
}

fn retry(state: &str) -> Value {
    json!({
        "name": "lock_crane",
        "arguments": { "crane": 7, "by": "me" },
        "inputResponses": { "reason": accepted("storm") },
        "requestState": state,
    })
}

#[test]
fn a_modern_call_is_asked_back_and_retried_anywhere() {
    for shard in [0, 1] {
        let mut world = World::new();
        let (heard, state) = first_round(&mut world);
        assert_eq!((heard.status, heard.is_stream()), (200, false));
        assert_eq!(heard.result()["resultType"], "input_required");
        let asked = &heard.result()["inputRequests"]["reason"];
        assert_eq!(asked["method"], "elicitation/create");
        assert_eq!(asked["params"]["mode"], "form");
        assert!(asked.get("id").is_none() && asked.get("jsonrpc").is_none());
        assert!(heard.result().get("ttlMs").is_none());
        assert_eq!(world.leftovers(), NOTHING, "nothing stays open");
        let retry = world.modern(31, "tools/call", retry(&state)).client(forms()).on(shard).reply();
        assert_eq!(retry.text(), "Crane 7 locked: storm");
        assert_eq!(retry.result()["resultType"], "complete");
    }
}

#[test]
fn the_order_of_arguments_does_not_matter_to_a_state_but_their_values_do() {
    let mut world = World::new();
    let (_, state) = first_round(&mut world);
    type Change = fn(&mut Value);
    let cases: [(&str, Change, i64); 7] = [
        ("nothing", |_| {}, 0),
        ("other arguments", |p| p["arguments"]["crane"] = json!(8), -32602),
        ("one argument more", |p| p["arguments"]["x"] = json!(1), -32602),
        ("no arguments", |p| drop(p.as_object_mut().map(|p| p.remove("arguments"))), -32602),
        ("another tool", |p| p["name"] = json!("stubborn"), -32602),
        ("a number for a state", |p| p["requestState"] = json!(5), -32602),
        ("an empty state", |p| p["requestState"] = json!(""), -32602),
    ];
    for (what, change, code) in cases {
        let mut params = retry(&state);
        change(&mut params);
        let heard = world.modern(31, "tools/call", params).client(forms()).reply();
        assert_eq!((heard.status, heard.code()), (200, code), "{what}: {}", heard.body);
    }
    let mut anew = retry(&state);
    (anew["requestState"], anew["inputResponses"]) = (Value::Null, Value::Null);
    let heard = world.modern(31, "tools/call", anew).client(forms()).reply();
    assert_eq!(heard.result()["resultType"], "input_required", "null is a first round");
    let mut ask = world.modern(31, "tools/call", retry(&state)).client(forms());
    ask = ask.edit(|message| {
        let arguments = json!({ "by": "me", "crane": 7 });
        message["params"]["arguments"] = arguments;
    });
    assert_eq!(ask.reply().text(), "Crane 7 locked: storm");
}

#[test]
fn a_state_that_was_touched_is_refused() {
    let mut world = World::new();
    let (_, state) = first_round(&mut world);
    for at in 0..state.len() {
        let mut touched = state.clone().into_bytes();
        touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
        let touched = String::from_utf8(touched).expect("ASCII");
        let heard = world.modern(31, "tools/call", retry(&touched)).client(forms()).reply();
        assert_eq!((heard.status, heard.code()), (200, -32602), "byte {at}");
        assert_eq!(heard.last()["error"].get("data"), None, "no hint at why");
    }
    assert_eq!(world.errors("request_state_refused"), state.len() as u64);
    let cut = world.modern(31, "tools/call", retry(&state[..state.len() - 2])).client(forms());
    assert_eq!(cut.reply().code(), -32602);
}

#[test]
fn a_state_expires_exactly_when_its_time_is_over() {
    let after = |ms: u64| {
        let mut world = World::tuned(|limits| limits.request_state_ttl_ms = 1000);
        let (_, state) = first_round(&mut world);
        world.advance(ms);
        world.modern(31, "tools/call", retry(&state)).client(forms()).reply().code()
    };
    assert_eq!((after(999), after(1000)), (0, -32602));
}

#[test]
fn a_state_is_as_good_on_another_instance_with_the_same_keys() {
    let (_, state) = first_round(&mut World::new());
    let mut other = World::with(Setup { epoch: 99, seed: 5, ..Setup::default() });
    let heard = other.modern(31, "tools/call", retry(&state)).client(forms()).reply();
    assert_eq!(heard.text(), "Crane 7 locked: storm");
}

#[test]
fn missing_answers_are_asked_for_again_and_unknown_ones_ignored() {
    let mut world = World::new();
    let (_, state) = first_round(&mut world);
    for responses in [json!({}), json!({ "other": {} }), json!({ "reason": {} })] {
        let mut params = retry(&state);
        params["inputResponses"] = responses.clone();
        let heard = world.modern(31, "tools/call", params).client(forms()).reply();
        assert_eq!(heard.result()["resultType"], "input_required", "{responses}");
    }
    let mut params = retry(&state);
    params["inputResponses"]["unheard_of"] = json!({});
    let heard = world.modern(31, "tools/call", params).client(forms()).reply();
    assert_eq!(heard.text(), "Crane 7 locked: storm");
    let mut params = retry(&state);
    params["inputResponses"] = json!({ "reason": { "action": "decline" } });
    let heard = world.modern(31, "tools/call", params).client(forms()).reply();
    assert_eq!(heard.text(), "Crane 7 stays free");
}

#[test]
fn rounds_come_to_an_end() {
    let mut world = World::new();
    let mut state: Option<String> = None;
    let mut rounds = 0;
    let code = loop {
        let mut params = tool("stubborn", json!({}));
        if let Some(state) = &state {
            params["requestState"] = json!(state);
        }
        let heard = world.modern(rounds, "tools/call", params).client(forms()).reply();
        if heard.code() != 0 {
            break heard.code();
        }
        rounds += 1;
        state = heard.result()["requestState"].as_str().map(str::to_owned);
    };
    assert_eq!((rounds, code), (16, -32603));
}

#[test]
fn a_state_alone_asks_to_come_back_and_nothing_at_all_is_a_fault() {
    let mut world = World::new();
    let heard = world.modern(1, "tools/call", tool("come_back", json!({}))).reply();
    assert_eq!(heard.result()["resultType"], "input_required");
    assert!(heard.result().get("inputRequests").is_none());
    let mut params = tool("come_back", json!({}));
    params["requestState"] = heard.result()["requestState"].clone();
    let heard = world.modern(2, "tools/call", params).reply();
    assert_eq!(heard.text(), "You came back with \"a ticket\"");
    let heard = world.modern(1, "tools/call", tool("ask_nothing", json!({}))).reply();
    assert_eq!((heard.status, heard.code()), (200, -32603));
}

// ---- Legacy: real requests ----

/// A session, and its call of `lock_crane` with what was heard of it.
fn asked(world: &mut World, version: &'static str, shard: u16) -> (Legacy, super::world::Sent) {
    let session = world.initialize(0, version, forms());
    let sent = session.call(world, 4, "lock_crane", json!({ "crane": 7 })).on(shard).send();
    (session, sent)
}

#[test]
fn a_legacy_client_is_asked_on_the_stream_of_its_call_and_may_answer_from_anywhere() {
    for version in ["2025-06-18", "2025-11-25"] {
        for (shard, other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut world = World::new();
            let (session, sent) = asked(&mut world, version, shard);
            let get = session.get(&mut world).on(other).send();
            let heard = world.heard(sent);
            assert!(heard.is_stream() && heard.open);
            let request = heard.last();
            assert_eq!(request["method"], "elicitation/create");
            assert_eq!(request["params"]["message"], "Why lock crane 7?");
            let mode = request["params"].get("mode").and_then(Value::as_str);
            assert_eq!(mode, (version == "2025-11-25").then_some("form"));
            let answer = response(&request["id"], accepted("storm"));
            assert_eq!(session.post(&mut world, answer.clone()).on(other).reply().status, 202);
            let heard = world.heard(sent);
            assert_eq!((heard.text().as_str(), heard.open), ("Crane 7 locked: storm", false));
            assert!(!heard.body.contains("requestState"), "a state is not for legacy clients");
            assert!(world.heard(get).messages().is_empty(), "requests are for the call's stream");
            // A second answer has nobody waiting for it.
            assert_eq!(session.post(&mut world, answer).reply().status, 202);
            assert_eq!(world.errors("client_response_unexpected"), 1);
        }
    }
}

#[test]
fn answers_of_another_session_do_not_count() {
    let mut world = World::new();
    let (session, sent) = asked(&mut world, "2025-11-25", 1);
    let (other, others) = asked(&mut world, "2025-11-25", 1);
    let (id, same) =
        (world.heard(sent).last()["id"].clone(), world.heard(others).last()["id"].clone());
    assert_eq!(id, same, "ids are numbered in each session");
    other.post(&mut world, response(&id, accepted("mine"))).send();
    assert!(world.heard(sent).open);
    session.post(&mut world, response(&id, accepted("storm"))).send();
    assert_eq!(world.heard(sent).text(), "Crane 7 locked: storm");
    assert_eq!(world.heard(others).text(), "Crane 7 locked: mine");
}

#[test]
fn a_refusal_of_the_client_fails_the_call_and_a_decline_does_not() {
    let mut world = World::new();
    let (session, sent) = asked(&mut world, "2025-11-25", 0);
    let error = json!({ "jsonrpc": "2.0", "id": "s-1", "error": { "code": -1, "message": "no!" } });
    session.post(&mut world, error).send();
    let result = world.heard(sent).result();
    assert_eq!(result["isError"], true);
    assert!(world.heard(sent).text().contains("no!"));
    let (session, sent) = asked(&mut world, "2025-11-25", 0);
    let id = world.heard(sent).last()["id"].clone();
    session.post(&mut world, response(&id, json!({ "action": "decline" }))).send();
    assert_eq!(world.heard(sent).text(), "Crane 7 stays free");
}

#[test]
fn a_client_that_does_not_answer_in_time_is_told_so_on_the_same_stream() {
    let mut world = World::new();
    let (session, sent) = asked(&mut world, "2025-11-25", 1);
    world.advance(59_999);
    assert!(world.heard(sent).open);
    world.advance(1);
    let heard = world.heard(sent);
    assert_eq!(heard.methods(), ["elicitation/create", "notifications/cancelled", "="]);
    assert_eq!(heard.messages()[1]["params"]["requestId"], heard.messages()[0]["id"]);
    assert_eq!(heard.result()["isError"], true);
    let late = response(&heard.messages()[0]["id"], accepted("storm"));
    assert_eq!(session.post(&mut world, late).reply().status, 202);
    assert_eq!(world.heard(sent).body, heard.body);
    assert_eq!(world.errors("client_request_timeout"), 1);
}

#[test]
fn who_cannot_be_asked_gets_a_result_that_says_so() {
    let everything = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
    for (version, client, accept, name) in [
        ("2025-11-25", json!({}), "application/json, text/event-stream", "lock_crane"),
        ("2025-03-26", forms(), "application/json, text/event-stream", "lock_crane"),
        ("2025-11-25", forms(), "application/json, text/event-stream", "ask_many"),
        ("2025-11-25", everything, "application/json", "lock_crane"),
        ("2025-11-25", json!({}), "application/json, text/event-stream", "sampler"),
    ] {
        let mut world = World::new();
        let session = world.initialize(0, version, client);
        let ask = session.call(&mut world, 1, name, json!({ "crane": 7 })).on(1);
        let heard = ask.header("Accept", accept).reply();
        assert_eq!((heard.status, &heard.result()["isError"]), (200, &json!(true)), "{name}");
        assert!(!heard.is_stream(), "nothing may be asked: {heard:?}");
        session.delete(&mut world).send();
        assert_eq!(world.leftovers(), NOTHING);
    }
}

#[test]
fn a_round_waits_for_all_its_answers_in_any_order() {
    let client = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut world = World::new();
        let session = world.initialize(0, "2025-11-25", client.clone());
        let sent = session.call(&mut world, 1, "ask_many", json!({})).on(1).send();
        let heard = world.heard(sent);
        let methods = ["elicitation/create", "sampling/createMessage", "roots/list"];
        assert_eq!(heard.methods(), methods);
        let ids: Vec<Value> = heard.messages().iter().map(|m| m["id"].clone()).collect();
        for (nth, index) in order.into_iter().enumerate() {
            assert!(world.heard(sent).open);
            session.post(&mut world, response(&ids[index], json!({}))).on(nth as u16 % 2).send();
        }
        assert_eq!(world.heard(sent).text(), "form,model,roots");
    }
}

#[test]
fn a_round_may_be_followed_by_a_deferred_answer() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", json!({ "roots": {} }));
    let sent = session.call(&mut world, 1, "ask_then_later", json!({ "key": "a" })).on(1).send();
    let id = world.heard(sent).last()["id"].clone();
    session.post(&mut world, response(&id, json!({ "roots": [] }))).send();
    assert!(world.heard(sent).open);
    // The round's deadline is not the call's.
    world.advance(120_000);
    world.complete("a", |reply| {
        assert!(!reply.is_cancelled());
        reply.done("after all");
    });
    assert_eq!(world.heard(sent).text(), "after all");
}

#[test]
fn legacy_rounds_come_to_an_end_too() {
    let mut world = World::new();
    let session = world.initialize(0, "2025-11-25", forms());
    let sent = session.call(&mut world, 1, "stubborn", json!({})).send();
    let mut rounds = 0;
    while world.heard(sent).open {
        let id = world.heard(sent).last()["id"].clone();
        session
            .post(&mut world, response(&id, json!({ "action": "accept", "content": {} })))
            .send();
        rounds += 1;
        assert!(rounds < 100);
    }
    assert_eq!((rounds, world.heard(sent).code()), (16, -32603));
}

#[test]
fn a_call_that_waits_for_its_client_can_be_cancelled() {
    let mut world = World::new();
    let (session, sent) = asked(&mut world, "2025-11-25", 1);
    let cancel = notification("notifications/cancelled", json!({ "requestId": 4 }));
    session.post(&mut world, cancel).send();
    let heard = world.heard(sent);
    assert_eq!((heard.open, heard.methods()), (false, vec!["elicitation/create".to_owned()]));
    session.post(&mut world, response(&json!("s-1"), accepted("storm"))).send();
    world.advance(120_000);
    assert_eq!(world.heard(sent).body, heard.body);
    assert!(world.is_idle());
}

#[test]
fn a_client_that_left_in_mid_round_may_come_back_and_answer() {
    let mut world = World::new();
    let (session, sent) = asked(&mut world, "2025-11-25", 1);
    let event = world.heard(sent).events().pop().expect("the request");
    world.leave(sent);
    let last = event.id.expect("an id").replace("-1", "-0");
    let again = session.get(&mut world).on(0).header("Last-Event-ID", &last).send();
    let id = world.heard(again).last()["id"].clone();
    session.post(&mut world, response(&id, accepted("storm"))).send();
    assert_eq!(world.heard(again).text(), "Crane 7 locked: storm");
}
