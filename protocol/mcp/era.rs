//! Which era a message belongs to (digest b.2). The body leads, the header is a cross-check: a
//! proxy may strip headers, and the body is the source of truth.

use super::headers::HeaderField;
use super::{Method, Params, Refusal, RpcError, Version, errors, parse_params};
use crate::jsonrpc::{Message, batch_items, parse_item};

/// The two families of revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// 2026-07-28 and later: metadata on each request, no handshake.
    Modern,
    /// 2025-11-25 and earlier: the `initialize` handshake.
    Legacy,
}

/// The era of a message that came by HTTP POST. `params` are those of the message, already read;
/// `version_header` is `MCP-Protocol-Version`.
pub fn http_era(
    message: &Message<'_>,
    params: Option<&Params<'_>>,
    version_header: &HeaderField<'_>,
) -> Result<Era, Refusal> {
    let header_version = version_header.as_version();
    let modern_header = header_version.is_some_and(Version::is_modern);
    match message {
        Message::Batch(bytes) => {
            refuse_modern_batch(bytes).map_err(Refusal::bad_request)?;
            Ok(Era::Legacy)
        }
        Message::Response { .. } if modern_header => {
            let why = "This protocol version has no requests of the server to respond to";
            Err(Refusal::bad_request(errors::invalid_request(why)))
        }
        Message::Response { .. } => Ok(Era::Legacy),
        Message::Request { method, .. } => {
            let method = Method::parse(method);
            if params.is_some_and(|params| params.meta.names_version()) {
                return Ok(if is_legacy_initialize(method, params) {
                    Era::Legacy
                } else {
                    Era::Modern
                });
            }
            if method == Method::Initialize {
                return Ok(Era::Legacy);
            }
            let legacy_header = header_version.is_some() && !modern_header;
            let foreign_header = *version_header != HeaderField::Absent && !legacy_header;
            let modern_only = matches!(method, Method::Discover | Method::Listen);
            Ok(if foreign_header || modern_only { Era::Modern } else { Era::Legacy })
        }
        Message::Notification { .. } => {
            let named = params.is_some_and(|params| params.meta.names_version());
            Ok(if named || modern_header { Era::Modern } else { Era::Legacy })
        }
    }
}

/// What to do with a message that came on a pipe (stdio, TCP lines, WebSocket).
#[derive(Debug, Clone, PartialEq)]
pub enum PipeRoute {
    /// Serve it statelessly; never consult what came before.
    Modern,
    /// `initialize`: the handshake of this pipe, also after any number of modern probes.
    Initialize,
    /// `ping` of the legacy era: answer `{}`, also before the handshake.
    Ping,
    /// A request or notification of the session the handshake opened.
    Legacy,
    /// `notifications/cancelled`: look its `requestId` up among the requests in flight, of either
    /// era.
    Cancelled,
    /// A response to a request of ours.
    Response,
    /// A batch; only a session of 2025-03-26 knows them.
    Batch,
    /// Answer with this error.
    Refuse(RpcError),
    /// Nothing is to be done, and nothing to be said.
    Ignore,
}

/// The route of a message that came on a pipe. `handshake_done`: `initialize` was answered on it.
pub fn pipe_era(
    message: &Message<'_>,
    params: Option<&Params<'_>>,
    handshake_done: bool,
) -> PipeRoute {
    match message {
        Message::Request { method, .. } => {
            let named = params.is_some_and(|params| params.meta.names_version());
            match Method::parse(method) {
                method @ Method::Initialize if !named || is_legacy_initialize(method, params) => {
                    PipeRoute::Initialize
                }
                _ if named => PipeRoute::Modern,
                Method::Ping => PipeRoute::Ping,
                Method::Discover => PipeRoute::Refuse(envelope_error(params)),
                _ if handshake_done => PipeRoute::Legacy,
                _ => PipeRoute::Refuse(envelope_error(params)),
            }
        }
        Message::Notification { method, .. } if method == "notifications/cancelled" => {
            PipeRoute::Cancelled
        }
        Message::Batch(bytes) if handshake_done => match refuse_modern_batch(bytes) {
            Ok(()) => PipeRoute::Batch,
            Err(error) => PipeRoute::Refuse(error),
        },
        Message::Batch(_) => PipeRoute::Refuse(errors::invalid_request("Batches are not served")),
        Message::Response { .. } if handshake_done => PipeRoute::Response,
        Message::Notification { .. } if handshake_done => PipeRoute::Legacy,
        Message::Response { .. } | Message::Notification { .. } => PipeRoute::Ignore,
    }
}

/// An `initialize` that has a modern key, but an incomplete envelope or one that names a legacy
/// version.
fn is_legacy_initialize(method: Method, params: Option<&Params<'_>>) -> bool {
    let Some(params) = params else { return false };
    method == Method::Initialize
        && match params.meta.check_envelope() {
            Err(_) => true,
            Ok((version, _)) => Version::parse(version).is_some_and(|version| !version.is_modern()),
        }
}

/// -32602 naming what the envelope lacks.
fn envelope_error(params: Option<&Params<'_>>) -> RpcError {
    let none = Params::default();
    let error = params.unwrap_or(&none).meta.check_envelope().err();
    error.unwrap_or_else(errors::internal_error)
}

/// A batch is of the legacy era, or it is nothing: no item may carry a modern envelope.
fn refuse_modern_batch(bytes: &[u8]) -> Result<(), RpcError> {
    for item in batch_items(bytes)? {
        let (Ok(Message::Request { params, .. }) | Ok(Message::Notification { params, .. })) =
            parse_item(item)
        else {
            continue; // What is malformed gets an error of its own later.
        };
        if parse_params(params).is_ok_and(|params| params.meta.names_version()) {
            return Err(errors::invalid_request("This protocol version has no batches"));
        }
    }
    Ok(())
}
