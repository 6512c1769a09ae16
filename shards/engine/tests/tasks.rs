//! Calls that become tasks: when they do, what is seen of them, how they end.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use erlmcp_catalog::ask::{elicit, roots, sample};
use erlmcp_catalog::protocol::{InputRequest, RpcError};
use erlmcp_catalog::{
    Builder, Call, Catalog, IntoStep as _, NeedInput, Reply, Step, TaskSupport, Tool, failed, text,
};
use serde_json::{Value, json};

use super::ask::{Heard, META, envelope, hello, modern, notification, request, tool};
use super::harbour::Desk;
use super::world::{PipeId, Sent, Setup, World};
use crate::config::Limits;
use crate::net::{CloseReason, PipeKind};

pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const TTL_MS: u64 = 60_000;

/// Replies of deferred calls, oldest first.
#[derive(Clone, Default)]
pub struct Dock(Arc<Mutex<VecDeque<Reply>>>);

impl Dock {
    fn put(&self, reply: Reply) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(reply);
    }

    pub fn try_take(&self) -> Option<Reply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    #[track_caller]
    pub fn take(&self) -> Reply {
        self.try_take().expect("no call is deferred")
    }
}

/// A world whose tools can become tasks, and the replies of those that did.
pub struct Yard {
    pub world: World,
    pub dock: Dock,
    ids: u64,
}

/// Answers at once if told so, and later if not. When it has asked, it says what it heard.
fn job(dock: &Dock) -> impl Fn(Value, &mut Call) -> Step + Send + Sync + 'static {
    let dock = dock.clone();
    move |args: Value, call: &mut Call| {
        if !call.responses.is_empty() || call.state.is_some() {
            let heard = Value::Object(call.responses.clone());
            let state = call.state.clone().unwrap_or_default();
            if state != json!("again") {
                return text(format!("heard {heard} with {state}")).into_step();
            }
        } else if args["now"] == true {
            return text("at once").into_step();
        } else if args["wrong"] == true {
            return Step::Error(RpcError::new(-32602, "This cannot be done"));
        }
        dock.put(call.defer());
        Step::Later
    }
}

fn builder(dock: &Dock) -> Builder {
    let new = |name: &str| Tool::new(name).input_schema(json!({ "type": "object" }));
    let brief = Duration::from_millis(5000);
    Catalog::builder()
        .tool(new("plain").handler(job(dock)))
        .tool(new("may").task(TaskSupport::Optional).handler(job(dock)))
        .tool(new("must").task(TaskSupport::Required).handler(job(dock)))
        .tool(
            new("brief")
                .task(TaskSupport::Optional)
                .task_ttl(brief)
                .poll_interval(Duration::from_millis(250))
                .handler(job(dock)),
        )
        .tool(new("ask_first").task(TaskSupport::Required).handler({
            let dock = dock.clone();
            move |_: Value, call: &mut Call| {
                if call.roots("roots").is_none() {
                    return NeedInput::ask([roots("roots")]).remember(json!(1)).into_step();
                }
                dock.put(call.defer());
                Step::Later
            }
        }))
}

pub fn form(key: &str) -> InputRequest {
    elicit(key, "?", json!({ "type": "object", "properties": {} }))
}

pub fn accept(value: u64) -> Value {
    json!({ "action": "accept", "content": { "n": value } })
}

/// Every capability, and tasks.
pub fn client() -> Value {
    json!({ "elicitation": {}, "sampling": {}, "roots": {}, "extensions": { EXTENSION: {} } })
}

/// Params of a client that declares all of them.
pub fn declared(mut params: Value) -> Value {
    params["_meta"][format!("{META}clientCapabilities")] = client();
    envelope(params)
}

impl Yard {
    pub fn new() -> Self {
        Self::tuned(|_| {})
    }

    pub fn tuned(tune: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Setup::default();
        setup.limits.task_ttl_ms = TTL_MS;
        tune(&mut setup.limits);
        Self::with(setup)
    }

