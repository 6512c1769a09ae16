//! Tools of the suite whose calls can become tasks.

use std::time::Duration;

use erlmcp_protocol::mcp::{InputRequest, RpcError, ToolResult, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::ask::{Elicited, elicit};
use crate::{Call, IntoStep as _, NeedInput, NoArguments, Step, TaskSupport, Tool, failed, text};

/// How often long work looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// How long a job takes to fail.
const FAILURE: Duration = Duration::from_secs(1);
/// What clients are told to wait between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn all() -> Vec<Tool> {
    vec![
        Tool::new("greet")
            .description("Greets; never a task")
            .handler(|args: Greet, _| text(format!("Hello, {}!", args.name))),
        task("slow_compute", "Takes its time", TaskSupport::Optional).future(slow_compute),
        task("failing_job", "Fails after a while", TaskSupport::Required)
            .future(|_: NoArguments, call| failing_job(call)),
        task("protocol_error_job", "Ends with a JSON-RPC error", TaskSupport::Optional)
            .future(|_: NoArguments, call| protocol_error_job(call)),
        task("confirm_delete", "Asks, as a task, before it deletes", TaskSupport::Required)
            .future(|args: ConfirmDelete, call| async move { confirm_delete(&args, &call) }),
        task("multi_input", "Asks two things at once, as a task", TaskSupport::Required)
            .future(|_: NoArguments, call| async move { multi_input(&call) }),
        task("test_tool_with_task", "Asks for a name, then becomes a task", TaskSupport::Required)
            .handler(|_: NoArguments, call| greet_later(call)),
    ]
}

fn task(name: &str, description: &str, support: TaskSupport) -> Tool {
    Tool::new(name).description(description).task(support).poll_interval(POLL_INTERVAL)
}

#[derive(Deserialize, JsonSchema)]
struct Greet {
    /// Whom to greet
    name: String,
}

#[derive(Deserialize, JsonSchema)]
struct SlowCompute {
    /// How long it takes
    #[schemars(range(min = 0, max = 3600))]
    seconds: f64,
    /// Told in the result
    #[serde(default)]
    label: Option<String>,
}

async fn slow_compute(args: SlowCompute, mut call: Call) -> ToolResult {
    let runner = call.runner().clone();
    let mut left = Duration::try_from_secs_f64(args.seconds).unwrap_or_default();
    call.progress(0.0, Some(args.seconds), Some(format!("Computing for {} s", args.seconds)));
    while !left.is_zero() {
        if call.is_cancelled() {
            return failed("Cancelled");
        }
        let pause = left.min(LOOK);
        runner.sleep(pause).await;
        left -= pause;
    }
    let label = args.label.map(|label| format!(" ({label})")).unwrap_or_default();
    text(format!("Computed for {} s{label}", args.seconds))
}

async fn failing_job(call: Call) -> ToolResult {
    call.runner().sleep(FAILURE).await;
    failed("This job always fails")
}

async fn protocol_error_job(call: Call) -> Step {
    call.runner().sleep(LOOK).await;
    Step::Error(RpcError::new(codes::INTERNAL_ERROR, "This job always ends with an error"))
}

#[derive(Deserialize, JsonSchema)]
struct ConfirmDelete {
    /// What would be deleted (nothing is)
    #[serde(default)]
    filename: Option<String>,
}

fn confirm_delete(args: &ConfirmDelete, call: &Call) -> Step {
    let file = args.filename.as_deref().unwrap_or("everything");
    let confirmed = |content: &serde_json::Map<_, _>| content.get("confirm") == Some(&json!(true));
    match call.elicited("confirm") {
        None => NeedInput::ask([form("confirm", &format!("Delete {file}?"))]).into_step(),
        Some(Elicited::Accepted(content)) if confirmed(content) => {
            text(format!("Deleted {file}")).into_step()
        }
        Some(_) => text(format!("Kept {file}")).into_step(),
    }
}

fn multi_input(call: &Call) -> Step {
    match (call.elicited("first"), call.elicited("second")) {
        (Some(_), Some(_)) => text("Both questions are answered").into_step(),
        _ => NeedInput::ask([form("first", "First question"), form("second", "Second question")])
            .into_step(),
    }
}

fn form(key: &str, message: &str) -> InputRequest {
    let properties = json!({ "confirm": { "type": "boolean" } });
    elicit(key, message, json!({ "type": "object", "properties": properties }))
}

/// The question is asked before there is a task: the handler has not deferred yet.
fn greet_later(call: &mut Call) -> Step {
    let name = match call.elicited("user_name") {
        None => {
            let properties = json!({ "name": { "type": "string" } });
            let schema =
                json!({ "type": "object", "properties": properties, "required": ["name"] });
            return NeedInput::ask([elicit("user_name", "What is your name?", schema)]).into_step();
        }
        Some(Elicited::Declined) => None,
        Some(Elicited::Accepted(content)) => content.get("name").and_then(|name| name.as_str()),
    };
    text(format!("Hello, {}!", name.unwrap_or("whoever you are"))).into_step()
}
