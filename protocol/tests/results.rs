//! Everything we write, for every revision, is valid by the schema that revision published.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use erlmcp_protocol::jsonrpc::{write_error, write_notification, write_request, write_result};
use erlmcp_protocol::mcp::*;
use serde_json::{Value, json};

const INFO: &[u8] = br#"{"name":"crane-mcp","version":"0.3.0"}"#;

static SCHEMAS: LazyLock<HashMap<Version, Value>> = LazyLock::new(|| {
    let texts = [
        (Version::V2024_11_05, include_str!("schema/2024-11-05.json")),
        (Version::V2025_03_26, include_str!("schema/2025-03-26.json")),
        (Version::V2025_06_18, include_str!("schema/2025-06-18.json")),
        (Version::V2025_11_25, include_str!("schema/2025-11-25.json")),
        (Version::V2026_07_28, include_str!("schema/2026-07-28.json")),
    ];
    let read = |(version, text)| (version, serde_json::from_str(text).expect("a schema is JSON"));
    texts.into_iter().map(read).collect()
});

type Validators = HashMap<(Version, String), Arc<jsonschema::Validator>>;

/// The validator of what this revision calls `kind`; each is compiled once.
#[track_caller]
fn validator(version: Version, kind: &str) -> Arc<jsonschema::Validator> {
    static COMPILED: LazyLock<Mutex<Validators>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = || {
        let mut schema = SCHEMAS[&version].clone();
        let place = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
        assert!(schema[place].get(kind).is_some(), "{} has no {kind}", version.as_str());
        schema["$ref"] = format!("#/{place}/{kind}").into();
        Arc::new(jsonschema::validator_for(&schema).expect("a published schema compiles"))
    };
    compiled.entry((version, kind.to_owned())).or_insert_with(compile).clone()
}

/// Whether `value` is what this revision calls `kind`.
#[track_caller]
fn check_valid(version: Version, kind: &str, value: &Value) {
    let validator = validator(version, kind);
    let errors: Vec<String> = validator.iter_errors(value).map(|err| err.to_string()).collect();
    assert!(errors.is_empty(), "{} {kind}: {errors:?} in {value}", version.as_str());
}

#[test]
fn the_schemas_refuse_what_is_not_theirs() {
    for version in Version::ALL {
        for bad in [json!({}), json!({"content": [{"type": "video"}], "resultType": "complete"})] {
            assert!(!validator(version, "CallToolResult").is_valid(&bad), "{}", version.as_str());
        }
    }
    let legacy = json!({"content": []});
    assert!(!validator(Version::V2026_07_28, "CallToolResult").is_valid(&legacy));
}

/// Writes, reads back, and checks the hygiene of digest a.6: one line, no `null`.
#[track_caller]
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
    let mut out = Vec::new();
    write(&mut out);
    assert!(!out.iter().any(|byte| *byte < 0x20), "one line");
    let value: Value = serde_json::from_slice(&out).unwrap_or_else(|err| {
        panic!("{err}: {}", String::from_utf8_lossy(&out));
    });
    assert!(!value.to_string().contains(":null"), "{value}");
    value
}

fn all_content() -> Vec<Content> {
    let text = |text: &str| Content::Text(text.to_owned());
    vec![
        text("plain"),
        text("\"quoted\"\n\u{1} ü 😀"),
        Content::Image { data: "AAAA".to_owned(), mime_type: "image/png".to_owned() },
        Content::Audio { data: "AAAA".to_owned(), mime_type: "audio/wav".to_owned() },
        Content::Resource(text_resource()),
        Content::Resource(blob_resource()),
        Content::ResourceLink {
            uri: "crane://7/state".to_owned(),
            name: "state".to_owned(),
            mime_type: Some("text/plain".to_owned()),
            description: Some("of crane 7".to_owned()),
        },
        Content::ResourceLink {
            uri: "crane://8".to_owned(),
            name: "crane".to_owned(),
            mime_type: None,
            description: None,
        },
    ]
}

fn text_resource() -> ResourceContents {
    ResourceContents {
        uri: "test://a".to_owned(),
        mime_type: Some("text/plain".to_owned()),
        body: ResourceBody::Text("a\tb".to_owned()),
    }
}

fn blob_resource() -> ResourceContents {
    let body = ResourceBody::Blob("AAAA".to_owned());
    ResourceContents { uri: "test://b".to_owned(), mime_type: None, body }
}

/// Modern results say what they are and who speaks; legacy ones know no such members.
#[track_caller]
fn check_era_members(version: Version, value: &Value, result_type: &str) {
    let modern = version.is_modern();
    assert_eq!(value.get("resultType"), modern.then(|| json!(result_type)).as_ref());
    let info = value.pointer("/_meta/io.modelcontextprotocol~1serverInfo");
    assert_eq!(info.is_some(), modern, "{value}");
}

