//! What load clients say, as bytes made once and patched per call.

use serde_json::{Value, json};

use super::target::Target;
use crate::request::{ID_DIGITS, ID_FIRST, Request, write_digits};

/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// What legacy clients ask for; the server may answer with an older one.
pub const LEGACY: &str = "2025-11-25";
/// Said where no other payload is asked for.
pub const TEXT: &str = "the quick brown fox jumps over the lazy dog";
/// The resource that listeners subscribe to, and that is published: one that our demo catalog has.
pub const URI: &str = "demo://echo/update";

/// What calls are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct CallShape {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// The text of the result's first content block, if it is known.
    pub text: Option<String>,
}

impl CallShape {
    /// The `echo` of so many bytes; without a size, of the usual sentence.
    pub fn echo(payload_bytes: Option<usize>) -> Self {
        let text = match payload_bytes {
            None => TEXT.to_owned(),
            Some(bytes) => ALPHABET.chars().cycle().take(bytes).collect(),
        };
        Self { tool: "echo".to_owned(), arguments: json!({ "text": text }), text: Some(text) }
    }

    /// Tells all subscribers that a resource changed.
    pub fn publish(uri: &str) -> Self {
        let text = Some(format!("Published {uri}"));
        Self { tool: "publish".to_owned(), arguments: json!({ "uri": uri }), text }
    }
}

/// Payloads are made of this.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

/// A request of a legacy session: what comes before the session's id, and after it.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    before: Vec<u8>,
    after: Vec<u8>,
    /// Where the request's id is in `after`; a notification has none.
    id_at: Option<usize>,
}

impl SessionRequest {
    fn new(bytes: Vec<u8>) -> Self {
        let at = memchr::memmem::find(&bytes, SESSION_MARK.as_bytes());
        let at = at.expect("the request names a session");
        let (before, after) = (bytes[..at].to_vec(), bytes[at + SESSION_MARK.len()..].to_vec());
        let id_at = memchr::memmem::find(&after, format!("\"id\":{ID_FIRST}").as_bytes());
        Self { before, after, id_at: id_at.map(|at| at + 5) }
    }

    /// Appends the request of this session with this id.
    pub fn write(&self, session: &str, id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        out.extend_from_slice(session.as_bytes());
        let start = out.len();
        out.extend_from_slice(&self.after);
        if let Some(at) = self.id_at {
            write_digits(&mut out[start + at..start + at + ID_DIGITS], id);
        }
    }
}

/// Stands for a session's id while requests are made.
const SESSION_MARK: &str = "{session}";

/// Everything that is said to one server.
#[derive(Debug, Clone)]
pub struct Say {
    /// A call without a session.
    pub http_call: Request,
    /// A call in a session.
    pub session_call: SessionRequest,
    /// A call over a WebSocket.
    pub ws_call: Request,
    /// A call as a line.
    pub tcp_call: Request,
    /// Legacy handshake, first.
    pub initialize: Request,
    /// Legacy handshake, last.
    pub initialized: SessionRequest,
    /// Subscribes a session to [`URI`].
    pub subscribe: SessionRequest,
    /// Asks for a session's stream.
    pub stream: SessionRequest,
    /// Asks for a stream of changes of [`URI`].
    pub listen: Request,
    /// A WebSocket's handshake.
    pub upgrade: Vec<u8>,
    /// Clients that a server does not know as modern call without a session and say so.
    pub is_modern: bool,
    /// What is called.
    pub shape: CallShape,
    /// What listeners subscribe to.
    pub uri: String,
}

