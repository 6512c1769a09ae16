//! A legacy client that uses its session over any node, and modern listeners.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::child::{HANG, META, connect};

/// A legacy session; it lives wherever its node thinks fit.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: String,
}

impl Session {
    /// Opened at this address.
    pub fn open(http: &str) -> Self {
        Self::try_open(http).expect("a session can be opened")
    }

    /// The same where it may be refused.
    pub fn try_open(http: &str) -> Result<Self, String> {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"cluster","version":"1"}}}"#;
        let answer = try_ask(http, &post("", body)).map_err(|err| err.to_string())?;
        let id = answer.lines().find_map(|line| line.strip_prefix("Mcp-Session-Id: "));
        let session = Self { id: id.ok_or_else(|| answer.clone())?.to_owned() };
        let said = session.post(http, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        match said.starts_with("HTTP/1.1 202 ") {
            true => Ok(session),
            false => Err(said),
        }
    }

    /// One message over a new connection to this address.
    pub fn post(&self, http: &str, body: &str) -> String {
        self.try_post(http, body).expect("it answers")
    }

    /// The same where nobody may answer.
    pub fn try_post(&self, http: &str, body: &str) -> io::Result<String> {
        try_ask(http, &post(&format!("Mcp-Session-Id: {}\r\n", self.id), body))
    }

    /// A call of `echo`; what came instead of the right answer.
    pub fn echo(&self, http: &str) -> Result<(), String> {
        let answer = self.try_post(http, &call("echo", r#"{"text":"over there"}"#));
        match answer {
            Ok(answer) if answer.contains(r#""text":"over there""#) => Ok(()),
            Ok(answer) => Err(answer),
            Err(err) => Err(err.to_string()),
        }
    }

    /// Subscribes to a resource.
    pub fn subscribe(&self, http: &str, uri: &str) {
        let answer = self.post(http, &request("resources/subscribe", &format!(r#""uri":"{uri}""#)));
        assert!(answer.contains(r#""result":{}"#), "{answer}");
    }

    /// Ends it.
    pub fn delete(&self, http: &str) -> String {
        let request = format!(
            "DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {}\r\nConnection: close\r\n\r\n",
            self.id
        );
        try_ask(http, &request).expect("it answers")
    }

    /// Its standalone stream, over this address.
    pub fn listen(&self, http: &str) -> Stream {
        self.try_listen(http).expect("a stream is opened")
    }

    /// The same where it may be refused.
    pub fn try_listen(&self, http: &str) -> Result<Stream, String> {
        Stream::open(
            http,
            &format!(
                "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
                self.id
            ),
        )
    }
}

/// An open stream of events.
pub struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Past its head.
    pub fn open(http: &str, request: &str) -> Result<Self, String> {
        let mut stream = connect(http);
        stream.write_all(request.as_bytes()).map_err(|err| err.to_string())?;
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while stream.read_line(&mut head).map_err(|err| err.to_string())? > 0
            && !head.ends_with("\r\n\r\n")
        {}
        match head.starts_with("HTTP/1.1 200 ") {
            true => Ok(Self(stream)),
            false => Err(head),
        }
    }

    /// `subscriptions/listen` for updates of this resource, acknowledged.
    pub fn of_updates(http: &str, uri: &str) -> Self {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"resourceSubscriptions":["{uri}"]}},{META}}}}}"#
        );
        let request = modern_post("subscriptions/listen", "", &body);
        let mut stream = Self::open(http, &request).expect("a stream is opened");
        let first = stream.next().expect("it is acknowledged");
        assert!(first["method"] == "notifications/subscriptions/acknowledged", "{first}");
        stream
    }

    /// The next line; `None` when the stream has ended, with its last chunk or its connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            // RFC 9112 §7.1: the last chunk. The connection may stay for other requests.
            Ok(_) => Some(line).filter(|line| line.trim_end() != "0"),
            // A server that died resets what it had.
            Err(err) if err.kind() == io::ErrorKind::ConnectionReset => None,
            Err(err) => panic!("the stream neither goes on nor ends: {err}"),
        }
    }

    /// The next message; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            let data = line.trim_end().strip_prefix("data: ").filter(|data| !data.is_empty());
            if let Some(data) = data {
                return Some(serde_json::from_str(data).expect("events are JSON"));
            }
        }
    }

    /// The URI of the next update.
    #[track_caller]
    pub fn next_update(&mut self) -> String {
        loop {
            let message = self.next().expect("the stream goes on");
            if message["method"] == "notifications/resources/updated" {
                return message["params"]["uri"].as_str().expect("a URI").to_owned();
            }
        }
    }

    /// What comes until it ends, as text.
    pub fn rest(&mut self) -> String {
        std::iter::from_fn(|| self.line()).collect()
    }
}

/// A legacy `tools/call`.
pub fn call(tool: &str, arguments: &str) -> String {
    request("tools/call", &format!(r#""name":"{tool}","arguments":{arguments}"#))
}

/// A legacy request.
pub fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#)
}

fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         {fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A POST of the modern era that keeps its connection.
pub fn modern_post(method: &str, fields: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: {method}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends, reads until the other side closes.
pub fn try_ask(http: &str, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// Publishes an update of a resource at this address.
pub fn publish(http: &str, uri: &str) {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"publish","arguments":{{"uri":"{uri}"}},{META}}}}}"#
    );
    let request = modern_post("tools/call", "Mcp-Name: publish\r\nConnection: close\r\n", &body);
    let answer = try_ask(http, &request).expect("it answers");
    assert!(answer.contains("Published"), "{answer}");
}
