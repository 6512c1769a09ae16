//! The opening handshake (RFC 6455 §4.2): a GET becomes a WebSocket. Takes field values, not a head,
//! so that it does not care who parsed them. The 101 itself is [`crate::http::write_upgrade`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The subprotocol MCP clients offer.
pub const SUBPROTOCOL: &str = "mcp";
/// The only `Sec-WebSocket-Version` there is.
pub const VERSION: &str = "13";

/// RFC 6455 §1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// 28 characters of Base64.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::ops::Deref for AcceptKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

/// Why an upgrade was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The method is not GET.
    NotGet,
    /// The request is not HTTP/1.1.
    NotHttp11,
    /// `Connection: upgrade` or `Upgrade: websocket` is missing: a plain request.
    NoUpgrade,
    /// `Sec-WebSocket-Version` is missing or is not 13.
    BadVersion,
    /// `Sec-WebSocket-Key` is missing.
    NoKey,
    /// `Sec-WebSocket-Key` is not the Base64 of 16 bytes.
    BadKey,
}

impl HandshakeError {
    /// The HTTP status to refuse with: 400, 405 or 426.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotGet => 405,
            Self::NoUpgrade | Self::BadVersion => 426,
            Self::NotHttp11 | Self::NoKey | Self::BadKey => 400,
        }
    }

    /// Fields the refusal must carry, names as they go on the wire.
    pub const fn fields(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            // RFC 9110 §15.5.6.
            Self::NotGet => &[("Allow", "GET")],
            // RFC 9110 §15.5.22: a 426 MUST send Upgrade, and with it `Connection: upgrade`;
            // RFC 6455 §4.4: and the versions it understands.
            Self::NoUpgrade | Self::BadVersion => &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", VERSION),
            ],
            Self::NotHttp11 | Self::NoKey | Self::BadKey => &[],
        }
    }

    /// A stable name for counters, in snake_case.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotGet => "ws_handshake_not_get",
            Self::NotHttp11 => "ws_handshake_not_http_1_1",
            Self::NoUpgrade => "ws_handshake_no_upgrade",
            Self::BadVersion => "ws_handshake_version",
            Self::NoKey => "ws_handshake_no_key",
            Self::BadKey => "ws_handshake_bad_key",
        }
    }
}

impl std::fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotGet => "a WebSocket is opened with GET",
            Self::NotHttp11 => "a WebSocket is opened over HTTP/1.1",
            Self::NoUpgrade => "send Connection: Upgrade and Upgrade: websocket",
            Self::BadVersion => "send Sec-WebSocket-Version: 13",
            Self::NoKey => "Sec-WebSocket-Key is missing",
            Self::BadKey => "Sec-WebSocket-Key is not the Base64 of 16 bytes",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Checks an upgrade request. `connection_upgrade`: the `Connection` field lists `upgrade`. A field
/// that came more than once is to be given joined by commas, as RFC 9110 §5.3 has it.
pub fn check_handshake(
    is_get: bool,
    http_1_1: bool,
    connection_upgrade: bool,
    upgrade: Option<&str>,
    version: Option<&str>,
    key: Option<&str>,
) -> Result<AcceptKey, HandshakeError> {
    if !is_get {
        return Err(HandshakeError::NotGet);
    }
    if !http_1_1 {
        return Err(HandshakeError::NotHttp11);
    }
    // RFC 6455 §4.2.1: an Upgrade field containing "websocket", an ASCII case-insensitive value.
    let upgrade_listed = tokens(upgrade).any(|token| token.eq_ignore_ascii_case("websocket"));
    if !connection_upgrade || !upgrade_listed {
        return Err(HandshakeError::NoUpgrade);
    }
    if version.map(trim) != Some(VERSION) {
        return Err(HandshakeError::BadVersion);
    }
    accept_key(key.ok_or(HandshakeError::NoKey)?)
}

/// The answer to a `Sec-WebSocket-Key`, which must be the Base64 of 16 bytes.
pub fn accept_key(key: &str) -> Result<AcceptKey, HandshakeError> {
    let key = trim(key);
    // 16 bytes are 22 digits and two pads. The four bits the last digit has too many are not
    // looked at: the key proves nothing, so a client that leaves them set does no harm.
    let digits = key.strip_suffix("==").ok_or(HandshakeError::BadKey)?.as_bytes();
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    if digits.len() != 22 || !digits.iter().all(is_digit) {
        return Err(HandshakeError::BadKey);
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    // 20 bytes are always 28 digits, so this cannot fail; were it to, the key would be refused.
    match STANDARD.encode_slice(digest, &mut accept) {
        Ok(28) => Ok(AcceptKey(accept)),
        _ => Err(HandshakeError::BadKey),
    }
}

/// `mcp` if the client lists it in `Sec-WebSocket-Protocol`; otherwise none is selected, and the
/// connection is served all the same.
pub fn select_subprotocol(offered: Option<&str>) -> Option<&'static str> {
    tokens(offered).any(|token| token == SUBPROTOCOL).then_some(SUBPROTOCOL)
}

fn tokens(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(trim)
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}
