//! What we write of tasks is valid by the schema of the extension.

use std::sync::LazyLock;

use erlmcp_protocol::jsonrpc::write_error_object;
use erlmcp_protocol::mcp::*;
use serde_json::{Value, json};

const INFO: &[u8] = br#"{"name":"crane-mcp","version":"0.3.0"}"#;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("schema/ext-tasks-draft.json")).expect("a schema is JSON")
});

/// Whether `value` is what the extension calls `kind`.
#[track_caller]
fn check_valid(kind: &str, value: &Value) {
    let errors = errors_of(kind, value);
    assert!(errors.is_empty(), "{kind}: {errors:?} in {value}");
}

fn errors_of(kind: &str, value: &Value) -> Vec<String> {
    let mut schema = SCHEMA.clone();
    assert!(schema["$defs"].get(kind).is_some(), "there is no {kind}");
    schema["$ref"] = format!("#/$defs/{kind}").into();
    let validator = jsonschema::validator_for(&schema).expect("a published schema compiles");
    validator.iter_errors(value).map(|err| err.to_string()).collect()
}

fn head(status: TaskStatus) -> TaskHead<'static> {
    TaskHead {
        id: "t_9vK2m8Q1xYb7",
        status,
        message: None,
        created_unix_ms: 1_795_165_200_000,
        updated_unix_ms: 1_795_165_450_000,
        ttl_ms: 3_600_000,
        poll_interval_ms: 2000,
    }
}

fn requests() -> Vec<InputRequest> {
    let form =
        json!({ "message": "Sure?", "requestedSchema": { "type": "object", "properties": {} } });
    let ask = |key: &str, method, params| InputRequest { key: key.to_owned(), method, params };
    let text = json!({ "role": "user", "content": { "type": "text", "text": "?" } });
    vec![
        ask("form-1", InputMethod::ElicitForm, form),
        ask("model-1", InputMethod::Sample, json!({ "messages": [text], "maxTokens": 5 })),
        ask("roots-1", InputMethod::Roots, json!({})),
    ]
}

#[track_caller]
fn parsed(out: &[u8]) -> Value {
    assert!(!out.iter().any(|byte| *byte < 0x20), "one line");
    serde_json::from_slice(out).expect("JSON")
}

#[test]
fn a_created_task_is_byte_for_byte_this() {
    let mut out = Vec::new();
    write_created_task(&mut out, &head(TaskStatus::Working), None);
    let expect = r#"{"resultType":"task","taskId":"t_9vK2m8Q1xYb7","status":"working","createdAt":"2026-11-20T09:00:00.000Z","lastUpdatedAt":"2026-11-20T09:04:10.000Z","ttlMs":3600000,"pollIntervalMs":2000}"#;
    assert_eq!(String::from_utf8_lossy(&out), expect);
    check_valid("CreateTaskResult", &parsed(&out));
}

#[test]
fn tasks_are_valid_in_every_state() {
    let (mut result, mut error) = (Vec::new(), Vec::new());
    let tool_result = ToolResult { is_error: true, ..ToolResult::default() };
    write_tool_result(&mut result, &tool_result, Version::V2026_07_28, None);
    write_error_object(&mut error, &RpcError::new(-32603, "Broken").with_data(json!([1])));
    let requests = requests();
    for (status, detail, kind, member) in [
        (TaskStatus::Working, TaskDetail::None, "WorkingTask", None),
        (
            TaskStatus::InputRequired,
            TaskDetail::Requests(&requests),
            "InputRequiredTask",
            Some("inputRequests"),
        ),
        (TaskStatus::Completed, TaskDetail::Result(&result), "CompletedTask", Some("result")),
        (TaskStatus::Failed, TaskDetail::Error(&error), "FailedTask", Some("error")),
        (TaskStatus::Cancelled, TaskDetail::None, "CancelledTask", None),
    ] {
        for message in [None, Some("Half \"done\"")] {
            let (mut members, mut out) = (Vec::new(), Vec::new());
            write_task_members(&mut members, &TaskHead { message, ..head(status) }, detail);
            write_task_result(&mut out, &members, Some(INFO));
            let got = parsed(&out);
            check_valid("GetTaskResult", &got);
            check_valid(kind, &got);
            assert_eq!(got["resultType"], "complete");
            assert_eq!(got["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "crane-mcp");
            assert_eq!(got.get("statusMessage").and_then(Value::as_str), message);
            for other in ["inputRequests", "result", "error"] {
                assert_eq!(got.get(other).is_some(), Some(other) == member, "{other} in {got}");
            }
            let told = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{{}}}}}"#,
                String::from_utf8_lossy(&members)
            );
            check_valid("TaskStatusNotification", &parsed(told.as_bytes()));
        }
    }
}

#[test]
fn the_schema_refuses_what_is_no_task() {
    assert!(!errors_of("CreateTaskResult", &json!({ "resultType": "task" })).is_empty());
    let (mut members, mut out) = (Vec::new(), Vec::new());
    write_task_members(&mut members, &head(TaskStatus::Completed), TaskDetail::None);
    write_task_result(&mut out, &members, None);
    assert!(!errors_of("GetTaskResult", &parsed(&out)).is_empty());
}
