//! What load clients say, as bytes.

use std::net::SocketAddr;

/// The id in a request's bytes: always this many digits, so that a request never changes its length.
pub const ID_DIGITS: usize = 12;
/// The smallest id of that many digits.
pub const ID_FIRST: u64 = 100_000_000_000;

const MODERN: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"erlmcp-bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A call that the load makes over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The tool of the demo catalog.
    pub tool: &'static str,
    /// Its arguments, as JSON.
    pub arguments: &'static str,
    /// The text of the result's first content block.
    pub text: &'static str,
}

/// The calls there are.
pub const CALLS: [Call; 2] = [
    Call {
        tool: "echo",
        arguments: r#"{"text":"the quick brown fox jumps over the lazy dog"}"#,
        text: "the quick brown fox jumps over the lazy dog",
    },
    Call { tool: "add", arguments: r#"{"a":17,"b":25}"#, text: "42" },
];

/// The call of a tool, if the load knows one.
pub fn call(tool: &str) -> Result<Call, String> {
    let known = CALLS.iter().find(|call| call.tool == tool);
    known.copied().ok_or_else(|| format!("the load has no call of {tool:?}; it has echo and add"))
}

/// A request with an id to be written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Head and body, or one message.
    pub bytes: Vec<u8>,
    /// Where the id's digits are.
    pub id_at: usize,
}

impl Request {
    /// Finds the id in the bytes; there is one.
    pub fn new(bytes: Vec<u8>) -> Self {
        let marker = format!("\"id\":{ID_FIRST}");
        let at = memchr::memmem::find(&bytes, marker.as_bytes()).expect("the request has an id");
        Self { bytes, id_at: at + 5 }
    }

    /// Appends the request with this id.
    pub fn write(&self, id: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let at = start + self.id_at;
        write_digits(&mut out[at..at + ID_DIGITS], id);
    }
}

/// Decimal digits, with leading zeros, of as many places as there are.
pub fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A modern `tools/call` as a JSON-RPC message.
pub fn call_message(call: &Call) -> String {
    let Call { tool, arguments, .. } = call;
    format!(
        r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments},{MODERN}}}}}"#
    )
}

/// The same as a POST, with the headers that the revision asks for.
pub fn call_post(host: SocketAddr, call: &Call) -> Request {
    let fields = format!(
        "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {}\r\n",
        call.tool
    );
    Request::new(post(host, &fields, &call_message(call)))
}

/// A POST of `subscriptions/listen`.
pub fn listen_post(host: SocketAddr) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},{MODERN}}}}}"#
    );
    let fields = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: subscriptions/listen\r\n";
    post(host, fields, &body)
}

/// A legacy `initialize`.
pub fn initialize_post(host: SocketAddr) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"erlmcp-bench","version":"1"}}}}}}"#
    );
    post(host, "", &body)
}

/// A legacy client's word that it is ready.
pub fn initialized_post(host: SocketAddr, session: &str) -> Vec<u8> {
    let fields = format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n");
    post(host, &fields, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
}

/// A legacy client's request for its stream.
pub fn stream_get(host: SocketAddr, session: &str) -> Vec<u8> {
    format!(
        "GET /mcp HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\
         MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n\r\n"
    )
    .into_bytes()
}

/// The opening handshake of a WebSocket.
pub fn upgrade_get(host: SocketAddr) -> Vec<u8> {
    format!(
        "GET /mcp/ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: mcp\r\n\r\n"
    )
    .into_bytes()
}

/// One masked text frame (RFC 6455 §5.2). The mask is zero: legal, and what it hides from is not here.
pub fn text_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match message.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            let length = u16::try_from(length).expect("load messages are short");
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(message);
    frame
}

fn post(host: SocketAddr, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_differs_between_two_requests() {
        let request = call_post("127.0.0.1:80".parse().unwrap(), &CALLS[0]);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        request.write(ID_FIRST, &mut one);
        request.write(ID_FIRST + 987_654, &mut two);
        assert_eq!(one, request.bytes);
        let text = String::from_utf8(two).unwrap();
        assert_eq!(text.replace("100000987654", "100000000000").as_bytes(), one);
    }

    #[test]
    fn messages_are_json() {
        for call in &CALLS {
            let message: serde_json::Value = serde_json::from_str(&call_message(call)).unwrap();
            assert_eq!(message["id"], ID_FIRST);
        }
    }
}
