//! Tools whose calls can become tasks: how they are declared, what is offered then, and the fixtures.

use std::time::Duration;

use erlmcp_protocol::mcp::{TASKS_EXTENSION, Version, codes};
use serde_json::{Value, json};

use super::api::{check_refused, tempfile};
use super::{Stage, error, failure, said};
use crate::*;

fn tool(name: &str) -> Tool {
    Tool::new(name).handler(|_: NoArguments, _: &mut Call| "done")
}

#[track_caller]
fn hints(tool: Tool) -> Option<TaskHints> {
    let stage = Stage::new(Catalog::builder().tool(tool).build().expect("catalog"));
    stage.handle.snapshot().tool("t").expect("tool").task().copied()
}

#[test]
fn a_tool_says_how_its_calls_become_tasks() {
    assert_eq!(hints(tool("t")), None);
    let optional =
        TaskHints { support: TaskSupport::Optional, ttl_ms: None, poll_interval_ms: 1000 };
    assert_eq!(hints(tool("t").task(TaskSupport::Optional)), Some(optional));
    let all = tool("t")
        .poll_interval(Duration::from_millis(1))
        .task_ttl(Duration::from_secs(60))
        .task(TaskSupport::Required);
    let required =
        TaskHints { support: TaskSupport::Required, ttl_ms: Some(60_000), poll_interval_ms: 1 };
    assert_eq!(hints(all), Some(required));
}

#[test]
fn hints_that_mean_nothing_are_refused() {
    let refused = |tool: Tool, why: &str| {
        check_refused(Catalog::builder().tool(tool), &format!("tool `t`: {why}"));
    };
    let idle = "it has hints for tasks, but does not run as one";
    refused(tool("t").task_ttl(Duration::from_secs(1)), idle);
    refused(tool("t").poll_interval(Duration::from_secs(1)), idle);
    let short = "a hint for tasks must be at least a millisecond, and some time within reach";
    let task = |name| tool(name).task(TaskSupport::Optional);
    refused(task("t").task_ttl(Duration::from_micros(999)), short);
    refused(task("t").poll_interval(Duration::ZERO), short);
    refused(task("t").task_ttl(Duration::MAX), short);
}

#[test]
fn tasks_are_offered_by_who_has_some_and_stay_offered() {
    let offered = |stage: &Stage, version| {
        let snapshot = stage.handle.snapshot();
        let capabilities: Value =
            serde_json::from_slice(snapshot.capabilities_json(version)).expect("JSON");
        assert!(capabilities.get("tasks").is_none(), "{capabilities}");
        let extension =
            capabilities.pointer(&format!("/extensions/{}", "io.modelcontextprotocol~1tasks"));
        assert_eq!(extension.is_some(), version.is_modern() && snapshot.has_tasks());
        extension == Some(&json!({}))
    };
    let newest = Version::V2026_07_28;
    assert_eq!(TASKS_EXTENSION, "io.modelcontextprotocol/tasks");
    let stage = Stage::new(Catalog::builder().tool(tool("a")).build().expect("catalog"));
    assert!(!offered(&stage, newest));
    let task = tool("b").task(TaskSupport::Optional);
    stage.handle.update(|draft| draft.add_tool(task)).expect("update");
    for version in Version::ALL {
        assert_eq!(offered(&stage, version), version.is_modern());
    }
    stage.handle.update(|draft| assert!(draft.remove_tool("b"))).expect("update");
    assert!(offered(&stage, newest), "a capability is a promise");
}

#[test]
fn a_tool_that_must_be_a_task_requires_a_client_that_knows_of_them() {
    let catalog = Catalog::builder()
        .tool(tool("may").task(TaskSupport::Optional))
        .tool(tool("must").task(TaskSupport::Required))
        .build()
        .expect("catalog");
    let stage = Stage::new(catalog);
    let requires = |name: &str| stage.handle.snapshot().tool(name).expect("tool").requires().tasks;
    assert_eq!((requires("may"), requires("must")), (false, true));
}