    pub fn with(setup: Setup) -> Self {
        let dock = Dock::default();
        let at = dock.clone();
        let builder = Rc::new(move |_: &Desk| builder(&at));
        Self { world: World::with(Setup { builder, ..setup }), dock, ids: 0 }
    }

    pub fn send(&mut self, shard: u16, method: &str, params: Value) -> Sent {
        self.ids += 1;
        self.world.modern(self.ids, method, params).client(client()).on(shard).send()
    }

    #[track_caller]
    pub fn reply(&mut self, shard: u16, method: &str, params: Value) -> Heard {
        let sent = self.send(shard, method, params);
        self.world.heard(sent)
    }

    /// Calls a tool that becomes a task; its id.
    #[track_caller]
    pub fn begin(&mut self, shard: u16, name: &str) -> String {
        let result = self.reply(shard, "tools/call", tool(name, json!({}))).result();
        assert_eq!(result["resultType"], "task", "{result}");
        result["taskId"].as_str().expect("an id").to_owned()
    }

    /// `tasks/get`, which must be the same on every shard.
    #[track_caller]
    pub fn get(&mut self, id: &str) -> Value {
        let mut seen: Vec<Value> = (0..self.world.engines.len() as u16)
            .map(|shard| {
                let heard = self.reply(shard, "tasks/get", json!({ "taskId": id }));
                assert_eq!(heard.status, 200, "{heard:?}");
                heard.result()
            })
            .collect();
        assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
        let task = seen.remove(0);
        assert_eq!((&task["resultType"], &task["taskId"]), (&json!("complete"), &json!(id)));
        assert!(task.get("requestState").is_none());
        task
    }

