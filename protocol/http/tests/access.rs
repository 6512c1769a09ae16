//! Origin and Host against the allow-lists.

use super::*;
use crate::http::{Access, Denied};

fn access(origins: &[&str], hosts: &[&str]) -> Access {
    let owned = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
    match Access::new(&owned(origins), &owned(hosts)) {
        Ok(access) => access,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn check_origin(access: &Access, origin: &str, allowed: bool) {
    let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n");
    with_request(&text, |Request { head, .. }| {
        let expect = if allowed { Ok(Some(origin)) } else { Err(Denied::Origin) };
        assert_eq!(access.check(&head), expect, "{origin:?}");
    });
}

#[track_caller]
fn check_host(access: &Access, host: &str, allowed: bool) {
    with_request(
        &format!("POST / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        |Request { head, .. }| {
            let expect = if allowed { Ok(None) } else { Err(Denied::Host) };
            assert_eq!(access.check(&head), expect, "{host:?}");
        },
    );
}

#[test]
fn loopback_is_always_welcome() {
    let nothing_listed = access(&[], &[]);
    for name in ["localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "[::1]"] {
        for port in ["", ":80", ":8080", ":65535"] {
            check_host(&nothing_listed, &format!("{name}{port}"), true);
            check_origin(&nothing_listed, &format!("http://{name}{port}"), true);
            check_origin(&nothing_listed, &format!("HTTPS://{name}{port}"), true);
        }
    }
    check_host(&nothing_listed, "localhost:", true);
}

#[test]
fn lookalikes_of_loopback_are_not() {
    let nothing_listed = access(&[], &[]);
    for name in [
        "evil.example.com",
        "localhost.evil.com",
        "evil-localhost",
        "localhost.",
        "127.0.0.1.evil.com",
        "127.0.0.256",
        "127.1",
        "128.0.0.1",
        "0.0.0.0",
        "[::2]",
        "[::1",
        "::1",
        "[]",
        "127.0.0.1x",
        "0x7f.0.0.1",
        "localhost:x",
        "localhost:65536",
        "localhost:-1",
        "localhost:1:2",
        "[::1]x",
    ] {
        check_host(&nothing_listed, name, false);
        check_origin(&nothing_listed, &format!("http://{name}"), false);
    }
    for origin in [
        "null",
        "localhost",
        "http:localhost",
        "http://",
        "://localhost",
        "file://localhost",
        "http://localhost/",
        "http://localhost/x",
        "http://localhost http://evil.example.com",
        "http://user@localhost",
        "http://localhost@evil.example.com",
        "",
    ] {
        check_origin(&nothing_listed, origin, false);
    }
}

#[test]
fn listed_origins_compare_as_scheme_host_and_port() {
    let listed = access(&["https://App.example.com", "http://a.test:8080/", "app://desk"], &[]);
    check_origin(&listed, "https://app.example.com", true);
    check_origin(&listed, "https://app.example.com:443", true);
    check_origin(&listed, "HTTPS://APP.EXAMPLE.COM", true);
    check_origin(&listed, "https://app.example.com:8443", false);
    check_origin(&listed, "http://app.example.com", false);
    check_origin(&listed, "http://app.example.com:443", false);
    check_origin(&listed, "https://sub.app.example.com", false);
    check_origin(&listed, "http://a.test:8080", true);
    check_origin(&listed, "http://a.test", false);
    check_origin(&listed, "app://desk", true);
    check_origin(&listed, "app://desk:1", false);
    check_origin(&listed, "null", false);
}

#[test]
fn null_must_be_listed_even_beside_the_star() {
    check_origin(&access(&["*"], &[]), "https://anywhere.example:1", true);
    check_origin(&access(&["*"], &[]), "null", false);
    check_origin(&access(&["*"], &[]), "not an origin", false);
    check_origin(&access(&["null"], &[]), "null", true);
    check_origin(&access(&["null"], &[]), "https://anywhere.example", false);
}

#[test]
fn listed_hosts_compare_by_name_and_by_port_if_given() {
    let listed = access(&[], &["MCP.example.com", "b.test:8080", "10.0.0.5"]);
    check_host(&listed, "mcp.EXAMPLE.com", true);
    check_host(&listed, "mcp.example.com:9", true);
    check_host(&listed, "x.mcp.example.com", false);
    check_host(&listed, "b.test:8080", true);
    check_host(&listed, "b.test", false);
    check_host(&listed, "b.test:80", false);
    check_host(&listed, "10.0.0.5:8080", true);
    check_host(&access(&[], &["*"]), "anything.example:1", true);
    check_host(&access(&[], &["*"]), "", false);
}

#[test]
fn a_repeated_origin_is_refused_and_a_missing_host_is_not() {
    let open = access(&["*"], &["*"]);
    let twice = get_with("Origin: http://localhost\r\nOrigin: http://localhost\r\n");
    with_request(&twice, |Request { head, .. }| {
        assert_eq!(open.check(&head), Err(Denied::Origin));
    });
    with_request("GET / HTTP/1.0\r\n\r\n", |Request { head, .. }| {
        assert_eq!(access(&[], &[]).check(&head), Ok(None));
    });
    // What routes the request is the absolute target, so that is what is judged.
    let disguised = "GET http://evil.example.com/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";
    with_request(disguised, |Request { head, .. }| {
        assert_eq!(access(&[], &[]).check(&head), Err(Denied::Host));
    });
}

#[test]
fn bad_entries_are_named() {
    let error = |origin: &str, host: &str| {
        let list = |entry: &str| if entry.is_empty() { vec![] } else { vec![entry.to_owned()] };
        Access::new(&list(origin), &list(host)).expect_err("a bad entry")
    };
    assert!(error("example.com", "").contains("\"example.com\""));
    assert!(error("https://a/path", "").contains("https://a/path"));
    assert!(error("https://*.example.com", "").contains("scheme://host[:port]"));
    assert!(error("", "https://a").contains("https://a"));
    assert!(error("", "a:port").contains("name[:port]"));
}