impl Say {
    /// To this server; `legacy` is the revision that legacy clients use.
    pub fn new(
        target: &Target,
        shape: CallShape,
        is_modern: bool,
        legacy: &str,
        uri: &str,
    ) -> Self {
        let post = |fields: &str, body: &str| post(target, fields, body);
        let in_session =
            format!("MCP-Protocol-Version: {legacy}\r\nMcp-Session-Id: {SESSION_MARK}\r\n");
        let modern_call = |shape: &CallShape| {
            let fields = modern_fields("tools/call", Some(&shape.tool));
            Request::new(post(&fields, &message("tools/call", call_params(shape, true))))
        };
        let legacy_call = message("tools/call", call_params(&shape, false));
        let modern_message = message("tools/call", call_params(&shape, true));
        let initialize = json!({
            "protocolVersion": legacy,
            "capabilities": {},
            "clientInfo": { "name": "erlmcp-bench", "version": "1" },
        });
        let listen = json!({
            "notifications": { "toolsListChanged": true, "resourceSubscriptions": [uri] },
            "_meta": meta(),
        });
        let get = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{in_session}\r\n",
            target.path, target.host
        );
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: mcp\r\n\r\n",
            target.ws_path, target.host
        );
        Self {
            http_call: match is_modern {
                true => modern_call(&shape),
                false => {
                    let fields = format!("MCP-Protocol-Version: {legacy}\r\n");
                    Request::new(post(&fields, &legacy_call))
                }
            },
            session_call: SessionRequest::new(post(&in_session, &legacy_call)),
            ws_call: Request::new(text_frame(modern_message.as_bytes())),
            tcp_call: Request::new(format!("{modern_message}\n").into_bytes()),
            initialize: Request::new(post("", &message("initialize", initialize))),
            initialized: SessionRequest::new(post(
                &in_session,
                r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            )),
            subscribe: SessionRequest::new(post(
                &in_session,
                &message("resources/subscribe", json!({ "uri": uri })),
            )),
            stream: SessionRequest::new(get.into_bytes()),
            listen: Request::new(post(
                &modern_fields("subscriptions/listen", None),
                &message("subscriptions/listen", listen),
            )),
            upgrade: upgrade.into_bytes(),
            is_modern,
            shape,
            uri: uri.to_owned(),
        }
    }
}

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "erlmcp-bench", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn call_params(shape: &CallShape, is_modern: bool) -> Value {
    let mut params = json!({ "name": shape.tool, "arguments": shape.arguments });
    if is_modern {
        params["_meta"] = meta();
    }
    params
}

/// The id goes before what is said, so that it is found there first whatever the payload holds.
fn message(method: &str, params: Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"method":"{method}","params":{params}}}"#)
}

fn modern_fields(method: &str, name: Option<&str>) -> String {
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    format!("MCP-Protocol-Version: {MODERN}\r\nMcp-Method: {method}\r\n{name}")
}

fn post(target: &Target, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        target.path,
        target.host,
        body.len()
    )
    .into_bytes()
}

/// One masked text frame (RFC 6455 §5.2). The mask is zero: legal, and what it hides from is not here.
fn text_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match message.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(payload: Option<usize>) -> Say {
        let target = Target::parse("http://127.0.0.1:1/mcp", None).unwrap();
        Say::new(&target, CallShape::echo(payload), true, LEGACY, URI)
    }

    /// Splits a request into its head and its body, and checks that the length fits.
    #[track_caller]
    fn body(bytes: &[u8]) -> Value {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn requests_are_whole_and_their_ids_are_patched_in() {
        let say = say(None);
        let id = ID_FIRST + 4711;
        for (request, method) in [
            (&say.http_call, "tools/call"),
            (&say.initialize, "initialize"),
            (&say.listen, "subscriptions/listen"),
        ] {
            let mut out = Vec::new();
            request.write(id, &mut out);
            let message = body(&out);
            assert_eq!(
                (message["id"].as_u64(), message["method"].as_str()),
                (Some(id), Some(method))
            );
        }
        for request in [&say.session_call, &say.subscribe] {
            let mut out = Vec::new();
            request.write("s-1", id, &mut out);
            assert_eq!(body(&out)["id"], id);
            assert!(String::from_utf8_lossy(&out).contains("\r\nMcp-Session-Id: s-1\r\n"));
        }
        let mut out = Vec::new();
        say.initialized.write("s-1", id, &mut out);
        assert_eq!(body(&out)["method"], "notifications/initialized");
    }

    #[test]
    fn payloads_have_the_size_that_was_asked_for_at_every_length_of_a_frame() {
        for bytes in [0, 1, 1000, 70_000] {
            let say = say(Some(bytes));
            assert_eq!(say.shape.text.as_ref().unwrap().len(), bytes);
            let head = match bytes {
                70_000 => 14,
                _ => 8,
            };
            let message: Value = serde_json::from_slice(&say.ws_call.bytes[head..]).unwrap();
            assert_eq!(message["params"]["arguments"]["text"].as_str().unwrap().len(), bytes);
        }
        assert_eq!(text_frame(b"hi"), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    }
}
