//! What authors of handlers rely on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use erlmcp_protocol::mcp::{Content, LogLevel, ResourceBody, Role, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PATIENCE, Stage, error, failure, said};
use crate::*;

#[derive(Deserialize, JsonSchema)]
struct Point {
    x: i32,
    #[serde(default)]
    label: Option<String>,
}

fn stage_of(tool: Tool) -> Stage {
    Stage::new(Catalog::builder().tool(tool).build().expect("catalog"))
}

fn point_tool() -> Tool {
    Tool::new("point").handler(|point: Point, _: &mut Call| {
        text(format!("{} {}", point.x, point.label.unwrap_or_default()))
    })
}

#[track_caller]
fn check_violation(arguments: Value, expect: &[&str]) {
    let text = failure(stage_of(point_tool()).tool("point", arguments).1);
    for part in expect {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn arguments_that_break_the_schema_name_path_and_rule() {
    check_violation(json!({}), &["at /:", "\"x\" is a required property", "rule: required"]);
    check_violation(json!({"x": "1"}), &["at /x:", "rule: type"]);
    check_violation(json!({"x": 1, "label": 5}), &["at /label:"]);
    check_violation(json!({"x": 1.5}), &["at /x:", "integer"]);
    let both = json!({"x": "secret-value", "label": 5});
    check_violation(both.clone(), &["at /x:", "at /label:"]);
    let text = failure(stage_of(point_tool()).tool("point", both).1);
    assert!(!text.contains("secret-value"), "a value was told: {text}");
}

#[test]
fn arguments_within_the_schema_reach_the_handler() {
    let stage = stage_of(point_tool());
    assert_eq!(said(stage.tool("point", json!({"x": -3, "label": "a", "more": 1})).1), "-3 a");
    // In the schema's numbers, but not in the handler's.
    let text = failure(stage.tool("point", json!({"x": 5_000_000_000_i64})).1);
    assert!(text.starts_with("Invalid arguments"), "{text}");
}

#[test]
fn arguments_that_are_no_object_are_a_protocol_error() {
    let stage = stage_of(point_tool());
    for arguments in [json!([]), json!("x"), json!(1), json!(true)] {
        assert_eq!(error(stage.tool("point", arguments).1).code, codes::INVALID_PARAMS);
    }
}

#[test]
fn absent_arguments_are_an_empty_object() {
    let stage = stage_of(Tool::new("none").handler(|_: NoArguments, _: &mut Call| "ok"));
    assert_eq!(said(stage.tool("none", Value::Null).1), "ok");
    assert_eq!(said(stage.tool("none", json!({})).1), "ok");
    assert!(failure(stage.tool("none", json!({"a": 1})).1).contains("rule: additionalProperties"));
}

#[test]
fn derived_schemas_are_plain_objects() {
    let catalog = Catalog::builder().tool(point_tool()).build().expect("catalog");
    let handle = catalog.into_handle();
    let snapshot = handle.snapshot();
    let (page, _) = snapshot
        .list(ListKind::Tools, erlmcp_protocol::mcp::Version::V2026_07_28, 0, 10)
        .expect("page");
    let tool: Value = serde_json::from_slice(page).expect("JSON");
    assert_eq!(
        tool["inputSchema"],
        json!({
            "type": "object",
            "properties": {
                "x": { "type": "integer" },
                "label": { "type": ["string", "null"], "default": null },
            },
            "required": ["x"],
        })
    );
}

#[test]
fn a_panic_is_an_internal_error_that_tells_nothing() {
    let boom = || -> &'static str { panic!("secret of the handler") };
    let inline = stage_of(Tool::new("t").handler(move |_: NoArguments, _: &mut Call| boom()));
    let blocking = stage_of(Tool::new("t").blocking(move |_: NoArguments, _: Call| boom()));
    let future =
        stage_of(Tool::new("t").future(move |_: NoArguments, _: Call| async move { boom() }));
    for stage in [inline, blocking, future] {
        let error = error(stage.tool("t", json!({})).1);
        assert_eq!((error.code, error.message.as_ref()), (codes::INTERNAL_ERROR, "Internal error"));
    }
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i64,
}

#[test]
fn results_are_held_to_the_output_schema() {
    let schema = json!({
        "type": "object",
        "properties": { "sum": { "type": "integer" } },
        "required": ["sum"],
    });
    let answering = |answer: fn() -> Step| {
        let tool = Tool::new("t").output_schema(schema.clone());
        stage_of(tool.handler(move |_: NoArguments, _: &mut Call| answer())).tool("t", json!({})).1
    };
    assert_eq!(said(answering(|| Json(Sum { sum: 3 }).into_step())), r#"{"sum":3}"#);
    let wrong = answering(|| Json(json!({"sum": "3"})).into_step());
    assert_eq!(error(wrong).code, codes::INTERNAL_ERROR);
    let absent = answering(|| text("3").into_step());
    assert_eq!(error(absent).code, codes::INTERNAL_ERROR);
    // A failure has no structured content to hold to anything.
    assert_eq!(failure(answering(|| failed("no").into_step())), "no");
    let foreign = answering(|| Step::Done(Outcome::Resource(Vec::new())));
    assert_eq!(error(foreign).code, codes::INTERNAL_ERROR);
}

#[test]
fn deferred_answers_are_checked_as_well() {
    let tool = Tool::new("t").output::<Sum>();
    let stage = stage_of(tool.blocking(|_: NoArguments, _: Call| text("no structure")));
    assert_eq!(error(stage.tool("t", json!({})).1).code, codes::INTERNAL_ERROR);
}

#[test]
fn errors_of_a_tool_are_results_and_steps_are_protocol_errors() {
    let stage = stage_of(Tool::new("t").handler(|_: NoArguments, _: &mut Call| {
        Err::<String, _>(std::fmt::Error) // Any error that can be displayed.
    }));
    assert!(failure(stage.tool("t", json!({})).1).contains("error"));
    let rejected = protocol::RpcError::new(codes::INVALID_PARAMS, "no such thing");
    let stage = stage_of(
        Tool::new("t").handler(move |_: NoArguments, _: &mut Call| Step::Error(rejected.clone())),
    );
    assert_eq!(error(stage.tool("t", json!({})).1).message, "no such thing");
}

#[test]
fn events_of_an_inline_call_come_with_its_step() {
    let stage = stage_of(Tool::new("t").handler(|_: NoArguments, call: &mut Call| {
        call.progress(1.0, None, None);
        call.log(LogLevel::Info, Some("t"), json!("hello"));
        assert!(!call.is_cancelled());
        "done"
    }));
    let (events, step) = stage.start("t", json!({}));
    assert_eq!(said(step), "done");
    assert!(matches!(
        events.as_slice(),
        [CallEvent::Progress { .. }, CallEvent::Log { level: LogLevel::Info, .. }]
    ));
}

#[test]
fn a_deferred_reply_answers_once_from_any_thread() {
    let stage = stage_of(Tool::new("t").handler(|_: NoArguments, call: &mut Call| {
        let reply = call.defer();
        std::thread::spawn(move || {
            reply.progress(1.0, Some(2.0), None);
            reply.done("from afar");
        });
        Step::Later
    }));
    let (events, step) = stage.tool("t", json!({}));
    assert_eq!((events.len(), said(step).as_str()), (1, "from afar"));
}

#[test]
fn a_reply_that_is_dropped_or_postponed_again_is_an_internal_error() {
    let dropped = stage_of(Tool::new("t").handler(|_: NoArguments, call: &mut Call| {
        drop(call.defer());
        Step::Later
    }));
    let postponed = stage_of(Tool::new("t").handler(|_: NoArguments, call: &mut Call| {
        call.defer().step(Step::Later);
        Step::Later
    }));
    let never = stage_of(Tool::new("t").blocking(|_: NoArguments, _: Call| Step::Later));
    for stage in [dropped, postponed, never] {
        assert_eq!(error(stage.tool("t", json!({})).1).code, codes::INTERNAL_ERROR);
    }
}

#[test]
fn one_call_more_than_the_cap_is_told_to_retry_and_the_next_may_run() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let stage =
        stage_of(Tool::new("t").concurrency_max(1).blocking(move |_: NoArguments, _: Call| {
            let _ = gate.lock().map(|gate| gate.recv_timeout(PATIENCE));
            "ran"
        }));
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    assert!(failure(stage.tool("t", json!({})).1).contains("busy"));
    release.send(()).expect("the first call waits");
    assert_eq!(said(stage.wait().1), "ran");
    release.send(()).expect("the tool is there");
    assert_eq!(said(stage.tool("t", json!({})).1), "ran");
}

/// A runner whose queue is always full.
struct Full;

impl Runner for Full {
    fn spawn_blocking(&self, _: runner::BlockingJob) -> Result<(), Overloaded> {
        Err(Overloaded)
    }
    fn spawn_future(&self, _: runner::FutureJob) -> Result<(), Overloaded> {
        Err(Overloaded)
    }
    fn sleep(&self, _: Duration) -> runner::LocalFuture {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_full_runner_says_busy_and_gives_the_place_back() {
    let catalog = Catalog::builder()
        .tool(Tool::new("t").concurrency_max(1).blocking(|_: NoArguments, _: Call| "ran"))
        .tool(Tool::new("f").concurrency_max(1).future(|_: NoArguments, _: Call| async { "ran" }))
        .build()
        .expect("catalog");
    let mut stage = Stage::new(catalog);
    stage.replace_runner(Arc::new(Full));
    for name in ["t", "t", "f", "f"] {
        assert!(failure(stage.tool(name, json!({})).1).contains("busy"));
    }
}

#[test]
fn a_future_that_takes_too_long_is_dropped_and_told() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&drops);
    let tool = Tool::new("t").timeout(Duration::from_millis(10));
    let stage = stage_of(tool.future(move |_: NoArguments, _: Call| {
        let guard = Dropped(Arc::clone(&theirs));
        async move {
            let _guard = guard;
            std::future::pending::<&str>().await
        }
    }));
    assert_eq!(failure(stage.tool("t", json!({})).1), "Timed out after 10 ms");
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cancelled_call_can_see_it() {
    let stage = stage_of(Tool::new("t").blocking(|_: NoArguments, call: Call| {
        while !call.is_cancelled() {
            std::thread::yield_now();
        }
        "stopped"
    }));
    assert_eq!(stage.start("t", json!({})).1, Step::Later);
    stage.cancel();
    assert_eq!(said(stage.wait().1), "stopped");
}

#[test]
fn prompts_want_their_required_arguments_as_strings() {
    let prompt = Prompt::new("p")
        .argument("who", true, "Whom")
        .argument("how", false, "")
        .template_messages([
            (Role::User, "Greet {{who}} {{ how }}!"),
            (Role::Assistant, "{{who}} has been greeted"),
        ]);
    let stage = Stage::new(Catalog::builder().prompt(prompt).build().expect("catalog"));
    let Step::Done(Outcome::Prompt(result)) =
        stage.prompt("p", json!({"who": "{{how}}", "z": "1"}))
    else {
        panic!("no prompt")
    };
    // A value is never searched for placeholders again.
    assert_eq!(result.messages[0].content, Content::Text("Greet {{how}} !".into()));
    assert_eq!(result.messages[1].role, Role::Assistant);
    assert_eq!(error(stage.prompt("p", json!({}))).message, "Missing argument: who");
    assert_eq!(error(stage.prompt("p", Value::Null)).code, codes::INVALID_PARAMS);
    assert_eq!(error(stage.prompt("p", json!({"who": 5}))).code, codes::INVALID_PARAMS);
    assert_eq!(error(stage.prompt("p", json!([]))).code, codes::INVALID_PARAMS);
}

#[track_caller]
fn check_template(template: &str, uri: &str, expect: Option<&str>) {
    let template =
        ResourceTemplate::new(template, "t").handler(|vars: &Arguments, _: &mut Call| {
            vars.iter().map(|(name, value)| format!("{name}={value};")).collect::<String>()
        });
    let stage = Stage::new(Catalog::builder().template(template).build().expect("catalog"));
    let found = stage.read(uri).map(|step| match step {
        Step::Done(Outcome::Resource(contents)) => {
            assert_eq!(contents[0].uri, uri);
            contents[0].body.clone()
        }
        step => panic!("not a resource: {step:?}"),
    });
    assert_eq!(found, expect.map(|text| ResourceBody::Text(text.into())), "{uri}");
}

#[test]
fn templates_match_one_segment_and_decode_it() {
    let template = "demo://echo/{text}";
    check_template(template, "demo://echo/hi", Some("text=hi;"));
    check_template(template, "demo://echo/a%20b%2Fc", Some("text=a b/c;"));
    check_template(template, "demo://echo/", None);
    check_template(template, "demo://echo/a/b", None);
    check_template(template, "demo://echo/%zz", None);
    check_template(template, "demo://echo/%2", None);
    check_template(template, "demo://echo/%ff", None);
    check_template(template, "demo://echo/%00", None);
    check_template(template, "demo://ech/hi", None);
    check_template("x://{a}/{b}/z", "x://1/2/z", Some("a=1;b=2;"));
    check_template("x://{a}/{b}/z", "x://1/2/z/z", None);
    check_template("x://{a}-{b}", "x://1-2-3", Some("a=1;b=2-3;"));
    check_template("x://{id}.json", "x://a.json.json", Some("id=a.json;"));
}

#[test]
fn path_variables_span_segments_but_never_climb() {
    let template = "files:///{+path}";
    check_template(template, "files:///a/b%20c.txt", Some("path=a/b c.txt;"));
    for uri in [
        "files:///../etc/passwd",
        "files:///a/../../etc/passwd",
        "files:///%2e%2e/etc/passwd",
        "files:///a%2f..%2f..%2fetc",
        "files:///..%5cetc",
        "files:////etc/passwd",
        "files:///a/./b",
        "files:///a//b",
        "files:///a/",
        "files:///a%00b",
    ] {
        check_template(template, uri, None);
    }
}

#[test]
fn files_are_read_afresh_and_folders_are_not_left() {
    let root = tempfile("folder");
    std::fs::create_dir_all(root.join("inside/deep")).expect("folder");
    std::fs::write(root.join("secret.txt"), "secret").expect("file");
    std::fs::write(root.join("inside/deep/a.txt"), "one").expect("file");
    std::fs::write(root.join("inside/raw"), [0xff, 0x00]).expect("file");
    std::os::unix::fs::symlink("../secret.txt", root.join("inside/link")).expect("link");
    std::os::unix::fs::symlink("deep/a.txt", root.join("inside/fine")).expect("link");
    let stage = Stage::new(
        Catalog::builder()
            .resource(Resource::file("f://a", "a", root.join("inside/deep/a.txt")))
            .resource(Resource::file("f://gone", "gone", root.join("nothing")))
            .template(ResourceTemplate::new("d:///{+path}", "d").directory(root.join("inside")))
            .build()
            .expect("catalog"),
    );
    let body = |uri: &str| match stage.read(uri) {
        Some(Step::Done(Outcome::Resource(contents))) => Some(contents[0].body.clone()),
        Some(Step::Error(error)) => {
            assert_eq!(error.code, codes::INVALID_PARAMS);
            assert_eq!(error.data, Some(json!({"uri": uri})));
            None
        }
        other => panic!("{other:?}"),
    };
    let text = |text: &str| Some(ResourceBody::Text(text.into()));
    assert_eq!(body("f://a"), text("one"));
    std::fs::write(root.join("inside/deep/a.txt"), "two").expect("file");
    assert_eq!(body("f://a"), text("two"));
    assert_eq!(body("f://gone"), None);
    assert_eq!(body("d:///deep/a.txt"), text("two"));
    assert_eq!(body("d:///fine"), text("two"));
    assert_eq!(body("d:///raw"), Some(ResourceBody::Blob("/wA=".into())));
    assert_eq!(body("d:///link"), None, "a link must not lead out of the folder");
    assert_eq!(body("d:///deep"), None, "a folder is not a file");
    assert_eq!(body("d:///nothing"), None);
    std::fs::remove_dir_all(&root).expect("clean up");
}

/// A path of our own that does not exist yet.
pub(super) fn tempfile(name: &str) -> std::path::PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("erlmcp-catalog-{}-{count}-{name}", std::process::id()))
}

#[track_caller]
pub(super) fn check_refused(builder: Builder, expect: &str) {
    let Err(err) = builder.build() else { panic!("was accepted, expected: {expect}") };
    assert_eq!(err.to_string(), expect);
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let tool = |name: &str| Tool::new(name).handler(|_: NoArguments, _: &mut Call| "");
    let with = |schema: Value| {
        let tool = Tool::new("t").input_schema(schema);
        Catalog::builder().tool(tool.handler(|_: Value, _: &mut Call| ""))
    };
    check_refused(
        Catalog::builder().tool(tool("a")).tool(tool("a")),
        "tool `a`: the name is taken",
    );
    check_refused(Catalog::builder().tool(tool("")), "tool ``: the name is empty");
    check_refused(
        Catalog::builder().tool(tool("a b")),
        "tool `a b`: ' ' is not allowed in a name (A-Z a-z 0-9 _ - .)",
    );
    let long = "x".repeat(129);
    check_refused(
        Catalog::builder().tool(tool(&long)),
        &format!("tool `{long}`: the name is longer than 128 characters"),
    );
    assert!(Catalog::builder().tool(tool(&long[..128])).build().is_ok());
    check_refused(Catalog::builder().tool(Tool::new("t")), "tool `t`: it has no handler");
    check_refused(
        with(json!({"type": "string"})),
        "tool `t`: the root of the input schema must be \"type\": \"object\"",
    );
    for bad in [
        json!({"type": "object", "properties": {"a": {"type": "strin"}}}),
        json!({"type": "object", "$ref": "https://example.com/schema.json"}),
        json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}),
        json!({"type": "object", "properties": {"a": {"pattern": "("}}}),
    ] {
        let Err(err) = with(bad.clone()).build() else { panic!("was accepted: {bad}") };
        assert!(err.to_string().starts_with("tool `t`: "), "{err}");
    }
    check_refused(
        Catalog::builder().resource(Resource::text("no scheme", "n", "")),
        "resource `no scheme`: the URI has no scheme (e.g. `notes://today`)",
    );
    check_refused(
        Catalog::builder().resource(Resource::text("a://b c", "n", "")),
        "resource `a://b c`: byte 5 of the URI is not allowed there (RFC 3986)",
    );
    let template = |uri: &str| {
        let template = ResourceTemplate::new(uri, "n");
        Catalog::builder().template(template.handler(|_: &Arguments, _: &mut Call| ""))
    };
    check_refused(
        template("a://{b}{c}"),
        "resource template `a://{b}{c}`: two variables stand side by side",
    );
    check_refused(template("a://{b"), "resource template `a://{b`: a `{` or `}` has no partner");
    check_refused(
        template("a://{?b}"),
        "resource template `a://{?b}`: `{?b}` is not a variable (only `{name}` and `{+name}`)",
    );
    check_refused(
        Catalog::builder().prompt(Prompt::new("p").template_messages([(Role::User, "{{x}}")])),
        "prompt `p`: a message uses `{{x}}`, which is no argument",
    );
    let deep = (0..100).fold(json!({}), |inner, _| json!({"not": inner}));
    let Err(err) = with(json!({"type": "object", "not": deep})).build() else { panic!("accepted") };
    assert!(err.to_string().contains("nested deeper"), "{err}");
}

