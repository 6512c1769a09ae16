//! Digest b.7 and the rows of b.8 that the modern gate decides.

use super::{ENVELOPE, envelope, read, request};
use crate::jsonrpc::Message;
use crate::mcp::{HeaderField, ModernHeaders, Refusal, check_modern};

const VERSION: HeaderField<'static> = HeaderField::One(b"2026-07-28");

fn one(value: &str) -> HeaderField<'_> {
    match value {
        "-" => HeaderField::Absent,
        _ => HeaderField::One(value.as_bytes()),
    }
}

#[track_caller]
fn gate(input: &str, headers: Option<&ModernHeaders<'_>>) -> Result<(), Refusal> {
    let (message, params) = read(input);
    let Message::Request { method, .. } = &message else { panic!("no request: {input}") };
    check_modern(method, params.as_ref().expect("a request has params"), headers)
}

/// Checks a request under these version, method and name headers.
#[track_caller]
fn check(input: &str, headers: [HeaderField<'_>; 3], expect: Result<(), (u16, i32)>) {
    let [protocol_version, method, name] = headers;
    let headers = ModernHeaders { protocol_version, method, name };
    let answer = gate(input, Some(&headers));
    let coded = answer.clone().map_err(|refusal| (refusal.status, refusal.error.code));
    assert_eq!(coded, expect, "{headers:?} {input}: {answer:?}");
}

const MISMATCH: Result<(), (u16, i32)> = Err((400, -32020));
const NONE: HeaderField<'static> = HeaderField::Absent;

#[test]
fn the_envelope_is_asked_for_first() {
    for meta in [
        "",
        r#""_meta":5"#,
        r#""_meta":{}"#,
        &envelope(r#""2026-07-28""#, ""),
        &envelope("", "{}"),
        &envelope("20260728", "{}"),
        &envelope("null", "{}"),
        &envelope(r#""2026-07-28""#, "[]"),
        &envelope(r#""2026-07-28""#, "null"),
        &envelope(r#""2026-07-28""#, r#"{"sampling":true}"#),
    ] {
        let input = request("no/such", meta);
        check(&input, [VERSION, one("no/such"), NONE], Err((400, -32602)));
        check(&input, [NONE; 3], Err((400, -32602)));
        let code = gate(&input, None).map_err(|refusal| refusal.error.code);
        assert_eq!(code, Err(-32602), "{input}");
    }
    let level = ENVELOPE.replace("{}", r#"{},"io.modelcontextprotocol/logLevel":"loud""#);
    check(&request("tools/list", &level), [NONE; 3], Err((400, -32602)));
}

#[test]
fn headers_must_say_what_the_body_says() {
    let input = request("tools/list", ENVELOPE);
    let method = one("tools/list");
    check(&input, [VERSION, method, NONE], Ok(()));
    check(&input, [one(" 2026-07-28\t"), one("\ttools/list "), NONE], Ok(()));
    check(&input, [NONE, method, NONE], MISMATCH);
    check(&input, [VERSION, NONE, NONE], MISMATCH);
    check(&input, [HeaderField::Many, method, NONE], MISMATCH);
    check(&input, [VERSION, HeaderField::Many, NONE], MISMATCH);
    check(&input, [one("2025-11-25"), method, NONE], MISMATCH);
    check(&input, [VERSION, one("Tools/List"), NONE], MISMATCH);
    check(&input, [VERSION, one("tools/list\u{1}"), NONE], MISMATCH);
    check(&input, [VERSION, one("tools/liſt"), NONE], MISMATCH);
    check(&input, [VERSION, one("=?base64?dG9vbHMvbGlzdA==?="), NONE], MISMATCH);
}

#[test]
fn the_combinations_the_conformance_suite_tries() {
    let method = one("tools/list");
    let unknown = envelope(r#""v999.0.0""#, "{}");
    check(&request("tools/list", &unknown), [VERSION, method, NONE], MISMATCH);
    check(&request("tools/list", &unknown), [one("v999.0.0"), method, NONE], Err((400, -32022)));
    check(&request("tools/list", "-"), [VERSION, method, NONE], Err((400, -32602)));
    check(&request("tools/list", ENVELOPE), [NONE, method, NONE], MISMATCH);
}

#[test]
fn the_name_header_mirrors_what_is_called() {
    for (method, member) in [
        ("tools/call", "name"),
        ("prompts/get", "name"),
        ("resources/read", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/update", "taskId"),
        ("tasks/cancel", "taskId"),
    ] {
        let input = request(method, &format!(r#""{member}":"crane-7",{ENVELOPE}"#));
        check(&input, [VERSION, one(method), one("crane-7")], Ok(()));
        check(&input, [VERSION, one(method), one("=?base64?Y3JhbmUtNw==?=")], Ok(()));
        check(&input, [VERSION, one(method), one("Crane-7")], MISMATCH);
        check(&input, [VERSION, one(method), NONE], MISMATCH);
        check(&input, [VERSION, one(method), HeaderField::Many], MISMATCH);
        check(&input, [VERSION, one(method), one("=?base64?Y3JhbmUtNw?=")], MISMATCH);
        // Without a value to compare with, params will be refused later.
        check(&request(method, ENVELOPE), [VERSION, one(method), NONE], Ok(()));
        let wrong = request(method, &format!(r#""{member}":5,{ENVELOPE}"#));
        check(&wrong, [VERSION, one(method), one("crane-7")], Ok(()));
    }
    // Other methods have no name.
    let input = request("tools/list", &format!(r#""name":"a",{ENVELOPE}"#));
    check(&input, [VERSION, one("tools/list"), one("b")], Ok(()));
}

#[test]
fn a_version_that_is_not_served_is_named_with_those_that_are() {
    for (requested, supported) in [
        ("2031-01-01", vec!["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]),
        ("2025-11-25", vec!["2026-07-28"]),
        ("2024-11-05", vec!["2026-07-28"]),
    ] {
        let input = request("tools/list", &envelope(&format!(r#""{requested}""#), "{}"));
        let refusal = gate(&input, None).expect_err("not served");
        assert_eq!((refusal.status, refusal.error.code), (400, -32022));
        let data = serde_json::json!({ "supported": supported, "requested": requested });
        assert_eq!(refusal.error.data, Some(data));
    }
}

#[test]
fn methods_the_modern_era_has_not_are_not_found() {
    for method in
        ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/list", "no/such"]
    {
        let input = request(method, ENVELOPE);
        check(&input, [VERSION, one(method), NONE], Err((404, -32601)));
        // Headers come first.
        check(&input, [VERSION, NONE, NONE], MISMATCH);
    }
    for method in ["server/discover", "subscriptions/listen", "completion/complete", "prompts/list"]
    {
        check(&request(method, ENVELOPE), [VERSION, one(method), NONE], Ok(()));
    }
}
