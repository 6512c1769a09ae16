//! The catalog of these tests: a harbour with cranes, and tools for every way a call can go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use erlmcp_catalog::ask::{Elicited, elicit, roots, sample};
use erlmcp_catalog::protocol::{ClientCapabilities, LogLevel};
use erlmcp_catalog::{
    Arguments, Builder, Call, CallEvent, Catalog, Change, IntoStep as _, NeedInput, NoArguments,
    Prompt, Reply, Resource, ResourceTemplate, Step, TaskSupport, Tool, failed, text,
};
use serde_json::{Value, json};

/// Replies of deferred calls, by the key their caller named, until a test answers them.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<BTreeMap<String, VecDeque<Reply>>>>);

impl Desk {
    fn put(&self, key: &str, reply: Reply) {
        let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replies.entry(key.to_owned()).or_default().push_back(reply);
    }

    /// The oldest reply with this key, if there is one.
    pub fn find(&self, key: &str) -> Option<Reply> {
        let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replies.get_mut(key)?.pop_front()
    }

    #[track_caller]
    pub fn take(&self, key: &str) -> Reply {
        self.find(key).expect("no call with this key is deferred")
    }
}

fn key(args: &Value) -> &str {
    args["key"].as_str().unwrap_or("?")
}

/// The whole catalog; deferred calls lie on the desk.
pub fn harbour(desk: &Desk) -> Builder {
    let at = || desk.clone();
    let (later, dropping, noisy, asking, double) = (at(), at(), at(), at(), at());
    cranes()
        .tool(tool("echo").handler(|args: Value, _| text(args["text"].as_str().unwrap_or("?"))))
        .tool(tool("broken").handler(|_: Value, _| failed("The hook is stuck")))
        .tool(tool("panic").handler(|_: Value, _| -> Step { panic!("as planned") }))
        .tool(tool("later").handler(move |args: Value, call| {
            later.put(key(&args), call.defer());
            Step::Later
        }))
        // Speaks before it defers.
        .tool(tool("noisy").handler(move |args: Value, call| {
            call.progress(1.0, None, None);
            noisy.put(key(&args), call.defer());
            Step::Later
        }))
        // Takes a reply and does not need it.
        .tool(tool("double").handler(move |args: Value, call| {
            let reply = call.defer();
            if args["keep"] == true {
                double.put(key(&args), reply);
            }
            text("answered at once")
        }))
        .tool(tool("defer_and_panic").handler(|_: Value, call| -> Step {
            let _reply = call.defer();
            panic!("as planned")
        }))
        .tool(tool("progress").handler(|args: Value, call| {
            for step in args["steps"].as_array().into_iter().flatten() {
                call.progress(step.as_f64().unwrap_or(f64::NAN), None, None);
            }
            text("done")
        }))
        .tool(tool("log_all").handler(|_: Value, call| {
            for level in LogLevel::ALL {
                call.log(level, None, level.as_str().into());
            }
            text("logged")
        }))
        .tool(tool("stubborn").handler(|_: Value, call| {
            let rounds = call.state.as_ref().and_then(Value::as_u64).unwrap_or(0);
            let ask = elicit("more", "And again?", json!({ "type": "object", "properties": {} }));
            NeedInput::ask([ask]).remember(json!(rounds + 1))
        }))
        .tool(tool("come_back").handler(|_: Value, call| match &call.state {
            Some(state) => text(format!("You came back with {state}")).into_step(),
            None => NeedInput::default().remember(json!("a ticket")).into_step(),
        }))
        .tool(tool("ask_nothing").handler(|_: Value, _| NeedInput::default()))
        .tool(tool("ask_many").handler(|_: Value, call| {
            if call.responses.is_empty() {
                let form = json!({ "type": "object", "properties": {} });
                let asks = [elicit("form", "?", form), sample("model", "?", 10), roots("roots")];
                return NeedInput::ask(asks).into_step();
            }
            let keys: Vec<_> = call.responses.keys().cloned().collect();
            text(keys.join(",")).into_step()
        }))
        // Asks, and then lets the caller wait.
        .tool(tool("ask_then_later").handler(move |args: Value, call| {
            if call.responses.is_empty() {
                return NeedInput::ask([roots("roots")]).into_step();
            }
            asking.put(key(&args), call.defer());
            Step::Later
        }))
        .tool(
            tool("sampler")
                .requires(ClientCapabilities { sampling: true, ..Default::default() })
                .handler(|_: Value, _| text("sampled")),
        )
        .tool(tool("drop").handler(move |args: Value, call| {
            if args["noisy"] == true {
                call.progress(1.0, None, None);
            }
            call.emit(CallEvent::DropStream { retry_ms: 1500 });
            dropping.put(key(&args), call.defer());
            Step::Later
        }))
        .tool(tool("publish").handler(|args: Value, call| {
            call.publish(Change::Resource(args["uri"].as_str().unwrap_or_default().to_owned()));
            text("published")
        }))
        .tool(tool("slow").blocking(|_: NoArguments, _| text("slow and steady")))
        .prompt(
            Prompt::new("shift")
                .argument("name", true, "Whose shift")
                .complete("name", |_| vec!["Ada".into(), "Alan".into()])
                .handler(|args: &Arguments, _: &mut Call| format!("{} works", &args["name"])),
        )
}

