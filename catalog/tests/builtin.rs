//! Every item of the two built-in catalogs, called once at least.

use erlmcp_protocol::mcp::{Content, InputMethod, ResourceBody, Version, codes};
use serde_json::{Value, json};

use super::{Stage, error, failure, result, said};
use crate::*;

#[test]
fn demo_tools_answer() {
    let stage = Stage::new(demo().expect("catalog"));
    assert_eq!(said(stage.tool("echo", json!({"text": "hi"})).1), "hi");
    for (a, b, text, sum) in [
        (json!(2), json!(3), "5", json!(5)),
        (json!(0.5), json!(0.25), "0.75", json!(0.75)),
        (json!(-0.5), json!(0.5), "0", json!(0)),
        (json!(9_007_199_254_740_991_i64), json!(1), "9007199254740992", json!(1_u64 << 53)),
    ] {
        let result = result(stage.tool("add", json!({"a": a, "b": b})).1);
        assert_eq!(result.content, [Content::Text(text.into())]);
        assert_eq!(result.structured, Some(json!({"sum": sum})));
    }
    failure(stage.tool("add", json!({"a": 1e308, "b": 1e308})).1);
    failure(stage.tool("add", json!({"a": 1})).1);
    let (events, step) = stage.tool("wait", json!({"ms": 0}));
    assert_eq!((events.len(), said(step).as_str()), (10, "Waited 0 ms"));
    assert!(said(stage.tool("wait", json!({"ms": 12})).1).contains("12"));
    let text = failure(stage.tool("wait", json!({"ms": 600_001})).1);
    assert!(text.contains("rule: maximum"), "{text}");
    let (events, _) = stage.tool("publish", json!({"uri": "demo://clock"}));
    assert_eq!(events, [CallEvent::Publish(Change::Resource("demo://clock".into()))]);
}

