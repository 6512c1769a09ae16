//! The opening handshake.

use erlmcp_protocol::ws::{HandshakeError, accept_key, check_handshake, select_subprotocol};

/// RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request as a browser sends it; tests spoil one field at a time.
struct Upgrade {
    is_get: bool,
    http_1_1: bool,
    connection_upgrade: bool,
    upgrade: Option<&'static str>,
    version: Option<&'static str>,
    key: Option<&'static str>,
}

const GOOD: Upgrade = Upgrade {
    is_get: true,
    http_1_1: true,
    connection_upgrade: true,
    upgrade: Some("websocket"),
    version: Some("13"),
    key: Some(KEY),
};

#[track_caller]
fn check(request: Upgrade, expect: Result<&str, HandshakeError>) {
    let Upgrade { is_get, http_1_1, connection_upgrade, upgrade, version, key } = request;
    let got = check_handshake(is_get, http_1_1, connection_upgrade, upgrade, version, key);
    assert_eq!(got.as_ref().map(|accept| accept.as_str()), expect.as_ref().map(|text| *text));
}

#[test]
fn a_proper_upgrade_is_accepted() {
    check(GOOD, Ok(ACCEPT));
    check(Upgrade { upgrade: Some("WebSocket"), ..GOOD }, Ok(ACCEPT));
    check(Upgrade { upgrade: Some("h2c , websocket"), ..GOOD }, Ok(ACCEPT));
    check(Upgrade { version: Some(" 13 "), ..GOOD }, Ok(ACCEPT));
}

#[test]
fn each_missing_piece_is_named() {
    use HandshakeError::*;
    check(Upgrade { is_get: false, ..GOOD }, Err(NotGet));
    check(Upgrade { http_1_1: false, ..GOOD }, Err(NotHttp11));
    check(Upgrade { connection_upgrade: false, ..GOOD }, Err(NoUpgrade));
    check(Upgrade { upgrade: None, ..GOOD }, Err(NoUpgrade));
    check(Upgrade { upgrade: Some("websockets"), ..GOOD }, Err(NoUpgrade));
    for version in [None, Some(""), Some("8"), Some("13, 8"), Some("013"), Some("+13")] {
        check(Upgrade { version, ..GOOD }, Err(BadVersion));
    }
    check(Upgrade { key: None, ..GOOD }, Err(NoKey));
}

#[test]
fn a_key_is_the_base64_of_16_bytes() {
    assert_eq!(accept_key(KEY).map(|accept| accept.as_str().to_owned()), Ok(ACCEPT.to_owned()));
    for key in [
        "",
        "==",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZWQ=",
        "dGhlIHNhbXBsZSBub25jZWRk",
        "AAAAdGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25j-Q==",
        "dGhlIHNhbXBs ZSBub25jZ==",
        "dGhlIHNhbXBsZSBub25j\u{e9}==",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        assert_eq!(accept_key(key), Err(HandshakeError::BadKey), "{key:?}");
    }
    // Digits `+` and `/`; bits too many in the last digit do no harm.
    assert!(accept_key("+/+/+/+/+/+/+/+/+/+/+A==").is_ok());
    assert!(accept_key("dGhlIHNhbXBsZSBub25jZR==").is_ok());
}

#[test]
fn a_refusal_says_how_to_do_it_right() {
    use HandshakeError::*;
    for (error, status) in [
        (NotGet, 405),
        (NotHttp11, 400),
        (NoUpgrade, 426),
        (BadVersion, 426),
        (NoKey, 400),
        (BadKey, 400),
    ] {
        assert_eq!(error.status(), status, "{error:?}");
        assert!(error.reason().starts_with("ws_handshake_"), "{error:?}");
    }
    assert_eq!(NotGet.fields(), [("Allow", "GET")]);
    assert!(BadVersion.fields().contains(&("Sec-WebSocket-Version", "13")));
    assert!(NoUpgrade.fields().contains(&("Upgrade", "websocket")));
}

#[test]
fn the_subprotocol_is_selected_if_listed() {
    for offered in ["mcp", "mcp, other", "other,mcp", " other , mcp "] {
        assert_eq!(select_subprotocol(Some(offered)), Some("mcp"), "{offered:?}");
    }
    for offered in [None, Some(""), Some("MCP"), Some("mcp.version.1"), Some("other;mcp")] {
        assert_eq!(select_subprotocol(offered), None, "{offered:?}");
    }
}