/// Cache hints are there for modern peers, and for them only.
#[track_caller]
fn check_hints(version: Version, value: &Value) {
    let modern = version.is_modern();
    assert_eq!(value.get("ttlMs"), modern.then(|| json!(60000)).as_ref());
    assert_eq!(value.get("cacheScope"), modern.then(|| json!("private")).as_ref());
}

#[test]
fn tool_results_are_valid_in_every_revision() {
    let structures =
        [None, Some(json!({"n": 1, "none": true})), Some(json!([1, 2])), Some(json!(5))];
    for version in Version::ALL {
        for structured in &structures {
            for is_error in [false, true] {
                for content in [all_content(), vec![]] {
                    let result = ToolResult { content, structured: structured.clone(), is_error };
                    let value = written(|out| write_tool_result(out, &result, version, Some(INFO)));
                    check_valid(version, "CallToolResult", &value);
                    check_era_members(version, &value, "complete");
                    assert_eq!(value.get("isError"), is_error.then_some(json!(true)).as_ref());
                    let known = match structured {
                        Some(Value::Object(_)) => version >= Version::V2025_06_18,
                        _ => version.is_modern(),
                    };
                    let expect = structured.as_ref().filter(|_| known && !is_error);
                    assert_eq!(value.get("structuredContent"), expect, "{}", version.as_str());
                }
            }
        }
    }
}

#[test]
fn a_plain_text_result_is_byte_for_byte_this() {
    let result = ToolResult {
        content: vec![Content::Text("2 passes done".to_owned())],
        ..Default::default()
    };
    for (version, info, expect) in [
        (
            Version::V2025_11_25,
            Some(INFO),
            r#"{"content":[{"type":"text","text":"2 passes done"}]}"#,
        ),
        (
            Version::V2026_07_28,
            None,
            r#"{"resultType":"complete","content":[{"type":"text","text":"2 passes done"}]}"#,
        ),
        (
            Version::V2026_07_28,
            Some(INFO),
            r#"{"resultType":"complete","content":[{"type":"text","text":"2 passes done"}],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"crane-mcp","version":"0.3.0"}}}"#,
        ),
    ] {
        let mut out = Vec::new();
        write_tool_result(&mut out, &result, version, info);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expect);
    }
}

#[test]
fn older_peers_are_told_in_words_what_they_cannot_be_sent() {
    let kinds = |version| {
        let result = ToolResult { content: all_content(), ..Default::default() };
        let value = written(|out| write_tool_result(out, &result, version, None));
        let blocks = value["content"].as_array().expect("a list").clone();
        let kind = |block: &Value| block["type"].as_str().expect("a type").to_owned();
        (blocks.iter().map(kind).collect::<Vec<_>>().join(" "), blocks[6].clone())
    };
    let (oldest, link) = kinds(Version::V2024_11_05);
    assert_eq!(oldest, "text text image text resource resource text text");
    assert_eq!(link, json!({"type": "text", "text": "state: crane://7/state"}));
    let (second, _) = kinds(Version::V2025_03_26);
    assert_eq!(second, "text text image audio resource resource text text");
    let full = "text text image audio resource resource resource_link resource_link";
    assert_eq!(kinds(Version::V2025_06_18).0, full);
    assert_eq!(kinds(Version::V2026_07_28).0, full);
}

#[test]
fn prompt_results_are_valid_in_every_revision() {
    for version in Version::ALL {
        for description in [None, Some("why".to_owned())] {
            let roles = [Role::User, Role::Assistant].into_iter().cycle();
            let messages = all_content().into_iter().zip(roles);
            let messages =
                messages.map(|(content, role)| PromptMessage { role, content }).collect();
            let result = PromptResult { description: description.clone(), messages };
            let value = written(|out| write_prompt_result(out, &result, version, Some(INFO)));
            check_valid(version, "GetPromptResult", &value);
            check_era_members(version, &value, "complete");
            assert_eq!(value.get("description").is_some(), description.is_some());
            assert_eq!(value["messages"][1]["role"], "assistant");
        }
        let value =
            written(|out| write_prompt_result(out, &PromptResult::default(), version, None));
        check_valid(version, "GetPromptResult", &value);
    }
}

#[test]
fn resource_contents_are_valid_in_every_revision() {
    let contents = [text_resource(), blob_resource()];
    for version in Version::ALL {
        let value = written(|out| {
            write_read_result(out, &contents, version, 60_000, CacheScope::Private, Some(INFO));
        });
        check_valid(version, "ReadResourceResult", &value);
        check_era_members(version, &value, "complete");
        check_hints(version, &value);
        assert_eq!(value["contents"][0]["text"], "a\tb");
        assert_eq!(value["contents"][1], json!({"uri": "test://b", "blob": "AAAA"}));
    }
}