#[test]
fn demo_resources_and_prompt_answer() {
    let stage = Stage::new(demo().expect("catalog"));
    let read = |uri: &str| match stage.read(uri) {
        Some(Step::Done(Outcome::Resource(contents))) => match &contents[0].body {
            ResourceBody::Text(text) => text.clone(),
            body => panic!("{body:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(read("demo://greeting"), "Hello from erlmcp-shard");
    assert_eq!(read("demo://clock").len(), "2026-07-28T00:00:00Z".len());
    assert_eq!(read("demo://echo/a%20b"), "a b");
    assert!(stage.read("demo://nothing").is_none());
    assert!(matches!(
        stage.prompt("greet", json!({"name": "Ada"})),
        Step::Done(Outcome::Prompt(result)) if result.messages.len() == 1
            && result.description.is_some()
    ));
    error(stage.prompt("greet", json!({})));
}

fn everything_stage() -> Stage {
    Stage::new(everything().expect("catalog"))
}

#[test]
fn plain_fixtures_have_the_suites_texts() {
    let stage = everything_stage();
    let simple = said(stage.tool("test_simple_text", Value::Null).1);
    assert_eq!(simple, "This is a simple text response for testing.");
    let kinds = |name: &str| -> Vec<&'static str> {
        let content = result(stage.tool(name, json!({})).1).content;
        let kind = |content: &Content| match content {
            Content::Text(_) => "text",
            Content::Image { mime_type, .. } => {
                assert_eq!(mime_type, "image/png");
                "image"
            }
            Content::Audio { mime_type, .. } => {
                assert_eq!(mime_type, "audio/wav");
                "audio"
            }
            Content::Resource(_) => "resource",
            Content::ResourceLink { .. } => "link",
        };
        content.iter().map(kind).collect()
    };
    assert_eq!(kinds("test_image_content"), ["image"]);
    assert_eq!(kinds("test_audio_content"), ["audio"]);
    assert_eq!(kinds("test_embedded_resource"), ["resource"]);
    assert_eq!(kinds("test_multiple_content_types"), ["text", "image", "resource"]);
    assert_eq!(
        failure(stage.tool("test_error_handling", json!({})).1),
        "This tool intentionally returns an error for testing"
    );
    said(stage.tool("test_missing_capability", json!({})).1);
    said(stage.tool("test_x_mcp_header", json!({})).1);
    let header =
        stage.handle.snapshot().tool("test_x_mcp_header").expect("tool").header_params().len();
    assert_eq!(header, 3);
}

#[test]
fn progress_logs_and_dropped_streams_come_in_order() {
    let stage = everything_stage();
    let (events, step) = stage.tool("test_tool_with_progress", json!({}));
    said(step);
    let progress: Vec<f64> = events
        .iter()
        .map(|event| match event {
            CallEvent::Progress { progress, total: Some(100.0), .. } => *progress,
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(progress, [0.0, 50.0, 100.0]);
    let (events, _) = stage.tool("test_tool_with_logging", json!({}));
    let texts: Vec<&str> = events
        .iter()
        .map(|event| match event {
            CallEvent::Log { data, .. } => data.as_str().unwrap_or_default(),
            event => panic!("{event:?}"),
        })
        .collect();
    let expect = ["Tool execution started", "Tool processing data", "Tool execution completed"];
    assert_eq!(texts, expect);
    assert_eq!(stage.tool("test_logging_tool", json!({})).0.len(), 1);
    let (events, step) = stage.tool("test_reconnection", json!({}));
    said(step);
    assert_eq!(events, [CallEvent::DropStream { retry_ms: 500 }]);
}

#[test]
fn the_2020_12_schema_is_kept_and_enforced() {
    let stage = everything_stage();
    let tool = "json_schema_2020_12_tool";
    said(stage.tool(tool, json!({"contactMethod": "phone", "phone": "1"})).1);
    failure(stage.tool(tool, json!({"contactMethod": "phone", "email": "a@b"})).1);
    failure(stage.tool(tool, json!({"email": "a@b", "more": 1})).1);
    let snapshot = stage.handle.snapshot();
    let (bytes, _) =
        snapshot.list(ListKind::Tools, Version::V2025_11_25, 0, 1000).expect("one page");
    let listed = std::str::from_utf8(bytes).expect("UTF-8");
    for keyword in ["\"$schema\"", "\"$anchor\":\"addressDef\"", "\"allOf\"", "\"if\"", "\"else\""]
    {
        assert!(listed.contains(keyword), "{keyword} was lost");
    }
}

#[test]
fn triggers_change_the_lists_each_time() {
    let stage = everything_stage();
    let count = |stage: &Stage| stage.handle.snapshot().tool_names().count();
    let before = count(&stage);
    for expect in [before + 1, before, before + 1] {
        said(stage.tool("test_trigger_tool_change", json!({})).1);
        assert_eq!(count(&stage), expect);
    }
    said(stage.tool("test_dynamic_tool", json!({})).1);
    for expect in [true, false, true] {
        said(stage.tool("test_trigger_prompt_change", json!({})).1);
        assert_eq!(stage.handle.snapshot().prompt("test_dynamic_prompt").is_some(), expect);
    }
}

#[test]
fn resources_and_prompts_have_the_suites_texts() {
    let stage = everything_stage();
    let body = |uri: &str| match stage.read(uri) {
        Some(Step::Done(Outcome::Resource(contents))) => contents[0].body.clone(),
        other => panic!("{other:?}"),
    };
    let text = "This is the content of the static text resource.";
    assert_eq!(body("test://static-text"), ResourceBody::Text(text.into()));
    assert!(matches!(body("test://static-binary"), ResourceBody::Blob(_)));
    body("test://watched-resource");
    let ResourceBody::Text(json) = body("test://template/123/data") else { panic!("no text") };
    let value: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value, json!({"id": "123", "templateTest": true, "data": "Data for ID: 123"}));
    for (name, arguments, count) in [
        ("test_simple_prompt", json!({}), 1),
        ("test_prompt_with_arguments", json!({"arg1": "a", "arg2": "b"}), 1),
        ("test_prompt_with_embedded_resource", json!({"resourceUri": "test://x"}), 2),
        ("test_prompt_with_image", json!({}), 2),
    ] {
        let Step::Done(Outcome::Prompt(result)) = stage.prompt(name, arguments) else {
            panic!("{name} gave no prompt")
        };
        assert_eq!(result.messages.len(), count, "{name}");
    }
}

/// Runs a tool that asks: each round is what must be asked, and how the client answers it.
#[track_caller]
fn check_rounds(tool: &str, arguments: Value, rounds: &[(&[&str], Value)], expect: &str) {
    let mut stage = everything_stage();
    let mut states = Vec::new();
    for (keys, responses) in rounds {
        let (_, step) = stage.tool(tool, arguments.clone());
        let Step::NeedInput(need) = step else { panic!("{tool} did not ask: {step:?}") };
        let asked: Vec<&str> = need.requests.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(asked, *keys);
        assert!(!states.contains(&need.state) || need.state.is_none(), "the state must move on");
        states.push(need.state.clone());
        stage.state = need.state;
        stage.responses = responses.as_object().cloned().unwrap_or_default();
    }
    let text = said(stage.tool(tool, arguments).1);
    assert!(text.contains(expect), "{text:?} does not say {expect:?}");
}

fn accept(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

#[test]
fn asking_tools_ask_and_then_answer() {
    let sampled =
        json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}});
    let rooted = json!({"roots": [{"uri": "file:///test/root"}]});
    let none = || json!({});
    check_rounds(
        "test_sampling",
        json!({"prompt": "p"}),
        &[(&["sample"], json!({"sample": sampled}))],
        "LLM response: Paris",
    );
    let credentials = accept(json!({"username": "u", "email": "e"}));
    check_rounds(
        "test_elicitation",
        json!({"message": "m"}),
        &[(&["form"], json!({"form": credentials}))],
        "action=accept",
    );
    for name in [
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_streaming_elicitation",
    ] {
        check_rounds(name, none(), &[(&["form"], json!({"form": accept(json!({}))}))], "accept");
    }
    check_rounds(
        "test_input_required_result_elicitation",
        none(),
        &[
            (&["user_name"], json!({"wrong_key": accept(json!({}))})),
            (&["user_name"], json!({"user_name": 12345})),
            (&["user_name"], json!({"user_name": accept(json!({"name": "Alice"}))})),
        ],
        "Hello, Alice!",
    );
    check_rounds(
        "test_input_required_result_sampling",
        none(),
        &[(&["capital_question"], json!({"capital_question": sampled}))],
        "Paris",
    );
    check_rounds(
        "test_input_required_result_list_roots",
        none(),
        &[(&["client_roots"], json!({"client_roots": rooted}))],
        "file:///test/root",
    );
    let confirmed = json!({"confirm": accept(json!({"ok": true}))});
    check_rounds(
        "test_input_required_result_request_state",
        none(),
        &[(&["confirm"], confirmed.clone())],
        "state-ok",
    );
    check_rounds(
        "test_input_required_result_tampered_state",
        none(),
        &[(&["confirm"], confirmed)],
        "unchanged",
    );
    check_rounds(
        "test_input_required_result_multiple_inputs",
        none(),
        &[(
            &["user_name", "greeting", "client_roots"],
            json!({
                "user_name": accept(json!({"name": "Alice"})),
                "greeting": sampled,
                "client_roots": rooted,
            }),
        )],
        "Alice",
    );
    check_rounds(
        "test_input_required_result_multi_round",
        none(),
        &[
            (&["step1"], json!({"step1": accept(json!({"name": "Alice"}))})),
            (&["step2"], json!({"step2": accept(json!({"color": "blue"}))})),
        ],
        "Alice likes blue",
    );
}

#[test]
fn declining_is_a_normal_answer() {
    for (tool, key) in [
        ("test_streaming_elicitation", "form"),
        ("test_input_required_result_elicitation", "user_name"),
    ] {
        let declined = json!({key: {"action": "decline"}});
        check_rounds(tool, json!({}), &[(&[key], declined)], "");
    }
}

#[test]
fn a_state_that_is_missing_starts_over() {
    let mut stage = everything_stage();
    stage.responses =
        json!({"confirm": accept(json!({"ok": true}))}).as_object().cloned().expect("object");
    let (_, step) = stage.tool("test_input_required_result_request_state", json!({}));
    assert!(matches!(step, Step::NeedInput(need) if need.state.is_some()));
}

#[test]
fn only_what_the_client_declared_is_asked() {
    let mut stage = everything_stage();
    stage.client = protocol::ClientCapabilities { sampling: true, ..Default::default() };
    let (_, step) = stage.tool("test_input_required_result_capabilities", json!({}));
    let Step::NeedInput(need) = step else { panic!("{step:?}") };
    let methods: Vec<InputMethod> = need.requests.iter().map(|request| request.method).collect();
    assert_eq!(methods, [InputMethod::Sample]);
}

#[test]
fn the_asking_prompt_asks() {
    let mut stage = everything_stage();
    let step = stage.prompt("test_input_required_result_prompt", Value::Null);
    assert!(matches!(&step, Step::NeedInput(need) if need.requests[0].key == "user_context"));
    stage.responses = json!({"user_context": accept(json!({"context": "test context"}))})
        .as_object()
        .cloned()
        .expect("object");
    let step = stage.prompt("test_input_required_result_prompt", Value::Null);
    assert!(matches!(step, Step::Done(Outcome::Prompt(result)) if !result.messages.is_empty()));
}

#[test]
fn a_missing_resource_has_each_eras_code() {
    let modern = resource_not_found("test://x", Version::V2026_07_28);
    let legacy = resource_not_found("test://x", Version::V2025_11_25);
    assert_eq!((modern.code, legacy.code), (codes::INVALID_PARAMS, codes::RESOURCE_NOT_FOUND));
    assert_eq!(modern.data, Some(json!({"uri": "test://x"})));
}
