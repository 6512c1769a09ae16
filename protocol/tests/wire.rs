//! Conversations as they stand on the wire, one per kind of message of either era: what each is
//! taken for.

use erlmcp_protocol::jsonrpc::{Message, batch_items, parse, parse_item, write_error};
use erlmcp_protocol::mcp::*;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// The headers that count: version, method, name; `-` where there is none.
struct Head(&'static str, &'static str, &'static str);

fn field(value: &'static str) -> HeaderField<'static> {
    match value {
        "-" => HeaderField::Absent,
        _ => HeaderField::One(value.as_bytes()),
    }
}

/// Takes a POST the way a server does; the answer is its era, or the status and body of the
/// refusal.
fn post(head: &Head, body: &str) -> Result<Era, (u16, String)> {
    let refused = |id: Option<&str>, refusal: Refusal| {
        let mut out = Vec::new();
        write_error(&mut out, id, &refusal.error);
        (refusal.status, String::from_utf8(out).expect("UTF-8"))
    };
    let message = parse(body.as_bytes())
        .map_err(|bad| refused(bad.id.as_deref(), Refusal::bad_request(bad.error)))?;
    let (id, method, raw) = match &message {
        Message::Request { id, method, params } => (Some(id.raw()), method.as_ref(), *params),
        Message::Notification { method, params } => (None, method.as_ref(), *params),
        _ => (None, "", None),
    };
    let params = parse_params(raw).map_err(|error| refused(id, Refusal::bad_request(error)))?;
    let version = field(head.0);
    let era = http_era(&message, Some(&params), &version).map_err(|bad| refused(id, bad))?;
    if era == Era::Modern && id.is_some() {
        let (method_field, name) = (field(head.1), field(head.2));
        let headers = ModernHeaders { protocol_version: version, method: method_field, name };
        check_modern(method, &params, Some(&headers)).map_err(|bad| refused(id, bad))?;
    }
    Ok(era)
}

#[track_caller]
fn check(head: &Head, body: &str, expect: Era) {
    assert_eq!(post(head, body), Ok(expect), "{body}");
}

#[track_caller]
fn refuse(head: &Head, body: &str, status: u16, answer: &str) {
    // The order of members is nobody's promise.
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let refused = post(head, body).map_err(|(status, answer)| (status, read(&answer)));
    assert_eq!(refused, Err((status, read(answer))), "{body}");
}

fn modern(id: &str, method: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    let params = format!("{members}{comma}{META}");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
}

#[test]
fn modern_requests_pass_the_gate() {
    let head = Head("2026-07-28", "server/discover", "-");
    check(&head, &modern("\"d1\"", "server/discover", ""), Era::Modern);
    let head = Head("2026-07-28", "tools/call", "crane_load");
    let members = r#""name":"crane_load","arguments":{"berth":"Köln-7"}"#;
    check(&head, &modern("7", "tools/call", members), Era::Modern);
    let head = Head("2026-07-28", "subscriptions/listen", "-");
    let members =
        r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["crane://7"]}"#;
    check(&head, &modern("21", "subscriptions/listen", members), Era::Modern);
    let head = Head("2026-07-28", "resources/read", "crane://7/state");
    check(&head, &modern("22", "resources/read", r#""uri":"crane://7/state""#), Era::Modern);
}

#[test]
fn the_second_round_brings_answers_and_state() {
    let body = modern(
        "31",
        "tools/call",
        r#""name":"lock_crane","arguments":{"crane":7},"inputResponses":{"reason":{"action":"accept","content":{"reason":"storm"}}},"requestState":"k1.eyJzIjoxfQ.mQ3f0nX2""#,
    );
    check(&Head("2026-07-28", "tools/call", "lock_crane"), &body, Era::Modern);
    let Ok(Message::Request { params, .. }) = parse(body.as_bytes()) else { panic!("a request") };
    let params = parse_params(params).expect("params");
    assert_eq!(params.request_state.as_deref(), Some("k1.eyJzIjoxfQ.mQ3f0nX2"));
    let responses = params.input_responses.map(|raw| raw.get());
    let expect = r#"{"reason":{"action":"accept","content":{"reason":"storm"}}}"#;
    assert_eq!(responses, Some(expect));
}

#[test]
fn a_streamed_call_asks_for_progress_and_logs() {
    let body = r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"survey","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"info","progressToken":"p8"}}}"#;
    check(&Head("2026-07-28", "tools/call", "survey"), body, Era::Modern);
    let Ok(Message::Request { params, .. }) = parse(body.as_bytes()) else { panic!("a request") };
    let meta = parse_params(params).expect("params").meta;
    assert_eq!(meta.progress_token, Some("\"p8\""));
    assert_eq!(meta.log_level, Some(Ok(LogLevel::Info)));
}

#[test]
fn a_legacy_session_stays_legacy() {
    let none = Head("-", "-", "-");
    let later = Head("2025-11-25", "-", "-");
    check(
        &none,
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"old-pier","version":"1.0"}}}"#,
        Era::Legacy,
    );
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"lock_crane","arguments":{"crane":7},"_meta":{"progressToken":4}}}"#,
        r#"{"jsonrpc":"2.0","id":"s-1","result":{"action":"accept","content":{"reason":"storm"}}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#,
    ] {
        check(&later, body, Era::Legacy);
        check(&none, body, Era::Legacy);
    }
}

