//! One session, many connections: the kernel spreads them over the shards, the session stays one.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::child::{Server, ask, connect};

const REQUESTS: usize = 200;
const AT_ONCE: usize = 50;

/// A legacy session, opened over its own connection.
struct Session<'s> {
    server: &'s Server,
    id: String,
}

impl<'s> Session<'s> {
    fn open(server: &'s Server) -> Self {
        let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"many","version":"1"}}}"#;
        let answer = ask(&server.http, &post("", body));
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("Mcp-Session-Id: "))
            .unwrap_or_else(|| panic!("no session id: {answer}"))
            .to_owned();
        let session = Self { server, id };
        let said = session.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(said.starts_with("HTTP/1.1 202 "), "{said}");
        session
    }

    /// One message over a new connection.
    fn post(&self, body: &str) -> String {
        ask(&self.server.http, &post(&format!("Mcp-Session-Id: {}\r\n", self.id), body))
    }

    /// The standalone stream, past its head.
    fn listen(&self) -> BufReader<TcpStream> {
        let mut stream = connect(&self.server.http);
        write!(
            stream,
            "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
            self.id
        )
        .unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 0 && !line.ends_with("\r\n\r\n") {}
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        stream
    }
}

fn post(fields: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
         {fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Reads `data:` lines until as many as wanted were seen.
fn read_data(stream: &mut impl BufRead, wanted: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < wanted {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended after {}", data.len());
        data.extend(line.trim_end().strip_prefix("data: ").map(str::to_owned));
    }
    data
}

#[test]
fn two_hundred_requests_of_one_session_over_as_many_connections() {
    let server = Server::start(&["--cores", "0-1", "--catalog", "demo"]);
    let session = Session::open(&server);
    for uri in ["demo://greeting", "demo://clock"] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":"{uri}","method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#
        );
        assert!(session.post(&body).contains(r#""result":{}"#));
    }
    let mut stream = session.listen();

    // Odd requests echo, even ones publish an update of a resource the session subscribed to.
    let next = AtomicUsize::new(0);
    let start = Barrier::new(AT_ONCE);
    let answered: BTreeSet<usize> = std::thread::scope(|scope| {
        let worker = || {
            start.wait();
            let mut mine = Vec::new();
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed) + 1;
                if id > REQUESTS {
                    return mine;
                }
                let (tool, arguments, text) = match id % 2 {
                    0 => (
                        "publish",
                        r#"{"uri":"demo://clock"}"#.to_owned(),
                        "demo://clock".to_owned(),
                    ),
                    _ => ("echo", format!(r#"{{"text":"call {id}"}}"#), format!("call {id}")),
                };
                let answer = session.post(&format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
                ));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                assert!(answer.contains(&format!(r#""id":{id},"#)), "{answer}");
                assert!(answer.contains(&text), "{answer}");
                mine.push(id);
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker fails")).collect()
    });
    assert_eq!(answered.len(), REQUESTS);

    let updates = read_data(&mut stream, REQUESTS / 2);
    assert!(updates.iter().all(|update| update.contains("demo://clock")), "{updates:?}");
    // Once each: the next thing on the stream is what is published now, and nothing else.
    let last = r#"{"jsonrpc":"2.0","id":"last","method":"tools/call","params":{"name":"publish","arguments":{"uri":"demo://greeting"}}}"#;
    assert!(session.post(last).contains(r#""id":"last""#));
    let next = read_data(&mut stream, 1);
    assert!(next[0].contains("demo://greeting"), "{next:?}");

    // The work was really shared: some of these connections were not on the session's shard.
    let status = server.admin("GET", "/metrics");
    let forwards: u64 = status
        .lines()
        .filter(|line| line.starts_with("erlmcp_forwards_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(forwards > 0, "no request was forwarded: {status}");

    let delete = format!(
        "DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {}\r\nConnection: close\r\n\r\n",
        session.id
    );
    assert!(ask(&server.http, &delete).starts_with("HTTP/1.1 204 "));
    // The stream ends as HTTP wants it: with its last chunk.
    let last_chunk =
        stream.lines().map(|line| line.expect("the stream ends properly")).any(|l| l == "0");
    assert!(last_chunk);
    let gone = session.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(gone.starts_with("HTTP/1.1 404 "), "{gone}");
}