#[track_caller]
fn check_file(task: &str, expect: Result<TaskHints, &str>) {
    let path = tempfile("tasks.toml");
    let text = format!("[[tool]]\nname = 't'\nexec = ['true']\n{task}\n");
    std::fs::write(&path, text).expect("file");
    let loaded = Catalog::load(&path);
    std::fs::remove_file(&path).expect("clean up");
    match (loaded, expect) {
        (Ok(catalog), Ok(hints)) => {
            let snapshot = catalog.into_handle().snapshot();
            assert_eq!(snapshot.tool("t").expect("tool").task(), Some(&hints));
        }
        (Err(err), Err(why)) => {
            let faults = err.to_string();
            assert!(faults.ends_with(why) && faults.lines().count() == 1, "{faults}");
        }
        (Ok(_), Err(why)) => panic!("was accepted, expected: {why}"),
        (Err(err), Ok(_)) => panic!("{err}"),
    }
}

#[test]
fn a_catalog_file_declares_tasks() {
    let hints =
        |support, ttl_ms, poll_interval_ms| Ok(TaskHints { support, ttl_ms, poll_interval_ms });
    check_file("task = { support = 'required' }", hints(TaskSupport::Required, None, 1000));
    check_file(
        "task = { support = 'optional', ttl_ms = 600000, poll_interval_ms = 5000 }",
        hints(TaskSupport::Optional, Some(600_000), 5000),
    );
    check_file("task = {}", Err(":4: tool.task.support: is missing"));
    let unknown = ":4: tool.task.support: must be \"optional\" or \"required\"";
    check_file("task = { support = 'always', ttl_ms = 5 }", Err(unknown));
    let out_of_range = ":4: tool.task.ttl_ms: must be from 1 to 86400000";
    check_file("task = { support = 'optional', ttl_ms = 0 }", Err(out_of_range));
}

#[test]
fn task_fixtures_answer() {
    let mut stage = Stage::new(everything().expect("catalog"));
    assert_eq!(said(stage.tool("greet", json!({"name": "Ada"})).1), "Hello, Ada!");
    let (events, step) = stage.tool("slow_compute", json!({"seconds": 0.06, "label": "x"}));
    assert_eq!((events.len(), said(step).as_str()), (1, "Computed for 0.06 s (x)"));
    failure(stage.tool("slow_compute", json!({"seconds": -1})).1);
    failure(stage.tool("failing_job", json!({})).1);
    assert_eq!(error(stage.tool("protocol_error_job", json!({})).1).code, codes::INTERNAL_ERROR);
    let keys = |step: Step| -> Vec<String> {
        let Step::NeedInput(need) = step else { panic!("asks nothing: {step:?}") };
        need.requests.into_iter().map(|request| request.key).collect()
    };
    // Asked by the task: it had left the shard.
    assert_eq!(stage.start("confirm_delete", json!({"filename": "a"})).1, Step::Later);
    assert_eq!(keys(stage.wait().1), ["confirm"]);
    assert_eq!(keys(stage.tool("multi_input", json!({})).1), ["first", "second"]);
    // Asked before there is one.
    assert_eq!(keys(stage.start("test_tool_with_task", json!({})).1), ["user_name"]);
    let accept = |content: Value| json!({"action": "accept", "content": content});
    for (confirm, expect) in [(true, "Deleted a"), (false, "Kept a")] {
        stage.responses.insert("confirm".into(), accept(json!({"confirm": confirm})));
        assert_eq!(said(stage.tool("confirm_delete", json!({"filename": "a"})).1), expect);
    }
    stage.responses.insert("first".into(), accept(json!({})));
    assert_eq!(keys(stage.tool("multi_input", json!({})).1).len(), 2);
    stage.responses.insert("second".into(), accept(json!({})));
    said(stage.tool("multi_input", json!({})).1);
    stage.responses.insert("user_name".into(), accept(json!({"name": "Alice"})));
    assert_eq!(said(stage.tool("test_tool_with_task", json!({})).1), "Hello, Alice!");
    stage.cancel();
    let cancelled = failure(stage.tool("slow_compute", json!({"seconds": 3600})).1);
    assert_eq!(cancelled, "Cancelled");
}