#[test]
fn a_batch_of_2025_03_26_falls_into_its_messages() {
    let body = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}},{"jsonrpc":"2.0","id":2,"method":"no/such"}]"#;
    check(&Head("-", "-", "-"), body, Era::Legacy);
    let items = batch_items(body.as_bytes()).expect("three items");
    let methods: Vec<String> = items
        .into_iter()
        .map(|item| match parse_item(item) {
            Ok(Message::Request { method, .. } | Message::Notification { method, .. }) => {
                method.into_owned()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(methods, ["ping", "notifications/cancelled", "no/such"]);
}

#[test]
fn refusals_say_what_was_wrong_and_to_which_request() {
    let call = Head("2026-07-28", "tools/call", "foo");
    refuse(
        &call,
        &modern("9", "tools/call", r#""name":"bar""#),
        400,
        r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32020,"message":"Header mismatch: Mcp-Name says foo, body says bar"}}"#,
    );
    refuse(
        &call,
        r#"{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"foo","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
        400,
        r#"{"jsonrpc":"2.0","id":10,"error":{"code":-32602,"message":"Missing _meta io.modelcontextprotocol/clientCapabilities"}}"#,
    );
    refuse(
        &Head("2031-01-01", "ping", "-"),
        &modern("11", "ping", "").replace("2026-07-28", "2031-01-01"),
        400,
        r#"{"jsonrpc":"2.0","id":11,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"requested":"2031-01-01","supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]}}}"#,
    );
    refuse(
        &Head("2026-07-28", "ping", "-"),
        &modern("13", "ping", ""),
        404,
        r#"{"jsonrpc":"2.0","id":13,"error":{"code":-32601,"message":"Method not found: ping"}}"#,
    );
    refuse(
        &Head("-", "-", "-"),
        "{not json",
        400,
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}"#,
    );
}

#[test]
fn a_pipe_serves_a_probe_a_listener_a_call_and_their_ends() {
    let route = |line: &str| {
        let message = parse(line.as_bytes()).expect("a message");
        let raw = match &message {
            Message::Request { params, .. } | Message::Notification { params, .. } => *params,
            _ => None,
        };
        let params = parse_params(raw).expect("params");
        let cancelled = params.request_id.map(|id| id.raw().to_owned());
        (pipe_era(&message, Some(&params), false), cancelled)
    };
    assert_eq!(route(&modern("1", "server/discover", "")), (PipeRoute::Modern, None));
    let listen =
        modern("2", "subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#);
    assert_eq!(route(&listen), (PipeRoute::Modern, None));
    assert_eq!(route(&modern("3", "tools/call", r#""name":"survey""#)), (PipeRoute::Modern, None));
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3,"reason":"user"}}"#;
    assert_eq!(route(cancel), (PipeRoute::Cancelled, Some("3".to_owned())));
    let initialize = r#"{"jsonrpc":"2.0","id":4,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    assert_eq!(route(initialize), (PipeRoute::Initialize, None));
}
