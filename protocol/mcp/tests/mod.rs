mod era;
mod errors;
mod gate;
mod headers;
mod methods;
mod params;

use crate::jsonrpc::{Message, parse};
use crate::mcp::{Params, parse_params};

/// A complete modern envelope, as members of params.
pub const ENVELOPE: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// An envelope that names this version and has these capabilities; an empty text leaves a key out.
pub fn envelope(version: &str, capabilities: &str) -> String {
    let mut members = Vec::new();
    for (key, value) in [("protocolVersion", version), ("clientCapabilities", capabilities)] {
        if !value.is_empty() {
            members.push(format!(r#""io.modelcontextprotocol/{key}":{value}"#));
        }
    }
    format!(r#""_meta":{{{}}}"#, members.join(","))
}

/// A request of this method, with these members of params; `-` for no params at all.
pub fn request(method: &str, params: &str) -> String {
    match params {
        "-" => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#),
        _ => format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#),
    }
}

/// The same as a notification.
pub fn notification(method: &str, params: &str) -> String {
    request(method, params).replacen(r#""id":1,"#, "", 1)
}

/// Reads a message and its params.
#[track_caller]
pub fn read(input: &str) -> (Message<'_>, Option<Params<'_>>) {
    let message = parse(input.as_bytes()).unwrap_or_else(|err| panic!("{input}: {err:?}"));
    let params = match &message {
        Message::Request { params, .. } | Message::Notification { params, .. } => {
            Some(parse_params(*params).unwrap_or_else(|err| panic!("{input}: {err:?}")))
        }
        _ => None,
    };
    (message, params)
}
