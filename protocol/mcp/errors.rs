//! Every error a peer can be told, in one place (digest a.3, a.4): the code follows from the name.

use serde_json::{Map, Value, json};

use super::{RpcError, Version, codes};

/// A request that is refused before a handler sees it: the HTTP status and the JSON-RPC error.
/// Pipes look at the error only.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub error: RpcError,
}

impl Refusal {
    /// A refusal with this status.
    pub fn new(status: u16, error: RpcError) -> Self {
        Self { status, error }
    }

    /// 400.
    pub fn bad_request(error: RpcError) -> Self {
        Self::new(400, error)
    }
}

/// The bytes are not JSON.
pub fn parse_error() -> RpcError {
    RpcError::new(codes::PARSE_ERROR, "Parse error")
}

/// JSON, but not a message that is valid here; `why` is one short sentence.
pub fn invalid_request(why: impl Into<std::borrow::Cow<'static, str>>) -> RpcError {
    RpcError::new(codes::INVALID_REQUEST, why)
}

/// Unknown or unoffered method.
pub fn method_not_found(method: &str) -> RpcError {
    RpcError::new(codes::METHOD_NOT_FOUND, format!("Method not found: {}", shown(method)))
}

/// Malformed params; `why` names the key.
pub fn invalid_params(why: impl Into<std::borrow::Cow<'static, str>>) -> RpcError {
    RpcError::new(codes::INVALID_PARAMS, why)
}

/// A fault of ours; what it was is for our log.
pub fn internal_error() -> RpcError {
    RpcError::new(codes::INTERNAL_ERROR, "Internal error")
}

/// No such tool.
pub fn unknown_tool(name: &str) -> RpcError {
    invalid_params(format!("Unknown tool: {}", shown(name)))
}

/// No such prompt.
pub fn unknown_prompt(name: &str) -> RpcError {
    invalid_params(format!("Unknown prompt: {}", shown(name)))
}

/// A prompt's required argument is missing.
pub fn missing_argument(name: &str) -> RpcError {
    invalid_params(format!("Missing required argument: {}", shown(name)))
}

/// No such resource: the modern era folded the code into invalid params.
pub fn resource_not_found(version: Version, uri: &str) -> RpcError {
    let code = if version.is_modern() { codes::INVALID_PARAMS } else { codes::RESOURCE_NOT_FOUND };
    RpcError::new(code, "Resource not found").with_data(json!({ "uri": uri }))
}

/// No such task, or one that has expired, or another's.
pub fn unknown_task() -> RpcError {
    invalid_params("Unknown task")
}

/// A cursor that is not ours, or of another list.
pub fn invalid_cursor() -> RpcError {
    invalid_params("Invalid cursor")
}

/// A request state that is forged, expired, or of another request: one answer for all.
pub fn invalid_state() -> RpcError {
    invalid_params("Invalid or expired requestState")
}

/// Not one of the eight log levels.
pub fn invalid_level(level: &str) -> RpcError {
    invalid_params(format!("Invalid log level: {}", shown(level)))
}

/// Modern: the version named is not served. Who names a legacy one in a modern envelope learns the
/// modern ones (it cannot have the other without `initialize`); anybody else learns all.
pub fn unsupported_version(requested: &str) -> RpcError {
    let legacy = Version::parse(requested).is_some_and(|version| !version.is_modern());
    let served = Version::ALL.into_iter().filter(|version| !legacy || version.is_modern());
    let supported: Vec<Value> = served.map(|version| version.as_str().into()).collect();
    RpcError::new(codes::UNSUPPORTED_VERSION, "Unsupported protocol version")
        .with_data(json!({ "supported": supported, "requested": shown(requested) }))
}

/// Modern: client capabilities a request should have declared, as dotted paths (`sampling`,
/// `elicitation.url`) or extension ids (with a slash).
pub fn missing_capability(needed: &[&str]) -> RpcError {
    let mut required = Map::new();
    for path in needed {
        // Extension ids have dots of their own, but always a slash.
        let steps: Vec<&str> = match path.contains('/') {
            true => vec!["extensions", path],
            false => path.split('.').collect(),
        };
        let mut at = &mut required;
        for step in steps {
            let inner = at.entry(step).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { break };
            at = inner;
        }
    }
    let message = format!("Client must declare {}", needed.join(", "));
    RpcError::new(codes::MISSING_CAPABILITY, message)
        .with_data(json!({ "requiredCapabilities": required }))
}

/// Modern: a header is missing, malformed, or says something else than the body.
pub fn header_mismatch(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(codes::HEADER_MISMATCH, format!("Header mismatch: {why}"))
}

/// Legacy: no such session, or no longer, or another's (HTTP 404).
pub fn session_not_found() -> RpcError {
    invalid_request("Session not found")
}

/// Legacy: a request other than `initialize` without a session id (HTTP 400).
pub fn session_required() -> RpcError {
    invalid_request("Mcp-Session-Id header required")
}

/// Legacy: a second `initialize` in one session (HTTP 400).
pub fn already_initialized() -> RpcError {
    invalid_request("Already initialized")
}

/// What a client sent, short enough to send back.
pub(super) fn shown(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 256;
    let mut end = SHOWN_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