#[test]
fn completions_are_cut_at_a_hundred_values() {
    for version in Version::ALL {
        for (count, has_more, more) in
            [(0, false, false), (100, false, false), (100, true, true), (101, false, true)]
        {
            let values = (0..count).map(|n| format!("v{n}")).collect();
            let completion = Completion { values, total: Some(250), has_more };
            let value = written(|out| write_completion(out, &completion, version, Some(INFO)));
            check_valid(version, "CompleteResult", &value);
            check_era_members(version, &value, "complete");
            let inner = &value["completion"];
            assert_eq!(inner["values"].as_array().map(Vec::len), Some(count.min(100)));
            assert_eq!(inner.get("hasMore"), more.then_some(json!(true)).as_ref());
            assert_eq!(inner["total"], 250);
        }
    }
}

#[test]
fn list_pages_are_valid_in_every_revision() {
    let item = |json: &'static str| json.as_bytes();
    for (key, kind, items) in [
        ("tools", "ListToolsResult", item(r#"{"name":"a","inputSchema":{"type":"object"}}"#)),
        ("prompts", "ListPromptsResult", item(r#"{"name":"a"},{"name":"b"}"#)),
        ("resources", "ListResourcesResult", item(r#"{"uri":"a://b","name":"b"}"#)),
        (
            "resourceTemplates",
            "ListResourceTemplatesResult",
            item(r#"{"uriTemplate":"a://{b}","name":"b"}"#),
        ),
    ] {
        for version in Version::ALL {
            for (items, cursor) in [(items, Some("n\"1")), (items, None), (&b""[..], None)] {
                let value = written(|out| {
                    let scope = CacheScope::Private;
                    write_list_page(out, key, items, cursor, version, 60_000, scope, Some(INFO));
                });
                check_valid(version, kind, &value);
                check_era_members(version, &value, "complete");
                check_hints(version, &value);
                assert_eq!(value.get("nextCursor"), cursor.map(|c| json!(c)).as_ref());
                assert!(value[key].is_array());
            }
        }
    }
}

fn questions() -> Vec<InputRequest> {
    let ask = |key: &str, method, params| InputRequest { key: key.to_owned(), method, params };
    let schema = json!({"type": "object", "properties": {"reason": {"type": "string"}}});
    let form = json!({"mode": "form", "message": "Why?", "requestedSchema": schema});
    let sample = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "x"}}],
        "maxTokens": 9});
    vec![
        ask("reason \"1\"", InputMethod::ElicitForm, form),
        ask("link", InputMethod::ElicitUrl, json!({"message": "Go", "url": "https://a.example/b"})),
        ask("sample", InputMethod::Sample, sample),
        ask("roots", InputMethod::Roots, Value::Null),
    ]
}

#[test]
fn rounds_of_questions_are_valid() {
    let version = Version::V2026_07_28;
    for (requests, state) in
        [(questions(), Some("sealed")), (questions(), None), (vec![], Some("sealed"))]
    {
        let value = written(|out| write_input_required(out, &requests, state, Some(INFO)));
        check_valid(version, "InputRequiredResult", &value);
        check_era_members(version, &value, "input_required");
        assert_eq!(value.get("inputRequests").is_some(), !requests.is_empty());
        assert_eq!(value.get("requestState"), state.map(|state| json!(state)).as_ref());
        if let Some(asked) = value.get("inputRequests") {
            assert_eq!(asked["reason \"1\""]["params"]["mode"], "form");
            assert_eq!(asked["link"]["params"]["mode"], "url");
            assert_eq!(asked["roots"], json!({"method": "roots/list"}));
        }
    }
}

#[test]
fn the_same_questions_are_valid_as_requests_of_a_legacy_server() {
    for version in Version::ALL.into_iter().filter(|version| !version.is_modern()) {
        for request in questions() {
            let kind = match request.method {
                InputMethod::ElicitForm if version >= Version::V2025_06_18 => "ElicitRequest",
                InputMethod::ElicitUrl if version >= Version::V2025_11_25 => "ElicitRequest",
                InputMethod::Sample => "CreateMessageRequest",
                InputMethod::Roots => "ListRootsRequest",
                _ => continue, // The revision has no such request.
            };
            let value = written(|out| {
                let mut params = Vec::new();
                write_input_params(&mut params, &request, version, Some("e-1"));
                write_request(out, "\"s-1\"", request.method.as_str(), &params);
            });
            check_valid(version, kind, &value);
            let mode = value["params"].get("mode");
            assert_eq!(
                mode.is_some(),
                kind == "ElicitRequest" && version >= Version::V2025_11_25,
                "{value}"
            );
            let with_id = request.method == InputMethod::ElicitUrl;
            assert_eq!(value["params"].get("elicitationId").is_some(), with_id);
        }
    }
}

#[test]
fn progress_and_logs_are_valid_in_every_revision() {
    for version in Version::ALL {
        for token in ["7", "\"p\\n8\""] {
            for (total, message) in [(None, None), (Some(2.0), Some("asking")), (Some(0.5), None)] {
                let value = written(|out| {
                    let mut params = Vec::new();
                    write_progress(&mut params, token, 1.0, total, message, version);
                    write_notification(out, "notifications/progress", &params);
                });
                check_valid(version, "ProgressNotification", &value);
                let known = version >= Version::V2025_03_26 && message.is_some();
                assert_eq!(value["params"].get("message").is_some(), known);
                assert_eq!(value["params"]["progress"].to_string(), "1");
            }
        }
        for level in LogLevel::ALL {
            for (logger, data) in [(None, json!("x")), (Some("survey"), json!({"a": [1]}))] {
                let value = written(|out| {
                    let mut params = Vec::new();
                    write_log(&mut params, level, logger, &data);
                    write_notification(out, "notifications/message", &params);
                });
                check_valid(version, "LoggingMessageNotification", &value);
            }
        }
    }
}

#[test]
fn a_log_may_carry_a_null() {
    let mut out = Vec::new();
    write_log(&mut out, LogLevel::Info, None, &Value::Null);
    assert_eq!(out, br#"{"level":"info","data":null}"#);
}

#[test]
fn discover_and_initialize_answer_each_era_in_its_own_words() {
    let capabilities = br#"{"tools":{"listChanged":true},"logging":{}}"#;
    for instructions in [None, Some("Harbour crane telemetry.")] {
        let value = written(|out| {
            let scope = CacheScope::Private;
            write_discover(out, capabilities, instructions, 60_000, scope, Some(INFO));
        });
        check_valid(Version::V2026_07_28, "DiscoverResult", &value);
        check_era_members(Version::V2026_07_28, &value, "complete");
        check_hints(Version::V2026_07_28, &value);
        let newest_first = Version::ALL.map(Version::as_str);
        assert_eq!(value["supportedVersions"], json!(newest_first));
        for version in Version::ALL.into_iter().filter(|version| !version.is_modern()) {
            let value = written(|out| {
                write_initialize(out, version, capabilities, INFO, instructions);
            });
            check_valid(version, "InitializeResult", &value);
            assert_eq!(value["protocolVersion"], version.as_str());
            assert_eq!(value.get("instructions").is_some(), instructions.is_some());
        }
    }
}

#[test]
fn empty_results_and_responses_are_valid_in_every_revision() {
    for version in Version::ALL {
        let value = written(|out| write_empty_result(out, version, Some(INFO)));
        check_valid(version, "EmptyResult", &value);
        check_era_members(version, &value, "complete");
        let value = written(|out| write_result(out, "\"a\"", value.to_string().as_bytes()));
        check_valid(version, "JSONRPCMessage", &value);
    }
}

#[test]
fn errors_are_valid() {
    let version = Version::V2026_07_28;
    for (kind, error) in [
        ("ParseError", errors::parse_error()),
        ("InvalidRequestError", errors::session_not_found()),
        ("MethodNotFoundError", errors::method_not_found("ping")),
        ("InvalidParamsError", errors::unknown_tool("fly")),
        ("InternalError", errors::internal_error()),
        ("HeaderMismatchError", errors::header_mismatch("Mcp-Name is missing")),
        ("UnsupportedProtocolVersionError", errors::unsupported_version("2031-01-01")),
        ("UnsupportedProtocolVersionError", errors::unsupported_version("2025-11-25")),
        (
            "MissingRequiredClientCapabilityError",
            errors::missing_capability(&["sampling.tools", TASKS_EXTENSION]),
        ),
    ] {
        for id in [None, Some("7"), Some("\"x\"")] {
            let value = written(|out| write_error(out, id, &error));
            check_valid(version, "JSONRPCErrorResponse", &value);
            // Named errors are the whole response for the modern codes, the error object for the
            // others.
            let whole = SCHEMAS[&version]["$defs"][kind]["properties"].get("jsonrpc").is_some();
            check_valid(version, kind, if whole { &value } else { &value["error"] });
            assert_eq!(value.get("id").is_some(), id.is_some());
        }
    }
}