    /// Whether every shard says that there is no such task.
    #[track_caller]
    pub fn check_unknown(&mut self, id: &str) {
        for shard in 0..self.world.engines.len() as u16 {
            for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
                let params = json!({ "taskId": id, "inputResponses": {} });
                let heard = self.reply(shard, method, params);
                assert_eq!((heard.status, heard.code()), (200, -32602), "{method} {heard:?}");
            }
        }
    }

    /// `tasks/update` or `tasks/cancel`, which only acknowledge.
    #[track_caller]
    pub fn acknowledged(&mut self, shard: u16, method: &str, params: Value) {
        let result = self.reply(shard, method, params).result();
        let members: Vec<&String> = result.as_object().expect("an object").keys().collect();
        assert_eq!(members, ["_meta", "resultType"], "{result}");
        assert_eq!(result["resultType"], "complete");
    }

    pub fn update(&mut self, shard: u16, id: &str, answers: Value) {
        let params = json!({ "taskId": id, "inputResponses": answers });
        self.acknowledged(shard, "tasks/update", params);
    }

    pub fn cancel(&mut self, shard: u16, id: &str) {
        self.acknowledged(shard, "tasks/cancel", json!({ "taskId": id }));
    }

    /// Completes the oldest deferred call from another thread.
    #[track_caller]
    pub fn step(&mut self, step: Step) {
        let reply = self.dock.take();
        std::thread::spawn(move || reply.step(step)).join().expect("completing does not panic");
        self.world.pump();
    }

    #[track_caller]
    pub fn ask(&mut self, requests: impl IntoIterator<Item = InputRequest>, state: Option<Value>) {
        let requests = requests.into_iter().collect();
        self.step(Step::NeedInput(NeedInput { requests, state }));
    }

    /// The keys a task waits for.
    #[track_caller]
    pub fn open_keys(&mut self, id: &str) -> Vec<String> {
        let task = self.get(id);
        let requests = task["inputRequests"].as_object();
        assert_eq!(requests.is_some(), task["status"] == "input_required", "{task}");
        requests.into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

#[track_caller]
fn check_status(task: &Value, status: &str) {
    assert_eq!(task["status"], status, "{task}");
    let expect = match status {
        "input_required" => Some("inputRequests"),
        "completed" => Some("result"),
        "failed" => Some("error"),
        _ => None,
    };
    for member in ["inputRequests", "result", "error"] {
        assert_eq!(task.get(member).is_some(), expect == Some(member), "{member} in {task}");
    }
}

// ---- When a call becomes a task ----

#[test]
fn a_call_that_is_not_answered_at_once_becomes_a_task() {
    let mut yard = Yard::new();
    let now = yard.reply(0, "tools/call", tool("may", json!({ "now": true })));
    assert_eq!(
        (now.text().as_str(), now.result()["resultType"].as_str()),
        ("at once", Some("complete"))
    );
    let made = yard.reply(0, "tools/call", tool("may", json!({}))).result();
    assert_eq!(made["status"], "working");
    assert_eq!((&made["ttlMs"], &made["pollIntervalMs"]), (&json!(TTL_MS), &json!(1000)));
    assert_eq!(made["createdAt"], "2026-11-20T09:00:00.001Z");
    assert_eq!(made["lastUpdatedAt"], made["createdAt"]);
    for absent in ["task", "result", "requestState", "inputRequests", "ttl", "pollInterval"] {
        assert!(made.get(absent).is_none(), "{absent} in {made}");
    }
    check_status(&yard.get(made["taskId"].as_str().expect("an id")), "working");
}

#[test]
fn a_tool_that_must_be_a_task_is_one_even_if_it_answers_at_once() {
    let mut yard = Yard::new();
    let made = yard.reply(1, "tools/call", tool("must", json!({ "now": true }))).result();
    assert_eq!(made["resultType"], "task");
    let task = yard.get(made["taskId"].as_str().expect("an id"));
    check_status(&task, "completed");
    assert_eq!(task["result"]["content"][0]["text"], "at once");
    assert!(yard.world.is_idle());
}

#[test]
fn what_is_wrong_with_a_request_needs_no_task() {
    let mut yard = Yard::new();
    for name in ["may", "must"] {
        let wrong = yard.reply(0, "tools/call", tool(name, json!({ "wrong": true })));
        assert_eq!((wrong.status, wrong.code()), (200, -32602));
    }
    assert_eq!(yard.world.leftovers(), [""; 0]);
}

#[test]
fn a_tool_that_is_no_task_waits_and_a_task_hint_of_old_changes_nothing() {
    let mut yard = Yard::new();
    let mut params = tool("plain", json!({}));
    params["task"] = json!({ "ttl": 1 });
    let sent = yard.send(0, "tools/call", params);
    assert_eq!(yard.world.heard(sent).status, 0);
    yard.step(text("waited").into_step());
    assert_eq!(yard.world.heard(sent).text(), "waited");
}

#[test]
fn who_does_not_declare_tasks_waits_or_is_told_what_to_declare() {
    let mut yard = Yard::new();
    let sent = yard.world.modern(1, "tools/call", tool("may", json!({}))).send();
    assert_eq!(yard.world.heard(sent).status, 0);
    yard.step(text("waited").into_step());
    assert_eq!(yard.world.heard(sent).result()["resultType"], "complete");
    let refused = yard.world.modern(2, "tools/call", tool("must", json!({}))).reply();
    assert_eq!((refused.status, refused.code()), (400, -32021));
    let needed = json!({ "extensions": { EXTENSION: {} } });
    assert_eq!(refused.last()["error"]["data"]["requiredCapabilities"], needed);
}

#[test]
fn legacy_clients_have_no_tasks_whatever_they_declare() {
    let mut yard = Yard::new();
    let legacy = yard.world.initialize(0, "2025-11-25", client());
    let sent = legacy.call(&mut yard.world, 1, "may", json!({})).send();
    yard.step(text("waited").into_step());
    assert_eq!(yard.world.heard(sent).text(), "waited");
    let must = legacy.call(&mut yard.world, 2, "must", json!({})).reply();
    assert_eq!(must.result()["isError"], true);
    let get = legacy.ask(&mut yard.world, 3, "tasks/get", json!({ "taskId": "x" })).reply();
    assert_eq!((get.status, get.code()), (200, -32601));
}

#[test]
fn discover_offers_tasks_only_if_a_tool_does() {
    let mut yard = Yard::new();
    let offers = |heard: Heard| heard.result()["capabilities"].clone();
    let offered = offers(yard.reply(0, "server/discover", json!({})));
    assert_eq!(offered["extensions"], json!({ EXTENSION: {} }));
    assert!(offered.get("tasks").is_none());
    let mut harbour = World::new();
    assert!(
        offers(harbour.modern(1, "server/discover", json!({})).reply()).get("extensions").is_none()
    );
    let get = harbour.modern(2, "tasks/get", json!({ "taskId": "x" })).client(client()).reply();
    assert_eq!((get.status, get.code()), (404, -32601));
    let legacy = request(1, "initialize", hello("2025-11-25", json!({})));
    let heard = yard.world.post("/mcp").json(legacy).reply();
    assert!(offers(heard).get("extensions").is_none());
}

#[test]
fn questions_asked_before_the_task_are_answered_by_a_retry() {
    let mut yard = Yard::new();
    let asked = yard.reply(0, "tools/call", tool("ask_first", json!({}))).result();
    assert_eq!(asked["resultType"], "input_required");
    assert!(asked.get("taskId").is_none());
    assert_eq!(yard.world.leftovers(), [""; 0]);
    let mut params = tool("ask_first", json!({}));
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({ "roots": { "roots": [] } });
    let made = yard.reply(1, "tools/call", params).result();
    assert_eq!(made["resultType"], "task");
    assert!(made.get("requestState").is_none() && made.get("inputRequests").is_none());
    yard.step(text("done").into_step());
    check_status(&yard.get(made["taskId"].as_str().expect("an id")), "completed");
}

// ---- What is seen of a task, and how it ends ----

#[test]
fn a_task_ends_with_the_result_or_the_error_of_its_call() {
    let mut yard = Yard::new();
    for (step, status) in [
        (text("done").into_step(), "completed"),
        (failed("broken").into_step(), "completed"),
        (Step::Error(RpcError::new(-32603, "Broken")), "failed"),
    ] {
        let is_error = step == failed("broken").into_step();
        let id = yard.begin(1, "may");
        check_status(&yard.get(&id), "working");
        yard.world.advance(10);
        yard.step(step);
        let task = yard.get(&id);
        check_status(&task, status);
        assert_ne!(task["lastUpdatedAt"], task["createdAt"]);
        match status {
            "completed" => assert_eq!(task["result"]["isError"] == true, is_error),
            _ => assert_eq!(task["error"], json!({ "code": -32603, "message": "Broken" })),
        }
        assert!(task["result"].pointer("/_meta").is_none());
    }
    // A reply that nobody completes is an error like any other.
    let id = yard.begin(0, "may");
    drop(yard.dock.take());
    yard.world.pump();
    check_status(&yard.get(&id), "failed");
    assert!(yard.world.is_idle());
}

#[test]
fn a_task_outlives_its_caller() {
    let mut yard = Yard::new();
    let sent = yard.send(0, "tools/call", tool("may", json!({})));
    let id = yard.world.heard(sent).result()["taskId"].as_str().expect("an id").to_owned();
    yard.world.leave(sent);
    let reply = yard.dock.take();
    assert!(!reply.is_cancelled());
    assert!(reply.done(text("still here")));
    yard.world.pump();
    check_status(&yard.get(&id), "completed");
}

#[test]
fn progress_becomes_the_message_of_a_task_and_is_sent_to_nobody() {
    let mut yard = Yard::new();
    let sent = {
        let call = yard.world.modern(1, "tools/call", tool("may", json!({}))).client(client());
        call.meta("progressToken", json!("p"))
            .meta(&format!("{META}logLevel"), json!("debug"))
            .send()
    };
    let id = yard.world.heard(sent).result()["taskId"].as_str().expect("an id").to_owned();
    assert!(yard.get(&id).get("statusMessage").is_none());
    let reply = yard.dock.take();
    yard.world.advance(5);
    reply.progress(1.0, None, Some("halfway".into()));
    reply.log(erlmcp_catalog::protocol::LogLevel::Error, None, json!("?"));
    yard.world.pump();
    let task = yard.get(&id);
    assert_eq!(task["statusMessage"], "halfway");
    assert_ne!(task["lastUpdatedAt"], task["createdAt"]);
    assert_eq!(yard.world.heard(sent).methods(), ["="]);
    assert!(reply.done(text("done")));
    yard.world.pump();
    assert!(yard.get(&id).get("statusMessage").is_none());
}

#[test]
fn a_cancelled_task_stays_cancelled() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let reply = yard.dock.take();
    yard.cancel(1, &id);
    assert!(reply.is_cancelled());
    assert!(!reply.done(text("too late")));
    yard.world.pump();
    check_status(&yard.get(&id), "cancelled");
    yard.cancel(0, &id);
    yard.update(0, &id, json!({ "a": {} }));
    check_status(&yard.get(&id), "cancelled");
    // And so does one that waited for its client.
    let id = yard.begin(0, "may");
    yard.ask([form("a")], None);
    yard.cancel(0, &id);
    yard.update(0, &id, json!({ "a-1": accept(1) }));
    check_status(&yard.get(&id), "cancelled");
    assert!(yard.world.is_idle());
    // What has ended is acknowledged, and stays as it is.
    let id = yard.begin(0, "may");
    yard.step(text("done").into_step());
    yard.cancel(1, &id);
    check_status(&yard.get(&id), "completed");
}

