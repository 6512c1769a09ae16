use super::ENVELOPE;
use crate::jsonrpc::{Id, Raw};
use crate::mcp::params::fuzz_params;
use crate::mcp::{ClientCapabilities, Key, LogLevel, Params, parse_capabilities, parse_params};

#[track_caller]
fn read(text: &str) -> Params<'_> {
    parse_params(Raw::parse(text)).unwrap_or_else(|err| panic!("{text}: {err:?}"))
}

#[test]
fn every_key_is_found() {
    let params = read(
        r#"{"name":"n","uri":"u","arguments":{"a":1},"cursor":"c","inputResponses":{},
        "requestState":"s","taskId":"t","level":"info","requestId":7.0,"reason":"why",
        "ref":{"type":"x"},"argument":{},"context":{},"notifications":{},
        "protocolVersion":"v","capabilities":{},"clientInfo":{},"other":[]}"#,
    );
    assert_eq!(params.name.as_deref(), Some("n"));
    assert_eq!(params.uri.as_deref(), Some("u"));
    assert_eq!(params.arguments.map(Raw::get), Some(r#"{"a":1}"#));
    assert_eq!(params.cursor.as_deref(), Some("c"));
    assert_eq!(params.input_responses.map(Raw::get), Some("{}"));
    assert_eq!(params.request_state.as_deref(), Some("s"));
    assert_eq!(params.task_id.as_deref(), Some("t"));
    assert_eq!(params.level.as_deref(), Some("info"));
    assert_eq!(params.request_id.map(Id::raw), Some("7.0"));
    assert_eq!(params.reason.as_deref(), Some("why"));
    assert_eq!(params.reference.map(Raw::get), Some(r#"{"type":"x"}"#));
    assert!(params.argument.is_some() && params.context.is_some());
    assert!(params.notifications.is_some() && params.capabilities.is_some());
    assert_eq!(params.protocol_version.as_deref(), Some("v"));
    assert!(params.client_info.is_some());
    assert_eq!(parse_params(None), Ok(Params::default()));
}

#[test]
fn a_wrong_type_is_told_to_who_asks_and_to_nobody_else() {
    let strings = ["name", "uri", "cursor", "requestState", "taskId", "level", "reason"];
    let objects = ["arguments", "inputResponses", "ref", "argument", "context", "notifications"];
    let keys = [
        Key::Name,
        Key::Uri,
        Key::Cursor,
        Key::RequestState,
        Key::TaskId,
        Key::Level,
        Key::Reason,
        Key::Arguments,
        Key::InputResponses,
        Key::Ref,
        Key::Argument,
        Key::Context,
        Key::Notifications,
    ];
    for (index, name) in strings.into_iter().chain(objects).enumerate() {
        let shape = if index < strings.len() { "a string" } else { "an object" };
        for wrong in ["5", "null", "[]", if shape == "a string" { "{}" } else { "\"x\"" }] {
            // A retry may say that it has no state.
            let may_be_null = matches!(name, "requestState" | "inputResponses");
            let told = !(may_be_null && wrong == "null");
            let text = format!(r#"{{"{name}":{wrong}}}"#);
            let params = read(&text);
            for key in keys {
                let answer = params.check(key).map_err(|err| (err.code, err.message.into_owned()));
                let expect = match key.as_str() == name && told {
                    true => Err((-32602, format!("params.{name} must be {shape}"))),
                    false => Ok(()),
                };
                assert_eq!(answer, expect, "{text}");
            }
        }
    }
    assert!(read(r#"{"requestId":null}"#).check(Key::RequestId).is_err());
    assert!(read(r#"{"_meta":[]}"#).check(Key::Meta).is_err());
}

#[test]
fn a_missing_key_is_named() {
    let params = read("{}");
    let err = params.require(Key::TaskId, &params.task_id).expect_err("missing");
    assert_eq!((err.code, err.message.as_ref()), (-32602, "Missing params.taskId"));
    assert_eq!(params.optional(Key::Cursor, &params.cursor), Ok(None));
    let params = read(r#"{"cursor":""}"#);
    let cursor = params.optional(Key::Cursor, &params.cursor).expect("right type");
    assert_eq!(cursor.map(AsRef::as_ref), Some(""));
}

#[test]
fn a_known_key_that_stands_twice_is_refused_and_an_unknown_one_is_not() {
    for text in [
        r#"{"name":"a","name":"a"}"#,
        r#"{"name":"a","n\u0061me":"b"}"#,
        r#"{"_meta":{},"_meta":{}}"#,
        r#"{"_meta":{"progressToken":1,"progressToken":1}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"a","io.modelcontextprotocol\/protocolVersion":"b"}}"#,
    ] {
        let err = parse_params(Raw::parse(text)).expect_err(text);
        assert_eq!(err.code, -32602, "{text}");
    }
    read(r#"{"x":1,"x":2,"_meta":{"y":1,"y":2}}"#);
}

#[test]
fn ordinary_strings_are_borrowed_and_escaped_ones_unescaped() {
    use std::borrow::Cow;
    assert!(matches!(read(r#"{"name":"add"}"#).name, Some(Cow::Borrowed("add"))));
    assert_eq!(read(r#"{"name":"a\u00e9\/\ud83d\ude00"}"#).name.as_deref(), Some("aé/😀"));
}

#[test]
fn meta_is_read_key_by_key() {
    let text = format!(
        "{{{}}}",
        ENVELOPE.replace(
            "{}",
            r#"{"sampling":{}},"io.modelcontextprotocol/logLevel":"error",
            "io.modelcontextprotocol/clientInfo":{"name":"c"},"progressToken":"p\n",
            "traceparent":"00-1","tracestate":"a=b","baggage":"c=d","com.example/x":1"#
        )
    );
    let meta = read(&text).meta;
    assert_eq!(meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(meta.log_level, Some(Ok(LogLevel::Error)));
    assert_eq!(meta.client_info.map(Raw::get), Some(r#"{"name":"c"}"#));
    assert_eq!(meta.progress_token, Some(r#""p\n""#));
    assert_eq!(meta.traceparent.as_deref(), Some("00-1"));
    assert_eq!(meta.tracestate.as_deref(), Some("a=b"));
    assert_eq!(meta.baggage.as_deref(), Some("c=d"));
    let (version, capabilities) = meta.check_envelope().expect("whole");
    assert_eq!(version, "2026-07-28");
    assert_eq!(*capabilities, ClientCapabilities { sampling: true, ..Default::default() });
}

#[test]
fn a_progress_token_is_a_string_or_an_integer() {
    for (token, expect) in
        [("7", Some("7")), ("\"7\"", Some("\"7\"")), ("1.5", None), ("null", None), ("{}", None)]
    {
        let text = format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#);
        assert_eq!(read(&text).meta.progress_token, expect, "{token}");
    }
}

#[test]
fn an_envelope_says_which_key_it_lacks() {
    for (meta, expect) in [
        ("{}", "Missing _meta io.modelcontextprotocol/protocolVersion"),
        (
            r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#,
            "Missing _meta io.modelcontextprotocol/clientCapabilities",
        ),
        (
            r#"{"io.modelcontextprotocol/protocolVersion":1}"#,
            "_meta io.modelcontextprotocol/protocolVersion must be a string",
        ),
    ] {
        let text = format!(r#"{{"_meta":{meta}}}"#);
        let err = read(&text).meta.check_envelope().map(|_| ()).expect_err("incomplete");
        assert_eq!((err.code, err.message.as_ref()), (-32602, expect));
    }
}

/// Checks which capabilities are read: their first letters, capital for a sub-feature.
#[track_caller]
fn capabilities(text: &str, expect: Option<&str>) {
    let raw = Raw::parse(text).expect("JSON");
    let shown = parse_capabilities(raw).ok().map(|client| {
        let flags = [
            (client.roots, "roots"),
            (client.sampling, "sampling"),
            (client.sampling_tools, "+tools"),
            (client.sampling_context, "+context"),
            (client.elicitation_form, "form"),
            (client.elicitation_url, "url"),
            (client.tasks, "tasks"),
        ];
        let named: Vec<&str> =
            flags.into_iter().filter(|(flag, _)| *flag).map(|(_, name)| name).collect();
        named.join(" ")
    });
    assert_eq!(shown.as_deref(), expect, "{text}");
}

#[test]
fn capabilities_are_what_the_client_declared_and_no_more() {
    capabilities("{}", Some(""));
    capabilities(r#"{"roots":{"listChanged":true}}"#, Some("roots"));
    capabilities(r#"{"sampling":{}}"#, Some("sampling"));
    capabilities(r#"{"sampling":{"tools":{},"context":{}}}"#, Some("sampling +tools +context"));
    capabilities(r#"{"elicitation":{}}"#, Some("form"));
    capabilities(r#"{"elicitation":{"form":{}}}"#, Some("form"));
    capabilities(r#"{"elicitation":{"url":{}}}"#, Some("url"));
    capabilities(r#"{"elicitation":{"url":{},"form":{}}}"#, Some("form url"));
    capabilities(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, Some("tasks"));
    capabilities(r#"{"extensions":{"com.example/tasks":{}},"tasks":{}}"#, Some(""));
    capabilities(r#"{"experimental":5,"unknown":[],"roots":null}"#, Some(""));
    for wrong in ["[]", "null", r#"{"roots":true}"#, r#"{"sampling":1}"#, r#"{"elicitation":[]}"#] {
        capabilities(wrong, None);
    }
}

/// Every seed of the fuzz target, and what a few wild bytes make of it.
#[test]
fn wild_messages_are_read_without_harm() {
    let mut seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0xACu64);
    println!("SEED={seed}");
    let seeds: [&[u8]; 4] = [
        include_bytes!("../../fuzz/corpus/mcp_params/call"),
        include_bytes!("../../fuzz/corpus/mcp_params/initialize"),
        include_bytes!("../../fuzz/corpus/mcp_params/cancel"),
        include_bytes!("../../fuzz/corpus/mcp_params/batch"),
    ];
    for valid in seeds {
        fuzz_params(valid);
        for _ in 0..5_000 {
            let mut bytes = valid.to_vec();
            for _ in 0..3 {
                // Knuth's MMIX generator; its high bits are the good ones.
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = b"{}[]:,\"\\01e.-tn "[(seed >> 59) as usize % 16];
            }
            fuzz_params(&bytes);
        }
    }
}