/// A tool whose calls become tasks, for clients that know of tasks. It is no part of the harbour, which
/// offers none.
pub fn job(desk: &Desk) -> Tool {
    let desk = desk.clone();
    tool("job").task(TaskSupport::Optional).handler(move |args: Value, call| {
        call.progress(1.0, None, None);
        desk.put(key(&args), call.defer());
        Step::Later
    })
}

/// What the examples of the specification digest use: no prompts in it.
pub fn cranes() -> Builder {
    let load = json!({
        "type": "object",
        "properties": {
            "berth": { "type": "string", "x-mcp-header": "Berth" },
            "tonnes": { "type": "integer", "x-mcp-header": "Tonnes" },
            "wet": { "type": "boolean", "x-mcp-header": "Wet" },
        },
    });
    Catalog::builder()
        .name("crane-mcp")
        .version("0.3.0")
        .instructions("Harbour crane telemetry.")
        .tool(
            Tool::new("crane_load")
                .input_schema(load)
                .handler(|_: Value, _| erlmcp_catalog::Json(json!({ "tonnes": 41.5 }))),
        )
        .tool(tool("survey").handler(|_: Value, call| {
            call.progress(1.0, Some(2.0), None);
            call.log(LogLevel::Info, Some("survey"), "second pass".into());
            call.progress(2.0, Some(2.0), None);
            text("2 passes done")
        }))
        .tool(tool("lock_crane").handler(|args: Value, call| {
            let crane = &args["crane"];
            match call.elicited("reason") {
                Some(Elicited::Declined) => text(format!("Crane {crane} stays free")).into_step(),
                Some(Elicited::Accepted(content)) => {
                    let reason = content["reason"].as_str().unwrap_or("?");
                    text(format!("Crane {crane} locked: {reason}")).into_step()
                }
                None => NeedInput::ask([elicit(
                    "reason",
                    format!("Why lock crane {crane}?"),
                    json!({
                        "type": "object",
                        "properties": { "reason": { "type": "string", "minLength": 3 } },
                        "required": ["reason"],
                    }),
                )])
                .remember(json!({ "s": 1 }))
                .into_step(),
            }
        }))
        .resource(Resource::text("crane://7/state", "state", "idle"))
        .resource(Resource::text("crane://8/state", "state of 8", "busy"))
        .template(
            ResourceTemplate::new("crane://{id}/log", "log")
                .handler(|args: &Arguments, _: &mut Call| format!("log of {}", &args["id"])),
        )
}

fn tool(name: &str) -> Tool {
    Tool::new(name).input_schema(json!({ "type": "object" }))
}