#[test]
fn a_task_is_known_until_its_time_is_over_and_not_longer() {
    for (name, ttl_ms) in [("may", TTL_MS), ("brief", 5000)] {
        for done in [false, true] {
            let mut yard = Yard::new();
            let id = yard.begin(0, name);
            assert_eq!(yard.get(&id)["ttlMs"], ttl_ms);
            let reply = yard.dock.take();
            if done {
                assert!(reply.step(text("done").into_step()));
                yard.world.pump();
                yard.world.advance(ttl_ms - 1);
                check_status(&yard.get(&id), "completed");
            } else {
                yard.world.advance(ttl_ms - 1);
                check_status(&yard.get(&id), "working");
                assert!(!reply.is_cancelled());
                yard.world.advance(1);
                assert!(reply.is_cancelled());
            }
            yard.world.advance(1);
            yard.check_unknown(&id);
            yard.world.advance(100);
            assert_eq!(yard.world.leftovers(), [""; 0]);
        }
    }
    let mut yard = Yard::tuned(|limits| limits.task_ttl_ms = 3000);
    let id = yard.begin(0, "brief");
    assert_eq!(yard.get(&id)["ttlMs"], 3000, "the server's limit is a limit");
    assert_eq!(yard.get(&id)["pollIntervalMs"], 250);
}