#[test]
fn completions_are_bounded_and_unknown_references_refused() {
    let prompt = Prompt::new("p")
        .argument("n", false, "")
        .argument("other", false, "")
        .complete_with("n", |prefix, chosen| {
            let count: usize = chosen["other"].parse().unwrap_or(3);
            (0..count).map(|n| format!("{prefix}{n}")).collect()
        })
        .template_messages([(Role::User, "{{n}}")]);
    let template = ResourceTemplate::new("t://{id}", "t")
        .complete("id", |_| vec!["1".into()])
        .handler(|_: &Arguments, _: &mut Call| "");
    let plain = Resource::text("r://x", "x", "");
    let builder = Catalog::builder().prompt(prompt).template(template).resource(plain);
    let snapshot = builder.build().expect("catalog").into_handle().snapshot();
    let prompt_ref = json!({"type": "ref/prompt", "name": "p"});
    let argument = json!({"name": "n", "value": "v"});
    let ask = |reference: &Value, argument: &Value, context: Option<&Value>| {
        snapshot.complete(reference, argument, context)
    };
    let three = ask(&prompt_ref, &argument, None).expect("completion");
    assert_eq!(three.values, ["v0", "v1", "v2"]);
    assert_eq!((three.total, three.has_more), (Some(3), false));
    for (count, shown) in [(100, 100), (101, 100)] {
        let context = json!({"arguments": {"other": count.to_string()}});
        let many = ask(&prompt_ref, &argument, Some(&context)).expect("completion");
        assert_eq!((many.values.len(), many.has_more), (shown, shown < count));
    }
    let unknown_argument = json!({"name": "nope", "value": ""});
    assert!(ask(&prompt_ref, &unknown_argument, None).expect("completion").values.is_empty());
    for uri in ["t://{id}", "t://5"] {
        let reference = json!({"type": "ref/resource", "uri": uri});
        let id = json!({"name": "id", "value": ""});
        assert_eq!(ask(&reference, &id, None).expect("completion").values, ["1"]);
    }
    let plain = json!({"type": "ref/resource", "uri": "r://x"});
    assert!(ask(&plain, &argument, None).expect("completion").values.is_empty());
    for reference in [
        json!({"type": "ref/prompt", "name": "nope"}),
        json!({"type": "ref/resource", "uri": "nope://"}),
        json!({"type": "ref/tool", "name": "p"}),
        json!({}),
        json!(5),
    ] {
        let refused = ask(&reference, &argument, None).expect_err("unknown reference");
        assert_eq!(refused.code, codes::INVALID_PARAMS);
    }
    for argument in [json!({}), json!({"name": "n"}), json!({"name": 1, "value": ""})] {
        let refused = ask(&prompt_ref, &argument, None).expect_err("bad argument");
        assert_eq!(refused.code, codes::INVALID_PARAMS);
    }
}
