//! What a head shows of a request that is fine.

use super::*;
use crate::http::{Accepts, Field};

#[test]
fn fields_are_found_whatever_their_case_and_trimmed() {
    let lines = "aCCept: \t text/html \t\r\nORIGIN: http://a\r\ncontent-type:application/json\r\n\
        Authorization: Bearer x y\r\nmcp-protocol-version: 2025-11-25\r\nMcp-Method: tools/call\r\n\
        MCP-NAME: add\r\nMCP-Session-Id: s\r\nLast-Event-ID: 7\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp\r\n";
    with_request(&get_with(lines), |request| {
        let head = request.head;
        let found = [
            head.host,
            head.accept,
            head.origin,
            head.content_type,
            head.authorization,
            head.mcp_protocol_version,
            head.mcp_method,
            head.mcp_name,
            head.mcp_session_id,
            head.last_event_id,
            head.upgrade,
            head.ws_key,
            head.ws_version,
            head.ws_protocol,
        ]
        .map(Field::as_str);
        let sent = [
            "localhost",
            "text/html",
            "http://a",
            "application/json",
            "Bearer x y",
            "2025-11-25",
            "tools/call",
            "add",
            "s",
            "7",
            "websocket",
            "k",
            "13",
            "mcp",
        ]
        .map(Some);
        assert_eq!(found, sent);
        assert_eq!(head.field("last-event-id"), Field::One(b"7"));
        assert_eq!(head.fields().count(), 14);
    });
}

#[test]
fn a_field_is_absent_single_or_many() {
    let lines = "Mcp-Name: a\r\nX: 1\r\nmcp-name: a\r\nx: 2\r\nEmpty:\r\nMcp-Method: caf\u{e9}\r\n";
    with_request(&get_with(lines), |Request { head, .. }| {
        assert_eq!(head.mcp_name, Field::Many);
        assert_eq!(head.mcp_name.as_str(), None);
        assert_eq!(head.field("X"), Field::Many);
        assert_eq!(head.field("empty").as_str(), Some(""));
        assert!(head.field("missing").is_absent() && head.origin.is_absent());
        assert_eq!(head.mcp_method.one(), Some("caf\u{e9}".as_bytes()));
        assert_eq!(head.mcp_method.as_str(), None, "only visible ASCII is text");
        assert!(!head.mcp_method.is_absent());
    });
}

#[test]
fn fields_of_a_family_are_listed() {
    let lines = "Mcp-Param-A: 1\r\nX: y\r\nmcp-param-b:  two \r\nMcp-Para: z\r\nMCP-PARAM-: e\r\n";
    with_request(&get_with(lines), |Request { head, .. }| {
        let listed: Vec<_> = head.fields_starting_with("Mcp-Param-").collect();
        let expect: [(&str, &[u8]); 3] =
            [("Mcp-Param-A", b"1"), ("mcp-param-b", b"two"), ("MCP-PARAM-", b"e")];
        assert_eq!(listed, expect);
    });
}

#[test]
fn accept_in_several_lines_is_one_list() {
    let lines = "Accept: application/json\r\nAccept: text/event-stream;q=0\r\n";
    with_request(&get_with(lines), |Request { head, .. }| {
        assert_eq!(head.accepts(), Accepts { json: true, sse: false });
    });
    with_request(&get_with("Accept: text/*\r\n"), |Request { head, .. }| {
        assert_eq!(head.accepts(), Accepts { json: false, sse: true });
    });
}

#[track_caller]
fn check_target(target: &str, path: &str, query: Option<&str>, host: &str) {
    let text = format!("GET {target} HTTP/1.1\r\nHost: sent\r\n\r\n");
    with_request(&text, |Request { head, .. }| {
        assert_eq!((head.target, head.path, head.query), (target, path, query));
        assert_eq!(head.host.as_str(), Some(host));
    });
}

#[test]
fn targets_split_into_path_and_query() {
    check_target("/", "/", None, "sent");
    check_target("/mcp?", "/mcp", Some(""), "sent");
    check_target("/messages?sessionId=a?b", "/messages", Some("sessionId=a?b"), "sent");
    check_target("//mcp", "//mcp", None, "sent");
    check_target("/http://x", "/http://x", None, "sent");
}

#[test]
fn the_authority_of_an_absolute_target_is_the_host() {
    check_target("http://real:80/mcp?x", "/mcp", Some("x"), "real:80");
    check_target("HTTPS://real", "/", None, "real");
    check_target("http://real?x=/", "/", Some("x=/"), "real");
    check_target("http://[::1]:8080/mcp", "/mcp", None, "[::1]:8080");
}

#[track_caller]
fn check_query(query: &str, key: &str, expect: Option<&str>) {
    with_request(
        &format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n"),
        |Request { head, .. }| {
            assert_eq!(head.query_value(key).as_deref(), expect, "{key:?} of {query:?}");
        },
    );
}

#[test]
fn query_values_are_form_decoded() {
    check_query("sessionId=abc&x=1", "sessionId", Some("abc"));
    check_query("a=1&sessionId=", "sessionId", Some(""));
    check_query("sessionId", "sessionId", Some(""));
    check_query("x=a+b%20c%2b%C3%A9", "x", Some("a b c+\u{e9}"));
    check_query("%78=1", "x", Some("1"));
    check_query("x=1&x=2", "x", Some("1"));
    check_query("x=100%&y=%zz%4", "x", Some("100%"));
    check_query("x=100%&y=%zz%4", "y", Some("%zz%4"));
    check_query("x=a=b", "x", Some("a=b"));
    check_query("x=%ff", "x", None);
    check_query("X=1", "x", None);
    check_query("", "x", None);
}

#[track_caller]
fn check_connection(version: &str, lines: &str, keep_alive: bool, upgrade: bool) {
    let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
    with_request(&text, |Request { head, .. }| {
        let seen = (head.http_1_0, head.keep_alive, head.connection_upgrade);
        assert_eq!(seen, (version == "1.0", keep_alive, upgrade), "{text:?}");
    });
}

#[test]
fn connection_options_are_a_list_over_all_lines() {
    check_connection("1.1", "", true, false);
    check_connection("1.1", "Connection: close\r\n", false, false);
    check_connection("1.1", "Connection: Keep-Alive, Upgrade\r\n", true, true);
    check_connection("1.1", "Connection: upgrade\r\nConnection: x , CLOSE\r\n", false, true);
    check_connection("1.1", "Connection: closed, not-upgrade,\r\n", true, false);
    check_connection("1.0", "", false, false);
    check_connection("1.0", "Connection: keep-alive\r\n", true, false);
    check_connection("1.0", "Connection: keep-alive, close\r\n", false, false);
}

#[test]
fn http_1_0_needs_no_host() {
    with_request("GET / HTTP/1.0\r\n\r\n", |Request { head, .. }| {
        assert!(head.host.is_absent());
    });
}