#[test]
fn ids_that_are_not_of_a_living_task_are_unknown() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let mut elsewhere = Yard::with(Setup { epoch: 8, ..Setup::default() });
    elsewhere.check_unknown(&id);
    let mut other = Yard::with(Setup { seed: 5, ..Setup::default() });
    other.begin(0, "may");
    other.check_unknown(&id);
    let mut forged = id.clone();
    forged.replace_range(20..21, if id[20..].starts_with('A') { "B" } else { "A" });
    for wrong in [forged.as_str(), "t_9vK2m8Q1xYb7", "", &id[1..], &id.repeat(2)] {
        yard.check_unknown(wrong);
    }
    let legacy = yard.world.initialize(0, "2025-11-25", json!({}));
    yard.check_unknown(&legacy.id);
    assert!(id.len() >= 32 && id.is_ascii(), "{id}");
    assert_ne!(id, yard.begin(0, "may"));
}

// ---- Questions of a task ----

#[test]
fn a_task_asks_and_goes_on_when_everything_is_answered() {
    for owner in 0..2 {
        let mut yard = Yard::new();
        let id = yard.begin(owner, "may");
        yard.ask([form("a"), sample("b", "?", 5), roots("c")], Some(json!("kept")));
        assert_eq!(yard.open_keys(&id), ["a-1", "b-1", "c-1"]);
        let task = yard.get(&id);
        assert_eq!(task["inputRequests"]["b-1"]["method"], "sampling/createMessage");
        assert!(yard.world.is_idle(), "who waits for a client holds up nothing");
        yard.update(0, &id, json!({ "b-1": { "role": "user" }, "x": {}, "a": accept(1) }));
        assert_eq!(yard.open_keys(&id), ["a-1", "c-1"]);
        yard.update(1, &id, json!({ "b-1": { "role": "another" }, "y": 5 }));
        assert_eq!(yard.open_keys(&id), ["a-1", "c-1"]);
        yard.update(1, &id, json!({ "a-1": accept(2), "c-1": { "roots": [] } }));
        let task = yard.get(&id);
        check_status(&task, "completed");
        let heard = task["result"]["content"][0]["text"].as_str().expect("text").to_owned();
        let expect = json!({ "a": accept(2), "b": { "role": "user" }, "c": { "roots": [] } });
        assert_eq!(heard, format!("heard {expect} with \"kept\""));
        assert!(yard.world.is_idle());
    }
}

#[test]
fn a_key_is_never_used_again() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    for round in 1..=3 {
        yard.ask([form("a")], Some(json!("again")));
        assert_eq!(yard.open_keys(&id), [format!("a-{round}")]);
        yard.update(1, &id, json!({ format!("a-{}", round - 1): accept(1) }));
        assert_eq!(yard.open_keys(&id), [format!("a-{round}")]);
        yard.update(1, &id, json!({ format!("a-{round}"): accept(1) }));
        check_status(&yard.get(&id), "working");
    }
    yard.step(text("done").into_step());
    check_status(&yard.get(&id), "completed");
}

#[test]
fn an_answer_that_is_no_object_changes_nothing() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    yard.ask([form("a"), form("b")], None);
    for shard in 0..2 {
        for answers in [json!({ "a-1": accept(1), "b-1": 5 }), json!(5), json!(null), json!([])] {
            let params = json!({ "taskId": id, "inputResponses": answers });
            let heard = yard.reply(shard, "tasks/update", params);
            assert_eq!((heard.status, heard.code()), (200, -32602));
        }
        let heard = yard.reply(shard, "tasks/update", json!({ "taskId": id }));
        assert_eq!((heard.status, heard.code()), (200, -32602));
    }
    assert_eq!(yard.open_keys(&id), ["a-1", "b-1"]);
}

#[test]
fn a_task_cannot_ask_what_its_client_did_not_declare() {
    let mut yard = Yard::new();
    let only_tasks = json!({ "extensions": { EXTENSION: {} } });
    let call = yard.world.modern(1, "tools/call", tool("may", json!({}))).client(only_tasks);
    let id = call.reply().result()["taskId"].as_str().expect("an id").to_owned();
    yard.ask([form("a")], None);
    let task = yard.get(&id);
    check_status(&task, "failed");
    assert_eq!(task["error"]["code"], -32021);
    assert_eq!(task["error"]["data"], json!({ "requiredCapabilities": { "elicitation": {} } }));
}

#[test]
fn a_handler_that_never_stops_asking_fails() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let mut rounds = 0;
    while yard.get(&id)["status"] == "working" {
        yard.ask([form("a")], Some(json!("again")));
        rounds += 1;
        yard.update(0, &id, json!({ format!("a-{rounds}"): accept(1) }));
    }
    check_status(&yard.get(&id), "failed");
    assert_eq!(rounds, super::super::calls::ROUNDS_MAX + 1);
    let id = yard.begin(0, "may");
    yard.ask((0..33).map(|n| form(&n.to_string())), None);
    check_status(&yard.get(&id), "failed");
}

#[test]
fn a_round_without_questions_goes_on_at_once() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    yard.ask([], Some(json!("later")));
    let task = yard.get(&id);
    check_status(&task, "completed");
    assert_eq!(task["result"]["content"][0]["text"], "heard {} with \"later\"");
}

// ---- Who may ask ----

#[test]
fn every_task_request_must_declare_the_extension() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    for shard in 0..2 {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            for id in [id.as_str(), "unknown"] {
                let params = json!({ "taskId": id, "inputResponses": {} });
                let heard = yard.world.modern(1, method, params).on(shard).reply();
                assert_eq!((heard.status, heard.code()), (400, -32021), "{method}");
            }
            let heard = yard.reply(shard, method, json!({ "inputResponses": {} }));
            assert_eq!((heard.status, heard.code()), (200, -32602), "{method}");
        }
        for method in ["tasks/list", "tasks/result"] {
            let heard = yard.reply(shard, method, json!({ "taskId": id }));
            assert_eq!((heard.status, heard.code()), (404, -32601), "{method}");
        }
    }
    let params = json!({ "taskId": id });
    let get = yard.world.modern(1, "tasks/get", params).client(client());
    let heard = get.header("Mcp-Name", "another").reply();
    assert_eq!((heard.status, heard.code()), (400, -32020));
}

// ---- Limits ----

#[test]
fn without_room_a_call_waits_if_it_may_and_is_refused_if_not() {
    let mut yard = Yard::tuned(|limits| limits.tasks_max = 2);
    let (first, _) = (yard.begin(0, "may"), yard.begin(0, "must"));
    let waiting = yard.send(0, "tools/call", tool("may", json!({})));
    assert_eq!(yard.world.heard(waiting).status, 0);
    let refused = yard.reply(0, "tools/call", tool("must", json!({})));
    assert_eq!((refused.status, refused.code()), (503, -32603));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(yard.world.errors("tasks_full"), 2);
    for _ in 0..3 {
        yard.step(text("done").into_step());
    }
    assert_eq!(yard.world.heard(waiting).text(), "done");
    // An ended task is kept for its client; another shard has room of its own.
    check_status(&yard.get(&first), "completed");
    assert_eq!(yard.reply(0, "tools/call", tool("must", json!({}))).status, 503);
    yard.begin(1, "must");
}

#[test]
fn what_does_not_fit_is_not_kept() {
    let mut yard = Yard::tuned(|limits| limits.tasks_bytes_max = 2000);
    // Arguments.
    let long = json!({ "now": true, "padding": "x".repeat(2000) });
    let refused = yard.reply(0, "tools/call", tool("must", long));
    assert_eq!((refused.status, refused.code()), (503, -32603));
    // Answers: they may be given again, shorter.
    let id = yard.begin(0, "may");
    yard.ask([form("a")], None);
    let long =
        json!({ "taskId": id, "inputResponses": { "a-1": { "padding": "x".repeat(2000) } } });
    assert_eq!(yard.reply(1, "tasks/update", long).code(), -32603);
    yard.update(1, &id, json!({ "a-1": accept(1) }));
    check_status(&yard.get(&id), "completed");
    // Results and questions.
    for step in
        [text("x".repeat(2000)).into_step(), NeedInput::ask([form(&"x".repeat(2000))]).into_step()]
    {
        let id = yard.begin(0, "may");
        yard.step(step);
        let task = yard.get(&id);
        check_status(&task, "failed");
        assert_eq!(task["error"]["code"], -32603);
    }
    // What is forgotten makes room.
    yard.world.advance(TTL_MS + 100);
    let id = yard.begin(0, "may");
    yard.step(text("x".repeat(1800)).into_step());
    check_status(&yard.get(&id), "completed");
}

// ---- Pipes ----

fn on_pipe(id: u64, method: &str, params: Value) -> Value {
    modern(id, method, declared(params))
}

#[test]
fn tasks_are_made_and_asked_for_on_pipes_of_any_shard() {
    let mut yard = Yard::new();
    let pipes: Vec<PipeId> = (0..2).map(|shard| yard.world.pipe(shard, PipeKind::Lines)).collect();
    let made = yard.world.tell(pipes[0], &on_pipe(1, "tools/call", tool("may", json!({}))));
    let id = made["result"]["taskId"].as_str().expect("an id").to_owned();
    yard.ask([form("a")], None);
    for pipe in &pipes {
        let got = yard.world.tell(*pipe, &on_pipe(2, "tasks/get", json!({ "taskId": id })));
        assert_eq!((&got["id"], &got["result"]["status"]), (&json!(2), &json!("input_required")));
        let unknown = yard.world.tell(*pipe, &on_pipe(3, "tasks/get", json!({ "taskId": "x" })));
        assert_eq!(unknown["error"]["code"], -32602);
    }
    let answers = json!({ "taskId": id, "inputResponses": { "a-1": accept(1) } });
    let updated = yard.world.tell(pipes[1], &on_pipe(4, "tasks/update", answers));
    assert_eq!(updated["result"]["resultType"], "complete");
    check_status(&yard.get(&id), "completed");
    let undeclared = modern(5, "tasks/get", json!({ "taskId": id }));
    assert_eq!(yard.world.tell(pipes[1], &undeclared)["error"]["code"], -32021);
}

#[test]
fn a_pipe_at_its_end_waits_for_what_another_shard_answers() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let pipe = yard.world.pipe(1, PipeKind::Stdio);
    yard.world.slow_mail = true;
    yard.world.say(pipe, &on_pipe(1, "tasks/get", json!({ "taskId": id })));
    yard.world.eof(pipe);
    assert_eq!(yard.world.closed(pipe), None);
    yard.world.pump();
    assert_eq!(yard.world.told(pipe)[0]["result"]["status"], "working");
    assert_eq!(yard.world.closed(pipe), Some(CloseReason::Done));
    // A pipe that has gone meanwhile is nobody to answer.
    let gone = yard.world.pipe(1, PipeKind::Lines);
    yard.world.say(gone, &on_pipe(1, "tasks/get", json!({ "taskId": id })));
    yard.world.hang_up(gone);
    yard.world.pump();
}

#[test]
fn a_task_is_no_call_of_its_pipe() {
    let mut yard = Yard::new();
    let pipe = yard.world.pipe(0, PipeKind::Lines);
    let made = yard.world.tell(pipe, &on_pipe(1, "tools/call", tool("may", json!({}))));
    let id = made["result"]["taskId"].as_str().expect("an id").to_owned();
    yard.world.say(pipe, &notification("notifications/cancelled", json!({ "requestId": 1 })));
    yard.world.eof(pipe);
    assert_eq!(yard.world.closed(pipe), Some(CloseReason::Done));
    yard.world.hang_up(pipe);
    let reply = yard.dock.take();
    assert!(!reply.is_cancelled());
    assert!(reply.done(text("done")));
    yard.world.pump();
    check_status(&yard.get(&id), "completed");
}

// ---- Full inboxes, and the end ----

#[test]
fn an_owner_that_cannot_be_reached_is_said() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let pipe = yard.world.pipe(1, PipeKind::Lines);
    yard.world.block_mail(1, 0, true);
    let heard = yard.reply(1, "tasks/get", json!({ "taskId": id }));
    assert_eq!((heard.status, heard.code()), (503, -32603));
    let told = yard.world.tell(pipe, &on_pipe(1, "tasks/get", json!({ "taskId": id })));
    assert_eq!(told["error"]["code"], -32603);
    yard.world.eof(pipe);
    assert_eq!(yard.world.closed(pipe), Some(CloseReason::Done));
    yard.world.block_mail(1, 0, false);
    check_status(&yard.get(&id), "working");
}

#[test]
fn draining_waits_for_what_works_and_still_tells_of_tasks() {
    let mut yard = Yard::new();
    let (working, asking) = (yard.begin(0, "may"), yard.begin(1, "may"));
    let reply = yard.dock.take();
    yard.ask([form("a")], None);
    yard.world.drain();
    assert!(!yard.world.is_idle());
    assert_eq!(yard.reply(0, "tools/call", tool("may", json!({}))).status, 503);
    check_status(&yard.get(&working), "working");
    check_status(&yard.get(&asking), "input_required");
    assert!(reply.done(text("done")));
    yard.world.pump();
    assert!(yard.world.is_idle());
    check_status(&yard.get(&working), "completed");
}
